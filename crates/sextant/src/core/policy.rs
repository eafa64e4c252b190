//! Whether the node's owner lets a run in (vantage6-node 4.5.5, `docker_manager.py`, `is_docker_image_allowed`).

use printable::excerpt;
use vantage6::{OrganizationId, UserId};

use crate::config::{Policies, is_basics};

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Initiator {
    /// The user, if the server says.
    pub user: Option<UserId>,
    /// The user's organization, if the server says.
    pub organization: Option<OrganizationId>,
    /// That organization's name, needed only where the policies have names ([`needs_organization_name`]).
    pub organization_name: Option<String>,
}

/// Why a run is not let in. The texts go to the researcher and say nothing of what else is allowed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Refusal {
    /// The image is on no list.
    #[error("The policies of this node do not allow the algorithm '{}'.", excerpt(.0))]
    Image(String),
    /// Neither the user nor the organization is on a list.
    #[error("The policies of this node do not allow tasks of this user or organization.")]
    Initiator,
}

/// Whether the policies name organizations in words, so that the initiator's name must be known to decide.
pub fn needs_organization_name(policies: &Policies) -> bool {
    policies.allowed_organizations.iter().any(|entry| number(entry).is_none())
}

/// An entry's number. Such an entry means the organization with that id and none by name: any organization may call itself `10`.
fn number(entry: &str) -> Option<i64> {
    entry.parse().ok()
}

/// Lets a run in, or says why not.
///
/// # Errors
/// The [`Refusal`] to be reported as `not allowed`.
pub fn admit(policies: &Policies, image: &str, initiator: &Initiator) -> Result<(), Refusal> {
    let refused = || Err(Refusal::Image(image.to_owned()));
    if is_basics(image) {
        if !policies.allow_basics_algorithm {
            return refused();
        }
    } else if !policies.allowed_algorithms.is_empty()
        && !policies.allowed_algorithms.iter().any(|entry| entry.allows(image))
    {
        return refused();
    }
    if policies.allowed_users.is_empty() && policies.allowed_organizations.is_empty() {
        return Ok(());
    }
    let user =
        initiator.user.is_some_and(|user| i64::try_from(user.0).is_ok_and(|id| policies.allowed_users.contains(&id)));
    let organization = policies.allowed_organizations.iter().any(|entry| match number(entry) {
        Some(number) => initiator.organization.is_some_and(|id| i64::try_from(id.0).is_ok_and(|id| id == number)),
        None => initiator.organization_name.as_ref() == Some(entry),
    });
    if user || organization { Ok(()) } else { Err(Refusal::Initiator) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::AllowedAlgorithm;

    fn policies(algorithms: &[&str], users: &[i64], organizations: &[&str], basics: bool) -> Policies {
        Policies {
            allowed_algorithms: algorithms.iter().map(|a| AllowedAlgorithm::new(a).unwrap()).collect(),
            allowed_users: users.to_vec(),
            allowed_organizations: organizations.iter().map(|o| o.to_string()).collect(),
            allow_basics_algorithm: basics,
        }
    }

    #[test]
    fn images_and_initiators() {
        let alice = Initiator {
            user: Some(UserId(1)),
            organization: Some(OrganizationId(10)),
            organization_name: Some("IKNL".into()),
        };
        let image = || Err(Refusal::Image("x/average:1".into()));
        let basics = "harbor2.vantage6.ai/algorithms/basics:2";
        let not_basics = "harbor2.vantage6.ai/algorithms/basics-of-somebody-else:2";
        for (policies, image, expected) in [
            (policies(&[], &[], &[], true), "x/average:1", Ok(())),
            (policies(&["x/average:1"], &[], &[], true), "x/average:1", Ok(())),
            (policies(&["x/average"], &[], &[], true), "x/average:1", image()),
            (policies(&["^x/.*$"], &[], &[], true), "x/average:1", Ok(())),
            (policies(&["average.*"], &[], &[], true), "x/average:1", image()),
            (policies(&["other"], &[], &[], true), basics, Ok(())),
            (policies(&[basics], &[], &[], false), basics, Err(Refusal::Image(basics.into()))),
            (policies(&["other"], &[], &[], true), "harbor2.vantage6.ai/algorithms/basics", Ok(())),
            (policies(&["other"], &[], &[], true), "harbor2.vantage6.ai/algorithms/basics@sha256:0", Ok(())),
            (policies(&["other"], &[], &[], true), "harbor2.vantage6.ai/algorithms/basics/x", Ok(())),
            (policies(&["other"], &[], &[], true), not_basics, Err(Refusal::Image(not_basics.into()))),
            (policies(&[], &[], &[], false), not_basics, Ok(())),
            (policies(&[], &[1], &[], true), "x/average:1", Ok(())),
            (policies(&[], &[2], &[], true), "x/average:1", Err(Refusal::Initiator)),
            (policies(&[], &[2], &["10"], true), "x/average:1", Ok(())),
            (policies(&[], &[], &["IKNL"], true), "x/average:1", Ok(())),
            (policies(&[], &[], &["NKI"], true), "x/average:1", Err(Refusal::Initiator)),
        ] {
            assert_eq!(admit(&policies, image, &alice), expected, "{policies:?} {image}");
        }
    }

    #[test]
    fn an_organization_that_calls_itself_a_number_is_not_that_number() {
        let named = |id, name: &str| Initiator {
            user: None,
            organization: Some(OrganizationId(id)),
            organization_name: Some(name.into()),
        };
        for (entry, initiator, expected) in [
            ("10", named(10, "IKNL"), true),
            ("10", named(11, "10"), false),
            ("010", named(10, "IKNL"), true),
            ("-1", named(11, "-1"), false),
            ("10 beds", named(11, "10 beds"), true),
            ("IKNL", named(11, "IKNL"), true),
        ] {
            let admitted = admit(&policies(&[], &[], &[entry], true), "x", &initiator).is_ok();
            assert_eq!(admitted, expected, "{entry} {initiator:?}");
        }
    }

    #[test]
    fn who_cannot_be_named_is_nobody() {
        let nobody = Initiator { user: None, organization: None, organization_name: None };
        assert_eq!(admit(&policies(&[], &[1], &["2"], true), "x", &nobody), Err(Refusal::Initiator));
        assert_eq!(admit(&policies(&[], &[], &[], true), "x", &nobody), Ok(()));
    }

    #[test]
    fn names_are_looked_up_only_where_needed() {
        assert!(!needs_organization_name(&policies(&[], &[], &["10"], true)));
        assert!(needs_organization_name(&policies(&[], &[], &["IKNL"], true)));
    }
}
