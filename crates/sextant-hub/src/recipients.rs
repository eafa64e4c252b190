//! The recipients of results in an encrypted collaboration: the organization that created the task, and its public key at the server.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use sextant_core::hub::{HubError, HubErrorKind};
use vantage6::encryption::Recipient;
use vantage6::{Error, Organization, OrganizationId};

use super::convert;

/// How long a key from the server stays fresh.
const FRESH: Duration = Duration::from_secs(60);

/// The recipients of recent results.
#[derive(Default)]
pub struct Recipients {
    known: Mutex<HashMap<OrganizationId, (Instant, Recipient)>>,
}

impl Recipients {
    /// The recipient for this organization; `ask` requests it from the server if it is not fresh.
    ///
    /// # Errors
    /// If the request fails, or nothing can be encrypted for the organization, given the server's data about it.
    pub async fn of(
        &self,
        organization: OrganizationId,
        ask: impl Future<Output = Result<Organization, Error>>,
    ) -> Result<Recipient, HubError> {
        if let Some((since, recipient)) = self.known().get(&organization)
            && since.elapsed() < FRESH
        {
            return Ok(recipient.clone());
        }
        let found = ask.await.map_err(|error| match convert::error(error) {
            HubError { kind: HubErrorKind::Refused(401 | 403 | 404), .. } => {
                convert::no_recipient(format!("this node may not see organization {organization}, or there is none"))
            }
            error => error,
        })?;
        let recipient = Recipient::organization(&found).map_err(|error| convert::no_recipient(error.to_string()))?;
        self.known().insert(organization, (Instant::now(), recipient.clone()));
        Ok(recipient)
    }

    fn known(&self) -> MutexGuard<'_, HashMap<OrganizationId, (Instant, Recipient)>> {
        self.known.lock()
    }
}
