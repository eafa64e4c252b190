//! Interprets Kubernetes's status: one function maps the facts about Job and pod to a [`RunState`]. Its tests have all
//! states in one table; docs/STATES.md has the table for people.

use jiff::{SignedDuration, Timestamp};
use sextant_core::run_state::{Exit, Failure, RunState, Starting, WaitsFor};
use vantage6_types::RunStatus;

use super::disruption::{DisruptionCause, Progress};
use super::facts::{Container, End, JobFacts, PodFacts};
use super::injected::{Injected, Kind};

/// How long after its termination deadline a pod's final state may take, if the cluster has given up its machine.
const SILENCE: SignedDuration = SignedDuration::from_secs(60);
/// The same for a machine that still works: its kubelet does not end a pod while it pulls an image for it.
const BUSY: SignedDuration = SignedDuration::from_mins(10);
/// How far the watch of the Jobs may lag behind the watch of the pods, or the reverse.
const BEHIND: SignedDuration = SignedDuration::from_secs(60);

/// Interprets the facts about a run's Job and pod. For moments, one exists without the other: a Job whose pod has not been
/// created yet, or a pod whose Job was deleted.
pub fn run_state(job: Option<&JobFacts>, pod: Option<&PodFacts>) -> RunState {
    let Some(job) = job else {
        return RunState::Absent;
    };
    if job.reported {
        return RunState::Released;
    }
    // A run that this node has stopped fails for that reason, whatever its pod reports.
    if let Some(stop) = &job.stopped {
        return RunState::Failed(stop.failure());
    }
    if let Some(pod) = pod
        && let Some(run_state) = of_end(job, pod)
    {
        return run_state;
    }
    let lost = |cause: DisruptionCause| cause.failure(job, pod, progress(job, pod), None);
    let taken_away = job.failed_by("PodFailurePolicy");
    match (&job.failed, pod) {
        _ if job.deleting => RunState::Failed(lost(DisruptionCause::JobDeleted)),
        _ if job.failed_by("DeadlineExceeded") => RunState::Failed(lost(DisruptionCause::TimedOut)),
        (Some(_), None) if taken_away => RunState::Failed(lost(DisruptionCause::TakenAway)),
        // The pod has the reason, which the other watch delivers soon.
        (Some(_), _) => {
            let failure = lost(if taken_away { DisruptionCause::TakenAway } else { DisruptionCause::Stopped });
            match job.failed_at.and_then(|failed| failed.checked_add(BEHIND).ok()) {
                Some(until) => RunState::Terminating { until: Some(until), failure },
                None => RunState::Failed(failure),
            }
        }
        (None, Some(pod)) => of_life(pod),
        (None, None) => starting(job.created, WaitsFor::Pod, "the pod is being created"),
    }
}

/// The state of a pod that has ended or is ending; `None` if neither applies.
fn of_end(job: &JobFacts, pod: &PodFacts) -> Option<RunState> {
    let failed = |cause: DisruptionCause, progress, note: Option<&str>| {
        Some(RunState::Failed(cause.failure(job, Some(pod), progress, note)))
    };
    // The algorithm's result comes first: an algorithm that has finished has an output, as long as `return` can upload it.
    if let Container::Ended(end) = &pod.algorithm
        && !pod.algorithm.was_lost()
        && ended_by_itself(pod, end)
    {
        if !end.started {
            return Some(start_failed(end));
        }
        let exit = exit(end, pod);
        let cause = DisruptionCause::of(job, pod);
        return if pod.over || matches!(pod.returns, Container::Ended(_)) {
            failed(cause, Progress::Ended, exit.note.as_deref())
        } else if pod.told_to_end() {
            let failure = cause.failure(job, Some(pod), Progress::Ended, exit.note.as_deref());
            Some(RunState::TerminatingWithOutput { exit, until: last_word(pod, cause), failure })
        } else {
            Some(RunState::Ended(exit))
        };
    }
    if let Container::Ended(end) = &pod.receive
        && end.code != 0
        && !pod.told_to_end()
        && !pod.receive.was_lost()
    {
        return Some(receive_failed(end));
    }
    if !has_begun(pod)
        && !pod.told_to_end()
        && let Some((container, end)) =
            pod.injected.iter().find_map(|container| Some((container, container.has_failed()?)))
    {
        return Some(RunState::Failed(container.failure(end)));
    }
    let stopped = matches!(pod.algorithm, Container::Ended(_));
    let cause = DisruptionCause::of(job, pod);
    // The pod disappeared without a reason, which the Job controller may still record.
    let unexplained =
        pod.gone.filter(|_| cause == DisruptionCause::PodDeleted && pod.told.is_none() && job.failed.is_none());
    let failure = || cause.failure(job, Some(pod), progress(job, Some(pod)), None);
    if let Some(until) = unexplained.and_then(|gone| gone.checked_add(BEHIND).ok()) {
        return Some(RunState::Terminating { until: Some(until), failure: failure() });
    }
    if pod.over || (stopped && !pod.told_to_end()) {
        return failed(cause, progress(job, Some(pod)), None);
    }
    if pod.deleting || stopped {
        return Some(RunState::Terminating { until: last_word(pod, cause), failure: failure() });
    }
    None
}

