//! Queues the tasks that events announce until their runs are read. Anyone who may create tasks decides how many such events there are,
//! so the queue is bounded, and so are the requests to the server, both concurrently and per second. Each task is queued once, a few are
//! read concurrently, and no task is read twice within a second. If too many are queued, one poll of all open runs replaces them.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use vantage6_types::TaskId;

/// With more tasks than this, one poll of all open runs costs the server less.
const MAX_WAITING: usize = 32;
/// How many tasks are read concurrently.
const CONCURRENCY: usize = 4;
/// The largest number of reads that may start within a second.
const RATE: usize = 20;
const SECOND: Duration = Duration::from_secs(1);

/// The queue of announced tasks.
#[derive(Debug, Default)]
pub struct NewTasks {
    state: Mutex<Queue>,
    heard: Notify,
}

#[derive(Debug)]
enum Queue {
    Waiting(VecDeque<TaskId>),
    /// A poll of all open runs has been requested and has not begun. It will find all tasks announced until then.
    PollRequested,
}

impl Default for Queue {
    fn default() -> Self {
        Self::Waiting(VecDeque::new())
    }
}

/// What happens to an announced task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The task will be read, or found by a requested poll.
    Waits,
    /// The queue is full: the caller must request a poll of all open runs.
    PollRequested,
}

impl NewTasks {
    /// Adds a task that an event announced.
    pub fn add(&self, task: TaskId) -> Next {
        let mut state = self.state();
        match &mut *state {
            Queue::PollRequested => Next::Waits,
            Queue::Waiting(tasks) if tasks.contains(&task) => Next::Waits,
            Queue::Waiting(tasks) if tasks.len() < MAX_WAITING => {
                tasks.push_back(task);
                self.heard.notify_one();
                Next::Waits
            }
            Queue::Waiting(_) => {
                *state = Queue::PollRequested;
                Next::PollRequested
            }
        }
    }

    /// Must be called when a poll of all open runs begins. The poll may miss tasks that are announced later.
    pub fn poll_begins(&self) {
        let mut state = self.state();
        if matches!(*state, Queue::PollRequested) {
            *state = Queue::default();
        }
    }

    /// Reads the announced tasks with `look`. Never returns.
    pub async fn run<F: Future<Output = ()>>(&self, look: impl Fn(TaskId) -> F) -> Infallible {
        let mut looks = FuturesUnordered::new();
        let mut recent = Recent::default();
        loop {
            tokio::select! {
                task = self.next(&mut recent), if looks.len() < CONCURRENCY => looks.push(look(task)),
                Some(()) = looks.next(), if !looks.is_empty() => {}
            }
        }
    }

