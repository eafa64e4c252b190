//! Asks the policies whether the run may begin, and waits for a bounded time for those who must be asked for that.

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

/// How long a run waits for a registry or a store that its policies need. Whoever asked is not left without an answer for longer, and
/// a restart of either takes less.
pub(crate) const VERIFICATION_TIMEOUT: Duration = Duration::from_secs(600);

/// After how long the log has that a run's policies are still being checked: others may have thousands of questions before its own.
const TOLD_AFTER: Duration = Duration::from_secs(30);

/// How long a run that is not admitted yet keeps its slot while others are asked.
pub(super) const HELD: Duration = Duration::from_secs(1);
/// The same for one that was admitted, and is asked about again because it had to wait. Its turn has come, so it keeps the slot for longer;
/// but somebody who does not answer at all holds no slot.
pub(super) const HELD_AGAIN: Duration = Duration::from_secs(5);

impl RunReconciler {
    /// Asks the policies; a refusal is reported. A run that is not admitted within this time holds no slot: it is to wait for one again.
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

    /// A registry or a store is away, or the server answers what nothing can be made of: it is asked again after a pause. A run that has waited for too long is refused.
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

/// Whether the server answers, and what it says of this very run is what keeps it from being admitted.
fn is_about_the_run(error: &HubErrorKind) -> bool {
    matches!(error, HubErrorKind::Refused(_) | HubErrorKind::Unreadable | HubErrorKind::TooLarge)
}
