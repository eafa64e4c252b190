//! Limits on how long a run may wait to start, and the failure to report when a limit has passed.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use printable::excerpt;
use vantage6_types::RunStatus;

use super::image;
use super::run_state::{Failure, Limits, Starting, WaitsFor};

/// How long a container may fail to start, since the kubelet retries.
const CONTAINER: Duration = Duration::from_secs(120);

/// When the limit for a starting run will have passed; `None` if there is no limit.
///
/// # Errors
/// If the limit has passed: the failure to report.
pub fn check_start(
    starting: &Starting,
    limits: &Limits,
    image: &str,
    now: Timestamp,
) -> Result<Option<Timestamp>, Failure> {
    let detail = &starting.detail;
    let limit = match starting.waits_for {
        WaitsFor::Image if image::image_never_comes(detail).is_some() => return Err(image::no_image(image, detail)),
        WaitsFor::Container if let Some(why) = image::bad_command(detail) => {
            return Err(start_failed(why, detail.clone(), "ContainerNotStarted"));
        }
        WaitsFor::Image | WaitsFor::OwnImage | WaitsFor::InjectedImage => limits.image_pull,
        WaitsFor::Container => CONTAINER,
        // The pod waits for the node, and the node waits for its server for as long as that is unavailable. If a server answers but returns
        // no input, the node applies a limit where it makes the request.
        WaitsFor::Inputs => return Ok(None),
        WaitsFor::Pod
        | WaitsFor::Quota
        | WaitsFor::Machine
        | WaitsFor::Volume
        | WaitsFor::OwnContainer
        | WaitsFor::Injected
        | WaitsFor::Pull => limits.pending,
    };
    deadline_passed(starting.since, limit, now).map_err(|Elapsed| start_failure(starting, image, limit))
}

/// The failure to report for a run that waited too long.
fn start_failure(starting: &Starting, image: &str, limit: Duration) -> Failure {
    let within = format_duration(limit);
    let (message, reason) = match starting.waits_for {
        WaitsFor::Image => return image::no_image(image, &starting.detail),
        WaitsFor::Pull => {
            let message = format!("The algorithm's image '{}' could not be pulled within {within}.", excerpt(image));
            return Failure::new(RunStatus::NoDockerImage, message, detail(starting, "pending_timeout"));
        }
        WaitsFor::InjectedImage => {
            return could_not_be_prepared(detail(starting, "image_pull_timeout")).because("InjectedImageUnavailable");
        }
        WaitsFor::Injected => {
            return could_not_be_prepared(detail(starting, "pending_timeout")).because("InjectedContainerNotStarted");
        }
        WaitsFor::OwnImage => {
            let message = "The node could not start its own part of the run. The node's log says why.".to_owned();
            return start_failed(message, detail(starting, "image_pull_timeout"), "OwnImageUnavailable");
        }
        WaitsFor::Container => {
            let message = "The algorithm's container could not be started. The node's log says why.".to_owned();
            return start_failed(message, starting.detail.clone(), "ContainerNotStarted");
        }
        WaitsFor::Machine => (no_machine(&starting.detail, &within), "Unschedulable"),
        WaitsFor::Quota => {
            (format!("Other runs left no room for this one within {within}: the node has a quota."), "QuotaExceeded")
        }
        WaitsFor::Volume => {
            (format!("A volume that the run needs was not available within {within}."), "VolumeUnavailable")
        }
        WaitsFor::Pod | WaitsFor::OwnContainer | WaitsFor::Inputs => {
            (format!("The run could not be started within {within}."), "PendingTooLong")
        }
    };
    start_failed(message, detail(starting, "pending_timeout"), reason)
}

fn detail(starting: &Starting, setting: &str) -> String {
    format!("{setting} passed while waiting: {}", starting.detail)
}

fn start_failed(message: String, detail: String, reason: &'static str) -> Failure {
    Failure::new(RunStatus::StartFailed, message, detail).because(reason)
}

/// Names the resources that no machine had enough of.
fn no_machine(detail: &str, within: &str) -> String {
    let mut missing: Vec<&str> = detail
        .split("Insufficient ")
        .skip(1)
        .filter_map(|rest| rest.split([',', ' ']).next())
        .map(|resource| resource_in_words(resource.trim_end_matches('.')))
        .collect();
    missing.sort_unstable();
    missing.dedup();
    if missing.is_empty() {
        format!("No machine could take the run within {within}. The node's log says why.")
    } else {
        format!("No machine had enough {} for the run within {within}.", missing.join(" and "))
    }
}

/// A Kubernetes resource in words that researchers know.
pub fn resource_in_words(resource: &str) -> &str {
    let resource = resource.rsplit('/').next().unwrap_or(resource);
    let resource = ["requests.", "limits."].iter().find_map(|side| resource.strip_prefix(side)).unwrap_or(resource);
    match resource {
        "cpu" => "processors (cpu)",
        "ephemeral-storage" => "disk space (ephemeral-storage)",
        "storage" => "disk space (storage)",
        "pods" => "room for pods",
        "gpu" => "graphics processors (gpu)",
        other => other,
    }
}

