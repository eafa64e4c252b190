//! Sends the single final report of a run.

use std::any::Any;
use std::time::Duration;

use log_throttle::LogThrottle;
use sextant_core::hub::{Delivery, HubError, HubErrorKind, Report, Run, RunResult};
use sextant_core::lineage::Link;
use sextant_core::mask::Mask;
use sextant_core::report::{AlgorithmLog, OutputFacts, of_end, shortcoming};
use sextant_core::run_identity::RunIdentity;
use sextant_core::run_state::{Exit, Failure};
use sextant_core::runtime::Output;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use tracing::{error, info, warn};
use vantage6_types::RunStatus;

use super::{Context, metrics};

/// How long a report waits for the algorithm's log.
const LOG_PATIENCE: Duration = Duration::from_secs(60);
/// The same for a stopped algorithm, whose pod has a grace period of some seconds.
const LOG_OF_STOPPED: Duration = Duration::from_secs(8);
/// The memory for the logs of all reports in flight, in bytes. Many reports may wait while the server is unavailable.
pub const LOGS: usize = 32 * 1024 * 1024;
/// The memory for logs of stopped runs that the server has not accepted yet, in bytes.
pub const KEPT_LOGS: usize = 16 * 1024 * 1024;
/// The memory that the largest log takes while it is read, in bytes.
const LARGEST_LOG: u32 = 8 * 1024 * 1024;
/// How many bytes a character of a log may take in the request, besides its own.
const IN_JSON: u32 = 7;

/// The outcome of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reported {
    /// The server has accepted it.
    Yes(RunStatus),
    /// The run had already ended: killed, or reported by an earlier attempt.
    Already,
    /// Not accepted yet: retry.
    Later,
    /// Not accepted yet: the server fails, maybe because of this very report.
    Failing,
    /// Neither the server nor a proxy before it will ever accept such a report. The text is for the researcher.
    Never(String),
}

/// Reports a run whose algorithm ended by itself, with its output.
pub async fn with_output(
    context: &Context,
    run: &Run,
    mask: &Mask,
    exit: &Exit,
    output: Output,
    log: HeldLog,
) -> Reported {
    let Output { upload, taken } = output;
    let limit = context.limits.output;
    let too_large = OutputFacts { length: upload.length, problem: None, limit }.too_large();
    let result = (upload.length > 0 && !too_large).then(|| RunResult {
        to: run.task.init_org,
        length: upload.length,
        bytes: upload.bytes,
    });
    let size = result.as_ref().map(|result| result.length);
    let failure = shortcoming(exit, OutputFacts { length: upload.length, problem: upload.problem.as_deref(), limit });
    let HeldLog { text, permit } = log;
    let (status, log) = of_end(failure.as_ref(), text, mask);
    let report = Report { result, held: held(permit), ..Report::now(status, log) };
    let reported = send(context, run, begun(run, report)).await;
    if matches!(reported, Reported::Yes(_) | Reported::Already) {
        // The receiver may be gone. Then the confirmation is not needed.
        let _ = taken.send(());
    }
    metrics::reported(&context.metrics, &reported, failure.as_ref(), size);
    note(context, run, &reported, failure.as_ref());
    reported
}

/// The researcher's text for a result without a recipient to encrypt it for.
pub fn not_encryptable(why: &str) -> String {
    format!("The result can't be encrypted for the organization that asked: {why}.")
}

/// Logs the failure of a run without output. Called once per failure, since the report may be retried any number of times.
pub fn tell(run: &Run, failure: &Failure) {
    warn!(run = %run.id, task = %run.task.id, status = %failure.status, "Run failed: {}", in_words(failure));
}

/// Reports a run without output, with the log that was read when the run was stopped or, without one, with the current log.
pub async fn without_output(
    context: &Context,
    run: &Run,
    mask: &Mask,
    failure: &Failure,
    read: Option<&HeldLog>,
) -> Reported {
    let HeldLog { text, permit } = match read {
        Some(read) => HeldLog { text: read.text.clone(), permit: None },
        None => log(context, run, mask, failure.started).await,
    };
    let (status, log) = of_end(Some(failure), text, mask);
    let report = Report { held: held(permit), ..Report::now(status, log) };
    let reported = send(context, run, begun(run, report)).await;
    metrics::reported(&context.metrics, &reported, Some(failure), None);
    note(context, run, &reported, Some(failure));
    reported
}

/// Wraps the permit for a log's memory, which is released when the log has been sent.
fn held(permit: Option<OwnedSemaphorePermit>) -> Option<Box<dyn Any + Send + Sync>> {
    permit.map(|permit| Box::new(permit) as _)
}

