//! Whom results are for in an encrypted collaboration: the organization that asked, and its public key at the server.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use sextant_core::hub::{HubError, HubErrorKind};
use vantage6::encryption::Recipient;
use vantage6::{Error, Organization, OrganizationId};

use super::convert;

/// How long a key counts as what the server has.
const FRESH: Duration = Duration::from_secs(60);

/// The organizations that have asked lately.
#[derive(Default)]
pub struct Recipients {
    known: Mutex<HashMap<OrganizationId, (Instant, Recipient)>>,
}

impl Recipients {
    /// The one of this number; `ask` asks the server for it, if it was not asked lately.
    ///
    /// # Errors
    /// If the server can't be asked now, or nothing can be encrypted for the organization as it stands there.
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
