//! Verifies a server's certificate with webpki. A certificate that is trusted directly is checked only for its validity period, name
//! and purpose.

use std::collections::HashSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, PeerMisbehaved, RootCertStore, SignatureScheme,
};

use super::bundle::Bundle;
use super::certificate::{Certificate, Name};
use super::untrusted::{Case, Untrusted};

/// All trusted certificates.
pub(super) struct Roots {
    store: RootCertStore,
    /// Certificates that are trusted directly.
    exact: HashSet<Vec<u8>>,
    pub own: Option<Own>,
}

/// The content of the operator's file, for messages about what it lacks.
pub(super) struct Own {
    /// `None` if the certificates do not come from a file.
    pub path: Option<PathBuf>,
    /// The certificates' subjects, and whether each may issue others.
    pub subjects: Vec<(Name, bool)>,
}

impl Roots {
    pub fn of(own: Option<Bundle>) -> Self {
        let (mut store, system) = super::common();
        let mut exact: HashSet<Vec<u8>> = system.iter().map(|certificate| certificate.to_vec()).collect();
        let own = own.map(|bundle| {
            let mut subjects = Vec::new();
            for der in bundle.certificates {
                let read = Certificate::read(&der).map(|certificate| (certificate.subject(), certificate.may_issue()));
                exact.insert(der.to_vec());
                // Certificates that may not issue others are only trusted directly.
                if read.as_ref().is_some_and(|(_, may_issue)| *may_issue) {
                    store.add_parsable_certificates([der]);
                }
                subjects.extend(read);
            }
            Own { path: bundle.path, subjects }
        });
        Self { store, exact, own }
    }
}

/// Verifies servers' certificates.
pub(super) struct Verifier {
    webpki: Arc<WebPkiServerVerifier>,
    algorithms: WebPkiSupportedAlgorithms,
    exact: HashSet<Vec<u8>>,
    own: Option<Own>,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").finish_non_exhaustive()
    }
}

impl Verifier {
    pub fn new(roots: Roots, provider: &Arc<CryptoProvider>) -> Result<Self, rustls::client::VerifierBuilderError> {
        let Roots { store, exact, own } = roots;
        Ok(Self {
            webpki: WebPkiServerVerifier::builder_with_provider(store.into(), provider.clone()).build()?,
            algorithms: provider.signature_verification_algorithms,
            exact,
            own,
        })
    }

    /// Verifies a certificate that is trusted directly.
    fn verify_pinned(der: &CertificateDer<'_>, server: &ServerName<'_>, now: UnixTime) -> Result<(), Error> {
        let certificate = Certificate::read(der).ok_or(CertificateError::BadEncoding)?;
        let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        if seconds > certificate.not_after() {
            return Err(CertificateError::Expired.into());
        }
        if seconds < certificate.not_before() {
            return Err(CertificateError::NotValidYet.into());
        }
        if certificate.has_unknown_demands() {
            return Err(CertificateError::UnhandledCriticalExtension.into());
        }
        if !certificate.may_serve() {
            return Err(CertificateError::InvalidPurpose.into());
        }
        if certificate.is_commonly_named(server) {
            return Ok(());
        }
        if !certificate.is_version_3() {
            return Err(CertificateError::NotValidForName.into());
        }
        verify_server_name(&ParsedCertificate::try_from(der)?, server)
    }

    /// Returns a directly trusted certificate that webpki does not support, for its key.
    fn read_for_key<'a>(&self, der: &'a CertificateDer<'_>) -> Option<Certificate<'a>> {
        Certificate::read(der).filter(|certificate| !certificate.is_version_3() && self.exact.contains(der.as_ref()))
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verdict = if self.exact.contains(end_entity.as_ref()) {
            Self::verify_pinned(end_entity, server_name, now).map(|()| ServerCertVerified::assertion())
        } else {
            self.webpki.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
        };
        verdict.map_err(|error| {
            let case = Case { error: &error, end_entity, intermediates, server_name, now, own: self.own.as_ref() };
            CertificateError::Other(OtherError(Arc::new(Untrusted::of(&case)))).into()
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match self.read_for_key(cert) {
            Some(certificate) => verify_tls12_with_key(message, &certificate, dss, &self.algorithms),
            None => self.webpki.verify_tls12_signature(message, cert, dss),
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match self.read_for_key(cert) {
            Some(certificate) => {
                let key = SubjectPublicKeyInfoDer::from(certificate.public_key_info());
                rustls::crypto::verify_tls13_signature_with_raw_key(message, &key, dss, &self.algorithms)
            }
            None => self.webpki.verify_tls13_signature(message, cert, dss),
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}

/// Does what `rustls::crypto::verify_tls12_signature` does, with only a key.
fn verify_tls12_with_key(
    message: &[u8],
    certificate: &Certificate<'_>,
    dss: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    let candidates =
        algorithms.mapping.iter().find(|(scheme, _)| *scheme == dss.scheme).map(|(_, candidates)| *candidates);
    let candidates = candidates.ok_or(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme)?;
    let algorithm = certificate.algorithm_of_key();
    let fitting = candidates.iter().filter(|candidate| candidate.public_key_alg_id().as_ref() == algorithm);
    for candidate in fitting {
        if candidate.verify_signature(certificate.public_key(), message, dss.signature()).is_ok() {
            return Ok(HandshakeSignatureValid::assertion());
        }
    }
    Err(CertificateError::BadSignature.into())
}
