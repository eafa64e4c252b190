//! Creates the Jobs of runs, recreates those that the cluster disrupted, and marks those that have been reported.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::Job;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use printable::excerpt;
use serde_json::json;
use sextant_core::assignment::Assignment;
use sextant_core::run_state::{Disruption, Failure};
use sextant_core::runtime::{LaunchError, RuntimeError};
use tracing::{info, warn};
use vantage6_types::RunStatus;

use super::cluster::{error_chain, status_code, with_timeout};
use super::lingering::End;
use super::{Kubernetes, secrets, services};
use crate::decisions::facts::JobFacts;
use crate::decisions::labels;
use crate::decisions::refusal::{Refusal, forbidden, is_missing_right, larger_than_quota, meaning};
use sextant_core::stop_note::StopNote;

/// The mark of a Job whose run was relaunched: it is never reported itself.
const AGAIN: &str = "launched again";

impl Kubernetes {
    /// Creates the Job and the Secret of a launch, or finds those of an earlier attempt.
    pub(super) async fn launch_as(&self, assignment: &Assignment, before: Disruption) -> Result<(), LaunchError> {
        let environment = self.environment(assignment).map_err(LaunchError::Failed)?;
        let known = self.job_of(assignment).filter(|job| !job.deleting && job.attempt == before.attempt + 1);
        let facts = match known {
            Some(facts) => facts,
            None => {
                let services = services::look_up(&self.client, &self.settings).await?;
                self.create(&self.plan(assignment, &environment, &services, before), assignment).await?
            }
        };
        self.supply(facts, environment, assignment).await
    }

    /// Makes what is missing of a launch whose Job there is.
    pub(super) async fn complete(&self, assignment: &Assignment) -> Result<(), LaunchError> {
        let environment = self.environment(assignment).map_err(LaunchError::Failed)?;
        let known = self.job_of(assignment).filter(|job| !job.deleting);
        let facts = known.ok_or_else(|| LaunchError::Later("the run's Job is not there any more".to_owned()))?;
        self.supply(facts, environment, assignment).await
    }

    /// Makes the Secret of a launch.
    async fn supply(
        &self,
        facts: JobFacts,
        environment: BTreeMap<String, String>,
        assignment: &Assignment,
    ) -> Result<(), LaunchError> {
        if facts.reported {
            return Err(LaunchError::Later(format!("the Job '{}' has been reported already", facts.name)));
        }
        self.run_index.launched(facts.clone());
        // The pod can't start without the Secret.
        let made = secrets::of_run(&self.secrets, &self.identity, &self.secret, &facts, environment).await;
        match made.map_err(|error| refused("Secret", &error, &assignment.image))? {
            true => Ok(()),
            false => {
                Err(LaunchError::Later(format!("the Secret of an older Job '{}' is still being deleted", facts.name)))
            }
        }
    }

    /// Creates the Job, or finds the one of an earlier attempt.
    async fn create(&self, job: &Job, assignment: &Assignment) -> Result<JobFacts, LaunchError> {
        let name = job.metadata.name.as_deref().unwrap_or_default();
        let (made, found) = match with_timeout(self.jobs.create(&PostParams::default(), job)).await {
            Err(error) if status_code(&error) == Some(409) => (with_timeout(self.jobs.get(name)).await, true),
            result => (result, false),
        };
        let job = made.map_err(|error| refused("Job", &error, &assignment.image))?;
        let mut facts = JobFacts::read(&job)
            .filter(|_| !labels::is_of_another_release(job.labels(), self.identity.release()))
            .ok_or_else(|| LaunchError::Later(format!("the Job '{name}' exists, but is not one of ours")))?;
        facts.supplied = found;
        if facts.deleting {
            return Err(LaunchError::Later(format!("an older Job '{name}' is still being deleted")));
        }
        if !facts.is_of(&self.identity, assignment) {
            return Err(LaunchError::Later(format!("the Job '{name}' belongs to another run with this id")));
        }
        Ok(facts)
    }

    /// Creates a new Job for a run, and only then marks the disrupted one. A node that is killed in between finds both, and continues
    /// with the newer one.
    pub(super) async fn launch_again(&self, assignment: &Assignment, disrupted: Disruption) -> Result<(), LaunchError> {
        // Earlier versions named Jobs differently.
        let old = self.job_of(assignment).filter(|job| job.attempt == disrupted.attempt);
        let old = old.map_or_else(|| self.identity.attempt_name(assignment, disrupted.attempt), |job| job.name);
        self.launch_as(assignment, disrupted).await?;
        info!(run = %assignment.run, "Run is launched again as {}", self.identity.attempt_name(assignment, disrupted.attempt + 1));
        if let Err(error) = self.mark(&old, None, AGAIN, End::Now).await {
            warn!(run = %assignment.run, "Could not mark the Job '{old}' as reported: {error}; it is marked with the run's report");
        }
        Ok(())
    }

    /// Marks the Jobs of a run's earlier launches that still exist.
    pub(super) async fn mark_earlier(&self, job: &JobFacts) -> Result<(), RuntimeError> {
        let Some(first) = job.name.strip_suffix(&format!("-{}", job.attempt)) else { return Ok(()) };
        for attempt in 1..job.attempt {
            let name = if attempt == 1 { first.to_owned() } else { format!("{first}-{attempt}") };
            self.mark(&name, None, AGAIN, End::Now).await?;
        }
        Ok(())
    }

