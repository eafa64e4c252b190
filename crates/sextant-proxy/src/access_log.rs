//! The access log: one line for each request, when the last of its answer is gone, with the task that asked. Queries are
//! left out: they may hold anything. What a token says that the server has not accepted is marked as claimed: anybody can write one.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use http::Method;
use parking_lot::Mutex;
use printable::excerpt_of;
use sextant_process::connection_limits::{ActiveRequest, ConnectionGuard};
use sextant_process::telemetry::LogFormat;

use super::Shared;
use super::caller::{Caller, Client};

/// So much is gathered before it is written.
const GATHERED: usize = 32 * 1024;
/// It is written at least so often.
pub(crate) const AT_LEAST: Duration = Duration::from_millis(500);

/// How many characters of a request's method are shown, and of its path: both are the algorithm's, and may be as long as a head.
const METHOD: usize = 20;
const PATH: usize = 500;

/// Where lines go.
pub(crate) enum AccessLog {
    /// To standard output, gathered: a line for each request must not cost a system call each.
    Lines {
        /// As JSON or for people.
        format: LogFormat,
        /// What is not written yet.
        buffer: Mutex<String>,
    },
    /// To the node's log, where only who looks for details sees them.
    Node,
}

impl AccessLog {
    /// To standard output.
    pub fn lines(format: LogFormat) -> Self {
        Self::Lines { format, buffer: Mutex::default() }
    }

    fn write(&self, record: &Record) {
        match self {
            Self::Lines { format, buffer: gathered } => {
                let mut gathered = gathered.lock();
                record.line(*format, &mut gathered);
                if gathered.len() > GATHERED {
                    write_out(&mut gathered);
                }
            }
            Self::Node if tracing::enabled!(tracing::Level::DEBUG) => {
                let mut line = String::new();
                record.fields(&mut line);
                tracing::debug!("proxy: {line}");
            }
            Self::Node => {}
        }
    }

    /// Writes what was gathered.
    pub fn flush(&self) {
        if let Self::Lines { buffer: gathered, .. } = self {
            write_out(&mut gathered.lock());
        }
    }
}

/// A reader that has gone is no reason to stop serving.
fn write_out(gathered: &mut String) {
    if !gathered.is_empty() {
        let mut out = io::stdout().lock();
        let _ = out.write_all(gathered.as_bytes()).and_then(|()| out.flush());
        gathered.clear();
    }
}

/// What is known of one request. Noted when it is dropped: with the answer, or with a caller who has gone.
pub(crate) struct Record {
    shared: Arc<Shared>,
    began: Instant,
    method: String,
    path: String,
    pub caller: Caller,
    /// Whether the server has accepted the token that tells who the caller is.
    pub accepted: bool,
    pub status: u16,
    pub tries: u32,
    pub coalesced: bool,
    bytes: u64,
    pub problem: Option<String>,
    /// Under way as long as it is recorded.
    under_way: ActiveRequest<Caller>,
    body: Arc<AtomicBool>,
}

impl Record {
    /// Of a request that has just come.
    pub fn new(shared: Arc<Shared>, method: Method, path: String, under_way: ActiveRequest<Caller>) -> Self {
        Self {
            shared,
            began: Instant::now(),
            method: excerpt_of(method.as_str(), METHOD),
            path: excerpt_of(&path, PATH),
            caller: Caller::default(),
            accepted: false,
            // What nginx writes for callers who did not wait.
            status: 499,
            tries: 0,
            coalesced: false,
            bytes: 0,
            problem: None,
            under_way,
            body: Arc::default(),
        }
    }

    /// The connection's, which counts for its caller as long as the server accepts the caller's token.
    pub fn connection(&self) -> &ConnectionGuard<Caller> {
        self.under_way.connection()
    }

    /// Whose the request is, and where it comes from.
    pub fn client(&self) -> Client {
        Client { caller: self.caller, source: self.connection().address }
    }

    /// Becomes true once the request's body has been read to its end.
    pub fn body_ended(&self) -> &Arc<AtomicBool> {
        &self.body
    }

