//! Which servers are trusted: those whose certificates the system, Mozilla's list or the operator's own file vouches for.
//!
//! As OpenSSL does for Python programs and curl, a certificate of that file counts for itself, too: a server may use it as
//! it is, whether it is self-signed, a CA's (`openssl req -x509` makes those) or of version 1. An intermediate CA in the
//! file is enough, without its root (curl, and Python since 3.13).

mod bundle;
mod certificate;
mod client_certificate;
mod dates;
mod untrusted;
mod verifier;

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};

pub use self::bundle::Bundle;
use self::client_certificate::CertificateRequests;
pub use self::untrusted::Untrusted;

/// When a certificate (DER) ends, in seconds since 1970; `None` if it can't be read.
pub fn ends(der: &[u8]) -> Option<i64> {
    certificate::Certificate::read(der).map(|certificate| certificate.not_after())
}
use self::verifier::{Roots, Verifier};
use crate::failure::{self, Failure};

/// How all clients set up TLS.
#[derive(Clone)]
pub struct Trust {
    config: ClientConfig,
    asked: CertificateRequests,
}

impl Trust {
    /// Trusts what the system and Mozilla's list trust, and the certificates of the operator's file.
    ///
    /// # Errors
    /// If TLS can't be set up with them.
    pub fn new(own: Option<Bundle>) -> Result<Self, String> {
        let asked = CertificateRequests::default();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let setup = |error: &dyn std::fmt::Display| format!("TLS can't be set up: {error}");
        let verifier = Verifier::new(Roots::of(own), &provider).map_err(|error| setup(&error))?;
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| setup(&error))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::new(asked.clone()));
        Ok(Self { config, asked })
    }

    /// The same, with the file that `ca_certificates` names, if it names one.
    ///
    /// # Errors
    /// If the file can't be used; the text names it and says what to do.
    pub fn with_file(path: Option<&Path>) -> Result<Self, String> {
        Self::new(path.map(Bundle::read).transpose()?)
    }

    /// The failure behind an error of a connection that was set up with this. A server that demands a client certificate may
    /// just close the connection.
    #[must_use]
    pub fn failure(&self, error: &(dyn std::error::Error + 'static)) -> Failure {
        match Failure::classify(error, true) {
            Failure::Other(words) if self.client_certificate_requested() && failure::is_of_http(error) => {
                Failure::Tls(format!("{words}; {}", failure::CLIENT_CERTIFICATE))
            }
            failure => failure,
        }
    }

    /// Whether a server has asked for a client certificate.
    #[must_use]
    pub fn client_certificate_requested(&self) -> bool {
        self.asked.is_set()
    }

    /// For rustls and what is built on it. It names no protocol for ALPN.
    #[must_use]
    pub fn client_config(&self) -> ClientConfig {
        self.config.clone()
    }
}

/// The certificates (DER) that vouch for servers, for clients that can't be given a [`Trust`]: the system's, Mozilla's, and those of the
/// operator's file that may issue others. A certificate that is trusted for itself only is none of them.
///
/// # Errors
/// If the file can't be used; the text names it and says what to do.
pub fn authorities(path: Option<&Path>) -> Result<Vec<Vec<u8>>, String> {
    let own = path.map(Bundle::read).transpose()?;
    let (_, system) = common();
    let mozilla = webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().cloned();
    let may_issue = |der: &rustls::pki_types::CertificateDer<'_>| {
        certificate::Certificate::read(der).is_some_and(|certificate| certificate.may_issue())
    };
    let own = own.into_iter().flat_map(|bundle| bundle.certificates).filter(may_issue);
    // A client may refuse all of them for a single one that can't be read.
    let is_readable =
        |der: &rustls::pki_types::CertificateDer<'static>| RootCertStore::empty().add(der.clone()).is_ok();
    let all: std::collections::BTreeSet<Vec<u8>> =
        mozilla.chain(system).chain(own).filter(is_readable).map(|der| der.to_vec()).collect();
    Ok(all.into_iter().collect())
}

/// The system's certificates and Mozilla's. What is unreadable in the system's is left out.
fn common() -> (RootCertStore, Vec<rustls::pki_types::CertificateDer<'static>>) {
    let mut store = RootCertStore::empty();
    // Built in (the regular node has it too, as certifi), so that an image needs no files for it.
    store.add_parsable_certificates(webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().cloned());
    let native = rustls_native_certs::load_native_certs();
    for error in native.errors {
        tracing::warn!("Some of the system's CA certificates can't be read: {error}");
    }
    store.add_parsable_certificates(native.certs.iter().cloned());
    (store, native.certs)
}
