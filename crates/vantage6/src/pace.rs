//! Limits how long a response may take to arrive once it has begun. The sender decides its speed, and until the end the response
//! occupies memory or a connection. Only time spent waiting for the server counts, not time in which the reader wants no data.

use std::time::Duration;

/// The lowest acceptable rate: this many bytes earn another second.
const BYTES_A_SECOND: u64 = 1024;
/// The time limit for a whole login or refusal.
const SHORT: Duration = Duration::from_secs(60);

/// The time left for the next piece of a response.
#[derive(Debug)]
pub(crate) struct Pace(pace::Pace);

impl Pace {
    /// For a response of any size. Its pieces may be late by `silence` in total; received bytes earn time back.
    pub fn steady(silence: Duration) -> Self {
        Self(pace::Pace::new(silence, BYTES_A_SECOND))
    }

    /// For a small response, which must be complete in this time.
    pub fn short(silence: Duration) -> Self {
        Self(pace::Pace::fixed(silence.min(SHORT)))
    }

    /// How long the next piece may take.
    pub fn left(&self) -> Duration {
        self.0.left()
    }

    /// Describes why a response was too slow, and the time limit.
    pub fn too_slow(&self) -> (&'static str, Duration) {
        let what = match self.0.earns() {
            true if self.0.left() == self.0.most() => "the answer began, but nothing more came",
            true => "the answer began, but less than 1 KiB a second came",
            false => "the answer began, but did not end",
        };
        (what, self.0.most())
    }

    /// Records a piece of this many bytes that took this long.
    pub fn arrived(&mut self, bytes: usize, took: Duration) {
        self.0.moved(bytes, took);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that fails, panics")]
mod tests {
    use std::{io, sync::Arc};

    use bytes::Bytes;
    use futures_util::{StreamExt as _, stream};
    use serde::de::IgnoredAny;
    use tokio::{
        sync::Semaphore,
        time::{Instant, sleep},
    };

    use crate::{
        Error,
        client::runs::input_text,
        http::{Answer, Call},
    };

    /// A response with `pieces` pieces of white space, one after each `pause` in seconds.
    fn slow(call: Call, status: u16, pieces: usize, bytes: usize, pause: u64) -> Answer {
        let pieces = stream::iter(0..pieces).then(move |_| async move {
            sleep(std::time::Duration::from_secs(pause)).await;
            Ok::<_, io::Error>(Bytes::from(vec![b' '; bytes]))
        });
        let pieces = pieces.chain(stream::iter([Ok("null".into())]));
        let mut response = http::Response::new(reqwest::Body::wrap_stream(pieces));
        *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
        Answer::made(call, response.into(), std::time::Duration::from_secs(120))
    }

    async fn read(answer: Answer) -> (Result<IgnoredAny, Error>, u64) {
        let began = Instant::now();
        let read = answer.json::<IgnoredAny>(2 * 1024 * 1024).await;
        (read, began.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_drips_has_an_end_and_a_slow_one_is_read() {
        // A slow response, and one that is late once.
        assert!(read(slow(Call::get("run"), 200, 300, 4096, 4)).await.0.is_ok());
        assert!(read(slow(Call::get("run"), 200, 1, 1, 119)).await.0.is_ok());
        for (bytes, pause) in [(1, 1), (1, 100), (1000, 10)] {
            let (error, took) = read(slow(Call::get("run"), 200, 10_000, bytes, pause)).await;
            let error = error.err().unwrap();
            assert!(matches!(error, Error::Timeout { .. }) && error.is_transient() && took <= 140, "{error} {took}");
        }
        // An input is not held in memory, but must keep up the minimum rate too.
        let began = Instant::now();
        let ends =
            input_text(slow(Call::get("run/7"), 200, 10_000, 1, 10), 1024).any(|piece| async move { piece.is_err() });
        assert!(ends.await && began.elapsed().as_secs() <= 140);
    }

    #[tokio::test(start_paused = true)]
    async fn logins_and_refusals_have_a_minute() {
        let login = || Call::post("token/node").secret();
        assert!(read(slow(login(), 200, 5, 1, 10)).await.0.is_ok());
        for bytes in [1, 2048] {
            let (error, took) = read(slow(login(), 200, 30, bytes, 10)).await;
            assert!(matches!(error, Err(Error::Timeout { .. })) && took == 60, "{took}");
            let began = Instant::now();
            let refusal = slow(Call::get("run"), 503, 30, bytes, 10).refusal().await;
            assert!(refusal.status() == Some(503) && began.elapsed().as_secs() == 60, "{refusal}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_answer_does_not_wait_for_another_without_end() {
        let mut answer = slow(Call::get("run"), 200, 100, 16 * 1024, 0);
        let large = Arc::new(Semaphore::new(1));
        let _taken = large.clone().acquire_owned().await.unwrap();
        answer.share(large);
        let (error, took) = read(answer).await;
        assert!(matches!(error, Err(Error::Timeout { .. })) && took == 120, "{took}");
    }

    #[tokio::test(start_paused = true)]
    async fn only_waiting_for_the_server_counts() {
        let mut answer = slow(Call::get("run"), 200, 30, 1, 1);
        let mut pieces = 0;
        while answer.chunk().await.unwrap().is_some() {
            pieces += 1;
            sleep(std::time::Duration::from_secs(100)).await;
        }
        assert_eq!(pieces, 31);
    }
}
