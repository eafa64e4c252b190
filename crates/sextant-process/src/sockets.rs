//! The socket options of all connections.

/// Makes the kernel notice within a minute that the peer has vanished, even while nothing is sent, and within two minutes
/// that the peer accepts no more data.
///
/// # Errors
/// The kernel's error.
pub fn set_keepalive(stream: &tokio::net::TcpStream) -> std::io::Result<()> {
    let alive = socket2::TcpKeepalive::new()
        .with_time(std::time::Duration::from_secs(20))
        .with_interval(std::time::Duration::from_secs(10))
        .with_retries(3);
    let socket = socket2::SockRef::from(stream);
    socket.set_tcp_keepalive(&alive)?;
    socket.set_tcp_user_timeout(Some(std::time::Duration::from_secs(120)))
}
