//! A call of a handler comes to one of three things; what follows from a failure is the policy's business.

use std::fmt;

/// What a handler decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Go on.
    Next,
    /// Stop here and send the response.
    End,
}

/// What a call came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Go on.
    Next,
    /// Stop here and send the response.
    End,
    /// The handler's mutations are discarded and the phase's policy decides.
    Failed(Failure),
}

/// Why a call failed. The kind picks the client's status (in `respond.rs`), the message goes to the log only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The sort of failure.
    pub kind: FailureKind,
    /// For the log: what happened and, where it helps, what to do.
    pub message: String,
}

impl Failure {
    /// A failure of this kind.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Failure {
        Failure { kind, message: message.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.name(), self.message)
    }
}

/// The sorts of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// The handler raised, panicked, or used the context wrongly.
    Raised,
    /// A `request_filter` returned without `next` or `end`.
    Undecided,
    /// No result within the phase's time.
    TimedOut,
    /// Nobody could be reached to run it.
    Unavailable,
    /// Everybody who could run it is at capacity.
    Overloaded,
    /// The worker that ran it went away before it answered.
    WorkerDied,
    /// The answer was not a valid one.
    Protocol,
    /// The entry does not exist where it was called.
    UnknownEntry,
    /// The body that the handler needs is over its limit.
    BodyTooLarge,
    /// The client did not deliver the body that the handler needs.
    BodyUnreadable,
    /// The client went away while the handler ran.
    Cancelled,
}

impl FailureKind {
    /// All of them.
    pub const ALL: [FailureKind; 11] = {
        use FailureKind::*;
        [
            Raised,
            Undecided,
            TimedOut,
            Unavailable,
            Overloaded,
            WorkerDied,
            Protocol,
            UnknownEntry,
            BodyTooLarge,
            BodyUnreadable,
            Cancelled,
        ]
    };

    /// The name in logs, metrics and error replies.
    pub const fn name(self) -> &'static str {
        match self {
            FailureKind::Raised => "raised",
            FailureKind::Undecided => "undecided",
            FailureKind::TimedOut => "timed_out",
            FailureKind::Unavailable => "unavailable",
            FailureKind::Overloaded => "overloaded",
            FailureKind::WorkerDied => "worker_died",
            FailureKind::Protocol => "protocol",
            FailureKind::UnknownEntry => "unknown_entry",
            FailureKind::BodyTooLarge => "body_too_large",
            FailureKind::BodyUnreadable => "body_unreadable",
            FailureKind::Cancelled => "cancelled",
        }
    }

    /// The kind with this name, if there is one.
    pub fn from_name(name: &str) -> Option<FailureKind> {
        FailureKind::ALL.into_iter().find(|kind| kind.name() == name)
    }
}
