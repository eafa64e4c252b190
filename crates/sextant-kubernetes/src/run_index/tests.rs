use super::*;
use crate::decisions::facts::{Container, End, sample};

fn job(uid: &str) -> JobFacts {
    JobFacts { uid: uid.into(), ..sample::job() }
}

fn pod(algorithm: Container) -> PodFacts {
    PodFacts { algorithm, returns: Container::Running { since: None }, ..sample::pod() }
}

#[test]
fn observers_hear_what_changes_the_situation_and_nothing_else() {
    let run_index = RunIndex::default();
    let mut observer = run_index.observe(RunId(1));
    assert_eq!(*observer.borrow_and_update(), RunState::Absent);
    run_index.job(job("u"));
    assert!(observer.has_changed().unwrap());
    observer.mark_unchanged();
    run_index.job(job("u"));
    assert!(!observer.has_changed().unwrap());
    run_index.pod(RunId(1), pod(Container::Running { since: None }));
    assert_eq!(*observer.borrow_and_update(), RunState::Running { since: None });
}

#[test]
fn a_pod_that_goes_leaves_word_of_it() {
    let run_index = RunIndex::default();
    let observer = run_index.observe(RunId(1));
    run_index.job(job("u"));
    run_index.pod(RunId(1), pod(Container::Running { since: None }));
    let now = Timestamp::from_second(100).unwrap();
    run_index.retain_pods(&HashSet::new(), now);
    // Why, the Job may tell; not for long.
    assert!(matches!(*observer.borrow(), RunState::Terminating { until: Some(until), .. } if until > now));
    run_index.job(JobFacts { failed: Some(("BackoffLimitExceeded".into(), String::new())), ..job("u") });
    assert!(matches!(&*observer.borrow(), RunState::Failed(failure) if failure.started));
    run_index.retain_jobs(&HashSet::new());
    assert_eq!(*observer.borrow(), RunState::Absent);
    assert!(run_index.pod_of(RunId(1)).is_none());
}

#[test]
fn a_job_made_while_the_list_was_read_is_not_taken_for_gone() {
    let run_index = RunIndex::default();
    let observer = run_index.observe(RunId(1));
    run_index.launched(job("u"));
    run_index.retain_jobs(&HashSet::new());
    assert!(matches!(*observer.borrow(), RunState::Starting(_)));
    run_index.job(job("u"));
    run_index.retain_jobs(&HashSet::new());
    assert_eq!(*observer.borrow(), RunState::Absent);
}

#[test]
fn what_was_seen_running_was_started_whatever_its_machine_says_later() {
    let lost = Container::Ended(End {
        code: 137,
        reason: "ContainerStatusUnknown".into(),
        message: String::new(),
        started: false,
        at: None,
    });
    for (before, started) in [(Container::Running { since: None }, true), (Container::Unknown, false)] {
        let run_index = RunIndex::default();
        let observer = run_index.observe(RunId(1));
        run_index.job(job("u"));
        run_index.pod(RunId(1), pod(before));
        run_index.pod(RunId(1), PodFacts { over: true, receive: lost.clone(), ..pod(lost.clone()) });
        let RunState::Failed(failure) = observer.borrow().clone() else { panic!("{:?}", *observer.borrow()) };
        assert_eq!(failure.started, started);
    }
}

#[test]
fn a_pod_that_is_seen_before_its_job_is_not_forgotten() {
    let run_index = RunIndex::default();
    let observer = run_index.observe(RunId(1));
    run_index.job(job("u"));
    run_index.pod(RunId(1), PodFacts { job_uid: "v".into(), ..pod(Container::Running { since: None }) });
    assert!(matches!(*observer.borrow(), RunState::Starting(_)), "{:?}", *observer.borrow());
    run_index.job(job("v"));
    assert_eq!(*observer.borrow(), RunState::Running { since: None });
    // One that goes before its Job is seen leaves nothing.
    run_index.pod(RunId(1), PodFacts { job_uid: "w".into(), name: "q".into(), ..pod(Container::Unknown) });
    run_index.retain_pods(&HashSet::from(["p".to_owned()]), Timestamp::UNIX_EPOCH);
    run_index.job(job("w"));
    assert!(run_index.pod_of(RunId(1)).is_none());
}

#[test]
fn an_older_job_of_the_same_name_does_not_take_the_newer_with_it() {
    let run_index = RunIndex::default();
    run_index.job(job("new"));
    run_index.job_gone(RunId(1), "old");
    assert_eq!(run_index.job_of(RunId(1)).unwrap().uid, "new");
}

#[test]
fn a_pod_of_a_deleted_job_is_not_taken_for_the_next_ones() {
    let run_index = RunIndex::default();
    let observer = run_index.observe(RunId(1));
    run_index.job(job("u"));
    run_index.pod(RunId(1), pod(Container::Running { since: None }));
    run_index.job_gone(RunId(1), "u");
    run_index.launched(job("v"));
    run_index.pod(RunId(1), PodFacts { deleting: true, ..pod(Container::Running { since: None }) });
    assert!(matches!(*observer.borrow(), RunState::Starting(_)), "{:?}", *observer.borrow());
}

#[test]
fn a_namesakes_job_and_pod_are_kept_apart() {
    let at = |second| jiff::Timestamp::from_second(second).ok();
    let (old, new) = (JobFacts { reported: true, created: at(1), ..job("u") }, "new");
    let new = JobFacts { name: new.into(), created: at(2), ..job(new) };
    let run_index = RunIndex::default();
    let observer = run_index.observe(RunId(1));
    run_index.job(old.clone());
    run_index.pod(RunId(1), pod(Container::Unknown));
    assert_eq!(*observer.borrow(), RunState::Released);
    run_index.launched(new);
    run_index.job(old);
    run_index.pod(RunId(1), pod(Container::Running { since: None }));
    assert!(matches!(*observer.borrow(), RunState::Starting(_)), "{:?}", *observer.borrow());
    assert_eq!(run_index.job_of(RunId(1)).unwrap().uid, "new");
}

#[test]
fn of_a_reported_run_only_the_job_is_kept() {
    let run_index = RunIndex::default();
    run_index.job(job("u"));
    run_index.pod(RunId(1), pod(Container::Unknown));
    run_index.reported(RunId(1), "u");
    assert!(run_index.pod_of(RunId(1)).is_none());
    run_index.pod(RunId(1), pod(Container::Unknown));
    assert!(run_index.pod_of(RunId(1)).is_none());
    assert_eq!(*run_index.observe(RunId(1)).borrow(), RunState::Released);
}

#[test]
fn what_nobody_needs_is_forgotten() {
    let run_index = RunIndex::default();
    run_index.job(job("u"));
    run_index.pod(RunId(1), pod(Container::Unknown));
    run_index.job_gone(RunId(1), "u");
    run_index.pod_gone(RunId(1), "p", Timestamp::UNIX_EPOCH);
    assert!(run_index.lock().is_empty());
}
