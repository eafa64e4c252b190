//! Reads the fields of a certificate. The verifier decides whether to trust it.

use std::net::IpAddr;

use printable::excerpt;
use rustls::pki_types::ServerName;
use x509_parser::asn1_rs::Any;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate, X509Version};
use x509_parser::x509::X509Name;

/// A parsed certificate.
pub(super) struct Certificate<'a>(X509Certificate<'a>);

/// A certificate's subject or issuer, for comparing and for messages.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Name {
    raw: Vec<u8>,
    pub shown: String,
}

impl Name {
    fn of(name: &X509Name<'_>) -> Self {
        let shown = excerpt(&name.to_string());
        Self { raw: name.as_raw().to_vec(), shown: if shown.is_empty() { "(no name)".to_owned() } else { shown } }
    }
}

impl<'a> Certificate<'a> {
    /// Parses a certificate; `None` if it is invalid or has trailing bytes.
    pub fn read(der: &'a [u8]) -> Option<Self> {
        match X509Certificate::from_der(der) {
            Ok(([], certificate)) => Some(Self(certificate)),
            _ => None,
        }
    }

    pub fn subject(&self) -> Name {
        Name::of(self.0.subject())
    }

    pub fn issuer(&self) -> Name {
        Name::of(self.0.issuer())
    }

    pub fn is_self_signed(&self) -> bool {
        self.0.subject().as_raw() == self.0.issuer().as_raw()
    }

    /// Versions 1 and 2 have no extensions, and webpki does not support them.
    pub fn is_version_3(&self) -> bool {
        self.0.version() == X509Version::V3
    }

    pub fn not_before(&self) -> i64 {
        self.0.validity().not_before.timestamp()
    }

    pub fn not_after(&self) -> i64 {
        self.0.validity().not_after.timestamp()
    }

    /// The content of its key's `AlgorithmIdentifier`, in the form that signature algorithms use for matching keys.
    pub fn algorithm_of_key(&self) -> &'a [u8] {
        let inside = |der: &'a [u8]| Any::from_der(der).map(|(_, any)| any.data).ok();
        inside(self.0.tbs_certificate.subject_pki.raw).and_then(inside).unwrap_or_default()
    }

    /// Its key, in the form that signature algorithms use.
    pub fn public_key(&self) -> &[u8] {
        self.0.public_key().subject_public_key.as_ref()
    }

    /// The whole `SubjectPublicKeyInfo`.
    pub fn public_key_info(&self) -> &'a [u8] {
        self.0.tbs_certificate.subject_pki.raw
    }

    /// Whether it may issue certificates, by OpenSSL's rules (`check_ca` in `crypto/x509/v3_purp.c`).
    pub fn may_issue(&self) -> bool {
        let Ok(usage) = self.0.key_usage() else { return false };
        if usage.as_ref().is_some_and(|usage| !usage.value.key_cert_sign()) {
            return false;
        }
        match self.0.basic_constraints() {
            Ok(Some(constraints)) => constraints.value.ca,
            Ok(None) => !self.is_version_3() && self.is_self_signed() || usage.is_some(),
            Err(_) => false,
        }
    }

    /// Whether it may identify a server, by OpenSSL's rules (`check_purpose_ssl_server`).
    pub fn may_serve(&self) -> bool {
        let (Ok(extended), Ok(usage)) = (self.0.extended_key_usage(), self.0.key_usage()) else { return false };
        extended.is_none_or(|extended| extended.value.server_auth)
            && usage.is_none_or(|usage| {
                usage.value.digital_signature() || usage.value.key_encipherment() || usage.value.key_agreement()
            })
    }

    /// Whether it has critical extensions that are not supported here.
    pub fn has_unknown_demands(&self) -> bool {
        use x509_parser::oid_registry::{
            OID_X509_EXT_BASIC_CONSTRAINTS, OID_X509_EXT_EXTENDED_KEY_USAGE, OID_X509_EXT_KEY_USAGE,
            OID_X509_EXT_NAME_CONSTRAINTS, OID_X509_EXT_SUBJECT_ALT_NAME,
        };
        let known = [
            OID_X509_EXT_BASIC_CONSTRAINTS,
            OID_X509_EXT_EXTENDED_KEY_USAGE,
            OID_X509_EXT_KEY_USAGE,
            OID_X509_EXT_NAME_CONSTRAINTS,
            OID_X509_EXT_SUBJECT_ALT_NAME,
        ];
        self.0.extensions().iter().any(|extension| extension.critical && !known.contains(&extension.oid))
    }

    /// The DNS names and IP addresses of its `subjectAltName`.
    pub fn names(&self) -> Vec<String> {
        let Ok(Some(names)) = self.0.subject_alternative_name() else { return Vec::new() };
        let names = names.value.general_names.iter();
        names
            .filter_map(|name| match name {
                GeneralName::DNSName(name) => Some(excerpt(name)),
                GeneralName::IPAddress(bytes) => address(bytes).map(|address| address.to_string()),
                _ => None,
            })
            .collect()
    }

    /// The last common name of its subject, which counted as a host name before `subjectAltName` existed.
    pub fn common_name(&self) -> Option<String> {
        self.0.subject().iter_common_name().last()?.as_str().ok().map(excerpt)
    }

    /// Whether its common name is this host's and it has no `subjectAltName` for hosts.
    pub fn is_commonly_named(&self, server: &ServerName<'_>) -> bool {
        let ServerName::DnsName(asked) = server else { return false };
        let Some(name) = self.common_name().filter(|_| self.names().is_empty()) else { return false };
        let (name, asked) = (name.to_ascii_lowercase(), asked.as_ref().to_ascii_lowercase());
        let asked = asked.trim_end_matches('.');
        match name.strip_prefix("*.") {
            Some(rest) => {
                rest.contains('.')
                    && asked.split_once('.').is_some_and(|(host, domain)| !host.is_empty() && domain == rest)
            }
            None => name == asked,
        }
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        _ => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
    }
}
