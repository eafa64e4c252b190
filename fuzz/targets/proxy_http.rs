//! The proxy, between an algorithm and a server that both say anything. A seed is what the algorithm sends, and then, each behind a line
//! `%%`, what the server answers, one after the other; behind an answer that begins with `!` it ends the connection.
//!
//! Nothing reaches the server without an algorithm's token but `version` and `health`, and nothing that no algorithm needs; what does harm
//! is sent once at most; nobody leads out of the API; no subtask leaves with another image than its caller's, and no input leaves an
//! encrypted collaboration in the clear; no result is decrypted of a task that isn't known to be the caller's own. The pure parts do the
//! same with pieces as with all.
#![no_main]

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fuzz::{KEY, from_base64, pieces, wait, whole};
use http::{Method, Uri};
use libfuzzer_sys::fuzz_target;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use sextant_proxy::fuzzing;
use sextant_proxy::fuzzing::{Form, Route};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use vantage6::encryption::Cryptor;

const SERVER: &str = "http://v6.example.org:5000";
const HARMLESS: [&str; 3] = ["GET", "HEAD", "OPTIONS"];
const RESOURCES: [&str; 11] = [
    "task",
    "run",
    "result",
    "organization",
    "collaboration",
    "node",
    "study",
    "vpn",
    "blobstream",
    "version",
    "health",
];

fuzz_target!(|bytes: &[u8]| {
    let mut parts = split(bytes).into_iter();
    let request = parts.next().unwrap_or_default();
    let answers: Vec<&[u8]> = parts.collect();
    for cryptor in [Cryptor::Plain, Cryptor::Encrypted(KEY.clone())] {
        wait(pass(request, &answers, cryptor));
    }
    path(request);
    wait(async {
        task(body(request)).await;
        for answer in answers {
            links(body(answer)).await;
            results(body(answer)).await;
        }
    });
});

fn split(bytes: &[u8]) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    let mut rest = bytes;
    while let Some(at) = rest.windows(4).position(|window| window == b"\n%%\n") {
        parts.push(&rest[..at]);
        rest = &rest[at + 4..];
    }
    parts.push(rest);
    parts
}

fn body(message: &[u8]) -> &[u8] {
    message.windows(4).position(|window| window == b"\r\n\r\n").map_or(b"", |at| &message[at + 4..])
}

/// A request that has reached the server.
struct Seen {
    method: String,
    path: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
    /// Whether all of it has come.
    is_whole: bool,
}

/// The server of one input.
#[derive(Default)]
struct Server {
    answers: Mutex<Vec<Vec<u8>>>,
    seen: Mutex<Vec<Seen>>,
    is_encrypted: bool,
}

async fn pass(request: &[u8], answers: &[&[u8]], cryptor: Cryptor) {
    let answers = Mutex::new(answers.iter().rev().map(|answer| answer.to_vec()).collect());
    let server = Arc::new(Server { answers, is_encrypted: cryptor.is_encrypted(), ..Server::default() });
    let network = {
        let server = server.clone();
        move || {
            let (near, far) = tokio::io::duplex(1000);
            tokio::spawn(server.clone().serve(far));
            near
        }
    };
    let (near, far) = tokio::io::duplex(1000);
    let (mut reading, mut writing) = tokio::io::split(near);
    let speaking = async {
        for piece in pieces(request) {
            if writing.write_all(&piece).await.is_err() {
                break;
            }
        }
    };
    let mut heard = Vec::new();
    let listening = reading.read_to_end(&mut heard);
    let serving = fuzzing::serve(far, SERVER, cryptor, Arc::new(network));
    let (_, _, answered) = tokio::join!(speaking, listening, serving);
    let answered = answered.unwrap();
    assert!(heard.is_empty() || heard.starts_with(b"HTTP/1."), "{}", String::from_utf8_lossy(&heard));

    let seen = server.seen.lock().unwrap();
    let harmful = seen.iter().filter(|seen| !HARMLESS.contains(&seen.method.as_str())).count();
    assert!(harmful as u64 <= answered, "{harmful} requests for {answered}");
    for seen in seen.iter() {
        seen.check(server.is_encrypted);
    }
}

