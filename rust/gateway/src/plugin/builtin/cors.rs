//! `Cors`: tells browsers which pages of other sites may read a response (the Fetch standard, 3.2).
//!
//! The gateway is the only one who says so: what a service says about it is taken out, since two answers are none to a
//! browser. A preflight never reaches the service, be its origin allowed or not.

use super::ending::{conclude, pass, refuse};
use super::{heads_only, vary};
use crate::plugin::{EntryTraits, Pending, PhaseCall, PluginEntry};
use crate::respond;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use nylon_config::plan::{Allowed, Cors, OriginPattern};
use nylon_core::{Exchange, Finished, Op, Outcome, Phase, PhaseMask};

/// What only the gateway says.
const FIELDS: [HeaderName; 6] = [
    header::ACCESS_CONTROL_ALLOW_ORIGIN,
    header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
    header::ACCESS_CONTROL_EXPOSE_HEADERS,
    header::ACCESS_CONTROL_ALLOW_METHODS,
    header::ACCESS_CONTROL_ALLOW_HEADERS,
    header::ACCESS_CONTROL_MAX_AGE,
];

pub(super) struct CorsEntry {
    phases: PhaseMask,
    origins: Allowed<OriginPattern>,
    refuse_others: bool,
    /// What an allowed origin gets to know in any response, beside itself.
    granted: Vec<Op>,
    /// The same of a preflight.
    preflight: Vec<Op>,
}

/// What the request phase leaves for the response.
enum Noted {
    /// The response is the gateway's own, and made already.
    Answered,
    /// The origin that is allowed.
    Allowed(HeaderValue),
}

impl CorsEntry {
    pub(super) fn new(cors: &Cors, phases: PhaseMask) -> CorsEntry {
        let credentials = cors
            .credentials
            .then(|| set(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true")));
        let exposed = listed(header::ACCESS_CONTROL_EXPOSE_HEADERS, &cors.exposed);
        let methods = listed(header::ACCESS_CONTROL_ALLOW_METHODS, &cors.methods);
        let headers = listed(header::ACCESS_CONTROL_ALLOW_HEADERS, &cors.headers);
        let max_age = cors.max_age.map(|age| set(header::ACCESS_CONTROL_MAX_AGE, age.as_secs().into()));
        CorsEntry {
            phases,
            origins: cors.origins.clone(),
            refuse_others: cors.refuse_others,
            granted: credentials.iter().cloned().chain(exposed).collect(),
            preflight: credentials.into_iter().chain(methods).chain(headers).chain(max_age).collect(),
        }
    }

    fn request(&self, call: PhaseCall<'_>) -> Finished {
        let request = &call.exchange.request;
        let Some(origin) = sole(&request.headers) else { return pass(call.exchange) };
        let allowed = self.allows(origin);
        let preflight = request.method == Method::OPTIONS
            && request.headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        if !allowed && self.refuse_others && !is_own(origin, &call.exchange) {
            call.session.slot = Some(Box::new(Noted::Answered));
            let depends = (header::VARY, HeaderValue::from_static("origin"));
            return refuse(call.exchange, respond::OTHER_ORIGIN, [depends]);
        }
        if !preflight {
            if allowed && !matches!(self.origins, Allowed::All) {
                call.session.slot = Some(Box::new(Noted::Allowed(origin.clone())));
            }
            return pass(call.exchange);
        }
        let mut ops = vec![Op::SetStatus(StatusCode::NO_CONTENT)];
        match self.origins {
            Allowed::All => ops.push(allow(HeaderValue::from_static("*"))),
            Allowed::Listed(_) => {
                ops.extend(allowed.then(|| allow(origin.clone())));
                ops.extend(vary(&call.exchange.response.headers, "origin"));
            }
        }
        if allowed {
            ops.extend_from_slice(&self.preflight);
        }
        call.session.slot = Some(Box::new(Noted::Answered));
        conclude(call.exchange, &ops, Outcome::End)
    }

    fn response(&self, call: PhaseCall<'_>) -> Finished {
        let noted = call.session.slot.as_ref().and_then(|slot| slot.downcast_ref::<Noted>());
        let headers = &call.exchange.response.headers;
        let origin = match (noted, &self.origins) {
            (Some(Noted::Answered), _) => return pass(call.exchange),
            (_, Allowed::All) => Some(HeaderValue::from_static("*")),
            (Some(Noted::Allowed(origin)), _) => Some(origin.clone()),
            (None, _) => None,
        };
        let said = FIELDS.into_iter().filter(|name| headers.contains_key(name));
        let mut ops: Vec<Op> = said.map(Op::RemoveResponseHeader).collect();
        if let Some(origin) = origin {
            ops.push(allow(origin));
            ops.extend_from_slice(&self.granted);
        }
        if let Allowed::Listed(_) = self.origins {
            ops.extend(vary(headers, "origin"));
        }
        conclude(call.exchange, &ops, Outcome::Next)
    }

    fn allows(&self, origin: &HeaderValue) -> bool {
        match (&self.origins, origin.to_str()) {
            (Allowed::All, _) => true,
            (Allowed::Listed(patterns), Ok(origin)) => {
                patterns.iter().any(|pattern| matches(pattern, origin))
            }
            (Allowed::Listed(_), Err(_)) => false,
        }
    }
}

impl PluginEntry for CorsEntry {
    fn traits(&self) -> EntryTraits {
        heads_only(self.phases)
    }

    fn call<'a>(&'a self, call: PhaseCall<'a>) -> Pending<'a> {
        Pending::Ready(match call.call.phase {
            Phase::RequestFilter => self.request(call),
            _ => self.response(call),
        })
    }
}

fn set(name: HeaderName, value: HeaderValue) -> Op {
    Op::SetResponseHeader(name, value)
}

fn allow(origin: HeaderValue) -> Op {
    set(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin)
}

/// A field that lists what is allowed; none where nothing is.
fn listed<T: AsRef<str>>(name: HeaderName, allowed: &Allowed<T>) -> Option<Op> {
    let value = match allowed {
        Allowed::All => HeaderValue::from_static("*"),
        Allowed::Listed(items) if items.is_empty() => return None,
        Allowed::Listed(items) => {
            let items: Vec<&str> = items.iter().map(AsRef::as_ref).collect();
            HeaderValue::try_from(items.join(", ")).expect("methods and names of fields are tokens")
        }
    };
    Some(set(name, value))
}

/// The request's origin; of several none counts.
fn sole(headers: &HeaderMap) -> Option<&HeaderValue> {
    let mut origins = headers.get_all(header::ORIGIN).iter();
    origins.next().filter(|_| origins.next().is_none())
}

fn matches(pattern: &OriginPattern, origin: &str) -> bool {
    match pattern {
        OriginPattern::Exact(known) => known == origin,
        OriginPattern::Below { scheme, suffix } => {
            let below = origin.strip_prefix(&**scheme).and_then(|rest| rest.strip_suffix(&**suffix));
            below.is_some_and(|labels| {
                let in_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
                !labels.is_empty() && labels.bytes().all(in_name)
            })
        }
    }
}

/// Whether the page is one of this very host: browsers send an origin there too.
fn is_own(origin: &HeaderValue, exchange: &Exchange) -> bool {
    let own = format!("{}://{}", exchange.facts.scheme.name(), exchange.facts.host);
    origin.as_bytes().eq_ignore_ascii_case(own.as_bytes())
}
