//! One request and its response: sends a call over HTTP, and turns everything but a good response into an [`Error`].

#![expect(clippy::disallowed_types, reason = "made here, to be sent; what comes is read into types")]

use std::{fmt, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use reqwest::{Method, Response, header};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{
    Deserialize,
    de::{DeserializeOwned, IgnoredAny},
};
use serde_json::{Value, value::RawValue};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};
use url::Url;

use crate::{
    Delivery, Error, ServerUrl,
    connection_errors::{ConnectionErrors, delivery},
    error::excerpt,
    long_strings::LongStrings,
    pace::Pace,
    retry::retry_after,
    time, token,
};

/// How many bytes of a refusal are read: enough for its message.
const REFUSAL_LIMIT: usize = 64 * 1024;

/// A response larger than this waits until no other such response is held.
const SMALL: usize = 256 * 1024;

/// How many bytes of each string in a response are read, in its JSON form: more than is kept of any string.
const STRING: usize = 512 * 1024;

/// The HTTP client of one server.
pub(crate) struct HttpTransport {
    pub http: reqwest::Client,
    pub url: ServerUrl,
    pub errors: ConnectionErrors,
    /// How long the server may be silent: before the response, and in total during its body ([`Pace`]). Long, since a 4.5.5 server does
    /// one thing at a time, and a login costs it a quarter of a second of hashing for each node that it knows (`Node.get_by_api_key` in
    /// `server/model/node.py`).
    pub silence: Duration,
    /// The largest response that is held in memory, in bytes.
    pub limit: u64,
    /// Admits one large response ([`SMALL`]) at a time: others decide how large responses are, and many requests are concurrent.
    pub large: Arc<Semaphore>,
    pub observer: Option<Observer>,
}

/// How a request ended, for metrics.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct RequestEnd<'a> {
    /// The method.
    pub method: &'a str,
    /// The path below the API's address, including ids.
    pub path: &'a str,
    /// The response's status; `None` without a response.
    pub status: Option<u16>,
    /// The time until the response began.
    pub took: Duration,
    /// The server's clock, if the response has it.
    pub date: Option<jiff::Timestamp>,
    /// The certificate (DER) of the connection, if there is one.
    pub certificate: Option<&'a [u8]>,
}

