//! Asks algorithm stores (since 4.6) whether they have approved an image. Since 4.15.2, a node does not rely on the server for that
//! (`AlgorithmStore.get_algorithm` in `common/client/node_client.py`).
//!
//! A store belongs to another party, so a request gets one attempt with a time limit, follows no redirect, and reads little of the
//! response.

mod entries;
pub(crate) mod logins;

use std::time::Duration;

use outbound::Failure;
use reqwest::{Response, header};
use serde::Deserialize;
use tokio::time::timeout;
use url::Url;
use vantage6_types::plain_address;

use crate::{
    AccessToken, Client, Error, ServerUrl,
    error::{excerpt, is_passing},
};

/// The time limit for the whole response.
const PATIENCE: Duration = Duration::from_secs(15);
/// How many bytes of a response are read. An algorithm's description has a few kilobytes.
const LIMIT: usize = 1024 * 1024;

/// An algorithm that a store has approved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreAlgorithm {
    /// The image, as it was registered in the store.
    pub image: String,
    /// The digest of the approved content.
    pub digest: Option<String>,
}

/// Why a store has not returned its approved algorithms.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// There is no connection to the store.
    #[error("{0}")]
    Unreachable(String),
    /// The store does not answer this request now. Other requests may succeed: a store waits for the image's registry.
    #[error("{0}")]
    Away(String),
    /// The store refuses to answer, or its answer makes no sense.
    #[error("{0}")]
    Refused(String),
}

/// The part of a refusal that is read.
#[derive(Deserialize, Default)]
struct Message {
    #[serde(default)]
    msg: Option<String>,
}

impl Client {
    /// The algorithms that the store at this address has approved for an image, as a task names it. Without an image, the first one of all.
    ///
    /// # Errors
    /// Why the store has not returned them. No error text contains a token.
    pub async fn store_algorithms(&self, store: &str, image: Option<&str>) -> Result<Vec<StoreAlgorithm>, StoreError> {
        let url = address(store, self.url()).ok_or_else(|| {
            StoreError::Refused(format!(
                "the server has '{}' as the address of the algorithm store, which is none in its plain form: have it registered there with an address like \
                 https://store.example.org/api",
                excerpt(store.as_bytes())
            ))
        })?;
        let shown = excerpt(url.as_str().as_bytes());
        let patience = PATIENCE.min(self.silence());
        match timeout(patience, self.ask_store(&url, &shown, image)).await {
            Ok(answer) => answer,
            Err(_) => Err(StoreError::Away(format!(
                "the algorithm store at {shown} has not answered within {} s. Check that it runs, and that this node can reach it",
                patience.as_secs_f32()
            ))),
        }
    }

    async fn ask_store(&self, url: &Url, shown: &str, image: Option<&str>) -> Result<Vec<StoreAlgorithm>, StoreError> {
        let (mut answer, token) = self.send_to_store(url, shown, image).await?;
        if answer.status() == 401 && self.store_logins().may_log_in(url) {
            // The server may have forgotten the token, so get another one.
            self.invalidate_token(&token);
            (answer, _) = self.send_to_store(url, shown, image).await?;
        }
        let status = answer.status().as_u16();
        let body = self.body(answer, shown).await?;
        match status {
            200 => entries::read(&body, shown),
            _ => Err(refusal(status, &body, shown)),
        }
    }

    /// Sends one request. Also returns the token that was sent.
    async fn send_to_store(
        &self,
        url: &Url,
        shown: &str,
        image: Option<&str>,
    ) -> Result<(Response, AccessToken), StoreError> {
        let server = |error: Error| StoreError::Away(format!("the server gives no token to ask a store with: {error}"));
        let token = self.access_token().await.map_err(server)?;
        let mut url = url.clone();
        match image {
            Some(image) => url.query_pairs_mut().append_pair("image", image),
            // Checks only whether the store responds at all.
            None => url.query_pairs_mut().append_pair("per_page", "1"),
        };
        let request = self
            .http()
            .get(url.clone())
            .header(header::ACCEPT, "application/json")
            .header(header::AUTHORIZATION, token.header().map_err(server)?)
            .header("Server-Url", told_server(self.url()))
            .header("Client-Type", "node");
        let answer = request.send().await.map_err(|error| self.unreachable(&url, shown, &error))?;
        Ok((answer, token))
    }

