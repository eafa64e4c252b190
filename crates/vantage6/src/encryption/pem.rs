//! PEM, and the small part of DER that key files need. Buffers with parts of a private key are wiped.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

/// The bytes of a block, or what is wrong with it.
type Block = Result<Zeroizing<Vec<u8>>, String>;

/// Returns the label and bytes of the first PEM block whose label has this ending.
pub(super) fn block(text: &[u8], ending: &str) -> Option<(String, Block)> {
    let text = std::str::from_utf8(text).ok()?;
    let mut rest = text;
    loop {
        let (_, after) = rest.split_once("-----BEGIN ")?;
        let (label, body) = after.split_once("-----")?;
        if label.ends_with(ending) && !label.contains('\n') {
            let bytes = match body.split_once(&format!("-----END {label}-----")) {
                Some((body, _)) if body.contains(':') => Err("it has headers, so it is protected by a password".into()),
                Some((body, _)) => decode(body),
                None => Err(format!("it has no line -----END {label}-----")),
            };
            return Some((label.to_owned(), bytes));
        }
        rest = body;
    }
}

fn decode(body: &str) -> Block {
    // Allocated in advance, because a growing vector would leave copies in memory.
    let mut text = Zeroizing::new(Vec::with_capacity(body.len()));
    text.extend(body.bytes().filter(|byte| !byte.is_ascii_whitespace()));
    let mut bytes = Zeroizing::new(vec![0; text.len()]);
    let length = STANDARD.decode_slice(&text, &mut bytes).map_err(|error| format!("it is not base64: {error}"))?;
    bytes.truncate(length);
    Ok(bytes)
}

/// Writes a PEM text byte for byte as OpenSSL does, because other programs compare public keys as texts.
pub(super) fn text(label: &str, der: &[u8]) -> Zeroizing<String> {
    let encoded = Zeroizing::new(STANDARD.encode(der));
    let mut text = Zeroizing::new(String::with_capacity(encoded.len() * 65 / 64 + 2 * label.len() + 40));
    text.push_str(&format!("-----BEGIN {label}-----\n"));
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const SEQUENCE: u8 = 0x30;
/// `version` 0 and the algorithm rsaEncryption, the beginning of each PKCS#8 file with an RSA key.
const RSA_IN_PKCS8: &[u8] =
    &[0x02, 0x01, 0x00, 0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];

/// Wraps a PKCS#1 key into PKCS#8.
pub(super) fn to_pkcs8(pkcs1: &[u8]) -> Zeroizing<Vec<u8>> {
    let key = element(OCTET_STRING, &[pkcs1]);
    element(SEQUENCE, &[RSA_IN_PKCS8, &key])
}

/// Extracts the PKCS#1 key from PKCS#8.
pub(super) fn to_pkcs1(pkcs8: &[u8]) -> Option<&[u8]> {
    let (inner, _) = take(SEQUENCE, pkcs8)?;
    let (_version, rest) = take(INTEGER, inner)?;
    let (_algorithm, rest) = take(SEQUENCE, rest)?;
    take(OCTET_STRING, rest).map(|(key, _)| key)
}

fn element(tag: u8, parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut element = Zeroizing::new(Vec::with_capacity(length + 10));
    element.push(tag);
    if length < 0x80 {
        element.push(length as u8);
    } else {
        let bytes = length.to_be_bytes();
        let significant = &bytes[bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len())..];
        element.push(0x80 | significant.len() as u8);
        element.extend_from_slice(significant);
    }
    for part in parts {
        element.extend_from_slice(part);
    }
    element
}

/// Returns the content of the first element and the bytes after it.
fn take(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
        let length = bytes.iter().try_fold(0usize, |length, byte| length.checked_mul(256)?.checked_add((*byte).into()));
        (length?, rest)
    };
    rest.split_at_checked(length).filter(|_| found == tag)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn there_and_back(der: Vec<u8>) {
            let text = text("RSA PRIVATE KEY", &der);
            let (label, bytes) = block(text.as_bytes(), "PRIVATE KEY").unwrap();
            prop_assert_eq!(label, "RSA PRIVATE KEY");
            prop_assert_eq!(&bytes.unwrap()[..], &der[..]);
            prop_assert!(text.lines().all(|line| line.len() <= 64));
            let pkcs8 = to_pkcs8(&der);
            prop_assert_eq!(to_pkcs1(&pkcs8).unwrap(), &der[..]);
        }

        #[test]
        fn nothing_makes_it_panic(bytes: Vec<u8>, text in "(-----BEGIN |PRIVATE KEY|-----|-----END |[a-zA-Z0-9+/=\n:]){0,9}") {
            let _ = to_pkcs1(&bytes);
            let _ = block(&bytes, "KEY");
            let _ = block(text.as_bytes(), "KEY");
        }
    }

    #[test]
    fn the_right_block_is_found() {
        let text = "Bag Attributes\n-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n\
                    -----BEGIN PRIVATE KEY-----\r\nAQID\r\n-----END PRIVATE KEY-----";
        let (label, bytes) = block(text.as_bytes(), "PRIVATE KEY").unwrap();
        assert_eq!((label.as_str(), &bytes.unwrap()[..]), ("PRIVATE KEY", &[1, 2, 3][..]));
        assert!(block(text.as_bytes(), "PUBLIC KEY").is_none());
        for (text, problem) in [
            ("-----BEGIN PRIVATE KEY-----\nAQID\n", "no line -----END"),
            ("-----BEGIN PRIVATE KEY-----\nA!==\n-----END PRIVATE KEY-----", "not base64"),
            (
                "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAQID\n-----END RSA PRIVATE KEY-----",
                "password",
            ),
        ] {
            let error = block(text.as_bytes(), "PRIVATE KEY").unwrap().1.unwrap_err();
            assert!(error.contains(problem), "{text}: {error}");
        }
    }
}
