//! Listens at IPv4 and IPv6 addresses. `[::]` means both, whatever the machine's default (`net.ipv6.bindv6only`) is; if the kernel has no
//! IPv6, it means IPv4. An IPv4 peer then has an IPv4-mapped address, which `to_canonical` converts back.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use log_throttle::LogThrottle;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tracing::warn;

/// How many connections may wait to be accepted.
const BACKLOG: i32 = 1024;

/// Whether other sockets may listen at the same address and port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortSharing {
    /// No other socket may.
    Exclusive,
    /// Sockets of the same user that also set this may; each gets a share of the connections.
    Shared,
}

/// Listens at an address.
///
/// # Errors
/// The operating system's error: the address is in use, not this machine's, or privileged.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    listen_with(address, PortSharing::Exclusive, BACKLOG)
}

/// Like [`listen`], with a choice of port sharing and backlog.
///
/// # Errors
/// The operating system's error.
pub fn listen_with(address: SocketAddr, sharing: PortSharing, backlog: i32) -> io::Result<TcpListener> {
    let listener = bound(address, sharing, backlog).or_else(|error| match without_ipv6(address, &error) {
        Some(address) => bound(address, sharing, backlog),
        None => Err(error),
    })?;
    TcpListener::from_std(listener.into())
}

/// Accepts the next connection, and returns it with its peer's canonical address. After a failure, logs it and tries again after `pause`:
/// the process is out of file descriptors, or the peer is already gone, and neither is a reason to stop serving.
pub async fn accept(
    listener: &TcpListener,
    name: &str,
    failures: &LogThrottle,
    pause: Duration,
) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((stream, address)) => return (stream, SocketAddr::new(address.ip().to_canonical(), address.port())),
            Err(error) => {
                if let Some(times) = failures.happened() {
                    warn!(times, "{name} could not accept a connection: {error}");
                }
                tokio::time::sleep(pause).await;
            }
        }
    }
}

fn bound(address: SocketAddr, sharing: PortSharing, backlog: i32) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.ip() == Ipv6Addr::UNSPECIFIED {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(sharing == PortSharing::Shared)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    Ok(socket)
}

/// Returns the address to use instead if the kernel has no IPv6.
fn without_ipv6(address: SocketAddr, error: &io::Error) -> Option<SocketAddr> {
    let unknown = error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error());
    let none = unknown || error.kind() == io::ErrorKind::AddrNotAvailable;
    (address.ip() == Ipv6Addr::UNSPECIFIED && none).then(|| (Ipv4Addr::UNSPECIFIED, address.port()).into())
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn anywhere_is_both_families() {
        let listener = listen((Ipv6Addr::UNSPECIFIED, 0).into()).unwrap();
        let port = listener.local_addr().unwrap().port();
        for (to, whence) in [("127.0.0.1", "127.0.0.1"), ("::1", "::1")] {
            let connected = TcpStream::connect((to.parse::<std::net::IpAddr>().unwrap(), port)).await;
            if connected.is_err() && to == "::1" && TcpListener::bind("[::1]:0").await.is_err() {
                continue;
            }
            connected.unwrap();
            let (_, from) = accept(&listener, "The test", &LogThrottle::new(), Duration::ZERO).await;
            assert_eq!(from.ip().to_string(), whence);
        }
        // An IPv4 address in use is refused, and one of IPv4 means only IPv4.
        assert_eq!(listen(([0, 0, 0, 0], port).into()).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert!(listen(([127, 0, 0, 1], 0).into()).unwrap().local_addr().unwrap().is_ipv4());
    }

    #[test]
    fn a_kernel_without_ipv6_listens_at_ipv4() {
        let unknown = || io::Error::from_raw_os_error(rustix::io::Errno::AFNOSUPPORT.raw_os_error());
        for (address, error, expected) in [
            ("[::]:80", unknown(), Some("0.0.0.0:80")),
            ("[::]:80", io::ErrorKind::AddrNotAvailable.into(), Some("0.0.0.0:80")),
            ("[::]:80", io::ErrorKind::AddrInUse.into(), None),
            ("[::]:80", io::ErrorKind::PermissionDenied.into(), None),
            // A specific address is never replaced.
            ("[::1]:80", unknown(), None),
            ("10.0.0.1:80", io::ErrorKind::AddrNotAvailable.into(), None),
        ] {
            let instead = without_ipv6(address.parse().unwrap(), &error).map(|address| address.to_string());
            assert_eq!(instead.as_deref(), expected, "{address} {error}");
        }
    }
}