    /// So much of the answer is gone.
    pub fn sent(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }

    /// The answer ended before its end.
    pub fn interrupted(&mut self, error: &io::Error) {
        self.problem = Some(excerpt_of(&format!("the answer broke off: {error}"), PATH));
    }

    fn line(&self, format: LogFormat, out: &mut String) {
        let now = jiff::Timestamp::now();
        // Writing to a String can't fail.
        let _ = match format {
            LogFormat::Text => {
                let _ = write!(out, "{now:.3} ");
                self.fields(out);
                out.write_char('\n')
            }
            LogFormat::Json => {
                let claimed = self.claimed();
                let Self { caller, status, tries, coalesced, bytes, .. } = self;
                let problem = self.problem.as_ref().map(|problem| json_text(problem.as_str()));
                let _ = write!(out, "{{\"timestamp\":\"{now:.3}\",\"method\":\"{}\",\"path\":", self.method);
                let _ = write!(out, "{},\"status\":{status}", json_text(&self.path));
                let _ = write!(out, ",\"bytes\":{bytes},\"ms\":{:.3}", self.milliseconds());
                for (name, id) in caller_fields(caller) {
                    let _ = write!(out, ",\"{claimed}{name}\":{id}");
                }
                let _ = write!(out, ",\"tries\":{tries},\"shared\":{coalesced}");
                if let Some(problem) = problem {
                    let _ = write!(out, ",\"problem\":{problem}");
                }
                out.write_str("}\n")
            }
        };
    }

    fn fields(&self, out: &mut String) {
        // Writing to a String can't fail.
        let _ =
            write!(out, "{} {} {} {} B {:.3} ms", self.method, self.path, self.status, self.bytes, self.milliseconds());
        let claimed = self.claimed();
        for (name, id) in caller_fields(&self.caller) {
            let _ = write!(out, " {claimed}{name}={id}");
        }
        if self.tries > 1 {
            let _ = write!(out, " tries={}", self.tries);
        }
        if self.coalesced {
            out.push_str(" shared");
        }
        if let Some(problem) = &self.problem {
            let _ = write!(out, " problem={problem:?}");
        }
    }

    /// What comes before the names of what the token tells.
    fn claimed(&self) -> &'static str {
        if self.accepted { "" } else { "claimed_" }
    }

    fn milliseconds(&self) -> f64 {
        self.began.elapsed().as_secs_f64() * 1000.0
    }
}

/// A text as JSON has it.
#[expect(clippy::disallowed_types, reason = "one text, to be written")]
fn json_text(text: &str) -> serde_json::Value {
    text.into()
}

fn caller_fields(caller: &Caller) -> impl Iterator<Item = (&'static str, u64)> {
    [("task", caller.task), ("node", caller.node), ("organization", caller.organization)]
        .into_iter()
        .filter_map(|(name, id)| Some((name, id?)))
}

impl Drop for Record {
    fn drop(&mut self) {
        self.shared.metrics.answered(self.status, self.began.elapsed(), self.bytes);
        self.shared.access.write(self);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests;

    /// Anybody can write a token that names somebody else.
    #[tokio::test]
    async fn what_no_server_has_accepted_is_claimed() {
        let shared = tests::shared();
        for (accepted, text, json) in [
            (false, " claimed_task=7 claimed_organization=2", r#","claimed_task":7,"claimed_organization":2"#),
            (true, " task=7 organization=2", r#","task":7,"organization":2"#),
        ] {
            let guard = shared.connections.enter([127, 0, 0, 1].into(), Instant::now()).unwrap();
            let mut record = Record::new(shared.clone(), Method::GET, "/task".into(), guard.begin_request());
            record.caller = Caller { task: Some(7), node: None, organization: Some(2) };
            record.accepted = accepted;
            for (format, expected) in [(LogFormat::Text, text), (LogFormat::Json, json)] {
                let mut line = String::new();
                record.line(format, &mut line);
                assert!(line.contains(expected), "{line}");
            }
        }
    }
}
