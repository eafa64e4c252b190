//! Fresh headers for each attempt: access tokens expire while a client lives on.

use std::future::Future;
use std::pin::Pin;

use http::HeaderMap;

use crate::error::BoxError;

/// The headers, later.
pub type HeadersFuture<'a> = Pin<Box<dyn Future<Output = Result<HeaderMap, BoxError>> + Send + 'a>>;

/// Is asked before each attempt to connect; what it gives goes with all requests of that connection.
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
    /// The headers for one attempt. An error counts as a failed attempt. Takes at most the connect timeout.
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

/// The same headers each time.
pub(crate) struct Fixed(pub HeaderMap);

impl HeaderProvider for Fixed {
    fn headers(&self) -> HeadersFuture<'_> {
        Box::pin(std::future::ready(Ok(self.0.clone())))
    }
}
