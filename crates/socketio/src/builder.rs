//! The options, with their defaults. All of them are checked before the client starts.

#![expect(clippy::disallowed_types, reason = "made by the caller, to be sent")]

use backoff::Backoff;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use outbound::{HttpProxies, Trust};
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::sync::watch;
use url::Url;

use crate::client::{Client, Inner};
use crate::control::{Command, Control};
use crate::error::Error;
use crate::event::{EventSender, Events};
use crate::headers::{Fixed, HeaderProvider};
use crate::link::CurrentLink;
use crate::packet::socket::ROOT;
use crate::reconnect::Reconnector;
use crate::session::Session;
use crate::transport::{SizeLimits, Transports};

/// How many events of the largest size may wait, counted in bytes.
const QUEUED: usize = 4;

/// Configures a [`Client`].
pub struct Builder {
    url: String,
    namespace: String,
    auth: Option<Value>,
    headers: Arc<dyn HeaderProvider>,
    transports: Transports,
    http: Option<reqwest::ClientBuilder>,
    connect_timeout: Duration,
    backoff: Backoff,
    max_incoming: usize,
    max_event: usize,
    max_events: usize,
}

impl Builder {
    pub(crate) fn new(url: String) -> Self {
        Self {
            url,
            namespace: ROOT.to_owned(),
            auth: None,
            headers: Arc::new(Fixed(HeaderMap::new())),
            transports: Transports::default(),
            http: None,
            connect_timeout: Duration::from_secs(30),
            backoff: Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(60) },
            max_incoming: 16 << 20,
            max_event: 1 << 20,
            max_events: 256,
        }
    }

    /// The namespace, such as `/tasks`. Default: `/`.
    #[must_use]
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = namespace.into();
        self
    }

    /// The payload of the request for the namespace. Default: none.
    #[must_use]
    pub fn auth(mut self, auth: Value) -> Self {
        self.auth = Some(auth);
        self
    }

    /// The provider of the headers, called before each attempt. Default: no headers.
    #[must_use]
    pub fn headers(mut self, provider: impl HeaderProvider) -> Self {
        self.headers = Arc::new(provider);
        self
    }

    /// The same headers for each attempt.
    #[must_use]
    pub fn fixed_headers(self, headers: HeaderMap) -> Self {
        self.headers(Fixed(headers))
    }

    /// Which transports to use. Default: [`Transports::Upgrade`].
    #[must_use]
    pub fn transports(mut self, transports: Transports) -> Self {
        self.transports = transports;
        self
    }

    /// The HTTP client for both transports. Configure extra CA certificates, a proxy or a resolver here. Do not set timeouts
    /// for requests or reads, because a long poll takes its time. The client is restricted to HTTP/1.1, which a websocket needs.
    /// Default: a client that trusts the platform's and Mozilla's CA certificates and uses the HTTP proxies of the environment.
    #[must_use]
    pub fn http(mut self, builder: reqwest::ClientBuilder) -> Self {
        self.http = Some(builder);
        self
    }

    /// The time limit for each of: the header provider, opening the connection, connecting the namespace. Default: 30 s.
    #[must_use]
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.connect_timeout = limit;
        self
    }

    /// The shortest and the longest delay before a new attempt. The delay doubles with each failure; a random part of up to
    /// a half is subtracted. Default: 1 s to 60 s.
    #[must_use]
    pub fn reconnect_delay(mut self, min: Duration, max: Duration) -> Self {
        self.backoff = Backoff { first: min, longest: max.max(min) };
        self
    }

    /// The largest websocket message accepted, in bytes. A message must be buffered whole before it can be used, so a larger one
    /// ends the connection. Servers pass on what other clients send, at most a megabyte by default and up to four times as much
    /// when re-encoded, so only the server itself can reach this limit. Default: 16 MiB.
    #[must_use]
    pub fn max_incoming(mut self, bytes: usize) -> Self {
        self.max_incoming = bytes;
        self
    }

    /// The largest packet that is read, in bytes, including its attachments. A larger one is skipped and reported as
    /// [`Event::LeftOut`](crate::Event::LeftOut). [`Events`] queues at most four times as many bytes. Default: 1 MiB.
    #[must_use]
    pub fn max_event(mut self, bytes: usize) -> Self {
        self.max_event = bytes;
        self
    }

    /// How many events may wait in [`Events`]. When the queue is full, the client stops reading from the server until an event
    /// is taken; it answers pings for as long as it can. Default: 256.
    #[must_use]
    pub fn max_events(mut self, events: usize) -> Self {
        self.max_events = events;
        self
    }

    /// Starts the client, which connects in the background. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// [`Error::Config`] only. [`Events`] reports all other errors, and the client retries.
    pub fn connect(self) -> Result<(Client, Events), Error> {
        let url = endpoint(&self.url)?;
        check_namespace(&self.namespace)?;
        let runtime = Handle::try_current().map_err(|_| Error::Config("no Tokio runtime here".to_owned()))?;
        let client = match self.http {
            Some(http) => http.http1_only().build(),
            None => default_http().map_err(Error::Config)?.build(),
        };
        let client =
            client.map_err(|error| Error::Config(format!("the HTTP client: {}", outbound::error_chain(&error))))?;

        let (events, receiver) = EventSender::new(self.max_events, self.max_event.saturating_mul(QUEUED));
        let (wish, wishes) = watch::channel(Command::default());
        let (running, done) = watch::channel(());
        let slot = Arc::new(CurrentLink::default());
        let session = Session {
            namespace: self.namespace,
            auth: self.auth.map(Into::into),
            connect_timeout: self.connect_timeout,
            limits: SizeLimits { event: self.max_event, message: self.max_incoming },
            throttles: Arc::default(),
            link: Arc::clone(&slot),
            events,
            control: Control(wishes),
        };
        let (transports, headers, backoff) = (self.transports, self.headers, self.backoff);
        let reconnector = Reconnector { client, url, transports, headers, backoff, session };
        let task = runtime.spawn(async move {
            reconnector.run().await;
            drop(running);
        });
        Ok((Client::new(Inner { link: slot, command: wish, done, task: task.abort_handle() }), receiver))
    }
}

