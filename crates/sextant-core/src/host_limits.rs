//! Limits concurrent requests to other hosts, such as registries and algorithm stores, per host and in total. A host that does not
//! respond occupies only its own permits and gets no requests for a moment, so it does not delay decisions that depend on other hosts.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use crate::image_policy::Answer;

/// The number of concurrent requests to one host.
const PER_HOST: usize = 4;
/// The number of concurrent requests in total.
const IN_TOTAL: usize = 64;
/// How long a request waits for its permits. Long, because a request that gives up loses its place in the queue: one user's tasks may
/// cause thousands of requests, and a run is refused after ten minutes without an answer. Those ten minutes do not start before the
/// request is made.
const WAIT: Duration = Duration::from_secs(3600);
/// How long a host that did not respond gets no requests.
const AWAY: Duration = Duration::from_secs(10);
/// The number of remembered hosts.
const HOSTS: usize = 256;

/// The outcome of a request to a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked<T> {
    /// The host has responded, whatever it said.
    Answered(Answer<T>),
    /// The host is unreachable or silent. The text is for the operator.
    Unreachable(String),
}

/// The limits of all hosts.
pub struct HostLimits {
    total: Arc<Semaphore>,
    hosts: Mutex<HashMap<String, Arc<Host>>>,
}

struct Host {
    places: Arc<Semaphore>,
    away: Mutex<Option<(Instant, String)>>,
}

impl Default for Host {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(PER_HOST)), away: Mutex::default() }
    }
}

impl Host {
    /// Why the host gets no requests now.
    fn away(&self) -> Option<String> {
        let away = self.away.lock();
        away.as_ref().filter(|(since, _)| since.elapsed() < AWAY).map(|(_, why)| why.clone())
    }
}

impl Default for HostLimits {
    fn default() -> Self {
        Self { total: Arc::new(Semaphore::new(IN_TOTAL)), hosts: Mutex::default() }
    }
}

impl HostLimits {
    /// Sends a request to a host, unless the host has just failed to respond. Waits for permits for a limited time.
    pub async fn ask<T>(&self, host: &str, question: impl Future<Output = Asked<T>>) -> Answer<T> {
        let known = self.host(host);
        if let Some(why) = known.away() {
            return Answer::Away(why);
        }
        let Some(_places) = self.places(&known).await else {
            return Answer::Away(format!(
                "too many questions are under way to ask {host} now, for the last {} s. It is asked again later",
                WAIT.as_secs()
            ));
        };
        // Another request may have found out during the wait.
        if let Some(why) = known.away() {
            return Answer::Away(why);
        }
        match question.await {
            Asked::Answered(answer) => answer,
            Asked::Unreachable(why) => {
                *known.away.lock() = Some((Instant::now(), why.clone()));
                Answer::Away(why)
            }
        }
    }

    /// Acquires the host's own permit first, so that requests to a slow host hold none of the total while they wait.
    async fn places(&self, host: &Host) -> Option<(OwnedSemaphorePermit, OwnedSemaphorePermit)> {
        let both = async {
            let own = host.places.clone().acquire_owned().await.ok()?;
            Some((own, self.total.clone().acquire_owned().await.ok()?))
        };
        timeout(WAIT, both).await.ok().flatten()
    }

