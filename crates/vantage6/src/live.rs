//! The live connection: Socket.IO, with the peculiarities of the server's namespace `/tasks`.
//!
//! ```text
//!   socketio::Events ──▶ ┌────────┐ ──▶ LiveEvents (typed)
//!                        │  task  │     ping every 60 s
//!   socketio::Client ◀── └────────┘     another token when the server doesn't know who this is
//! ```
//! The server accepts every connection, even with an unusable token (`on_connect` in `server/websockets.py`). Then it sends
//! `expired_token`, `invalid_token` or nothing at all, and the connection stays open without events. A good connection gets `sync`. So if
//! no `sync` arrives soon after connecting, the client reconnects with another token.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, header};
use log_throttle::LogThrottle;
use parking_lot::Mutex;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout},
};

use crate::{AccessToken, Client, Delivery, Error, Incoming, Outgoing};

/// `PING_INTERVAL_SECONDS` in `common/globals.py`.
const PING_INTERVAL: Duration = Duration::from_secs(60);
/// The largest number of queued events, and of their bytes. Further events are dropped and replaced by [`Incoming::Missed`].
const MAX_QUEUED: usize = 256;
const MAX_QUEUED_BYTES: u32 = 1024 * 1024;
/// How many characters of the reason for a disconnection are reported.
const MAX_REASON: usize = 1000;
/// The largest event that is read. The events that a node understands have at most a few thousand bytes, except `kill_containers` with a
/// list of thousands of runs, which the server also shows as killed. Larger events are skipped, so that other users of the server can
/// cost the node neither memory nor the connection.
const MAX_EVENT: usize = 256 * 1024;
/// How long sending a ping may take.
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// How to connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveOptions {
    /// Don't try websockets, for proxies that accept them and then block their traffic.
    pub polling_only: bool,
    /// How long the server may take to send `sync`. A busy 4.5.5 server can take seconds.
    pub identified_within: Duration,
    /// The first and the longest pause between attempts to connect.
    pub reconnect: (Duration, Duration),
}

impl Default for LiveOptions {
    fn default() -> Self {
        Self {
            polling_only: false,
            identified_within: Duration::from_secs(30),
            reconnect: (Duration::from_secs(1), Duration::from_secs(10)),
        }
    }
}

/// An event of the connection.
#[derive(Debug, Clone, PartialEq)]
pub enum LiveEvent {
    /// The connection is established. The node is online only after the [`Incoming::Sync`] that follows.
    Connected {
        /// Whether the transport is a websocket rather than long polling.
        websocket: bool,
    },
    /// The connection is lost or could not be made. The client keeps trying.
    Disconnected {
        /// The reason, for a log.
        reason: String,
    },
    /// The server has sent an event.
    Incoming(Incoming),
}

/// Sends on the connection. The connection ends when the last clone or [`LiveEvents`] is dropped.
#[derive(Clone)]
pub struct Live {
    socket: socketio::Client,
}

/// The events of the connection, in order. The connection never waits for the reader: if that is slow, events are dropped, and
/// [`Incoming::Missed`] tells it to look for more work. Changes of the connection's state are never lost.
pub struct LiveEvents {
    receiver: mpsc::Receiver<QueuedEvent>,
}

/// An event with the permit for its bytes in the queue.
type QueuedEvent = (LiveEvent, Option<OwnedSemaphorePermit>);

/// An event could not be sent. It is not sent later, because the REST API is authoritative.
#[derive(Debug, Clone, thiserror::Error)]
#[error("'{event}' was not sent to the server: {cause}")]
pub struct SendError {
    event: &'static str,
    cause: String,
}

impl Live {
    /// Sends an event if there is a connection now.
    pub async fn send(&self, event: &Outgoing) -> Result<(), SendError> {
        let (name, data) = event.to_event();
        let sent = match data {
            Some(data) => self.socket.emit(name, data).await,
            None => self.socket.emit(name, ()).await,
        };
        sent.map_err(|cause| SendError { event: name, cause: cause.to_string() })
    }

