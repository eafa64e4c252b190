//! Asks registries, the server and stores for the facts about a task's image that the policies need.

use sextant_core::hub::{HubError, HubErrorKind, Task};
use sextant_core::image_policy::{Answer, Decision, Facts, Question, Subject, decide};
use sextant_core::image_reference::{Digest, ImageReference};
use sextant_core::policy::Refusal;
use sextant_core::run_state::Failure;
use vantage6_types::RunStatus;

use super::Context;

/// The decision about an image.
#[derive(Debug)]
pub enum ImageCheck {
    /// Contains the image's digest if the decision depends on it.
    Allowed(Option<Digest>),
    /// Contains the failure to report.
    Refused(Failure),
    /// Contains why a dependency is unavailable.
    Waits(String),
}

/// Decides whether a task's image is allowed.
///
/// # Errors
/// An error of the server that says nothing about the image. The caller retries.
pub async fn check_image(context: &Context, task: &Task, image: &ImageReference) -> Result<ImageCheck, HubError> {
    let subject = Subject { name: &task.image, image, store: task.store };
    let mut facts = Facts::default();
    loop {
        match decide(&context.policies, subject, &facts) {
            Decision::Admitted(digest) => return Ok(ImageCheck::Allowed(digest)),
            Decision::Refused(refusal, why) => return Ok(ImageCheck::Refused(refused(&refusal, why))),
            Decision::Wait(why) => return Ok(ImageCheck::Waits(why)),
            Decision::Ask(Question::Digest(image)) => {
                let answer = context.registries.digest(&image).await;
                facts.learn_digest(&image, answer);
            }
            Decision::Ask(Question::Store(id)) => {
                facts.store = Some(match context.hub.algorithm_store(id).await {
                    Ok(Some(url)) => Answer::Known(url),
                    Err(error) if error.kind == HubErrorKind::Unreadable => Answer::No(error.to_string()),
                    Err(error) => return Err(error),
                    Ok(None) => Answer::No(format!("the server does not show this node the algorithm store {id}")),
                });
            }
            Decision::Ask(Question::Algorithms(store)) => {
                facts.algorithms = Some(context.hub.store_algorithms(&store, &task.image).await);
            }
        }
    }
}

/// The failure for an image that is not allowed. `why` is for the operator.
pub fn refused(refusal: &Refusal, why: String) -> Failure {
    Failure::new(RunStatus::NotAllowed, refusal.to_string(), why).because(refusal.reason())
}
