//! The `sextant` command: parses its arguments, starts logging, and runs the command.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use sextant::{doctor, keys, network_policies, runs, wiring};
use sextant_config::{Config, ConfigError};
use sextant_core::node_error::NodeError;
use sextant_kubernetes::pod;
use sextant_local::supervise;
use sextant_process::console::{self, Printed};
use sextant_process::telemetry::{self, LogFormat};
use tokio::runtime::{Builder, Runtime};

/// The exit code if the configuration can't be used.
const CONFIGURATION: u8 = 2;

/// A vantage6 node that runs every algorithm as a Kubernetes Job.
#[derive(Parser)]
#[command(version, about, long_about = None, after_help = "Examples:\n  sextant check node.yaml     check the configuration\n  sextant node node.yaml      run the node")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the node: connect to the vantage6 server and execute the runs of this organization.
    ///
    /// The node exits on SIGTERM or SIGINT. Runs under way continue, and the node resumes them at its next start.
    ///
    /// Exit codes: 0 stopped by a signal, 2 configuration wrong, 3 refused by the vantage6 server, 4 cluster not
    /// usable, 1 any other error.
    #[command(
        after_help = "Examples:\n  sextant node node.yaml\n  SEXTANT_API_KEY=… sextant node node.yaml --log-format json"
    )]
    Node {
        /// The configuration file: a regular vantage6 node's YAML file, optionally with `kubernetes:` or `local:`.
        config: PathBuf,
        /// The format of the log on standard error.
        #[arg(long, value_enum, default_value_t, env = "SEXTANT_LOG_FORMAT")]
        log_format: LogFormat,
    },
    /// Run the proxy, through which algorithms reach the server, as a separate process.
    ///
    /// Without a separate proxy, the node itself is the proxy. The proxy reads the node's configuration, but does not
    /// use the API key.
    /// It exits on SIGTERM or SIGINT, after it has finished the requests under way.
    ///
    /// Exit codes: 0 stopped by a signal, 2 configuration wrong, 1 any other error.
    #[command(after_help = "Example:\n  sextant proxy node.yaml")]
    Proxy {
        /// The configuration file. The proxy uses the server's settings, `kubernetes.proxy`, `health` and
        /// `encryption`.
        config: PathBuf,
        /// The format of the logs: the access log on standard output, all others on standard error.
        #[arg(long, value_enum, default_value_t, env = "SEXTANT_LOG_FORMAT")]
        log_format: LogFormat,
    },
    /// Check a configuration: print what it means, and all errors and warnings.
    ///
    /// Needs neither server nor cluster. Exit codes: 0 usable, 2 not usable.
    #[command(after_help = "Example:\n  sextant check node.yaml")]
    Check {
        /// The configuration file.
        config: PathBuf,
    },
    /// Test everything that a node needs: server, login, encryption, cluster, rights, data port, proxy, isolation.
    ///
    /// Prints one line for each. Does not disturb a running node. Exit codes: 0 no problem, 1 at least one problem, 2
    /// configuration wrong.
    #[command(after_help = "Examples:\n  sextant doctor node.yaml\n  sextant doctor node.yaml --isolation")]
    Doctor {
        /// The configuration file.
        config: PathBuf,
        /// Also verify the network isolation, with pods that try to connect as algorithms could; takes about ten
        /// seconds.
        #[arg(long)]
        isolation: bool,
    },
    /// List the runs that are under way or waiting, and what they wait for.
    ///
    /// Shows the cluster's view next to the server's. Changes nothing. Exit codes: 0 listed, 2 configuration wrong, 4
    /// cluster not usable.
    #[command(after_help = "Example:\n  sextant runs node.yaml")]
    Runs {
        /// The configuration file.
        config: PathBuf,
    },
    /// Print the NetworkPolicies that isolate algorithms, for a node that runs on a machine outside of the cluster.
    ///
    /// The chart creates the same policies for a node in the cluster. Exit codes: 0 printed, 2 configuration wrong, 4
    /// cluster not usable.
    #[command(after_help = "Example:\n  sextant network-policies node.yaml | kubectl apply -f -")]
    NetworkPolicies {
        /// The configuration file.
        config: PathBuf,
    },
    /// The former name of `network-policies`.
    #[command(hide = true)]
    Walls {
        /// The configuration file.
        config: PathBuf,
    },
    /// Manage an organization's keys for encrypted collaborations: create, show, compare with the server.
    #[command(subcommand)]
    Keys(keys::Command),
    /// In a run's pod: fetch input and token. The node starts this command, not a person.
    #[command(hide = true)]
    Receive,
    /// In a pod like an algorithm's: try to connect to addresses. The node starts this command, not a person.
    #[command(hide = true)]
    Probe,
    /// In a run's pod: upload the output. The node starts this command, not a person.
    #[command(hide = true)]
    Return,
    /// With the local runtime: start an algorithm and record how it ends. The node starts this command, not a person.
    #[command(hide = true)]
    Supervise {
        /// The run's folder.
        folder: PathBuf,
        /// The algorithm's command.
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
}

