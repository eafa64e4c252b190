//! Where a run stands on its runtime, and how Kubernetes's words are read as that: one function from the
//! facts of Job and pod to a [`Situation`].

use std::time::Duration;

use jiff::Timestamp;
use vantage6::RunStatus;

use super::facts::{Container, End, JobFacts, PodFacts};

/// Where a run stands on its runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Situation {
    /// The runtime has nothing of it.
    Absent,
    /// It was launched and its algorithm does not run yet.
    Starting(Starting),
    /// Its algorithm runs.
    Running {
        /// Since when, if the runtime says.
        since: Option<Timestamp>,
    },
    /// Its algorithm has ended by itself, and what it wrote can be collected.
    Ended(Exit),
    /// It ended without an output that could be collected.
    Failed(Failure),
    /// The server has its report already; nothing is left to be done but to let it go.
    Reported,
}

/// What a run that does not run yet waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Starting {
    /// Since when.
    pub since: Option<Timestamp>,
    /// What for.
    pub waits_for: WaitsFor,
    /// In words, for people.
    pub detail: String,
}

/// What a run that does not run yet waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitsFor {
    /// A machine, a volume, our own containers.
    Pod,
    /// The algorithm's image, whose pull has failed so far.
    Image,
    /// The algorithm's container, which could not be started so far.
    Container,
}

/// How an algorithm ended by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// The exit code.
    pub code: i32,
    /// More about it where there is more to say than the code, for the researcher.
    pub note: Option<String>,
}

/// Why there is no output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// vantage6's word.
    pub status: RunStatus,
    /// For the researcher: no paths, addresses or secrets of the organization.
    pub message: String,
    /// For the operator: what Kubernetes said.
    pub detail: String,
    /// Whether the algorithm had started, so that there may be a log of it.
    pub started: bool,
}

/// How long a run may wait, as the node's owner set it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// For a machine, a volume, our own containers.
    pub pending: Duration,
    /// For an image whose pull fails.
    pub image_pull: Duration,
    /// For the algorithm to end.
    pub deadline: Duration,
}

/// Reads the facts of a run's Job and pod. One without the other happens in the moments between: a Job whose
/// pod does not exist yet, a pod whose Job was deleted.
pub fn situation(job: Option<&JobFacts>, pod: Option<&PodFacts>) -> Situation {
    let Some(job) = job else {
        return Situation::Absent;
    };
    if job.reported {
        return Situation::Reported;
    }
    if let Some(pod) = pod
        && let Some(situation) = of_pod(pod)
    {
        return situation;
    }
    if job.deleting {
        return lost("The run's Job was deleted from the cluster.", "the Job has a deletion timestamp", started(pod));
    }
    if let Some((reason, message)) = &job.failed {
        let detail = format!("the Job failed: {reason}: {message}");
        return lost("The run was stopped in the cluster before it ended.", &detail, started(pod));
    }
    let since = pod.map_or(job.created, |pod| pod.created);
    waiting(since, WaitsFor::Pod, pod)
}

/// What the pod alone tells; `None` when it is on its way.
fn of_pod(pod: &PodFacts) -> Option<Situation> {
    // What the algorithm did comes first: an algorithm that has ended has an output, as long as `return` can bring it.
    if let Container::Ended(end) = &pod.algorithm {
        // The kubelet says ContainerStatusUnknown of a container that it found gone.
        let known = end.reason != "ContainerStatusUnknown";
        let returns = !matches!(pod.returns, Container::Ended(_)) && !pod.over;
        return Some(match (end.started, &pod.reason) {
            (true, _) if known && returns => Situation::Ended(exit(end)),
            (true, _) | (false, Some(_)) => lost_output(pod, end, known),
            (false, None) => start_failed(end),
        });
    }
    if let Some((reason, message)) = &pod.reason {
        let text = format!("The run's pod was stopped by the cluster ({reason}) before the algorithm ended.");
        return Some(lost(&text, &format!("{reason}: {message}"), started(Some(pod))));
    }
    if let Container::Ended(end) = &pod.receive
        && end.code != 0
    {
        return Some(Situation::Failed(Failure {
            status: RunStatus::StartFailed,
            // What `receive` says is for the researcher; what the container's runtime says of it is not.
            message: format!(
                "The algorithm was not started: {}",
                or(if end.started { &end.message } else { "" }, "its input could not be delivered.")
            ),
            detail: format!("receive exited with {} ({}): {}", end.code, end.reason, end.message),
            started: false,
        }));
    }
    if pod.deleting || pod.over {
        let text = "The run's pod was deleted from the cluster before the algorithm ended.";
        return Some(lost(text, "the pod was deleted", started(Some(pod))));
    }
    match &pod.algorithm {
        Container::Running { since } => Some(Situation::Running { since: *since }),
        Container::Waiting { reason, message } => of_waiting_algorithm(pod, reason, message),
        Container::Unknown | Container::Ended(_) => None,
    }
}

