//! Whether the policies of the node's owner admit a run (vantage6-node 4.5.5, `docker_manager.py`, `is_docker_image_allowed`).

use printable::excerpt;
use vantage6_types::{OrganizationId, UserId};

use super::lineage::Link;
use super::policies::{Policies, is_basics, is_exempt_from_list};

/// Who asks, of one task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Initiator {
    /// The user, if the server says.
    pub user: Option<UserId>,
    /// The user's organization, if the server says.
    pub organization: Option<OrganizationId>,
    /// That organization's name, needed only where the policies have names ([`needs_organization_name`]).
    pub organization_name: Option<String>,
}

impl From<&Link> for Initiator {
    fn from(link: &Link) -> Self {
        Self { user: link.user, organization: link.organization, organization_name: None }
    }
}

/// Where a task comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Who asks for the task itself, for its parent, and so on up to the first task of the job.
    Known(Vec<Initiator>),
    /// The first task can't be determined, for this reason.
    Unknown(String),
}

/// Why a run is not admitted. The texts go to the researcher and say nothing of what else is allowed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Refusal {
    /// The image is on no list.
    #[error("The policies of this node do not allow the algorithm '{}'.", excerpt(.0))]
    Image(String),
    /// Neither the user nor the organization is on a list.
    #[error("The policies of this node do not allow tasks of this user or organization.")]
    Initiator,
    /// The creator of the first task can't be determined.
    #[error(
        "The policies of this node depend on who created the first task of this job, and that task can't be determined: {0}."
    )]
    Origin(String),
}

impl Refusal {
    /// The reason of its Event, as for other failures of runs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Image(_) => "AlgorithmNotAllowed",
            Self::Initiator | Self::Origin(_) => "InitiatorNotAllowed",
        }
    }
}

/// Whether the policies ask who a task is from.
pub fn needs_origin(policies: &Policies) -> bool {
    !policies.allowed_users.is_empty() || !policies.allowed_organizations.is_empty()
}

/// Whether the policies name organizations in words, so that the initiator's name must be known to decide.
pub fn needs_organization_name(policies: &Policies) -> bool {
    policies.allowed_organizations.iter().any(|entry| number(entry).is_none())
}

/// An entry's number. Such an entry means the organization with that id and none by name: any organization may call itself `10`.
fn number(entry: &str) -> Option<i64> {
    entry.parse().ok()
}

/// Lets an image in, or says why not.
///
/// # Errors
/// The [`Refusal`] to be reported as `not allowed`.
pub fn admit_image(policies: &Policies, image: &str) -> Result<(), Refusal> {
    let listed =
        policies.allowed_algorithms.is_empty() || policies.allowed_algorithms.iter().any(|entry| entry.allows(image));
    let allowed = match is_basics(image) {
        true => policies.allow_basics_algorithm && (listed || is_exempt_from_list(image)),
        false => listed,
    };
    if allowed { Ok(()) } else { Err(Refusal::Image(image.to_owned())) }
}

/// Lets in those who began, or says why not. A subtask's own organization is the one whose node created it, which may do so for anybody
/// whom it lets in itself: so everybody on the way must be allowed, from the first task's user or organization on.
///
/// # Errors
/// The [`Refusal`] to be reported as `not allowed`.
pub fn admit_origin(policies: &Policies, origin: &Origin) -> Result<(), Refusal> {
    if !needs_origin(policies) {
        return Ok(());
    }
    match origin {
        Origin::Known(all) if !all.is_empty() && all.iter().all(|one| is_allowed(policies, one)) => Ok(()),
        Origin::Known(_) => Err(Refusal::Initiator),
        Origin::Unknown(why) => Err(Refusal::Origin(why.clone())),
    }
}

/// Whether the user or the organization is on a list.
fn is_allowed(policies: &Policies, initiator: &Initiator) -> bool {
    let user =
        initiator.user.is_some_and(|user| i64::try_from(user.0).is_ok_and(|id| policies.allowed_users.contains(&id)));
    let organization = policies.allowed_organizations.iter().any(|entry| match number(entry) {
        Some(number) => initiator.organization.is_some_and(|id| i64::try_from(id.0).is_ok_and(|id| id == number)),
        None => initiator.organization_name.as_ref() == Some(entry),
    });
    user || organization
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policies::AllowedAlgorithm;

    fn policies(algorithms: &[&str], users: &[i64], organizations: &[&str], basics: bool) -> Policies {
        Policies {
            allowed_algorithms: algorithms.iter().map(|a| AllowedAlgorithm::new(a).unwrap()).collect(),
            allowed_users: users.to_vec(),
            allowed_organizations: organizations.iter().map(ToString::to_string).collect(),
            allow_basics_algorithm: basics,
        }
    }

    /// Whether a task of a user is admitted.
    fn admit(policies: &Policies, image: &str, initiator: &Initiator) -> Result<(), Refusal> {
        admit_image(policies, image)?;
        admit_origin(policies, &Origin::Known(vec![initiator.clone()]))
    }

    #[test]
    fn everybody_in_the_chain_must_be_allowed() {
        let from = |user: u64, organization: u64| Initiator {
            user: Some(UserId(user)),
            organization: Some(OrganizationId(organization)),
            organization_name: None,
        };
        let known = |all: &[Initiator]| Origin::Known(all.to_vec());
        for (users, organizations, origin, expected) in [
            // The subtask is of organization 1's node, the first task of organization 2.
            (&[][..], &["1"][..], known(&[from(7, 1), from(7, 2)]), Err(Refusal::Initiator)),
            (&[], &["2"], known(&[from(7, 1), from(7, 2)]), Err(Refusal::Initiator)),
            (&[], &["1", "2"], known(&[from(7, 1), from(7, 2)]), Ok(())),
            (&[], &["1", "2"], known(&[from(7, 1), from(7, 3), from(7, 2)]), Err(Refusal::Initiator)),
            (&[7], &[], known(&[from(7, 1), from(7, 2)]), Ok(())),
            (&[7], &[], known(&[from(7, 1), from(8, 2)]), Err(Refusal::Initiator)),
            (&[7], &["1"], known(&[from(8, 1), from(7, 2)]), Ok(())),
            (&[7], &["1"], known(&[]), Err(Refusal::Initiator)),
            (&[7], &["1"], Origin::Unknown("it hides".into()), Err(Refusal::Origin("it hides".into()))),
            (&[], &[], Origin::Unknown("it hides".into()), Ok(())),
        ] {
            let policies = policies(&[], users, organizations, true);
            assert_eq!(admit_origin(&policies, &origin), expected, "{users:?} {organizations:?} {origin:?}");
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
        let moved = "ghcr.io/vantage6/algorithm-basics:latest";
        let below = "harbor2.vantage6.ai/algorithms/basics/x";
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
            (policies(&["other"], &[], &[], true), below, Err(Refusal::Image(below.into()))),
            (policies(&[], &[], &[], false), below, Err(Refusal::Image(below.into()))),
            (policies(&["other"], &[], &[], true), not_basics, Err(Refusal::Image(not_basics.into()))),
            (policies(&[], &[], &[], false), not_basics, Ok(())),
            // Since 4.15 it has another name, and since 4.6 it must be on the list.
            (policies(&[], &[], &[], true), moved, Ok(())),
            (policies(&[], &[], &[], false), moved, Err(Refusal::Image(moved.into()))),
            (policies(&[moved], &[], &[], false), moved, Err(Refusal::Image(moved.into()))),
            (policies(&[moved], &[], &[], true), moved, Ok(())),
            (policies(&["other"], &[], &[], true), moved, Err(Refusal::Image(moved.into()))),
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
