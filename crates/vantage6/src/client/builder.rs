//! How a client comes to be.

use std::{fmt, sync::Arc, time::Duration};

use secrecy::SecretString;

use super::{Client, Inner};
use crate::{Backoff, Error, ServerUrl, auth::Auth, http::Wire};

/// Settings of a [`Client`].
pub struct ClientBuilder {
    url: ServerUrl,
    api_key: SecretString,
    certificates: Vec<u8>,
    backoff: Backoff,
    silence: Duration,
    limit: u64,
    user_agent: String,
}

impl ClientBuilder {
    pub(super) fn new(url: ServerUrl, api_key: SecretString) -> Self {
        Self {
            url,
            api_key,
            certificates: Vec::new(),
            backoff: Backoff::default(),
            silence: Duration::from_secs(120),
            limit: 16 * 1024 * 1024,
            user_agent: concat!("sextant/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }

    /// Certificates (PEM, one or more) of authorities to trust, besides those of the system and of Mozilla's list.
    pub fn ca_certificates(mut self, pem: impl AsRef<[u8]>) -> Self {
        self.certificates.extend_from_slice(pem.as_ref());
        self.certificates.push(b'\n');
        self
    }

    /// When to try again, and for how long.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// How long the server may be silent before a connection counts as dead. Two minutes if not set.
    pub fn silence(mut self, silence: Duration) -> Self {
        self.silence = silence;
        self
    }

    /// The largest answer that is held in memory, in bytes, inputs not counted. 16 MiB if not set.
    pub fn answer_limit(mut self, limit: u64) -> Self {
        self.limit = limit;
        self
    }

    /// What the server's access log shows.
    pub fn user_agent(mut self, name: impl Into<String>) -> Self {
        self.user_agent = name.into();
        self
    }

    /// Nothing is sent yet: the first request logs in.
    pub fn build(self) -> Result<Client, Error> {
        let setup = |what: &str, error: &dyn fmt::Display| Error::Setup(format!("{what}: {error}"));
        let own = reqwest::Certificate::from_pem_bundle(&self.certificates)
            .map_err(|error| setup("the CA certificates are not readable PEM", &error))?;
        if own.is_empty() && !self.certificates.trim_ascii().is_empty() {
            return Err(Error::Setup("there is no certificate in what was given as CA certificates; each has to begin with -----BEGIN CERTIFICATE-----".into()));
        }
        // Mozilla's list is built in (the regular node has it too, as certifi), so that an image needs no files for it.
        let mozillas = webpki_root_certs::TLS_SERVER_ROOT_CERTS
            .iter()
            .map(|certificate| reqwest::Certificate::from_der(certificate))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| setup("Mozilla's certificates are unreadable", &error))?;
        let connections =
            Connections { certificates: own.into_iter().chain(mozillas).collect(), user_agent: self.user_agent };
        let http = connections
            .builder()
            // Below what proxies use (nginx: 60 s or more), so that a connection isn't closed the moment it is used
            // again.
            .pool_idle_timeout(Duration::from_secs(30))
            .tcp_keepalive(Duration::from_secs(30))
            .build()
            .map_err(|error| setup("the HTTP client can't be built", &error))?;
        let wire = Arc::new(Wire { http, url: self.url, silence: self.silence, limit: self.limit });
        Ok(Client {
            inner: Arc::new(Inner {
                auth: Auth::new(Arc::clone(&wire), self.api_key),
                wire,
                backoff: self.backoff,
                connections,
            }),
        })
    }
}

/// What all connections to the server have in common.
pub(super) struct Connections {
    certificates: Vec<reqwest::Certificate>,
    user_agent: String,
}

impl Connections {
    pub(super) fn builder(&self) -> reqwest::ClientBuilder {
        reqwest::Client::builder()
            .user_agent(self.user_agent.clone())
            .tls_certs_merge(self.certificates.iter().cloned())
            // A redirect would turn requests with a body into ones without; see `advice` in http.rs.
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(10))
    }
}
