//! A connection that reads only small pieces, because everything that an algorithm sends in advance is held in memory.
//!
//! After the end, it reads and discards what the algorithm still sends for a while. Closing a socket with unread data resets the
//! connection, and the response that says why the rest was refused could be lost.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::pace::Pace;

/// The most bytes of one read.
const MAX_READ: usize = 16 * 1024;

/// How many bytes are discarded at the end, and for how long.
const MAX_DROPPED: usize = 4 * 1024 * 1024;
const LINGER: Duration = Duration::from_secs(2);

/// Wraps a connection.
pub(crate) struct SmallReads<T> {
    stream: T,
    /// Of what is written.
    pace: Pace,
    end: End,
}

enum End {
    Open,
    /// The write side is closed; received data is discarded.
    Lingering {
        dropped: usize,
        until: Pin<Box<Sleep>>,
    },
    Closed,
}

impl<T> SmallReads<T> {
    /// One whose reader may be waited for so long.
    pub fn new(stream: T, most: Duration) -> Self {
        Self { stream, pace: Pace::new(most), end: End::Open }
    }

    /// What came of an attempt to write.
    fn at_pace(&mut self, written: Poll<io::Result<usize>>, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match &written {
            Poll::Ready(Ok(bytes)) => self.pace.moved(*bytes),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => {
                ready!(self.pace.poll_too_slow(context));
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the algorithm reads too slowly")));
            }
        }
        written
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for SmallReads<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buffer.remaining() <= MAX_READ {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let mut sip = ReadBuf::new(buffer.initialize_unfilled_to(MAX_READ));
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut sip))?;
        let read = sip.filled().len();
        buffer.advance(read);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for SmallReads<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.at_pace(written, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, pieces);
        self.at_pace(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            match &mut this.end {
                End::Open => {
                    ready!(Pin::new(&mut this.stream).poll_shutdown(context))?;
                    this.end = End::Lingering { dropped: 0, until: Box::pin(tokio::time::sleep(LINGER)) };
                }
                End::Lingering { dropped, until } => {
                    let mut bytes = [MaybeUninit::uninit(); MAX_READ];
                    let mut sip = ReadBuf::uninit(&mut bytes);
                    let read = match Pin::new(&mut this.stream).poll_read(context, &mut sip) {
                        Poll::Ready(Ok(())) => sip.filled().len(),
                        Poll::Ready(Err(_)) => 0,
                        Poll::Pending => {
                            ready!(until.as_mut().poll(context));
                            0
                        }
                    };
                    *dropped += read;
                    if read == 0 || *dropped > MAX_DROPPED || until.is_elapsed() {
                        this.end = End::Closed;
                    }
                }
                End::Closed => return Poll::Ready(Ok(())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// This is how a refused upload ends: the response is written, and the body is mostly unread.
    #[tokio::test]
    async fn an_answer_is_not_lost_because_something_is_unread() {
        for _ in 0..50 {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let mut algorithm = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (stream, _) = listener.accept().await.unwrap();
            let mut served = SmallReads::new(stream, LINGER);
            let sending = tokio::spawn(async move {
                let _ = algorithm.write_all(&vec![b'x'; 1 << 20]).await;
                // The algorithm reads the response only after it has sent everything.
                let mut answer = Vec::new();
                algorithm.read_to_end(&mut answer).await.map(|_| answer)
            });
            served.read_exact(&mut [0; 100]).await.unwrap();
            served.write_all(b"no").await.unwrap();
            served.shutdown().await.unwrap();
            drop(served);
            assert_eq!(sending.await.unwrap().unwrap(), b"no");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_waited_for_or_read_without_end() {
        let (_silent, stream) = duplex(16);
        let since = tokio::time::Instant::now();
        SmallReads::new(stream, LINGER).shutdown().await.unwrap();
        assert_eq!(since.elapsed().as_secs(), LINGER.as_secs());

        let (mut talkative, stream) = duplex(64 * 1024);
        let talking = tokio::spawn(async move {
            let mut sent = 0;
            while talkative.write_all(&[0; 1024]).await.is_ok() {
                sent += 1024;
            }
            sent
        });
        SmallReads::new(stream, LINGER).shutdown().await.unwrap();
        assert!(talking.await.unwrap() < MAX_DROPPED + 256 * 1024);
    }
}