/// Observes how each request ended.
pub(crate) type Observer = Arc<dyn Fn(&RequestEnd<'_>) + Send + Sync>;

/// A request to the server.
#[derive(Clone)]
pub(crate) struct Call {
    pub method: Method,
    pub path: String,
    pub query: Vec<(&'static str, String)>,
    pub json: Option<Bytes>,
    /// The response contains a token, so none of it may be shown.
    pub secret: bool,
}

impl Call {
    pub fn get(path: impl Into<String>) -> Self {
        Self { method: Method::GET, path: path.into(), query: Vec::new(), json: None, secret: false }
    }

    pub fn post(path: impl Into<String>) -> Self {
        Self { method: Method::POST, ..Self::get(path) }
    }

    pub fn patch(path: impl Into<String>) -> Self {
        Self { method: Method::PATCH, ..Self::get(path) }
    }

    pub fn query(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        self.query.push((name, value.to_string()));
        self
    }

    pub fn json(mut self, body: &Value) -> Self {
        self.json = Some(body.to_string().into());
        self
    }

    pub fn secret(mut self) -> Self {
        self.secret = true;
        self
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path)?;
        for (number, (name, value)) in self.query.iter().enumerate() {
            write!(f, "{}{name}={value}", if number == 0 { '?' } else { '&' })?;
        }
        Ok(())
    }
}

impl HttpTransport {
    /// Sends the request once. Returns a successful response (2xx) whose body has not been read yet.
    pub async fn send(&self, call: &Call, token: Option<&SecretString>) -> Result<Answer, Error> {
        let mut request = self.request(call, token)?;
        if let Some(json) = &call.json {
            request = request.header(header::CONTENT_TYPE, "application/json").body(json.clone());
        }
        let began = Instant::now();
        let answered = timeout(self.silence, request.send()).await;
        self.observe(call, began, answered.as_ref().ok().and_then(|answer| answer.as_ref().ok()));
        let response = match answered {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(self.errors.error(call.to_string(), &error, delivery(&error))),
            Err(_) => {
                return Err(Error::Timeout {
                    request: call.to_string(),
                    what: "no answer",
                    after: self.silence,
                    delivery: Delivery::Unknown,
                });
            }
        };
        self.accept(call, response).await
    }

    /// Reports the end of a request to the observer, with or without a response.
    pub fn observe(&self, call: &Call, began: Instant, answer: Option<&Response>) {
        if let Some(observer) = &self.observer {
            observer(&RequestEnd {
                method: call.method.as_str(),
                path: &call.path,
                status: answer.map(|answer| answer.status().as_u16()),
                took: began.elapsed(),
                date: answer.and_then(|answer| time::answered_at(answer.headers())),
                certificate: answer
                    .and_then(|answer| answer.extensions().get::<reqwest::tls::TlsInfo>())
                    .and_then(reqwest::tls::TlsInfo::peer_certificate),
            });
        }
    }

    /// The request without its body.
    pub fn request(&self, call: &Call, token: Option<&SecretString>) -> Result<reqwest::RequestBuilder, Error> {
        let mut url = self.url.resource(&call.path);
        if !call.query.is_empty() {
            url.query_pairs_mut().extend_pairs(call.query.iter().map(|(name, value)| (name, value)));
        }
        let mut request = self.http.request(call.method.clone(), url).header(header::ACCEPT, "application/json");
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, bearer(token)?);
        }
        Ok(request)
    }

    /// Accepts successful responses and turns all others into errors.
    pub async fn accept(&self, call: &Call, response: Response) -> Result<Answer, Error> {
        let answer = Answer::new(call.clone(), response, self.errors.clone(), self.silence, self.large.clone());
        if answer.response.status().is_success() { Ok(answer) } else { Err(answer.refusal().await) }
    }
}

