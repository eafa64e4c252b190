//! Distinguishes a run from all other runs with its ID. Servers with SQLite reuse the IDs of deleted tasks and runs, and 4.15.2 reports
//! the server's start as the assignment time of all runs, so neither the ID nor that time is sufficient.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER;

use crate::hub::Run;

const BYTES: usize = 16;

/// A short digest of the properties of a run and its task that do not change.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RunIdentity([u8; BYTES]);

impl RunIdentity {
    fn of(text: &str) -> Self {
        let mut bytes = [0; BYTES];
        bytes.copy_from_slice(&digest(&SHA256, text.as_bytes()).as_ref()[..BYTES]);
        Self(bytes)
    }
}

impl From<&Run> for RunIdentity {
    fn from(run: &Run) -> Self {
        let task = &run.task;
        // The server drops the user when the account is deleted. With the task's creation time, the user is not needed.
        let user = if task.created_at.is_none() { task.init_user } else { None };
        // Running Jobs keep the digest through an upgrade, so this format must not change. The image, the only free text, comes last, so no
        // two runs have the same text.
        Self::of(&format!(
            "{} {} {} {} {} {} {} {} {} {} {}",
            word(Some(run.id)),
            word(Some(task.id)),
            word(Some(run.organization)),
            word(Some(task.collaboration)),
            word(run.assigned_at),
            word(task.created_at),
            word(Some(task.job)),
            word(task.parent),
            word(Some(task.init_org)),
            word(user),
            task.image,
        ))
    }
}

fn word(value: Option<impl fmt::Display>) -> String {
    value.map_or_else(|| "-".into(), |value| value.to_string())
}

impl fmt::Display for RunIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for RunIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RunIdentity({self})")
    }
}

/// The error for a text that is not an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the identity of a run")]
pub struct NoIdentity;

impl FromStr for RunIdentity {
    type Err = NoIdentity;

    fn from_str(text: &str) -> Result<Self, NoIdentity> {
        let bytes = HEXLOWER.decode(text.as_bytes()).map_err(|_| NoIdentity)?;
        bytes.try_into().map(Self).map_err(|_| NoIdentity)
    }
}

/// Identities for tests.
#[cfg(any(test, feature = "testing"))]
pub mod sample {
    use super::*;

    /// The identity of a run about which only this text is known.
    pub fn identity(text: &str) -> RunIdentity {
        RunIdentity::of(text)
    }
}

#[cfg(test)]
mod tests {
    use vantage6_types::{CollaborationId, JobId, OrganizationId, RunId, RunStatus, TaskId, UserId};

    use super::*;
    use crate::hub::testing::pending;

    #[test]
    fn runs_of_one_number_and_time_are_told_apart_by_their_tasks() {
        let of = |change: &dyn Fn(&mut Run)| {
            let mut run = pending(27);
            change(&mut run);
            RunIdentity::from(&run)
        };
        let same = of(&|_| {});
        type Change<'a> = &'a dyn Fn(&mut Run);
        let others: [(&str, Change<'_>); 11] = [
            ("run", &|run| run.id = RunId(28)),
            ("organization", &|run| run.organization = OrganizationId(9)),
            ("assigned at", &|run| run.assigned_at = "2026-01-02T03:04:06Z".parse().ok()),
            ("task", &|run| run.task.id = TaskId(1)),
            ("created at", &|run| run.task.created_at = "2026-01-02T03:04:05.000001Z".parse().ok()),
            ("no time", &|run| run.task.created_at = None),
            ("image", &|run| run.task.image = "average ".into()),
            ("job", &|run| run.task.job = JobId(2)),
            ("parent", &|run| run.task.parent = Some(TaskId(1))),
            ("asking organization", &|run| run.task.init_org = OrganizationId(9)),
            ("collaboration", &|run| run.task.collaboration = CollaborationId(9)),
        ];
        for (what, change) in others {
            assert_ne!(of(change), same, "{what}");
        }
        let nameless = |user| of(&move |run| (run.task.created_at, run.task.init_user) = (None, user));
        assert_ne!(nameless(Some(UserId(1))), nameless(Some(UserId(2))), "without a time, the user counts");
    }

    #[test]
    fn runs_under_way_are_known_after_an_upgrade() {
        assert_eq!(RunIdentity::from(&pending(27)).to_string(), "084c5a743036003df1dade410adc3521");
    }

    #[test]
    fn what_may_change_of_a_run_does_not_count() {
        let run = pending(27);
        let mut changed = run.clone();
        changed.status = RunStatus::Active;
        changed.started_at = changed.assigned_at;
        changed.task.name = Some("renamed".into());
        changed.task.init_user = None;
        assert_eq!(RunIdentity::from(&changed), RunIdentity::from(&run));
    }

    #[test]
    fn an_identity_is_read_back_from_its_text() {
        let identity = RunIdentity::from(&pending(27));
        assert_eq!(identity.to_string().parse(), Ok(identity));
        for bad in
            ["", "00", "zz", &format!("{identity}0"), &format!("{identity}00"), &identity.to_string().to_uppercase()]
        {
            if bad != identity.to_string() {
                assert_eq!(bad.parse::<RunIdentity>(), Err(NoIdentity), "{bad}");
            }
        }
    }
}
