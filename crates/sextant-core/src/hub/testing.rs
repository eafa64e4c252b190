//! A server in memory, which fails on request.

#![allow(clippy::disallowed_types, reason = "only tests use it, without another dependency")]
#![allow(clippy::unwrap_used, reason = "only tests use it")]

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::*;

/// The calls to the fakes of both ports, in order: `finish 7`, `stop 7`.
#[derive(Clone, Default)]
pub struct Journal(Arc<Mutex<Vec<String>>>);

impl Journal {
    /// Records a call.
    pub fn add(&self, what: &str, run: RunId) {
        self.0.lock().unwrap().push(format!("{what} {run}"));
    }

    /// All calls so far.
    pub fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    /// How many times a call was made.
    pub fn count(&self, call: &str) -> usize {
        self.all().iter().filter(|known| *known == call).count()
    }

    /// Waits, in paused time, until a call was made.
    pub async fn wait_for(&self, call: &str) {
        for _ in 0..10_000 {
            if self.count(call) > 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("no '{call}' in {:?}", self.all());
    }
}

/// How a call fails.
#[derive(Debug, Clone)]
pub enum Fault {
    /// There is no connection.
    Away,
    /// The server, or with `false` a proxy in front of it, returns this status.
    Status(u16, bool),
    /// The answer can't be parsed.
    Broken,
    /// No answer ever comes.
    Silent,
}

/// The report about a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The last status.
    pub status: RunStatus,
    /// The log.
    pub log: String,
    /// The result that was sent, if any.
    pub result: Option<Vec<u8>>,
}

/// A server in memory.
#[derive(Default)]
pub struct FakeHub {
    /// The calls to both ports.
    pub journal: Journal,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    runs: BTreeMap<RunId, Run>,
    reports: HashMap<RunId, Report>,
    faults: HashMap<&'static str, Fault>,
    organizations: HashMap<OrganizationId, String>,
    stores_of_algorithms: HashMap<StoreId, String>,
    algorithms: Option<Answer<Vec<StoreAlgorithm>>>,
    most: Option<usize>,
    /// Runs whose descriptions are too large to be read.
    oversized: HashSet<RunId>,
    token: Option<String>,
    /// Reports with larger results are answered with 500.
    stores: Option<usize>,
    live_logs: bool,
    metrics: Vec<NodeMetrics>,
    /// What the server has of logs of open runs.
    logs: HashMap<RunId, String>,
}

impl State {
    fn listed(&self, run: &Run) -> Result<Run, HubError> {
        if self.oversized.contains(&run.id) {
            let kind = HubErrorKind::OversizedRun(run.id, run.organization);
            return Err(error(kind, "it has more than 8 bytes".into()));
        }
        Ok(run.clone())
    }
}

/// The collaboration of all runs.
pub const COLLABORATION: CollaborationId = CollaborationId(1);
/// This node's organization.
pub const OURS: OrganizationId = OrganizationId(2);
/// The organization that creates the tasks.
pub const ASKING: OrganizationId = OrganizationId(3);

/// This node.
pub fn me() -> Node {
    Node { id: NodeId(5), collaboration: COLLABORATION, organization: OURS }
}

/// An open run of this node that has not been started.
pub fn pending(id: u64) -> Run {
    Run {
        id: RunId(id),
        status: RunStatus::Pending,
        input: None,
        task: Task {
            id: TaskId(id * 10),
            name: None,
            image: "average".into(),
            created_at: "2026-01-02T03:04:05Z".parse().ok(),
            job: JobId(1),
            parent: None,
            init_org: ASKING,
            init_user: Some(UserId(4)),
            collaboration: COLLABORATION,
            store: None,
            databases: vec![],
        },
        organization: OURS,
        assigned_at: "2026-01-02T03:04:05Z".parse().ok(),
        started_at: None,
        finished_at: None,
        unsupported: None,
    }
}

impl FakeHub {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a run, or replaces the run with its ID.
    pub fn put(&self, run: Run) {
        self.state().runs.insert(run.id, run);
    }

    /// Adds a run whose description is too large to be read.
    pub fn put_oversized(&self, run: Run) {
        self.state().oversized.insert(run.id);
        self.put(run);
    }

    /// Makes a call fail from now on: `run`, `input`, `token`, `finish`, `status`, `organization`, `task_origin`, `store` or `event`.
    /// With [`Fault::Broken`], an input fails while it is streamed. With any fault, `list` never ends.
    pub fn fail(&self, call: &'static str, fault: Fault) {
        self.state().faults.insert(call, fault);
    }

    /// Makes a call succeed again.
    pub fn heal(&self, call: &'static str) {
        self.state().faults.remove(call);
    }

    /// Sets the token that algorithms get.
    pub fn gives_token(&self, token: String) {
        self.state().token = Some(token);
    }

    /// Sets an organization's name.
    pub fn name(&self, organization: OrganizationId, name: &str) {
        self.state().organizations.insert(organization, name.into());
    }

