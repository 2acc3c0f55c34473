//! Why there is no certificate, said so that its reader knows what to do.

use super::storage::StorageError;
use instant_acme::{Error, Problem};
use std::fmt;
use std::time::{Instant, SystemTime};

/// What went wrong.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) kind: Kind,
    what: String,
    /// Before this the authority does not want to be asked again.
    pub(super) not_before: Option<SystemTime>,
}

/// What it says about the next try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The authority said no. It counts how often it is asked for what it refuses.
    Refused,
    /// The authority did not answer, or was not itself; or something is wrong with this machine.
    Broken,
}

/// The account is not known (any more): it can be made anew.
const NO_ACCOUNT: &str = "urn:ietf:params:acme:error:accountDoesNotExist";
/// What to do about a problem, where its own words do not say.
const HINTS: &[(&str, &str)] = &[
    (
        "urn:ietf:params:acme:error:externalAccountRequired",
        "this authority wants an account that you have with it: set `eab_kid` and `eab_hmac_key`",
    ),
    ("urn:ietf:params:acme:error:rateLimited", "the authority limits how often it is asked"),
    ("urn:ietf:params:acme:error:caa", "a CAA record in DNS does not let this authority issue"),
];

impl Failure {
    pub(super) fn refused(what: impl Into<String>) -> Failure {
        Failure { kind: Kind::Refused, what: what.into(), not_before: None }
    }

    pub(super) fn broken(what: impl Into<String>) -> Failure {
        Failure { kind: Kind::Broken, what: what.into(), not_before: None }
    }

    /// What the authority answered, or that it did not, while it was asked to do something.
    pub(super) fn of(asked: &str, error: &Error) -> Failure {
        match error {
            Error::Api(problem) => {
                let hint = hint(problem).map(|hint| format!("; {hint}")).unwrap_or_default();
                let what = format!("asked to {asked}, the authority answered: {}{hint}", said(problem));
                match problem.status.is_some_and(|status| status >= 500) {
                    true => Failure::broken(what),
                    false => Failure::refused(what),
                }
            }
            Error::Timeout(next) => Failure {
                not_before: next
                    .map(|next| SystemTime::now() + next.saturating_duration_since(Instant::now())),
                ..Failure::broken(format!("asked to {asked}, the authority was not done in time"))
            },
            other => Failure::broken(format!(
                "the authority could not be asked to {asked}: {}",
                crate::causes::with_causes(other)
            )),
        }
    }

    /// The same, not to be tried again before `time`.
    pub(super) fn not_before(mut self, time: Option<SystemTime>) -> Failure {
        self.not_before = self.not_before.max(time);
        self
    }
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Failure {
        Failure::broken(error.to_string())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

/// Whether the authority does not know the account.
pub(super) fn is_unknown_account(error: &Error) -> bool {
    matches!(error, Error::Api(problem) if problem.r#type.as_deref() == Some(NO_ACCOUNT))
}

fn hint(problem: &Problem) -> Option<&'static str> {
    let kind = problem.r#type.as_deref()?;
    HINTS.iter().find(|(known, _)| *known == kind).map(|(_, hint)| *hint)
}

/// The authority's words.
pub(super) fn said(problem: &Problem) -> String {
    let mut text = problem.detail.clone().unwrap_or_else(|| "no reason given".to_owned());
    if let Some(kind) = &problem.r#type {
        text = format!("{text} ({})", kind.strip_prefix("urn:ietf:params:acme:error:").unwrap_or(kind));
    }
    for sub in &problem.subproblems {
        text = format!("{text}; {sub}");
    }
    // It is not ours: one line of it, and not without end.
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(2000).collect()
}
