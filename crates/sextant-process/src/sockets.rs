//! What every connection of ours is set to.

/// Makes the kernel notice within a minute that the other side has vanished, also while nothing is sent; and
/// within two that it takes nothing any more.
///
/// # Errors
/// The kernel's.
pub fn set_keepalive(stream: &tokio::net::TcpStream) -> std::io::Result<()> {
    let alive = socket2::TcpKeepalive::new()
        .with_time(std::time::Duration::from_secs(20))
        .with_interval(std::time::Duration::from_secs(10))
        .with_retries(3);
    let socket = socket2::SockRef::from(stream);
    socket.set_tcp_keepalive(&alive)?;
    socket.set_tcp_user_timeout(Some(std::time::Duration::from_secs(120)))
}
