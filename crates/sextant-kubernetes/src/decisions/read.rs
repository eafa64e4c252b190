//! How Kubernetes's words are read: one function from the facts of Job and pod to a [`Situation`]. Its tests have all
//! states in one table; docs/STATES.md has it for people.

use jiff::{SignedDuration, Timestamp};
use sextant_core::situation::{Exit, Failure, Situation, Starting, WaitsFor};
use vantage6_types::RunStatus;

use super::facts::{Container, End, JobFacts, PodFacts};
use super::loss::{Loss, Progress};

/// How long the word of a machine that the cluster has given up is waited for, after its pod should have ended.
const SILENCE: SignedDuration = SignedDuration::from_secs(60);
/// The same of another machine: it ends no pod while it pulls an image for it.
const BUSY: SignedDuration = SignedDuration::from_mins(10);
/// How long the one of two watches may be behind the other, that of the Jobs and that of the pods.
const BEHIND: SignedDuration = SignedDuration::from_secs(60);

/// Reads the facts of a run's Job and pod. One without the other happens in the moments between: a Job whose
/// pod does not exist yet, a pod whose Job was deleted.
pub fn situation(job: Option<&JobFacts>, pod: Option<&PodFacts>) -> Situation {
    let Some(job) = job else {
        return Situation::Absent;
    };
    if job.reported {
        return Situation::Reported;
    }
    // What this node has stopped itself ends for that reason, however its pod takes it.
    if let Some(stop) = &job.stopped {
        return Situation::Failed(stop.failure());
    }
    if let Some(pod) = pod
        && let Some(situation) = of_end(job, pod)
    {
        return situation;
    }
    let lost = |loss: Loss| loss.failure(job, pod, progress(job, pod), None);
    let taken_away = job.failed_by("PodFailurePolicy");
    match (&job.failed, pod) {
        _ if job.deleting => Situation::Failed(lost(Loss::JobDeleted)),
        _ if job.failed_by("DeadlineExceeded") => Situation::Failed(lost(Loss::TimedOut)),
        (Some(_), None) if taken_away => Situation::Failed(lost(Loss::TakenAway)),
        // Why, its pod says: the news of that are on their way.
        (Some(_), _) => {
            let failure = lost(if taken_away { Loss::TakenAway } else { Loss::Stopped });
            match job.failed_at.and_then(|failed| failed.checked_add(BEHIND).ok()) {
                Some(until) => Situation::Ending { until: Some(until), failure },
                None => Situation::Failed(failure),
            }
        }
        (None, Some(pod)) => of_life(pod),
        (None, None) => starting(job.created, WaitsFor::Pod, "the pod is being made"),
    }
}

/// What a pod tells of its end; `None` when it is on its way.
fn of_end(job: &JobFacts, pod: &PodFacts) -> Option<Situation> {
    let failed = |loss: Loss, progress, note: Option<&str>| {
        Some(Situation::Failed(loss.failure(job, Some(pod), progress, note)))
    };
    // What the algorithm did comes first: an algorithm that has ended has an output, as long as `return` can bring it.
    if let Container::Ended(end) = &pod.algorithm
        && !pod.algorithm.was_lost()
        && ended_by_itself(pod, end)
    {
        if !end.started {
            return Some(start_failed(end));
        }
        let exit = exit(end, pod);
        let loss = Loss::of(job, pod);
        return if pod.over || matches!(pod.returns, Container::Ended(_)) {
            failed(loss, Progress::Ended, exit.note.as_deref())
        } else if pod.told_to_end() {
            let failure = loss.failure(job, Some(pod), Progress::Ended, exit.note.as_deref());
            Some(Situation::Leaving { exit, until: last_word(pod, loss), failure })
        } else {
            Some(Situation::Ended(exit))
        };
    }
    if let Container::Ended(end) = &pod.receive
        && end.code != 0
        && !pod.told_to_end()
        && !pod.receive.was_lost()
    {
        return Some(receive_failed(end));
    }
    let stopped = matches!(pod.algorithm, Container::Ended(_));
    let loss = Loss::of(job, pod);
    // Gone unseen, and nobody has said why: the Job's controller may.
    let unexplained = pod.gone.filter(|_| loss == Loss::PodDeleted && pod.told.is_none() && job.failed.is_none());
    let failure = || loss.failure(job, Some(pod), progress(job, Some(pod)), None);
    if let Some(until) = unexplained.and_then(|gone| gone.checked_add(BEHIND).ok()) {
        return Some(Situation::Ending { until: Some(until), failure: failure() });
    }
    if pod.over || (stopped && !pod.told_to_end()) {
        return failed(loss, progress(job, Some(pod)), None);
    }
    if pod.deleting || stopped {
        return Some(Situation::Ending { until: last_word(pod, loss), failure: failure() });
    }
    None
}

