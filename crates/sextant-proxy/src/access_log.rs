//! Writes the access log: one line per request, after the last byte of the response, with the task that sent the request.
//!
//! Query strings are left out because they may contain anything. Claims of a token that the server has not accepted are marked as
//! claimed, because anybody can write a token.

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

/// The buffer is written when it is larger than this many bytes.
const GATHERED: usize = 32 * 1024;
/// The interval at which the buffer is written.
pub(crate) const AT_LEAST: Duration = Duration::from_millis(500);

/// The most characters shown of a request's method and path. Both come from the algorithm and may be as long as a request head.
const METHOD: usize = 20;
const PATH: usize = 500;

/// The destination of access log lines.
pub(crate) enum AccessLog {
    /// Standard output, buffered: a system call for each line would cost too much.
    Lines {
        format: LogFormat,
        /// Lines that are not written yet.
        buffer: Mutex<String>,
    },
    /// The node's log, at debug level.
    Node,
}

impl AccessLog {
    /// Creates a log that goes to standard output.
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

    /// Writes the buffer.
    pub fn flush(&self) {
        if let Self::Lines { buffer: gathered, .. } = self {
            write_out(&mut gathered.lock());
        }
    }
}

/// Write errors are ignored: the proxy continues to serve if nobody reads the log.
fn write_out(gathered: &mut String) {
    if !gathered.is_empty() {
        let mut out = io::stdout().lock();
        let _ = out.write_all(gathered.as_bytes()).and_then(|()| out.flush());
        gathered.clear();
    }
}

/// Everything that is logged about one request. It is written on drop: after the response, or when the caller has disconnected.
pub(crate) struct Record {
    shared: Arc<Shared>,
    began: Instant,
    method: String,
    path: String,
    pub caller: Caller,
    /// Whether the server has accepted the caller's token.
    pub accepted: bool,
    pub status: u16,
    pub tries: u32,
    pub coalesced: bool,
    bytes: u64,
    pub problem: Option<String>,
    /// Marks the request as in progress while this record exists.
    under_way: ActiveRequest<Caller>,
    body: Arc<AtomicBool>,
}

impl Record {
    /// Starts the record of a new request.
    pub fn new(shared: Arc<Shared>, method: Method, path: String, under_way: ActiveRequest<Caller>) -> Self {
        Self {
            shared,
            began: Instant::now(),
            method: excerpt_of(method.as_str(), METHOD),
            path: excerpt_of(&path, PATH),
            caller: Caller::default(),
            accepted: false,
            // nginx's status for a client that closed the connection before the answer.
            status: 499,
            tries: 0,
            coalesced: false,
            bytes: 0,
            problem: None,
            under_way,
            body: Arc::default(),
        }
    }

    /// Returns the connection of the request. It counts for the caller while the server accepts the caller's token.
    pub fn connection(&self) -> &ConnectionGuard<Caller> {
        self.under_way.connection()
    }

    /// Returns the caller and its address.
    pub fn client(&self) -> Client {
        Client { caller: self.caller, source: self.connection().address }
    }

    /// Becomes true once the request's body has been read to its end.
    pub fn body_ended(&self) -> &Arc<AtomicBool> {
        &self.body
    }

    /// Counts response bytes that were sent.
    pub fn sent(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }

    /// Notes that the response broke off.
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

    /// Returns the prefix for the names of token claims.
    fn claimed(&self) -> &'static str {
        if self.accepted { "" } else { "claimed_" }
    }

    fn milliseconds(&self) -> f64 {
        self.began.elapsed().as_secs_f64() * 1000.0
    }
}

/// Encodes a string as JSON.
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

    /// Anybody can write a token that names another caller.
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