impl Server {
    /// One connection: reads requests as strictly as anybody, and answers what comes next.
    async fn serve(self: Arc<Self>, mut stream: DuplexStream) {
        let mut read = Vec::new();
        while let Some(seen) = next(&mut stream, &mut read).await {
            // So that tokens are accepted (the seeds' are of organization 2), and tasks can be encrypted.
            let organizations = ["/api/organization/2", "/api/organization/7"];
            let key = self.is_encrypted && seen.method == "GET" && organizations.contains(&seen.path.as_str());
            // So that there are results of the caller's own subtask.
            let own = match (seen.method.as_str(), seen.path.as_str()) {
                ("GET", "/api/task/9") => Some(serde_json::json!({ "id": 9, "parent": { "id": 7 } })),
                ("GET", "/api/run/1") => Some(serde_json::json!({ "task": { "id": 9 } })),
                _ => None,
            };
            self.seen.lock().unwrap().push(seen);
            let own = own.filter(|_| self.is_encrypted);
            let said = key.then(|| serde_json::json!({ "id": 7, "public_key": KEY.public().to_server() }));
            let answer = if let Some(said) = said.or(own) {
                let body = said.to_string();
                let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length";
                Some(format!("{head}: {}\r\n\r\n{body}", body.len()).into_bytes())
            } else {
                self.answers.lock().unwrap().pop()
            };
            let Some(answer) = answer else { return };
            let (answer, ends) = answer.strip_prefix(b"!").map_or((&answer[..], false), |answer| (answer, true));
            for piece in pieces(answer) {
                if stream.write_all(&piece).await.is_err() {
                    return;
                }
            }
            if ends {
                return;
            }
        }
    }
}

/// The next request, if a whole one comes.
async fn next(stream: &mut DuplexStream, read: &mut Vec<u8>) -> Option<Seen> {
    let (mut seen, head) = loop {
        let mut headers = [httparse::EMPTY_HEADER; 128];
        let mut request = httparse::Request::new(&mut headers);
        // What the proxy sends can be read.
        if let httparse::Status::Complete(head) = request.parse(read).unwrap() {
            let headers: Vec<(String, Vec<u8>)> =
                request.headers.iter().map(|header| (header.name.to_lowercase(), header.value.to_vec())).collect();
            let seen = Seen {
                method: request.method.unwrap().to_owned(),
                path: request.path.unwrap().to_owned(),
                headers,
                body: Vec::new(),
                is_whole: false,
            };
            break (seen, head);
        }
        if stream.read_buf(read).await.ok()? == 0 {
            return None;
        }
    };
    read.drain(..head);
    match seen.length() {
        Some(length) => {
            while read.len() < length {
                if stream.read_buf(read).await.ok()? == 0 {
                    seen.body = std::mem::take(read);
                    return Some(seen);
                }
            }
            seen.body = read.drain(..length).collect();
        }
        // Chunked.
        None => loop {
            let httparse::Status::Complete((start, length)) = httparse::parse_chunk_size(read).unwrap() else {
                if stream.read_buf(read).await.ok()? == 0 {
                    return Some(seen);
                }
                continue;
            };
            let end = start + usize::try_from(length).unwrap() + 2;
            while read.len() < end {
                if stream.read_buf(read).await.ok()? == 0 {
                    return Some(seen);
                }
            }
            assert!(read[..end].ends_with(b"\r\n"));
            seen.body.extend_from_slice(&read[start..end - 2]);
            read.drain(..end);
            if length == 0 {
                break;
            }
        },
    }
    seen.is_whole = true;
    Some(seen)
}