/// Why a command could not start.
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
        Command::NetworkPolicies { config } => print_network_policies(&config),
        Command::Walls { config } => {
            console::print_error(
                "`sextant walls` is now called `sextant network-policies`; the next release removes the old name.",
            );
            print_network_policies(&config)
        }
        Command::Keys(command) => Ok(show(keys::run(command).map(|text| text + "\n"))),
        Command::Receive => small(async { pod::conclude(pod::receive::run().await) }),
        Command::Probe => small(async { pod::conclude(pod::probe::run().await) }),
        Command::Return => small(async { pod::conclude(pod::upload::run().await) }),
        Command::Supervise { folder, command } => Ok(supervise::run(&folder, &command)),
    }
}

fn print_network_policies(config: &Path) -> Result<ExitCode, Failure> {
    let config = Config::load(config)?;
    small(async move { show(network_policies::yaml(&config).await) })
}

/// Starts logging, and logs the configuration's warnings.
fn start_logging(config: &Config, format: LogFormat) {
    telemetry::init(format, config.logging.level.tracing());
    for warning in &config.warnings {
        tracing::warn!(target: telemetry::SAFETY, "{warning}");
    }
}

fn run_node(config: &Config, format: LogFormat) -> Result<ExitCode, Failure> {
    start_logging(config, format);
    loop {
        let runtime = two_threads()?;
        let result = runtime.block_on(wiring::run(config.clone()));
        // Tasks that still wait for an external response are abandoned.
        runtime.shutdown_timeout(std::time::Duration::from_millis(500));
        match result {
            Ok(()) => return Ok(ExitCode::SUCCESS),
            // The state of this process is no longer valid. Discard it, and stand by.
            Err(NodeError::TakenOver(by)) => tracing::warn!("Restarting: {by}"),
            Err(error) => {
                tracing::error!("{error}");
                return Ok(ExitCode::from(error.exit_code()));
            }
        }
    }
}

fn run_proxy(config: &Config, format: LogFormat) -> ExitCode {
    start_logging(config, format);
    match sextant_proxy::run(config, format) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::from(error.exit_code())
        }
    }
}

/// Runs the checks. Nothing is logged, because the printed lines say everything.
fn examine(config: &Config, isolation: bool) -> Result<ExitCode, Failure> {
    let runtime = two_threads()?;
    let mut printed = Printed::Yes;
    // Continues if the reader has closed the pipe, because objects created in the cluster must be removed.
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

/// Prints a command's result, or why it failed.
fn show(text: Result<String, NodeError>) -> ExitCode {
    match text {
        Ok(text) => unless_reader_gone(console::print(&text), ExitCode::SUCCESS),
        Err(error) => {
            console::print_error(&error.to_string());
            ExitCode::from(error.exit_code())
        }
    }
}

/// Runs a small command, such as a role in a run's pod: on one thread, with a log that becomes part of the pod's log.
fn small(role: impl Future<Output = ExitCode>) -> Result<ExitCode, Failure> {
    telemetry::init(LogFormat::Text, "info");
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let code = runtime.block_on(role);
    // The shutdown waits for nothing that the role did not wait for.
    runtime.shutdown_background();
    Ok(code)
}

fn two_threads() -> Result<Runtime, Failure> {
    Ok(Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}
