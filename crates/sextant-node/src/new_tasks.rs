//! The tasks that events tell of, until they are looked at. Whoever may make tasks decides how many such events there
//! are, so what waits is bounded, and so is what is asked of the server at a time: each task waits once, a few are looked
//! at together, and where too many wait, one look at all open runs takes their place.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::Notify;
use vantage6_types::TaskId;

/// With more tasks than that, one look at all open runs is less to ask of the server.
const WAITING: usize = 32;
/// So many tasks are looked at together.
const AT_ONCE: usize = 4;

/// The tasks that wait.
#[derive(Debug, Default)]
pub struct NewTasks {
    state: Mutex<State>,
    heard: Notify,
}

#[derive(Debug)]
enum State {
    Waiting(VecDeque<TaskId>),
    /// A look at all open runs was asked for and has not begun: it finds whatever is heard of until then.
    All,
}

impl Default for State {
    fn default() -> Self {
        Self::Waiting(VecDeque::new())
    }
}

/// What becomes of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// It is looked at, or found by a look at all that was asked for.
    Waits,
    /// Too many wait: a look at all open runs is to be asked for now.
    LookAtAll,
}

impl NewTasks {
    /// An event told of this task.
    pub fn heard(&self, task: TaskId) -> Next {
        let mut state = self.state();
        match &mut *state {
            State::All => Next::Waits,
            State::Waiting(tasks) if tasks.contains(&task) => Next::Waits,
            State::Waiting(tasks) if tasks.len() < WAITING => {
                tasks.push_back(task);
                self.heard.notify_one();
                Next::Waits
            }
            State::Waiting(_) => {
                *state = State::All;
                Next::LookAtAll
            }
        }
    }

    /// A look at all open runs begins: it may not find the runs of a task that is heard of from now on.
    pub fn look_at_all_begins(&self) {
        let mut state = self.state();
        if matches!(*state, State::All) {
            *state = State::default();
        }
    }

    /// Looks at what is heard of, for ever.
    pub async fn work_off<F: Future<Output = ()>>(&self, look: impl Fn(TaskId) -> F) -> Infallible {
        let mut looks = FuturesUnordered::new();
        loop {
            tokio::select! {
                task = self.next(), if looks.len() < AT_ONCE => looks.push(look(task)),
                Some(()) = looks.next(), if !looks.is_empty() => {}
            }
        }
    }

    async fn next(&self) -> TaskId {
        loop {
            let heard = self.heard.notified();
            if let State::Waiting(tasks) = &mut *self.state()
                && let Some(task) = tasks.pop_front()
            {
                return task;
            }
            heard.await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::collections::HashSet;
    use std::time::Duration;

    use tokio::time::{Instant, sleep};

    use super::*;

    /// What a server was asked, and what was found.
    #[derive(Default)]
    struct Server {
        asked: Cell<usize>,
        now: Cell<usize>,
        most: Cell<usize>,
        found: RefCell<HashSet<TaskId>>,
    }

    impl Server {
        async fn look(&self, task: TaskId) {
            self.asked.set(self.asked.get() + 1);
            self.now.set(self.now.get() + 1);
            self.most.set(self.most.get().max(self.now.get()));
            sleep(Duration::from_secs(1)).await;
            self.now.set(self.now.get() - 1);
            self.found.borrow_mut().insert(task);
        }

        /// Looks at all of these when told to, each time for ten seconds.
        async fn look_at_all(&self, tasks: &NewTasks, all: &Notify, heard: &RefCell<HashSet<TaskId>>) -> Infallible {
            loop {
                all.notified().await;
                tasks.look_at_all_begins();
                self.asked.set(self.asked.get() + 1);
                let seen = heard.borrow().clone();
                sleep(Duration::from_secs(10)).await;
                self.found.borrow_mut().extend(seen);
            }
        }
    }

    /// So many events in this time: what the server is asked for is bounded, and every task is found.
    async fn flood(events: u64, over: Duration) -> Server {
        let (tasks, all) = (NewTasks::default(), Notify::new());
        let heard = RefCell::<HashSet<TaskId>>::default();
        let server = Server::default();
        let tell = async {
            let pause = over / u32::try_from(events).unwrap();
            for task in (0..events).map(TaskId) {
                heard.borrow_mut().insert(task);
                if tasks.heard(task) == Next::LookAtAll {
                    all.notify_one();
                }
                if !pause.is_zero() {
                    sleep(pause).await;
                }
            }
            sleep(Duration::from_secs(60)).await;
        };
        tokio::select! {
            () = tell => {}
            never = tasks.work_off(|task| server.look(task)) => match never {},
            never = server.look_at_all(&tasks, &all, &heard) => match never {},
        }
        assert_eq!(*server.found.borrow(), *heard.borrow());
        server
    }

    #[tokio::test(start_paused = true)]
    async fn twenty_thousand_events_are_a_few_requests_and_nothing_is_lost() {
        let server = flood(20_000, Duration::ZERO).await;
        assert!(server.asked.get() <= WAITING + 2, "{} requests", server.asked.get());
        assert!(server.most.get() <= AT_ONCE);
        // In ten seconds, as the attack had it; with a server that takes a second for each.
        let began = Instant::now();
        let server = flood(20_000, Duration::from_secs(10)).await;
        assert!(server.asked.get() <= 3 * (WAITING + AT_ONCE), "{} requests", server.asked.get());
        assert!(server.most.get() <= AT_ONCE && began.elapsed() < Duration::from_secs(100));
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_tasks_are_looked_at_one_by_one() {
        let server = flood(20, Duration::ZERO).await;
        assert_eq!((server.asked.get(), server.most.get()), (20, AT_ONCE));
    }

    #[test]
    fn each_task_waits_once() {
        let tasks = NewTasks::default();
        for _ in 0..100_000 {
            assert_eq!(tasks.heard(TaskId(1)), Next::Waits);
        }
        for task in 2..=WAITING as u64 {
            assert_eq!(tasks.heard(TaskId(task)), Next::Waits);
        }
        assert_eq!(tasks.heard(TaskId(1000)), Next::LookAtAll);
        // It is asked for once, until it begins.
        assert_eq!(tasks.heard(TaskId(1001)), Next::Waits);
        tasks.look_at_all_begins();
        assert_eq!(tasks.heard(TaskId(1002)), Next::Waits);
        assert!(matches!(&*tasks.state(), State::Waiting(tasks) if *tasks == [TaskId(1002)]));
    }
}
