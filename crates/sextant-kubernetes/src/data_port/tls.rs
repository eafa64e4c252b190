//! TLS 1.3 with a pinned key: the node's certificate is self-signed, and pods identify it by the hash of its public
//! key. No certificate authority is needed, and a certificate that is recreated after a restart has the same key.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs as provider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, ServerConfig, SignatureScheme, version::TLS13};

use super::keys::NodeSecret;

/// The name in the certificate. It has no meaning: pods check only the pin.
pub const SERVER_NAME: &str = "sextant-data-port";

/// The prefix of a PKCS#8 Ed25519 private key of 32 bytes (RFC 8410, section 7).
const PKCS8_ED25519: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// Why TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate could not be created.
    #[error("the data port's certificate could not be made: {0}")]
    Certificate(#[from] rcgen::Error),
    /// rustls rejected the configuration.
    #[error("TLS for the data port could not be set up: {0}")]
    Rustls(#[from] rustls::Error),
    /// The pin is malformed.
    #[error("the data port's pin is not 64 hexadecimal digits")]
    Pin,
}

/// The node's side: a server configuration, and the pin by which pods identify the node.
///
/// # Errors
/// If the certificate can't be created, which no secret causes.
pub fn server(secret: &NodeSecret) -> Result<(ServerConfig, String), TlsError> {
    let pkcs8 = [&PKCS8_ED25519[..], &secret.tls_seed()].concat();
    let key = PrivatePkcs8KeyDer::from(pkcs8);
    let pair = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&key, &rcgen::PKCS_ED25519)?;
    let certificate = rcgen::CertificateParams::new(vec![SERVER_NAME.to_owned()])?.self_signed(&pair)?;
    let pin = pin(&rcgen::PublicKeyData::subject_public_key_info(&pair));
    let config = ServerConfig::builder_with_provider(Arc::new(provider::default_provider()))
        .with_protocol_versions(&[&TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(key))?;
    Ok((config, pin))
}

/// A pod's side: trusts only the key with this pin.
///
/// # Errors
/// If the pin is malformed.
pub fn client(pin: &str) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(provider::default_provider());
    let verifier = Pinned {
        pin: HEXLOWER.decode(pin.as_bytes()).ok().filter(|pin| pin.len() == 32).ok_or(TlsError::Pin)?,
        provider: provider.clone(),
    };
    Ok(ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth())
}

fn pin(public_key_info: &[u8]) -> String {
    HEXLOWER.encode(digest(&SHA256, public_key_info).as_ref())
}

/// Accepts exactly one public key, without a certificate authority.
#[derive(Debug)]
struct Pinned {
    pin: Vec<u8>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let bad = |_| rustls::Error::InvalidCertificate(rustls::CertificateError::BadEncoding);
        let parsed = rustls::server::ParsedCertificate::try_from(certificate).map_err(bad)?;
        if digest(&SHA256, &parsed.subject_public_key_info()).as_ref() == self.pin {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(rustls::Error::InvalidCertificate(rustls::CertificateError::ApplicationVerificationFailure))
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::PeerIncompatible(rustls::PeerIncompatible::ServerDoesNotSupportTls12Or13))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    async fn handshake(secret: &NodeSecret, pin: &str) -> std::io::Result<()> {
        let (near, far) = duplex(4096);
        let (config, _) = server(secret).unwrap();
        let serve = async {
            let mut stream = TlsAcceptor::from(Arc::new(config)).accept(far).await?;
            stream.write_all(b"x").await
        };
        let call = async {
            let connector = TlsConnector::from(Arc::new(client(pin).unwrap()));
            let mut stream = connector.connect(SERVER_NAME.try_into().unwrap(), near).await?;
            stream.read_u8().await
        };
        let (_, called) = tokio::join!(serve, call);
        called.map(|_| ())
    }

    #[tokio::test]
    async fn the_pinned_node_is_trusted_also_after_a_restart() {
        let secret = NodeSecret::generate().unwrap();
        let (_, pin) = server(&secret).unwrap();
        handshake(&secret, &pin).await.unwrap();
        let restarted = NodeSecret::from_bytes(secret.expose()).unwrap();
        handshake(&restarted, &pin).await.unwrap();
    }

    #[tokio::test]
    async fn nobody_else_is() {
        let (_, pin) = server(&NodeSecret::generate().unwrap()).unwrap();
        let error = handshake(&NodeSecret::generate().unwrap(), &pin).await.unwrap_err();
        assert!(error.to_string().contains("certificate"), "{error}");
    }

    #[test]
    fn a_pin_is_64_digits() {
        for pin in ["", "xyz", "00"] {
            assert!(matches!(client(pin), Err(TlsError::Pin)), "{pin}");
        }
    }
}
