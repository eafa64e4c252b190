//! Checks that server and configuration agree on encryption. Otherwise results would be lost, or sent unencrypted.

use printable::excerpt;
use vantage6::encryption::{Cryptor, PublicKey};
use vantage6::{Collaboration, Organization};

/// How server and configuration disagree. The texts say what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Disagreement {
    /// Only the server requires encryption.
    #[error(
        "The collaboration '{0}' is encrypted, but the configuration does not have `encryption.enabled: true`. Set \
         that, and name the organization's private key in `encryption.private_key` (`sextant keys new` creates one \
         if it has none yet)."
    )]
    OnlyTheServer(String),
    /// Only the configuration requires encryption.
    #[error(
        "The configuration has `encryption.enabled: true`, but the collaboration '{0}' is not encrypted: all data \
         would be sent unencrypted. Set it to false if that is intended; otherwise have the collaboration encrypted \
         at the server."
    )]
    OnlyTheConfiguration(String),
    /// The organization has another public key.
    #[error(
        "The private key in `encryption.private_key` does not belong to the public key that organization \
         {organization} has at the server: its fingerprint is {ours}, the server's {theirs}. The node could not read \
         what others encrypt for the organization. Name the organization's own key. Only if that key is lost \
         permanently, replace it with this one: `sextant keys check CONFIG --replace`."
    )]
    AnotherKey {
        /// The organization's name and ID.
        organization: String,
        /// The fingerprint of the configured key.
        ours: String,
        /// The fingerprint of the key at the server.
        theirs: String,
    },
    /// The organization's public key at the server is invalid.
    #[error(
        "The public key that organization {organization} has at the server can't be used: {why}. `sextant keys check \
         CONFIG --replace` replaces it with that of `encryption.private_key`."
    )]
    NoKey {
        /// The organization's name and ID.
        organization: String,
        /// What is wrong with it.
        why: String,
    },
}

/// The key that the organization must have at the server ([`has_key`]); `None` if nothing is encrypted.
///
/// # Errors
/// If only one side requires encryption.
pub fn agree<'a>(cryptor: &'a Cryptor, collaboration: &Collaboration) -> Result<Option<&'a PublicKey>, Disagreement> {
    match (cryptor, collaboration.encrypted) {
        (Cryptor::Plain, false) => Ok(None),
        (Cryptor::Plain, true) => Err(Disagreement::OnlyTheServer(excerpt(&collaboration.name))),
        (Cryptor::Encrypted(_), false) => Err(Disagreement::OnlyTheConfiguration(excerpt(&collaboration.name))),
        (Cryptor::Encrypted(key), true) => Ok(Some(key.public())),
    }
}

/// Whether the organization has this key at the server; `false` if it has none yet.
///
/// # Errors
/// If it has another key, or an invalid one.
pub fn has_key(organization: &Organization, key: &PublicKey) -> Result<bool, Disagreement> {
    let Some(theirs) = &organization.public_key else { return Ok(false) };
    let name = || format!("{} '{}'", organization.id, excerpt(&organization.name));
    match PublicKey::from_server(theirs) {
        Ok(theirs) if theirs == *key => Ok(true),
        Ok(theirs) => Err(Disagreement::AnotherKey {
            organization: name(),
            ours: key.fingerprint(),
            theirs: theirs.fingerprint(),
        }),
        Err(why) => Err(Disagreement::NoKey { organization: name(), why: why.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use vantage6::encryption::PrivateKey;
    use vantage6::{CollaborationId, OrganizationId};

    use super::*;

    #[test]
    fn all_cases() {
        let [own, other] = [(); 2].map(|()| Arc::new(PrivateKey::generate().unwrap()));
        let (yes, no) = (Cryptor::Encrypted(own.clone()), Cryptor::Plain);
        let at_server = |key: &PrivateKey| Some(key.public().to_server());
        for (cryptor, encrypted, public_key, expected) in [
            (&no, false, None, Ok(None)),
            (&no, false, at_server(&own), Ok(None)),
            (&no, true, at_server(&own), Err("'study' is encrypted, but the configuration does not have")),
            (&yes, false, at_server(&own), Err("'study' is not encrypted: all data would be sent unencrypted")),
            (&yes, true, at_server(&own), Ok(Some(true))),
            (&yes, true, None, Ok(Some(false))),
            (&yes, true, at_server(&other), Err("does not belong to the public key that organization 2 'mills' has")),
            (
                &yes,
                true,
                Some("key".into()),
                Err("organization 2 'mills' has at the server can't be used: it is not base64"),
            ),
        ] {
            let collaboration = Collaboration { id: CollaborationId(1), name: "study".into(), encrypted };
            let organization = Organization { id: OrganizationId(2), name: "mills".into(), public_key };
            let found =
                agree(cryptor, &collaboration).and_then(|key| key.map(|key| has_key(&organization, key)).transpose());
            match (found, expected) {
                (Err(found), Err(text)) => assert!(found.to_string().contains(text), "{found}"),
                (found, expected) => assert_eq!(found.map_err(|why| why.to_string()), expected.map_err(str::to_owned)),
            }
        }
    }
}
