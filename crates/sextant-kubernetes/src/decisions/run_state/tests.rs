use super::*;
use crate::decisions::facts::sample::{job, pod};
use crate::decisions::injected::{Injected, Kind};

fn at(second: i64) -> Option<Timestamp> {
    Timestamp::from_second(second).ok()
}

fn ended(code: i32, reason: &str, message: &str) -> Container {
    Container::Ended(End {
        code,
        reason: reason.into(),
        message: message.into(),
        started: reason != "StartError",
        at: at(100),
    })
}

fn waits(reason: &str) -> Container {
    Container::Waiting { reason: reason.into(), message: "because".into() }
}

const RUNNING: Container = Container::Running { since: None };

fn said(reason: &str, message: &str) -> Option<(String, String)> {
    Some((reason.into(), message.into()))
}

/// The algorithm runs, `return` waits.
fn runs() -> PodFacts {
    PodFacts { receive: ended(0, "Completed", ""), algorithm: RUNNING, returns: RUNNING, ..pod() }
}

/// The algorithm has ended, `return` waits.
fn done(code: i32, reason: &str) -> PodFacts {
    PodFacts {
        algorithm: ended(code, reason, ""),
        memory_limit: Some("4Gi".into()),
        disk_limit: Some("10Gi".into()),
        ..runs()
    }
}

/// Stopped by the cluster, with its containers.
fn over(pod: PodFacts) -> PodFacts {
    let stop = |container| match container {
        Container::Running { .. } => ended(137, "Error", ""),
        other => other,
    };
    PodFacts { over: true, algorithm: stop(pod.algorithm), returns: stop(pod.returns), ..pod }
}

fn disrupted(reason: &str, pod: PodFacts) -> PodFacts {
    PodFacts { disruption: said(reason, "m"), deleting: true, told: at(100), ends_at: at(110), ..pod }
}

/// Not there any more, and its end was not seen.
fn gone(pod: PodFacts) -> PodFacts {
    PodFacts { gone: at(200), over: true, deleting: true, ..pod }
}

fn evicted(message: &str, pod: PodFacts) -> PodFacts {
    PodFacts { reason: said("Evicted", message), ..pod }
}

/// A state in a word, the words that it has for the researcher (or, of a run that waits, for the operator), and its Event.
fn told(run_state: &RunState) -> (String, String, &'static str) {
    let failed = |prefix: &str, f: &Failure| {
        let again = match f.disruption {
            Some(_) if f.started => " (disrupted)",
            Some(_) => " (again)",
            None => "",
        };
        (format!("{prefix}{}{again}", f.status), f.message.clone(), f.reason)
    };
    match run_state {
        RunState::Absent => ("absent".into(), String::new(), ""),
        RunState::Starting(s) => (format!("waits: {:?}", s.waits_for), s.detail.clone(), ""),
        RunState::Running { .. } => ("running".into(), String::new(), ""),
        RunState::Ended(exit) => ("ended".into(), exit.note.clone().unwrap_or_default(), exit.reason),
        RunState::TerminatingWithOutput { exit, failure, .. } => {
            (failed("leaving: ", failure).0, exit.note.clone().unwrap_or_default(), failure.reason)
        }
        RunState::Terminating { failure, .. } => failed("ending: ", failure),
        RunState::Failed(failure) => failed("", failure),
        RunState::Released => ("reported".into(), String::new(), ""),
    }
}

