//! Decides whether the policies of the node's owner admit the initiators of a run, and has the texts for refusals. Policies about images
//! are in [`image_policy`](super::image_policy).

use printable::excerpt;
use vantage6_types::{OrganizationId, UserId};

use super::lineage::Link;
use super::policies::Policies;

/// The initiator of one task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Initiator {
    /// The user, if the server says.
    pub user: Option<UserId>,
    /// The user's organization, if the server says.
    pub organization: Option<OrganizationId>,
    /// That organization's name, needed only if the policies contain names ([`needs_organization_name`]).
    pub organization_name: Option<String>,
}

impl From<&Link> for Initiator {
    fn from(link: &Link) -> Self {
        Self { user: link.user, organization: link.organization, organization_name: None }
    }
}

/// The origin of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The initiators of the task itself, of its parent, and so on up to the first task of the job.
    Known(Vec<Initiator>),
    /// The first task can't be determined, for this reason.
    Unknown(String),
}

/// Why a run is not admitted. The texts are for the researcher and do not say what else is allowed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Refusal {
    /// The image is on no list.
    #[error("The policies of this node do not allow the algorithm '{}'.", excerpt(.0))]
    Image(String),
    /// The node's owner trusts stores, and none of them has approved the image.
    #[error("The policies of this node allow only algorithms that a trusted algorithm store has approved, and '{}' is none of these.", excerpt(.0))]
    Store(String),
    /// The registry or store that must confirm the image could not be reached for too long.
    #[error(
        "The policies of this node could not be checked for the algorithm '{}': its registry or its algorithm store could not be reached \
         in time. The task can be sent again later.",
        excerpt(.0)
    )]
    Unverified(String),
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
    /// The reason for its Event, as for other failures of runs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Image(_) | Self::Store(_) => "AlgorithmNotAllowed",
            Self::Unverified(_) => "AlgorithmNotVerified",
            Self::Initiator | Self::Origin(_) => "InitiatorNotAllowed",
        }
    }
}

/// Whether the policies depend on a task's origin.
pub fn needs_origin(policies: &Policies) -> bool {
    !policies.allowed_users.is_empty() || !policies.allowed_organizations.is_empty()
}

/// Whether the policies contain names of organizations, so that the initiator's name is needed.
pub fn needs_organization_name(policies: &Policies) -> bool {
    policies.allowed_organizations.iter().any(|entry| number(entry).is_none())
}

/// An entry's ID. Such an entry means the organization with that ID and never one with that name: any organization may call itself `10`.
fn number(entry: &str) -> Option<i64> {
    entry.parse().ok()
}

/// Admits a task if all its initiators are allowed. A subtask's own organization is the one whose node created it, and that node may create
/// subtasks for anyone whom it admits itself. So every initiator must be allowed, from that of the first task on.
///
/// # Errors
/// The [`Refusal`] to report as `not allowed`.
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

    fn policies(users: &[i64], organizations: &[&str]) -> Policies {
        Policies {
            allowed_users: users.to_vec(),
            allowed_organizations: organizations.iter().map(ToString::to_string).collect(),
            ..Policies::default()
        }
    }

    /// Whether a task of a user is admitted.
    fn admit(policies: &Policies, initiator: &Initiator) -> Result<(), Refusal> {
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
            // The subtask belongs to organization 1's node, the first task to organization 2.
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
            let policies = policies(users, organizations);
            assert_eq!(admit_origin(&policies, &origin), expected, "{users:?} {organizations:?} {origin:?}");
        }
    }

    #[test]
    fn users_and_organizations() {
        let alice = Initiator {
            user: Some(UserId(1)),
            organization: Some(OrganizationId(10)),
            organization_name: Some("IKNL".into()),
        };
        for (policies, expected) in [
            (policies(&[], &[]), Ok(())),
            (policies(&[1], &[]), Ok(())),
            (policies(&[2], &[]), Err(Refusal::Initiator)),
            (policies(&[2], &["10"]), Ok(())),
            (policies(&[], &["IKNL"]), Ok(())),
            (policies(&[], &["NKI"]), Err(Refusal::Initiator)),
        ] {
            assert_eq!(admit(&policies, &alice), expected, "{policies:?}");
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
            let admitted = admit(&policies(&[], &[entry]), &initiator).is_ok();
            assert_eq!(admitted, expected, "{entry} {initiator:?}");
        }
    }

    #[test]
    fn who_cannot_be_named_is_nobody() {
        let nobody = Initiator { user: None, organization: None, organization_name: None };
        assert_eq!(admit(&policies(&[1], &["2"]), &nobody), Err(Refusal::Initiator));
        assert_eq!(admit(&policies(&[], &[]), &nobody), Ok(()));
    }

    #[test]
    fn names_are_looked_up_only_where_needed() {
        assert!(!needs_organization_name(&policies(&[], &["10"])));
        assert!(needs_organization_name(&policies(&[], &["IKNL"])));
    }
}