    /// Adds a store with this address.
    pub fn store(&self, id: StoreId, url: &str) {
        self.state().stores_of_algorithms.insert(id, url.into());
    }

    /// Sets the answer of every store for every image. Before that, stores are unavailable.
    pub fn approves(&self, answer: Answer<Vec<StoreAlgorithm>>) {
        self.state().algorithms = Some(answer);
    }

    /// Makes a proxy in front of the server reject reports with more bytes.
    pub fn limit(&self, bytes: usize) {
        self.state().most = Some(bytes);
    }

    /// Makes the server fail to store results with more bytes.
    pub fn stores(&self, bytes: usize) {
        self.state().stores = Some(bytes);
    }

    /// What the server was told of how busy the node is.
    pub fn metrics(&self) -> Vec<NodeMetrics> {
        self.state().metrics.clone()
    }

    /// The server keeps what algorithms print while they run.
    pub fn keeps_live_logs(&self) {
        self.state().live_logs = true;
    }

    /// What the server has of a run's log, as long as the run is open.
    pub fn log(&self, run: RunId) -> String {
        self.state().logs.get(&run).cloned().unwrap_or_default()
    }

    /// The report that the server has about a run.
    pub fn report(&self, run: RunId) -> Option<Report> {
        self.state().reports.get(&run).cloned()
    }