/// What Kubernetes says of a pod → where the run stands, what is said of it, the Event's word. "(again)": launched again by itself;
/// "(disrupted)": launched again where the operator allows it.
#[test]
fn what_a_pod_says() {
    let unscheduled = |words: &str| PodFacts { scheduled: false, unschedulable: Some(words.into()), ..pod() };
    let receive = |receive| PodFacts { receive, ..pod() };
    let algorithm = |algorithm| PodFacts { receive: ended(0, "Completed", ""), algorithm, ..pod() };
    let pulls = || algorithm(waits("PodInitializing"));
    let rejected = |reason: &str| PodFacts { reason: said(reason, "m"), over: true, scheduled: false, ..pod() };
    let no_id = || match ended(137, "ContainerStatusUnknown", "") {
        Container::Ended(end) => Container::Ended(End { started: false, ..end }),
        other => other,
    };
    let ran_out = "The node was low on resource: memory. Threshold quantity: 100Mi";
    let own_disk = "Container algorithm exceeded its local ephemeral storage limit \"10Gi\". ";

    for (pod, expected, words, event) in [
        // On its way.
        (pod(), "waits: OwnContainer", "being started", ""),
        (PodFacts { scheduled: false, ..pod() }, "waits: Machine", "is being scheduled", ""),
        (unscheduled("0/1 nodes: Insufficient cpu"), "waits: Machine", "Insufficient cpu", ""),
        (unscheduled("persistentvolumeclaim \"x\" not found"), "waits: Volume", "\"x\" not found", ""),
        (unscheduled("pod has unbound immediate PersistentVolumeClaims"), "waits: Volume", "unbound", ""),
        (receive(waits("PodInitializing")), "waits: OwnContainer", "being started", ""),
        (receive(waits("CreateContainerConfigError")), "waits: OwnContainer", "ConfigError because", ""),
        (receive(waits("ImagePullBackOff")), "waits: OwnImage", "because", ""),
        (receive(RUNNING), "waits: Inputs", "input and token", ""),
        (receive(ended(1, "Error", "The input is no base64.")), "start failed", "no base64", "ReceiveFailed"),
        (receive(ended(1, "Error", "")), "start failed", "could not be delivered", "ReceiveFailed"),
        (receive(ended(1, "Error", "x: No space left on device")), "start failed", "No space left", "DiskFull"),
        (pulls(), "waits: Pull", "being pulled", ""),
        (algorithm(Container::Unknown), "waits: Pull", "being pulled", ""),
        (algorithm(waits("ErrImagePull")), "waits: Image", "because", ""),
        (algorithm(waits("ImagePullBackOff")), "waits: Image", "because", ""),
        (algorithm(waits("RegistryUnavailable")), "waits: Image", "because", ""),
        (algorithm(waits("InvalidImageName")), "waits: Image", "InvalidImageName", ""),
        (algorithm(waits("ErrImageNeverPull")), "waits: Image", "ErrImageNeverPull", ""),
        (algorithm(waits("ImageInspectError")), "waits: Image", "because", ""),
        (algorithm(waits("CreateContainerConfigError")), "waits: Container", "because", ""),
        (algorithm(waits("CreateContainerError")), "waits: Container", "because", ""),
        (algorithm(waits("RunContainerError")), "waits: Container", "because", ""),
        (
            algorithm(ended(128, "StartError", "mount /x: exec: \"a\": no such file")),
            "start failed",
            "\"a\": no such file",
            "ContainerNotStarted",
        ),
        (
            algorithm(ended(128, "StartError", "mount /secret/path")),
            "start failed",
            "node's log says why",
            "ContainerNotStarted",
        ),
        (runs(), "running", "", ""),
        // The algorithm's own end.
        (done(0, "Completed"), "ended", "", "AlgorithmEnded"),
        (done(3, "Error"), "ended", "exit code 3", "AlgorithmFailed"),
        (done(137, "Error"), "ended", "signal 9", "AlgorithmKilled"),
        (done(137, "OOMKilled"), "ended", "more memory than its limit (4Gi)", "OutOfMemory"),
        (PodFacts { returns: waits("ErrImagePull"), ..done(0, "Completed") }, "ended", "", "AlgorithmEnded"),
        (
            PodFacts { returns: ended(1, "Error", "x"), over: true, ..done(0, "Completed") },
            "crashed",
            "before its output",
            "Stopped",
        ),
        (PodFacts { returns: ended(1, "Error", "x"), ..done(137, "OOMKilled") }, "crashed", "limit (4Gi)", "Stopped"),
        (
            over(evicted(own_disk, done(137, "Error"))),
            "crashed",
            "than its limit (10Gi) before the algorithm ended",
            "DiskLimitExceeded",
        ),
        // Deleted by a person.
        (PodFacts { deleting: true, ends_at: at(9), ..runs() }, "ending: crashed", "pod was deleted", "PodDeleted"),
        (
            PodFacts { deleting: true, ..over(runs()) },
            "crashed",
            "deleted from the cluster before the algorithm ended",
            "PodDeleted",
        ),
        (PodFacts { deleting: true, over: true, ..pod() }, "crashed", "before the algorithm started", "PodDeleted"),
        // Disrupted before the algorithm started.
        (
            over(evicted(ran_out, pulls())),
            "crashed (again)",
            "ran low on memory, before the algorithm started",
            "Evicted",
        ),
        (over(evicted("Pod was evicted", pulls())), "crashed (again)", "was evicted", "Evicted"),
        (over(evicted(ran_out, algorithm(no_id()))), "crashed (again)", "before the algorithm started", "Evicted"),
        (
            over(disrupted("PreemptionByScheduler", pulls())),
            "crashed (again)",
            "preempted by a more important one",
            "Preempted",
        ),
        (over(disrupted("EvictionByEvictionAPI", pulls())), "crashed (again)", "out of service", "Drained"),
        (disrupted("EvictionByEvictionAPI", receive(RUNNING)), "ending: crashed (again)", "out of service", "Drained"),
        (over(disrupted("DeletionByTaintManager", receive(RUNNING))), "crashed (again)", "was lost", "MachineLost"),
        (rejected("OutOfcpu"), "crashed (again)", "did not accept it", "MachineRefused"),
        (rejected("NodeAffinity"), "crashed (again)", "did not accept it", "MachineRefused"),
        (rejected("UnexpectedAdmissionError"), "crashed (again)", "did not accept it", "MachineRefused"),
        (rejected("NodeShutdown"), "crashed (again)", "shut down", "MachineShutdown"),
        // Disrupted after it.
        (over(evicted(ran_out, runs())), "crashed (disrupted)", "before the algorithm ended", "Evicted"),
        (
            over(evicted("The node was low on resource: ephemeral-storage.", runs())),
            "crashed (disrupted)",
            "low on disk space",
            "Evicted",
        ),
        (evicted(ran_out, done(143, "Error")), "ending: crashed (disrupted)", "memory", "Evicted"),
        (
            over(disrupted("PreemptionByScheduler", runs())),
            "crashed (disrupted)",
            "preempted by a more important one",
            "Preempted",
        ),
        (
            PodFacts { reason: said("Preempting", "m"), ..over(runs()) },
            "crashed (disrupted)",
            "preempted by a more important one",
            "Preempted",
        ),
        (over(disrupted("EvictionByEvictionAPI", runs())), "crashed (disrupted)", "out of service", "Drained"),
        (disrupted("EvictionByEvictionAPI", runs()), "ending: crashed (disrupted)", "out of service", "Drained"),
        (
            disrupted("EvictionByEvictionAPI", done(143, "Error")),
            "ending: crashed (disrupted)",
            "out of service",
            "Drained",
        ),
        (
            PodFacts { reason: said("Terminated", "m"), ..over(runs()) },
            "crashed (disrupted)",
            "shut down",
            "MachineShutdown",
        ),
        (disrupted("DeletionByTaintManager", runs()), "ending: crashed (disrupted)", "lost", "MachineLost"),
        (
            PodFacts { reason: said("NodeLost", "m"), deleting: true, ..runs() },
            "ending: crashed (disrupted)",
            "lost",
            "MachineLost",
        ),
        (over(done(255, "Unknown")), "crashed (disrupted)", "was lost", "MachineLost"),
        (done(137, "ContainerStatusUnknown"), "crashed (disrupted)", "was lost", "MachineLost"),
        // A machine that is lost may have started the algorithm unseen.
        (disrupted("DeletionByTaintManager", pulls()), "ending: crashed (disrupted)", "lost", "MachineLost"),
        // Told to end, and it made it in time; or had failed before.
        (disrupted("EvictionByEvictionAPI", done(0, "Completed")), "leaving: crashed (disrupted)", "", "Drained"),
        (
            PodFacts { told: at(101), ..disrupted("EvictionByEvictionAPI", done(1, "Error")) },
            "leaving: crashed (disrupted)",
            "exit code 1",
            "Drained",
        ),
        (disrupted("DeletionByTaintManager", done(0, "Completed")), "leaving: crashed (disrupted)", "", "MachineLost"),
        // Gone before anybody saw it end: what was last known of it may have been outdated.
        (gone(disrupted("EvictionByEvictionAPI", pulls())), "crashed (disrupted)", "out of service", "Drained"),
        (gone(disrupted("EvictionByEvictionAPI", receive(RUNNING))), "crashed (again)", "out of service", "Drained"),
        (gone(PodFacts { told: at(9), ..runs() }), "crashed", "deleted from the cluster", "PodDeleted"),
        (gone(runs()), "ending: crashed", "deleted from the cluster", "PodDeleted"),
        (gone(PodFacts { scheduled: false, ..pulls() }), "ending: crashed", "before the algorithm ended", "PodDeleted"),
        (
            over(disrupted("EvictionByEvictionAPI", done(0, "Completed"))),
            "crashed (disrupted)",
            "before its output",
            "Drained",
        ),
    ] {
        let job = JobFacts { supplied: matches!(&pod.receive, Container::Ended(end) if end.code == 0), ..job() };
        let run_state = run_state(Some(&job), Some(&pod));
        let (word, text, reason) = told(&run_state);
        assert_eq!((word.as_str(), reason), (expected, event), "{pod:?} → {run_state:?}");
        assert!(text.contains(words), "{pod:?} → {text}");
        assert!(!text.contains("/secret/"), "{text}");
    }
}

