//! Access to the cluster while its credentials are renewed. All callers share one [`Client`], whose requests go through [`Access`]. It
//! uses the credentials that were read last. It reloads them when one of their files changes, before they expire, and when the API server
//! rejects them. A request that was rejected with the old credentials is sent again with the new ones.

mod plugin;
mod source;
mod stamps;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use jiff::{SignedDuration, Timestamp};
use kube::Client;
use kube::client::Body;
use log_throttle::LogThrottle;
use parking_lot::{Mutex, MutexGuard};
use tracing::{error, info, warn};

use self::source::Read;
pub use self::source::Source;
use self::stamps::Stamps;

/// How often credentials are read.
#[derive(Debug, Clone, Copy)]
struct Pace {
    /// How often the files' stamps are checked.
    look: Duration,
    /// The pause after a reload that failed or found nothing new.
    again: Duration,
}

const PACE: Pace = Pace { look: Duration::from_secs(1), again: Duration::from_secs(10) };
/// How long before they expire credentials are renewed.
const MARGIN: SignedDuration = SignedDuration::from_secs(30);
/// The timeout for establishing a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a connection may be silent before it is closed. It also applies to idle connections in the pool, so that one that died
/// unnoticed (a firewall dropped it) does not delay a call. It is longer than a watch is ever silent ([`super::watch`]).
const SILENCE: Duration = Duration::from_secs(30);

/// Access to the cluster.
pub struct Access {
    source: Source,
    pace: Pace,
    state: Mutex<State>,
    /// Locked while the source is read.
    reading: tokio::sync::Mutex<()>,
    still_wrong: LogThrottle,
}

struct State {
    client: Client,
    cluster: kube::Config,
    digest: Vec<u8>,
    /// Increases with each new client.
    generation: u64,
    files: Stamps,
    ends: Option<Timestamp>,
    /// When the files were last checked. `read` is when the source was last read.
    looked: Instant,
    read: Instant,
    /// The last error of the source, if it has not been resolved.
    wrong: Option<String>,
    acceptance: Acceptance,
}

/// When to read the source again.
enum Due {
    No,
    Soon,
    Now,
}

/// Whether the API server accepts the credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Acceptance {
    /// Not known yet; the first caller logs the answer.
    Unknown,
    Accepted,
    Refused,
}

impl Access {
    /// Reads the source once.
    ///
    /// # Errors
    /// What is wrong with the source.
    pub async fn open(source: Source) -> Result<Arc<Self>, String> {
        Self::at(PACE, source).await
    }

    async fn at(pace: Pace, source: Source) -> Result<Arc<Self>, String> {
        let read = source.read().await?;
        let (client, cluster) = client(&read)?;
        let state = State {
            client,
            cluster,
            digest: read.digest,
            generation: 0,
            files: read.files,
            ends: read.ends,
            looked: Instant::now(),
            read: Instant::now(),
            wrong: None,
            acceptance: Acceptance::Unknown,
        };
        Ok(Arc::new(Self {
            source,
            pace,
            state: Mutex::new(state),
            reading: tokio::sync::Mutex::new(()),
            still_wrong: LogThrottle::new(),
        }))
    }

    /// The shared client.
    pub fn client(self: &Arc<Self>) -> Client {
        let namespace = self.state().cluster.default_namespace.clone();
        let access = self.clone();
        Client::new(tower::service_fn(move |request| access.clone().send(request)), namespace)
    }

    /// The source of the credentials.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// The API server's address.
    pub fn address(&self) -> http::Uri {
        self.state().cluster.cluster_url.clone()
    }

