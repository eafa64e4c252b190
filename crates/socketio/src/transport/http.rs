//! The HTTP part of both transports: one client, one URL, and the headers of one attempt.
//!
//! A websocket begins as an HTTP request of the same client, so certificates, proxies and name resolution are configured
//! once for both transports.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, COOKIE, SET_COOKIE, UPGRADE};
use http::{HeaderMap, HeaderValue, StatusCode};
use outbound::Failure;
use reqwest::{RequestBuilder, Response};
use tokio_tungstenite::tungstenite::handshake::{client::generate_key, derive_accept_key};
use url::Url;

use super::Transport;
use crate::error::{EXCERPT, Error, excerpt};

/// The name of a poll in errors.
const POLL: &str = "a long-polling request";
/// Cookies with more bytes than this in total are not kept.
const MAX_COOKIES: usize = 4096;

/// The server, with the headers of one attempt.
#[derive(Clone)]
pub(crate) struct Endpoint {
    client: reqwest::Client,
    url: Url,
    headers: HeaderMap,
    pub limits: SizeLimits,
}

/// The limits for received data, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SizeLimits {
    /// For one packet, including its attachments. Only the beginning of a larger packet is kept.
    pub event: usize,
    /// For one message of a websocket. A larger one ends the connection.
    pub message: usize,
}

impl Endpoint {
    pub fn new(client: reqwest::Client, url: Url, mut headers: HeaderMap, accept: SizeLimits) -> Self {
        for value in headers.values_mut() {
            value.set_sensitive(true);
        }
        Self { client, url, headers, limits: accept }
    }

    fn url(&self, transport: Transport, sid: Option<&str>) -> Url {
        let mut url = self.url.clone();
        let name = match transport {
            Transport::Polling => "polling",
            Transport::WebSocket => "websocket",
        };
        let mut query = url.query_pairs_mut();
        query.append_pair("EIO", "4").append_pair("transport", name);
        if transport == Transport::Polling {
            // Prevents caching.
            query.append_pair("t", &format!("{:x}", rand::random::<u64>()));
        }
        if let Some(sid) = sid {
            query.append_pair("sid", sid);
        }
        drop(query);
        url
    }

    /// Sends the poll that opens a session, and returns the response's body.
    pub async fn greet(&mut self, limit: Duration) -> Result<String, Error> {
        let request = self.client.get(self.url(Transport::Polling, None));
        let response = self.send(POLL, request, limit).await?;
        self.keep_cookies(response.headers());
        let (mut answer, mut body) = (PollBody(response), Vec::new());
        while let Some(chunk) = answer.chunk().await? {
            // No data of other clients comes with the handshake, so the server itself is to blame for a large body.
            if body.len() + chunk.len() > self.limits.event {
                return Err(Error::TooLarge { limit: self.limits.event });
            }
            body.extend_from_slice(&chunk);
        }
        String::from_utf8(body).map_err(|_| Error::Protocol("the body of a poll is not UTF-8"))
    }

    /// Starts one long poll and returns the response, whose body is still to be read.
    pub async fn poll(&self, sid: &str, limit: Duration) -> Result<PollBody, Error> {
        let request = self.client.get(self.url(Transport::Polling, Some(sid)));
        self.send(POLL, request, limit).await.map(PollBody)
    }

    /// Sends packets by long polling.
    pub async fn post(&self, sid: &str, body: String, limit: Duration) -> Result<(), Error> {
        const WHAT: &str = "sending by long polling";
        let request = self.client.post(self.url(Transport::Polling, Some(sid)));
        let request = request.header(CONTENT_TYPE, "text/plain;charset=UTF-8").body(body);
        let mut response = self.send(WHAT, request, limit).await?;
        // Read to the end, so that the connection can be reused.
        while next_chunk(WHAT, &mut response).await?.is_some() {}
        Ok(())
    }

