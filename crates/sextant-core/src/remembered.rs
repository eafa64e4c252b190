//! Answers that many runs need at the same time. Each question is asked once, and its answer is kept briefly, because the content of a tag
//! and a store's approvals may change. It is a map and not a cache library, so that tests can use paused time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::image_policy::Answer;

/// How long a known answer stays fresh.
const KNOWN: Duration = Duration::from_secs(30);
/// How long other answers stay fresh. Callers pause before they ask again anyway.
const OTHER: Duration = Duration::from_secs(5);
/// How many answers are kept.
const MOST: usize = 256;

type Slot<T> = Arc<tokio::sync::Mutex<Option<(Instant, Answer<T>)>>>;

/// The answers by question.
pub struct Remembered<T> {
    answers: Mutex<HashMap<String, Slot<T>>>,
}

impl<T> Default for Remembered<T> {
    fn default() -> Self {
        Self { answers: Mutex::default() }
    }
}

impl<T: Clone> Remembered<T> {
    /// The answer to a question, from memory if it is fresh. Concurrent callers with the same question wait for the same answer.
    pub async fn get(&self, question: &str, ask: impl Future<Output = Answer<T>>) -> Answer<T> {
        let slot = self.slot(question);
        let mut known = slot.lock().await;
        if let Some((since, answer)) = &*known
            && is_fresh(*since, answer)
        {
            return answer.clone();
        }
        let answer = ask.await;
        *known = Some((Instant::now(), answer.clone()));
        answer
    }

    fn slot(&self, question: &str) -> Slot<T> {
        let mut answers = self.answers.lock();
        if answers.len() >= MOST {
            // A locked slot has a request in progress, so it is kept.
            answers.retain(|_, slot| {
                slot.try_lock()
                    .map_or(true, |known| known.as_ref().is_some_and(|(since, answer)| is_fresh(*since, answer)))
            });
        }
        if answers.len() >= MOST {
            answers.clear();
        }
        answers.entry(question.to_owned()).or_default().clone()
    }
}

fn is_fresh<T>(since: Instant, answer: &Answer<T>) -> bool {
    since.elapsed() < if matches!(answer, Answer::Known(_)) { KNOWN } else { OTHER }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::time::{advance, sleep};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_many_ask_for_is_asked_for_once_in_a_while() {
        let asked = AtomicUsize::new(0);
        let remembered = Remembered::default();
        let ask = |answer: Answer<u8>| {
            remembered.get("x", async {
                asked.fetch_add(1, Ordering::Relaxed);
                sleep(Duration::from_secs(1)).await;
                answer
            })
        };
        let all = futures::future::join_all((0..10).map(|_| ask(Answer::Known(1)))).await;
        assert_eq!((all.len(), asked.load(Ordering::Relaxed)), (10, 1));
        advance(KNOWN).await;
        assert_eq!(ask(Answer::Away("no".into())).await, Answer::Away("no".into()));
        assert_eq!(ask(Answer::Known(2)).await, Answer::Away("no".into()));
        advance(OTHER).await;
        assert_eq!(ask(Answer::Known(2)).await, Answer::Known(2));
        assert_eq!(asked.load(Ordering::Relaxed), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_is_remembered_than_there_is_room_for() {
        let remembered = Remembered::default();
        for number in 0..3 * MOST {
            remembered.get(&number.to_string(), async { Answer::Known(number) }).await;
            assert!(remembered.answers.lock().len() <= MOST);
        }
    }
}
