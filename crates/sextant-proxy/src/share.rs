//! The same question of the same caller is asked once for all who wait for it, so that an algorithm that asks from many
//! threads does not load the server more than one that asks from one.
//!
//! An answer is given only to those whose request had arrived before it was asked for: so nobody gets one that is older
//! than its own request, whatever the caller has changed before, through this proxy or another one. Who comes while the
//! question is under way waits for the next one, which is asked when that has its answer.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

/// How long after a question it is asked again without an answer. For so long it is remembered.
const LONGEST: Duration = Duration::from_secs(1);
/// How many questions are remembered at once.
const QUESTIONS: usize = 256;
/// The largest answer that is given to several.
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

/// A question that was asked lately.
struct Question {
    asked: Instant,
    /// What has become of it.
    last: watch::Receiver<State>,
    /// The same, of the next time: for those who came since it was asked.
    next: Option<watch::Receiver<State>>,
}

#[derive(Default)]
struct Table {
    questions: HashMap<Arc<str>, Question>,
    /// Each of them once, roughly in the order in which they were asked.
    order: VecDeque<(Instant, Arc<str>)>,
}

/// The questions of the last moment.
#[derive(Default)]
pub(crate) struct Shares(Mutex<Table>);

/// What to do with a question.
pub(crate) enum Turn {
    /// Ask the server, and tell the others.
    Ask(Asking),
    /// The same, when it is time.
    AskLater(Later),
    /// Somebody else will ask.
    Wait(Waiting),
    /// Ask the server, and tell nobody.
    Alone,
}

/// The one who asks for all.
#[derive(Debug)]
pub(crate) struct Asking(watch::Sender<State>);

impl Asking {
    pub fn answered(self, whole: Arc<Whole>) {
        self.0.send_replace(State::Answered(whole));
    }

    pub fn alone(self) {
        self.0.send_replace(State::Alone);
    }
}

/// The one who will ask for all who come until then.
#[derive(Debug)]
pub(crate) struct Later {
    question: Arc<str>,
    asking: Asking,
    before: watch::Receiver<State>,
    asked: Instant,
}

impl Later {
    /// Waits until the question may be asked. Nobody joins after that.
    pub async fn ready(mut self, shares: &Shares) -> Asking {
        let ended = self.before.wait_for(|state| !matches!(state, State::Asked));
        let _ = timeout_at(self.asked + LONGEST, ended).await;
        shares.asked(&self.question, self.asking.0.subscribe());
        self.asking
    }
}

/// One who waits for somebody else's answer.
pub(crate) struct Waiting(watch::Receiver<State>);

impl Waiting {
    /// The answer; `None` when there is none to be shared.
    pub async fn answer(mut self) -> Option<Arc<Whole>> {
        match self.0.wait_for(|state| !matches!(state, State::Asked)).await.as_deref() {
            Ok(State::Answered(whole)) => Some(whole.clone()),
            // Also when the one who was to ask has gone.
            _ => None,
        }
    }
}

impl Shares {
    /// Whether more is asked than can be remembered: then nobody looks whether others ask the same, so that it costs nothing.
    pub fn are_many(&self) -> bool {
        let table = self.0.lock();
        table.order.len() >= QUESTIONS && table.order.front().is_some_and(|(asked, _)| asked.elapsed() < LONGEST)
    }

    /// Whose turn it is to ask. The question has in it who asks ([`caller`]).
    pub fn turn(&self, question: &str) -> Turn {
        let now = Instant::now();
        let mut table = self.0.lock();
        table.forget_the_old(now);
        if let Some((key, _)) = table.questions.get_key_value(question) {
            let key = key.clone();
            return table.questions.get_mut(&key).map_or(Turn::Alone, |known| known.turn(key, now));
        }
        if table.order.len() >= QUESTIONS {
            return Turn::Alone;
        }
        let (sender, last) = watch::channel(State::Asked);
        let key = Arc::<str>::from(question);
        table.order.push_back((now, key.clone()));
        table.questions.insert(key, Question { asked: now, last, next: None });
        Turn::Ask(Asking(sender))
    }

    /// The question is asked now by the one who was to do it, whose answer those who come from now on don't get.
    fn asked(&self, question: &str, state: watch::Receiver<State>) {
        let mut table = self.0.lock();
        // It may have been forgotten, and asked by another.
        if let Some(known) = table.questions.get_mut(question)
            && known.next.as_ref().is_some_and(|next| next.same_channel(&state))
        {
            *known = Question { asked: Instant::now(), last: state, next: None };
        }
    }
}

