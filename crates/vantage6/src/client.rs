//! The client: all requests that a node makes to the server.

mod blobs;
mod builder;
mod list;
mod once;
pub(crate) mod runs;

use std::{fmt, sync::Arc};

use secrecy::SecretString;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::json;

use self::builder::Connections;
pub use self::{
    blobs::{BlobId, InputKind, NoBlobId},
    builder::ClientBuilder,
    runs::{InputText, OpenRuns},
};
use crate::{
    AlgorithmStore, Backoff, Collaboration, CollaborationId, Error, Node, NodeId, Organization, OrganizationId,
    ServerUrl, StoreId, TaskId, TaskOrigin,
    auth::Auth,
    http::{Answer, Call, HttpTransport},
    store::logins::StoreLogins,
    token::{Session, Token},
};

/// A connection to one server with the permissions of one node. Cloning is cheap; all clones share the login and the
/// connections.
///
/// Dropping a method's future at any moment cancels it. Methods whose request may be repeated retry failures that may pass
/// ([`Error::is_transient`]), for as long as the [`Backoff`] permits.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    transport: Arc<HttpTransport>,
    auth: Auth,
    backoff: Backoff,
    connections: Connections,
    store_logins: StoreLogins,
}

/// An access token, for connections that are made outside of this client: Socket.IO.
#[derive(Clone)]
pub struct AccessToken {
    session: Arc<Session>,
}

impl AccessToken {
    /// The token itself.
    pub fn secret(&self) -> &SecretString {
        &self.session.access.token
    }

    /// `Bearer …`, for the header `Authorization`; marked as sensitive.
    pub fn header(&self) -> Result<http::HeaderValue, Error> {
        crate::http::bearer(self.secret())
    }
}

impl Client {
    /// Starts building a client from the two required settings.
    pub fn builder(url: ServerUrl, api_key: SecretString) -> ClientBuilder {
        ClientBuilder::new(url, api_key)
    }

    /// The server's address.
    pub fn url(&self) -> &ServerUrl {
        &self.inner.transport.url
    }

    /// The HTTP client underneath, with its certificates and pool. The proxy uses it for other requests to the same server.
    /// It has no timeout except for connecting.
    pub fn http(&self) -> &reqwest::Client {
        &self.inner.transport.http
    }

    /// A builder for another HTTP client with the same certificates and HTTP proxies, restricted to HTTP/1.1: for websockets.
    pub fn http_builder(&self) -> reqwest::ClientBuilder {
        self.inner.connections.http1_builder()
    }

    /// Whether the server has requested a client certificate, which a node does not have.
    pub fn client_certificate_requested(&self) -> bool {
        self.inner.connections.was_asked()
    }

    /// The HTTP proxy in front of the server, if there is one.
    pub fn http_proxy(&self) -> Option<&outbound::HttpProxy> {
        self.inner.connections.http_proxy(&self.inner.transport.url.resource(""))
    }

    /// How long the server may stay silent before a request fails.
    pub(crate) fn silence(&self) -> std::time::Duration {
        self.inner.transport.silence
    }

    /// The HTTP proxy for another address, if there is one.
    pub(crate) fn http_proxy_to(&self, url: &url::Url) -> Option<&outbound::HttpProxy> {
        self.inner.connections.http_proxy(url)
    }