    fn host(&self, name: &str) -> Arc<Host> {
        let mut hosts = self.hosts.lock();
        if hosts.len() >= HOSTS {
            // Hosts with requests in flight are kept alive by those requests.
            hosts.retain(|_, host| Arc::strong_count(host) > 1 || host.away().is_some());
        }
        if hosts.len() >= HOSTS {
            hosts.retain(|_, host| Arc::strong_count(host) > 1);
        }
        hosts.entry(name.to_owned()).or_default().clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::future::join_all;
    use tokio::time::{advance, sleep};

    use super::*;

    const SILENCE: Duration = Duration::from_secs(20);

    async fn silent() -> Asked<u8> {
        sleep(SILENCE).await;
        Asked::Unreachable("it is silent".into())
    }

    fn good() -> std::future::Ready<Asked<u8>> {
        std::future::ready(Asked::Answered(Answer::Known(1)))
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_host_delays_no_other() {
        let limits = HostLimits::default();
        let began = Instant::now();
        let many = join_all((0..100).map(|_| limits.ask("silent", silent())));
        let other = async {
            sleep(Duration::from_secs(1)).await;
            let answer = limits.ask("good", good()).await;
            (answer, began.elapsed())
        };
        let (many, (answer, after)) = tokio::join!(many, other);
        assert_eq!((answer, after), (Answer::Known(1), Duration::from_secs(1)));
        assert!(many.iter().all(|answer| *answer == Answer::Away("it is silent".into())));
        assert_eq!(began.elapsed(), SILENCE, "those that waited did not ask it again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_that_did_not_answer_is_not_asked_for_a_moment() {
        let limits = HostLimits::default();
        let asked = AtomicUsize::new(0);
        let ask = |answer: Asked<u8>| {
            let asked = &asked;
            limits.ask("host", async move {
                asked.fetch_add(1, Ordering::Relaxed);
                answer
            })
        };
        let away = || Asked::Unreachable("away".into());
        assert_eq!(ask(away()).await, Answer::Away("away".into()));
        assert_eq!(ask(Asked::Answered(Answer::Known(1))).await, Answer::Away("away".into()));
        advance(AWAY).await;
        assert_eq!(ask(Asked::Answered(Answer::Away("later".into()))).await, Answer::Away("later".into()));
        // The host has responded, so it is still asked: only this question has no result.
        assert_eq!(ask(Asked::Answered(Answer::Known(1))).await, Answer::Known(1));
        assert_eq!(asked.load(Ordering::Relaxed), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_waits_for_its_place_for_a_bounded_time() {
        let limits = HostLimits::default();
        let slow = || async {
            sleep(10 * WAIT).await;
            Asked::Answered(Answer::Known(1))
        };
        for hosts in [1, 100] {
            let names: Vec<String> = (0..hosts).map(|number| format!("slow-{number}")).collect();
            let many = join_all((0..100).map(|number| limits.ask(&names[number % hosts], slow())));
            let late = async {
                sleep(Duration::from_secs(1)).await;
                let began = Instant::now();
                (limits.ask(&names[0], good()).await, began.elapsed())
            };
            let (_, (answer, waited)) = tokio::join!(many, late);
            let Answer::Away(why) = answer else { panic!("{answer:?}") };
            assert!(why.contains("slow-0") && waited == WAIT, "{why} {waited:?}");
        }
    }

    /// One user's tasks name thousands of tags of a listed repository, or images of a store. Like runs, each asks again after a pause, and
    /// gives up ten minutes after the first missing answer.
    #[tokio::test(start_paused = true)]
    async fn who_asks_much_delays_others_and_leaves_none_without_an_answer() {
        let limits = HostLimits::default();
        let ask = async |number: u64| {
            sleep(Duration::from_millis(number)).await;
            let mut away_since = None;
            loop {
                let slow = async {
                    sleep(Duration::from_secs(1)).await;
                    Asked::Answered(Answer::Known(1))
                };
                if limits.ask("host", slow).await == Answer::Known(1) {
                    return true;
                }
                if away_since.get_or_insert_with(Instant::now).elapsed() > Duration::from_secs(600) {
                    return false;
                }
                sleep(Duration::from_secs(32 + number % 32)).await;
            }
        };
        let answered = join_all((0..4000).map(ask)).await;
        assert_eq!(answered.iter().filter(|answered| !**answered).count(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_hosts_are_remembered_than_there_is_room_for() {
        let limits = HostLimits::default();
        for number in 0..3 * HOSTS {
            let away = async { Asked::<u8>::Unreachable("away".into()) };
            limits.ask(&number.to_string(), away).await;
            assert!(limits.hosts.lock().len() <= HOSTS);
        }
    }
}
