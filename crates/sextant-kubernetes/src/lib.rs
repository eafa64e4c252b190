//! The Kubernetes runtime. It creates a Job per run, follows Jobs and pods with two watches, and passes inputs and outputs through the
//! data port.

mod access;
mod address;
mod cluster;
pub mod data_port;
pub mod decisions;
pub mod doctor;
mod endpoints;
mod events;
mod isolation;
mod launch;
mod lease;
mod lingering;
mod log_follow;
mod logs;
mod measured;
mod neighbours;
pub mod overview;
mod permissions;
pub mod pod;
mod pod_api;
mod probe;
mod rules;
mod run_index;
mod secrets;
mod services;
mod targets;
mod watch;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream::BoxStream;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Event, HostAlias, Pod, Secret};
use kube::{Api, Client};
use sextant_config::{Config, KubernetesConfig};
use sextant_core::assignment::Assignment;
use sextant_core::environment::{VisibleDatabase, environment};
use sextant_core::gate::Gate;
use sextant_core::leadership::Leadership;
use sextant_core::names::Identity;
use sextant_core::node_error::NodeError;
use sextant_core::pod_issue::PodIssue;
use sextant_core::run_context;
use sextant_core::run_state::{Disruption, Failure, RunState};
use sextant_core::runtime::{InputSource, LaunchError, LogPart, Output, Runtime, RuntimeError};
use sextant_core::tail::Tail;
use sextant_metrics::KubernetesMetrics;
use sextant_process::health::Health;
use sextant_process::supervisor::Supervisor;
use sextant_proxy::Embedded;
use tracing::info;
use vantage6_types::{RunId, RunStatus, TaskId};

use self::access::Access;
pub use self::endpoints::endpoints;
use self::endpoints::{NodeEndpoints, listen};
use self::lease::NodeLease;
use self::lingering::End;
use self::pod_api::PodApiService;
use self::probe::Prober;
use self::run_index::RunIndex;
use self::targets::Targets;
use crate::data_port::keys::NodeSecret;
use crate::data_port::{bounds, server};
use crate::decisions::databases::{Mounted, mounted};
use crate::decisions::facts::JobFacts;
use crate::decisions::isolation::IsolationMonitor;
use crate::decisions::job::{DataPortForPods, Plan, RUN_CONTEXT_KEY, job, locations};

/// How many runs may look up concurrently why they don't start.
const ASKING: usize = 2;

/// The Kubernetes runtime.
pub struct Kubernetes {
    identity: Identity,
    config: Config,
    settings: KubernetesConfig,
    databases: Vec<Mounted>,
    client: Client,
    jobs: Api<Job>,
    pods: Api<Pod>,
    secrets: Api<Secret>,
    events: Api<Event>,
    /// Limits concurrent look-ups of why a run doesn't start: to find one run's Events, the API server reads all Events of the namespace.
    asking: tokio::sync::Semaphore,
    secret: Arc<NodeSecret>,
    data_port: DataPortForPods,
    proxy: SocketAddr,
    pull_secrets: Vec<String>,
    run_index: Arc<RunIndex>,
    gate: tokio::sync::watch::Receiver<Gate>,
    seen: [tokio::sync::watch::Receiver<bool>; 2],
    _embedded: Option<Embedded>,
}

/// A cluster that is reachable and usable. It is opened before the node logs in, so that the node can wait for both at the same time.
pub struct Connected {
    client: Client,
    /// The API server's host and port.
    api_server: Option<(String, u16)>,
    /// Whether another process of this node was the leader when this one started.
    stood_by: bool,
    metrics: KubernetesMetrics,
}

impl Connected {
    /// Connects to the cluster, waiting while it is unavailable, and checks this node's permissions.
    ///
    /// # Errors
    /// If the cluster can't be used.
    pub async fn open(settings: &KubernetesConfig, metrics: KubernetesMetrics) -> Result<Self, NodeError> {
        let access = cluster::access(settings).await?;
        let client = measured::measured(cluster::connect(&access).await?, metrics.clone());
        permissions::check(&client, &settings.namespace).await?;
        rules::tell(&client, settings).await;
        Ok(Self { client, api_server: api_server(&access), stood_by: false, metrics })
    }

    /// Waits until this process is the leader among the processes of its node.
    pub async fn acquire(
        &mut self,
        namespace: &str,
        identity: &Identity,
        leadership: Arc<Leadership>,
        health: Arc<Health>,
        supervisor: &Supervisor,
    ) {
        let leases = Api::namespaced(self.client.clone(), namespace);
        self.stood_by = NodeLease::new(leases, identity).acquire(leadership, health, supervisor).await;
    }

    /// Creates a client for a cluster that has not been used yet.
    fn to(access: &Arc<Access>) -> Self {
        let metrics = KubernetesMetrics::default();
        Self { client: access.client(), api_server: api_server(access), stood_by: false, metrics }
    }
}

