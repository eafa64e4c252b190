//! Reads the file of `ca_certificates`: PEM with one or more certificates. Errors name the file and say what to do.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::CertificateDer;

use super::certificate::Certificate;

/// The most bytes that are read. Mozilla's list has a quarter of a megabyte.
const LARGEST: u64 = 16 << 20;
/// The labels that OpenSSL accepts for certificates; other programs write only the first.
const LABELS: [&str; 2] = ["CERTIFICATE", "X509 CERTIFICATE"];

/// The operator's own CA certificates.
#[derive(Debug, Clone)]
pub struct Bundle {
    pub(super) path: Option<PathBuf>,
    pub(super) certificates: Vec<CertificateDer<'static>>,
    holds_key: bool,
}

impl Bundle {
    /// Reads a file.
    ///
    /// # Errors
    /// The file has no usable certificate, or a broken one. The message names the file and says what to do.
    pub fn read(path: &Path) -> Result<Self, String> {
        let read = || -> io::Result<Vec<u8>> {
            let mut bytes = Vec::new();
            File::open(path)?.take(LARGEST).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        let bytes =
            read().map_err(|error| format!("The CA certificates {} can't be read: {error}.", path.display()))?;
        Self::of(&bytes, Some(path))
            .map_err(|why| format!("The CA certificates {} can't be used: {why}", path.display()))
    }

    /// Parses certificates that do not come from a file.
    ///
    /// # Errors
    /// As for [`read`](Self::read).
    pub fn parse(pem: &[u8]) -> Result<Self, String> {
        Self::of(pem, None).map_err(|why| format!("The CA certificates can't be used: {why}"))
    }

    /// Whether the file also has a private key, which is not needed there.
    #[must_use]
    pub fn holds_private_key(&self) -> bool {
        self.holds_key
    }

    fn of(bytes: &[u8], path: Option<&Path>) -> Result<Self, String> {
        if bytes.trim_ascii().is_empty() {
            return Err("the file is empty. Write the CA's certificate into it, in PEM.".to_owned());
        }
        let sections = sections(bytes)?;
        let certificates = sections.iter().filter(|section| LABELS.contains(&section.label.as_str()));
        let certificates: Vec<_> = certificates
            .enumerate()
            .map(|(index, section)| section.certificate(index + 1))
            .collect::<Result<_, _>>()?;
        let holds_key = sections.iter().any(|section| section.label.ends_with("PRIVATE KEY"));
        if certificates.is_empty() {
            return Err(without_certificate(bytes, &sections, path));
        }
        Ok(Self { path: path.map(Path::to_owned), certificates, holds_key })
    }
}

/// One part of a PEM file.
struct Section {
    label: String,
    /// The number of its first line, from 1.
    line: usize,
    /// `None` if the section has no end.
    text: Option<String>,
}

impl Section {
    fn certificate(&self, number: usize) -> Result<CertificateDer<'static>, String> {
        let broken = |why: &str| {
            format!(
                "its {} certificate, in line {}, is broken: {why}. Replace it, or remove it.",
                ordinal(number),
                self.line
            )
        };
        let text = self.text.as_ref().ok_or_else(|| broken("there is no `-----END CERTIFICATE-----` for it"))?;
        let der = STANDARD.decode(text).map_err(|error| broken(&format!("it is not base64 ({error})")))?;
        let certificate = CertificateDer::from(der);
        if Certificate::read(&certificate).is_some() {
            Ok(certificate)
        } else {
            Err(broken("its content is not a certificate"))
        }
    }
}

fn ordinal(number: usize) -> String {
    let ending = match (number % 10, number % 100) {
        (1, tens) if tens != 11 => "st",
        (2, tens) if tens != 12 => "nd",
        (3, tens) if tens != 13 => "rd",
        _ => "th",
    };
    format!("{number}{ending}")
}

/// Returns the parts between `-----BEGIN X-----` and `-----END X-----` and ignores the text around them.
fn sections(bytes: &[u8]) -> Result<Vec<Section>, String> {
    let text = String::from_utf8_lossy(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes));
    // Old Macs end lines with CR.
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let mut sections: Vec<Section> = Vec::new();
    let mut open: Option<(Section, String)> = None;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if let Some(label) = line.strip_prefix("-----BEGIN ") {
            let Some(label) = label.strip_suffix("-----") else {
                return Err(format!("line {} is broken: it must end with five dashes.", index + 1));
            };
            sections.extend(open.take().map(|(section, _)| section));
            open = Some((Section { label: label.to_owned(), line: index + 1, text: None }, String::new()));
        } else if line.starts_with("-----END ") {
            if let Some((mut section, body)) = open.take() {
                section.text = Some(body).filter(|_| line == format!("-----END {}-----", section.label));
                sections.push(section);
            }
        } else if let Some((_, body)) = &mut open {
            body.extend(line.chars().filter(|c| !c.is_whitespace()));
        }
    }
    sections.extend(open.map(|(section, _)| section));
    Ok(sections)
}

