//! Asks registries, server and store what the policies need to know of a task's image.

use sextant_core::hub::{HubError, HubErrorKind, Task};
use sextant_core::image_policy::{Answer, Decision, Facts, Question, Subject, decide};
use sextant_core::image_reference::{Digest, ImageReference};
use sextant_core::policy::Refusal;
use sextant_core::run_state::Failure;
use vantage6_types::RunStatus;

use super::Context;

/// What comes of an image.
#[derive(Debug)]
pub enum ImageCheck {
    /// With the content that was decided on, where the decision rests on it.
    Allowed(Option<Digest>),
    /// With what to report of the run.
    Refused(Failure),
    /// While this is away.
    Waits(String),
}

/// Decides on the image of a task.
///
/// # Errors
/// An error of the server, which says nothing about the image: try again.
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

/// What to report of an image that is not allowed; `why` is for the operator.
pub fn refused(refusal: &Refusal, why: String) -> Failure {
    Failure::new(RunStatus::NotAllowed, refusal.to_string(), why).because(refusal.reason())
}
