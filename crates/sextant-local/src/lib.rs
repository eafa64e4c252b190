//! The local runtime: an algorithm is a process on this machine, for a first try and for developing algorithms. It isolates nothing.
//!
//! Each run has a folder and a supervisor process (`sextant supervise`), which starts the algorithm and records how it ends. Both outlive
//! the node, so a restarted node continues where it was.

mod cleanup;
mod folder;
mod follow;
mod lock;
mod port;
mod private;
mod process;
mod runs;
mod runs_dir;
pub mod supervise;
#[cfg(test)]
mod tests;

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream::BoxStream;
use printable::excerpt;
use sextant_config::{Config, LocalAlgorithm, LocalConfig};
use sextant_core::assignment::Assignment;
use sextant_core::environment::{Locations, VisibleDatabase, environment};
use sextant_core::gate::Gate;
use sextant_core::leadership::Leadership;
use sextant_core::names::Identity;
use sextant_core::overview::Here;
use sextant_core::pod_issue::PodIssue;
use sextant_core::run_context;
use sextant_core::run_state::{Disruption, Failure, RunState};
use sextant_core::runtime::{InputSource, InputSourceError, LaunchError, LogPart, Output, Runtime, RuntimeError};
use sextant_core::tail::Tail;
use sextant_files::run_context::RUN_CONTEXT;
use sextant_files::shared_dirs;
use sextant_process::health::Health;
use sextant_process::supervisor::Supervisor;
use sextant_proxy::Embedded;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tracing::{info, warn};
use vantage6_types::{NodeId, RunId, RunStatus, TaskId};

use self::cleanup::{Cleanup, SHARED};
use self::folder::{Folder, INPUT, OUTPUT, TOKEN};
use self::private::Dir;
use self::runs::Runs;

/// The local runtime.
pub struct Local {
    node: NodeId,
    config: Config,
    settings: LocalConfig,
    root: Arc<Dir>,
    cleanup: Cleanup,
    input_source: Arc<dyn InputSource>,
    proxy: Embedded,
    runs: Runs,
    /// Always open: this runtime isolates nothing, which is logged at start.
    gate: watch::Sender<Gate>,
}

impl Local {
    /// Starts the runtime in the configuration's `task_dir` or in a folder of this user.
    ///
    /// # Errors
    /// The folder can't be created, or another user could read or replace it. The message is for the operator.
    pub fn start(
        config: &Config,
        settings: &LocalConfig,
        identity: &Identity,
        input_source: Arc<dyn InputSource>,
        health: &Health,
        supervisor: &Supervisor,
    ) -> Result<Self, String> {
        let root = Arc::new(runs_dir::create(config, identity)?);
        if let Some(earlier) = runs_dir::earlier(config, identity) {
            warn!(
                "Earlier versions kept this node's runs in {}, which still exists. To continue this user's runs in \
                 it, start with `task_dir: {}` until they have ended; otherwise remove it.",
                earlier.display(),
                earlier.parent().unwrap_or(&earlier).display()
            );
        }
        warn!(
            target: sextant_process::telemetry::SAFETY,
            "The local runtime isolates nothing: algorithms run as processes of this user, with all its rights. Use \
             it with invented data only."
        );
        info!("Runs are kept under {}", root.path().display());
        let keep = settings.keep_shared.max(settings.deadline);
        let cleanup = Cleanup::start(root.clone(), keep)
            .map_err(|error| format!("The node can't start a thread to remove what runs leave: {error}."))?;
        cleanup.request();
        let proxy = sextant_proxy::embedded(own_listener(&root)?, config, health, supervisor)?;
        info!("Algorithms use the proxy at {}", proxy.address);
        Ok(Self {
            node: identity.node,
            proxy,
            config: config.clone(),
            settings: settings.clone(),
            root,
            cleanup,
            input_source,
            runs: Runs::default(),
            gate: watch::Sender::new(Gate::Open),
        })
    }

    /// Returns a run's folder, even if its algorithm has removed it.
    fn folder(&self, run: RunId) -> Option<Folder> {
        Folder::of(&self.root, run).or_else(|| self.runs.folder(run))
    }

    /// Returns the command for an image. A task from an algorithm store names a digest, which no configured command has. The command for
    /// the same name and tag then applies.
    fn algorithm(&self, image: &str) -> Option<&LocalAlgorithm> {
        let algorithms = &self.settings.algorithms;
        let without_digest = || image.split_once('@').and_then(|(name, _)| algorithms.get(name));
        algorithms.get(image).or_else(without_digest)
    }