impl Seen {
    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.headers.iter().filter(move |(other, _)| other == name).map(|(_, value)| value.as_slice())
    }

    /// How long its body is, in a way that can't be read in two; `None` if it comes in chunks.
    fn length(&self) -> Option<usize> {
        let lengths: Vec<&[u8]> = self.all("content-length").collect();
        let codings: Vec<&[u8]> = self.all("transfer-encoding").collect();
        match (&lengths[..], &codings[..]) {
            ([], []) => Some(0),
            ([length], []) => Some(std::str::from_utf8(length).unwrap().parse().unwrap()),
            ([], [b"chunked"]) => None,
            _ => panic!("{lengths:?} {codings:?}"),
        }
    }

    fn check(&self, is_encrypted: bool) {
        let Self { method, path, .. } = self;
        let below = path.strip_prefix("/api/").unwrap_or_else(|| panic!("{path}"));
        let below = below.split('?').next().unwrap_or_default();
        assert!(
            !below.split('/').any(|part| matches!(part, "." | "..") || part.contains(['%', '\\']) && odd(part)),
            "{path}"
        );
        let resource = below.split('/').next().unwrap_or_default();
        assert!(RESOURCES.contains(&resource), "{path}");
        let carries = method == "POST" && matches!(below, "task" | "blobstream");
        assert!(HARMLESS.contains(&method.as_str()) || carries, "{method} {path}");
        if HARMLESS.contains(&method.as_str()) {
            assert_eq!(self.length(), Some(0), "a body with {method}");
        }
        assert_eq!(self.all("host").collect::<Vec<_>>(), [b"v6.example.org:5000"]);
        let tokens: Vec<&[u8]> = self.all("authorization").collect();
        match tokens[..] {
            [token] => {
                let image = image_of_an_algorithm(token);
                assert!(image.is_some(), "{}", String::from_utf8_lossy(token));
                // Also of a task that has not come whole: it could be carried out if it were an object.
                if method == "POST"
                    && below == "task"
                    && let Ok(Value::Object(task)) = serde_json::from_slice(&self.body)
                {
                    assert_eq!(task.get("image").and_then(Value::as_str), image.flatten().as_deref());
                }
            }
            [] => assert!(matches!(below, "version" | "health") && matches!(method.as_str(), "GET" | "HEAD"), "{path}"),
            _ => panic!("several tokens"),
        }
        if is_encrypted && method == "POST" && below == "task" && self.is_whole {
            let Ok(task) = serde_json::from_slice::<Value>(&self.body) else { return };
            for organization in task["organizations"].as_array().into_iter().flatten() {
                let input = &organization["input"];
                assert!(input.is_null() || input.as_str().unwrap().matches('$').count() == 2, "{input}");
            }
        }
    }
}

/// Whether an escape in a path stands for something that could be read in two ways.
fn odd(part: &str) -> bool {
    let part = part.to_lowercase();
    part.contains('\\') || ["%2e", "%2f", "%5c", "%00", "%0a", "%0d", "%3b"].iter().any(|odd| part.contains(odd))
}