/// How long the machine of a pod that was told to end may take to say what became of it.
fn last_word(pod: &PodFacts, loss: Loss) -> Option<Timestamp> {
    let patience = if loss == Loss::Machine { SILENCE } else { BUSY };
    pod.ends_at.or(pod.told).and_then(|ends| ends.checked_add(patience).ok())
}

/// What a pod tells that is on its way.
fn of_life(pod: &PodFacts) -> Situation {
    if !pod.scheduled {
        let detail = pod.unschedulable.as_deref().unwrap_or("a machine is being found for it");
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
        (_, Container::Running { since }) => Situation::Running { since: *since },
        (_, Container::Waiting { reason, message }) if is_image(reason) => {
            starting(pod.created, WaitsFor::Image, &format!("{reason}: {message}"))
        }
        // The kubelet tries again; on a loaded machine that helps.
        (_, Container::Waiting { reason, message }) if is_container(reason) => {
            starting(pod.created, WaitsFor::Container, &format!("{reason}: {message}"))
        }
        (Container::Ended(end), _) => starting(end.at.or(since_scheduled), WaitsFor::Pull, "its image is being pulled"),
        (Container::Running { since }, _) => {
            starting(*since, WaitsFor::Supplies, "its pod fetches input and token from this node")
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

fn starting(since: Option<Timestamp>, waits_for: WaitsFor, detail: &str) -> Situation {
    Situation::Starting(Starting { since, waits_for, detail: detail.to_owned() })
}

/// Words of a container that waits for an image.
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

/// Words of a container that could not be started.
fn is_container(reason: &str) -> bool {
    matches!(reason, "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" | "PreCreateHookError")
}

/// Whether an algorithm ended of its own accord, and not because its pod was told to end.
fn ended_by_itself(pod: &PodFacts, end: &End) -> bool {
    let earlier = matches!((end.at, pod.told), (Some(end), Some(told)) if end < told);
    !pod.told_to_end() || end.code == 0 || end.reason == "OOMKilled" || earlier
}

/// How far a run was when its pod was lost.
fn progress(job: &JobFacts, pod: Option<&PodFacts>) -> Progress {
    let started = match pod.map(|pod| (pod, &pod.algorithm)) {
        Some((_, Container::Running { .. })) => true,
        Some((_, Container::Ended(end))) => end.started,
        // On no machine yet.
        Some((pod, _)) if !pod.scheduled && pod.gone.is_none() => false,
        // The machine has said the last there is to say. Of a pod that it refuses it says nothing, even if it had it before it was
        // restarted itself.
        Some((pod, _))
            if pod.final_word() && (&pod.receive, &pod.algorithm) != (&Container::Unknown, &Container::Unknown) =>
        {
            false
        }
        // It may have been started unseen: by a machine that was lost, or while this node was away.
        _ => job.supplied,
    };
    if started { Progress::Running } else { Progress::Starting }
}

fn receive_failed(end: &End) -> Situation {
    // What `receive` says is for the researcher; what the container's runtime says of it is not.
    let said = if end.started { end.message.trim() } else { "" };
    let said = if said.is_empty() { "its input could not be delivered." } else { said };
    let detail = format!("receive exited with {} ({}): {}", end.code, end.reason, end.message);
    let reason = if said.contains("No space left") { "DiskFull" } else { "ReceiveFailed" };
    Situation::Failed(
        Failure::new(RunStatus::StartFailed, format!("The algorithm was not started: {said}"), detail).because(reason),
    )
}

fn start_failed(end: &End) -> Situation {
    let message = sextant_core::image::bad_command(&end.message)
        .unwrap_or_else(|| "The algorithm's container could not be started. The node's log says why.".into());
    let detail = format!("{} ({}): {}", end.reason, end.code, end.message);
    Situation::Failed(Failure::new(RunStatus::StartFailed, message, detail).because("ContainerNotStarted"))
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
