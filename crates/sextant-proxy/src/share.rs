//! The same question of the same caller is asked once: what comes while it is under way gets the same answer, and so
//! does what comes within the next moment. So algorithms that poll, in a loop without a pause or from many threads, don't
//! load the server.
//!
//! No answer is given that was asked for more than a second before; and after a caller has changed something, it gets
//! none from before.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use tokio::sync::watch;
use tokio::time::Instant;

/// How old the asking may be.
const FRESH: Duration = Duration::from_secs(1);
/// How many questions are remembered at once.
const QUESTIONS: usize = 256;
/// The largest answer that is kept for others.
pub(crate) const LARGEST: u64 = 16 * 1024;

/// An answer that several may get.
#[derive(Debug)]
pub(crate) struct Whole {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// What has become of a question.
#[derive(Clone, Debug)]
enum State {
    Asked,
    Answered(Arc<Whole>),
    /// The answer is not for several: too large, or none.
    Alone,
}

struct Question {
    number: u64,
    since: Instant,
    state: watch::Receiver<State>,
}

#[derive(Default)]
struct Table {
    questions: HashMap<Arc<str>, Question>,
    /// In the order in which they were asked.
    order: VecDeque<(Instant, u64, Arc<str>)>,
    asked: u64,
}

/// The questions of the last moment.
#[derive(Default)]
pub(crate) struct Shares(Mutex<Table>);

/// What to do with a question.
pub(crate) enum Turn {
    /// Ask the server, and tell the others.
    Ask(Asking),
    /// Somebody else has asked.
    Wait(Waiting),
    /// Ask the server, and tell nobody.
    Alone,
}

/// The one who asks for all.
pub(crate) struct Asking(watch::Sender<State>);

impl Asking {
    pub fn answered(self, whole: Arc<Whole>) {
        self.0.send_replace(State::Answered(whole));
    }

    pub fn alone(self) {
        self.0.send_replace(State::Alone);
    }
}

/// One who waits for somebody else's answer.
pub(crate) struct Waiting(watch::Receiver<State>);

impl Waiting {
    /// The answer; `None` when there is none to be shared.
    pub async fn answer(mut self) -> Option<Arc<Whole>> {
        match self.0.wait_for(|state| !matches!(state, State::Asked)).await.as_deref() {
            Ok(State::Answered(whole)) => Some(whole.clone()),
            // Also when the one who asked has gone.
            _ => None,
        }
    }
}

impl Shares {
    /// Whether more is asked than can be remembered: then nobody looks whether it was asked before, so that it costs nothing.
    pub fn are_many(&self) -> bool {
        let table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        table.order.len() >= QUESTIONS && table.order.front().is_some_and(|(since, ..)| since.elapsed() < FRESH)
    }

    /// Whose turn it is to ask. The question begins with [`prefix`]: who asks.
    pub fn turn(&self, question: &str) -> Turn {
        let now = Instant::now();
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = table.questions.get(question)
            && now.duration_since(known.since) < FRESH
        {
            return match &*known.state.borrow() {
                State::Alone => Turn::Alone,
                _ => Turn::Wait(Waiting(known.state.clone())),
            };
        }
        table.forget_the_old(now);
        if table.order.len() >= QUESTIONS {
            return Turn::Alone;
        }
        let (sender, state) = watch::channel(State::Asked);
        table.asked += 1;
        let (number, key) = (table.asked, Arc::<str>::from(question));
        table.order.push_back((now, number, key.clone()));
        table.questions.insert(key, Question { number, since: now, state });
        Turn::Ask(Asking(sender))
    }

    /// The caller changes something: nothing from before is given to it any more.
    pub fn forget(&self, prefix: &str) {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        table.questions.retain(|question, _| !question.starts_with(prefix));
    }
}

impl Table {
    fn forget_the_old(&mut self, now: Instant) {
        while let Some((since, ..)) = self.order.front()
            && now.duration_since(*since) >= FRESH
            && let Some((_, number, key)) = self.order.pop_front()
        {
            if self.questions.get(&key).is_some_and(|question| question.number == number) {
                self.questions.remove(&key);
            }
        }
    }
}

/// What all questions of a caller begin with.
pub(crate) fn prefix(headers: &HeaderMap) -> String {
    let token = headers.get(http::header::AUTHORIZATION).map_or(b"".as_slice(), |value| value.as_bytes());
    format!("{}\n", String::from_utf8_lossy(token))
}

#[cfg(test)]
mod tests {
    use crate::share::*;

    fn whole(text: &'static str) -> Arc<Whole> {
        Arc::new(Whole { status: StatusCode::OK, headers: HeaderMap::new(), body: Bytes::from_static(text.as_bytes()) })
    }

    fn asks(turn: Turn) -> Asking {
        match turn {
            Turn::Ask(asking) => asking,
            _ => panic!("should ask"),
        }
    }

    fn waits(turn: Turn) -> Waiting {
        match turn {
            Turn::Wait(waiting) => waiting,
            _ => panic!("should wait"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_asks_for_all_within_a_second() {
        let shares = Shares::default();
        let asking = asks(shares.turn("a\n/task/1"));
        let other = waits(shares.turn("a\n/task/1"));
        asks(shares.turn("b\n/task/1"));
        asking.answered(whole("x"));
        assert_eq!(other.answer().await.unwrap().body, "x");
        tokio::time::advance(Duration::from_millis(990)).await;
        assert_eq!(waits(shares.turn("a\n/task/1")).answer().await.unwrap().body, "x");
        tokio::time::advance(Duration::from_millis(10)).await;
        asks(shares.turn("a\n/task/1"));
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_change_nothing_is_from_before() {
        let shares = Shares::default();
        asks(shares.turn("a\n/task/1")).answered(whole("x"));
        asks(shares.turn("b\n/task/1")).answered(whole("y"));
        shares.forget("a\n");
        asks(shares.turn("a\n/task/1"));
        assert_eq!(waits(shares.turn("b\n/task/1")).answer().await.unwrap().body, "y");
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_nothing_asks_alone() {
        let shares = Shares::default();
        let asking = asks(shares.turn("a\n1"));
        let other = waits(shares.turn("a\n1"));
        drop(asking);
        assert!(other.answer().await.is_none());
        let asking = asks(shares.turn("a\n2"));
        let other = waits(shares.turn("a\n2"));
        asking.alone();
        assert!(other.answer().await.is_none());
        assert!(matches!(shares.turn("a\n2"), Turn::Alone));
    }

    #[tokio::test(start_paused = true)]
    async fn it_does_not_grow() {
        let shares = Shares::default();
        for round in 0..3 {
            for number in 0..1000 {
                let _ = shares.turn(&format!("a\n{round}/{number}"));
            }
            assert_eq!(shares.0.lock().unwrap().questions.len(), QUESTIONS);
            assert!(shares.are_many());
            tokio::time::advance(FRESH).await;
        }
        assert!(!shares.are_many());
        let _ = shares.turn("a\nlast");
        assert_eq!(shares.0.lock().unwrap().questions.len(), 1);
        assert_eq!(shares.0.lock().unwrap().order.len(), 1);
    }
}