/// A container that the cluster has added, in a pod whose own are in these states.
#[test]
fn what_a_container_says_that_the_cluster_has_added() {
    let with = |kind, state, pod: PodFacts| {
        let injected = vec![Injected { name: "mesh".into(), image: "mesh:1".into(), kind, state }];
        PodFacts { injected, ..pod }
    };
    let waiting = || PodFacts { receive: waits("PodInitializing"), algorithm: waits("PodInitializing"), ..pod() };
    let pulls = || PodFacts { receive: ended(0, "Completed", ""), algorithm: waits("PodInitializing"), ..pod() };
    let failed = || ended(7, "Error", "no rules");
    use Kind::*;
    for (pod, expected, event, by_name) in [
        (with(Init, failed(), over(waiting())), "start failed", "InjectedContainerFailed", true),
        (with(Init, failed(), over(pulls())), "start failed", "InjectedContainerFailed", true),
        (
            with(Init, ended(128, "StartError", "no such file"), over(waiting())),
            "start failed",
            "InjectedContainerFailed",
            true,
        ),
        (with(Init, ended(0, "Completed", ""), waiting()), "waits: OwnContainer", "", false),
        (with(Init, waits("PodInitializing"), waiting()), "waits: OwnContainer", "", false),
        (with(Init, RUNNING, waiting()), "waits: Injected", "", true),
        (with(Init, waits("ImagePullBackOff"), waiting()), "waits: InjectedImage", "", true),
        (with(Init, waits("ErrImagePull"), pulls()), "waits: InjectedImage", "", true),
        (with(Init, waits("CreateContainerConfigError"), waiting()), "waits: Injected", "", true),
        (with(Sidecar, waits("ErrImagePull"), waiting()), "waits: InjectedImage", "", true),
        (with(Sidecar, waits("CrashLoopBackOff"), waiting()), "waits: Injected", "", true),
        (with(Sidecar, failed(), waiting()), "waits: Injected", "", true),
        (with(Sidecar, RUNNING, pulls()), "waits: Pull", "", false),
        // What goes on beside the algorithm is no reason for anything.
        (with(Beside, waits("ImagePullBackOff"), pulls()), "waits: Pull", "", true),
        (with(Beside, failed(), pulls()), "waits: Pull", "", false),
        (with(Beside, waits("ImagePullBackOff"), runs()), "running", "", false),
        (with(Sidecar, failed(), runs()), "running", "", false),
        (with(Beside, failed(), done(0, "Completed")), "ended", "AlgorithmEnded", false),
        (with(Beside, RUNNING, done(0, "Completed")), "ended", "AlgorithmEnded", false),
        // The cluster's doing, and none of the container's.
        (
            with(Init, failed(), over(disrupted("EvictionByEvictionAPI", waiting()))),
            "crashed (again)",
            "Drained",
            false,
        ),
    ] {
        let job = JobFacts { supplied: false, ..job() };
        let run_state = run_state(Some(&job), Some(&pod));
        let (word, text, reason) = told(&run_state);
        assert_eq!((word.as_str(), reason), (expected, event), "{pod:?} → {run_state:?}");
        let operators = match &run_state {
            RunState::Failed(failure) => {
                assert!(!text.contains("mesh"), "{text}");
                failure.detail.clone()
            }
            _ => text,
        };
        if by_name {
            assert!(operators.contains("'mesh' (mesh:1)"), "{operators}");
        }
        if reason == "InjectedContainerFailed" {
            assert!(operators.contains("exited with "), "{operators}");
        }
    }
}