/// Records a failure as an Event in the cluster once it has been reported.
fn note(context: &Context, run: &Run, reported: &Reported, failure: Option<&Failure>) {
    if let (Reported::Yes(_), Some(failure)) = (reported, failure) {
        let text = format!("{}: {}", failure.status, in_words(failure));
        context.runtime.record_event(run.id, failure.reason, text);
    }
}

/// A failure for operators: the researcher's text, and the details.
fn in_words(failure: &Failure) -> String {
    let Failure { message, detail, .. } = failure;
    if message == detail { message.clone() } else { format!("{message} ({detail})") }
}

/// An algorithm's log, with the permit for its memory.
#[derive(Debug)]
pub struct HeldLog {
    text: AlgorithmLog,
    permit: Option<OwnedSemaphorePermit>,
}

impl HeldLog {
    /// A log that is left out of the report.
    pub fn left_out() -> Self {
        Self { text: AlgorithmLog::LeftOut, permit: None }
    }

    /// Whether it is [left out](Self::left_out).
    pub fn is_left_out(&self) -> bool {
        self.text == AlgorithmLog::LeftOut
    }
}

/// Reads the algorithm's log as soon as there is memory for it.
pub async fn log(context: &Context, run: &Run, mask: &Mask, started: bool) -> HeldLog {
    let text = match (started, context.share_algorithm_logs) {
        (false, _) => AlgorithmLog::None,
        (true, false) => AlgorithmLog::NotShared,
        (true, true) => match context.logs.clone().acquire_many_owned(LARGEST_LOG).await {
            Ok(permit) => return read_into(context, run, mask, permit).await,
            Err(_) => AlgorithmLog::Unreadable,
        },
    };
    HeldLog { text, permit: None }
}

/// Reads the log of a run that was just stopped. Its pod exists only for a moment, so there is only one attempt.
pub async fn log_of_stopped(context: &Context, run: &Run, mask: &Mask, started: bool) -> HeldLog {
    match timeout(LOG_OF_STOPPED, log(context, run, mask, started)).await {
        // The log may be kept while the server is unavailable, so it does not count toward the reports in flight.
        Ok(HeldLog { text, .. }) => {
            match text.length().map(|length| context.kept_logs.clone().try_acquire_many_owned(length)) {
                None => HeldLog { text, permit: None },
                Some(Ok(permit)) => HeldLog { text, permit: Some(permit) },
                Some(Err(_)) => {
                    warn!(run = %run.id, "The log of the stopped algorithm is left out: logs of other runs use the memory for logs");
                    HeldLog::left_out()
                }
            }
        }
        Err(_) => {
            warn!(run = %run.id, "Could not read the log of the stopped algorithm within {} s", LOG_OF_STOPPED.as_secs());
            HeldLog { text: AlgorithmLog::Unreadable, permit: None }
        }
    }
}

async fn read_into(context: &Context, run: &Run, mask: &Mask, mut permit: OwnedSemaphorePermit) -> HeldLog {
    let text = read(context, run, mask).await;
    let takes = text.length().map_or(0, |length| length.saturating_mul(IN_JSON));
    // Releases the memory that the log does not need.
    drop(permit.split(LARGEST_LOG.saturating_sub(takes) as usize));
    HeldLog { text, permit: Some(permit) }
}

async fn read(context: &Context, run: &Run, mask: &Mask) -> AlgorithmLog {
    let reason = match timeout(LOG_PATIENCE, context.runtime.log(run.id)).await {
        Ok(Ok(log)) => return AlgorithmLog::Text(log.into_text(mask)),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "it took too long".to_owned(),
    };
    static UNREADABLE: LogThrottle = LogThrottle::new();
    if let Some(times) = UNREADABLE.happened() {
        warn!(run = %run.id, times, "Could not read the algorithm's log: {reason}");
    }
    AlgorithmLog::Unreadable
}

/// Adds the run's start if the server does not have it: the node was unavailable, or did not admit the run. A regular node reports the
/// start of every run (`__listening_worker`'s `start_task` in `node/__init__.py`).
fn begun(run: &Run, report: Report) -> Report {
    Report { started_at: run.started_at.is_none().then_some(report.finished_at), ..report }
}

