//! The `sextant` command: reads its arguments, starts logging, and hands over.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use sextant::{doctor, keys, runs, walls, wiring};
use sextant_config::{Config, ConfigError};
use sextant_core::node_error::NodeError;
use sextant_kubernetes::pod;
use sextant_local::supervise;
use sextant_process::console::{self, Printed};
use sextant_process::telemetry::{self, LogFormat};
use tokio::runtime::{Builder, Runtime};

/// The configuration can't be used.
const CONFIGURATION: u8 = 2;

/// A vantage6 node that runs every algorithm as a Kubernetes Job.
#[derive(Parser)]
#[command(version, about, long_about = None, after_help = "Examples:\n  sextant check node.yaml     is the configuration right?\n  sextant node node.yaml      run the node")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the node: connect to the vantage6 server and run what it has for this organization.
    ///
    /// Ends at SIGTERM or SIGINT and leaves what is under way alone: started again, it goes on where it was.
    /// Exit codes: 0 ended by a signal, 2 configuration wrong, 3 refused by the vantage6 server, 4 cluster not usable, 1 anything else.
    #[command(
        after_help = "Examples:\n  sextant node node.yaml\n  SEXTANT_API_KEY=… sextant node node.yaml --log-format json"
    )]
    Node {
        /// The configuration: a regular vantage6 node's YAML file, with `kubernetes:` or `local:` added.
        config: PathBuf,
        /// How logs look.
        #[arg(long, value_enum, default_value_t, env = "SEXTANT_LOG_FORMAT")]
        log_format: LogFormat,
    },
    /// Run the proxy, by which algorithms reach the server, as a process of its own. (Without it, the node is the proxy.)
    ///
    /// Reads the node's configuration, but takes no API key. Ends at SIGTERM or SIGINT, when the requests under way are finished.
    /// Exit codes: 0 ended by a signal, 2 configuration wrong, 1 anything else.
    #[command(after_help = "Example:\n  sextant proxy node.yaml")]
    Proxy {
        /// The configuration: of the server, `kubernetes.proxy.listen`, `health` and `encryption`.
        config: PathBuf,
        /// How logs look: the access log on standard output, everything else on standard error.
        #[arg(long, value_enum, default_value_t, env = "SEXTANT_LOG_FORMAT")]
        log_format: LogFormat,
    },
    /// Say what a configuration means, and everything that is wrong with it. Exit codes: 0 usable, 2 not.
    #[command(after_help = "Example:\n  sextant check node.yaml")]
    Check {
        /// The configuration.
        config: PathBuf,
    },
    /// Look at all that a node needs, one line each: server, login, encryption, cluster, rights, data port, proxy, isolation.
    ///
    /// Disturbs no node that runs. Exit codes: 0 nothing is wrong, 1 something is, 2 configuration wrong.
    #[command(after_help = "Examples:\n  sextant doctor node.yaml\n  sextant doctor node.yaml --isolation")]
    Doctor {
        /// The configuration.
        config: PathBuf,
        /// Also start a pod that tries what algorithms can reach; takes about ten seconds.
        #[arg(long)]
        isolation: bool,
    },
    /// List the runs that are under way or wait, and what they wait for: from the cluster, with the server's view beside it.
    ///
    /// Changes nothing. Exit codes: 0 listed, 2 configuration wrong, 4 cluster not usable.
    #[command(after_help = "Example:\n  sextant runs node.yaml")]
    Runs {
        /// The configuration.
        config: PathBuf,
    },
    /// Print the NetworkPolicies that wall algorithms off, for a node that runs on a machine rather than in the cluster.
    ///
    /// Exit codes: 0 printed, 2 configuration wrong, 4 cluster not usable.
    #[command(after_help = "Example:\n  sextant walls node.yaml | kubectl apply -f -")]
    Walls {
        /// The configuration.
        config: PathBuf,
    },
    /// An organization's keys for encrypted collaborations: make them, show them, compare them with the server.
    #[command(subcommand)]
    Keys(keys::Command),
    /// In a run's pod: fetch input and token. Started by the node, not by people.
    #[command(hide = true)]
    Receive,
    /// In a pod that is like an algorithm's: try what it can reach. Started by the node, not by people.
    #[command(hide = true)]
    Probe,
    /// In a run's pod: bring the output back. Started by the node, not by people.
    #[command(hide = true)]
    Return,
    /// With the local runtime: start an algorithm and write down how it ends. Started by the node, not by people.
    #[command(hide = true)]
    Supervise {
        /// The run's folder.
        folder: PathBuf,
        /// The algorithm's command.
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
}

