//! The live connection: Socket.IO, with what is special about the server's namespace `/tasks`.
//!
//! ```text
//!   socketio::Events ──▶ ┌────────┐ ──▶ LiveEvents (typed)
//!                        │ keeper │     ping every 60 s
//!   socketio::Client ◀── └────────┘     another token when the server doesn't know who this is
//! ```
//! The server accepts every connection, also with a token that it can't use (`on_connect` in `server/websockets.py`):
//! then it sends `expired_token`, `invalid_token` or nothing at all, and the connection stays open, deaf. What tells a
//! good one is `sync`. So: no `sync` soon after the connection is made means to begin anew, with another token.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use http::{HeaderMap, header};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval_at, sleep_until},
};

use crate::{AccessToken, Client, Error, Incoming, Outgoing};

/// `PING_INTERVAL_SECONDS` in `common/globals.py`.
const PING: Duration = Duration::from_secs(60);
/// So many events may wait for the node. What comes then is dropped, and a `sync` takes its place.
const WAITING: usize = 256;

/// How to connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveOptions {
    /// Don't even try websockets: for proxies that accept them and then let nothing through.
    pub polling_only: bool,
    /// How long the server may take to say `sync`. A busy 4.5.5 can take seconds.
    pub identified_within: Duration,
    /// Between attempts to connect: at first, and at most.
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

/// What happens on the connection.
#[derive(Debug, Clone, PartialEq)]
pub enum LiveEvent {
    /// There is a connection. What counts is the [`Incoming::Sync`] that comes with it.
    Connected {
        /// By websocket, not by long polling.
        websocket: bool,
    },
    /// There is none, for this reason; attempts go on.
    Disconnected {
        /// For a log.
        reason: String,
    },
    /// The server says something.
    Incoming(Incoming),
}

/// Speaks on the connection. When the last clone is dropped, or [`LiveEvents`], the connection ends.
#[derive(Clone)]
pub struct Live {
    socket: socketio::Client,
}

/// What happens on the connection, in order. Never waits for its reader: if that is slow, events are lost, and a
/// [`Incoming::Sync`] says that there is more to look for.
pub struct LiveEvents {
    receiver: mpsc::Receiver<LiveEvent>,
}

/// What was to be told could not be told. Nothing is told later: the REST API has what counts.
#[derive(Debug, Clone, thiserror::Error)]
#[error("'{event}' was not sent to the server: {cause}")]
pub struct NotSent {
    event: &'static str,
    cause: String,
}

impl Live {
    /// Tells the server something; only if it is connected now.
    pub async fn send(&self, event: &Outgoing) -> Result<(), NotSent> {
        let (name, data) = event.to_event();
        let sent = match data {
            Some(data) => self.socket.emit(name, data).await,
            None => self.socket.emit(name, ()).await,
        };
        sent.map_err(|cause| NotSent { event: name, cause: cause.to_string() })
    }

    /// Whether there is a connection at this moment.
    pub fn is_connected(&self) -> bool {
        self.socket.is_connected()
    }

    /// Says goodbye, so that the server knows at once that the node is offline.
    pub async fn close(self) {
        self.socket.shutdown().await;
    }
}

impl LiveEvents {
    /// The next event; `None` when the connection was closed from this side.
    pub async fn recv(&mut self) -> Option<LiveEvent> {
        self.receiver.recv().await
    }
}

/// Connects, and stays connected, until either of the two is dropped. Has to be called within a Tokio runtime.
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
                *in_use.lock().unwrap_or_else(PoisonError::into_inner) = Some(token);
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
        .reconnect_delay(options.reconnect.0, options.reconnect.1)
        .connect()
        .map_err(|error| Error::Setup(format!("the live connection: {error}")))?;
    let (sender, receiver) = mpsc::channel(WAITING);
    let keeper = Keeper {
        client: client.clone(),
        socket: socket.clone(),
        in_use,
        to: Outlet { sender, lost: false },
        identified_within: options.identified_within,
    };
    tokio::spawn(keeper.run(events));
    Ok((Live { socket }, LiveEvents { receiver }))
}

/// The way to the reader.
struct Outlet {
    sender: mpsc::Sender<LiveEvent>,
    lost: bool,
}

impl Outlet {
    fn put(&mut self, event: LiveEvent) {
        if self.lost {
            return self.make_up();
        }
        if self.sender.try_send(event).is_err() {
            self.lost = true;
        }
    }

    /// Once there is room again.
    fn make_up(&mut self) {
        if self.lost && self.sender.try_send(LiveEvent::Incoming(Incoming::Sync)).is_ok() {
            self.lost = false;
        }
    }
}

struct Keeper {
    client: Client,
    socket: socketio::Client,
    in_use: Arc<Mutex<Option<AccessToken>>>,
    to: Outlet,
    identified_within: Duration,
}

impl Keeper {
    async fn run(mut self, mut events: socketio::Events) {
        let mut ping = interval_at(Instant::now() + PING, PING);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // When the server has to have said `sync`, while it hasn't.
        let mut deadline: Option<Instant> = None;
        let closed = self.to.sender.clone();
        loop {
            tokio::select! {
                () = closed.closed() => break,
                event = events.recv() => match event {
                    None => break,
                    Some(socketio::Event::Connected { transport, .. }) => {
                        deadline = Some(Instant::now() + self.identified_within);
                        ping.reset();
                        self.to.put(LiveEvent::Connected { websocket: matches!(transport, socketio::Transport::WebSocket) });
                    }
                    Some(socketio::Event::Disconnected { reason }) => {
                        deadline = None;
                        self.to.put(LiveEvent::Disconnected { reason: reason.to_string() });
                    }
                    Some(socketio::Event::ConnectFailed { error, .. }) => {
                        self.to.put(LiveEvent::Disconnected { reason: error.to_string() });
                    }
                    Some(socketio::Event::Message(message)) => {
                        let incoming = Incoming::from_event(&message.event, &message.args);
                        match &incoming {
                            Incoming::Sync => deadline = None,
                            Incoming::ExpiredToken | Incoming::InvalidToken => {
                                deadline = None;
                                self.begin_anew(&format!("the server says {}", message.event));
                            }
                            _ => {}
                        }
                        self.to.put(LiveEvent::Incoming(incoming));
                    }
                    Some(_) => {}
                },
                _ = ping.tick() => {
                    self.to.make_up();
                    if self.socket.is_connected() && let Err(error) = self.socket.emit("ping", ()).await {
                        tracing::debug!(%error, "could not ping the server");
                    }
                }
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                    deadline = None;
                    self.begin_anew(&format!("the server has not sent 'sync' within {:?} of the connection", self.identified_within));
                }
            }
        }
    }

    fn begin_anew(&self, why: &str) {
        tracing::warn!("{why}: connecting again with another access token");
        if let Some(token) = self.in_use.lock().unwrap_or_else(PoisonError::into_inner).take() {
            self.client.token_refused(&token);
        }
        self.socket.reconnect();
    }
}