    /// Sends an event, and waits for up to `limit` for the server's acknowledgement. Without one, the event counts as delivered.
    ///
    /// # Errors
    /// If there is no connection, or it was lost: whether the server may have the event nevertheless.
    pub async fn send_with_ack(&self, event: &Outgoing, limit: Duration) -> Result<(), Delivery> {
        if !self.socket.is_connected() {
            return Err(Delivery::NotSent);
        }
        let (name, data) = event.to_event();
        match self.socket.emit_with_ack(name, data.unwrap_or_default(), limit).await {
            Ok(_) | Err(socketio::EmitError::NoAck(_)) => Ok(()),
            Err(socketio::EmitError::TooLarge { .. } | socketio::EmitError::TooManyPending) => Err(Delivery::NotSent),
            Err(_) => Err(Delivery::Unknown),
        }
    }

    /// Whether there is a connection now.
    pub fn is_connected(&self) -> bool {
        self.socket.is_connected()
    }

    /// Closes the connection properly, so that the server knows at once that the node is offline.
    pub async fn close(self) {
        self.socket.shutdown().await;
    }
}

impl LiveEvents {
    /// The next event; `None` if the connection was closed from this side.
    pub async fn recv(&mut self) -> Option<LiveEvent> {
        self.receiver.recv().await.map(|(event, _)| event)
    }
}

/// Connects and stays connected until either of the two is dropped. Must be called within a Tokio runtime.
pub fn connect(client: &Client, options: LiveOptions) -> Result<(Live, LiveEvents), Error> {
    let in_use: Arc<Mutex<Option<AccessToken>>> = Arc::default();
    let headers = {
        let (client, in_use) = (client.clone(), Arc::clone(&in_use));
        move || {
            let (client, in_use) = (client.clone(), Arc::clone(&in_use));
            async move {
                let token = client.access_token().await?;
                let mut headers = HeaderMap::new();
                headers.insert(header::AUTHORIZATION, token.header()?);
                *in_use.lock() = Some(token);
                Ok::<_, socketio::BoxError>(headers)
            }
        }
    };
    let (socket, events) = socketio::Client::builder(client.url().socket_io().as_str())
        .namespace("/tasks")
        .headers(headers)
        .http(client.http_builder())
        .transports(if options.polling_only {
            socketio::Transports::PollingOnly
        } else {
            socketio::Transports::Upgrade
        })
        .max_event(MAX_EVENT)
        .reconnect_delay(options.reconnect.0, options.reconnect.1)
        .connect()
        .map_err(|error| Error::Setup(format!("the live connection: {error}")))?;
    let (to, receiver) = EventQueue::new();
    let task = LiveTask {
        client: client.clone(),
        socket: socket.clone(),
        in_use,
        to,
        reconnects: LogThrottle::new(),
        identified_within: options.identified_within,
    };
    tokio::spawn(task.run(events));
    Ok((Live { socket }, LiveEvents { receiver }))
}

/// The queue to the reader.
struct EventQueue {
    sender: mpsc::Sender<QueuedEvent>,
    bytes: Arc<Semaphore>,
    /// What did not fit: the last state of the connection, and whether events were dropped.
    state: Option<LiveEvent>,
    missed: bool,
}

impl EventQueue {
    fn new() -> (Self, mpsc::Receiver<QueuedEvent>) {
        let (sender, receiver) = mpsc::channel(MAX_QUEUED);
        (
            Self { sender, bytes: Arc::new(Semaphore::new(MAX_QUEUED_BYTES as usize)), state: None, missed: false },
            receiver,
        )
    }

    fn has_unsent(&self) -> bool {
        self.missed || self.state.is_some()
    }

    fn push(&mut self, event: LiveEvent) {
        self.send_unsent();
        if self.has_unsent() || !self.try_push(&event) {
            match event {
                // `Sync` also shows that the connection works.
                LiveEvent::Connected { .. } | LiveEvent::Disconnected { .. } | LiveEvent::Incoming(Incoming::Sync) => {
                    self.state = Some(event);
                }
                LiveEvent::Incoming(incoming) => self.missed |= incoming.means_work(),
            }
        }
    }

    /// Queues an event. Returns whether it fit.
    fn try_push(&self, event: &LiveEvent) -> bool {
        let weight = match event {
            LiveEvent::Incoming(incoming) => incoming.weight(),
            LiveEvent::Disconnected { reason } => reason.len(),
            LiveEvent::Connected { .. } => 0,
        };
        let Ok(weight) = u32::try_from(weight) else { return false };
        let Ok(part) = self.bytes.clone().try_acquire_many_owned(weight) else { return false };
        self.sender.try_send((event.clone(), Some(part))).is_ok()
    }

