//! Provides fresh headers for each attempt, because access tokens expire during a client's life.

use std::future::Future;
use std::pin::Pin;

use http::HeaderMap;

use crate::error::BoxError;

/// The future that yields the headers of one attempt.
pub type HeadersFuture<'a> = Pin<Box<dyn Future<Output = Result<HeaderMap, BoxError>> + Send + 'a>>;

/// Provides the headers that all requests of one connection carry. The client asks it before each attempt to connect.
///
/// Implemented for closures that return a future:
/// ```
/// # use http::{HeaderMap, header::AUTHORIZATION};
/// # async fn fresh_token() -> Result<String, std::io::Error> { Ok("x".into()) }
/// # let builder = socketio::Client::builder("http://127.0.0.1");
/// builder.headers(|| async {
///     let token = fresh_token().await?;
///     Ok(HeaderMap::from_iter([(AUTHORIZATION, format!("Bearer {token}").parse()?)]))
/// })
/// # ;
/// ```
pub trait HeaderProvider: Send + Sync + 'static {
    /// Returns the headers for one attempt. An error, or taking longer than the connect timeout, counts as a failed attempt.
    fn headers(&self) -> HeadersFuture<'_>;
}

impl<F, Fut> HeaderProvider for F
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<HeaderMap, BoxError>> + Send + 'static,
{
    fn headers(&self) -> HeadersFuture<'_> {
        Box::pin(self())
    }
}

/// Provides the same headers for each attempt.
pub(crate) struct Fixed(pub HeaderMap);

impl HeaderProvider for Fixed {
    fn headers(&self) -> HeadersFuture<'_> {
        Box::pin(std::future::ready(Ok(self.0.clone())))
    }
}
