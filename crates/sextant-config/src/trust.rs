//! Who else may change a file that controls the node, or read a file that holds its secrets. This is judged by owner and mode of the
//! file, and of every folder and link on the path to it.
//!
//! Kubernetes's mounts of Secrets and ConfigMaps are safe whatever their modes say: root makes them, in a folder with a link `..data`,
//! and in a pod they are read-only. Other volumes of a pod (emptyDirs) belong to root and are open to all users, but a pod has only its
//! own user.

use std::path::{Path, PathBuf};

use super::Surroundings;
use super::diagnostics::{Diagnostics, Position};

/// Set by Kubernetes in every pod.
const IN_A_POD: &str = "KUBERNETES_SERVICE_HOST";
const ROOT: u32 = 0;
const STICKY: u32 = 0o1000;
const WRITE: Right = Right { group: 0o020, others: 0o002 };
const READ: Right = Right { group: 0o040, others: 0o004 };

/// The bits of a file mode for one right.
#[derive(Clone, Copy)]
struct Right {
    group: u32,
    others: u32,
}

/// A folder or link on the path to a file, or the file itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub path: PathBuf,
    pub kind: Kind,
    pub owner: u32,
    pub group: u32,
    pub mode: u32,
}

/// What a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Link,
    Folder,
    /// A folder that Kubernetes mounts for a Secret, a ConfigMap or the like.
    Mount,
    File,
}

/// The identity of this process.
pub(super) struct Me<'a> {
    pub user: u32,
    /// Whether root and this user are the only members of a group.
    pub has_group_alone: &'a dyn Fn(u32) -> bool,
    /// Whether the process runs in a pod.
    pub in_a_pod: bool,
}

/// A file, with its name in messages.
pub(super) struct Subject<'a> {
    pub findings: &'a Diagnostics,
    pub at: Option<Position>,
    /// A setting in backquotes, or a description.
    pub name: &'a str,
}

impl Subject<'_> {
    /// Reports an error if others may change the file, since they would control the node. Returns whether that is so.
    pub(super) fn must_be_ours(&self, path: &Path, around: &Surroundings<'_>) -> bool {
        let way = around.files.path_steps(path);
        let step = asking(around, |me| changeable(&way, me));
        if let Some(step) = step {
            self.tell(step, Some(step) == way.last(), path, around);
        }
        step.is_some()
    }

    /// Reports the first way in which others may change, or add to, the contents of a folder whose files are all used.
    pub(super) fn must_hold_ours_alone(&self, folder: &Path, around: &Surroundings<'_>) {
        if self.must_be_ours(folder, around) {
            return;
        }
        let way = around.files.path_steps(folder);
        if let Some(step) = asking(around, |me| way.last().filter(|step| step.takes_more(me))) {
            return self.tell(step, true, folder, around);
        }
        around.files.entries(folder).iter().any(|entry| self.must_be_ours(entry, around));
    }

    fn tell(&self, step: &Step, is_itself: bool, path: &Path, around: &Surroundings<'_>) {
        let me = around.files.user();
        let Step { path: at, owner, group, mode, .. } = step;
        let (name, shown, at) = (self.name, path.display(), at.display());
        let by_way = if is_itself { String::new() } else { format!(", on the way to {shown},") };
        self.findings.error(
            self.at,
            format!(
                "{name}: {at}{by_way} belongs to user {owner} and has mode {:o} (group {group}): others than root and this user ({me}) may \
                 change what is there, and with it what the node does. Take that right away (`chmod go-w`), or give it to this user (`chown`).",
                mode & 0o7777
            ),
        );
    }

    /// Reports a warning if others may read the file, which contains a secret.
    pub(super) fn must_be_secret(&self, path: &Path, around: &Surroundings<'_>) {
        if may_be_read(path, around) {
            let (name, path) = (self.name, path.display());
            self.findings.warn(
                self.at,
                format!("{name}: other people on this machine may read {path}. Take that right away (`chmod 600`)."),
            );
        }
    }
}

/// Whether people other than root and this user may read a file.
pub(super) fn may_be_read(path: &Path, around: &Surroundings<'_>) -> bool {
    let way = around.files.path_steps(path);
    asking(around, |me| readable(&way, me))
}

fn asking<T>(around: &Surroundings<'_>, judge: impl FnOnce(&Me<'_>) -> T) -> T {
    let has_group_alone = |group| around.files.has_group_alone(group);
    let in_a_pod = (around.env)(IN_A_POD).is_some();
    judge(&Me { user: around.files.user(), has_group_alone: &has_group_alone, in_a_pod })
}

/// The first step at which others may change where the path leads.
fn changeable<'a>(way: &'a [Step], me: &Me<'_>) -> Option<&'a Step> {
    way.iter().find(|step| {
        let is_others = step.owner != ROOT && step.owner != me.user;
        is_others
            || match step.kind {
                // A link has no mode of its own. The folder's mode decides who may replace the link.
                Kind::Link | Kind::Mount => false,
                // In a sticky folder, everybody may create files but replace only their own. The owner of the next step is checked then.
                Kind::Folder if me.in_a_pod && step.owner == ROOT => false,
                Kind::Folder => step.lets_others(WRITE, me) && step.mode & STICKY == 0,
                Kind::File => step.lets_others(WRITE, me),
            }
    })
}

