//! Live logs: sends an algorithm's output to the server while it runs. One follower per run reads, masks and sends. It belongs to the
//! run's reconciler and ends before the final report, whose log replaces everything that it sent.
//!
//! After an event that the server may have missed, or if an earlier process has sent a part, the follower replaces the server's copy.

use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, Fuse, FutureExt as _, OptionFuture};
use futures::stream::StreamExt as _;
use jiff::Timestamp;
use parking_lot::Mutex;
use sextant_core::hub::{Delivery, LogOf, Run};
use sextant_core::live_backlog::{Backlog, Next};
use sextant_core::live_text::LiveText;
use sextant_core::mask::Mask;
use sextant_core::runtime::LogPart;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::debug;

use super::Context;

/// The number of logs that are followed concurrently. Researchers get the other logs at the end of the run.
pub const FOLLOWED: usize = 64;
/// The shortest interval between two events of one run.
const INTERVAL: Duration = Duration::from_millis(500);
/// The shortest interval between two events of all runs.
const SHARED_INTERVAL: Duration = Duration::from_millis(50);
/// The pause after a failed event or request.
const PAUSE: Duration = Duration::from_secs(5);
/// The pause after the server did not say whether it supports live logs.
const VERSION_PAUSE: Duration = Duration::from_secs(60);
/// How many bytes of a log are read per second.
const RATE: f64 = 256.0 * 1024.0;
/// The same for log lines from before this process.
const RATE_OF_OLD: f64 = 4.0 * 1024.0 * 1024.0;
/// Lines from before this process have all been read when nothing arrives for this time.
const QUIET: Duration = Duration::from_secs(1);
/// After this time, they count as read in any case.
const READ_WITHIN: Duration = Duration::from_secs(30);
/// How long the final report waits for an event in flight. The server appends an event to the log even after the report.
const END_WITHIN: Duration = Duration::from_secs(5);

/// What all followers share.
#[derive(Debug)]
pub struct LiveLogs {
    followed: Arc<Semaphore>,
    next: Mutex<Instant>,
}

impl Default for LiveLogs {
    fn default() -> Self {
        Self { followed: Arc::new(Semaphore::new(FOLLOWED)), next: Mutex::new(Instant::now()) }
    }
}

impl LiveLogs {
    /// Waits until this run may send, in line with the shared interval.
    async fn turn(&self) {
        let turn = {
            let mut next = self.next.lock();
            let turn = (*next).max(Instant::now());
            *next = turn + SHARED_INTERVAL;
            turn
        };
        sleep_until(turn).await;
    }
}

/// What the server has of the log when a follower starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtServer {
    /// Nothing: this process has just reported that the run is active.
    Nothing,
    /// An unknown part, sent by an earlier process.
    Unknown,
}

/// Follows the log of a run. Dropping it cancels the follower.
pub struct Follower {
    /// Dropping the sender stops the follower.
    stop: Option<oneshot::Sender<()>>,
    task: JoinSet<()>,
}

impl Follower {
    /// Starts following a log.
    pub fn start(context: &Arc<Context>, run: &Run, mask: Arc<Mask>, at_server: AtServer) -> Self {
        let (stop, stopped) = oneshot::channel();
        let mut task = JoinSet::new();
        let of = LogOf { run: run.id, task: run.task.id, collaboration: run.task.collaboration };
        let context = context.clone();
        task.spawn(async move { follow(&context, of, mask, at_server, stopped).await });
        Self { stop: Some(stop), task }
    }

    /// Stops sending, except for an event in flight.
    pub fn stop(&mut self) {
        self.stop = None;
    }

    /// Whether it was stopped.
    pub fn is_stopped(&self) -> bool {
        self.stop.is_none()
    }

    /// Stops, and waits until an event in flight has been sent.
    pub async fn end(mut self) {
        self.stop();
        if timeout(END_WITHIN, self.task.join_next()).await.is_err() {
            debug!("A live log did not end in time: the server does not answer");
        }
    }
}

async fn follow(context: &Context, of: LogOf, mask: Arc<Mask>, at_server: AtServer, stopped: oneshot::Receiver<()>) {
    let mut stopped = stopped.fuse();
    let begin = async {
        let permit = context.live_logs.followed.clone().acquire_owned().await.ok()?;
        loop {
            match context.hub.has_live_logs().await {
                Ok(true) => return Some(permit),
                Ok(false) => return None,
                Err(error) => debug!(run = %of.run, "The server does not say whether it keeps live logs: {error}"),
            }
            sleep(VERSION_PAUSE).await;
        }
    };
    let _permit = tokio::select! {
        _ = &mut stopped => return,
        permit = begin => match permit {
            Some(permit) => permit,
            None => return,
        },
    };
    let state = State::new(mask, at_server);
    state.run(context, of, stopped).await;
}

