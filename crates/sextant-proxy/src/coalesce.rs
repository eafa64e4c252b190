//! Sends identical requests of the same caller to the server once and shares the answer. An algorithm that asks from many threads thus
//! does not load the server more than one that asks from a single thread.
//!
//! A request only gets an answer to a query that was sent after the request had arrived. So no answer is older than its request, whatever
//! the caller has changed before, through this proxy or another replica. Requests that arrive while a query is in progress wait for the
//! next query, which is sent when the current one has its answer.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

/// After this time, a query without an answer is sent again. Queries are also remembered for this long.
const WINDOW: Duration = Duration::from_secs(1);
/// How many queries are remembered.
const CAPACITY: usize = 256;
/// The largest response body that is shared.
pub(crate) const MAX_BODY: u64 = 16 * 1024;

/// An answer that several requests may get.
#[derive(Debug)]
pub(crate) struct SharedResponse {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// The state of a query.
#[derive(Clone, Debug)]
enum Outcome {
    Pending,
    Shared(Arc<SharedResponse>),
    /// There is no answer to share: it is too large or not a success.
    NotShared,
}

/// A recent query.
struct Entry {
    asked: Instant,
    /// The current or last query.
    last: watch::Receiver<Outcome>,
    /// The next query, for requests that arrived after the current one was sent.
    next: Option<watch::Receiver<Outcome>>,
}

#[derive(Default)]
struct Entries {
    questions: HashMap<Arc<str>, Entry>,
    /// Each query once, roughly in the order in which they were sent.
    order: VecDeque<(Instant, Arc<str>)>,
}

/// The recent queries of all callers.
#[derive(Default)]
pub(crate) struct Coalescer(Mutex<Entries>);

/// What a request does about its query.
pub(crate) enum Flight {
    /// Send the query and share the answer.
    Lead(Leader),
    /// Send the query after the current one has finished, and share the answer.
    LeadNext(NextLeader),
    /// Wait for the answer to another request's query.
    Follow(Follower),
    /// Send the query without sharing the answer.
    Bypass,
}

/// The request that sends the query for all.
#[derive(Debug)]
pub(crate) struct Leader(watch::Sender<Outcome>);

impl Leader {
    pub fn publish(self, response: Arc<SharedResponse>) {
        self.0.send_replace(Outcome::Shared(response));
    }

    pub fn publish_nothing(self) {
        self.0.send_replace(Outcome::NotShared);
    }
}

/// The request that will send the next query, for all requests that arrive until then.
#[derive(Debug)]
pub(crate) struct NextLeader {
    question: Arc<str>,
    leader: Leader,
    before: watch::Receiver<Outcome>,
    asked: Instant,
}

impl NextLeader {
    /// Waits until the query may be sent. Later requests don't join it.
    pub async fn wait_for_turn(mut self, coalescer: &Coalescer) -> Leader {
        let ended = self.before.wait_for(|state| !matches!(state, Outcome::Pending));
        let _ = timeout_at(self.asked + WINDOW, ended).await;
        coalescer.start(&self.question, self.leader.0.subscribe());
        self.leader
    }
}

/// A request that waits for the answer to another one's query.
pub(crate) struct Follower(watch::Receiver<Outcome>);

impl Follower {
    /// Returns the answer, or `None` if there is none to share.
    pub async fn answer(mut self) -> Option<Arc<SharedResponse>> {
        match self.0.wait_for(|state| !matches!(state, Outcome::Pending)).await.as_deref() {
            Ok(Outcome::Shared(response)) => Some(response.clone()),
            // Also if the leader has disconnected.
            _ => None,
        }
    }
}

impl Coalescer {
    /// Whether more queries are in progress than can be remembered. Requests then skip coalescing, so that it costs nothing.
    pub fn is_full(&self) -> bool {
        let entries = self.0.lock();
        entries.order.len() >= CAPACITY && entries.order.front().is_some_and(|(asked, _)| asked.elapsed() < WINDOW)
    }

    /// Decides what a request does about its query. The query includes the caller ([`caller_key`]).
    pub fn join(&self, question: &str) -> Flight {
        let now = Instant::now();
        let mut entries = self.0.lock();
        entries.evict_expired(now);
        if let Some((key, _)) = entries.questions.get_key_value(question) {
            let key = key.clone();
            return entries.questions.get_mut(&key).map_or(Flight::Bypass, |entry| entry.join(key, now));
        }
        if entries.order.len() >= CAPACITY {
            return Flight::Bypass;
        }
        let (sender, last) = watch::channel(Outcome::Pending);
        let key = Arc::<str>::from(question);
        entries.order.push_back((now, key.clone()));
        entries.questions.insert(key, Entry { asked: now, last, next: None });
        Flight::Lead(Leader(sender))
    }

