//! Whom results are for: the organization that asked, and in an encrypted collaboration its public key at the server.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use vantage6::encryption::Recipient;
use vantage6::{Error, OrganizationId};

use crate::hub::Hub;

/// How long a key counts as what the server has.
const FRESH: Duration = Duration::from_secs(60);

/// The organizations that have asked lately.
pub struct Recipients {
    hub: Arc<dyn Hub>,
    encrypted: bool,
    known: Mutex<HashMap<OrganizationId, (Instant, Recipient)>>,
}

impl Recipients {
    /// None known yet.
    pub fn new(hub: Arc<dyn Hub>, encrypted: bool) -> Self {
        Self { hub, encrypted, known: Mutex::default() }
    }

    /// The one of this number. The inner error says why nothing can be encrypted for it, as it stands at the server.
    ///
    /// # Errors
    /// If the server can't be asked now.
    pub async fn of(&self, organization: OrganizationId) -> Result<Result<Recipient, String>, Error> {
        if !self.encrypted {
            return Ok(Ok(Recipient::Plain));
        }
        if let Some((since, recipient)) = self.known().get(&organization)
            && since.elapsed() < FRESH
        {
            return Ok(Ok(recipient.clone()));
        }
        let found = match self.hub.organization(organization).await {
            Ok(found) => found,
            Err(error) if matches!(error.own_status(), Some(401 | 403 | 404)) => {
                return Ok(Err(format!("this node may not see organization {organization}, or there is none")));
            }
            Err(error) => return Err(error),
        };
        Ok(match Recipient::organization(&found) {
            Ok(recipient) => {
                self.known().insert(organization, (Instant::now(), recipient.clone()));
                Ok(recipient)
            }
            Err(error) => Err(error.to_string()),
        })
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<OrganizationId, (Instant, Recipient)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