    /// Queues what did not fit, once the reader has emptied the queue, so that one poll makes up for all missed events.
    fn send_unsent(&mut self) {
        if self.bytes.available_permits() < MAX_QUEUED_BYTES as usize {
            return;
        }
        if let Some(state) = &self.state {
            if !self.try_push(state) {
                return;
            }
            self.state = None;
        }
        if self.missed && self.try_push(&LiveEvent::Incoming(Incoming::Missed)) {
            self.missed = false;
        }
    }
}

fn disconnected(reason: &str) -> LiveEvent {
    LiveEvent::Disconnected { reason: reason.chars().take(MAX_REASON).collect() }
}

/// Why the connection failed, with advice if the response is not the server's.
fn not_connected(error: &socketio::Error, client: &Client) -> String {
    let forward = || {
        let url = client.url().socket_io();
        format!(
            "The live connection goes to {url}, at the root of the host, also where the API has a path of its own: \
             anything in front of the server must forward that address to it, including all paths below it, its \
             query and its websockets"
        )
    };
    match error {
        // 400 is the server's own. 502 to 504 mean that the route works but the server does not.
        socketio::Error::Status { status, .. } if is_not_forwarded(*status) => format!("{error}. {}", forward()),
        // A page of another service, such as the user interface.
        socketio::Error::Packet(_) | socketio::Error::Protocol(_) => format!("{error}. {}", forward()),
        socketio::Error::Http { .. } => {
            let through = client.http_proxy().map(|proxy| format!("through the {proxy}: ")).unwrap_or_default();
            // The server may just close the connection rather than send an alert.
            let asked = if client.client_certificate_requested() && !error.to_string().contains("client certificate") {
                "; the server asks for a client certificate (mutual TLS), and a node has none"
            } else {
                ""
            };
            format!("{through}{error}{asked}")
        }
        _ => error.to_string(),
    }
}

/// Whether a proxy responds with this status for an address that it does not forward: not found, redirect, unsupported or login required.
fn is_not_forwarded(status: u16) -> bool {
    matches!(status, 200..=399 | 401 | 403 | 404 | 405 | 406 | 410 | 411 | 415 | 421 | 426 | 501)
}

struct LiveTask {
    client: Client,
    socket: socketio::Client,
    in_use: Arc<Mutex<Option<AccessToken>>>,
    to: EventQueue,
    identified_within: Duration,
    reconnects: LogThrottle,
}