    /// Marks the query as sent, so that later requests don't get its answer.
    fn start(&self, question: &str, state: watch::Receiver<Outcome>) {
        let mut entries = self.0.lock();
        // The entry may have expired, and another request may have sent the query.
        if let Some(entry) = entries.questions.get_mut(question)
            && entry.next.as_ref().is_some_and(|next| next.same_channel(&state))
        {
            *entry = Entry { asked: Instant::now(), last: state, next: None };
        }
    }
}

impl Entry {
    /// Decides what a request does about a query that was sent recently.
    fn join(&mut self, question: Arc<str>, now: Instant) -> Flight {
        // If the next leader has disconnected, its channel is closed.
        if let Some(next) = self.next.as_ref().filter(|next| next.has_changed().is_ok()) {
            return Flight::Follow(Follower(next.clone()));
        }
        if matches!(*self.last.borrow(), Outcome::NotShared) {
            return Flight::Bypass;
        }
        let (sender, state) = watch::channel(Outcome::Pending);
        let is_under_way = matches!(*self.last.borrow(), Outcome::Pending) && self.last.has_changed().is_ok();
        if !is_under_way {
            *self = Self { asked: now, last: state, next: None };
            return Flight::Lead(Leader(sender));
        }
        self.next = Some(state);
        Flight::LeadNext(NextLeader { question, leader: Leader(sender), before: self.last.clone(), asked: self.asked })
    }
}

impl Entries {
    fn evict_expired(&mut self, now: Instant) {
        while let Some((since, _)) = self.order.front()
            && now.duration_since(*since) >= WINDOW
            && let Some((_, key)) = self.order.pop_front()
        {
            match self.questions.get(&key).map(|entry| entry.asked) {
                // Sent again in the meantime.
                Some(asked) if now.duration_since(asked) < WINDOW => self.order.push_back((asked, key)),
                _ => {
                    self.questions.remove(&key);
                }
            }
        }
    }
}

/// Returns the part of a query that identifies the caller.
pub(crate) fn caller_key(headers: &HeaderMap) -> String {
    let token = headers.get(http::header::AUTHORIZATION).map_or(b"".as_slice(), |value| value.as_bytes());
    format!("{}\n", String::from_utf8_lossy(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(text: &'static str) -> Arc<SharedResponse> {
        Arc::new(SharedResponse {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            body: Bytes::from_static(text.as_bytes()),
        })
    }

    fn leads(turn: Flight) -> Leader {
        match turn {
            Flight::Lead(leader) => leader,
            _ => panic!("should ask"),
        }
    }

    fn leads_next(turn: Flight) -> NextLeader {
        match turn {
            Flight::LeadNext(later) => later,
            _ => panic!("should ask later"),
        }
    }

    fn follows(turn: Flight) -> Follower {
        match turn {
            Flight::Follow(follower) => follower,
            _ => panic!("should wait"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_while_it_is_under_way_gets_the_next_answer() {
        let (coalescer, start) = (Coalescer::default(), Instant::now());
        let first = leads(coalescer.join("a\n/task/1"));
        leads(coalescer.join("b\n/task/1"));
        leads(coalescer.join("a\n/task/2"));
        let second = leads_next(coalescer.join("a\n/task/1"));
        let with_second = [follows(coalescer.join("a\n/task/1")), follows(coalescer.join("a\n/task/1"))];
        tokio::time::advance(Duration::from_millis(300)).await;
        first.publish(response("old"));
        let second = second.wait_for_turn(&coalescer).await;
        assert_eq!(start.elapsed(), Duration::from_millis(300));
        // The second query has been sent, so this request is too late for it.
        let third = leads_next(coalescer.join("a\n/task/1"));
        second.publish(response("new"));
        for follower in with_second {
            assert_eq!(follower.answer().await.unwrap().body, "new");
        }
        third.wait_for_turn(&coalescer).await.publish_nothing();
    }

    #[tokio::test(start_paused = true)]
    async fn without_others_it_is_asked_each_time_and_at_once() {
        let coalescer = Coalescer::default();
        for _ in 0..30 {
            leads(coalescer.join("a\n1")).publish(response("x"));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_without_an_answer_is_asked_again_all_the_same() {
        let (coalescer, start) = (Coalescer::default(), Instant::now());
        let _first = leads(coalescer.join("a\n1"));
        let second = leads_next(coalescer.join("a\n1")).wait_for_turn(&coalescer).await;
        assert_eq!(start.elapsed(), WINDOW);
        second.publish(response("x"));
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_nothing_asks_alone() {
        let coalescer = Coalescer::default();
        drop(leads(coalescer.join("a\n1")));
        let under_way = leads(coalescer.join("a\n1"));
        let later = leads_next(coalescer.join("a\n1"));
        let other = follows(coalescer.join("a\n1"));
        drop(later);
        assert!(other.answer().await.is_none());
        let later = leads_next(coalescer.join("a\n1"));
        let other = follows(coalescer.join("a\n1"));
        drop(under_way);
        later.wait_for_turn(&coalescer).await.publish_nothing();
        assert!(other.answer().await.is_none());
        assert!(matches!(coalescer.join("a\n1"), Flight::Bypass));
    }

    #[tokio::test(start_paused = true)]
    async fn it_does_not_grow() {
        let coalescer = Coalescer::default();
        for round in 0..3 {
            for number in 0..1000 {
                let _ = coalescer.join(&format!("a\n{round}/{number}"));
            }
            assert_eq!(coalescer.0.lock().questions.len(), CAPACITY);
            assert!(coalescer.is_full());
            tokio::time::advance(WINDOW).await;
        }
        assert!(!coalescer.is_full());
        let _ = coalescer.join("a\nlast");
        assert_eq!(coalescer.0.lock().questions.len(), 1);
        assert_eq!(coalescer.0.lock().order.len(), 1);
    }
}
