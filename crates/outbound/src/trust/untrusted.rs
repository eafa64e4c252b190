//! Explains in one sentence why a server's certificate is not trusted and what to do about it.

use std::fmt;

use printable::{excerpt, excerpt_of};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, Error};

use super::certificate::Certificate;
use super::dates::format_utc;
use super::verifier::Own;

/// How many names of a certificate a message lists.
const NAMES: usize = 8;

/// The reason, as a readable message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Untrusted(String);

impl fmt::Display for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Untrusted {}

/// A rejected certificate and the circumstances.
pub(super) struct Case<'a> {
    pub error: &'a Error,
    pub end_entity: &'a CertificateDer<'a>,
    pub intermediates: &'a [CertificateDer<'a>],
    pub server_name: &'a ServerName<'a>,
    pub now: UnixTime,
    pub own: Option<&'a Own>,
}

impl Untrusted {
    pub(super) fn of(case: &Case<'_>) -> Self {
        let Some(certificate) = Certificate::read(case.end_entity) else {
            return Self(
                "the server's certificate can't be read, it is broken. Give the server another one".to_owned(),
            );
        };
        let Error::InvalidCertificate(error) = case.error else {
            return Self(format!("the server's certificate is not accepted: {}", excerpt(&case.error.to_string())));
        };
        Self(match error {
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => case.outside_its_time(&certificate),
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                case.other_name(&certificate)
            }
            CertificateError::UnknownIssuer | CertificateError::BadSignature => case.unknown_issuer(&certificate),
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                "the server's certificate is not meant for servers (its key usage, or extended key usage, does not have it). Give the \
                 server one that is, with `extendedKeyUsage=serverAuth`"
                    .to_owned()
            }
            CertificateError::UnhandledCriticalExtension => {
                "the server's certificate has critical extensions that this node does not support. Give the server one without them"
                    .to_owned()
            }
            // Handled here because webpki checks the certificate itself before its issuer.
            CertificateError::Other(_) if certificate.is_self_signed() => case.unknown_issuer(&certificate),
            _ if !certificate.is_version_3() => format!(
                "the server's certificate is of an old version (1 or 2). Give the server one of version 3, or name that very certificate in \
                 `ca_certificates`{}",
                case.in_file()
            ),
            _ if certificate.may_issue() => format!(
                "the server's certificate is a CA's own ('{}', with CA:TRUE). Name that very certificate in `ca_certificates`{}, or give the \
                 server one of its own (`basicConstraints=CA:FALSE`)",
                certificate.subject().shown,
                case.in_file()
            ),
            other => format!(
                "the server's certificate is not accepted: {}. Give the server another one",
                excerpt_of(&plain(other), 200)
            ),
        })
    }
}

/// Describes an error of rustls that needs no advice of its own.
fn plain(error: &CertificateError) -> String {
    match error {
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "it, or a CA of its chain, is signed with an algorithm that is insecure or unknown (SHA-1, or a key that is too short?)"
                .to_owned()
        }
        other => other.to_string(),
    }
}

impl Case<'_> {
    /// The operator's file, for advice about it.
    fn in_file(&self) -> String {
        match self.own.and_then(|own| own.path.as_ref()) {
            Some(path) => format!(" (today {})", path.display()),
            None => String::new(),
        }
    }

    fn outside_its_time(&self, leaf: &Certificate<'_>) -> String {
        let now = i64::try_from(self.now.as_secs()).unwrap_or(i64::MAX);
        let is_good = |one: &Certificate<'_>| (one.not_before()..=one.not_after()).contains(&now);
        let chain = self.intermediates.iter().filter_map(|der| Certificate::read(der));
        // The server's own certificate comes first, because the server's owner can replace it.
        let issuer = if is_good(leaf) { chain.into_iter().find(|one| !is_good(one)) } else { None };
        let (subject, which) = match &issuer {
            Some(issuer) => {
                (format!("the certificate of the CA '{}', which the server sends,", issuer.subject().shown), issuer)
            }
            None => ("the server's certificate".to_owned(), leaf),
        };
        let (from, to) = (format_utc(which.not_before()), format_utc(which.not_after()));
        let what = if now < which.not_before() {
            format!("is not valid yet: it begins on {from}")
        } else {
            format!("has expired: it ended on {to}, and began on {from}")
        };
        format!(
            "{subject} {what}; this machine's clock says {}. Is the clock right? Then the server needs a new certificate",
            format_utc(now)
        )
    }

    fn other_name(&self, leaf: &Certificate<'_>) -> String {
        let asked = self.server_name.to_str();
        let names = leaf.names();
        let has = match (names.as_slice(), leaf.common_name()) {
            ([], Some(name)) => format!(
                "has no name in its subjectAltName, only the common name '{name}', which does not count{}",
                if leaf.is_self_signed() { " for this address" } else { "" }
            ),
            ([], None) => "has no name in its subjectAltName".to_owned(),
            (names, _) => format!("is for {}", listed(names)),
        };
        let kind = if matches!(self.server_name, ServerName::IpAddress(_)) { "IP" } else { "DNS" };
        format!(
            "the server's certificate {has}, and `server_url` asks for '{asked}'. Write a name that the certificate has into `server_url`, or \
             give the server a certificate with `subjectAltName={kind}:{asked}`"
        )
    }

    fn unknown_issuer(&self, leaf: &Certificate<'_>) -> String {
        let chain: Vec<Certificate<'_>> = self.intermediates.iter().filter_map(|der| Certificate::read(der)).collect();
        // Find the first issuer whose own certificate the server does not send.
        let mut last = leaf;
        for _ in 0..=chain.len() {
            let issuer = last.issuer();
            match chain.iter().find(|one| one.subject() == issuer && !last.is_self_signed()) {
                Some(one) => last = one,
                None => break,
            }
        }
        let issuer = last.issuer();
        let itself = std::ptr::eq(last, leaf) && leaf.is_self_signed();
        let origin = if itself {
            format!("the server's certificate is self-signed ('{}')", issuer.shown)
        } else {
            format!("the server's certificate comes from the CA '{}'", issuer.shown)
        };
        let advice = if itself { "that very certificate" } else { "the certificate of that CA" };
        let Some(own) = self.own else {
            return format!(
                "{origin}, which nothing here trusts. Name a file with {advice} (PEM) in `ca_certificates`"
            );
        };
        let file = own.path.as_ref().map_or("what `ca_certificates` has".to_owned(), |path| path.display().to_string());
        match own.subjects.iter().find(|(name, _)| *name == issuer) {
            Some((_, true)) => format!(
                "{origin}, and {file} (`ca_certificates`) holds one of that name, but with another key: is it an older or newer one? Write the \
                 one that belongs to the server's into it"
            ),
            Some((_, false)) if !itself => format!(
                "{origin}, and {file} (`ca_certificates`) holds one of that name, but it is no CA's (no basicConstraints with CA:TRUE): it \
                 vouches for nobody else. Write the certificate of the CA into it, or the server's own"
            ),
            _ => {
                let subjects: Vec<String> = own.subjects.iter().map(|(name, _)| format!("'{}'", name.shown)).collect();
                format!(
                    "{origin}, which is neither in {file} (`ca_certificates`; it holds {}) nor among those that this machine trusts. Add \
                     {advice} (PEM) to the file, or have the server send the certificates in between",
                    listed(&subjects)
                )
            }
        }
    }
}

/// Lists names, and counts those beyond [`NAMES`].
fn listed(names: &[String]) -> String {
    let mut text = names.iter().take(NAMES).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > NAMES {
        text.push_str(&format!(" and {} more", names.len() - NAMES));
    }
    text
}