    async fn send(self: Arc<Self>, request: Request<Body>) -> Result<Response<Body>, kube::Error> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        self.keep_fresh().await;
        let (client, generation) = self.current();
        let answer = client.send(Request::from_parts(parts.clone(), Body::from(body.clone()))).await?;
        if answer.status() != StatusCode::UNAUTHORIZED || !self.renewed(generation).await {
            self.heard(answer.status());
            return Ok(answer);
        }
        // A rejected request had no effect, so it can be sent again.
        let answer = self.current().0.send(Request::from_parts(parts, Body::from(body))).await?;
        self.heard(answer.status());
        Ok(answer)
    }

    fn current(&self) -> (Client, u64) {
        let state = self.state();
        (state.client.clone(), state.generation)
    }

    /// Logs once when the credentials are no longer accepted, and once when they are accepted again.
    fn heard(&self, status: StatusCode) {
        let mut state = self.state();
        let before = state.acceptance;
        state.acceptance = match before {
            Acceptance::Accepted if status == StatusCode::UNAUTHORIZED => Acceptance::Refused,
            _ if status == StatusCode::UNAUTHORIZED || status.is_server_error() => before,
            _ => Acceptance::Accepted,
        };
        let address = &state.cluster.cluster_url;
        match (before, state.acceptance) {
            (Acceptance::Accepted, Acceptance::Refused) => error!(
                "The cluster at {address} does not accept the credentials of {}. Renew them there; this node reloads them by itself.",
                self.source
            ),
            (Acceptance::Refused, Acceptance::Accepted) => {
                info!("The cluster at {address} accepts the credentials of {} again.", self.source);
            }
            _ => {}
        }
    }

    /// Reads the source if its files have changed or its credentials are about to expire. It waits for the result only if it must, since an
    /// exec plugin may take longer than the request may.
    async fn keep_fresh(self: &Arc<Self>) {
        match self.due() {
            Due::No => {}
            Due::Soon => drop(self.read_apart(None)),
            Due::Now => {
                let _ = self.read_apart(None).await;
            }
        }
    }

    fn due(&self) -> Due {
        let mut state = self.state();
        if state.looked.elapsed() < self.pace.look {
            return Due::No;
        }
        state.looked = Instant::now();
        if state.files.now() != state.files {
            return Due::Now;
        }
        let ends_before = |time: Timestamp| state.ends.is_some_and(|ends| ends <= time);
        let now = Timestamp::now();
        match state.read.elapsed() >= self.pace.again {
            true if ends_before(now) => Due::Now,
            true if ends_before(now + MARGIN) || state.wrong.is_some() => Due::Soon,
            _ => Due::No,
        }
    }

    /// Whether there are newer credentials than the rejected ones.
    async fn renewed(self: &Arc<Self>, refused: u64) -> bool {
        // The task fails only if the process ends.
        let _ = self.read_apart(Some(refused)).await;
        self.current().1 != refused
    }

    /// Reads the source in a task of its own, so that a caller that times out does not interrupt it.
    fn read_apart(self: &Arc<Self>, refused: Option<u64>) -> tokio::task::JoinHandle<()> {
        let access = self.clone();
        tokio::spawn(async move { access.read(refused).await })
    }

    async fn read(&self, refused: Option<u64>) {
        let begin = Instant::now();
        let _turn = self.reading.lock().await;
        if !self.is_of_use(refused, begin) {
            return;
        }
        let read = self.source.read().await.and_then(|read| Ok((client(&read)?, read)));
        let mut state = self.state();
        state.read = Instant::now();
        match read {
            Ok(((client, cluster), read)) => {
                (state.files, state.ends) = (read.files, read.ends);
                if state.wrong.take().is_some() {
                    info!("The error with {} is resolved.", self.source);
                }
                if state.digest != read.digest {
                    (state.client, state.cluster, state.digest) = (client, cluster, read.digest);
                    state.generation += 1;
                }
            }
            Err(why) => {
                state.files = state.files.now();
                let is_new = state.wrong.as_ref() != Some(&why);
                if is_new && (state.wrong.is_none() || self.still_wrong.happened().is_some()) {
                    warn!("Can't use {}: {why}. The node uses the earlier ones until then.", self.source.beginning());
                }
                state.wrong = Some(why);
            }
        }
    }

    /// Whether a caller that has waited since then still has to read the source.
    fn is_of_use(&self, refused: Option<u64>, since: Instant) -> bool {
        let state = self.state();
        match refused {
            _ if state.read >= since => false,
            Some(refused) if refused != state.generation => false,
            Some(_) => state.read.elapsed() >= self.pace.again || state.files.now() != state.files,
            None => true,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

/// Creates a client from the source's current content.
fn client(read: &Read) -> Result<(Client, kube::Config), String> {
    let mut cluster = read.config.clone();
    cluster.connect_timeout = Some(CONNECT);
    cluster.read_timeout = Some(SILENCE);
    let client = Client::try_from(cluster.clone()).map_err(|error| super::cluster::error_chain(&error))?;
    Ok((client, cluster))
}
