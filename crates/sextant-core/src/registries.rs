//! The port to registries of images: what content a name stands for.

#[cfg(any(test, feature = "testing"))]
pub mod testing;

use crate::image_policy::Answer;
use crate::image_reference::{Digest, ImageReference};

/// What a node asks of registries.
#[async_trait::async_trait]
pub trait Registries: Send + Sync + 'static {
    /// The digest that an image's registry has for its tag now: of an image for several platforms, that of its index. Answers within a
    /// bounded time.
    async fn digest(&self, image: &ImageReference) -> Answer<Digest>;
}