    fn plan(&self, assignment: &Assignment, folder: &Folder) -> Result<Plan<'_>, Failure> {
        let failure = |status, message: String| Failure::new(status, message.clone(), message);
        let algorithm = self.algorithm(&assignment.image_to_run()).ok_or_else(|| {
            failure(
                RunStatus::NotAllowed,
                format!(
                    "This node runs only the algorithms of a list, and '{}' is not on it.",
                    excerpt(&assignment.image)
                ),
            )
        })?;
        let databases: Vec<VisibleDatabase> = self
            .config
            .databases
            .iter()
            .map(|database| VisibleDatabase {
                label: database.label.clone(),
                is_file: database.is_single_file(false),
                uri: database.uri.clone(),
                kind: database.kind.as_str(),
                env: database.env.clone(),
            })
            .collect();
        let text = |path: PathBuf| path.display().to_string();
        let locations = Locations {
            input: text(folder.path_of(INPUT)),
            output: text(folder.path_of(OUTPUT)),
            token: text(folder.path_of(TOKEN)),
            temporary: text(self.root.path().join(shared_folder(assignment))),
            proxy_host: format!("http://{}", self.proxy.address.ip()),
            proxy_port: self.proxy.address.port(),
            run_context: self.config.run_context_file.then(|| text(folder.path_of(RUN_CONTEXT))),
        };
        let share = self.config.share_config;
        environment(&locations, &databases, &assignment.databases, &self.config.algorithm_env, share)
            .and_then(|environment| {
                let rest = || run_context::rest(&locations, assignment, self.node, &databases);
                let run_context = self.config.run_context_file.then(rest).transpose()?;
                Ok(Plan { algorithm, environment, run_context })
            })
            .map_err(|error| failure(error.status(), error.to_string()))
    }

    /// Removes the folder of a run that was not started. Nothing else would remove it, and it may contain an input and a token.
    fn remove_unstarted(&self, folder: &Folder) {
        if folder.run_state() != RunState::Absent {
            return;
        }
        if let Err(error) = folder.put_aside() {
            warn!(run = %folder.run, "Could not remove the folder {} of a run that was not started: {error}", folder.path().display());
        }
        self.cleanup.request();
    }

    async fn prepare(&self, assignment: &Assignment, folder: &Folder) -> Result<(), LaunchError> {
        let disk = |error: std::io::Error| {
            // Expired folders are removed before the next attempt.
            let error = shared_dirs::full_volume::explained(&folder.path(), Some(self.settings.keep_shared), error);
            LaunchError::Later(format!("the run's folder {} can't be made: {error}", folder.path().display()))
        };
        folder.make(assignment).map_err(disk)?;
        let own = shared_folder(assignment);
        shared_dirs::mark(self.root.as_fd(), &own).map_err(disk)?;
        if self.root.subfolder(&own).is_err() {
            self.root.make_subfolder(&own).map_err(disk)?;
        }
        self.cleanup.request();
        let input = self.input_source.input(assignment.run).await.map_err(of_supply)?;
        folder.write_input(input).await.map_err(|error| match error.downcast::<InputSourceError>() {
            Ok(error) => of_supply(error),
            Err(error) => disk(error),
        })?;
        let token = self.input_source.token(assignment.run).await.map_err(of_supply)?;
        folder.write_token(&token).map_err(disk)
    }
}

/// The command to start, with its environment.
struct Plan<'a> {
    algorithm: &'a LocalAlgorithm,
    environment: std::collections::BTreeMap<String, String>,
    /// What `run_context.json` says besides what is in the input.
    run_context: Option<String>,
}

#[async_trait::async_trait]
impl Runtime for Local {
    async fn list_existing(&self) -> Vec<(TaskId, RunId)> {
        for folder in Folder::all(&self.root) {
            match folder.run_state() {
                RunState::Absent => self.remove_unstarted(&folder),
                RunState::Running { .. } => self.runs.follow(folder),
                run_state => self.runs.set(folder.run, run_state),
            }
        }
        self.unreported()
    }

    fn unreported(&self) -> Vec<(TaskId, RunId)> {
        // Skips a folder that a launch is still creating: it must not be removed.
        let begun = Folder::all(&self.root).into_iter().filter(|folder| folder.run_state() != RunState::Absent);
        begun.map(|folder| (folder.task, folder.run)).collect()
    }

    fn has_stale_job(&self, assignment: &Assignment) -> bool {
        Folder::all(&self.root).iter().any(|folder| folder.run == assignment.run && !folder.is_of(assignment))
    }

    fn contains(&self, run: RunId) -> bool {
        self.runs.knows(run)
    }

    fn observe(&self, run: RunId) -> watch::Receiver<RunState> {
        self.runs.observe(run)
    }

    fn gate(&self) -> watch::Receiver<Gate> {
        self.gate.subscribe()
    }

