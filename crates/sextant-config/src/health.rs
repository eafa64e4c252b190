//! Where the process tells whether it is well: the key `health:`.

use std::net::SocketAddr;

use super::Surroundings;
use super::address::listen;
use super::reader::{Section, Unknown};

/// Set by Kubernetes in every pod.
const IN_A_POD: &str = "KUBERNETES_SERVICE_HOST";
const PORT: u16 = 8081;

/// Where the health port is: as the file says, else in a pod at its usual port. Elsewhere there is none unless it is asked for,
/// since a machine may have many nodes.
pub(super) fn read(file: &Section<'_>, around: &Surroundings<'_>) -> Option<SocketAddr> {
    let default = (around.env)(IN_A_POD).map(|_| SocketAddr::from(([0, 0, 0, 0], PORT)));
    let Some(section) = file.get("health").and_then(|field| field.section("a mapping with `listen`")) else {
        return default;
    };
    let address = section.get("listen").and_then(|field| listen(&field, PORT));
    section.finish(Unknown::Refuse);
    address.or(default)
}
