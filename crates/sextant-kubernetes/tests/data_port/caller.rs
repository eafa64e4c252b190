//! A caller that can reach the port and sends arbitrary bytes.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use sextant_kubernetes::data_port::tls;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Whatever the port does, it does within this.
const LONGEST: Duration = Duration::from_secs(10);

pub struct Caller {
    pub address: SocketAddr,
    pub pin: String,
}

impl Caller {
    pub async fn connect(&self) -> io::Result<TcpStream> {
        TcpStream::connect(self.address).await
    }

    pub async fn tls(&self) -> io::Result<TlsStream<TcpStream>> {
        let connector = TlsConnector::from(Arc::new(tls::client(&self.pin).unwrap()));
        connector.connect(tls::SERVER_NAME.try_into().unwrap(), self.connect().await?).await
    }

    /// A request in good form, of a pod of the Job that the run has now; all of the answer until the other side closes.
    pub async fn ask(&self, line: &str, key: Option<&SecretString>, body: &[u8]) -> io::Result<String> {
        let key = key.map(|key| format!("Authorization: Bearer {}\r\n", key.expose_secret())).unwrap_or_default();
        let head = format!(
            "{line} HTTP/1.1\r\nHost: node\r\nx-sextant-job: job-2\r\n{key}Content-Length: {}\r\n\r\n",
            body.len()
        );
        self.send(&[head.as_bytes(), body].concat()).await
    }

    /// Any bytes inside of TLS; all of the answer until the other side closes.
    pub async fn send(&self, bytes: &[u8]) -> io::Result<String> {
        let (mut read, mut write) = tokio::io::split(self.tls().await?);
        let answer = async {
            let mut answer = Vec::new();
            // A connection that is cut off says as much as one that is closed.
            let _ = timeout(LONGEST, read.read_to_end(&mut answer)).await.expect("the port closes in time");
            String::from_utf8_lossy(&answer).into_owned()
        };
        let (_, answer) = tokio::join!(async { write.write_all(bytes).await.and(write.flush().await) }, answer);
        Ok(answer)
    }
}

/// What the other side still sends until it closes, which it does in time.
pub async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    let _ = timeout(LONGEST, stream.read_to_end(&mut rest)).await.expect("the port closes in time");
    rest
}