    /// Turns a request into a websocket's byte stream.
    pub async fn websocket(&self, sid: Option<&str>, limit: Duration) -> Result<reqwest::Upgraded, Error> {
        const WHAT: &str = "opening a websocket";
        let key = generate_key();
        let request = self.client.get(self.url(Transport::WebSocket, sid)).version(http::Version::HTTP_11);
        let request = request.header(CONNECTION, "Upgrade").header(UPGRADE, "websocket");
        let request = request.header("Sec-WebSocket-Version", "13").header("Sec-WebSocket-Key", &key);
        let response = self.exchange(WHAT, request, limit).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(self.unexpected(WHAT, response).await);
        }
        let accept = response.headers().get("Sec-WebSocket-Accept");
        if accept.is_none_or(|accept| accept.as_bytes() != derive_accept_key(key.as_bytes()).as_bytes()) {
            return Err(Error::Protocol("the websocket handshake was not answered by a websocket server"));
        }
        response.upgrade().await.map_err(|error| self.error(WHAT, error))
    }

    async fn send(&self, what: &'static str, request: RequestBuilder, limit: Duration) -> Result<Response, Error> {
        let response = self.exchange(what, request, limit).await?;
        if response.status() != StatusCode::OK {
            return Err(self.unexpected(what, response).await);
        }
        Ok(response)
    }

    async fn exchange(&self, what: &'static str, request: RequestBuilder, limit: Duration) -> Result<Response, Error> {
        let request = request.headers(self.headers.clone()).timeout(limit);
        request.send().await.map_err(|error| self.error(what, error))
    }

    /// Returns the chain of causes without the URL, whose query has the session id and which may contain a password.
    fn error(&self, what: &'static str, error: reqwest::Error) -> Error {
        http_error(what, error, self.url.scheme() == "https")
    }

    async fn unexpected(&self, what: &'static str, mut response: Response) -> Error {
        let mut body = Vec::new();
        while body.len() < EXCERPT {
            let Ok(Some(chunk)) = next_chunk(what, &mut response).await else {
                break;
            };
            body.extend_from_slice(&chunk);
        }
        let text = String::from_utf8_lossy(&body);
        let body = if self.repeats_a_header(&text) { "(not shown)".to_owned() } else { excerpt(&text) };
        Error::Status { what, status: response.status().as_u16(), body }
    }

    /// Returns whether the text contains part of a header's value, such as a token that the server echoes.
    fn repeats_a_header(&self, text: &str) -> bool {
        let values = self.headers.values().filter_map(|value| value.to_str().ok());
        values.flat_map(str::split_whitespace).any(|part| part.len() >= 8 && text.contains(&part[..8]))
    }

    /// Keeps the cookies of the handshake, by which load balancers find the right server.
    fn keep_cookies(&mut self, answer: &HeaderMap) {
        let set = answer.get_all(SET_COOKIE).into_iter().filter_map(|value| value.to_str().ok());
        let pairs = set.filter_map(|cookie| cookie.split(';').next()).map(str::trim);
        let own = self.headers.get(COOKIE).and_then(|value| value.to_str().ok());
        let all: Vec<_> = own.into_iter().chain(pairs).collect();
        let joined = all.join("; ");
        if joined.is_empty() || joined.len() > MAX_COOKIES {
            return;
        }
        if let Ok(mut value) = HeaderValue::from_str(&joined) {
            value.set_sensitive(true);
            self.headers.insert(COOKIE, value);
        }
    }
}

/// The body of a poll.
pub(crate) struct PollBody(Response);

impl PollBody {
    /// Returns the next piece; `None` at the end.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        next_chunk(POLL, &mut self.0).await
    }
}

async fn next_chunk(what: &'static str, response: &mut Response) -> Result<Option<Bytes>, Error> {
    let is_tls = response.url().scheme() == "https";
    response.chunk().await.map_err(|error| http_error(what, error, is_tls))
}

fn http_error(what: &'static str, error: reqwest::Error, is_tls: bool) -> Error {
    Error::Http { what, reason: Failure::classify(&error.without_url(), is_tls).into_message() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::AUTHORIZATION;

    fn endpoint() -> Endpoint {
        let headers = HeaderMap::from_iter([
            (AUTHORIZATION, HeaderValue::from_static("Bearer secret-token")),
            (COOKIE, HeaderValue::from_static("own=1")),
        ]);
        Endpoint::new(
            reqwest::Client::new(),
            "http://h/socket.io/?x=1".parse().unwrap(),
            headers,
            SizeLimits { event: 10, message: 10 },
        )
    }

    #[test]
    fn urls() {
        let url = endpoint().url(Transport::WebSocket, Some("a&b"));
        assert_eq!(url.as_str(), "http://h/socket.io/?x=1&EIO=4&transport=websocket&sid=a%26b");
    }

    #[test]
    fn cookies_of_the_handshake_are_sent_back() {
        let mut endpoint = endpoint();
        let answer = ["io=abc; Path=/; HttpOnly", "route=7"].map(|cookie| (SET_COOKIE, cookie.parse().unwrap()));
        let mut headers = HeaderMap::new();
        headers.extend(answer.map(|(name, value)| (Some(name), value)));
        headers.append(SET_COOKIE, "last=1".parse().unwrap());
        endpoint.keep_cookies(&headers);
        let sent = endpoint.headers[COOKIE].to_str().unwrap();
        assert!(sent.starts_with("own=1; ") && sent.ends_with("; last=1"), "{sent}");
    }

    #[test]
    fn tokens_are_not_repeated() {
        let endpoint = endpoint();
        assert!(endpoint.repeats_a_header("you sent Authorization: Bearer secret-token"));
        assert!(!endpoint.repeats_a_header("Invalid session"));
        assert!(!format!("{:?}", endpoint.headers).contains("secret"));
    }
}
