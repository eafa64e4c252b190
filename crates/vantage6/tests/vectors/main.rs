//! Compares encryption with that of vantage6-common 4.5.5: messages that it has made (`vectors.json`, by `make.py`), and our
//! messages, which it reads.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that fails, panics")]

mod blobs;

use std::{
    collections::HashMap,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, LazyLock},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures_util::{Stream, TryStreamExt as _, stream};
use proptest::prelude::*;
use secrecy::ExposeSecret as _;
use serde::Deserialize;
use serde_json::json;
use vantage6::{
    Organization, OrganizationId,
    encoding::Payload,
    encryption::{Cryptor, PrivateKey, PublicKey, Recipient, decrypt, encrypt},
};

#[derive(Deserialize)]
struct Vectors {
    keys: HashMap<String, Key>,
    messages: Vec<Message>,
    damaged: Vec<Message>,
}

#[derive(Deserialize)]
struct Key {
    pkcs1: Option<String>,
    pkcs8: String,
    public: String,
}

#[derive(Deserialize)]
struct Message {
    name: String,
    message: String,
    #[serde(default)]
    plain: String,
    /// What RSACryptor makes of it.
    reads: Option<String>,
}

static VECTORS: LazyLock<Vectors> = LazyLock::new(|| serde_json::from_str(include_str!("vectors.json")).unwrap());
static KEY: LazyLock<Arc<PrivateKey>> = LazyLock::new(|| private("organization"));

fn private(name: &str) -> Arc<PrivateKey> {
    Arc::new(PrivateKey::from_pem(VECTORS.keys[name].pkcs8.as_bytes()).unwrap())
}

fn bytes(base64: &str) -> Vec<u8> {
    STANDARD.decode(base64).unwrap()
}

fn pieces<E: Send + 'static>(text: &[u8], size: usize) -> impl Stream<Item = Result<Bytes, E>> + Send + use<E> {
    stream::iter(text.chunks(size).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect::<Vec<_>>())
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn read(message: &str, size: usize) -> Result<Vec<u8>, String> {
    let read = decrypt(pieces(message.as_bytes(), size), Arc::clone(&KEY)).try_collect::<Vec<_>>();
    wait(read).map(|pieces| pieces.concat()).map_err(|error| error.to_string())
}

fn write(plain: &[u8], size: usize, recipient: &PublicKey) -> String {
    let message = encrypt(Payload::new(plain.len() as u64, pieces(plain, size)), recipient).unwrap();
    let length = message.length();
    let text = wait(message.into_stream().try_collect::<Vec<_>>()).unwrap().concat();
    assert_eq!(text.len() as u64, length);
    String::from_utf8(text).unwrap()
}

#[test]
fn what_vantage6_encrypts_is_read() {
    for Message { name, message, plain, reads } in &VECTORS.messages {
        // Where RSACryptor fails or guesses wrong, what was meant is read.
        let guess = name == "base64 that is no JSON";
        let wanted = if guess { reads.as_ref().unwrap() } else { plain };
        for size in [1, 3, 100, 697, 1_000_000] {
            assert_eq!(read(message, size).unwrap(), bytes(wanted), "{name} in pieces of {size}");
        }
        assert_eq!(wait(Cryptor::Encrypted(Arc::clone(&KEY)).decode_text(message)).unwrap(), bytes(wanted), "{name}");
        let lines: String =
            message.as_bytes().chunks(70).map(|line| format!("{}\n", String::from_utf8_lossy(line))).collect();
        assert_eq!(read(&lines, 50).unwrap(), bytes(wanted), "{name} in lines");
    }
}

