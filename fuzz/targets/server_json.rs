//! The server's answers and events: any text into everything that reads one. However it is cut into pieces, it must mean the same;
//! what is left out of it is what a real parser would leave out; and nothing of an answer that may hold a token is repeated.
//! And any text as one that people are shown: as a name, as an algorithm's log, and as the name of an image.
#![no_main]

use fuzz::{pieces, wait, whole};
use libfuzzer_sys::fuzz_target;
use printable::is_deceptive;
use serde_json::Value;
use sextant_core::image_reference::ImageReference;
use sextant_core::{image, log_text};
use socketio::Args;
use socketio::packet::socket::{Body, Packet};
use vantage6::{Collaboration, Incoming, Node, Organization, Outgoing, RunStatus, ServerUrl, TaskOrigin, fuzzing};

/// How large an answer may be.
const LIMIT: u64 = 2000;
/// As deep as the client looks for inputs.
const DEPTH: usize = 64;

fuzz_target!(|bytes: &[u8]| {
    inputs(bytes);
    wait(answers(bytes));
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    resources(text);
    words(text);
    shown(text);
    image_name(text);
    event(text);
});

/// Leaving out inputs: in pieces as in one, and as a parser would.
fn inputs(bytes: &[u8]) {
    for outermost in [true, false] {
        for keep in [0, 3] {
            let all = fuzzing::cut(&whole(bytes), outermost, keep);
            assert_eq!(all, fuzzing::cut(&pieces(bytes), outermost, keep));
            let (kept, _, is_whole) = all;
            // With an escape in it, a key is another one here, and an input longer than it looks.
            let plain = !bytes.contains(&b'\\');
            if let Some(value) = serde_json::from_slice::<Value>(bytes).ok().filter(|_| plain) {
                assert!(is_whole);
                let kept: Value = serde_json::from_slice(&kept).unwrap();
                assert_eq!(kept, without_inputs(&value, outermost, keep, 1));
            }
        }
    }
}

fn without_inputs(value: &Value, outermost: bool, keep: usize, depth: usize) -> Value {
    match value {
        _ if depth > DEPTH || outermost && depth > 1 => value.clone(),
        Value::Array(values) if !outermost => {
            values.iter().map(|value| without_inputs(value, outermost, keep, depth + 1)).collect()
        }
        Value::Object(map) => {
            let without = |(key, value): (&String, &Value)| match value {
                Value::String(text) if key == "input" && (keep == 0 || text.len() > keep) => (key.clone(), Value::Null),
                _ => (key.clone(), without_inputs(value, outermost, keep, depth + 1)),
            };
            map.iter().map(without).collect()
        }
        _ => value.clone(),
    }
}

/// Everything that the client reads of an answer.
async fn answers(bytes: &[u8]) {
    let cut = || pieces(bytes);
    let page = fuzzing::page(cut(), 10, LIMIT).await;
    same(&page, &fuzzing::page(whole(bytes), 10, LIMIT).await);
    if let Ok((_, size, _)) = page {
        assert_eq!(size, bytes.len() as u64);
    }
    let run = fuzzing::run(cut(), LIMIT).await;
    same(&run, &fuzzing::run(whole(bytes), LIMIT).await);
    if run.is_ok_and(|run| run.input.is_some()) {
        panic!("an input that was to be left out");
    }
    let input = fuzzing::input(cut(), LIMIT).await;
    if let (Ok(one), Ok(other)) = (&input, &fuzzing::input(whole(bytes), LIMIT).await) {
        assert_eq!(one, other);
    }
    let login = fuzzing::login(cut(), LIMIT).await;
    same(&login, &fuzzing::login(whole(bytes), LIMIT).await);
    if let Err(error) = login {
        assert!(!error.to_string().contains("eyJ"), "{error}");
    }
    for status in [400, 401, 404, 500, 503] {
        let error = fuzzing::refusal(status, cut()).await;
        assert!(error.to_string().len() < 4000, "{error}");
    }
}