/// The outcome of an attempt to send.
enum Sent {
    Yes,
    /// The text must be sent again.
    No(String),
    /// The server's copy may be wrong.
    Unknown,
    /// The run has ended at the server.
    Over,
}

/// Which part of a log is being read.
enum Reading {
    /// Lines from before this process. This part ends when no more lines arrive.
    Old {
        began: Timestamp,
        until: Instant,
        quiet_at: Instant,
    },
    New,
}

struct State {
    mask: Arc<Mask>,
    text: LiveText,
    backlog: Backlog,
    reading: Reading,
    read_at: Instant,
    send_at: Instant,
}

impl State {
    fn new(mask: Arc<Mask>, at_server: AtServer) -> Self {
        let now = Instant::now();
        let reading = match at_server {
            AtServer::Nothing => Reading::New,
            AtServer::Unknown => {
                Reading::Old { began: Timestamp::now(), until: now + READ_WITHIN, quiet_at: now + QUIET }
            }
        };
        let text = LiveText::new(mask.clone());
        Self { mask, text, backlog: Backlog::default(), reading, read_at: now, send_at: now }
    }

    async fn run(mut self, context: &Context, of: LogOf, mut stopped: Fuse<oneshot::Receiver<()>>) {
        let mut log = context.runtime.follow_log(of.run).fuse();
        let mut sending: Option<BoxFuture<'_, Sent>> = None;
        loop {
            let may_send = sending.is_none() && matches!(self.reading, Reading::New) && self.backlog.has_next();
            if may_send
                && Instant::now() >= self.send_at
                && let Some(next) = self.backlog.take()
            {
                self.send_at = Instant::now() + INTERVAL;
                sending = Some(send(context, of, next).boxed());
                continue;
            }
            let (read_at, send_at, old_until) = (self.read_at, self.send_at, self.old_until());
            tokio::select! {
                biased;
                _ = &mut stopped => break,
                Some(sent) = OptionFuture::from(sending.as_mut()) => {
                    sending = None;
                    match sent {
                        Sent::Yes => {}
                        Sent::Over => return,
                        Sent::No(piece) => {
                            self.backlog.returned(&piece);
                            self.send_at = Instant::now() + PAUSE;
                        }
                        Sent::Unknown => {
                            self.backlog.replace();
                            self.send_at = Instant::now() + PAUSE;
                        }
                    }
                }
                () = sleep_until(send_at), if may_send => {}
                Some(part) = async { sleep_until(read_at).await; log.next().await } => self.read(&part),
                () = sleep_until(old_until.unwrap_or(read_at)), if old_until.is_some() => self.old_is_read(),
            }
        }
        // Wait until the server has the event in flight, or has had time for it.
        if let Some(sending) = sending {
            sending.await;
        }
    }

    fn read(&mut self, part: &LogPart) {
        let LogPart { bytes, at, after_gap } = part;
        if *after_gap {
            self.text = LiveText::after_gap(self.mask.clone());
            self.backlog.gap();
        }
        let piece = self.text.push(bytes);
        if piece.after_gap {
            self.backlog.gap();
        }
        self.backlog.push(&piece.text);
        let now = Instant::now();
        let rate = match &mut self.reading {
            Reading::Old { began, .. } if at.is_some_and(|at| at >= *began) => {
                self.old_is_read();
                RATE
            }
            Reading::Old { quiet_at, .. } => {
                *quiet_at = now + QUIET;
                RATE_OF_OLD
            }
            Reading::New => RATE,
        };
        self.read_at = self.read_at.max(now) + Duration::from_secs_f64(bytes.len() as f64 / rate);
    }

    fn old_until(&self) -> Option<Instant> {
        match self.reading {
            Reading::Old { until, quiet_at, .. } => Some(until.min(quiet_at)),
            Reading::New => None,
        }
    }

    fn old_is_read(&mut self) {
        self.reading = Reading::New;
        self.backlog.replace();
    }
}

async fn send(context: &Context, of: LogOf, next: Next) -> Sent {
    context.live_logs.turn().await;
    if !context.leadership.is_leader() {
        // Another process may have sent its own part meanwhile.
        context.leadership.wait_until_leader().await;
        return Sent::Unknown;
    }
    match next {
        Next::Piece(text) => match context.hub.append_log(of, &text).await {
            Ok(()) => Sent::Yes,
            Err(Delivery::NotSent) => Sent::No(text),
            Err(Delivery::Unknown) => Sent::Unknown,
        },
        Next::Whole(text) => match context.hub.replace_log(of.run, &text).await {
            Ok(()) => Sent::Yes,
            Err(error) if error.is_over() => Sent::Over,
            Err(error) => {
                debug!(run = %of.run, "The live log could not be replaced: {error}");
                Sent::Unknown
            }
        },
    }
}
