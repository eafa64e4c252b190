//! The address of the health endpoints: the key `health:`.

use std::net::{Ipv6Addr, SocketAddr};

use super::Surroundings;
use super::address::listen;
use super::reader::Section;

/// Set by Kubernetes in every pod.
const IN_A_POD: &str = "KUBERNETES_SERVICE_HOST";
const PORT: u16 = 8081;

/// The listen address of the health port: as configured, else port 8081 in a pod. Outside a pod there is no default, since a machine may
/// have many nodes.
pub(super) fn read(file: &Section<'_>, around: &Surroundings<'_>) -> Option<SocketAddr> {
    let default = (around.env)(IN_A_POD).map(|_| SocketAddr::from((Ipv6Addr::UNSPECIFIED, PORT)));
    let Some(section) = file.get("health").and_then(|field| field.section("a mapping with `listen`")) else {
        return default;
    };
    let address = section.get("listen").and_then(|field| {
        let address = listen(&field, PORT)?;
        // In a pod, clients on other machines reach nothing else. Outside one, a port alone doesn't say that it is open to everybody.
        let is_port_alone = field.node.secret().is_some_and(|text| text.trim_start_matches(':').parse::<u16>().is_ok());
        if is_port_alone && default.is_none() {
            field.warn(format_args!(
                "is at all addresses of this machine: whoever reaches it can read the node's state and figures. Write \
                 `127.0.0.1:{0}` for this machine alone, or `0.0.0.0:{0}` if that is meant.",
                address.port()
            ));
        }
        Some(address)
    });
    section.finish_own();
    address.or(default)
}