impl LiveTask {
    async fn run(mut self, mut events: socketio::Events) {
        let mut ping = interval_at(Instant::now() + PING_INTERVAL, PING_INTERVAL);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // When `sync` must have arrived, while it has not.
        let mut deadline: Option<Instant> = None;
        let (closed, bytes) = (self.to.sender.clone(), self.to.bytes.clone());
        loop {
            tokio::select! {
                () = closed.closed() => break,
                Ok(all) = bytes.acquire_many(MAX_QUEUED_BYTES), if self.to.has_unsent() => {
                    drop(all);
                    self.to.send_unsent();
                }
                event = events.recv() => match event {
                    None => break,
                    Some(socketio::Event::Connected { transport, .. }) => {
                        deadline = Some(Instant::now() + self.identified_within);
                        ping.reset();
                        self.to.push(LiveEvent::Connected { websocket: matches!(transport, socketio::Transport::WebSocket) });
                    }
                    Some(socketio::Event::Disconnected { reason }) => {
                        deadline = None;
                        self.to.push(disconnected(&reason.to_string()));
                    }
                    Some(socketio::Event::ConnectFailed { error, .. }) => {
                        self.to.push(disconnected(&not_connected(&error, &self.client)));
                    }
                    Some(socketio::Event::Message(message)) => {
                        let incoming = Incoming::from_event(&message.event, &message.args);
                        match &incoming {
                            Incoming::Sync => deadline = None,
                            Incoming::ExpiredToken | Incoming::InvalidToken => {
                                deadline = None;
                                self.reconnect(&format!("the server says {}", message.event));
                            }
                            _ => {}
                        }
                        self.to.push(LiveEvent::Incoming(incoming));
                    }
                    Some(socketio::Event::LeftOut { event: Some(name) }) => {
                        self.to.push(LiveEvent::Incoming(Incoming::unread(&name)));
                    }
                    // Too many events arrived before the connection was established. The server sends events only after `sync`, so it was
                    // among them.
                    Some(socketio::Event::LeftOut { event: None }) => {
                        deadline = None;
                        self.to.push(LiveEvent::Incoming(Incoming::Sync));
                    }
                    Some(_) => {}
                },
                _ = ping.tick() => {
                    if self.socket.is_connected() {
                        let sent = timeout(PING_TIMEOUT, self.socket.emit("ping", ())).await;
                        tracing::debug!(?sent, "Ping");
                    }
                }
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                    deadline = None;
                    self.reconnect(&format!("the server has not sent 'sync' within {:?} of the connection", self.identified_within));
                }
            }
        }
    }

    fn reconnect(&self, why: &str) {
        if let Some(times) = self.reconnects.happened() {
            tracing::warn!(times, "Reconnecting with another access token: {why}");
        }
        if let Some(token) = self.in_use.lock().take() {
            self.client.invalidate_token(&token);
        }
        self.socket.reconnect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CollaborationId, Kill, KillContainers, RunId, TaskId};

    fn task(id: u64) -> LiveEvent {
        LiveEvent::Incoming(Incoming::NewTask { id: TaskId(id), parent_id: None })
    }

    fn kill(runs: usize) -> LiveEvent {
        let kill = Kill { task_id: None, run_id: RunId(1), organization_id: None };
        let kill_list = Some(vec![kill; runs]);
        let collaboration_id = CollaborationId(1);
        LiveEvent::Incoming(Incoming::KillContainers(KillContainers { collaboration_id, node_id: None, kill_list }))
    }

    #[test]
    fn what_is_in_front_of_the_server_is_told_what_to_forward() {
        let url = crate::ServerUrl::new("https://v6.example/hub", Some(5000), "/api").unwrap();
        let client = Client::builder(url, "key".to_owned().into())
            .http_proxies(outbound::HttpProxies::default())
            .build()
            .unwrap();
        let status = |status| socketio::Error::Status { what: "a poll", status, body: "<html>".into() };
        for (error, is_told) in [
            (status(404), true),
            (status(301), true),
            (status(403), true),
            (status(405), true),
            (status(501), true),
            (socketio::Error::Protocol("a connection must begin with an open packet"), true),
            (status(400), false),
            (status(502), false),
            (status(503), false),
            (socketio::Error::ClosedByServer, false),
        ] {
            let words = not_connected(&error, &client);
            assert_eq!(
                words.contains("https://v6.example:5000/socket.io, at the root of the host"),
                is_told,
                "{words}"
            );
            assert!(words.starts_with(&error.to_string()), "{words}");
        }
    }

    fn all(receiver: &mut mpsc::Receiver<QueuedEvent>) -> Vec<LiveEvent> {
        std::iter::from_fn(|| receiver.try_recv().ok()).map(|(event, _)| event).collect()
    }

    #[test]
    fn dropped_events_are_made_up_for() {
        let missed = LiveEvent::Incoming(Incoming::Missed);
        let sync = LiveEvent::Incoming(Incoming::Sync);
        let (mut to, mut events) = EventQueue::new();
        for id in 0..100_000 {
            to.push(task(id));
        }
        assert_eq!(all(&mut events).len(), MAX_QUEUED);
        to.push(task(7));
        assert_eq!(all(&mut events), [missed.clone(), task(7)]);

        // The limit of bytes applies too, and the last state of the connection is kept.
        for _ in 0..100 {
            to.push(kill(5000));
        }
        let offline = LiveEvent::Disconnected { reason: "x".repeat(MAX_QUEUED_BYTES as usize) };
        to.push(offline);
        to.push(LiveEvent::Connected { websocket: true });
        to.push(sync.clone());
        assert!(to.has_unsent());
        assert!(all(&mut events).len() <= MAX_QUEUED_BYTES as usize / 5000 / size_of::<Kill>());
        to.send_unsent();
        assert_eq!(all(&mut events), [sync, missed]);
        assert!(!to.has_unsent());
        to.push(task(8));
        assert_eq!(all(&mut events), [task(8)]);
        // Dropped events that mean no work cause no poll: others can send any number of them.
        for _ in 0..2 * MAX_QUEUED {
            to.push(LiveEvent::Incoming(Incoming::Message("x".into())));
        }
        assert!(!to.has_unsent() && all(&mut events).len() == MAX_QUEUED);
        // An event larger than the whole queue counts as missed too.
        to.push(kill(MAX_QUEUED_BYTES as usize));
        assert!(to.has_unsent());
    }
}
