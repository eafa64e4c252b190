//! The port to image registries, which resolves an image's name to its content.

#[cfg(any(test, feature = "testing"))]
pub mod testing;

use crate::image_policy::Answer;
use crate::image_reference::{Digest, ImageReference};

/// The requests of a node to registries.
#[async_trait::async_trait]
pub trait Registries: Send + Sync + 'static {
    /// The digest to which an image's registry resolves its tag now. For an image with several platforms, it is the digest of the index.
    /// Completes within a bounded time.
    async fn digest(&self, image: &ImageReference) -> Answer<Digest>;
}