    async fn launch(&self, assignment: &Assignment) -> Result<(), LaunchError> {
        let folder = Folder::new(&self.root, assignment.task, assignment.run);
        let plan = self.plan(assignment, &folder).map_err(LaunchError::Failed)?;
        let run_state = folder.run_state();
        if run_state != RunState::Absent && !folder.is_of(assignment) {
            return Err(LaunchError::Later(format!(
                "what is left of another run of this number is still in {}",
                folder.path().display()
            )));
        }
        if run_state == RunState::Absent {
            let prepared = match self.prepare(assignment, &folder).await {
                Ok(()) => folder
                    .describe(plan.run_context)
                    .await
                    .map_err(|error| LaunchError::Later(format!("the run's {RUN_CONTEXT} can't be written: {error}"))),
                error => error,
            };
            let started = prepared.and_then(|()| {
                process::start(&folder, plan.algorithm, &plan.environment)
                    .map_err(|error| LaunchError::Later(format!("the run's supervisor can't be started: {error}")))
            });
            started.inspect_err(|_| self.remove_unstarted(&folder))?;
        }
        self.runs.follow(folder);
        Ok(())
    }

    async fn collect(&self, run: RunId) -> Result<Output, RuntimeError> {
        let folder = Folder::of(&self.root, run).ok_or_else(|| RuntimeError("the run's folder is gone".into()))?;
        let upload = folder.upload();
        // The receiver is dropped because the folder stays until the run is released.
        let (taken, _) = oneshot::channel();
        Ok(Output { upload, taken })
    }

    async fn log(&self, run: RunId) -> Result<Tail, RuntimeError> {
        let folder = Folder::of(&self.root, run).ok_or_else(|| RuntimeError("the run's folder is gone".into()))?;
        folder.read_log().map_err(|error| RuntimeError(error.to_string()))
    }

    fn follow_log(&self, run: RunId) -> BoxStream<'static, LogPart> {
        Folder::of(&self.root, run).map_or_else(|| futures::stream::empty().boxed(), follow::log)
    }

    async fn why_pending(&self, _run: RunId, _image: &str) -> Option<PodIssue> {
        None
    }

    async fn relaunch(&self, assignment: &Assignment, _disrupted: Disruption) -> Result<(), LaunchError> {
        self.launch(assignment).await
    }

    fn record_event(&self, _run: RunId, _reason: &'static str, _text: String) {}

    fn unsubscribe(&self, run: RunId) {
        self.runs.forget(run);
    }

    async fn stop(&self, run: RunId, why: &Failure) -> Result<(), RuntimeError> {
        if let Some(folder) = self.folder(run) {
            // The next process may be the one that reports the run.
            if folder.exists()
                && let Err(error) = folder.write_stopped(why)
            {
                warn!(%run, "Could not record in {} why the run was stopped: {error}", folder.path().display());
            }
            process::stop(&folder).await;
        }
        Ok(())
    }

    async fn release(&self, run: RunId, _status: &RunStatus) -> Result<(), RuntimeError> {
        if let Some(folder) = self.folder(run) {
            process::stop(&folder).await;
            folder.put_aside().map_err(|error| {
                RuntimeError(format!("the run's folder {} can't be removed: {error}", folder.path().display()))
            })?;
            self.cleanup.request();
        }
        self.runs.released(run);
        Ok(())
    }
}

/// Returns the name of the folder that the runs of one job share.
fn shared_folder(assignment: &Assignment) -> String {
    format!("{SHARED}{}", assignment.shared_name())
}

fn own_listener(root: &Arc<Dir>) -> Result<TcpListener, String> {
    let wrong = |error: std::io::Error| format!("The proxy for algorithms can't be opened on this machine: {error}.");
    let listener = port::bind(root)?;
    listener.set_nonblocking(true).map_err(wrong)?;
    TcpListener::from_std(listener).map_err(wrong)
}

/// Waits until this process is the leader of its node, and keeps it the leader until the leadership is released.
///
/// # Errors
/// The node's folder can't be used. The message is for the operator.
pub async fn acquire(
    config: &Config,
    identity: &Identity,
    leadership: Arc<Leadership>,
    health: &Health,
    supervisor: &Supervisor,
) -> Result<(), String> {
    lock::acquire(&runs_dir::create(config, identity)?, leadership, health, supervisor).await
}

/// Lists the runs of this node according to their folders.
///
/// # Errors
/// The node's folder can't be used. The message is for the operator.
pub fn look(config: &Config, identity: &Identity) -> Result<Vec<Here>, String> {
    let Some(root) = runs_dir::find(config, identity)? else { return Ok(Vec::new()) };
    let folders = Folder::all(&Arc::new(root)).into_iter();
    let here = |folder: Folder| Here {
        run: folder.run,
        task: folder.task,
        name: String::new(),
        run_state: folder.run_state(),
        since: folder.started(),
        place: folder.path().display().to_string(),
    };
    Ok(folders.map(here).collect())
}

fn of_supply(error: InputSourceError) -> LaunchError {
    match error {
        InputSourceError::Later(why) => LaunchError::Later(why),
        InputSourceError::Refused(message) => {
            LaunchError::Failed(Failure::new(RunStatus::StartFailed, message.clone(), message))
        }
    }
}