/// What a waiting algorithm container waits for; `None` when it is on its way.
fn of_waiting_algorithm(pod: &PodFacts, reason: &str, message: &str) -> Option<Situation> {
    match reason {
        "ErrImagePull" | "ImagePullBackOff" | "RegistryUnavailable" | "InvalidImageName" | "ErrImageNeverPull" => {
            Some(Situation::Starting(Starting {
                since: pod.created,
                waits_for: WaitsFor::Image,
                detail: format!("{reason}: {message}"),
            }))
        }
        // The kubelet tries again; on a loaded machine that helps.
        "CreateContainerError" | "RunContainerError" => Some(Situation::Starting(Starting {
            since: pod.created,
            waits_for: WaitsFor::Container,
            detail: format!("{reason}: {message}"),
        })),
        _ => None,
    }
}

fn start_failed(end: &End) -> Situation {
    // What is wrong with the command is the image's business; other words of the runtime may tell paths of the machine.
    let command = end.message.find("exec: \"").map(|start| &end.message[start..]);
    Situation::Failed(Failure {
        status: RunStatus::StartFailed,
        message: match command {
            Some(command) => format!("The algorithm's container could not be started: {}", command.trim()),
            None => "The algorithm's container could not be started. The node's log says why.".into(),
        },
        detail: format!("{} ({}): {}", end.reason, end.code, end.message),
        started: false,
    })
}

fn exit(end: &End) -> Exit {
    let note = match (end.reason.as_str(), end.code) {
        ("OOMKilled", _) => Some("The algorithm used more memory than its limit and was killed.".to_owned()),
        (_, 0) => None,
        (_, code @ 129..=192) => Some(format!("The algorithm was killed by signal {}.", code - 128)),
        (_, code) => Some(format!("The algorithm ended with exit code {code}.")),
    };
    Exit { code: end.code, note }
}

/// The algorithm ended, but its output can't be had any more.
fn lost_output(pod: &PodFacts, end: &End, known: bool) -> Situation {
    let note = exit(end).note.filter(|_| known).map(|note| format!(" {note}")).unwrap_or_default();
    let (text, detail) = match (&pod.reason, &pod.returns) {
        (Some((reason, message)), _) => (
            format!(
                "The run's pod was stopped by the cluster ({reason}) before its output could be brought to the node."
            ),
            format!("{reason}: {message}"),
        ),
        (None, _) if !known => ("The machine lost the algorithm while it ran.".to_owned(), end.message.clone()),
        (None, returns) => (
            "The run's pod was stopped before its output could be brought to the node.".to_owned(),
            match returns {
                Container::Ended(end) => format!("return exited with {}: {}", end.code, end.message),
                _ => "the pod is over".into(),
            },
        ),
    };
    lost(&format!("{text}{note}"), &detail, true)
}

fn lost(message: &str, detail: &str, started: bool) -> Situation {
    Situation::Failed(Failure {
        status: RunStatus::Crashed,
        message: message.to_owned(),
        detail: detail.to_owned(),
        started,
    })
}

fn waiting(since: Option<Timestamp>, waits_for: WaitsFor, pod: Option<&PodFacts>) -> Situation {
    let said = |container: &Container| match container {
        Container::Waiting { reason, message } if reason != "PodInitializing" => {
            Some(format!("{reason} {message}").trim_end().to_owned())
        }
        _ => None,
    };
    let detail = match pod {
        None => "the pod is being made".to_owned(),
        Some(pod) => pod
            .unschedulable
            .clone()
            .or_else(|| said(&pod.receive))
            .or_else(|| said(&pod.algorithm))
            .or_else(|| said(&pod.returns))
            .unwrap_or_else(|| "the pod is being started".to_owned()),
    };
    Situation::Starting(Starting { since, waits_for, detail })
}

fn started(pod: Option<&PodFacts>) -> bool {
    pod.is_some_and(|pod| match &pod.algorithm {
        Container::Running { .. } => true,
        Container::Ended(end) => end.started,
        Container::Waiting { .. } | Container::Unknown => false,
    })
}

