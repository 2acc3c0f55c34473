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
/// How a call ends.
mod ending;
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
/// The name of a request.
mod request_id;
/// What built-ins have beside their settings.
mod state;
/// Files that change.
mod watched;

pub(crate) use state::State;

use super::{BodyUse, EntryTraits, PluginEntry};
use http::{HeaderMap, HeaderValue, header};
use nylon_config::plan::{Builtin, Plan};
use nylon_core::template::Template;
use nylon_core::{Exchange, Op, PhaseMask};
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
