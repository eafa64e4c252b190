//! The one report of a run.

use std::time::Duration;

use tokio::sync::SemaphorePermit;
use tokio::time::timeout;
use tracing::{error, info, warn};
use vantage6::encoding::Payload;
use vantage6::{Error, Finish, Run, Taken};

use super::Context;
use crate::core::report::{AlgorithmLog, OutputFacts, of_end, shortcoming};
use crate::core::situation::{Exit, Failure};
use crate::runtime::Output;

/// How long the algorithm's log may keep a report waiting.
const LOG_PATIENCE: Duration = Duration::from_secs(60);
/// How many bytes of memory all logs of reports under way may take: while a server is away, many may be waiting for it.
pub const LOGS: usize = 32 * 1024 * 1024;
/// How much a log of the largest size takes while it is read.
const LARGEST_LOG: u32 = 8 * 1024 * 1024;
/// How many bytes a character of a log may become in the request, besides the one that it is.
const IN_JSON: u32 = 7;

/// What came of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reported {
    /// The server has it.
    Yes(vantage6::RunStatus),
    /// The run had ended already: killed, or reported by an earlier try.
    Already,
    /// Not yet: try again.
    Later,
}

/// Reports a run whose algorithm ended by itself, with its output.
pub async fn with_output(context: &Context, run: &Run, exit: &Exit, output: Output) -> Reported {
    let (log, _room) = log(context, run, true).await;
    let Output { upload, taken } = output;
    let recipient = match context.recipients.of(run.task.init_org).await {
        Ok(recipient) => recipient,
        Err(error) => {
            warn!(run = %run.id, "the key to encrypt the result with can't be had from the server: {error}");
            return Reported::Later;
        }
    };
    let limit = context.limits.output;
    let too_large = OutputFacts { length: upload.length, problem: None, limit }.too_large();
    let payload = (upload.length > 0 && !too_large).then(|| Payload::new(upload.length, upload.bytes));
    let encode = |payload| recipient.and_then(|recipient| recipient.encode(payload).map_err(|error| error.to_string()));
    let (result, problem) = match payload.map(encode) {
        Some(Ok(result)) => (Some(result), upload.problem),
        Some(Err(why)) => {
            warn!(run = %run.id, task = %run.task.id, "the result can't be encrypted, and is not reported: {why}");
            (None, Some(not_encryptable(&why)))
        }
        None => (None, upload.problem),
    };
    let failure = shortcoming(exit, OutputFacts { length: upload.length, problem: problem.as_deref(), limit });
    let (status, log) = of_end(failure.as_ref(), log, &context.mask);
    let reported = send(context, run, begun(run, Finish { result, ..Finish::now(status, log) })).await;
    if reported != Reported::Later {
        // Whoever waits for it may be gone: then nobody needs to hear it.
        let _ = taken.send(());
    }
    note(context, run, &reported, failure.as_ref());
    reported
}

/// What the researcher is told when there is nobody to encrypt a result for.
pub fn not_encryptable(why: &str) -> String {
    format!("The result can't be encrypted for the organization that asked: {why}.")
}

/// Reports a run that has no output.
pub async fn without_output(context: &Context, run: &Run, failure: &Failure) -> Reported {
    let Failure { status, message, detail, .. } = failure;
    let detail = if message == detail { String::new() } else { format!(" ({detail})") };
    warn!(run = %run.id, task = %run.task.id, %status, "{message}{detail}");
    let (log, _room) = log(context, run, failure.started).await;
    let (status, log) = of_end(Some(failure), log, &context.mask);
    let finish = Finish::now(status, log);
    let reported = send(context, run, begun(run, finish)).await;
    note(context, run, &reported, Some(failure));
    reported
}

/// Leaves word of a failure in the cluster, once it is reported.
fn note(context: &Context, run: &Run, reported: &Reported, failure: Option<&Failure>) {
    if let (Reported::Yes(_), Some(Failure { status, message, detail, reason, .. })) = (reported, failure) {
        let detail = if message == detail { String::new() } else { format!(" ({detail})") };
        context.runtime.note(run.id, reason, format!("{status}: {message}{detail}"));
    }
}

/// The algorithm's log, and the room that it takes as long as it is there.
async fn log<'a>(context: &'a Context, run: &Run, started: bool) -> (AlgorithmLog, Option<SemaphorePermit<'a>>) {
    if !started {
        return (AlgorithmLog::None, None);
    }
    if !context.config.share_algorithm_logs {
        return (AlgorithmLog::NotShared, None);
    }
    let mut room = context.logs.acquire_many(LARGEST_LOG).await.ok();
    let log = read(context, run).await;
    let takes = match &log {
        AlgorithmLog::Text(text) => u32::try_from(text.len()).unwrap_or(u32::MAX).saturating_mul(IN_JSON),
        AlgorithmLog::None | AlgorithmLog::Unreadable | AlgorithmLog::NotShared => 0,
    };
    // What it does not take after all is the others'.
    drop(room.as_mut().and_then(|room| room.split(LARGEST_LOG.saturating_sub(takes) as usize)));
    (log, room)
}

async fn read(context: &Context, run: &Run) -> AlgorithmLog {
    let reason = match timeout(LOG_PATIENCE, context.runtime.log(run.id)).await {
        Ok(Ok(log)) => return AlgorithmLog::Text(log.into_text(&context.mask)),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "it took too long".to_owned(),
    };
    warn!(run = %run.id, "the algorithm's log could not be read: {reason}");
    AlgorithmLog::Unreadable
}

/// A run's end may be the first that the server hears of it: if this node was away meanwhile, or did not let it in. A regular node tells
/// the server of every run's beginning (`__listening_worker`'s `start_task` in `node/__init__.py`).
fn begun(run: &Run, finish: Finish) -> Finish {
    Finish { started_at: run.started_at.is_none().then_some(finish.finished_at), ..finish }
}

async fn send(context: &Context, run: &Run, finish: Finish) -> Reported {
    let status = finish.status.clone();
    match context.client.finish_run(run.id, finish).await {
        Ok(()) => {
            info!(run = %run.id, task = %run.task.id, "reported as {status}");
            context.announcer.status(run, &status).await;
            Reported::Yes(status)
        }
        Err(error) if error.is_finished_run() || error.is_deleted_run() => {
            info!(run = %run.id, task = %run.task.id, "has ended at the server already: {error}");
            Reported::Already
        }
        Err(error) => {
            complain(run, &error);
            if error.taken() == Taken::Perhaps && has_ended(context, run).await {
                Reported::Already
            } else {
                Reported::Later
            }
        }
    }
}

/// Whether the server has a report of the run after all.
async fn has_ended(context: &Context, run: &Run) -> bool {
    match context.client.run(run.id).await {
        Ok(run) => run.finished_at.is_some(),
        Err(error) => error.is_deleted_run(),
    }
}

fn complain(run: &Run, problem: &Error) {
    if problem.is_transient() {
        warn!(run = %run.id, "the report did not get through: {problem}; the output is kept, and it is tried again");
    } else {
        error!(
            run = %run.id,
            "the server did not take the report: {problem}. The output is kept in the run's pod and offered again and again; \
             if the message tells of a limit or a setting, change that"
        );
    }
}
