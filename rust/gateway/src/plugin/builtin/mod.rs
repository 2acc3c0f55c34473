//! Plugins of the gateway's own.
//!
//! To the pipeline a built-in is an entry like any other: it takes its place in the chain, keeps to the policies, and
//! makes its changes with [`Op`]s. It has no host, since nothing of it is loaded, waited for or ended apart from the
//! plan; its settings were checked with the configuration, so that what is left to fail are values that a request
//! brings. Most answer at once, and cost an exchange that they have nothing to change in no allocation.

/// Fields of a head.
mod headers;

use super::{Pending, PhaseCall, PluginEntry};
use http::HeaderValue;
use nylon_config::plan::Builtin;
use nylon_core::template::Template;
use nylon_core::{Exchange, Failure, FailureKind, Finished, Op, Outcome};
use std::sync::Arc;

/// The entry that does what `builtin` says.
pub(crate) fn entry(builtin: &Builtin) -> Arc<dyn PluginEntry> {
    let entry: Arc<dyn PluginEntry> = match builtin {
        Builtin::RequestHeaderModifier(changes) => Arc::new(headers::HeaderModifier::of_requests(changes)),
    };
    debug_assert_eq!(entry.traits().phases, builtin.phases());
    entry
}

/// Applies `ops` and goes on: all of them or, where the head has no room for them, none. Made whole before the first is
/// applied, they need no copy of the head to be undone with, as a handler's do, which come one by one.
fn apply<'a>(call: PhaseCall<'a>, ops: &[Op]) -> Pending<'a> {
    let PhaseCall { mut exchange, call, .. } = call;
    debug_assert!(ops.iter().all(|op| op.check_phase(call.phase, exchange.chunk.is_some()).is_ok()));
    if let Err(error) = Op::check_room(ops, &exchange) {
        return failed(exchange, error.to_string());
    }
    ops.iter().cloned().for_each(|op| op.apply(&mut exchange));
    finished(exchange, Outcome::Next)
}

/// What a template gives for this request, as the value of a field. What a client sent into it can make it invalid, and
/// never a second field.
fn rendered_value(template: &Template, exchange: &Exchange) -> Result<HeaderValue, String> {
    let text = template.render(exchange).map_err(|error| error.to_string())?;
    Op::header_value(text.into()).map_err(|error| error.to_string())
}

/// The end of a call for a request with which the configuration makes no sense.
fn failed<'a>(exchange: Box<Exchange>, why: String) -> Pending<'a> {
    finished(exchange, Outcome::Failed(Failure::new(FailureKind::Raised, why)))
}

/// The end of a call.
fn finished<'a>(exchange: Box<Exchange>, outcome: Outcome) -> Pending<'a> {
    Pending::Ready(Finished { exchange, outcome, ops: Vec::new(), state: None })
}
