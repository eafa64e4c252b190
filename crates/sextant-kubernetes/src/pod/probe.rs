//! `sextant probe` runs in a pod that looks like an algorithm's to the cluster. It tries to reach what an algorithm must not reach and what
//! it needs, or it listens, as a target for another probe. It writes its findings as its termination message.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::future::{join_all, select_all};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;

use super::{PodError, settings, write_termination_message};
use crate::data_port::tls;
use crate::decisions::isolation::{API_SERVER, DNS, Findings, How, MACHINE, Outcome, Try};
use crate::decisions::probe::{self, Orders};

/// How long an answer may take, which allows for one or two lost packets.
const PATIENCE: Duration = Duration::from_secs(4);
/// How long a needed target is retried, since a network may take a moment to know a new pod.
const NEEDED: Duration = Duration::from_secs(15);
/// A DNS query for the address of the API server's Service, which every cluster's DNS knows.
const QUESTION: &[u8] =
    b"\x5e\x47\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x0akubernetes\x07default\x03svc\x07cluster\x05local\x00\x00\x01\x00\x01";

/// Executes the orders from the environment.
///
/// # Errors
/// If there are no orders, or a port can't be opened.
pub async fn run() -> Result<(), PodError> {
    let orders = settings::required(probe::ORDERS)?;
    let orders = serde_json::from_str(&orders)
        .map_err(|error| PodError::Setting { name: probe::ORDERS, problem: error.to_string() })?;
    match orders {
        Orders::Listen(ports) => listen(&ports).await,
        Orders::Try { needed, closed } => {
            let findings = attempt(&needed, &closed, &Surroundings::here()).await;
            tracing::info!("{findings:?}");
            write_termination_message(&serde_json::to_string(&findings).unwrap_or_default());
            Ok(())
        }
    }
}

/// Accepts every connection until the process is stopped.
async fn listen(ports: &[u16]) -> Result<(), PodError> {
    let failed = |source| PodError::File { what: "can't listen at a port".into(), source };
    let mut stop = signal(SignalKind::terminate()).map_err(failed)?;
    let mut listeners = Vec::new();
    for port in ports {
        // One listener serves both address families if the machine has both.
        let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, *port));
        let listener = match TcpListener::bind(any).await {
            Ok(listener) => listener,
            Err(_) => TcpListener::bind((Ipv4Addr::UNSPECIFIED, *port)).await.map_err(failed)?,
        };
        listeners.push(listener);
    }
    let accept = async {
        loop {
            let all = listeners.iter().map(|listener| Box::pin(listener.accept()));
            let _ = select_all(all).await;
        }
    };
    tokio::select! {
        () = accept => {}
        _ = stop.recv() => {}
    }
    Ok(())
}

/// What the pod knows about its environment.
struct Surroundings {
    machine: Option<IpAddr>,
    api_server: Option<SocketAddr>,
}

impl Surroundings {
    fn here() -> Self {
        let variable = |name| std::env::var(name).ok();
        let ip = |name| variable(name)?.parse::<IpAddr>().ok();
        let port = variable("KUBERNETES_SERVICE_PORT").and_then(|port| port.parse().ok()).unwrap_or(443);
        Self {
            machine: ip(probe::MACHINE),
            api_server: ip("KUBERNETES_SERVICE_HOST").map(|ip| SocketAddr::new(ip, port)),
        }
    }

    /// The address of a target; `None` if there is no such target here.
    fn address(&self, to: &str) -> Option<SocketAddr> {
        if let Ok(address) = to.parse() {
            return Some(address);
        }
        let (host, port) = to.rsplit_once(':')?;
        let port = port.parse().ok();
        match host {
            MACHINE => Some(SocketAddr::new(self.machine?, port?)),
            API_SERVER => self.api_server,
            DNS => Some(SocketAddr::new(tenth(self.api_server?.ip()), port?)),
            _ => None,
        }
    }
}

/// The tenth address of the Service network, the usual address of DNS. The API server has the first.
fn tenth(api_server: IpAddr) -> IpAddr {
    match api_server {
        IpAddr::V4(ip) => Ipv4Addr::from_bits(ip.to_bits().wrapping_add(9)).into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits().wrapping_add(9)).into(),
    }
}

/// Tries all targets. Needed ones are retried, like an algorithm that starts only after `receive` has reached the node.
async fn attempt(needed: &[Try], closed: &[Try], around: &Surroundings) -> Findings {
    let end = Instant::now() + NEEDED;
    let needed = join_all(needed.iter().map(|attempt| async move {
        loop {
            let outcome = once(attempt, around).await;
            if outcome == Outcome::Open || outcome == Outcome::None || Instant::now() >= end {
                return outcome;
            }
            sleep(Duration::from_millis(250)).await;
        }
    }))
    .await;
    let closed = join_all(closed.iter().map(|attempt| once(attempt, around))).await;
    Findings {
        outcomes: [needed, closed].concat(),
        machine: around.machine.map(|ip| ip.to_string()).unwrap_or_default(),
    }
}