    /// The next task that may be read.
    async fn next(&self, recent: &mut Recent) -> TaskId {
        loop {
            let heard = self.heard.notified();
            let now = Instant::now();
            recent.forget(now);
            let may_begin = recent.may_begin();
            let mut waiting = false;
            if let Queue::Waiting(tasks) = &mut *self.state() {
                let may = |task: &TaskId| may_begin && !recent.has(*task);
                if let Some(task) = tasks.iter().position(may).and_then(|at| tasks.remove(at)) {
                    recent.begins(task, now);
                    return task;
                }
                waiting = !tasks.is_empty();
            }
            match recent.changes().filter(|_| waiting) {
                None => heard.await,
                Some(at) => tokio::select! {
                    () = heard => {}
                    () = sleep_until(at) => {}
                },
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, Queue> {
        self.state.lock()
    }
}

/// The reads that started in the last second: at most [`RATE`].
#[derive(Debug, Default)]
struct Recent(VecDeque<(Instant, TaskId)>);

impl Recent {
    fn forget(&mut self, now: Instant) {
        while self.changes().is_some_and(|at| at <= now) {
            self.0.pop_front();
        }
    }

    fn may_begin(&self) -> bool {
        self.0.len() < RATE
    }

    fn has(&self, task: TaskId) -> bool {
        self.0.iter().any(|(_, begun)| *begun == task)
    }

    fn begins(&mut self, task: TaskId, now: Instant) {
        self.0.push_back((now, task));
    }

    /// When the oldest read becomes a second old.
    fn changes(&self) -> Option<Instant> {
        self.0.front().map(|(begun, _)| *begun + SECOND)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::collections::HashSet;

    use tokio::time::sleep;

    use super::*;

    /// A server that counts requests and records the found tasks.
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

        /// Polls all announced tasks on request. Each poll takes ten seconds.
        async fn look_at_all(&self, tasks: &NewTasks, all: &Notify, heard: &RefCell<HashSet<TaskId>>) -> Infallible {
            loop {
                all.notified().await;
                tasks.poll_begins();
                self.asked.set(self.asked.get() + 1);
                let seen = heard.borrow().clone();
                sleep(Duration::from_secs(10)).await;
                self.found.borrow_mut().extend(seen);
            }
        }
    }

    /// Sends this many events in this time, and checks that every task is found.
    async fn flood(events: u64, over: Duration) -> Server {
        let (tasks, all) = (NewTasks::default(), Notify::new());
        let heard = RefCell::<HashSet<TaskId>>::default();
        let server = Server::default();
        let tell = async {
            let pause = over / u32::try_from(events).unwrap();
            for task in (0..events).map(TaskId) {
                heard.borrow_mut().insert(task);
                if tasks.add(task) == Next::PollRequested {
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
            never = tasks.run(|task| server.look(task)) => match never {},
            never = server.look_at_all(&tasks, &all, &heard) => match never {},
        }
        assert_eq!(*server.found.borrow(), *heard.borrow());
        server
    }

    #[tokio::test(start_paused = true)]
    async fn twenty_thousand_events_are_a_few_requests_and_nothing_is_lost() {
        let server = flood(20_000, Duration::ZERO).await;
        assert!(server.asked.get() <= MAX_WAITING + 2, "{} requests", server.asked.get());
        assert!(server.most.get() <= CONCURRENCY);
        // Within ten seconds, with a server that takes a second for each request.
        let began = Instant::now();
        let server = flood(20_000, Duration::from_secs(10)).await;
        assert!(server.asked.get() <= 3 * (MAX_WAITING + CONCURRENCY), "{} requests", server.asked.get());
        assert!(server.most.get() <= CONCURRENCY && began.elapsed() < Duration::from_secs(100));
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_tasks_are_looked_at_one_by_one() {
        let server = flood(20, Duration::ZERO).await;
        assert_eq!((server.asked.get(), server.most.get()), (20, CONCURRENCY));
    }

    /// How often a fast server is asked within ten seconds for tasks and for all runs, with an event every millisecond.
    async fn asked(of: impl Fn(u64) -> u64) -> (usize, usize) {
        let (tasks, asked, all) = (NewTasks::default(), Cell::new(0), Cell::new(0));
        let tell = async {
            for event in 0..10_000 {
                if tasks.add(TaskId(of(event))) == Next::PollRequested {
                    all.set(all.get() + 1);
                }
                sleep(Duration::from_millis(1)).await;
            }
        };
        let look = |_| {
            asked.set(asked.get() + 1);
            std::future::ready(())
        };
        tokio::select! {
            () = tell => {}
            never = tasks.run(look) => match never {},
        }
        (asked.get(), all.get())
    }

    #[tokio::test(start_paused = true)]
    async fn one_task_is_looked_at_once_a_second_and_all_at_a_pace() {
        let (one, all) = asked(|_| 7).await;
        assert!((9..=12).contains(&one) && all == 0, "{one} {all}");
        let (few, all) = asked(|event| event % 10).await;
        assert!((90..=120).contains(&few) && all == 0, "{few} {all}");
        let (many, all) = asked(|event| event).await;
        assert!(many <= 220 && all > 0, "{many} {all}");
    }

    #[test]
    fn each_task_waits_once() {
        let tasks = NewTasks::default();
        for _ in 0..100_000 {
            assert_eq!(tasks.add(TaskId(1)), Next::Waits);
        }
        for task in 2..=MAX_WAITING as u64 {
            assert_eq!(tasks.add(TaskId(task)), Next::Waits);
        }
        assert_eq!(tasks.add(TaskId(1000)), Next::PollRequested);
        // One poll is requested until it begins.
        assert_eq!(tasks.add(TaskId(1001)), Next::Waits);
        tasks.poll_begins();
        assert_eq!(tasks.add(TaskId(1002)), Next::Waits);
        assert!(matches!(&*tasks.state(), Queue::Waiting(tasks) if *tasks == [TaskId(1002)]));
    }
}
