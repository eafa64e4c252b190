//! Live logs: what an algorithm prints reaches the server while it runs. One follower per run reads, masks and sends; it belongs to the run's
//! reconciler, and has ended before the final report, whose log replaces all that it has sent.
//!
//! An event that the server may or may not have, and what an earlier process has sent, are made up for by replacing the server's copy.

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

/// How many logs are followed at a time. The others wait: their researchers get the log at the end.
pub const FOLLOWED: usize = 64;
/// The shortest interval between two events of a run.
const INTERVAL: Duration = Duration::from_millis(500);
/// The same between two of all runs.
const SHARED_INTERVAL: Duration = Duration::from_millis(50);
/// The pause after an event or a request that did not get through.
const PAUSE: Duration = Duration::from_secs(5);
/// The pause after a server did not say whether it keeps live logs.
const VERSION_PAUSE: Duration = Duration::from_secs(60);
/// How many bytes a second are read of a log.
const RATE: f64 = 256.0 * 1024.0;
/// The same of what was there before this process.
const RATE_OF_OLD: f64 = 4.0 * 1024.0 * 1024.0;
/// What was there before is read when nothing more has come for so long.
const QUIET: Duration = Duration::from_secs(1);
/// It is taken to be read after so long.
const READ_WITHIN: Duration = Duration::from_secs(30);
/// How long a run's report waits for an event under way. The server adds an event to a log also after the report.
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
    /// Waits for this run's turn to send.
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

/// What the server has of the log when the follower begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtServer {
    /// Nothing: this process has just reported that the algorithm runs.
    Nothing,
    /// Whatever an earlier process has sent.
    Unknown,
}

/// Follows the log of a run until it is dropped.
pub struct Follower {
    /// Dropped to end it.
    stop: Option<oneshot::Sender<()>>,
    task: JoinSet<()>,
}

impl Follower {
    /// Begins.
    pub fn start(context: &Arc<Context>, run: &Run, mask: Arc<Mask>, at_server: AtServer) -> Self {
        let (stop, stopped) = oneshot::channel();
        let mut task = JoinSet::new();
        let of = LogOf { run: run.id, task: run.task.id, collaboration: run.task.collaboration };
        let context = context.clone();
        task.spawn(async move { follow(&context, of, mask, at_server, stopped).await });
        Self { stop: Some(stop), task }
    }

    /// Nothing more is sent, but for what is under way.
    pub fn stop(&mut self) {
        self.stop = None;
    }

    /// Whether it was stopped.
    pub fn is_stopped(&self) -> bool {
        self.stop.is_none()
    }

    /// Stops, and waits until the server has what is under way.
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

/// What came of an attempt to send.
enum Sent {
    Yes,
    /// This piece is to be sent again.
    No(String),
    /// The server's copy may be wrong.
    Unknown,
    /// The run has ended at the server.
    Over,
}

/// How far a log has been read.
enum Reading {
    /// What was there before this process; it ends when nothing more comes.
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
        // The server has what was under way, or has had time for it.
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
        // Another process may send its own meanwhile.
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