fn api_server(access: &Access) -> Option<(String, u16)> {
    let url = access.address();
    let port = url.port_u16().unwrap_or(443);
    url.host().map(|host| (host.trim_matches(['[', ']']).to_owned(), port))
}

impl Kubernetes {
    /// Starts the runtime: the data port, the watches and the isolation check.
    ///
    /// # Errors
    /// If the data port can't be opened, or the cluster refuses a request.
    pub async fn start(
        connected: Connected,
        config: &Config,
        settings: &KubernetesConfig,
        identity: Identity,
        input_source: Arc<dyn InputSource>,
        health: &Health,
        supervisor: &Supervisor,
    ) -> Result<Self, NodeError> {
        let client = connected.client.clone();
        let namespace = &settings.namespace;
        let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
        let jobs: Api<Job> = Api::namespaced(client.clone(), namespace);
        let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);

        let listener = listen("data_port", settings.data_port.listen, connected.stood_by).await?;
        let port = listener.local_addr().map_or(settings.data_port.listen.port(), |address| address.port());
        let node_endpoints = NodeEndpoints::find(&connected, config, settings, &identity, port).await?;
        let NodeEndpoints { endpoints, secret, tls, data_port, pull_secrets } = node_endpoints;

        let embedded = match &settings.proxy.address {
            Some(_) => None,
            None => Some(own_proxy(config, settings, health, supervisor, connected.stood_by).await?),
        };

        let run_index = Arc::new(RunIndex::default());
        let (jobs_seen, pods_seen) = (tokio::sync::watch::Sender::new(false), tokio::sync::watch::Sender::new(false));
        let seen = [jobs_seen.subscribe(), pods_seen.subscribe()];
        let watch = watch::jobs(jobs.clone(), identity.clone(), run_index.clone(), jobs_seen);
        supervisor.spawn("the watch of the Jobs", watch);
        let watch = watch::pods(pods.clone(), identity.clone(), run_index.clone(), pods_seen);
        supervisor.spawn("the watch of the pods", watch);
        let pod_api = Arc::new(PodApiService::new(run_index.clone(), input_source));
        let limits = bounds::Limits::within(sextant_process::rlimit::raise_open_files());
        supervisor.spawn("the data port", server::serve(listener, tls, secret.clone(), pod_api, limits));
        let targets = Targets::new(config, settings, &connected, endpoints, &data_port);
        let prober = Prober::new(&client, &identity, settings, &pull_secrets);
        let isolation_monitor = IsolationMonitor::new(settings.isolation.every, settings.allow_unisolated);
        let gate = tokio::sync::watch::Sender::new(isolation_monitor.gate());
        let passed = gate.subscribe();
        supervisor.spawn(
            "the launch gate",
            isolation::run(prober, targets, isolation_monitor, gate, run_index.clone(), connected.metrics),
        );
        info!("The data port listens at port {port}; pods connect to {}.", data_port.address);
        let served = if embedded.is_some() { "this node" } else { "on its own" };
        info!("The proxy is {served}; algorithms connect to {}.", endpoints.proxy);

        Ok(Self {
            databases: mounted(&config.databases, settings),
            config: config.clone(),
            settings: settings.clone(),
            identity,
            jobs,
            pods,
            secrets,
            events: Api::namespaced(client.clone(), namespace),
            client,
            asking: tokio::sync::Semaphore::new(ASKING),
            secret,
            data_port,
            proxy: endpoints.proxy,
            pull_secrets,
            run_index,
            gate: passed,
            seen,
            _embedded: embedded,
        })
    }

    /// The algorithm's environment and, under its own key, what `run_context.json` says; or the reason why there can't be one.
    fn environment(&self, assignment: &Assignment) -> Result<BTreeMap<String, String>, Failure> {
        let visible: Vec<VisibleDatabase> = self.databases.iter().map(|database| database.visible.clone()).collect();
        let (own, share) = (&self.config.algorithm_env, self.config.share_config);
        let locations = locations(assignment.run, self.proxy, self.config.run_context_file);
        let made = environment(&locations, &visible, &assignment.databases, own, share).and_then(|mut made| {
            if self.config.run_context_file {
                let rest = run_context::rest(&locations, assignment, self.identity.node, &visible)?;
                made.insert(RUN_CONTEXT_KEY.to_owned(), rest);
            }
            Ok(made)
        });
        made.map_err(|error| Failure::new(error.status(), error.to_string(), error.to_string()))
    }

    fn plan(
        &self,
        assignment: &Assignment,
        environment: &BTreeMap<String, String>,
        services: &[HostAlias],
        before: Disruption,
    ) -> Job {
        let asked =
            |database: &&Mounted| assignment.databases.iter().any(|asked| asked.label == database.visible.label);
        let databases: Vec<Mounted> = self.databases.iter().filter(asked).cloned().collect();
        job(&Plan {
            identity: &self.identity,
            assignment,
            before,
            config: &self.settings,
            tmp: self.config.tmp(),
            databases: &databases,
            variables: &environment.keys().map(String::as_str).collect::<Vec<_>>(),
            data_port: &self.data_port,
            services,
            proxy: self.proxy,
            pull_secrets: &self.pull_secrets,
        })
    }

    /// The Job of this run, if it exists. The Job of an earlier run with the same ID does not count.
    fn job_of(&self, assignment: &Assignment) -> Option<JobFacts> {
        self.run_index.job_of(assignment.run).filter(|job| job.is_of(&self.identity, assignment))
    }
}

