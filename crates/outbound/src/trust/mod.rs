//! Decides which servers are trusted: those with a certificate issued by a CA of the system, of Mozilla's list, or of the operator's file.
//!
//! As OpenSSL does for Python programs and curl, a certificate in that file is also trusted directly. A server may use it itself,
//! whether it is self-signed, a CA's (`openssl req -x509` makes those) or of version 1. An intermediate CA in the file is
//! enough without its root (as for curl, and for Python since 3.13).

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

/// Returns when a certificate (DER) expires, in seconds since 1970; `None` if it can't be read.
pub fn ends(der: &[u8]) -> Option<i64> {
    certificate::Certificate::read(der).map(|certificate| certificate.not_after())
}
use self::verifier::{Roots, Verifier};
use crate::failure::{self, Failure};

/// The TLS settings of all clients.
#[derive(Clone)]
pub struct Trust {
    config: ClientConfig,
    asked: CertificateRequests,
}

impl Trust {
    /// Trusts the CAs of the system, of Mozilla's list, and of the operator's file.
    ///
    /// # Errors
    /// TLS can't be set up with them.
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

    /// Like [`new`](Self::new), with the file of `ca_certificates`, if it is set.
    ///
    /// # Errors
    /// The file can't be used. The message names it and says what to do.
    pub fn with_file(path: Option<&Path>) -> Result<Self, String> {
        Self::new(path.map(Bundle::read).transpose()?)
    }

    /// Classifies the error of a connection that uses these settings. A server that requires a client certificate may simply
    /// close the connection.
    #[must_use]
    pub fn failure(&self, error: &(dyn std::error::Error + 'static)) -> Failure {
        match Failure::classify(error, true) {
            Failure::Other(words) if self.client_certificate_requested() && failure::is_of_http(error) => {
                Failure::Tls(format!("{words}; {}", failure::CLIENT_CERTIFICATE))
            }
            failure => failure,
        }
    }

    /// Whether a server has requested a client certificate.
    #[must_use]
    pub fn client_certificate_requested(&self) -> bool {
        self.asked.is_set()
    }

    /// The settings for rustls and libraries on top of it. No ALPN protocol is set.
    #[must_use]
    pub fn client_config(&self) -> ClientConfig {
        self.config.clone()
    }
}

/// Returns the CA certificates (DER) for clients that can't use a [`Trust`]: the system's, Mozilla's, and those of the operator's file
/// that may issue others. Certificates that are only trusted directly are not included.
///
/// # Errors
/// The file can't be used. The message names it and says what to do.
pub fn authorities(path: Option<&Path>) -> Result<Vec<Vec<u8>>, String> {
    let own = path.map(Bundle::read).transpose()?;
    let (_, system) = common();
    let mozilla = webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().cloned();
    let may_issue = |der: &rustls::pki_types::CertificateDer<'_>| {
        certificate::Certificate::read(der).is_some_and(|certificate| certificate.may_issue())
    };
    let own = own.into_iter().flat_map(|bundle| bundle.certificates).filter(may_issue);
    // One unreadable certificate can make a client refuse all of them.
    let is_readable =
        |der: &rustls::pki_types::CertificateDer<'static>| RootCertStore::empty().add(der.clone()).is_ok();
    let all: std::collections::BTreeSet<Vec<u8>> =
        mozilla.chain(system).chain(own).filter(is_readable).map(|der| der.to_vec()).collect();
    Ok(all.into_iter().collect())
}

/// Returns the certificates of the system and of Mozilla's list, without the system's unreadable ones.
fn common() -> (RootCertStore, Vec<rustls::pki_types::CertificateDer<'static>>) {
    let mut store = RootCertStore::empty();
    // Built in, so that an image needs no CA files (the regular node bundles the list too, as certifi).
    store.add_parsable_certificates(webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().cloned());
    let native = rustls_native_certs::load_native_certs();
    for error in native.errors {
        tracing::warn!("Some of the system's CA certificates can't be read: {error}");
    }
    store.add_parsable_certificates(native.certs.iter().cloned());
    (store, native.certs)
}