/// Of a token only what matters: in the rest there may be numbers that a parser of everything refuses.
#[derive(Deserialize)]
struct Claims {
    client_type: String,
    #[serde(default)]
    sub: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Subject {
    image: String,
}

/// The image in an algorithm's token; `None` if it is no algorithm's.
fn image_of_an_algorithm(token: &[u8]) -> Option<Option<String>> {
    let claims =
        std::str::from_utf8(token).ok().and_then(|token| token.strip_prefix("Bearer ")?.trim().split('.').nth(1));
    let claims = claims.and_then(|claims| URL_SAFE_NO_PAD.decode(claims.trim_end_matches('=')).ok());
    let claims: Option<Claims> =
        claims.and_then(|claims| serde_json::from_str(std::str::from_utf8(&claims).ok()?).ok());
    let claims = claims.filter(|claims| claims.client_type == "container")?;
    let subject = claims.sub.and_then(|subject| serde_json::from_str::<Subject>(subject.get()).ok());
    Some(subject.map(|subject| subject.image))
}

/// Where a request is sent.
fn path(request: &[u8]) {
    let mut words = request.split(|byte| byte.is_ascii_whitespace());
    let (Some(method), Some(uri)) = (words.next(), words.next()) else { return };
    let (Ok(method), Ok(uri)) = (Method::from_bytes(method), Uri::try_from(uri)) else { return };
    for api_path in ["/api", "", "/a/b"] {
        let Ok(target) = fuzzing::route(&method, &uri, api_path) else { continue };
        let at_server = target.at_server(api_path);
        assert!(at_server.starts_with(&format!("{api_path}/")), "{at_server}");
        // What it became means the same when it comes again.
        let Ok(again) = at_server.parse::<Uri>() else { panic!("{at_server}") };
        let again = fuzzing::route(&method, &again, api_path).unwrap();
        // A resource may have the name of the API; its root has none.
        if api_path.is_empty() || *target.path != *"/" && !target.path.starts_with(&format!("{api_path}/")) {
            assert_eq!(again, target);
        }
        assert!(target.route != Route::Open || matches!(&*target.path, "/version" | "/health"));
    }
}

/// What becomes of a task in an encrypted collaboration.
async fn task(body: &[u8]) {
    let sent = fuzzing::task(pieces(body), KEY.public()).await;
    assert_eq!(sent.is_ok(), fuzzing::task(whole(body), KEY.public()).await.is_ok());
    let Ok(sent) = sent else { return };
    assert!(std::str::from_utf8(body).is_ok());
    // In what the proxy leaves to the server there may be numbers and halves of characters that this parser refuses.
    let Ok(mut task) = serde_json::from_slice::<Value>(body) else { return };
    let mut sent: Value = serde_json::from_slice(&sent).unwrap();
    assert_eq!(sent["image"], "i");
    let (plain, encrypted) =
        (task["organizations"].as_array_mut().unwrap(), sent["organizations"].as_array_mut().unwrap());
    assert_eq!(plain.len(), encrypted.len());
    for (plain, encrypted) in plain.iter_mut().zip(encrypted) {
        let Some(input) = plain["input"].as_str() else { continue };
        let message = encrypted["input"].as_str().unwrap();
        assert_eq!(message.matches('$').count(), 2, "{message}");
        let input: String = input.split_ascii_whitespace().collect();
        if let Some(input) = from_base64(&input).filter(|input| input.first() == Some(&b'{')) {
            let read = Cryptor::Encrypted(KEY.clone()).decode_text(message).await.unwrap();
            assert_eq!(read, input);
        }
        (plain["input"], encrypted["input"]) = (Value::Null, Value::Null);
    }
    assert_eq!(task, sent, "what isn't an input stays");
}

/// What becomes of a list.
async fn links(body: &[u8]) {
    let (all, coming) = fuzzing::linked(pieces(body), SERVER).await.unwrap();
    assert_eq!(all, coming);
    let (Ok(before), Ok(after)) = (serde_json::from_slice::<Value>(body), serde_json::from_slice::<Value>(&all)) else {
        assert!(serde_json::from_slice::<Value>(body).is_err());
        return;
    };
    // With an escape in it, a key is another one here, and so is a link.
    let (Some(before), Some(after), false) = (before.as_object(), after.as_object(), body.contains(&b'\\')) else {
        return;
    };
    for (key, value) in before {
        let (Value::Object(links), "links") = (value, key.as_str()) else {
            assert_eq!(Some(value), after.get(key));
            continue;
        };
        for (name, link) in links {
            let expected = link.as_str().map_or(link.clone(), |link| through_the_proxy(link).into());
            assert_eq!(after["links"][name], expected);
        }
    }
}

fn through_the_proxy(link: &str) -> &str {
    let api = link.strip_prefix(SERVER).unwrap_or(link);
    api.strip_prefix("/api").filter(|path| path.starts_with('/')).unwrap_or(link)
}

/// What becomes of results in an encrypted collaboration.
async fn results(body: &[u8]) {
    for form in [Form::Page, Form::One] {
        let coming = fuzzing::decrypted(pieces(body), form, KEY.clone()).await.unwrap();
        assert_eq!(coming, fuzzing::decrypted(whole(body), form, KEY.clone()).await.unwrap());
        if !body.contains(&b'$') {
            assert_eq!(coming, body);
        }
        if serde_json::from_slice::<Value>(body).is_ok() {
            assert!(serde_json::from_slice::<Value>(&coming).is_ok());
        }
    }
}