/// `Bearer …`, marked as a secret so that it is never printed.
pub(crate) fn bearer(token: &SecretString) -> Result<header::HeaderValue, Error> {
    let mut value = header::HeaderValue::from_str(&format!("Bearer {}", token.expose_secret()))
        .map_err(|_| Error::Setup("the server gave an access token that does not fit into a header".into()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// A response whose body has not arrived yet.
pub(crate) struct Answer {
    call: Call,
    response: Response,
    errors: ConnectionErrors,
    silence: Duration,
    pace: Pace,
    large: Arc<Semaphore>,
    room: Option<OwnedSemaphorePermit>,
}

impl Answer {
    /// A response that did not come over a network.
    #[cfg(any(test, fuzzing))]
    pub fn made(call: Call, response: Response, silence: Duration) -> Self {
        Self::new(call, response, ConnectionErrors::default(), silence, Arc::new(Semaphore::new(1)))
    }

    /// Replaces the semaphore for large responses.
    #[cfg(test)]
    pub fn share(&mut self, large: Arc<Semaphore>) {
        self.large = large;
    }

    fn new(call: Call, response: Response, errors: ConnectionErrors, silence: Duration, large: Arc<Semaphore>) -> Self {
        let pace = if call.secret { Pace::short(silence) } else { Pace::steady(silence) };
        Self { call, response, errors, silence, pace, large, room: None }
    }

    /// The next piece of the body.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        let began = Instant::now();
        match timeout(self.pace.left(), self.response.chunk()).await {
            Ok(Ok(chunk)) => {
                self.pace.arrived(chunk.as_ref().map_or(0, Bytes::len), began.elapsed());
                Ok(chunk)
            }
            Ok(Err(error)) => Err(self.errors.error(self.call.to_string(), &error, delivery(&error))),
            Err(_) => Err(self.too_slow(self.pace.too_slow())),
        }
    }

    fn too_slow(&self, (what, after): (&'static str, Duration)) -> Error {
        Error::Timeout { request: self.call.to_string(), what, after, delivery: Delivery::Unknown }
    }

    /// The permit for a large response, if this is one. It must be kept for as long as the body is.
    pub fn take_room(&mut self) -> Option<OwnedSemaphorePermit> {
        self.room.take()
    }

    /// Reads the whole body, with long strings cut, through a filter that may drop parts. Also returns the number of bytes received.
    pub async fn filtered(
        &mut self,
        limit: u64,
        mut filter: impl FnMut(&[u8], &mut BytesMut),
    ) -> Result<(Bytes, u64), Error> {
        let (mut body, mut strings, mut cut, mut bytes) =
            (BytesMut::new(), LongStrings::new(STRING), BytesMut::new(), 0);
        while let Some(chunk) = self.chunk().await? {
            bytes += chunk.len() as u64;
            strings.feed(&chunk, &mut cut);
            filter(&cut, &mut body);
            cut.clear();
            if body.len() as u64 > limit {
                return Err(Error::TooLarge { request: self.call.to_string(), limit });
            }
            if body.len() > SMALL && self.room.is_none() {
                let room = timeout(self.silence, self.large.clone().acquire_owned()).await;
                let waits = "no other large answer has been done with";
                // The semaphore is never closed.
                self.room = room.map_err(|_| self.too_slow((waits, self.silence)))?.ok();
            }
        }
        Ok((body.freeze(), bytes))
    }

    /// Reads the whole body as JSON.
    pub async fn json<T: DeserializeOwned>(mut self, limit: u64) -> Result<T, Error> {
        let limit = if self.call.secret { limit.min(token::ANSWER_LIMIT) } else { limit };
        let (body, _) = self.filtered(limit, |chunk, body| body.extend_from_slice(chunk)).await?;
        self.parse(&body)
    }

    /// Parses JSON that was read from this response.
    pub fn parse<'a, T: Deserialize<'a>>(&self, body: &'a [u8]) -> Result<T, Error> {
        serde_json::from_slice(body).map_err(|error| match self.call.secret {
            true if error.to_string().starts_with(token::TOO_LONG) => self.unreadable(body, token::TOO_LONG),
            // The parser's message repeats the unexpected text.
            true => self.unreadable(body, format!("wrong JSON at line {} column {}", error.line(), error.column())),
            // The parser's message quotes the text, which may have any length.
            false => self.unreadable(body, excerpt(error.to_string().as_bytes())),
        })
    }

    /// The error for a response that makes no sense.
    pub fn unreadable(&self, body: &[u8], problem: impl fmt::Display) -> Error {
        let kind = self
            .response
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|kind| kind.to_str().ok())
            .map_or_else(|| "no content type".to_owned(), |kind| excerpt(kind.as_bytes()));
        Error::Unreadable {
            request: self.call.to_string(),
            problem: format!("{problem} (status {}, {kind})", self.response.status().as_u16()),
            excerpt: if self.call.secret {
                "(not shown, because it may contain a token)".into()
            } else {
                excerpt(body)
            },
        }
    }

    /// The error for an invalid input.
    pub fn bad_input(&self, problem: &'static str) -> Error {
        Error::BadInput { request: self.call.to_string(), problem }
    }

    /// Reads why the server refused. Its messages are `{"msg": …, "errors": …}`; a proxy's are HTML.
    pub(crate) async fn refusal(mut self) -> Error {
        let mut body = BytesMut::new();
        self.pace = Pace::short(self.silence);
        // Whatever can be read is enough.
        while let Ok(Some(chunk)) = self.chunk().await {
            body.extend_from_slice(&chunk);
            if body.len() > REFUSAL_LIMIT {
                break;
            }
        }
        let is_json = serde_json::from_slice::<IgnoredAny>(&body).is_ok();
        let ServerMessage { msg, message, errors } = ServerMessage::read(&body);
        // The format of `flask_restful` and the server's resources. HTML and other JSON come from something else.
        let words = msg.or(message).map(|said| (said, serde_json::from_str::<String>(said.get()).ok()));
        let own_words = matches!(words, Some((_, Some(_))));
        let mut message = match words {
            Some((_, Some(text))) => excerpt(text.as_bytes()),
            Some((other, None)) => excerpt(other.get().as_bytes()),
            None => excerpt(&body),
        };
        if let Some(errors) = errors {
            message.push_str(&format!(" {}", excerpt(errors.get().as_bytes())));
        }
        let status = self.response.status().as_u16();
        let request = self.call.to_string();
        if status == 400 && self.call.method == Method::PATCH && message.contains("already finished") {
            return Error::FinishedRun { request, message };
        }
        // `Run.get`, `Run.patch` in `server/resource/run.py`.
        if status == 404 && msg.is_some() && message.starts_with("Run id=") && message.contains("not found") {
            return Error::NoSuchRun { request, message };
        }
        let told = if is_json { None } else { advice_for_page(status, &body) };
        if let Some(advice) = told.or_else(|| advice(status, is_json, &self.response, &self.call)) {
            message.push_str(&format!(". {advice}"));
        }
        let retry_after = retry_after(self.response.headers());
        Error::Refused { request, status, message, own_words, retry_after }
    }
}

/// The server's message about a refusal.
#[derive(Deserialize, Default)]
struct ServerMessage<'a> {
    #[serde(borrow, default)]
    msg: Option<&'a RawValue>,
    #[serde(borrow, default)]
    message: Option<&'a RawValue>,
    #[serde(borrow, default)]
    errors: Option<&'a RawValue>,
}

impl<'a> ServerMessage<'a> {
    /// Empty if the body is not an object.
    fn read(body: &'a [u8]) -> Self {
        let is_object = body.trim_ascii_start().starts_with(b"{");
        serde_json::from_slice(body).ok().filter(|_| is_object).unwrap_or_default()
    }
}

/// The advice for an error page about TLS of a web server before the vantage6 server (nginx, Apache, Go's).
fn advice_for_page(status: u16, page: &[u8]) -> Option<String> {
    let page = String::from_utf8_lossy(page).to_lowercase();
    let says = |words: &[&str]| words.iter().any(|words| page.contains(words));
    if matches!(status, 400 | 403 | 495 | 496) && says(&["no required ssl certificate", "the ssl certificate error"]) {
        return Some(
            "It demands a client certificate (mutual TLS), and a node has none. Configure it to accept nodes without one".into(),
        );
    }
    let wants_tls =
        ["plain http request was sent to https port", "http request to an https server", "plain http to an ssl"];
    (status == 400 && says(&wants_tls)).then(|| "This is a port for https://: begin server_url with https://".into())
}

/// The advice about a redirect: its target as it must be configured, without the request's path.
fn redirect_advice(asked: &Url, path: &str, location: &str) -> String {
    let Ok(mut to) = asked.join(location) else {
        return format!("it points to {}: use that address in server_url", excerpt(location.as_bytes()));
    };
    to.set_query(None);
    to.set_fragment(None);
    let of_api = |url: &Url| {
        let whole = url.path().trim_end_matches('/');
        whole.strip_suffix(path.trim_matches('/')).map(|api| api.trim_matches('/').to_owned())
    };
    let whole = to.path().trim_matches('/').to_owned();
    // Some redirect every address to the same one.
    let is_api = of_api(asked).is_some_and(|known| !known.is_empty() && whole.ends_with(&known));
    let Some(api) = of_api(&to).or(Some(whole).filter(|_| is_api)) else {
        return format!(
            "it points to {}, which is not the server's API: a login page, perhaps",
            excerpt(to.as_str().as_bytes())
        );
    };
    to.set_path(&api);
    let address = |url: &Url| excerpt(url.as_str().trim_end_matches('/').as_bytes());
    let told = format!("it points to {}: use that address in server_url", address(&to));
    // The API's path is a separate setting.
    let known = of_api(asked).unwrap_or_default();
    let base = api.strip_suffix(known.as_str()).filter(|base| base.is_empty() || base.ends_with('/'));
    match base {
        _ if known.is_empty() => told,
        Some(base) => {
            to.set_path(base);
            format!("{told} (`{}`, with the api_path `/{known}`)", address(&to))
        }
        None => format!("{told}, with the api_path that belongs to it"),
    }
}

/// The advice about a refusal that the server's own message does not explain.
fn advice(status: u16, is_json: bool, response: &Response, call: &Call) -> Option<String> {
    match status {
        300..=399 => {
            let location =
                response.headers().get(header::LOCATION).and_then(|to| to.to_str().ok()).unwrap_or("nowhere");
            Some(format!("Redirects are not followed; {}", redirect_advice(response.url(), &call.path, location)))
        }
        404 if !is_json => Some("Is this really a vantage6 server? Check server_url, port and api_path".into()),
        401 if !is_json => {
            Some("That is not the vantage6 server's own answer: something in front of it requires a login".into())
        }
        407 => Some(
            "The HTTP proxy that the environment names requires a login: put it into HTTPS_PROXY or HTTP_PROXY".into(),
        ),
        413 => {
            Some("Something in front of the server limits the size of requests (nginx: client_max_body_size)".into())
        }
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that fails, panics")]
mod tests {
    use super::*;

    #[test]
    fn redirects_are_told_as_they_have_to_be_written() {
        let used = |address: &str| format!("it points to {address}: use that address in server_url");
        let apart = |api: &str, base: &str, path: &str| format!("{} (`{base}`, with the api_path `{path}`)", used(api));
        for (asked, location, expected) in [
            (
                "http://a.example/api/token/node",
                "https://a.example/api/token/node",
                apart("https://a.example/api", "https://a.example", "/api"),
            ),
            (
                "http://a.example/api/token/node",
                "https://a.example:443/api/token/node/?x=y",
                apart("https://a.example/api", "https://a.example", "/api"),
            ),
            (
                "http://a.example/api/token/node",
                "https://b.example/v6/api/token/node",
                apart("https://b.example/v6/api", "https://b.example/v6", "/api"),
            ),
            (
                "http://a.example/api/token/node",
                "https://b.example/api",
                apart("https://b.example/api", "https://b.example", "/api"),
            ),
            ("http://a.example/token/node", "https://b.example:5000/token/node", used("https://b.example:5000")),
            (
                "http://a.example/api/token/node",
                "https://b.example/rest/token/node",
                format!("{}, with the api_path that belongs to it", used("https://b.example/rest")),
            ),
            (
                "http://a.example/api/token/node",
                "/login?next=/api/token/node",
                "it points to http://a.example/login, which is not the server's API: a login page, perhaps".to_owned(),
            ),
        ] {
            assert_eq!(
                redirect_advice(&asked.parse().unwrap(), "token/node", location),
                expected,
                "{asked} {location}"
            );
        }
    }

    #[test]
    fn pages_about_tls_have_advice_of_their_own() {
        for (status, page, says) in [
            (400, "<h1>400</h1>The plain HTTP request was sent to HTTPS port", Some("https://")),
            (400, "Client sent an HTTP request to an HTTPS server.\n", Some("https://")),
            (400, "<p>Reason: You're speaking plain HTTP to an SSL-enabled server port.", Some("https://")),
            (400, "<title>400 No required SSL certificate was sent</title>", Some("client certificate")),
            (403, "No required SSL certificate was sent", Some("client certificate")),
            (400, "Bad Request", None),
            (502, "The plain HTTP request was sent to HTTPS port", None),
        ] {
            let advice = advice_for_page(status, page.as_bytes());
            assert_eq!(advice.is_some(), says.is_some(), "{page}");
            assert!(advice.unwrap_or_default().contains(says.unwrap_or_default()), "{page}");
        }
    }
}
