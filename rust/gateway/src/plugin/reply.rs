//! What a reply from another process does to the exchange, which never left the gateway.

use bytes::Bytes;
use nylon_core::{Exchange, Failure, FailureKind, Finished, Op, Outcome, Phase};
use nylon_wire::Reply;

pub(super) fn finished(exchange: Box<Exchange>, outcome: Outcome, state: Option<Bytes>) -> Finished {
    Finished { exchange, outcome, ops: Vec::new(), state }
}

/// All mutations were checked when the reply was decoded, and there is room for them, so applying them cannot fail
/// half-way.
pub(super) fn apply(mut exchange: Box<Exchange>, phase: Phase, reply: Reply) -> Finished {
    let drafts_count = phase != Phase::RequestFilter || reply.outcome == Outcome::End;
    if let Err(error) = Op::check_room(&reply.ops, &exchange) {
        let failure = Failure::new(FailureKind::Protocol, format!("the worker's reply: {error}"));
        return finished(exchange, Outcome::Failed(failure), None);
    }
    let ops = reply.ops.into_iter().filter(|op| drafts_count || op.is_request());
    ops.for_each(|op: Op| op.apply(&mut exchange));
    finished(exchange, reply.outcome, reply.state)
}