/// What keeps a command from beginning.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Configuration(#[from] ConfigError),
    #[error("The process could not be set up: {0}")]
    Process(#[from] std::io::Error),
}

fn main() -> ExitCode {
    run(Arguments::parse().command).unwrap_or_else(|failure| {
        console::print_error(&failure.to_string());
        match failure {
            Failure::Configuration(_) => ExitCode::from(CONFIGURATION),
            Failure::Process(_) => ExitCode::FAILURE,
        }
    })
}

fn run(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Node { config, log_format } => run_node(&Config::load(&config)?, log_format),
        Command::Proxy { config, log_format } => Ok(run_proxy(&Config::load_for_proxy(&config)?, log_format)),
        Command::Check { config } => {
            let report = sextant_config::check(&config);
            let code = if report.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(CONFIGURATION) };
            Ok(unless_reader_gone(console::print(&format!("{report}\n")), code))
        }
        Command::Doctor { config, isolation } => examine(&Config::load(&config)?, isolation),
        Command::Runs { config } => {
            let config = Config::load(&config)?;
            small(async move { show(runs::table_of(&config).await) })
        }
        Command::Walls { config } => {
            let config = Config::load(&config)?;
            small(async move { show(walls::yaml(&config).await) })
        }
        Command::Keys(command) => Ok(show(keys::run(command).map(|text| text + "\n"))),
        Command::Receive => small(async { pod::conclude(pod::receive::run().await) }),
        Command::Probe => small(async { pod::conclude(pod::probe::run().await) }),
        Command::Return => small(async { pod::conclude(pod::returns::run().await) }),
        Command::Supervise { folder, command } => Ok(supervise::run(&folder, &command)),
    }
}

fn run_node(config: &Config, format: LogFormat) -> Result<ExitCode, Failure> {
    telemetry::init(format, config.logging.level.tracing());
    loop {
        let runtime = two_threads()?;
        let result = runtime.block_on(wiring::run(config.clone()));
        // What still waits for an answer from outside is not waited for.
        runtime.shutdown_timeout(std::time::Duration::from_millis(500));
        match result {
            Ok(()) => return Ok(ExitCode::SUCCESS),
            // Nothing of what this process knew can be relied on any more. It forgets all, and stands by.
            Err(NodeError::TakenOver(by)) => tracing::warn!("{by}; it begins anew"),
            Err(error) => {
                tracing::error!("{error}");
                return Ok(ExitCode::from(error.exit_code()));
            }
        }
    }
}

fn run_proxy(config: &Config, format: LogFormat) -> ExitCode {
    telemetry::init(format, config.logging.level.tracing());
    match sextant_proxy::run(config, format) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::from(error.exit_code())
        }
    }
}

/// Its lines say all that there is to say, so nothing is logged.
fn examine(config: &Config, isolation: bool) -> Result<ExitCode, Failure> {
    let runtime = two_threads()?;
    let mut printed = Printed::Yes;
    // Goes on when its reader has gone: what it has made in the cluster must be taken away again.
    let well = runtime.block_on(doctor::run(config, isolation, &mut |line| {
        if printed == Printed::Yes {
            printed = console::print_row(&line.to_string());
        }
    }));
    runtime.shutdown_background();
    Ok(unless_reader_gone(printed, if well { ExitCode::SUCCESS } else { ExitCode::FAILURE }))
}

fn unless_reader_gone(printed: Printed, code: ExitCode) -> ExitCode {
    match printed {
        Printed::Yes => code,
        Printed::ReaderGone => ExitCode::from(console::READER_GONE),
    }
}

/// Prints what people asked for, or why it can't be had.
fn show(text: Result<String, NodeError>) -> ExitCode {
    match text {
        Ok(text) => unless_reader_gone(console::print(&text), ExitCode::SUCCESS),
        Err(error) => {
            console::print_error(&error.to_string());
            ExitCode::from(error.exit_code())
        }
    }
}

/// Runs something small, one of the pod's roles for example: on one thread, with logs that end up in the pod's.
fn small(role: impl Future<Output = ExitCode>) -> Result<ExitCode, Failure> {
    telemetry::init(LogFormat::Text, "info");
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let code = runtime.block_on(role);
    // Its end waits for nothing that the role itself did not wait for.
    runtime.shutdown_background();
    Ok(code)
}

fn two_threads() -> Result<Runtime, Failure> {
    Ok(Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}
