//! Decides whether to admit a run, by the node owner's policies and, if available, the run's input.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use sextant_core::hub::{HubError, HubErrorKind, Run, Task};
use sextant_core::image_reference::Digest;
use sextant_core::policy::{self, Initiator, Origin, needs_organization_name, needs_origin};
use sextant_core::run_state::Failure;
use sextant_core::{environment, image};
use vantage6_types::{OrganizationId, RunStatus};

use super::database_parameters::Databases;
use super::image_check::{ImageCheck, check_image};
use super::origins::Lineage;
use super::{Context, report};

/// The decision about a run, from the node's policies and the run's own data.
#[derive(Debug)]
pub enum Admission {
    /// Contains the image's digest if the decision depends on it.
    Admitted(Option<Digest>),
    /// Contains the failure to report.
    Refused(Failure),
    /// The policies can't be checked while the named dependency is unavailable.
    Waits(String),
}

/// Decides whether to admit the run. `bad_input` says why its input can't be read.
///
/// # Errors
/// An error of the server that says nothing about the run. The caller retries.
pub async fn admit(
    context: &Context,
    run: &Run,
    databases: &Databases,
    bad_input: Option<&str>,
) -> Result<Admission, HubError> {
    let policies = &context.policies;
    let task = &run.task;
    // Before the policies: no list can match a name that no image can have.
    let image = match image::named(&task.image) {
        Ok(image) => image,
        Err(failure) => return Ok(Admission::Refused(failure)),
    };
    // First, so that registries and stores get no requests for users whom the policies don't allow.
    if needs_origin(policies)
        && let Err(refusal) = policy::admit_origin(policies, &origin(context, task).await?)
    {
        return Ok(Admission::Refused(failure(RunStatus::NotAllowed, refusal.to_string()).because(refusal.reason())));
    }
    let digest = match check_image(context, task, &image).await? {
        ImageCheck::Allowed(digest) => digest,
        ImageCheck::Refused(failure) => return Ok(Admission::Refused(failure)),
        ImageCheck::Waits(why) => return Ok(Admission::Waits(why)),
    };
    // Checked here so that a run does not fail after hours of work.
    match context.hub.can_report_to(task.init_org).await {
        Ok(()) => {}
        Err(error) if error.kind == HubErrorKind::NoRecipient => {
            let failure = failure(RunStatus::Failed, report::not_encryptable(&error.text));
            return Ok(Admission::Refused(failure.because("NoPublicKey")));
        }
        Err(error) => return Err(error),
    }
    Ok(match readable(run, databases, bad_input) {
        Ok(()) => Admission::Admitted(digest),
        Err(failure) => Admission::Refused(failure),
    })
}

/// The initiators of a run: the creator of its job's first task and of every task between. Includes names of organizations if the
/// policies contain names.
async fn origin(context: &Context, task: &Task) -> Result<Origin, HubError> {
    let mut initiators: Vec<Initiator> = match context.origins.of(task).await? {
        Lineage::Whole(links) => links.iter().map(Initiator::from).collect(),
        Lineage::Broken(why) => return Ok(Origin::Unknown(why.to_string())),
    };
    if needs_organization_name(&context.policies) {
        let mut names = BTreeMap::<OrganizationId, _>::new();
        for initiator in &mut initiators {
            let Some(organization) = initiator.organization else { continue };
            let name = match names.entry(organization) {
                Entry::Occupied(known) => known.into_mut(),
                // The owner has not named an organization that this node may not read.
                Entry::Vacant(unknown) => unknown.insert(context.hub.organization_name(organization).await?),
            };
            initiator.organization_name = name.clone();
        }
    }
    Ok(Origin::Known(initiators))
}

/// Whether the run's input and its database parameters can be read, if they are available.
///
/// # Errors
/// The failure to report.
pub fn readable(run: &Run, databases: &Databases, bad_input: Option<&str>) -> Result<(), Failure> {
    if let Some(why) = run.unsupported {
        return Err(failure(RunStatus::StartFailed, why.into()));
    }
    if let Err(error) = environment::bounded(databases.kept().unwrap_or_default()) {
        return Err(failure(error.status(), error.to_string()));
    }
    match bad_input {
        Some(error) => Err(failure(RunStatus::StartFailed, format!("The task's input can't be read: {error}."))),
        None => Ok(()),
    }
}

fn failure(status: RunStatus, message: String) -> Failure {
    Failure::new(status, message, "before anything was launched")
}
