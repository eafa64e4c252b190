//! Checks the policies before a launch, and waits for a limited time for unavailable registries and stores.

use std::time::Duration;

use futures::FutureExt as _;
use log_throttle::LogThrottle;
use printable::excerpt;
use sextant_core::hub::HubErrorKind;
use sextant_core::policy::Refusal;
use tokio::time::{Instant, sleep};
use tracing::info;
use vantage6_types::RunId;

use super::{Interrupted, Obstacle, RunReconciler};
use crate::admission::{Admission, admit};
use crate::image_check::refused;

/// How long a run waits for a registry or a store that its policies need. The user gets an answer after this time at the latest, and a
/// restart of either takes less.
pub(crate) const VERIFICATION_TIMEOUT: Duration = Duration::from_secs(600);

/// After this time the log says that a run's policies are still being checked. Thousands of checks may be queued before it.
const TOLD_AFTER: Duration = Duration::from_secs(30);

/// How long a run that is not yet admitted keeps its slot during the check.
pub(super) const HELD: Duration = Duration::from_secs(1);
/// The same for a run that was admitted and is checked again after a wait. It has reached its turn, so it keeps the slot longer, but a
/// dependency that never answers must not block a slot.
pub(super) const HELD_AGAIN: Duration = Duration::from_secs(5);

impl RunReconciler {
    /// Checks the policies and reports a refusal. If the check takes longer than `held`, the run loses its slot and must wait for another
    /// one.
    pub(super) async fn admit(&mut self, held: Duration) -> Result<(), Interrupted> {
        let admission = {
            let admission = admit(&self.context, &self.run, &self.databases, self.bad_input.as_deref());
            let mut admission = std::pin::pin!(admission);
            let until = sleep(held);
            let mut until = std::pin::pin!(until);
            let mut told = std::pin::pin!(sleep(TOLD_AFTER).fuse());
            loop {
                tokio::select! {
                    admission = &mut admission => break admission,
                    () = &mut until, if self.slot.is_some() => self.slot = None,
                    () = &mut told => tell_that_it_waits(self.run.id),
                    _ = self.signal.changed() => return Err(Interrupted),
                }
            }
        };
        if !matches!(admission, Ok(Admission::Admitted(_))) {
            self.slot = None;
        }
        match admission {
            Ok(Admission::Admitted(digest)) => {
                if let Some(digest) = digest.as_ref().filter(|digest| self.assignment.digest.as_ref() != Some(digest)) {
                    info!(
                        run = %self.run.id, image = excerpt(&self.assignment.image), %digest,
                        "the policies allow the image by its content; this digest is what runs"
                    );
                }
                self.assignment.digest = digest;
                self.admitted = true;
                self.unverified_since = None;
                return Ok(());
            }
            Ok(Admission::Refused(failure)) => self.report_failure(&failure).await,
            Ok(Admission::Waits(why)) => self.wait_for_verification(why).await,
            Err(error) if is_about_the_run(&error.kind) => self.wait_for_verification(error.to_string()).await,
            Err(error) => self.back_off(Obstacle::Server, &error.to_string()).await,
        }
        Err(Interrupted)
    }

    /// Pauses if a registry or a store is unavailable, or the server's answer is unusable. Refuses a run that has waited too long.
    async fn wait_for_verification(&mut self, why: String) {
        let waited = self.unverified_since.get_or_insert_with(Instant::now).elapsed();
        let Some(left) = VERIFICATION_TIMEOUT.checked_sub(waited).filter(|left| !left.is_zero()) else {
            return self.report_failure(&refused(&Refusal::Unverified(self.run.task.image.clone()), why)).await;
        };
        let why = format!(
            "the policies can't be checked yet: {why}; the run is refused if that lasts for another {} s",
            left.as_secs().max(1)
        );
        self.back_off(Obstacle::Verification, &why).await;
    }
}

fn tell_that_it_waits(run: RunId) {
    static WAITS: LogThrottle = LogThrottle::new();
    if let Some(times) = WAITS.happened() {
        info!(%run, times, "Run waits: its policies are still being checked, which needs a registry or a store that many ask");
    }
}

/// Whether the server answers, but its answer about this run prevents the admission.
fn is_about_the_run(error: &HubErrorKind) -> bool {
    matches!(error, HubErrorKind::Refused(_) | HubErrorKind::Unreadable | HubErrorKind::TooLarge)
}
