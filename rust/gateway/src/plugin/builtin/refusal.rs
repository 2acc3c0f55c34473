//! The end of a call of a built-in that lets requests through or refuses them.

use crate::respond::ErrorAnswer;
use http::{HeaderName, HeaderValue};
use nylon_core::{Exchange, Failure, FailureKind, Finished, Op, Outcome};

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
    conclude(exchange, ops.collect(), Outcome::End)
}

/// Makes all of these mutations, or where the head has no room for them none, and fails.
pub(super) fn conclude(mut exchange: Box<Exchange>, ops: Vec<Op>, outcome: Outcome) -> Finished {
    if let Err(error) = Op::check_room(&ops, &exchange) {
        return fail(exchange, FailureKind::Raised, error.to_string());
    }
    ops.into_iter().for_each(|op| op.apply(&mut exchange));
    Finished { exchange, outcome, ops: Vec::new(), state: None }
}

/// The call has failed: the phase's policy decides.
pub(super) fn fail(exchange: Box<Exchange>, kind: FailureKind, why: impl Into<String>) -> Finished {
    let outcome = Outcome::Failed(Failure::new(kind, why));
    Finished { exchange, outcome, ops: Vec::new(), state: None }
}
