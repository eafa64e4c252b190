//! Errors between a node and its server, as far as the node's decisions depend on them.

use vantage6_types::{OrganizationId, RunId};

/// Why the server did not do what was asked. Shown as one sentence that says what was tried and what came back.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{text}")]
pub struct HubError {
    /// What follows from it.
    pub kind: HubErrorKind,
    /// In words, for the operator.
    pub text: String,
    /// Whether the server may have carried the request out nevertheless.
    pub delivery: Delivery,
}

/// What follows from an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HubErrorKind {
    /// The same request may succeed later without anybody changing anything.
    Passing,
    /// The server itself says that something went wrong in it (HTTP 500 and above): that may pass, or be what it always says to this very
    /// request.
    Failing,
    /// The server does not know this node, and will not: trying again is of no use.
    UnknownNode,
    /// The run has already ended at the server: it takes no further change.
    RunHasEnded,
    /// The server says itself that it has no such run.
    NoSuchRun,
    /// The server itself refused, with this HTTP status.
    Refused(u16),
    /// The server, or something before it, takes no request of this size.
    TooLarge,
    /// The server's own answer is not what one of its kind sends.
    Unreadable,
    /// The server's list does not come to an end. What came of it before is good.
    EndlessList,
    /// One run of a list can't be understood. The others can.
    BrokenRun(Option<RunId>),
    /// What the server says of one run of a list, which this organization is to do, is too large to be read. The others can be.
    OversizedRun(RunId, OrganizationId),
    /// Nothing can be encoded for the organization that asked, as it stands at the server. The text says why.
    NoRecipient,
    /// Something else, which a person must investigate.
    Other,
}

/// Whether the server has carried out a request that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// Surely not: it can be repeated without asking.
    NotSent,
    /// Unknown: read the run before deciding.
    Unknown,
}

impl HubError {
    /// Whether the same request may succeed later without anybody changing anything.
    ///
    /// `false` is not a reason to drop a result: a wrong setting of a proxy can be repaired too. It says that a person
    /// has to look at it.
    pub fn is_passing(&self) -> bool {
        matches!(self.kind, HubErrorKind::Passing | HubErrorKind::Failing)
    }

    /// Whether the run takes no more changes: it has ended, or was deleted.
    pub fn is_over(&self) -> bool {
        matches!(self.kind, HubErrorKind::RunHasEnded | HubErrorKind::NoSuchRun)
    }

    /// Whether the run was deleted at the server, in the server's own words.
    pub fn is_deleted_run(&self) -> bool {
        self.kind == HubErrorKind::NoSuchRun
    }

    /// Whether the server itself says that this node may not see something, or must log in anew for it.
    pub fn is_denied(&self) -> bool {
        matches!(self.kind, HubErrorKind::Refused(401 | 403))
    }
}