async fn send(context: &Context, run: &Run, report: Report) -> Reported {
    // Reading the log may have taken a minute.
    if !context.leadership.is_leader() {
        return Reported::Later;
    }
    match is_still_its(context, run).await {
        Ok(true) => {}
        Ok(false) => {
            info!(run = %run.id, task = %run.task.id, "Run is not reported: it was deleted at the server");
            return Reported::Already;
        }
        Err(error) => {
            complain(run, &error);
            return Reported::Later;
        }
    }
    if !context.leadership.is_leader() {
        return Reported::Later;
    }
    let status = report.status.clone();
    match context.hub.finish_run(run.id, report).await {
        Ok(()) => {
            info!(run = %run.id, task = %run.task.id, %status, "Run reported");
            context.status_publisher.status(run, &status).await;
            Reported::Yes(status)
        }
        Err(error) if error.is_over() => {
            info!(run = %run.id, task = %run.task.id, "Run has already ended at the server: {error}");
            Reported::Already
        }
        Err(error) => {
            if let Some(why) = refusal(&error) {
                static NOT_ACCEPTED: LogThrottle = LogThrottle::new();
                if let Some(times) = NOT_ACCEPTED.happened() {
                    error!(run = %run.id, times, "The server does not accept the report: {error}");
                }
                return Reported::Never(why);
            }
            complain(run, &error);
            if error.delivery == Delivery::Unknown && has_ended(context, run).await {
                Reported::Already
            } else if error.kind == HubErrorKind::Failing {
                Reported::Failing
            } else {
                Reported::Later
            }
        }
    }
}

/// Whether the run's id still belongs to this run at the server. The server compares only the id, and another run with that id must not
/// get this run's report.
async fn is_still_its(context: &Context, run: &Run) -> Result<bool, HubError> {
    match context.hub.run(run.id).await {
        Ok(now) => Ok(RunIdentity::from(&now) == RunIdentity::from(run)),
        Err(error) if error.is_deleted_run() => Ok(false),
        // If the run can't be parsed, its task identifies it well enough.
        Err(error) if matches!(error.kind, HubErrorKind::BrokenRun(_)) => {
            let known = Link { user: None, ..Link::from(&run.task) };
            let now = context.hub.task_origin(run.task.id).await?;
            Ok(Link { user: None, ..now } == known)
        }
        Err(error) => Err(error),
    }
}

/// The text of a refusal that no retry changes: the report is too large for the server or for a proxy before it, or the server finds it
/// invalid. A person may fix the cause of any other refusal.
fn refusal(error: &HubError) -> Option<String> {
    match error.kind {
        HubErrorKind::TooLarge => {
            Some("The server, or a proxy in front of it, accepts no report of this size (HTTP 413).".into())
        }
        HubErrorKind::Refused(status @ (400 | 422)) => {
            Some(format!("The server does not accept the report (HTTP {status})."))
        }
        HubErrorKind::NotStored(501) => {
            Some("The server has no blob store any more, where the result belongs (HTTP 501).".into())
        }
        HubErrorKind::NotStored(status) => {
            Some(format!("The server does not take the result into its blob store (HTTP {status})."))
        }
        HubErrorKind::NoRecipient => Some(not_encryptable(&error.text)),
        _ => None,
    }
}

/// Whether the server has a report of the run after all.
async fn has_ended(context: &Context, run: &Run) -> bool {
    match context.hub.run(run.id).await {
        Ok(run) => run.finished_at.is_some(),
        Err(error) => error.is_deleted_run(),
    }
}

fn complain(run: &Run, problem: &HubError) {
    // Thousands of runs may retry at the same time.
    static PASSING: LogThrottle = LogThrottle::new();
    static LASTING: LogThrottle = LogThrottle::new();
    let throttle = if problem.is_passing() { &PASSING } else { &LASTING };
    let Some(times) = throttle.happened() else { return };
    if problem.is_passing() {
        warn!(run = %run.id, times, "The report did not get through: {problem}; the pod keeps the output, and the node retries");
    } else {
        error!(
            run = %run.id,
            times,
            "The server did not accept the report: {problem}. The pod keeps the output, and the node retries without \
             limit; if the message names a limit or a setting, change that"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_for_good_is_told_to_the_researcher() {
        for (kind, says) in [
            (HubErrorKind::TooLarge, Some("no report of this size (HTTP 413)")),
            (HubErrorKind::Refused(400), Some("does not accept the report (HTTP 400)")),
            (HubErrorKind::NotStored(501), Some("has no blob store any more, where the result belongs (HTTP 501)")),
            (HubErrorKind::NotStored(403), Some("does not take the result into its blob store (HTTP 403)")),
            (HubErrorKind::Refused(403), None),
            (HubErrorKind::Failing, None),
        ] {
            let error = HubError { kind: kind.clone(), text: String::new(), delivery: Delivery::NotSent };
            let told = refusal(&error);
            assert_eq!(told.is_some(), says.is_some(), "{kind:?}");
            assert!(told.unwrap_or_default().contains(says.unwrap_or_default()), "{kind:?}");
        }
    }
}