#[test]
fn damage_is_said() {
    let cannot_open = "its key can't be opened";
    let problems = HashMap::from([
        ("not encrypted", "it is not encrypted, but this collaboration is"),
        ("text", "it is not encrypted, but this collaboration is"),
        ("one part missing", "it ends before its encrypted part"),
        ("one part too many", "in its encrypted part, character"),
        ("another organization's", cannot_open),
        ("another length of key", "its key has 256 bytes, but one for this organization's key has 512"),
        ("a bit of the key", cannot_open),
        ("half of the key", "its key has 256 bytes"),
        ("no key", "its key has 0 bytes"),
        ("a key of 16 bytes", cannot_open),
        ("a key that is text", cannot_open),
        ("key is no base64", "its key is not base64"),
        ("a short iv", "its iv has 12 bytes instead of 16"),
        ("no iv", "its iv has 0 bytes instead of 16"),
        ("iv is no base64", "its iv is not base64"),
        ("ends in the middle", "of its encrypted part, it ends in the middle"),
        ("body is no base64", "in its encrypted part, character"),
        ("something behind it", "in its encrypted part, "),
    ]);
    assert_eq!(problems.len(), VECTORS.damaged.len());
    for Message { name, message, .. } in &VECTORS.damaged {
        for size in [1, 50, 1_000_000] {
            let error = read(message, size).unwrap_err();
            assert!(error.contains(problems[name.as_str()]), "{name}: {error}");
            assert!(error.contains("can't be decrypted"), "{name}: {error}");
        }
    }
}

#[test]
fn keys_are_read_and_written_as_vantage6_has_them() {
    for (name, Key { pkcs1, pkcs8, public }) in &VECTORS.keys {
        let key = PrivateKey::from_pem(pkcs8.as_bytes()).unwrap();
        assert_eq!(key.public().to_server(), *public, "{name}");
        assert_eq!(*key.public(), PublicKey::from_server(public).unwrap(), "{name}");
        assert_eq!(key.public().bits(), if name == "small" { 2048 } else { 4096 });
        let Some(pkcs1) = pkcs1 else { continue };
        assert_eq!(PrivateKey::from_pem(pkcs1.as_bytes()).unwrap().public(), key.public(), "{name}");
        assert_eq!(key.to_pem().unwrap().expose_secret(), pkcs1, "{name}");
        assert_eq!(format!("{key:?}"), format!("PrivateKey(of PublicKey({}))", key.public().fingerprint()));
    }
    assert_ne!(private("organization").public(), private("stranger").public());
}