#[async_trait::async_trait]
impl Runtime for Kubernetes {
    async fn list_existing(&self) -> Vec<(TaskId, RunId)> {
        for mut seen in self.seen.clone() {
            // An error means that the watch has ended, and the process ends with it.
            let _ = seen.wait_for(|seen| *seen).await;
        }
        self.unreported()
    }

    fn unreported(&self) -> Vec<(TaskId, RunId)> {
        self.run_index.unreported()
    }

    fn has_stale_job(&self, assignment: &Assignment) -> bool {
        self.run_index.job_of(assignment.run).is_some_and(|job| !job.reported && !job.is_of(&self.identity, assignment))
    }

    fn contains(&self, run: RunId) -> bool {
        self.run_index.knows(run)
    }

    fn observe(&self, run: RunId) -> tokio::sync::watch::Receiver<RunState> {
        self.run_index.observe(run)
    }

    fn gate(&self) -> tokio::sync::watch::Receiver<Gate> {
        self.gate.clone()
    }

    async fn launch(&self, assignment: &Assignment) -> Result<(), LaunchError> {
        let before = self.job_of(assignment).map_or(Disruption::default(), |job| Disruption {
            attempt: job.attempt.saturating_sub(1),
            executions: job.executions,
        });
        self.launch_as(assignment, before).await
    }

    async fn complete_launch(&self, assignment: &Assignment) -> Result<(), LaunchError> {
        self.complete(assignment).await
    }

    async fn relaunch(&self, assignment: &Assignment, disrupted: Disruption) -> Result<(), LaunchError> {
        self.launch_again(assignment, disrupted).await
    }

    fn record_event(&self, run: RunId, reason: &'static str, text: String) {
        if let Some(job) = self.run_index.job_of(run) {
            tokio::spawn(events::note(self.events.clone(), self.settings.namespace.clone(), job, reason, text));
        }
    }

    async fn collect(&self, run: RunId) -> Result<Output, RuntimeError> {
        self.run_index.collect(run).await.map_err(|_| RuntimeError("another request collects it".into()))
    }

    async fn log(&self, run: RunId) -> Result<Tail, RuntimeError> {
        let pod = self.run_index.pod_of(run).ok_or_else(|| RuntimeError("the run's pod is gone".into()))?;
        logs::of_algorithm(&self.pods, &pod.name).await
    }

    fn follow_log(&self, run: RunId) -> BoxStream<'static, LogPart> {
        match self.run_index.pod_of(run) {
            Some(pod) => log_follow::of_algorithm(self.pods.clone(), self.run_index.clone(), run, pod.name),
            None => futures::stream::empty().boxed(),
        }
    }

    async fn why_pending(&self, run: RunId, image: &str) -> Option<PodIssue> {
        let _turn = self.asking.acquire().await.ok()?;
        let job = self.run_index.job_of(run)?;
        let pod = self.run_index.pod_of(run).map(|pod| pod.name);
        events::issue(&self.events, &job.name, pod.as_deref(), self.settings.scratch.as_ref(), image).await
    }

    async fn make_room(&self) {
        self.end_lingering().await;
    }

    fn unsubscribe(&self, run: RunId) {
        self.run_index.forget(run);
    }

    async fn stop(&self, run: RunId, why: &Failure) -> Result<(), RuntimeError> {
        match self.run_index.job_of(run) {
            Some(job) => self.end(&job, why).await,
            None => Ok(()),
        }
    }

    async fn release(&self, run: RunId, status: &RunStatus) -> Result<(), RuntimeError> {
        let Some(job) = self.run_index.job_of(run) else { return Ok(()) };
        let end = End::of(&job, self.run_index.pod_of(run).as_ref(), self.settings.keep_finished, Timestamp::now());
        // Mark the run's own Job last: until it has the mark, all steps are retried.
        self.mark_earlier(&job).await?;
        self.mark(&job.name, Some(&job.uid), status.as_str(), end).await?;
        self.run_index.dismiss(run);
        self.run_index.reported(run, &job.uid);
        Ok(())
    }
}

/// Starts the proxy inside this node.
async fn own_proxy(
    config: &Config,
    settings: &KubernetesConfig,
    health: &Health,
    supervisor: &Supervisor,
    taken_over: bool,
) -> Result<Embedded, NodeError> {
    let listener = listen("proxy", settings.proxy.listen, taken_over).await?;
    sextant_proxy::embedded(listener, config, health, supervisor).map_err(NodeError::Configuration)
}
