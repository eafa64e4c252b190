//! Converts failures of connections to errors.

use std::sync::Arc;

use outbound::{Failure, HttpProxies, Trust};

use crate::{Delivery, Error, ServerUrl, error::excerpt};

/// Converts errors on the network path to the server.
#[derive(Clone, Default)]
pub(crate) struct ConnectionErrors {
    /// Set for a server with TLS.
    trust: Option<Trust>,
    /// The HTTP proxy in front of the server.
    through: Option<Arc<str>>,
}

impl ConnectionErrors {
    pub fn to(url: &ServerUrl, proxies: &HttpProxies, trust: &Trust) -> Self {
        let url = url.resource("");
        let through = proxies.for_url(&url).map(|proxy| format!("through the {proxy}").into());
        Self { trust: (url.scheme() == "https").then(|| trust.clone()), through }
    }

    /// Converts a network error. `taken` says whether the server may have received the request.
    pub fn error(&self, request: String, error: &reqwest::Error, taken: Delivery) -> Error {
        // Skips the outermost error, which has only the address: that is known and may be long.
        let cause = std::error::Error::source(error).unwrap_or(error);
        let failure = match &self.trust {
            Some(trust) => trust.failure(cause),
            None => Failure::classify(cause, false),
        };
        match failure {
            Failure::Tls(words) => Error::Tls { request, cause: self.with_proxy(words), delivery: taken },
            Failure::Other(words) => {
                let words = if words.is_empty() { error.to_string() } else { words };
                Error::Unreachable { request, cause: self.with_proxy(excerpt(words.as_bytes())), delivery: taken }
            }
        }
    }

    fn with_proxy(&self, words: String) -> String {
        let Some(through) = &self.through else { return words };
        // The texts of `hyper_util::client::legacy::connect::proxy::TunnelError`.
        let refused = ["tunnel error: unsuccessful", "tunnel error: proxy authorization required"];
        let more = if refused.iter().any(|text| words.contains(text)) {
            ": it does not allow this connection, or requires another login"
        } else {
            ""
        };
        format!("{through}: {words}{more}")
    }
}

/// Returns whether the server may have received a request whose connection failed.
pub(crate) fn delivery(error: &reqwest::Error) -> Delivery {
    if error.is_connect() || error.is_builder() { Delivery::NotSent } else { Delivery::Unknown }
}
