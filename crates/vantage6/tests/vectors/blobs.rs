//! The same for messages of a blob store, with vantage6-common 4.15.2 (`blobs.json`, by `make_blobs.py`).

use futures_util::StreamExt as _;
use vantage6::encryption::{decrypt_raw, encrypt_raw};

use super::*;

#[derive(Deserialize)]
struct Blob {
    name: String,
    encrypted: bool,
    message: String,
    plain: String,
}

fn decoded(cryptor: &Cryptor, message: &[u8], size: usize) -> Result<Vec<u8>, String> {
    let read = cryptor.decode_blob(pieces(message, size)).try_collect::<Vec<_>>();
    wait(read).map(|pieces| pieces.concat()).map_err(|error| error.to_string())
}

fn encrypted(plain: &[u8], size: usize) -> Vec<u8> {
    let message = encrypt_raw(pieces(plain, size), KEY.public(), std::future::ready(())).unwrap();
    wait(message.try_collect::<Vec<_>>()).unwrap().concat()
}

#[test]
fn what_vantage6_stores_is_read() {
    let blobs: Vec<Blob> = serde_json::from_str(include_str!("blobs.json")).unwrap();
    for Blob { name, encrypted, message, plain } in blobs {
        let cryptor = if encrypted { Cryptor::Encrypted(Arc::clone(&KEY)) } else { Cryptor::Plain };
        for size in [1, 3, 100, 697, 1_000_000] {
            assert!(decoded(&cryptor, &bytes(&message), size).unwrap() == bytes(&plain), "{name} in pieces of {size}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn stored_and_read_in_pieces_of_any_size(plain: Vec<u8>, size in 1usize..50, other_size in 1usize..900) {
        let message = encrypted(&plain, size);
        let cryptor = Cryptor::Encrypted(Arc::clone(&KEY));
        prop_assert_eq!(decoded(&cryptor, &message, other_size).unwrap(), plain.clone());
        prop_assert_ne!(encrypted(&plain, size), message, "every message has a key of its own");
        let text: Vec<_> = wait(vantage6::encoding::encode_pieces(pieces(&plain, size)).try_collect()).unwrap();
        prop_assert_eq!(decoded(&Cryptor::Plain, &text.concat(), other_size).unwrap(), plain);
    }

    #[test]
    fn no_blob_makes_it_panic(bytes: Vec<u8>, text in "[A-Za-z0-9+/=$ ]{0,60}", size in 1usize..70) {
        for message in [&bytes[..], text.as_bytes()] {
            let read = decrypt_raw(pieces(message, size), Arc::clone(&KEY), std::future::ready(()));
            let _ = wait(read.collect::<Vec<_>>());
        }
    }
}

#[test]
fn what_is_stored_here_vantage6_reads() {
    // The second one needs the first one.
    let installed = ["server", "store"].map(|which| {
        let venv = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../testbed/{which}/venv"));
        Command::new(venv).stderr(Stdio::inherit()).output().ok().filter(|output| output.status.success())
    });
    let [_, Some(venv)] = installed else {
        assert!(std::env::var_os("CI").is_none(), "CI has to compare with vantage6, but there is no Python");
        eprintln!("\n!!! SKIPPED: there is no Python, so nothing is compared with the real vantage6 !!!\n");
        return;
    };
    let python = String::from_utf8(venv.stdout).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/make_blobs.py");
    let plain: Vec<u8> = (0..200_000).map(|number: u32| (number % 251) as u8).collect();
    let mut asked = Command::new(python.trim())
        .arg(script)
        .arg("decrypt")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    asked.stdin.take().unwrap().write_all(&encrypted(&plain, 1000)).unwrap();
    let answer = asked.wait_with_output().unwrap();
    assert!(answer.status.success() && answer.stdout == plain);
}
