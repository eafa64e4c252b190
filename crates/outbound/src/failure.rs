//! Describes a failed connection: its causes, and for TLS a sentence with the reason and what to do.

use std::error::Error;
use std::io;

use printable::excerpt;
use rustls::{AlertDescription, InvalidMessage, PeerIncompatible};

use crate::trust::Untrusted;

/// The advice if the peer does not understand plain HTTP.
const HTTPS: &str = "If this is a port for https://, begin `server_url` with https://";
/// The advice if the connection ends during the TLS handshake.
const NO_TLS: &str = "Is this a port for https://, and does everything in between let TLS through?";
/// Errors that say nothing except that something failed.
const EMPTY_WORDS: [&str; 3] = ["client error (Connect)", "client error (SendRequest)", "tcp connect error"];

/// The advice if the server requires a client certificate.
pub(crate) const CLIENT_CERTIFICATE: &str = "the server, or what is in front of it, demands a client certificate \
    (mutual TLS), and a node has none. Configure it to accept nodes without one";

/// Why a connection failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The two sides do not agree on a trusted connection. A person must change something.
    Tls(String),
    /// Any other failure, with all of its causes.
    Other(String),
}

impl Failure {
    /// Classifies the error of any client, which has tried TLS or plain HTTP.
    #[must_use]
    pub fn classify(error: &(dyn Error + 'static), is_tls: bool) -> Self {
        if let Some(words) = chain(error).find_map(tls) {
            return Self::Tls(words);
        }
        let words = error_chain(error);
        let http = chain(error).find_map(|error| error.downcast_ref::<hyper::Error>()).filter(|_| !is_tls);
        match http {
            Some(error) if error.is_parse() => {
                Self::Tls(format!("what answers there does not speak plain HTTP ({words}). {HTTPS}"))
            }
            Some(error) if error.is_incomplete_message() => Self::Other(format!("{words}. {HTTPS}")),
            _ if is_tls && chain(error).any(is_cut_off) => Self::Other(format!("{words}. {NO_TLS}")),
            _ => Self::Other(words),
        }
    }

    /// Returns the message of either kind.
    #[must_use]
    pub fn into_message(self) -> String {
        match self {
            Self::Tls(words) | Self::Other(words) => words,
        }
    }
}

/// Returns all causes, outermost first, without repetitions.
#[must_use]
pub fn error_chain(error: &(dyn Error + 'static)) -> String {
    let mut reasons: Vec<String> = Vec::new();
    for cause in chain(error) {
        let text = cause.to_string();
        if !text.is_empty()
            && !EMPTY_WORDS.contains(&text.as_str())
            && !reasons.iter().any(|known| known.contains(&text))
        {
            reasons.push(text);
        }
    }
    if reasons.is_empty() { error.to_string() } else { reasons.join(": ") }
}

/// Whether the connection was made and failed during a request.
pub(crate) fn is_of_http(error: &(dyn Error + 'static)) -> bool {
    chain(error).any(<dyn Error>::is::<hyper::Error>)
}

/// Whether the peer closed the connection during the handshake, as tokio-rustls reports it.
fn is_cut_off(error: &(dyn Error + 'static)) -> bool {
    error.to_string() == "tls handshake eof"
}

/// Iterates over an error and its causes. The error inside an [`io::Error`] counts as a cause.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error: &&'a (dyn Error + 'static)| {
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner as &(dyn Error + 'static)),
            None => error.source(),
        }
    })
}

/// Returns the message for a TLS error.
fn tls(error: &(dyn Error + 'static)) -> Option<String> {
    if let Some(untrusted) = error.downcast_ref::<Untrusted>() {
        return Some(untrusted.to_string());
    }
    let error = error.downcast_ref::<rustls::Error>()?;
    Some(match error {
        rustls::Error::InvalidCertificate(rustls::CertificateError::Other(other)) => {
            match other.0.downcast_ref::<Untrusted>() {
                Some(untrusted) => untrusted.to_string(),
                None => format!("the server's certificate is not accepted: {}", excerpt(&other.to_string())),
            }
        }
        rustls::Error::InvalidMessage(InvalidMessage::UnknownProtocolVersion) => old_protocol(),
        rustls::Error::InvalidMessage(_) => {
            "what answers there does not speak TLS. If it is a port for plain http://, begin `server_url` with http:// (for trials only), \
             else write the port of https://"
                .to_owned()
        }
        rustls::Error::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
            | PeerIncompatible::ExtendedMasterSecretExtensionRequired,
        ) => old_protocol(),
        rustls::Error::AlertReceived(alert) => alert_message(*alert),
        other => format!("TLS with the server failed: {}", excerpt(&other.to_string())),
    })
}

fn old_protocol() -> String {
    "the server, or what is in front of it, supports no secure version of TLS: at least 1.2 is required. Enable TLS \
     1.2 or 1.3 there"
        .to_owned()
}

/// Returns the message for an alert of the peer.
fn alert_message(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::ProtocolVersion | AlertDescription::InsufficientSecurity => old_protocol(),
        AlertDescription::CertificateRequired
        | AlertDescription::NoCertificate
        | AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnknownCA
        | AlertDescription::AccessDenied => CLIENT_CERTIFICATE.to_owned(),
        AlertDescription::UnrecognisedName => {
            "the server has no certificate for the name in `server_url` (TLS alert: unrecognised name). Is that name right?".to_owned()
        }
        AlertDescription::HandshakeFailure => {
            "the server aborted TLS (handshake failure): it has no version or cipher in common with this node (at \
             least TLS 1.2 is required), or demands a client certificate, which a node does not have"
                .to_owned()
        }
        other => format!("the server aborted TLS ({other:?})"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that fails, panics")]
mod tests {
    use super::*;

    #[test]
    fn the_inside_of_io_errors_counts() {
        let inner = rustls::Error::AlertReceived(AlertDescription::CertificateRequired);
        let error = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, inner));
        let Failure::Tls(words) = Failure::classify(&error, true) else { panic!("{error}") };
        assert!(words.contains("client certificate"), "{words}");
    }

    #[test]
    fn every_cause_once() {
        #[derive(Debug)]
        struct Outer(io::Error);
        impl std::fmt::Display for Outer {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("connecting failed")
            }
        }
        impl Error for Outer {
            fn source(&self) -> Option<&(dyn Error + 'static)> {
                Some(&self.0)
            }
        }
        let error = Outer(io::Error::other(io::Error::other("refused")));
        assert_eq!(Failure::classify(&error, true), Failure::Other("connecting failed: refused".to_owned()));
    }
}