/// The URL of the Engine.IO endpoint. Errors do not repeat the URL, because it may contain a password.
fn endpoint(text: &str) -> Result<Url, Error> {
    let mut url = Url::parse(text).map_err(|error| Error::Config(format!("the server's URL: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(Error::Config(format!("the server's URL: scheme {:?} is not http or https", url.scheme())));
    }
    if url.path() == "/" {
        url.set_path("/socket.io/");
    } else if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    url.set_fragment(None);
    Ok(url)
}

fn check_namespace(namespace: &str) -> Result<(), Error> {
    let odd = |c: char| c == ',' || c == '?' || c.is_control();
    if namespace.starts_with('/') && !namespace.contains(odd) {
        return Ok(());
    }
    Err(Error::Config(format!("namespace {namespace:?} must begin with a slash and have no comma")))
}

fn default_http() -> Result<reqwest::ClientBuilder, String> {
    let mut tls = Trust::new(None)?.client_config();
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    let proxies = HttpProxies::from_env()?;
    let proxy = reqwest::Proxy::custom(move |url| proxies.for_url(url).map(|proxy| proxy.url().clone()));
    Ok(reqwest::Client::builder().tls_backend_preconfigured(tls).proxy(proxy).http1_only())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let table = [
            ("http://host:5000", "http://host:5000/socket.io/"),
            ("https://host/", "https://host/socket.io/"),
            ("https://host/a/socket.io", "https://host/a/socket.io/"),
            ("http://host/x/?k=v#f", "http://host/x/?k=v"),
        ];
        for (text, url) in table {
            assert_eq!(endpoint(text).unwrap().as_str(), url);
        }
        for bad in ["", "host", "ftp://host"] {
            assert!(matches!(endpoint(bad), Err(Error::Config(_))), "{bad}");
        }
    }

    #[test]
    fn namespaces() {
        assert!(check_namespace("/").is_ok() && check_namespace("/tasks").is_ok());
        for bad in ["", "tasks", "/a,b", "/a\n"] {
            assert!(check_namespace(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn without_a_runtime_there_is_an_error_and_no_panic() {
        assert!(matches!(Client::builder("http://127.0.0.1").connect(), Err(Error::Config(_))));
    }
}