#[test]
fn what_a_job_says() {
    let failed = |reason: &str| JobFacts { failed: said(reason, "m"), ..job() };
    let deleted = || JobFacts { deleting: true, ..job() };
    let pulls = || PodFacts { receive: ended(0, "Completed", ""), algorithm: waits("PodInitializing"), ..pod() };
    let lately = |reason: &str| JobFacts { failed_at: at(100), ..failed(reason) };
    for (job, pod, expected, event) in [
        (None, None, "absent", ""),
        (Some(job()), None, "waits: Pod", ""),
        (Some(JobFacts { reported: true, ..job() }), Some(runs()), "reported", ""),
        (Some(deleted()), None, "crashed", "JobDeleted"),
        (Some(deleted()), Some(pulls()), "crashed", "JobDeleted"),
        (Some(deleted()), Some(PodFacts { deleting: true, ..over(runs()) }), "crashed", "JobDeleted"),
        (Some(failed("BackoffLimitExceeded")), None, "crashed", "Stopped"),
        (Some(failed("DeadlineExceeded")), None, "crashed", "TimedOut"),
        (Some(failed("PodFailurePolicy")), None, "crashed (disrupted)", "Disrupted"),
        (Some(JobFacts { supplied: false, ..failed("PodFailurePolicy") }), None, "crashed (again)", "Disrupted"),
        (Some(failed("DeadlineExceeded")), Some(PodFacts { deleting: true, ..over(runs()) }), "crashed", "TimedOut"),
        (Some(failed("BackoffLimitExceeded")), Some(over(evicted("m", runs()))), "crashed (disrupted)", "Evicted"),
        // What its pod has to say of it is on its way.
        (Some(lately("BackoffLimitExceeded")), None, "ending: crashed", "Stopped"),
        (Some(lately("BackoffLimitExceeded")), Some(pod()), "ending: crashed", "Stopped"),
        (Some(lately("PodFailurePolicy")), Some(runs()), "ending: crashed (disrupted)", "Disrupted"),
        (Some(lately("PodFailurePolicy")), Some(gone(runs())), "crashed (disrupted)", "Disrupted"),
        (Some(lately("BackoffLimitExceeded")), Some(gone(runs())), "crashed", "PodDeleted"),
        (Some(lately("DeadlineExceeded")), Some(runs()), "crashed", "TimedOut"),
    ] {
        let run_state = run_state(job.as_ref(), pod.as_ref());
        let (word, _, reason) = told(&run_state);
        assert_eq!((word.as_str(), reason), (expected, event), "{job:?} {pod:?} → {run_state:?}");
    }
}

