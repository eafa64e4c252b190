//! Reads HTTP/1.1 messages.

use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, copy, sink};

/// The head of a message.
#[derive(Debug)]
pub struct Head {
    /// The request or status line.
    pub first: String,
    /// The announced length of the body; 0 if there is none.
    pub length: u64,
    /// Whether the body comes in chunks.
    pub chunked: bool,
}

impl Head {
    /// Reads a head.
    pub async fn read(connection: &mut (impl AsyncBufRead + Unpin)) -> Self {
        let (mut first, mut length, mut chunked) = (String::new(), 0, false);
        connection.read_line(&mut first).await.unwrap();
        loop {
            let mut line = String::new();
            connection.read_line(&mut line).await.unwrap();
            let line = line.trim().to_ascii_lowercase();
            if let Some(announced) = line.strip_prefix("content-length: ") {
                length = announced.parse().unwrap();
            }
            chunked |= line.starts_with("transfer-encoding: chunked");
            if line.is_empty() {
                return Self { first, length, chunked };
            }
        }
    }

    /// The path and query of a request, or the status of a response.
    pub fn second_word(&self) -> &str {
        self.first.split(' ').nth(1).unwrap()
    }

    /// Reads the body, keeps nothing of it, and returns its length.
    pub async fn discard_body(&self, connection: &mut (impl AsyncBufRead + Unpin)) -> u64 {
        if !self.chunked {
            return copy(&mut connection.take(self.length), &mut sink()).await.unwrap();
        }
        let mut sum = 0;
        loop {
            let mut line = String::new();
            connection.read_line(&mut line).await.unwrap();
            let length = u64::from_str_radix(line.trim(), 16).unwrap();
            copy(&mut (&mut *connection).take(length + 2), &mut sink()).await.unwrap();
            sum += length;
            if length == 0 {
                return sum;
            }
        }
    }
}