    /// Waits, in paused time, for the report about a run.
    pub async fn reported(&self, run: RunId) -> Report {
        for _ in 0..100_000 {
            if let Some(report) = self.report(run) {
                return report;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("no report of run {run}: {:?}", self.journal.all());
    }

    async fn called(&self, call: &'static str, run: RunId) -> Result<(), HubError> {
        if call != "event" {
            self.journal.add(call, run);
        }
        self.fails(call, run).await
    }

    fn fault(&self, call: &'static str) -> Option<Fault> {
        self.state().faults.get(call).cloned()
    }

    /// Fails if a fault is set for the call.
    async fn fails(&self, call: &'static str, run: RunId) -> Result<(), HubError> {
        let request = format!("{call} {run}");
        match self.fault(call) {
            None => Ok(()),
            Some(Fault::Away) => Err(error(HubErrorKind::Passing, request)),
            Some(Fault::Status(status, own_words)) => Err(error(refusal(status, own_words), request)),
            Some(Fault::Broken) => Err(error(HubErrorKind::BrokenRun(Some(run)), request)),
            Some(Fault::Silent) => std::future::pending().await,
        }
    }
}

fn error(kind: HubErrorKind, text: String) -> HubError {
    HubError { kind, text, delivery: Delivery::NotSent }
}

/// The effect of a status, as a real hub reports it.
fn refusal(status: u16, own_words: bool) -> HubErrorKind {
    match (status, own_words) {
        (500.., true) => HubErrorKind::Failing,
        (408 | 425 | 429 | 500.., _) => HubErrorKind::Passing,
        (413, _) => HubErrorKind::TooLarge,
        (status, true) => HubErrorKind::Refused(status),
        (_, false) => HubErrorKind::Other,
    }
}

#[async_trait::async_trait]
impl Hub for FakeHub {
    fn open_runs(&self, which: OpenRuns) -> BoxStream<'static, Result<Run, HubError>> {
        let state = self.state();
        let open = |run: &&Run| run.finished_at.is_none() && which.task.is_none_or(|task| task == run.task.id);
        let mut runs: Vec<_> = state.runs.values().filter(open).map(|run| state.listed(run)).collect();
        if state.faults.contains_key("list") {
            runs.push(Err(error(HubErrorKind::EndlessList, "it repeats itself".into())));
        }
        stream::iter(runs).boxed()
    }

    async fn run(&self, id: RunId) -> Result<Run, HubError> {
        self.called("run", id).await?;
        self.state()
            .runs
            .get(&id)
            .cloned()
            .ok_or_else(|| error(HubErrorKind::NoSuchRun, format!("there is no run {id}")))
    }

    async fn input(&self, id: RunId) -> Result<InputBytes, HubError> {
        match self.fault("input") {
            Some(Fault::Broken) => {
                Ok(stream::iter([Ok("begin".into()), Err(InputError::Unreadable("damaged".into()))]).boxed())
            }
            _ => self.fails("input", id).await.map(|()| stream::empty().boxed()),
        }
    }

    async fn read_input(&self, input: &EncodedInput) -> Result<Bytes, InputError> {
        Ok(input.0.clone().into())
    }

    async fn container_token(&self, task: TaskId, _: &str) -> Result<SecretString, HubError> {
        self.fails("token", RunId(task.0)).await?;
        Ok(SecretString::from(self.state().token.clone().unwrap_or_else(|| "token".to_owned())))
    }

    async fn set_status(&self, id: RunId, status: &RunStatus, started_at: Option<Timestamp>) -> Result<(), HubError> {
        self.called("status", id).await?;
        if let Some(run) = self.state().runs.get_mut(&id) {
            run.status = status.clone();
            run.started_at = run.started_at.or(started_at);
        }
        self.state().logs.remove(&id);
        Ok(())
    }

    async fn report_start(&self, id: RunId, at: Timestamp) -> Result<bool, HubError> {
        self.called("started", id).await?;
        if let Some(run) = self.state().runs.get_mut(&id) {
            run.started_at = Some(at);
        }
        Ok(true)
    }

    async fn finish_run(&self, id: RunId, report: super::Report) -> Result<(), HubError> {
        self.called("finish", id).await?;
        let super::Report { status, log, finished_at, result, .. } = report;
        let source = |broken: io::Error| error(HubErrorKind::Other, broken.to_string());
        let result = match result {
            Some(result) => Some(result.bytes.try_collect::<Vec<_>>().await.map_err(source)?.concat()),
            None => None,
        };
        let length = log.len() + result.as_ref().map_or(0, Vec::len);
        let mut state = self.state();
        if result.as_ref().is_some_and(|result| state.stores.is_some_and(|most| result.len() > most)) {
            return Err(HubError {
                delivery: Delivery::Unknown,
                ..error(HubErrorKind::Failing, format!("finish {id}: 500"))
            });
        }
        if state.most.is_some_and(|most| length > most) {
            return Err(error(HubErrorKind::TooLarge, format!("finish {id}: 413")));
        }
        match state.runs.get_mut(&id) {
            None => Err(error(HubErrorKind::NoSuchRun, format!("there is no run {id}"))),
            Some(run) if run.finished_at.is_some() => {
                Err(error(HubErrorKind::RunHasEnded, format!("run {id} has ended")))
            }
            Some(run) => {
                run.status = status.clone();
                run.finished_at = Some(finished_at);
                state.reports.insert(id, Report { status, log, result });
                Ok(())
            }
        }
    }

    async fn can_report_to(&self, _: OrganizationId) -> Result<(), HubError> {
        Ok(())
    }

    async fn organization_name(&self, id: OrganizationId) -> Result<Option<String>, HubError> {
        self.called("organization", RunId(id.0)).await?;
        Ok(Some(self.state().organizations.get(&id).cloned().unwrap_or_default()))
    }

    async fn task_origin(&self, id: TaskId) -> Result<Link, HubError> {
        self.called("task_origin", RunId(id.0)).await?;
        Ok(Link {
            task: id,
            job: Some(JobId(1)),
            parent: None,
            user: Some(UserId(4)),
            organization: Some(ASKING),
            image: Some("average".into()),
            created_at: "2026-01-02T03:04:05Z".parse().ok(),
        })
    }

    async fn algorithm_store(&self, id: StoreId) -> Result<Option<String>, HubError> {
        self.called("store", RunId(id.0)).await?;
        Ok(self.state().stores_of_algorithms.get(&id).cloned())
    }

    async fn store_algorithms(&self, store: &str, _: &str) -> Answer<Vec<StoreAlgorithm>> {
        self.journal.add(&format!("approved at {store}"), RunId(0));
        self.state().algorithms.clone().unwrap_or_else(|| Answer::Away("the store is away".into()))
    }

    async fn has_live_logs(&self) -> Result<bool, HubError> {
        self.fails("version", RunId(0)).await?;
        Ok(self.state().live_logs)
    }

    async fn append_log(&self, LogOf { run: id, .. }: LogOf, text: &str) -> Result<(), Delivery> {
        self.journal.add("append", id);
        match self.fault("append") {
            Some(Fault::Away) => return Err(Delivery::NotSent),
            // It may have arrived, and here it has.
            Some(Fault::Broken) => {}
            Some(_) => tokio::time::sleep(Duration::from_secs(3)).await,
            None => {}
        }
        let mut state = self.state();
        let is_broken = matches!(state.faults.get("append"), Some(Fault::Broken));
        let log = match state.reports.get_mut(&id) {
            // As the server does, also when the run has ended.
            Some(report) => &mut report.log,
            None => state.logs.entry(id).or_default(),
        };
        if !log.is_empty() && !log.ends_with('\n') {
            log.push('\n');
        }
        log.push_str(text);
        if is_broken { Err(Delivery::Unknown) } else { Ok(()) }
    }

    async fn replace_log(&self, id: RunId, log: &str) -> Result<(), HubError> {
        self.called("replace", id).await?;
        let mut state = self.state();
        if state.runs.get(&id).is_some_and(|run| run.finished_at.is_some()) {
            return Err(error(HubErrorKind::RunHasEnded, format!("run {id} has ended")));
        }
        state.logs.insert(id, log.to_owned());
        Ok(())
    }

    async fn send_event(&self, event: NodeEvent) -> Result<(), String> {
        self.called("event", RunId(0)).await.map_err(|error| error.to_string())?;
        if let NodeEvent::Metrics(metrics) = event {
            self.state().metrics.push(metrics);
        }
        Ok(())
    }
}
