//! The identity of a configuration's node.

use sextant_core::names::{Identity, RELEASE};
use vantage6_types::NodeId;

use super::Config;

impl Config {
    /// The identity of the node with this configuration. `node` is its number at the server.
    pub fn identity(&self, node: NodeId) -> Identity {
        let release = self.kubernetes().and_then(|kubernetes| kubernetes.labels.get(RELEASE)).cloned();
        Identity::new(self.api_url(), node, &self.api_key).with_release(release)
    }
}