    /// Classifies and describes an error of a connection to another address.
    pub(crate) fn failure_at(&self, url: &url::Url, error: &(dyn std::error::Error + 'static)) -> outbound::Failure {
        self.inner.connections.failure(url, error)
    }

    /// When stores last had the node log in again.
    pub(crate) fn store_logins(&self) -> &StoreLogins {
        &self.inner.store_logins
    }

    /// Returns an access token that stays valid for a while. Logs in or refreshes the token if needed.
    pub async fn access_token(&self) -> Result<AccessToken, Error> {
        let mut tries = self.inner.backoff.begin();
        loop {
            match self.inner.auth.session().await {
                Ok(session) => return Ok(AccessToken { session }),
                Err(error) => tries.wait_or_fail(error).await?,
            }
        }
    }

    /// Marks a token that the server rejected, so that the next one is new.
    pub fn invalidate_token(&self, token: &AccessToken) {
        self.inner.auth.invalidate(&token.session);
    }

    /// This node's id, from its login.
    pub async fn node_id(&self) -> Result<NodeId, Error> {
        self.access_token().await?.session.node.ok_or_else(|| Error::Unreadable {
            request: "POST token/node".into(),
            problem: "it does not say which node this is".into(),
            excerpt: "(not shown, because it contains a token)".into(),
        })
    }

    /// Returns this node (`GET node/{id}`). Logs in if necessary.
    pub async fn whoami(&self) -> Result<Node, Error> {
        let id = self.node_id().await?;
        self.json(Call::get(format!("node/{id}"))).await
    }

    /// Returns a collaboration.
    pub async fn collaboration(&self, id: CollaborationId) -> Result<Collaboration, Error> {
        self.json(Call::get(format!("collaboration/{id}"))).await
    }

    /// Returns an organization, e.g. for its public key.
    pub async fn organization(&self, id: OrganizationId) -> Result<Organization, Error> {
        self.json(Call::get(format!("organization/{id}"))).await
    }

    /// Returns a task's origin (`GET task/{id}`). A node may see the tasks of its collaborations.
    pub async fn task_origin(&self, id: TaskId) -> Result<TaskOrigin, Error> {
        self.json(Call::get(format!("task/{id}"))).await
    }

    /// Returns an algorithm store (`GET algorithmstore/{id}`, since 4.6).
    pub async fn algorithm_store(&self, id: StoreId) -> Result<AlgorithmStore, Error> {
        self.json(Call::get(format!("algorithmstore/{id}"))).await
    }

    /// Publishes the organization's public key (base64 of its PEM), with which other organizations encrypt for it.
    pub async fn set_public_key(&self, id: OrganizationId, public_key: &str) -> Result<(), Error> {
        let _: serde::de::IgnoredAny =
            self.json(Call::patch(format!("organization/{id}")).json(&json!({"public_key": public_key}))).await?;
        Ok(())
    }

    /// The server's version, such as `4.15.2` (`GET version`).
    pub async fn version(&self) -> Result<String, Error> {
        #[derive(Deserialize)]
        struct Version {
            version: String,
        }
        self.json(Call::get("version")).await.map(|Version { version }| version)
    }

    /// Returns a token for the algorithm of a task. It never expires. The server refuses it (400) for a task that has ended.
    pub async fn container_token(&self, task: TaskId, image: &str) -> Result<SecretString, Error> {
        #[derive(Deserialize)]
        struct ContainerToken {
            container_token: Token,
        }
        let call = Call::post("token/container").json(&json!({"task_id": task, "image": image})).secret();
        self.json::<ContainerToken>(call).await.map(|answer| answer.container_token.0)
    }

    /// Sends a request that may be repeated and parses the response.
    async fn json<T: DeserializeOwned>(&self, call: Call) -> Result<T, Error> {
        let mut tries = self.inner.backoff.begin();
        loop {
            let answer = async { self.send_authenticated(&call).await?.json(self.inner.transport.limit).await };
            match answer.await {
                Ok(answer) => return Ok(answer),
                Err(error) => tries.wait_or_fail(error).await?,
            }
        }
    }

    /// Sends a request once with the node's token, and once more with a new token if the first may have been the problem.
    async fn send_authenticated(&self, call: &Call) -> Result<Answer, Error> {
        let session = self.inner.auth.session().await?;
        match self.inner.transport.send(call, Some(&session.access.token)).await {
            Err(error) if error.may_be_the_token() => {
                self.inner.auth.invalidate(&session);
                let session = self.inner.auth.session().await?;
                self.inner.transport.send(call, Some(&session.access.token)).await
            }
            other => other,
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({})", self.inner.transport.url)
    }
}