/// Tries one target from this process's own network.
pub async fn try_once(attempt: &Try) -> Outcome {
    once(attempt, &Surroundings::here()).await
}

async fn once(attempt: &Try, around: &Surroundings) -> Outcome {
    let Some(address) = around.address(&attempt.to) else { return Outcome::None };
    let answer = async {
        match &attempt.how {
            How::Tcp => TcpStream::connect(address).await.map(drop),
            How::Udp => ask(address).await,
            How::Http => speak(address).await,
            How::Pinned(pin) => shake_hands(address, pin).await,
        }
    };
    match timeout(PATIENCE, answer).await {
        Ok(Ok(())) => Outcome::Open,
        Ok(Err(error)) => read(&error),
        Err(_) => Outcome::Silent,
    }
}

fn read(error: &std::io::Error) -> Outcome {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset => Outcome::Refused,
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::PermissionDenied => Outcome::NoWay,
        _ => Outcome::Silent,
    }
}

async fn ask(address: SocketAddr) -> std::io::Result<()> {
    let any = if address.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(address).await?;
    let mut answer = [0; 512];
    loop {
        socket.send(QUESTION).await?;
        // UDP packets may be lost without notice.
        if let Ok(answered) = timeout(Duration::from_secs(1), socket.recv(&mut answer)).await {
            return answered.map(drop);
        }
    }
}

async fn speak(address: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"GET /version HTTP/1.1\r\nHost: proxyserver\r\nConnection: close\r\n\r\n").await?;
    let mut begin = [0; 7];
    stream.read_exact(&mut begin).await?;
    if &begin == b"HTTP/1." { Ok(()) } else { Err(std::io::ErrorKind::InvalidData.into()) }
}

async fn shake_hands(address: SocketAddr, pin: &str) -> std::io::Result<()> {
    let config = tls::client(pin).map_err(std::io::Error::other)?;
    let name = tls::SERVER_NAME.try_into().map_err(std::io::Error::other)?;
    let stream = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn around() -> Surroundings {
        Surroundings { machine: Some([127, 0, 0, 1].into()), api_server: Some(SocketAddr::from(([10, 96, 0, 1], 443))) }
    }

    #[test]
    fn words_stand_for_what_only_the_pod_knows() {
        for (to, address) in [
            ("192.0.2.1:22", Some("192.0.2.1:22")),
            ("[2001:db8::1]:22", Some("[2001:db8::1]:22")),
            ("machine:10250", Some("127.0.0.1:10250")),
            ("api-server:0", Some("10.96.0.1:443")),
            ("dns:53", Some("10.96.0.10:53")),
            ("elsewhere:1", None),
            ("machine", None),
        ] {
            assert_eq!(around().address(to).map(|address| address.to_string()).as_deref(), address, "{to}");
        }
    }

    #[tokio::test]
    async fn outcomes_are_told_apart() {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let open = tcp.local_addr().unwrap();
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let dns = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let name_server = dns.local_addr().unwrap();
        tokio::spawn(async move {
            let mut question = [0; 512];
            let (length, from) = dns.recv_from(&mut question).await.unwrap();
            dns.send_to(&question[..length], from).await.unwrap();
        });
        let attempt = |to: String, how| Try { to, how };
        let tries = [
            (attempt(open.to_string(), How::Tcp), Outcome::Open),
            (attempt(closed.to_string(), How::Tcp), Outcome::Refused),
            (attempt(name_server.to_string(), How::Udp), Outcome::Open),
            (attempt(closed.to_string(), How::Udp), Outcome::Refused),
            (attempt("nowhere:1".into(), How::Tcp), Outcome::None),
            // Accepts, but says nothing.
            (attempt(open.to_string(), How::Http), Outcome::Silent),
            (attempt(open.to_string(), How::Pinned("0".repeat(64))), Outcome::Silent),
        ];
        let closed: Vec<Try> = tries.iter().map(|(attempt, _)| attempt.clone()).collect();
        let findings = attempt_all(&closed).await;
        let expected: Vec<Outcome> = tries.iter().map(|(_, outcome)| *outcome).collect();
        assert_eq!(findings.outcomes, expected);
    }

    async fn attempt_all(closed: &[Try]) -> Findings {
        attempt(&[], closed, &around()).await
    }
}
