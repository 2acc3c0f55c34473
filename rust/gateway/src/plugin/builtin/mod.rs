//! Plugins of the gateway's own.
//!
//! To the pipeline a built-in is an entry like any other: it takes its place in the chain, keeps to the policies, and
//! makes its changes with [`Op`]s. It has no host, since nothing of it is loaded, waited for or ended apart from the
//! plan; its settings were checked with the configuration, so that what is left to fail are values that a request
//! brings. Most answer at once, and cost an exchange that they have nothing to change in no allocation.

/// What is done beside requests.
mod background;
/// Users who log in.
mod basic_auth;
/// Bodies that travel smaller.
mod compress;
/// Pages of other sites.
mod cors;
/// What makes bodies smaller.
mod encoder;
/// Fields of a head.
mod headers;
/// Requests by the client's address.
mod ip_filter;
/// Tokens.
mod jwt_auth;
/// What outlives a reload.
mod kept;
/// How many requests are let through.
mod rate_limit;
/// Answers that lead elsewhere.
mod redirect;
/// Requests that are not let through.
mod refusal;
/// The name of a request.
mod request_id;
/// What built-ins have beside their settings.
mod state;
/// Files that change.
mod watched;

pub(crate) use state::State;

use super::{BodyUse, EntryTraits, Pending, PhaseCall, PluginEntry};
use crate::respond::ErrorAnswer;
use http::{HeaderMap, HeaderValue, header};
use nylon_config::plan::{Builtin, Plan};
use nylon_core::template::Template;
use nylon_core::{Exchange, Failure, FailureKind, Finished, Op, Outcome, PhaseMask};
use std::sync::Arc;

/// The entry that does what `builtin` says. `state` is what the built-ins of all plans share.
///
/// # Errors
/// Why it cannot begin: a file that was right when the configuration was read and is so no more, say.
pub(crate) fn entry(builtin: &Builtin, plan: &Plan, state: &State) -> Result<Arc<dyn PluginEntry>, String> {
    let phases = builtin.phases();
    Ok(match builtin {
        Builtin::RequestHeaderModifier(changes) => Arc::new(headers::HeaderModifier::of_requests(changes)),
        Builtin::ResponseHeaderModifier(changes) => Arc::new(headers::HeaderModifier::of_responses(changes)),
        Builtin::Cors(cors) => Arc::new(cors::CorsEntry::new(cors, phases)),
        Builtin::Redirect(redirect) => Arc::new(redirect::RedirectEntry::new(redirect.clone(), phases)),
        Builtin::RequestId(field) => Arc::new(request_id::RequestIdEntry::new(field.clone(), phases)),
        Builtin::Compress(compress) => Arc::new(compress::CompressEntry::new(compress.clone(), phases)),
        Builtin::RateLimit(rules) => Arc::new(rate_limit::RateEntry::new(rules, phases, plan, state)?),
        Builtin::IpFilter(rules) => Arc::new(ip_filter::IpEntry::new(rules, phases)),
        Builtin::BasicAuth(rules) => Arc::new(basic_auth::BasicEntry::new(rules, phases, state)?),
        Builtin::JwtAuth(rules) => Arc::new(jwt_auth::JwtEntry::new(rules, phases, state)?),
    })
}

/// Of an entry that is called in these phases and looks at no body.
const fn heads_only(phases: PhaseMask) -> EntryTraits {
    EntryTraits { phases, request_body: false, response_body: BodyUse::OnDemand }
}

/// Goes on with nothing changed.
fn pass<'a>(exchange: Box<Exchange>) -> Pending<'a> {
    finished(exchange, Outcome::Next)
}

/// Applies `ops`, all of them or, where the head has no room for them, none. Made whole before the first is applied, they
/// need no copy of the head to be undone with, as a handler's do, which come one by one.
fn apply<'a>(call: PhaseCall<'a>, ops: &[Op], outcome: Outcome) -> Pending<'a> {
    let PhaseCall { mut exchange, call, .. } = call;
    debug_assert!(ops.iter().all(|op| op.check_phase(call.phase, exchange.chunk.is_some()).is_ok()));
    if let Err(error) = Op::check_room(ops, &exchange) {
        return failed(exchange, error.to_string());
    }
    ops.iter().cloned().for_each(|op| op.apply(&mut exchange));
    finished(exchange, outcome)
}

/// Ends the exchange with an answer of the gateway's own, with these fields in its head.
fn refuse<'a>(call: PhaseCall<'a>, answer: ErrorAnswer, fields: &[Op]) -> Pending<'a> {
    let (head, body) = answer.for_request(call.exchange.facts.id);
    let mut ops = vec![Op::SetStatus(head.status), Op::SetResponseBody(body)];
    ops.extend(head.headers.iter().map(|(name, value)| Op::SetResponseHeader(name.clone(), value.clone())));
    ops.extend_from_slice(fields);
    apply(call, &ops, Outcome::End)
}

/// What a template gives for this request, as the value of a field. What a client sent into it can make it invalid, and
/// never a second field.
fn rendered_value(template: &Template, exchange: &Exchange) -> Result<HeaderValue, String> {
    let text = template.render(exchange).map_err(|error| error.to_string())?;
    Op::header_value(text.into()).map_err(|error| error.to_string())
}

/// Says that the response depends on a request's field, unless it says so already.
fn vary(headers: &HeaderMap, name: &'static str) -> Option<Op> {
    let said = headers.get_all(header::VARY).iter().flat_map(|line| line.as_bytes().split(|b| *b == b','));
    let mut said = said.map(<[u8]>::trim_ascii);
    let says = said.any(|known| known == b"*" || known.eq_ignore_ascii_case(name.as_bytes()));
    (!says).then(|| Op::AddResponseHeader(header::VARY, HeaderValue::from_static(name)))
}

/// The end of a call for a request with which the configuration makes no sense.
fn failed<'a>(exchange: Box<Exchange>, why: String) -> Pending<'a> {
    finished(exchange, Outcome::Failed(Failure::new(FailureKind::Raised, why)))
}

/// The end of a call.
fn finished<'a>(exchange: Box<Exchange>, outcome: Outcome) -> Pending<'a> {
    Pending::Ready(Finished { exchange, outcome, ops: Vec::new(), state: None })
}
