//! Keeps a client connected: connects, runs the session, waits, and repeats until the client is stopped.

use backoff::Backoff;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{debug, info};
use url::Url;

use crate::error::Error;
use crate::event::Event;
use crate::headers::HeaderProvider;
use crate::session::{Ended, Session};
use crate::transport::{Endpoint, Opened, Transports, open, within};

pub(crate) struct Reconnector {
    pub client: reqwest::Client,
    pub url: Url,
    pub transports: Transports,
    pub headers: Arc<dyn HeaderProvider>,
    pub backoff: Backoff,
    pub session: Session,
}

impl Reconnector {
    pub async fn run(mut self) {
        // Failed attempts since the last connection, reported to the reader of the events.
        let mut attempt = 0u32;
        // Consecutive failures, from which the delay follows. A connection that ends early counts as a failure, so a server
        // that accepts connections and drops them at once is not asked without a pause.
        let mut failures = 0u32;
        loop {
            let Some(opened) = self.unless_stopped(self.attempt()).await else {
                return;
            };
            let ended = match opened {
                Ok(opened) => self.session.run(opened).await,
                Err(reason) => Ended { connected: None, reason },
            };
            let Ended { connected, reason } = ended;
            if matches!(reason, Error::Shutdown) {
                self.session.events.try_send(Event::Disconnected { reason });
                return;
            }
            if connected.is_some_and(|since| since.elapsed() >= self.backoff.longest) {
                failures = 0;
            }
            failures = failures.saturating_add(1);
            let next_in = self.backoff.random(failures);
            let event = if connected.is_some() {
                attempt = 0;
                info!(%reason, ?next_in, "Disconnected");
                Event::Disconnected { reason }
            } else {
                attempt = attempt.saturating_add(1);
                debug!(error = %reason, attempt, ?next_in, "Could not connect");
                Event::ConnectFailed { error: reason, attempt, next_in }
            };
            let next = Instant::now() + next_in;
            let wait = async {
                self.session.events.send(event).await;
                tokio::time::sleep_until(next).await;
            };
            if self.unless_stopped(wait).await.is_none() {
                return;
            }
        }
    }

    async fn attempt(&self) -> Result<Opened, Error> {
        let limit: Duration = self.session.connect_timeout;
        let headers = async { self.headers.headers().await.map_err(Error::Headers) };
        let headers = within(limit, "getting the headers for a connection", headers).await?;
        let endpoint = Endpoint::new(self.client.clone(), self.url.clone(), headers, self.session.limits);
        within(limit, "connecting", open(endpoint, self.transports, limit)).await
    }

    async fn unless_stopped<T>(&self, step: impl Future<Output = T>) -> Option<T> {
        let mut control = self.session.control.clone();
        tokio::select! {
            () = control.stopped(&self.session.events) => None,
            done = step => Some(done),
        }
    }
}
