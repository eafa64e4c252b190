//! What the cluster complains of about a run that does not start: a pod that may not be made, a volume that is not there.
//! It stands nowhere but in events.

use k8s_openapi::api::core::v1::Event;
use kube::Api;
use kube::api::ListParams;

use super::cluster::bounded;

/// The newest complaint about a Job and its pod: reason and message. `None` when there is none, or it can't be read.
pub async fn complaints(api: &Api<Event>, job: &str, pod: Option<&str>) -> Option<String> {
    let mut found = Vec::new();
    for name in [Some(job), pod].into_iter().flatten() {
        let of_it = ListParams::default().fields(&format!("involvedObject.name={name},type=Warning")).limit(50);
        found.extend(bounded(api.list(&of_it)).await.ok()?.items);
    }
    let newest = found.into_iter().max_by_key(|event| {
        let series = event.series.as_ref().and_then(|series| series.last_observed_time.as_ref().map(|time| time.0));
        let last = event.last_timestamp.as_ref().map(|time| time.0);
        series.or(last).or(event.event_time.as_ref().map(|time| time.0))
    })?;
    Some(format!("{}: {}", newest.reason.unwrap_or_default(), newest.message.unwrap_or_default()))
}