impl Question {
    /// Whose turn it is, of a question that was asked lately.
    fn turn(&mut self, question: Arc<str>, now: Instant) -> Turn {
        // Unless the one who was to ask has gone.
        if let Some(next) = self.next.as_ref().filter(|next| next.has_changed().is_ok()) {
            return Turn::Wait(Waiting(next.clone()));
        }
        if matches!(*self.last.borrow(), State::Alone) {
            return Turn::Alone;
        }
        let (sender, state) = watch::channel(State::Asked);
        let is_under_way = matches!(*self.last.borrow(), State::Asked) && self.last.has_changed().is_ok();
        if !is_under_way {
            *self = Self { asked: now, last: state, next: None };
            return Turn::Ask(Asking(sender));
        }
        self.next = Some(state);
        Turn::AskLater(Later { question, asking: Asking(sender), before: self.last.clone(), asked: self.asked })
    }
}

impl Table {
    fn forget_the_old(&mut self, now: Instant) {
        while let Some((since, _)) = self.order.front()
            && now.duration_since(*since) >= LONGEST
            && let Some((_, key)) = self.order.pop_front()
        {
            match self.questions.get(&key).map(|known| known.asked) {
                // Asked again meanwhile.
                Some(asked) if now.duration_since(asked) < LONGEST => self.order.push_back((asked, key)),
                _ => {
                    self.questions.remove(&key);
                }
            }
        }
    }
}

/// The part of a question that says who asks.
pub(crate) fn caller(headers: &HeaderMap) -> String {
    let token = headers.get(http::header::AUTHORIZATION).map_or(b"".as_slice(), |value| value.as_bytes());
    format!("{}\n", String::from_utf8_lossy(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &'static str) -> Arc<Whole> {
        Arc::new(Whole { status: StatusCode::OK, headers: HeaderMap::new(), body: Bytes::from_static(text.as_bytes()) })
    }

    fn asks(turn: Turn) -> Asking {
        match turn {
            Turn::Ask(asking) => asking,
            _ => panic!("should ask"),
        }
    }

    fn asks_later(turn: Turn) -> Later {
        match turn {
            Turn::AskLater(later) => later,
            _ => panic!("should ask later"),
        }
    }

    fn waits(turn: Turn) -> Waiting {
        match turn {
            Turn::Wait(waiting) => waiting,
            _ => panic!("should wait"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_while_it_is_under_way_gets_the_next_answer() {
        let (shares, start) = (Shares::default(), Instant::now());
        let first = asks(shares.turn("a\n/task/1"));
        asks(shares.turn("b\n/task/1"));
        asks(shares.turn("a\n/task/2"));
        let second = asks_later(shares.turn("a\n/task/1"));
        let with_second = [waits(shares.turn("a\n/task/1")), waits(shares.turn("a\n/task/1"))];
        tokio::time::advance(Duration::from_millis(300)).await;
        first.answered(whole("old"));
        let second = second.ready(&shares).await;
        assert_eq!(start.elapsed(), Duration::from_millis(300));
        // It is asked now, so this one is too late for it.
        let third = asks_later(shares.turn("a\n/task/1"));
        second.answered(whole("new"));
        for waiting in with_second {
            assert_eq!(waiting.answer().await.unwrap().body, "new");
        }
        third.ready(&shares).await.alone();
    }

    #[tokio::test(start_paused = true)]
    async fn without_others_it_is_asked_each_time_and_at_once() {
        let shares = Shares::default();
        for _ in 0..30 {
            asks(shares.turn("a\n1")).answered(whole("x"));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_without_an_answer_is_asked_again_all_the_same() {
        let (shares, start) = (Shares::default(), Instant::now());
        let _first = asks(shares.turn("a\n1"));
        let second = asks_later(shares.turn("a\n1")).ready(&shares).await;
        assert_eq!(start.elapsed(), LONGEST);
        second.answered(whole("x"));
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_nothing_asks_alone() {
        let shares = Shares::default();
        drop(asks(shares.turn("a\n1")));
        let under_way = asks(shares.turn("a\n1"));
        let later = asks_later(shares.turn("a\n1"));
        let other = waits(shares.turn("a\n1"));
        drop(later);
        assert!(other.answer().await.is_none());
        let later = asks_later(shares.turn("a\n1"));
        let other = waits(shares.turn("a\n1"));
        drop(under_way);
        later.ready(&shares).await.alone();
        assert!(other.answer().await.is_none());
        assert!(matches!(shares.turn("a\n1"), Turn::Alone));
    }

    #[tokio::test(start_paused = true)]
    async fn it_does_not_grow() {
        let shares = Shares::default();
        for round in 0..3 {
            for number in 0..1000 {
                let _ = shares.turn(&format!("a\n{round}/{number}"));
            }
            assert_eq!(shares.0.lock().questions.len(), QUESTIONS);
            assert!(shares.are_many());
            tokio::time::advance(LONGEST).await;
        }
        assert!(!shares.are_many());
        let _ = shares.turn("a\nlast");
        assert_eq!(shares.0.lock().questions.len(), 1);
        assert_eq!(shares.0.lock().order.len(), 1);
    }
}