/// Whether the machine reports that the algorithm was started.
fn has_begun(pod: &PodFacts) -> bool {
    matches!(pod.algorithm, Container::Running { .. } | Container::Ended(_))
}

/// Until when the machine of a terminating pod may report its final state.
fn last_word(pod: &PodFacts, cause: DisruptionCause) -> Option<Timestamp> {
    let patience = if cause == DisruptionCause::Machine { SILENCE } else { BUSY };
    pod.ends_at.or(pod.told).and_then(|ends| ends.checked_add(patience).ok())
}

/// The state of a pod that is starting or running.
fn of_life(pod: &PodFacts) -> RunState {
    if !pod.scheduled {
        let detail = pod.unschedulable.as_deref().unwrap_or("it is being scheduled");
        let volume = ["persistentvolumeclaim", "PersistentVolumeClaim", "persistent volumes"];
        let waits_for = if volume.iter().any(|word| detail.contains(word)) && !detail.contains("Insufficient") {
            WaitsFor::Volume
        } else {
            WaitsFor::Machine
        };
        return starting(pod.created, waits_for, detail);
    }
    let since_scheduled = pod.scheduled_at.or(pod.created);
    match (&pod.receive, &pod.algorithm) {
        (_, Container::Running { since }) => RunState::Running { since: *since },
        (_, Container::Waiting { reason, message }) if is_image(reason) => {
            starting(pod.created, WaitsFor::Image, &format!("{reason}: {message}"))
        }
        // The kubelet retries, which helps on an overloaded machine.
        (_, Container::Waiting { reason, message }) if is_container(reason) => {
            starting(pod.created, WaitsFor::Container, &format!("{reason}: {message}"))
        }
        _ if let Some(run_state) = injected_in_the_way(pod) => run_state,
        (Container::Ended(end), _) => {
            let beside = pod.injected.iter().filter(|other| other.kind == Kind::Beside);
            let beside: String =
                beside.filter_map(Injected::keeps_waiting).map(|other| format!("; beside it, {other}")).collect();
            let detail = format!("its image is being pulled{beside}");
            starting(end.at.or(since_scheduled), WaitsFor::Pull, &detail)
        }
        (Container::Running { since }, _) => {
            starting(*since, WaitsFor::Inputs, "its pod fetches input and token from this node")
        }
        (Container::Waiting { reason, message }, _) if is_image(reason) => {
            starting(pod.created, WaitsFor::OwnImage, &format!("{reason}: {message}"))
        }
        (Container::Waiting { reason, message }, _) if reason != "PodInitializing" => {
            starting(since_scheduled, WaitsFor::OwnContainer, format!("{reason} {message}").trim_end())
        }
        _ => starting(since_scheduled, WaitsFor::OwnContainer, "the pod is being started"),
    }
}

