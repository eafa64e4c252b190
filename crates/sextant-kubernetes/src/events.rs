//! Kubernetes Events about a run's Job and pod: those that explain why it does not start, and those that the node creates for the
//! cluster's operators.

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, Time};
use kube::Api;
use kube::api::{ListParams, PostParams};
use printable::{excerpt_of, line};
use sextant_config::Scratch;
use sextant_core::pod_issue::PodIssue;
use tracing::debug;

use super::cluster::{error_chain, with_timeout};
use crate::decisions::facts::JobFacts;
use crate::decisions::kube_events::{EventFacts, interpret};
use crate::decisions::scratch;

/// The maximum length of an Event's text in bytes (`NoteLengthLimit` in Kubernetes's validation of Events).
const TEXT: usize = 1024;
/// The reporting component of the Events that nodes create.
const COMPONENT: &str = "vantage6.ai/sextant";

/// What the newest Events about a Job, its pod and the pod's own volume say. `None` if there are none, or they can't be read.
/// `image` is the run's image.
pub async fn issue(
    api: &Api<Event>,
    job: &str,
    pod: Option<&str>,
    scratch: Option<&Scratch>,
    image: &str,
) -> Option<PodIssue> {
    let mut found = Vec::new();
    // If a pod's own volume can't be created, the Events about its claim say why.
    let claim = pod.filter(|_| scratch.is_some()).map(|pod| format!("{pod}-{}", scratch::VOLUME));
    for name in [Some(job), pod, claim.as_deref()].into_iter().flatten() {
        let of_it = ListParams::default().fields(&format!("involvedObject.name={name}")).limit(100);
        found.extend(with_timeout(api.list(&of_it)).await.ok()?.items);
    }
    // Skip Events that nodes created: they report a result and not its cause, and in a shared namespace they may come from another node.
    let others = found.into_iter().filter(|event| event.reporting_component.as_deref() != Some(COMPONENT));
    let facts = others.map(|event| {
        let series = event.series.as_ref().and_then(|series| series.last_observed_time.as_ref().map(|time| time.0));
        let last = event.last_timestamp.as_ref().map(|time| time.0);
        EventFacts {
            at: series.or(last).or(event.event_time.as_ref().map(|time| time.0)),
            warning: event.type_.as_deref() == Some("Warning"),
            reason: excerpt_of(&event.reason.unwrap_or_default(), TEXT),
            message: excerpt_of(&event.message.unwrap_or_default(), TEXT),
        }
    });
    interpret(facts, image)
}

/// Cuts a text to the maximum length of an Event.
fn beginning(text: &str) -> &str {
    let end = (0..=text.len().min(TEXT)).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
    &text[..end]
}

/// Creates an Event about a run's Job. A failure does no harm, since the node's log has the same text.
pub async fn note(api: Api<Event>, namespace: String, job: JobFacts, reason: &'static str, text: String) {
    let now = jiff::Timestamp::now();
    let event = Event {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}.", job.name)),
            namespace: Some(namespace.clone()),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            api_version: Some("batch/v1".into()),
            kind: Some("Job".into()),
            name: Some(job.name),
            namespace: Some(namespace),
            uid: Some(job.uid),
            ..ObjectReference::default()
        },
        type_: Some("Warning".into()),
        reason: Some(reason.into()),
        message: Some(beginning(&line(&text)).to_owned()),
        action: Some("Report".into()),
        source: Some(EventSource { component: Some("sextant".into()), host: None }),
        reporting_component: Some(COMPONENT.into()),
        reporting_instance: Some("sextant".into()),
        event_time: Some(MicroTime(now)),
        first_timestamp: Some(Time(now)),
        last_timestamp: Some(Time(now)),
        count: Some(1),
        ..Event::default()
    };
    if let Err(error) = with_timeout(api.create(&PostParams::default(), &event)).await {
        debug!("Could not create the Event {reason}: {}", error_chain(&error));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_by_bytes() {
        assert_eq!(beginning("short"), "short");
        assert_eq!(beginning(&"x".repeat(TEXT + 1)).len(), TEXT);
        // Two bytes each, after one of one byte.
        assert_eq!(beginning(&format!("x{}", "é".repeat(TEXT))).len(), TEXT - 1);
    }
}