/// A machine that was restarted says nothing of the containers of a pod that it does not take back.
#[test]
fn a_pod_that_is_refused_may_have_been_running() {
    let refused = PodFacts { reason: said("NodeAffinity", "m"), over: true, ..pod() };
    for (supplied, expected) in [(false, "crashed (again)"), (true, "crashed (disrupted)")] {
        let run_state = run_state(Some(&JobFacts { supplied, ..job() }), Some(&refused));
        assert_eq!(told(&run_state).0, expected);
    }
}

#[test]
fn an_output_that_can_be_had_outweighs_everything_else() {
    for job in [JobFacts { deleting: true, ..job() }, JobFacts { failed: said("", ""), ..job() }] {
        assert_eq!(told(&run_state(Some(&job), Some(&done(0, "Completed")))).0, "ended");
    }
}

#[test]
fn launches_and_executions_are_counted() {
    let disruption = |job: &JobFacts, pod: &PodFacts| match run_state(Some(job), Some(pod)) {
        RunState::Failed(failure) => failure.disruption.map(|d| (d.attempt, d.executions)),
        other => panic!("{other:?}"),
    };
    let third = JobFacts { attempt: 3, executions: 1, ..job() };
    assert_eq!(disruption(&third, &over(evicted("m", runs()))), Some((3, 2)));
    let waiting = PodFacts { receive: waits("PodInitializing"), ..pod() };
    assert_eq!(disruption(&third, &over(evicted("m", waiting))), Some((3, 1)));
}

#[test]
fn the_last_word_of_a_machine_is_waited_for() {
    for (reason, expected) in [("DeletionByTaintManager", at(170)), ("EvictionByEvictionAPI", at(710))] {
        match run_state(Some(&job()), Some(&disrupted(reason, runs()))) {
            RunState::Terminating { until, .. } => assert_eq!(until, expected),
            other => panic!("{other:?}"),
        }
        match run_state(Some(&job()), Some(&disrupted(reason, done(0, "Completed")))) {
            RunState::TerminatingWithOutput { until, .. } => assert_eq!(until, expected),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_this_node_has_stopped_ends_for_that_reason() {
    use sextant_core::stop_note::StopNote;
    let failure = Failure::new(RunStatus::Killed, "The run was killed at a user's request.", "x").started(true);
    let stopped = JobFacts { stopped: Some(Box::new(StopNote::new(&failure))), ..job() };
    let timed_out = JobFacts { failed: said("DeadlineExceeded", ""), ..stopped.clone() };
    // However its pod takes it, and also when another process of the node looks.
    for pod in [None, Some(runs()), Some(done(0, "Completed")), Some(done(143, "Error")), Some(over(runs()))] {
        for job in [&stopped, &timed_out] {
            let RunState::Failed(failure) = run_state(Some(job), pod.as_ref()) else { panic!("{pod:?}") };
            assert_eq!(
                (failure.status, failure.message.as_str(), failure.started, failure.disruption),
                (RunStatus::Killed, "The run was killed at a user's request.", true, None)
            );
        }
    }
    let reported = JobFacts { reported: true, ..stopped };
    assert_eq!(run_state(Some(&reported), None), RunState::Released);
}