/// The state of a pod that waits for a container that the cluster has added before Sextant's containers.
fn injected_in_the_way(pod: &PodFacts) -> Option<RunState> {
    let before_ours = |container: &&Injected| container.kind != Kind::Beside;
    let (container, detail) =
        pod.injected.iter().filter(before_ours).find_map(|container| Some((container, container.keeps_waiting()?)))?;
    let waits_for = match &container.state {
        Container::Waiting { reason, .. } if is_image(reason) => WaitsFor::InjectedImage,
        _ => WaitsFor::Injected,
    };
    Some(starting(pod.scheduled_at.or(pod.created), waits_for, &detail))
}

fn starting(since: Option<Timestamp>, waits_for: WaitsFor, detail: &str) -> RunState {
    RunState::Starting(Starting { since, waits_for, detail: detail.to_owned() })
}

/// Reasons of a container that waits for its image.
fn is_image(reason: &str) -> bool {
    matches!(
        reason,
        "ErrImagePull"
            | "ImagePullBackOff"
            | "RegistryUnavailable"
            | "InvalidImageName"
            | "ErrImageNeverPull"
            | "ImageInspectError"
            | "SignatureValidationFailed"
    )
}

/// Reasons of a container that could not be started.
fn is_container(reason: &str) -> bool {
    matches!(reason, "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" | "PreCreateHookError")
}

/// Whether the algorithm ended by itself, and not because its pod was terminated.
fn ended_by_itself(pod: &PodFacts, end: &End) -> bool {
    let earlier = matches!((end.at, pod.told), (Some(end), Some(told)) if end < told);
    !pod.told_to_end() || end.code == 0 || end.reason == "OOMKilled" || earlier
}

/// How far the run was when its pod was lost.
fn progress(job: &JobFacts, pod: Option<&PodFacts>) -> Progress {
    let started = match pod.map(|pod| (pod, &pod.algorithm)) {
        Some((_, Container::Running { .. })) => true,
        Some((_, Container::Ended(end))) => end.started,
        // The pod has no machine yet.
        Some((pod, _)) if !pod.scheduled && pod.gone.is_none() => false,
        // The machine has reported the final state, so the algorithm did not start. If it reports no container, that is not certain: a
        // kubelet that rejects a pod reports none, even if it ran the pod before its own restart.
        Some((pod, _))
            if pod.final_word() && (&pod.receive, &pod.algorithm) != (&Container::Unknown, &Container::Unknown) =>
        {
            false
        }
        // The algorithm may have started unseen: on a lost machine, or while this node was not running.
        _ => job.supplied,
    };
    if started { Progress::Running } else { Progress::Starting }
}

fn receive_failed(end: &End) -> RunState {
    // The message of `receive` is for the researcher; a message from the container runtime is not.
    let said = if end.started { end.message.trim() } else { "" };
    let said = if said.is_empty() { "its input could not be delivered." } else { said };
    let detail = format!("receive exited with {} ({}): {}", end.code, end.reason, end.message);
    let reason = if said.contains("No space left") { "DiskFull" } else { "ReceiveFailed" };
    RunState::Failed(
        Failure::new(RunStatus::StartFailed, format!("The algorithm was not started: {said}"), detail).because(reason),
    )
}

fn start_failed(end: &End) -> RunState {
    let message = sextant_core::image::bad_command(&end.message)
        .unwrap_or_else(|| "The algorithm's container could not be started. The node's log says why.".into());
    let detail = format!("{} ({}): {}", end.reason, end.code, end.message);
    RunState::Failed(Failure::new(RunStatus::StartFailed, message, detail).because("ContainerNotStarted"))
}

fn exit(end: &End, pod: &PodFacts) -> Exit {
    if end.reason != "OOMKilled" {
        return Exit::with_code(end.code);
    }
    let limit = pod.memory_limit.as_ref().map(|limit| format!(" ({limit})")).unwrap_or_default();
    let note = format!("The algorithm used more memory than its limit{limit} and was killed.");
    Exit { code: end.code, note: Some(note), reason: "OutOfMemory" }
}

#[cfg(test)]
mod tests;