fn readable(way: &[Step], me: &Me<'_>) -> bool {
    let Some(file) = way.last() else { return false };
    let of_kubernetes = file.owner == ROOT && (me.in_a_pod || way.iter().any(|step| step.kind == Kind::Mount));
    !of_kubernetes && file.lets_others(READ, me)
}

impl Step {
    /// Whether anybody may execute the file. A search of `PATH` skips other files.
    pub(super) fn is_program(&self) -> bool {
        self.kind == Kind::File && self.mode & 0o111 != 0
    }

    /// Whether others may add to a folder, sticky or not.
    fn takes_more(&self, me: &Me<'_>) -> bool {
        self.kind == Kind::Folder && !(me.in_a_pod && self.owner == ROOT) && self.lets_others(WRITE, me)
    }

    fn lets_others(&self, right: Right, me: &Me<'_>) -> bool {
        self.mode & right.others != 0 || (self.mode & right.group != 0 && !(me.has_group_alone)(self.group))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: u32 = 1000;

    fn step(kind: Kind, owner: u32, group: u32, mode: u32) -> Step {
        Step { path: PathBuf::from("/x"), kind, owner, group, mode }
    }

    fn judged(way: &[Step], in_a_pod: bool) -> (bool, bool) {
        let me = Me { user: ME, has_group_alone: &|group| matches!(group, ROOT | ME), in_a_pod };
        (changeable(way, &me).is_some(), readable(way, &me))
    }

    #[test]
    fn who_may_change_and_read_a_file() {
        use Kind::{File, Folder, Link, Mount};
        let root = step(Folder, ROOT, ROOT, 0o755);
        for (steps, expected) in [
            (vec![step(File, ME, ME, 0o600)], (false, false)),
            (vec![step(File, ROOT, ROOT, 0o600)], (false, false)),
            // The user's own group has no other members.
            (vec![step(File, ME, ME, 0o660)], (false, false)),
            (vec![step(File, ME, 100, 0o640)], (false, true)),
            (vec![step(File, ME, 100, 0o660)], (true, true)),
            (vec![step(File, ME, ME, 0o644)], (false, true)),
            (vec![step(File, ME, ME, 0o602)], (true, false)),
            (vec![step(File, 7, ME, 0o600)], (true, false)),
            (vec![step(Folder, ME, ME, 0o777), step(File, ME, ME, 0o600)], (true, false)),
            (vec![step(Folder, ME, 100, 0o770), step(File, ME, ME, 0o600)], (true, false)),
            (vec![step(Folder, ROOT, ROOT, 0o1777), step(File, ME, ME, 0o600)], (false, false)),
            (vec![step(Folder, ROOT, ROOT, 0o1777), step(File, 7, ME, 0o600)], (true, false)),
            (vec![step(Folder, 7, 7, 0o755), step(File, ME, ME, 0o600)], (true, false)),
            (vec![step(Link, 7, 7, 0o777), step(File, ME, ME, 0o600)], (true, false)),
            (vec![step(Link, ROOT, ROOT, 0o777), step(File, ME, ME, 0o600)], (false, false)),
            // Secrets and ConfigMaps.
            (vec![step(Mount, ROOT, 65532, 0o3777), step(File, ROOT, 65532, 0o440)], (false, false)),
            (
                vec![step(Mount, ROOT, ROOT, 0o777), step(Link, ROOT, ROOT, 0o777), step(File, ROOT, ROOT, 0o644)],
                (false, false),
            ),
            (vec![step(Mount, ROOT, ROOT, 0o777), step(File, ROOT, ROOT, 0o666)], (true, false)),
            (vec![step(Mount, ROOT, ROOT, 0o777), step(File, 7, 7, 0o600)], (true, false)),
        ] {
            let way: Vec<Step> = std::iter::once(root.clone()).chain(steps).collect();
            assert_eq!(judged(&way, false), expected, "{way:?}");
        }
        assert_eq!(judged(&[], false), (false, false));
        for (steps, expected) in [
            (vec![step(Folder, ROOT, ROOT, 0o777), step(File, ME, ME, 0o600)], (false, false)),
            (vec![step(Folder, ROOT, ROOT, 0o777), step(File, ROOT, 65532, 0o440)], (false, false)),
            (vec![step(Folder, ROOT, ROOT, 0o755), step(File, ROOT, ROOT, 0o644)], (false, false)),
            (vec![step(Folder, ROOT, ROOT, 0o755), step(File, ROOT, ROOT, 0o666)], (true, false)),
            (vec![step(Folder, 7, 7, 0o755), step(File, ME, ME, 0o600)], (true, false)),
        ] {
            assert_eq!(judged(&steps, true), expected, "{steps:?}");
        }
    }
}