#[test]
fn other_files_are_no_keys() {
    let pkcs8 = &VECTORS.keys["small"].pkcs8;
    let some_lines = pkcs8.lines().enumerate().filter(|(number, _)| !(9..12).contains(number));
    let some_lines: String = some_lines.map(|(_, line)| format!("{line}\n")).collect();
    for (text, problem) in [
        (String::new(), "it is not a PEM file"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----".into(), "it is not a PEM file"),
        (private("small").public().to_pem(), "it holds a public key, not a private one"),
        (pkcs8.replace("PRIVATE", "EC PRIVATE"), "another kind of key (EC PRIVATE KEY)"),
        (pkcs8.replace("PRIVATE", "ENCRYPTED PRIVATE"), "protected by a password"),
        (some_lines, "not an RSA key"),
        (pkcs8.replace("-----END", "-----"), "no line -----END PRIVATE KEY-----"),
    ] {
        let error = PrivateKey::from_pem(text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(problem), "{text}: {error}");
    }
    let pem = private("small").public().to_pem();
    for (text, problem) in [
        (pem.clone(), "it is not base64"),
        (STANDARD.encode("key"), "it is not the PEM of a public key"),
        (STANDARD.encode(pem.replace("PUBLIC", "RSA PUBLIC")), "in another form (RSA PUBLIC KEY)"),
        (STANDARD.encode(pkcs8), "it is not the PEM of a public key"),
    ] {
        let organization = Organization { id: OrganizationId(7), name: "x".into(), public_key: Some(text) };
        let error = Recipient::organization(&organization).unwrap_err().to_string();
        assert!(error.contains(problem) && error.contains("organization 7"), "{error}");
    }
    let nobody = Organization { id: OrganizationId(7), name: "x".into(), public_key: None };
    let error = Recipient::organization(&nobody).unwrap_err().to_string();
    assert!(error.contains("organization 7 has no public key"), "{error}");
}

#[test]
fn a_new_key_is_one_of_vantage6s_kind() {
    let key = PrivateKey::generate().unwrap();
    assert_eq!(key.public().bits(), 4096);
    let again = PrivateKey::from_pem(key.to_pem().unwrap().expose_secret().as_bytes()).unwrap();
    assert_eq!(again.public(), key.public());
    assert_ne!(key.public(), KEY.public());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn there_and_back_in_pieces_of_any_size(rest: Vec<u8>, size in 1usize..50, other_size in 1usize..900) {
        // Not base64, so that nobody takes it for the web interface's.
        let plain = [b"{".as_slice(), &rest].concat();
        let message = write(&plain, size, KEY.public());
        prop_assert_eq!(read(&message, other_size).unwrap(), plain.clone());
        prop_assert_ne!(write(&plain, size, KEY.public()), message, "every message has a key of its own");
    }

    #[test]
    fn nothing_makes_it_panic(text in "[A-Za-z0-9+/=$ ]{0,60}", bytes: Vec<u8>, size in 1usize..70) {
        let _ = read(&text, size);
        let _ = wait(decrypt(pieces(&bytes, size), Arc::clone(&KEY)).try_collect::<Vec<_>>());
        let _ = PrivateKey::from_pem(&bytes);
        let _ = PublicKey::from_server(&text);
    }
}

/// A bit anywhere in the message's key or iv, or a cut anywhere: an error, or other bytes, but never a panic.
#[test]
fn any_bit_may_be_wrong() {
    let good = write(b"{\"method\": \"x\"}", 100, KEY.public());
    for at in (0..good.len()).step_by(23) {
        let mut bad = good.clone().into_bytes();
        bad[at] ^= 1;
        assert_ne!(
            read(&String::from_utf8_lossy(&bad), 64).ok().as_deref(),
            Some(b"{\"method\": \"x\"}".as_slice()),
            "{at}"
        );
        if at > 0 {
            assert!(read(&good[..at], 64).is_err() || good.len() - at < 24, "cut at {at}");
        }
    }
}

#[test]
fn what_is_encrypted_here_vantage6_reads() {
    let venv = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testbed/server/venv");
    let Ok(venv) = Command::new(venv).stderr(Stdio::inherit()).output() else {
        assert!(std::env::var_os("CI").is_none(), "CI has to compare with vantage6, but there is no Python");
        eprintln!("\n!!! SKIPPED: there is no Python, so nothing is compared with the real vantage6 !!!\n");
        return;
    };
    assert!(venv.status.success());
    let python = format!("{}/bin/python", String::from_utf8(venv.stdout).unwrap().trim());
    let texts: Vec<Vec<u8>> =
        [b"{}".to_vec(), br#"{"a": "b"}"#.to_vec(), format!("{:?}", (0..50_000).collect::<Vec<u32>>()).into()]
            .into_iter()
            .chain((1..40).map(|length| format!("\"{}\"", "x".repeat(length)).into()))
            .collect();
    let messages: Vec<_> = texts.iter().map(|text| write(text, 1000, KEY.public())).collect();
    // A key in the form in which we write it.
    let key = KEY.to_pem().unwrap();
    let question = json!({"private_key": key.expose_secret(), "messages": messages});
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/make.py");
    let mut asked =
        Command::new(python).arg(script).arg("decrypt").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    asked.stdin.take().unwrap().write_all(question.to_string().as_bytes()).unwrap();
    let answer = asked.wait_with_output().unwrap();
    assert!(answer.status.success());
    let read: Vec<Option<String>> = serde_json::from_slice(&answer.stdout).unwrap();
    let read: Vec<_> = read.iter().map(|text| bytes(text.as_ref().expect("vantage6 can't read it"))).collect();
    assert_eq!(read, texts);
}