/// The same meaning, or none either way.
fn same<T: std::fmt::Debug, E>(one: &Result<T, E>, other: &Result<T, E>) {
    match (one, other) {
        (Ok(one), Ok(other)) => assert_eq!(format!("{one:?}"), format!("{other:?}")),
        (one, other) => assert_eq!(one.is_ok(), other.is_ok()),
    }
}

fn resources(text: &str) {
    let _ = serde_json::from_str::<Node>(text);
    let _ = serde_json::from_str::<Collaboration>(text);
    let _ = serde_json::from_str::<Organization>(text);
    if serde_json::from_str::<TaskOrigin>(text).is_ok() {
        // What doesn't speak of a parent doesn't pass for a first task.
        let said: Value = serde_json::from_str(text).unwrap();
        assert!(said.is_array() || said.get("parent").is_some(), "{text}");
    }
}

/// Texts in the answers that mean something.
fn words(text: &str) {
    if let Some(date) = fuzzing::date(text) {
        let sent = vantage6::to_server(date);
        let again = fuzzing::date(&sent).unwrap_or_else(|| panic!("{text:?} was sent as {sent:?}"));
        assert_eq!(again.as_microsecond(), date.as_microsecond(), "{text:?} was sent as {sent:?}");
    }
    let status = RunStatus::from(text);
    assert_eq!(status.as_str(), text);
    assert_eq!(RunStatus::from(status.as_str()), status);
    if let Ok(url) = ServerUrl::new(text, None, "/api") {
        let again = ServerUrl::new(&url.to_string(), None, "").map(|again| again.to_string());
        assert_eq!(again, Ok(url.to_string()), "{text:?}");
        assert!(url.resource("run/1").as_str().ends_with("/api/run/1"), "{url}");
    }
}

/// Texts of others, as people see them: bounded, on one line, and nothing of it steers a terminal or passes for the node's words.
fn shown(text: &str) {
    for most in [0, 1, 7, printable::EXCERPT] {
        let excerpt = printable::excerpt_of(text, most);
        assert!(excerpt.chars().count() <= most && !excerpt.chars().any(is_deceptive), "{excerpt:?}");
    }
    assert!(!printable::line(text).chars().any(is_deceptive));
    let log = log_text::of_algorithm(text);
    assert!(log.len() <= 3 * text.len());
    for (at, _) in log.match_indices(log_text::NODE.trim()) {
        assert!(log[..at].ends_with(log_text::QUOTE), "{log:?}");
    }
    for (at, _) in log.match_indices('\u{1b}') {
        assert!(log_text::colour(&log[at..]).is_some(), "{log:?}");
    }
}

/// A name of an image is read again as what was read; of what is none, a run is told in few words.
fn image_name(text: &str) {
    match image::named(text) {
        Ok(reference) => assert_eq!(ImageReference::parse(&reference.to_string()), Ok(reference)),
        Err(failure) => {
            assert!(
                failure.message.chars().count() < 1000 && !failure.message.chars().any(is_deceptive),
                "{failure:?}"
            );
        }
    }
}

/// An event, as the text of its list: what is made of it takes no more than some times its text, and of what has no meaning only the
/// beginning of the name is left.
fn event(text: &str) {
    let Ok(packet) = Packet::decode(&format!("2{text}")) else { return };
    let Body::Event { event: name, args, .. } = packet.body else { return };
    let event = Incoming::from_event(&name, &args);
    assert!(fuzzing::weight(&event) <= 1000 + 20 * text.len());
    match event {
        Incoming::AlgorithmStatusChange(change) => {
            assert!(change.status.as_str().chars().count() <= 101);
            let (name, args) = Outgoing::AlgorithmStatusChange(change.clone()).to_event();
            // The server knows the job by itself.
            let sent = vantage6::StatusChange { job_id: None, ..change };
            let args = args.map_or_else(Args::default, Args::from);
            assert_eq!(Incoming::from_event(name, &args), Incoming::AlgorithmStatusChange(sent));
        }
        Incoming::Message(text) => assert!(text.chars().count() <= 301),
        Incoming::Unknown { name: unknown } => assert!(name.starts_with(&unknown) && unknown.chars().count() <= 100),
        Incoming::Missed => assert!(matches!(&*name, "sync" | "new_task" | "kill_containers")),
        _ => {}
    }
}