    async fn body(&self, mut answer: Response, shown: &str) -> Result<Vec<u8>, StoreError> {
        let mut body = Vec::new();
        let url = answer.url().clone();
        while let Some(chunk) = answer.chunk().await.map_err(|error| self.unreachable(&url, shown, &error))? {
            if body.len() + chunk.len() > LIMIT {
                return Err(StoreError::Refused(format!(
                    "the algorithm store at {shown} answers with more than {LIMIT} bytes, which is more than an algorithm's description. \
                     Check the store's address at the server"
                )));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    fn unreachable(&self, url: &Url, shown: &str, error: &reqwest::Error) -> StoreError {
        let cause = std::error::Error::source(error).unwrap_or(error);
        let words = match self.failure_at(url, cause) {
            // The advice about the server's address in the configuration also applies to the store's address at the server.
            Failure::Tls(words) => words.replace("`server_url`", "its address at the server"),
            Failure::Other(words) => excerpt(words.as_bytes()),
        };
        let proxy = self.http_proxy_to(url).map(|proxy| format!(" through the {proxy}")).unwrap_or_default();
        let kind = if error.is_connect() { StoreError::Unreachable } else { StoreError::Away };
        kind(format!(
            "the algorithm store at {shown} can't be reached{proxy}: {words}. Check that it runs, and that this node can reach it"
        ))
    }
}

/// The error for a status other than 200.
fn refusal(status: u16, body: &[u8], shown: &str) -> StoreError {
    let said = serde_json::from_slice::<Message>(body).unwrap_or_default().msg;
    let said = said.map_or_else(|| excerpt(body), |said| excerpt(said.as_bytes()));
    let text = |advice: &str| format!("the algorithm store at {shown} answers {status}: {said}. {advice}");
    match status {
        300..=399 => StoreError::Refused(text(
            "Redirects are not followed: have it registered at the server with the address it has",
        )),
        401 => StoreError::Refused(text(
            "Stores before 4.15.2 don't know nodes, and answer only if their algorithm_view is public; later ones ask the server about \
             the node, which must be 4.15.2 or later, too",
        )),
        403 => StoreError::Refused(text(
            "It compares the server's address letter by letter with those on its own list: server_url, port and api_path must be written \
             here as there",
        )),
        407 => StoreError::Refused(text("The HTTP proxy on the way wants a login")),
        status if is_passing(status) => StoreError::Away(text("Its own log may say why")),
        _ => StoreError::Refused(text("Its own log may say why")),
    }
}

/// The address of a store's algorithms. The server calls a store on its own machine localhost, which from here is the server's host.
fn address(store: &str, server: &ServerUrl) -> Option<Url> {
    let mut url = plain_address(store)?;
    if is_localhost(&url) && !is_localhost(server.host()) {
        url.set_host(server.host().host_str()).ok()?;
        url.set_scheme(server.host().scheme()).ok()?;
    }
    let path = format!("{}/algorithm", url.path().trim_end_matches('/'));
    url.set_path(&path);
    Some(url)
}

fn is_localhost(url: &Url) -> bool {
    matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"))
}

/// The server's address in the form that the store knows.
fn told_server(server: &ServerUrl) -> String {
    server.as_configured().replace("host.docker.internal", "localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_asked_where_it_is() {
        let server = |url: &str| ServerUrl::new(url, None, "/api").unwrap();
        for (store, url, expected) in [
            ("https://store.example.org/api", "https://v6.nl", Some("https://store.example.org/api/algorithm")),
            ("https://store.example.org/api/", "https://v6.nl", Some("https://store.example.org/api/algorithm")),
            ("https://store.example.org", "https://v6.nl", Some("https://store.example.org/algorithm")),
            ("http://localhost:7602/api", "http://localhost:7601", Some("http://localhost:7602/api/algorithm")),
            ("http://localhost:7602/api", "http://v6.nl:7601", Some("http://v6.nl:7602/api/algorithm")),
            (
                "http://127.0.0.1:7602/api",
                "http://host.docker.internal",
                Some("http://host.docker.internal:7602/api/algorithm"),
            ),
            ("http://[::1]:7602/api", "http://v6.nl:7601", Some("http://v6.nl:7602/api/algorithm")),
            ("https://me:secret@store.example.org/api", "https://v6.nl", None),
            ("https://store.example.org/api?x=y", "https://v6.nl", None),
            ("file:///etc/passwd", "https://v6.nl", None),
            ("store", "https://v6.nl", None),
            (r"https:\\evil.example\.store.example.org/api", "https://v6.nl", None),
            ("https://store.example.org/api\n", "https://v6.nl", None),
        ] {
            let asked = address(store, &server(url));
            assert_eq!(asked.as_ref().map(Url::as_str), expected, "{store} {url}");
        }
        assert_eq!(told_server(&server("http://host.docker.internal:7601")), "http://localhost:7601/api");
    }
}
