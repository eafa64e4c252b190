//! The data port, behind TLS. Any bytes into the code that serves it: nothing is handed out or taken without the run's own key, one
//! connection is one request, and an output is whole or an error. Any bytes, that begin as an answer does, into what `receive` and
//! `return` read: the same in pieces as in one. And any bytes as an output, from end to end.
#![no_main]

use std::sync::{Arc, LazyLock, Mutex};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use fuzz::{coming, pieces, wait, whole};
use libfuzzer_sys::fuzz_target;
use secrecy::{ExposeSecret as _, SecretString};
use sextant_core::runtime::Upload;
use sextant_kubernetes::data_port::keys::{KeyOf, NodeSecret};
use sextant_kubernetes::data_port::protocol;
use sextant_kubernetes::data_port::protocol::{Command, Item};
use sextant_kubernetes::data_port::server::{Answer, Input, PodApi, converse_in_memory};
use sextant_kubernetes::pod::fuzzing::{Got, ask};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use vantage6::RunId;

/// What the pods of the seeds have their keys from.
static SECRET: LazyLock<Arc<NodeSecret>> = LazyLock::new(|| Arc::new(NodeSecret::from_bytes(&[7; 32]).unwrap()));

fuzz_target!(|bytes: &[u8]| {
    if bytes.starts_with(b"HTTP/") {
        wait(answer(bytes));
    } else {
        wait(request(bytes));
        wait(output(bytes));
    }
});

/// What was asked of the node.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    run: RunId,
    item: Item,
    /// The output, or that it broke off.
    output: Option<Result<Vec<u8>, ()>>,
}

/// Answers according to the run, and writes down what was asked.
#[derive(Default)]
struct Notes(Mutex<Vec<Asked>>);

impl Notes {
    fn note(&self, run: RunId, item: Item, output: Option<Result<Vec<u8>, ()>>) -> Result<(), Answer> {
        self.0.lock().unwrap().push(Asked { run, item, output });
        match run.0 % 3 {
            0 => Err(Answer::Later),
            1 => Ok(()),
            _ => Err(Answer::Refused("it is over".to_owned())),
        }
    }
}

#[async_trait::async_trait]
impl PodApi for Notes {
    fn key_of(&self, _: RunId, job: &str) -> Option<KeyOf> {
        (!job.is_empty()).then_some(KeyOf::Run)
    }

    async fn input(&self, run: RunId) -> Result<Input, Answer> {
        self.note(run, Item::Input, None)?;
        Ok(coming(pieces(b"the input")).boxed())
    }

    async fn token(&self, run: RunId) -> Result<SecretString, Answer> {
        self.note(run, Item::Token, None).map(|()| "the token".into())
    }

    async fn next(&self, run: RunId) -> Command {
        self.note(run, Item::Next, None).map_or(Command::Wait, |()| Command::Upload)
    }

    async fn deliver(&self, run: RunId, upload: Upload) -> Result<(), Answer> {
        let output = upload.bytes.try_collect::<Vec<_>>().await.map(|output| output.concat());
        if let Ok(output) = &output {
            assert_eq!(output.len() as u64, upload.length, "an output that was cut off");
        }
        self.note(run, Item::Output, Some(output.map_err(drop)))
    }
}

/// Says all that to the node; gives its answers and what was asked of it.
async fn say(pieces: Vec<Bytes>) -> (Vec<u8>, Vec<Asked>) {
    let (near, far) = tokio::io::duplex(1000);
    let notes = Arc::new(Notes::default());
    let (mut reading, mut writing) = tokio::io::split(near);
    let speaking = async {
        for piece in pieces {
            if writing.write_all(&piece).await.is_err() {
                break;
            }
        }
    };
    let mut answers = Vec::new();
    let listening = reading.read_to_end(&mut answers);
    let serving = converse_in_memory(far, SECRET.clone(), notes.clone());
    let _ = tokio::join!(speaking, listening, serving);
    let asked = std::mem::take(&mut *notes.0.lock().unwrap());
    (answers, asked)
}

async fn request(bytes: &[u8]) {
    let (answers, asked) = say(pieces(bytes)).await;
    let (other_answers, other_asked) = say(whole(bytes)).await;
    assert_eq!(asked, other_asked);
    assert_eq!(status(&answers), status(&other_answers));
    assert!(asked.len() <= 1, "{asked:?}");
    for Asked { run, .. } in &asked {
        let key = SECRET.run_key(*run, &KeyOf::Run);
        let key = key.expose_secret().as_bytes();
        assert!(bytes.windows(key.len()).any(|window| window == key), "run {run} without its key");
        let names_a_job =
            bytes.to_ascii_lowercase().windows(protocol::JOB.len()).any(|window| window == protocol::JOB.as_bytes());
        assert!(names_a_job, "run {run} of a pod that doesn't say which it is");
    }
    if asked.is_empty() {
        assert!(!matches!(status(&answers), Some(b"200")), "{}", String::from_utf8_lossy(&answers));
    }
}

fn status(answers: &[u8]) -> Option<&[u8]> {
    answers.strip_prefix(b"HTTP/1.1 ").or(answers.strip_prefix(b"HTTP/1.0 ")).and_then(|rest| rest.get(..3))
}

/// An output that is sent as `return` does, whole and cut off.
async fn output(bytes: &[u8]) {
    let run = RunId(1);
    let key = SECRET.run_key(run, &KeyOf::Run);
    let missing = bytes.first().map_or(0, |first| u64::from(*first) % 3);
    let head = format!(
        "PUT {} HTTP/1.1\r\nhost: node\r\nauthorization: Bearer {}\r\nx-sextant-job: job\r\ncontent-length: {}\r\n\r\n",
        protocol::path(run, Item::Output),
        key.expose_secret(),
        bytes.len() as u64 + missing,
    );
    let (answers, asked) = say(pieces(&[head.as_bytes(), bytes].concat())).await;
    let output = if missing == 0 { Ok(bytes.to_vec()) } else { Err(()) };
    assert_eq!(asked, [Asked { run, item: Item::Output, output: Some(output) }]);
    assert!(missing > 0 || status(&answers) == Some(b"200"));
}

/// What the pod makes of an answer.
async fn answer(bytes: &[u8]) {
    for command in [true, false] {
        let got = hear(pieces(bytes), command).await;
        match (&got, hear(whole(bytes), command).await) {
            // How much comes of what breaks off is chance.
            (Got::Broken(_), Got::Broken(_)) => {}
            (got, other) => assert_eq!(*got, other),
        }
        if let Got::Command(Some(command)) = got {
            let word = command.as_str().as_bytes();
            assert!(bytes.windows(word.len()).any(|window| window == word), "{command:?}");
        }
    }
}

async fn hear(pieces: Vec<Bytes>, command: bool) -> Got {
    let (near, far) = tokio::io::duplex(1000);
    let (mut reading, mut writing) = tokio::io::split(far);
    let node = async move {
        // Only then: an answer to nothing is none.
        let _ = reading.read(&mut [0; 200]).await;
        for piece in pieces {
            if writing.write_all(&piece).await.is_err() {
                break;
            }
        }
    };
    tokio::join!(ask(near, command), node).0
}