/// Describes a file without certificates.
fn without_certificate(bytes: &[u8], sections: &[Section], path: Option<&Path>) -> String {
    let file = path.map_or_else(|| "FILE".to_owned(), |path| path.display().to_string());
    let has = |label: &str| sections.iter().any(|section| section.label == label);
    if sections.iter().any(|section| section.label.ends_with("PRIVATE KEY")) {
        return "it holds a private key and no certificate. Name the certificate of the CA that issued the server's, \
            and keep the key where only its owner can read it."
            .to_owned();
    }
    if has("TRUSTED CERTIFICATE") {
        return format!(
            "it is in OpenSSL's own form (TRUSTED CERTIFICATE). Make it a plain one with `openssl x509 -in {file} -out ca.pem`, and name \
             that."
        );
    }
    if has("PKCS7") || has("CMS") {
        return format!(
            "it is PKCS#7. Extract the certificates with `openssl pkcs7 -print_certs -in {file} -out ca.pem`, and name that."
        );
    }
    if has("CERTIFICATE REQUEST") || has("NEW CERTIFICATE REQUEST") {
        return "it holds a request for a certificate, not a certificate. Name the CA's certificate.".to_owned();
    }
    if let Some(section) = sections.first() {
        let label = printable::excerpt_of(&section.label, 40);
        return format!("it holds a {label} and no certificate. Name the CA's certificate, in PEM.");
    }
    if Certificate::read(bytes).is_some() {
        return format!(
            "it is in DER, not PEM. Make it PEM with `openssl x509 -inform der -in {file} -out ca.pem`, and name that."
        );
    }
    if bytes.contains(&0) && bytes.first() != Some(&0x30) {
        return "it is not a text in ASCII or UTF-8 (UTF-16, as some programs of Windows write it?). Write it as ASCII.".to_owned();
    }
    if bytes.first() == Some(&0x30) && std::str::from_utf8(bytes).is_err() {
        return format!(
            "it is binary, neither PEM nor a single certificate. If it is PKCS#12 (.p12, .pfx), extract the CA's \
             certificate with `openssl pkcs12 -in {file} -nokeys -cacerts -out ca.pem`, and name that."
        );
    }
    "there is no certificate in it; each must begin with -----BEGIN CERTIFICATE-----.".to_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that fails, panics")]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

    use super::*;

    fn certificate(is_ca: IsCa) -> rcgen::Certificate {
        let mut params = CertificateParams::new(["a.example".to_owned()]).unwrap();
        params.is_ca = is_ca;
        params.self_signed(&KeyPair::generate().unwrap()).unwrap()
    }

    #[test]
    fn files_that_can_be_used() {
        let ca = certificate(IsCa::Ca(BasicConstraints::Unconstrained));
        let (pem, leaf) = (ca.pem(), certificate(IsCa::NoCa).pem());
        let key = KeyPair::generate().unwrap().serialize_pem();
        for (text, count, holds_key) in [
            (pem.clone(), 1, false),
            (format!("{pem}{leaf}"), 2, false),
            (format!("Subject: A\n\n{pem}\nand more\n{leaf}"), 2, false),
            (format!("\u{feff}{pem}"), 1, false),
            (pem.replace('\n', "\r\n"), 1, false),
            (pem.replace('\n', "\r"), 1, false),
            (pem.replace("CERTIFICATE", "X509 CERTIFICATE"), 1, false),
            (format!("  {}  ", pem.replace('\n', "  \n  ")), 1, false),
            (format!("{key}{pem}"), 1, true),
        ] {
            let bundle = Bundle::parse(text.as_bytes()).unwrap();
            assert_eq!((bundle.certificates.len(), bundle.holds_private_key()), (count, holds_key), "{text}");
        }
    }

    #[test]
    fn others_are_told_with_what_to_do() {
        let ca = certificate(IsCa::Ca(BasicConstraints::Unconstrained));
        let pem = ca.pem();
        let key = KeyPair::generate().unwrap().serialize_pem();
        let half: Vec<&str> = pem.lines().take(4).collect();
        let wide: Vec<u8> = "\u{feff}-----BEGIN".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let cases: [(Vec<u8>, &str); 14] = [
            (b"".to_vec(), "is empty"),
            (b" \n\n".to_vec(), "is empty"),
            (b"hello".to_vec(), "begin with -----BEGIN CERTIFICATE-----"),
            (key.into_bytes(), "private key and no certificate"),
            (ca.der().to_vec(), "openssl x509 -inform der"),
            (b"\x30\x82\xff\xff\x01\x02".to_vec(), "pkcs12"),
            (wide, "UTF-16"),
            (pem.replace("CERTIFICATE", "TRUSTED CERTIFICATE").into_bytes(), "openssl x509 -in"),
            (pem.replace("CERTIFICATE", "PKCS7").into_bytes(), "openssl pkcs7"),
            (pem.replace("CERTIFICATE", "CERTIFICATE REQUEST").into_bytes(), "request for a certificate"),
            (half.join("\n").into_bytes(), "its 1st certificate, in line 1, is broken: there is no"),
            (format!("{pem}{}", pem.replace("\nMII", "\nM!I")).into_bytes(), "its 2nd certificate, in line"),
            (format!("{pem}{}\n{pem}", half.join("\n")).into_bytes(), "its 2nd certificate, in line"),
            (
                b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_vec(),
                "content is not a certificate",
            ),
        ];
        for (bytes, says) in cases {
            let error = Bundle::parse(&bytes).unwrap_err();
            assert!(error.contains(says), "{says}: {error}");
        }
    }

    #[test]
    fn numbers_are_said_as_people_say_them() {
        assert_eq!([1, 2, 3, 4, 11, 12, 22, 113].map(ordinal).join(" "), "1st 2nd 3rd 4th 11th 12th 22nd 113th");
    }
}