fn or<'a>(text: &'a str, otherwise: &'a str) -> &'a str {
    if text.trim().is_empty() { otherwise } else { text.trim() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::facts::sample::{job, pod};

    fn ended(code: i32, reason: &str, message: &str) -> Container {
        Container::Ended(End { code, reason: reason.into(), message: message.into(), started: reason != "StartError" })
    }

    fn waits(reason: &str) -> Container {
        Container::Waiting { reason: reason.into(), message: "because".into() }
    }

    const RUNNING: Container = Container::Running { since: None };

    /// A situation in a word and the words that its text must have.
    fn told(situation: &Situation) -> (&'static str, String) {
        match situation {
            Situation::Absent => ("absent", String::new()),
            Situation::Starting(s) if s.waits_for == WaitsFor::Image => ("image", s.detail.clone()),
            Situation::Starting(s) => ("starting", s.detail.clone()),
            Situation::Running { .. } => ("running", String::new()),
            Situation::Ended(exit) => ("ended", exit.note.clone().unwrap_or_default()),
            Situation::Failed(f) if f.status == RunStatus::StartFailed => ("start failed", f.message.clone()),
            Situation::Failed(f) if f.status == RunStatus::NoDockerImage => ("no image", f.message.clone()),
            Situation::Failed(f) => ("crashed", f.message.clone()),
            Situation::Reported => ("reported", String::new()),
        }
    }

    #[test]
    fn what_a_pod_says() {
        for (pod, expected, words) in [
            (pod(), "starting", "being started"),
            (PodFacts { unschedulable: Some("0/1 nodes: cpu".into()), ..pod() }, "starting", "0/1 nodes: cpu"),
            (PodFacts { receive: waits("CreateContainerConfigError"), ..pod() }, "starting", "ConfigError because"),
            (PodFacts { receive: RUNNING, algorithm: waits("PodInitializing"), ..pod() }, "starting", "being started"),
            (PodFacts { receive: ended(1, "Error", "The input is no base64."), ..pod() }, "start failed", "no base64"),
            (PodFacts { receive: ended(1, "Error", ""), ..pod() }, "start failed", "could not be delivered"),
            (PodFacts { algorithm: waits("ErrImagePull"), ..pod() }, "image", "because"),
            (PodFacts { algorithm: waits("ImagePullBackOff"), ..pod() }, "image", "because"),
            (PodFacts { algorithm: waits("InvalidImageName"), ..pod() }, "image", "InvalidImageName"),
            (PodFacts { algorithm: waits("ErrImageNeverPull"), ..pod() }, "image", "ErrImageNeverPull"),
            (PodFacts { algorithm: waits("CreateContainerError"), ..pod() }, "starting", "because"),
            (PodFacts { algorithm: waits("ContainerCreating"), ..pod() }, "starting", "ContainerCreating"),
            (PodFacts { algorithm: RUNNING, returns: RUNNING, ..pod() }, "running", ""),
            (PodFacts { algorithm: ended(0, "Completed", ""), returns: RUNNING, ..pod() }, "ended", ""),
            (PodFacts { algorithm: ended(3, "Error", ""), returns: RUNNING, ..pod() }, "ended", "exit code 3"),
            (PodFacts { algorithm: ended(137, "Error", ""), returns: RUNNING, ..pod() }, "ended", "signal 9"),
            (PodFacts { algorithm: ended(137, "OOMKilled", ""), returns: RUNNING, ..pod() }, "ended", "more memory"),
            (PodFacts { algorithm: ended(0, "Completed", ""), returns: waits("ErrImagePull"), ..pod() }, "ended", ""),
            (
                PodFacts { algorithm: ended(128, "StartError", "mount /x: exec: \"a\": no such file"), ..pod() },
                "start failed",
                "no such file",
            ),
            (
                PodFacts { algorithm: ended(0, "Completed", ""), returns: ended(1, "Error", "x"), ..pod() },
                "crashed",
                "before its output",
            ),
            (
                PodFacts { algorithm: RUNNING, reason: Some(("Evicted".into(), "disk".into())), ..pod() },
                "crashed",
                "Evicted",
            ),
            (
                PodFacts { algorithm: ended(137, "ContainerStatusUnknown", "x"), returns: RUNNING, ..pod() },
                "crashed",
                "lost the algorithm",
            ),
            (
                PodFacts { algorithm: ended(128, "StartError", "mount /secret/path"), ..pod() },
                "start failed",
                "node's log says why",
            ),
            (
                PodFacts {
                    algorithm: ended(137, "ContainerStatusUnknown", "x"),
                    reason: Some(("Evicted".into(), "disk".into())),
                    ..pod()
                },
                "crashed",
                "(Evicted)",
            ),
            (PodFacts { algorithm: RUNNING, deleting: true, ..pod() }, "crashed", "deleted"),
            (PodFacts { deleting: true, ..pod() }, "crashed", "deleted"),
        ] {
            let situation = situation(Some(&job()), Some(&pod));
            let (word, text) = told(&situation);
            assert_eq!(word, expected, "{pod:?} → {situation:?}");
            assert!(text.contains(words), "{pod:?} → {text}");
        }
    }

    #[test]
    fn what_a_job_without_a_pod_says() {
        let failed = JobFacts { failed: Some(("BackoffLimitExceeded".into(), "m".into())), ..job() };
        for (job, expected) in [
            (None, "absent"),
            (Some(job()), "starting"),
            (Some(JobFacts { reported: true, ..job() }), "reported"),
            (Some(JobFacts { deleting: true, ..job() }), "crashed"),
            (Some(failed), "crashed"),
        ] {
            assert_eq!(told(&situation(job.as_ref(), None)).0, expected, "{job:?}");
        }
    }

    #[test]
    fn an_output_that_can_be_had_outweighs_everything_else() {
        let pod = PodFacts { algorithm: ended(0, "Completed", ""), returns: RUNNING, ..pod() };
        for job in
            [JobFacts { deleting: true, ..job() }, JobFacts { failed: Some((String::new(), String::new())), ..job() }]
        {
            assert_eq!(told(&situation(Some(&job), Some(&pod))).0, "ended");
        }
    }
}
