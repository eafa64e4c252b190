//! Errors between a node and its server, reduced to what the node's decisions depend on.

use vantage6_types::{OrganizationId, RunId};

/// Why the server did not fulfil a request. `Display` gives one sentence with the request and the response.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{text}")]
pub struct HubError {
    /// The effect on the node's decisions.
    pub kind: HubErrorKind,
    /// The text for the operator.
    pub text: String,
    /// Whether the server may have executed the request nevertheless.
    pub delivery: Delivery,
}

/// The effect of an error on the node's decisions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HubErrorKind {
    /// The same request may succeed later without intervention.
    Passing,
    /// The server itself reports an internal error (HTTP 500 and above), which may be transient, or occur each time for this
    /// request.
    Failing,
    /// The server does not know this node. Retrying is useless.
    UnknownNode,
    /// The run has already ended at the server, which accepts no further change.
    RunHasEnded,
    /// The server itself reports that it has no such run.
    NoSuchRun,
    /// The server itself refused, with this HTTP status.
    Refused(u16),
    /// The server, or a proxy in front of it, does not accept a request of this size.
    TooLarge,
    /// The server does not take the result into its blob store, with this HTTP status.
    NotStored(u16),
    /// The server's answer is not in the format of a vantage6 server.
    Unreadable,
    /// The server's list does not end. The runs before the error are valid.
    EndlessList,
    /// One run of a list can't be parsed. The others can.
    BrokenRun(Option<RunId>),
    /// One run of a list, which this organization executes, has a description that is too large to be read. The others can be read.
    OversizedRun(RunId, OrganizationId),
    /// Nothing can be encoded for the recipient organization, given the server's data about it. The text says why.
    NoRecipient,
    /// Any other error, which a person must investigate.
    Other,
}

/// Whether the server has executed a request that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// Certainly not, so it can be repeated without checking.
    NotSent,
    /// Unknown; read the run before deciding.
    Unknown,
}

impl HubError {
    /// Whether the same request may succeed later without intervention.
    ///
    /// `false` is not a reason to drop a result, since a wrong proxy setting can be repaired too. It means that a person
    /// must look at the error.
    pub fn is_passing(&self) -> bool {
        matches!(self.kind, HubErrorKind::Passing | HubErrorKind::Failing)
    }

    /// Whether the run accepts no more changes, because it has ended or was deleted.
    pub fn is_over(&self) -> bool {
        matches!(self.kind, HubErrorKind::RunHasEnded | HubErrorKind::NoSuchRun)
    }

    /// Whether the server itself reports that the run was deleted.
    pub fn is_deleted_run(&self) -> bool {
        self.kind == HubErrorKind::NoSuchRun
    }

    /// Whether the server itself reports that this node may not read something, or must log in again to read it.
    pub fn is_denied(&self) -> bool {
        matches!(self.kind, HubErrorKind::Refused(401 | 403))
    }
}
