//! Encrypted messages. Any text is read in pieces as it is in one; any bytes come back from the message that is made of them, also
//! as the web interface wraps them; and any text that is a key is one again when it is written down.
#![no_main]

use aws_lc_rs::cipher::{AES_256, EncryptionContext, StreamingEncryptingKey, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;
use bytes::Bytes;
use futures::TryStreamExt as _;
use fuzz::{KEY, base64, coming, from_base64, pieces, wait, whole};
use libfuzzer_sys::fuzz_target;
use vantage6::encoding::{self, DecodeError, Payload};
use vantage6::encryption::{Cryptor, PrivateKey, PublicKey, Recipient, decrypt};
use vantage6::fuzzing;

fuzz_target!(|bytes: &[u8]| {
    wait(async {
        message(bytes).await;
        plain(bytes).await;
        there_and_back(bytes).await;
        from_the_web_interface(bytes).await;
    });
    keys(bytes);
});

async fn read(message: Vec<Bytes>) -> Result<Vec<u8>, DecodeError> {
    Ok(decrypt(coming(message), KEY.clone()).try_collect::<Vec<_>>().await?.concat())
}

/// What somebody sends.
async fn message(bytes: &[u8]) {
    same(&read(pieces(bytes)).await, &read(whole(bytes)).await);
}

/// What somebody sends in a collaboration that isn't encrypted.
async fn plain(bytes: &[u8]) {
    let read = |message| async { Ok(encoding::decode(coming(message)).try_collect::<Vec<_>>().await?.concat()) };
    let all = read(whole(bytes)).await;
    same(&read(pieces(bytes)).await, &all);
    if let Some(strict) = std::str::from_utf8(bytes).ok().and_then(from_base64) {
        assert_eq!(all.as_ref().ok(), Some(&strict));
    }
    let message = Recipient::Plain.encode(payload(bytes)).unwrap();
    let text = message.into_stream().try_collect::<Vec<_>>().await.unwrap().concat();
    assert_eq!(String::from_utf8_lossy(&text), base64(bytes));
}

fn same(one: &Result<Vec<u8>, DecodeError>, other: &Result<Vec<u8>, DecodeError>) {
    match (one, other) {
        (Ok(one), Ok(other)) => assert_eq!(one, other),
        (one, other) => assert_eq!(one.is_ok(), other.is_ok(), "{one:?} {other:?}"),
    }
}

fn payload(bytes: &[u8]) -> Payload {
    Payload::new(bytes.len() as u64, coming(pieces(bytes)))
}

async fn there_and_back(bytes: &[u8]) {
    let message = Recipient::Key(KEY.public().clone()).encode(payload(bytes)).unwrap();
    let length = message.length();
    let text = message.into_stream().try_collect::<Vec<_>>().await.unwrap().concat();
    assert_eq!(text.len() as u64, length);
    let text = String::from_utf8(text).unwrap();
    let got = Cryptor::Encrypted(KEY.clone()).decode_text(&text).await.unwrap();
    assert_eq!(got, unwrapped(bytes));
}

/// What the receiver makes of bytes that look as if the web interface had wrapped them.
fn unwrapped(bytes: &[u8]) -> Vec<u8> {
    let json = serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok() || matches!(bytes, b"NaN" | b"Infinity");
    // The unused bits of the last character may be anything.
    let lenient = base64::engine::GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true);
    let lenient = base64::engine::GeneralPurpose::new(&base64::alphabet::STANDARD, lenient);
    let unwrapped = if json { None } else { base64::Engine::decode(&lenient, bytes).ok() };
    unwrapped.unwrap_or_else(|| bytes.to_vec())
}

/// The web interface puts base64 around key and text. (Its texts are JSON, so never JSON when they are wrapped.)
async fn from_the_web_interface(bytes: &[u8]) {
    let (key, iv) = ([7; 32], [9; 16]);
    let text = base64(bytes).into_bytes();
    if serde_json::from_slice::<serde::de::IgnoredAny>(&text).is_ok() {
        return;
    }
    if text == b"NaN" || text == b"Infinity" {
        return;
    }
    let cipher = UnboundCipherKey::new(&AES_256, &key).unwrap();
    let context = EncryptionContext::Iv128(FixedLength::from(iv));
    let mut cipher = StreamingEncryptingKey::less_safe_ctr(cipher, context).unwrap();
    let mut encrypted = vec![0; text.len() + 16];
    let length = cipher.update(&text, &mut encrypted).unwrap().written().len();
    encrypted.truncate(length);
    let sealed = fuzzing::seal(KEY.public(), base64(&key).as_bytes()).unwrap();
    let message = format!("{}${}${}", base64(&sealed), base64(&iv), base64(&encrypted));
    assert_eq!(read(pieces(message.as_bytes())).await.unwrap(), bytes);
}

fn keys(bytes: &[u8]) {
    if let Ok(key) = PrivateKey::from_pem(bytes) {
        assert!(fuzzing::is_readable_again(&key), "{key:?}");
    }
    if let Ok(key) =
        std::str::from_utf8(bytes).map_err(drop).and_then(|text| PublicKey::from_server(text).map_err(drop))
    {
        assert_eq!(PublicKey::from_server(&key.to_server()), Ok(key));
    }
}
