//! Checks whether the algorithm stores and registries that the policies name answer this node.

use sextant_config::{Config, RuntimeConfig};
use sextant_core::doctor_line::Line;
use sextant_core::image_policy::Answer;
use sextant_core::policies::{AllowedAlgorithm, AllowedStore};
use sextant_core::registries::Registries as _;
use sextant_registry::OciRegistries;
use vantage6::StoreError;

/// Queries each store and registry that the policies name.
pub async fn examine(config: &Config, tell: &mut (dyn FnMut(Line) + Send)) {
    stores(config, tell).await;
    // The local runtime pulls no images.
    if matches!(config.runtime, RuntimeConfig::Kubernetes(_)) {
        registries(config, tell).await;
    }
}

async fn stores(config: &Config, tell: &mut (dyn FnMut(Line) + Send)) {
    const SUBJECT: &str = "algorithm store";
    if config.policies.allowed_stores.is_empty() {
        return;
    }
    // A failure here was already reported for the server.
    let Ok(client) = sextant_hub::client(config) else { return };
    for store in &config.policies.allowed_stores {
        let url = match store {
            AllowedStore::Exact(url) => url,
            AllowedStore::Pattern(_) => {
                let text = format!(
                    "which stores match `{}` is not known here; the server tells the store of each task",
                    store.as_str()
                );
                tell(Line::unknown(SUBJECT, text));
                continue;
            }
        };
        tell(match client.store_algorithms(url, None).await {
            Ok(algorithms) if algorithms.is_empty() => {
                Line::ok(SUBJECT, format!("{url} answers this node, and has approved no algorithm yet"))
            }
            Ok(_) => Line::ok(SUBJECT, format!("{url} answers this node")),
            Err(StoreError::Unreachable(why) | StoreError::Away(why) | StoreError::Refused(why)) => {
                Line::wrong(SUBJECT, why)
            }
        });
    }
}

/// Checks the images with a tag, which may have to be compared with a task's image. Most never are, so an unknown digest is no error.
async fn registries(config: &Config, tell: &mut (dyn FnMut(Line) + Send)) {
    const SUBJECT: &str = "registry";
    let images: Vec<_> = config.policies.allowed_algorithms.iter().filter_map(AllowedAlgorithm::reference).collect();
    let images: Vec<_> = images.into_iter().filter(|image| image.tag.is_some() && image.digest.is_none()).collect();
    if images.is_empty() {
        return;
    }
    let registries = match OciRegistries::new(config) {
        Ok(registries) => registries,
        Err(why) => return tell(Line::wrong(SUBJECT, why)),
    };
    for image in images {
        tell(match registries.digest(&image).await {
            Answer::Known(digest) => Line::ok(SUBJECT, format!("{image} is {digest} now")),
            Answer::No(why) | Answer::Away(why) => Line::unknown(
                SUBJECT,
                format!("{why}. Tasks that name this image by a digest or another tag can't be allowed by its content"),
            ),
        });
    }
}