    /// Marks a Job, sets the end of its pod, and lets Kubernetes delete it after `keep_finished`.
    pub(super) async fn mark(&self, name: &str, uid: Option<&str>, mark: &str, end: End) -> Result<(), RuntimeError> {
        let mut marked = end.patch();
        marked["metadata"]["uid"] = json!(uid);
        marked["metadata"]["annotations"][labels::REPORTED] = json!(excerpt(mark));
        let keep = i32::try_from(self.settings.keep_finished.as_secs()).unwrap_or(i32::MAX);
        marked["spec"]["ttlSecondsAfterFinished"] = json!(keep);
        patch(&self.jobs, name, marked).await
    }

    /// Ends a Job's pod at once, and records the reason in the Job, because the next process may have to send the report.
    pub(super) async fn end(&self, job: &JobFacts, why: &Failure) -> Result<(), RuntimeError> {
        let note = serde_json::to_string(&StopNote::new(why)).map_err(|error| RuntimeError(error.to_string()))?;
        let ending = json!({
            "metadata": { "uid": job.uid, "annotations": { (labels::STOPPED): note } },
            "spec": { "activeDeadlineSeconds": 1 },
        });
        patch(&self.jobs, &job.name, ending).await
    }
}

/// Patches a Job. A Job that is gone, or was replaced by another with its name, is not changed.
#[expect(clippy::disallowed_types, reason = "made here, to be sent")]
pub(super) async fn patch(jobs: &Api<Job>, name: &str, patch: serde_json::Value) -> Result<(), RuntimeError> {
    match with_timeout(jobs.patch(name, &PatchParams::default(), &Patch::Merge(patch))).await {
        Ok(_) => Ok(()),
        Err(error) if status_code(&error) == Some(404) => Ok(()),
        Err(error) if status_code(&error) == Some(409) && error_chain(&error).to_lowercase().contains("uid") => Ok(()),
        Err(error) => Err(RuntimeError(error_chain(&error))),
    }
}

/// What the API server's refusal of a Job or Secret means for a run of this image.
fn refused(kind: &str, error: &kube::Error, image: &str) -> LaunchError {
    let said = error_chain(error);
    let says = |words: &str| said.contains(words);
    let detail = format!("the API server refused the run's {kind}: {said}");
    let failed = |why: &str| LaunchError::Failed(Failure::new(RunStatus::StartFailed, why, detail.clone()));
    let full = |why: &str, reason| {
        LaunchError::Full(Failure::new(RunStatus::StartFailed, why, detail.clone()).because(reason))
    };
    let later = || LaunchError::Later(format!("the {kind} could not be created: {said}"));
    match (status_code(error), meaning(&said)) {
        (Some(413), _) => failed("The task's parameters for its databases are too large."),
        _ if says("request is too large") || (kind == "Secret" && says("Too long")) => {
            failed("The task's parameters for its databases are too large.")
        }
        // The quota has room again when other runs have ended.
        (Some(403), Refusal::QuotaFull) => {
            full("Other runs left no room for this one in time: the node has a quota.", "QuotaExceeded")
        }
        (Some(403), Refusal::LargerThanQuota) => LaunchError::Failed(larger_than_quota(&detail)),
        (Some(403), _) if says("being terminated") => {
            full("The node's namespace in the cluster is being deleted.", "NamespaceTerminating")
        }
        (Some(404), _) => full("The node's namespace in the cluster does not exist any more.", "NamespaceMissing"),
        // A permission that the node had at startup is missing: an operator is changing its Role, or recreating the namespace. Each attempt
        // is logged for the operator.
        (Some(403), _) if is_missing_right(&said) => later(),
        // A policy or webhook may answer with any code.
        (Some(400..=499), Refusal::Forbidden) => LaunchError::Failed(forbidden(&detail, image)),
        // Never acceptable: an invalid image name, for example, or an invalid volume.
        (Some(400 | 422), _) => failed("The cluster did not accept the run's Job. The node's log says why."),
        _ => later(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(code: u16, message: &str) -> &'static str {
        let status =
            serde_json::from_value(json!({"status": "Failure", "message": message, "reason": "", "code": code}));
        match refused("Job", &kube::Error::Api(Box::new(status.unwrap())), "i") {
            LaunchError::Failed(failure) => failure.reason,
            LaunchError::Full(failure) => failure.reason,
            LaunchError::Later(_) => "later",
        }
    }

    #[test]
    fn what_a_refusal_means() {
        for (code, message, expected) in [
            (403, "jobs.batch \"x\" is forbidden: exceeded quota: q, requested: count/jobs.batch=1", "QuotaExceeded"),
            (
                403,
                "unable to create new content in namespace v6-jobs because it is being terminated",
                "NamespaceTerminating",
            ),
            (404, "namespaces \"v6-jobs\" not found", "NamespaceMissing"),
            (403, "admission webhook \"a.b\" denied the request: no", "Forbidden"),
            (400, "admission webhook \"a.b\" denied the request: no", "Forbidden"),
            (422, "ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no", "Forbidden"),
            (422, "Job.batch \"x\" is invalid: spec.template: wrong", "Forbidden"),
            (400, "Job in version \"v1\" cannot be handled", "StartFailed"),
            (413, "too large", "StartFailed"),
            (403, "jobs.batch is forbidden: User \"sextant\" cannot create resource \"jobs\"", "later"),
            (403, "jobs.batch \"x\" is forbidden: some plugin says no", "Forbidden"),
            (403, "jobs.batch \"x\" is forbidden: not yet ready to handle request", "later"),
            (403, "jobs.batch \"x\" is forbidden: status unknown for quota: q, resources: count/jobs.batch", "later"),
            (500, "failed calling webhook \"a.b\": connection refused", "later"),
            (429, "too many requests", "later"),
        ] {
            assert_eq!(told(code, message), expected, "{message}");
        }
    }
}
