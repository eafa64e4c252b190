//! Whether a run is let in: by the policies of the node's owner, and by its input as far as it is at hand.

use vantage6::{Error, Run, RunStatus};

use super::{Context, report};
use crate::core::image;
use crate::core::policy::{self, Initiator, needs_organization_name};
use crate::core::situation::Failure;

/// Whether the run is let in; the inner error is what to report of it. `bad_input` says why its input can't be read.
///
/// # Errors
/// One of the server, which tells nothing of the run: to be tried again.
pub async fn admit(context: &Context, run: &Run, bad_input: Option<&str>) -> Result<Result<(), Failure>, Error> {
    let policies = &context.config.policies;
    let task = &run.task;
    // Before the policies: no list can mean a name that no image has.
    if let Err(failure) = image::named(&task.image) {
        return Ok(Err(failure));
    }
    let organization_name = if needs_organization_name(policies) {
        match context.client.organization(task.init_org).await {
            Ok(organization) => Some(organization.name),
            // An organization that this node may not look at is none that its owner has named.
            Err(error) if matches!(error.own_status(), Some(401 | 403 | 404)) => None,
            Err(error) => return Err(error),
        }
    } else {
        None
    };
    let initiator = Initiator { user: task.init_user, organization: Some(task.init_org), organization_name };
    if let Err(refusal) = policy::admit(policies, &task.image, &initiator) {
        return Ok(Err(failure(RunStatus::NotAllowed, refusal.to_string())));
    }
    // Better known now than after hours of work.
    if let Err(why) = context.recipients.of(task.init_org).await? {
        return Ok(Err(failure(RunStatus::Failed, report::not_encryptable(&why))));
    }
    Ok(readable(run, bad_input))
}

/// Whether the run's input can be read, as far as it is at hand.
///
/// # Errors
/// What to report of it.
pub fn readable(run: &Run, bad_input: Option<&str>) -> Result<(), Failure> {
    if run.blob_storage_used == Some(true) {
        let why = "This server keeps inputs in a blob store, which this node does not support.";
        return Err(failure(RunStatus::StartFailed, why.into()));
    }
    match bad_input {
        Some(error) => Err(failure(RunStatus::StartFailed, format!("The task's input can't be read: {error}."))),
        None => Ok(()),
    }
}

fn failure(status: RunStatus, message: String) -> Failure {
    Failure::new(status, message, "before anything was launched")
}
