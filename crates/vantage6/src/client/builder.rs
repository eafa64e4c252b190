//! Builds a client from its settings.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use outbound::{Bundle, HttpProxies, HttpProxy, Trust};
use secrecy::SecretString;
use tokio::sync::Semaphore;

use super::{Client, Inner};
use crate::{
    Backoff, Error, ServerUrl,
    auth::Auth,
    connection_errors::ConnectionErrors,
    http::{HttpTransport, Observer, RequestEnd},
    store::logins::StoreLogins,
};

/// The settings of a [`Client`].
pub struct ClientBuilder {
    url: ServerUrl,
    api_key: SecretString,
    certificates: Vec<u8>,
    ca_file: Option<PathBuf>,
    http_proxies: Option<HttpProxies>,
    backoff: Backoff,
    silence: Duration,
    limit: u64,
    user_agent: String,
    observer: Option<Observer>,
}

impl ClientBuilder {
    pub(super) fn new(url: ServerUrl, api_key: SecretString) -> Self {
        Self {
            url,
            api_key,
            certificates: Vec::new(),
            ca_file: None,
            http_proxies: None,
            backoff: Backoff::default(),
            silence: Duration::from_secs(120),
            limit: 16 * 1024 * 1024,
            user_agent: concat!("sextant/", env!("CARGO_PKG_VERSION")).to_owned(),
            observer: None,
        }
    }

    /// Adds CA certificates (PEM, one or more) to those of the system and of Mozilla's list.
    pub fn ca_certificates(mut self, pem: impl AsRef<[u8]>) -> Self {
        self.certificates.extend_from_slice(pem.as_ref());
        self.certificates.push(b'\n');
        self
    }

    /// Adds CA certificates from a file, whose name appears in errors.
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.ca_file = Some(path.into());
        self
    }

    /// Sets the HTTP proxies in front of the server. Default: those of the environment.
    pub fn http_proxies(mut self, proxies: HttpProxies) -> Self {
        self.http_proxies = Some(proxies);
        self
    }

    /// Sets when to retry, and for how long.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Sets how long the server may be silent before a connection counts as dead. Default: two minutes.
    pub fn silence(mut self, silence: Duration) -> Self {
        self.silence = silence;
        self
    }

    /// Sets the largest response that is held in memory, in bytes, without inputs. Default: 16 MiB.
    pub fn answer_limit(mut self, limit: u64) -> Self {
        self.limit = limit;
        self
    }

    /// Sets the user agent for the server's access log.
    pub fn user_agent(mut self, name: impl Into<String>) -> Self {
        self.user_agent = name.into();
        self
    }

    /// Sets a callback for the end of each request. The request waits for it, so it must be quick.
    pub fn observer(mut self, observer: impl Fn(&RequestEnd<'_>) + Send + Sync + 'static) -> Self {
        self.observer = Some(Arc::new(observer));
        self
    }

    /// Builds the client without sending anything; the first request logs in.
    pub fn build(self) -> Result<Client, Error> {
        let setup = |what: &str, error: &dyn fmt::Display| Error::Setup(format!("{what}: {error}"));
        let trust = match self.ca_file {
            Some(path) => Trust::with_file(Some(&path)),
            None if self.certificates.trim_ascii().is_empty() => Trust::new(None),
            None => Bundle::parse(&self.certificates).and_then(|bundle| Trust::new(Some(bundle))),
        };
        let proxies = self.http_proxies.map_or_else(HttpProxies::from_env, Ok).map_err(Error::Setup)?;
        let connections = Connections {
            trust: trust.map_err(Error::Setup)?,
            proxies: Arc::new(proxies),
            user_agent: self.user_agent,
        };
        let http = connections
            .builder()
            .tls_info(self.observer.is_some())
            // Shorter than the timeouts of proxies (nginx: 60 s or more), so that a proxy does not close a connection just as the
            // client reuses it.
            .pool_idle_timeout(Duration::from_secs(30))
            .tcp_keepalive(Duration::from_secs(30))
            .build()
            .map_err(|error| setup("the HTTP client can't be built", &error))?;
        let transport = Arc::new(HttpTransport {
            http,
            errors: ConnectionErrors::to(&self.url, &connections.proxies, &connections.trust),
            url: self.url,
            silence: self.silence,
            limit: self.limit,
            large: Arc::new(Semaphore::new(1)),
            observer: self.observer,
        });
        Ok(Client {
            inner: Arc::new(Inner {
                auth: Auth::new(Arc::clone(&transport), self.api_key),
                transport,
                backoff: self.backoff,
                connections,
                store_logins: StoreLogins::default(),
            }),
        })
    }
}

/// The settings that all connections to the server share.
pub(super) struct Connections {
    trust: Trust,
    proxies: Arc<HttpProxies>,
    user_agent: String,
}

impl Connections {
    pub(super) fn builder(&self) -> reqwest::ClientBuilder {
        let mut tls = self.trust.client_config();
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        self.plain_builder().tls_backend_preconfigured(tls)
    }

    /// For connections that can't use HTTP/2: websockets.
    pub(super) fn http1_builder(&self) -> reqwest::ClientBuilder {
        let mut tls = self.trust.client_config();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        self.plain_builder().tls_backend_preconfigured(tls).http1_only()
    }

    /// Whether the server has requested a client certificate.
    pub(super) fn was_asked(&self) -> bool {
        self.trust.client_certificate_requested()
    }

    pub(super) fn http_proxy(&self, url: &url::Url) -> Option<&HttpProxy> {
        self.proxies.for_url(url)
    }

    /// Classifies and describes an error of a connection to this address.
    pub(super) fn failure(&self, url: &url::Url, error: &(dyn std::error::Error + 'static)) -> outbound::Failure {
        match url.scheme() {
            "https" => self.trust.failure(error),
            _ => outbound::Failure::classify(error, false),
        }
    }

    fn plain_builder(&self) -> reqwest::ClientBuilder {
        let proxies = self.proxies.clone();
        reqwest::Client::builder()
            .user_agent(self.user_agent.clone())
            .proxy(reqwest::Proxy::custom(move |url| proxies.for_url(url).map(|proxy| proxy.url().clone())))
            // A redirect would turn requests with a body into ones without; see `advice` in http.rs.
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(10))
    }
}