/// A deadline has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elapsed;

/// When `limit` will have passed since `since`.
///
/// # Errors
/// If it has passed already.
pub fn deadline_passed(
    since: Option<Timestamp>,
    limit: Duration,
    now: Timestamp,
) -> Result<Option<Timestamp>, Elapsed> {
    let Some(since) = since else { return Ok(None) };
    let Some(until) = SignedDuration::try_from(limit).ok().and_then(|limit| since.checked_add(limit).ok()) else {
        return Ok(None);
    };
    if now >= until { Err(Elapsed) } else { Ok(Some(until)) }
}

/// A duration in the largest unit that fits.
pub fn format_duration(duration: Duration) -> String {
    match duration.as_secs() {
        s if s >= 86_400 && s % 86_400 == 0 => format!("{} d", s / 86_400),
        s if s >= 3_600 && s % 3_600 == 0 => format!("{} h", s / 3_600),
        s if s >= 60 && s % 60 == 0 => format!("{} min", s / 60),
        s => format!("{s} s"),
    }
}

/// The failure of a pod in which a container that the cluster added has failed.
pub fn could_not_be_prepared(detail: String) -> Failure {
    let message = "The run's pod could not be prepared: a container that the node's cluster adds to it has failed. \
        The task is not the cause. The node's log says why.";
    Failure::new(RunStatus::StartFailed, message, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        pending: Duration::from_secs(3600),
        image_pull: Duration::from_secs(600),
        deadline: Duration::from_secs(86_400),
        retry_disrupted: 0,
        output: None,
    };

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn what_is_waited_for_how_long_and_what_is_said_then() {
        let cpu =
            "0/3 nodes are available: 1 Insufficient memory, 2 Insufficient cpu. preemption: 0/3 nodes are available.";
        let gpu = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu. no new claims to deallocate";
        let taint = "0/1 nodes are available: 1 node(s) had untolerated taint {a: b}.";
        let gone = "CreateContainerError: failed to generate container spec: no command specified";
        use WaitsFor::*;
        for (waits_for, detail, limit, status, reason, words) in [
            (Pod, "", Some(3600), "start failed", "PendingTooLong", "within 1 h"),
            (Quota, "exceeded quota: q", Some(3600), "start failed", "QuotaExceeded", "no room"),
            (Machine, cpu, Some(3600), "start failed", "Unschedulable", "enough memory and processors (cpu)"),
            (Machine, gpu, Some(3600), "start failed", "Unschedulable", "enough graphics processors (gpu) for the run"),
            (Machine, taint, Some(3600), "start failed", "Unschedulable", "No machine could take"),
            (Volume, "claim \"secret\" not found", Some(3600), "start failed", "VolumeUnavailable", "A volume"),
            (OwnContainer, "", Some(3600), "start failed", "PendingTooLong", "within 1 h"),
            (OwnImage, "ErrImagePull: x", Some(600), "start failed", "OwnImageUnavailable", "its own part"),
            (InjectedImage, "'mesh' (mesh:1)", Some(600), "start failed", "InjectedImageUnavailable", "be prepared"),
            (Injected, "'mesh' (mesh:1)", Some(3600), "start failed", "InjectedContainerNotStarted", "be prepared"),
            (Inputs, "", None, "", "", ""),
            (
                Pull,
                "",
                Some(3600),
                "non-existing Docker image",
                "ImageUnavailable",
                "'img' could not be pulled within 1 h",
            ),
            (Image, "i/o timeout", Some(600), "non-existing Docker image", "ImageUnavailable", "pulled in time"),
            (Image, "manifest unknown", Some(0), "non-existing Docker image", "ImageUnavailable", "does not have it"),
            (
                Image,
                "InvalidImageName: x",
                Some(0),
                "non-existing Docker image",
                "ImageUnavailable",
                "not a valid name",
            ),
            (Container, "context deadline", Some(120), "start failed", "ContainerNotStarted", "node's log"),
            (Container, gone, Some(0), "start failed", "ContainerNotStarted", "no command"),
        ] {
            let starting = Starting { since: Some(at(0)), waits_for, detail: detail.into() };
            let told = |now| check_start(&starting, &LIMITS, "img", at(now));
            let Some(limit) = limit else {
                assert_eq!(told(i64::from(u32::MAX)), Ok(None), "{waits_for:?}");
                continue;
            };
            if limit > 0 {
                assert_eq!(told(limit - 1), Ok(Some(at(limit))), "{waits_for:?}");
            }
            let failure = told(limit).unwrap_err();
            assert_eq!((failure.status.as_str(), failure.reason), (status, reason), "{waits_for:?}");
            assert!(failure.message.contains(words), "{failure:?}");
            assert!(!failure.message.contains("secret") && failure.detail.contains(detail), "{failure:?}");
        }
    }

    #[test]
    fn durations_are_told_as_people_do() {
        for (seconds, expected) in [(5, "5 s"), (60, "1 min"), (90, "90 s"), (7200, "2 h"), (604_800, "7 d")] {
            assert_eq!(format_duration(Duration::from_secs(seconds)), expected);
        }
    }
}
