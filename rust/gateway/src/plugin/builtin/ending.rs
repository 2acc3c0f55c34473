//! How a call of a built-in ends.

use crate::respond::ErrorAnswer;
use http::{HeaderName, HeaderValue};
use nylon_core::{Exchange, Failure, FailureKind, Finished, Op, Outcome};

/// Goes on with nothing changed.
pub(super) fn pass(exchange: Box<Exchange>) -> Finished {
    conclude(exchange, &[], Outcome::Next)
}

/// Makes all of these mutations or, where the head has no room for them, none, and fails. Made whole before the first is
/// applied, they need no copy of the head to be undone with, as a handler's do, which come one by one.
pub(super) fn conclude(mut exchange: Box<Exchange>, ops: &[Op], outcome: Outcome) -> Finished {
    if let Err(error) = Op::check_room(ops, &exchange) {
        return fail(exchange, FailureKind::Raised, error.to_string());
    }
    ops.iter().cloned().for_each(|op| op.apply(&mut exchange));
    Finished { exchange, outcome, ops: Vec::new(), state: None }
}

/// Ends the exchange with `answer`, which looks like those that the gateway makes itself, and these headers.
pub(super) fn refuse(
    exchange: Box<Exchange>,
    answer: ErrorAnswer,
    headers: impl IntoIterator<Item = (HeaderName, HeaderValue)>,
) -> Finished {
    let (head, body) = answer.for_request(exchange.facts.id);
    let own = head.headers.iter().map(|(name, value)| (name.clone(), value.clone()));
    let set = own.chain(headers).map(|(name, value)| Op::SetResponseHeader(name, value));
    let ops = [Op::SetStatus(head.status)].into_iter().chain(set).chain([Op::SetResponseBody(body)]);
    conclude(exchange, &ops.collect::<Vec<_>>(), Outcome::End)
}

/// The call has failed: the phase's policy decides.
pub(super) fn fail(exchange: Box<Exchange>, kind: FailureKind, why: impl Into<String>) -> Finished {
    let outcome = Outcome::Failed(Failure::new(kind, why));
    Finished { exchange, outcome, ops: Vec::new(), state: None }
}
