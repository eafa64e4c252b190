//! Queries the server for the proxy's own needs, with the caller's token.

use std::io;

use futures::StreamExt as _;
use http::{HeaderMap, Method, Response, StatusCode};
use http_body_util::BodyDataStream;
use jiff::Timestamp;
use serde::Deserialize;
use vantage6::answered_at;

use super::access_log::Record;
use super::body::{PooledBody, RequestBody};
use super::forward::Proxy;
use super::outline::{Keep, Outline};
use super::refusal::Refusal;
use super::retry::{UpstreamRequest, interrupted};
use super::route::Route;

/// Keys are shorter, and so are image names.
const KEEP: Keep = Keep { outermost: 1024, deeper: 32 };
/// The most bytes of a task or a run without its long strings.
const LONGEST: usize = 16 * 1024;

impl Proxy {
    /// Queries the server and returns its answer, whatever it is.
    pub(super) async fn query(
        &self,
        which: &str,
        headers: &HeaderMap,
        record: &mut Record,
    ) -> Result<Response<PooledBody>, Refusal> {
        let path = format!("{}{which}", self.shared.origin.api_path);
        let asked = UpstreamRequest { method: &Method::GET, headers, path, route: Route::Lookup };
        self.send_with_retry(&asked, RequestBody::Empty, record).await
    }

    /// Queries the server for one resource.
    pub(super) async fn lookup(
        &self,
        which: &str,
        headers: &HeaderMap,
        record: &mut Record,
    ) -> Result<Lookup, Refusal> {
        self.lookup_up_to(which, KEEP, LONGEST, headers, record).await
    }

    /// Queries the server and keeps this much of the answer.
    pub(super) async fn lookup_up_to(
        &self,
        which: &str,
        keep: Keep,
        longest: usize,
        headers: &HeaderMap,
        record: &mut Record,
    ) -> Result<Lookup, Refusal> {
        let answer = self.query(which, headers, record).await?;
        match answer.status() {
            StatusCode::OK => {}
            status if status.is_server_error() => return Ok(Lookup::Unavailable(answer)),
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => return Ok(Lookup::Unavailable(answer)),
            _ => return Ok(Lookup::NotFound(answer)),
        }
        let answered_at = answered_at(answer.headers());
        let mut outline = Outline::new(keep, longest);
        let mut body = BodyDataStream::new(answer.into_body());
        while let Some(piece) = body.next().await {
            if outline.feed(&piece.map_err(|error: io::Error| interrupted(error))?).is_err() {
                return Ok(Lookup::TooLong);
            }
        }
        Ok(Lookup::Found(outline, answered_at))
    }
}

/// The result of a query.
pub(super) enum Lookup {
    /// The answer, and the time at which the server gave it.
    Found(Outline, Option<Timestamp>),
    /// The answer is too long.
    TooLong,
    /// The resource does not exist, or the caller may not see it.
    NotFound(Response<PooledBody>),
    /// The server can't answer at the moment.
    Unavailable(Response<PooledBody>),
}

/// Parses a JSON object. Serde also accepts lists for structs, so these are rejected first.
pub(super) fn parsed<'a, T: Deserialize<'a>>(outline: &'a Outline) -> Option<T> {
    let text = outline.text();
    if text.trim_ascii_start().first() != Some(&b'{') {
        return None;
    }
    serde_json::from_slice(text).ok()
}
