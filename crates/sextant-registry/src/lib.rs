//! Implements the port [`Registries`] with `oci-client`: looks up the digest that a registry has for a tag.
//!
//! Registries are not trusted, so each query has a time limit and its answers a size limit. `oci-client` reads answers completely, however
//! long they are, and does not know this node's HTTP proxies. So its connections go through a local proxy, the [`gate`].
#![forbid(unsafe_code)]

mod gate;
mod logins;
mod meaning;
mod places;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use oci_client::client::{Certificate, CertificateEncoding, ClientConfig, ClientProtocol};
use oci_client::errors::OciDistributionError;
use oci_client::{Client, Reference, RegistryOperation};
use outbound::HttpProxies;
use sextant_config::{Config, Registry};
use sextant_core::host_limits::{Asked, HostLimits};
use sextant_core::image_policy::Answer;
use sextant_core::image_reference::{Digest, ImageReference};
use sextant_core::registries::Registries;
use sextant_core::remembered::Remembered;
use tokio::time::timeout;

use self::gate::Gate;
use self::logins::Logins;
use self::places::is_here;

/// The time limit for a query: it includes the registry, its login server, and an HTTP proxy to each.
const PATIENCE: Duration = Duration::from_secs(20);

/// Queries registries according to a node's configuration.
pub struct OciRegistries {
    logins: Logins,
    authorities: Vec<Certificate>,
    proxies: Arc<HttpProxies>,
    limits: HostLimits,
    remembered: Remembered<Digest>,
    patience: Duration,
}

impl OciRegistries {
    /// Uses the logins of `docker_registries`, and the certificates and HTTP proxies that the node uses for its server.
    ///
    /// # Errors
    /// If the certificates or the environment's HTTP proxies can't be used; the text is for the operator.
    pub fn new(config: &Config) -> Result<Self, String> {
        Self::with(&config.docker_registries, config.ca_certificates.as_deref(), HttpProxies::from_env()?)
    }

    fn with(logins: &[Registry], ca_certificates: Option<&Path>, proxies: HttpProxies) -> Result<Self, String> {
        let authorities = outbound::trust::authorities(ca_certificates)?;
        let certificate = |data| Certificate { encoding: CertificateEncoding::Der, data };
        Ok(Self {
            logins: Logins::new(logins),
            authorities: authorities.into_iter().map(certificate).collect(),
            proxies: Arc::new(proxies),
            limits: HostLimits::default(),
            remembered: Remembered::default(),
            patience: PATIENCE,
        })
    }

    async fn ask(&self, image: &ImageReference) -> Answer<Digest> {
        let registry = &image.domain;
        let question = async {
            timeout(self.patience, self.ask_by_either_protocol(image)).await.unwrap_or_else(|_| {
                Asked::Unreachable(format!(
                    "the registry {registry} has not answered within {} s. Check that it runs, and that this node can reach it",
                    self.patience.as_secs_f32()
                ))
            })
        };
        self.limits.ask(registry, question).await
    }

    /// Queries by HTTPS. If that request fails, queries a registry on this machine by plain HTTP, as container runtimes do.
    async fn ask_by_either_protocol(&self, image: &ImageReference) -> Asked<Digest> {
        let answer = match self.ask_by(image, ClientProtocol::Https).await {
            Err((OciDistributionError::RequestError(_), _)) if is_here(&image.domain) => {
                self.ask_by(image, ClientProtocol::Http).await
            }
            answer => answer,
        };
        let (error, words) = match answer {
            Ok(answer) => return Asked::Answered(answer),
            Err(error) => error,
        };
        let is_unreachable = meaning::is_unreachable(&error, words.as_deref());
        match meaning::of(&error, words, image) {
            Answer::Away(why) if is_unreachable => Asked::Unreachable(why),
            answer => Asked::Answered(answer),
        }
    }

    /// Queries once. An error includes the reason that the gate knows, if any.
    async fn ask_by(
        &self,
        image: &ImageReference,
        protocol: ClientProtocol,
    ) -> Result<Answer<Digest>, (OciDistributionError, Option<String>)> {
        let reference = Reference::with_tag(image.domain.clone(), image.path.clone(), image.tag_or_latest().to_owned());
        let gate = match Gate::open(self.proxies.clone(), reference.resolve_registry()).await {
            Ok(gate) => gate,
            Err(error) => {
                return Ok(Answer::Away(format!(
                    "no port of this machine can be opened to ask registries through: {error}"
                )));
            }
        };
        let client = self.client(&gate, protocol).map_err(|error| (error, None))?;
        let auth = self.logins.of(image);
        let digest = async {
            // Logs in first, so that an unavailable login server is not taken for a refusal by the registry.
            client.auth(&reference, &auth, RegistryOperation::Pull).await?;
            client.fetch_manifest_digest(&reference, &auth).await
        };
        match digest.await {
            Ok(digest) => Ok(match digest.parse() {
                Ok(digest) => Answer::Known(digest),
                Err(why) => Answer::Away(format!("the registry {} tells a digest that is none: {why}", image.domain)),
            }),
            Err(error) => Err((error, gate.failure())),
        }
    }

    fn client(&self, gate: &Gate, protocol: ClientProtocol) -> Result<Client, OciDistributionError> {
        let proxy = Some(gate.url());
        Client::try_from(ClientConfig {
            protocol,
            tls_certs_only: self.authorities.clone(),
            connect_timeout: Some(self.patience),
            user_agent: concat!("sextant/", env!("CARGO_PKG_VERSION")),
            https_proxy: proxy.clone(),
            http_proxy: proxy,
            ..ClientConfig::default()
        })
    }
}

#[async_trait::async_trait]
impl Registries for OciRegistries {
    async fn digest(&self, image: &ImageReference) -> Answer<Digest> {
        self.remembered.get(&image.to_string(), self.ask(image)).await
    }
}
