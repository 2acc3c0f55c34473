//! `Redirect`: sends the client elsewhere.
//!
//! Whatever a request brings into the target is percent-encoded where it is not a URL's, and a path cannot begin like a
//! host, so that nothing but the configuration chooses the site that a client is sent to. A request that is where it
//! would be sent passes, or it would come again for ever.

use super::ending::{conclude, fail, pass};
use super::heads_only;
use crate::plugin::{EntryTraits, Pending, PhaseCall, PluginEntry};
use http::header;
use http::uri::Authority;
use nylon_config::plan::{Redirect, RedirectTarget};
use nylon_core::{Exchange, FailureKind, Op, Outcome, PhaseMask, TargetPart};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

/// What no URL holds as it is (RFC 3986, 2), and browsers would mend in ways of their own.
const NOT_OF_URLS: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'<')
    .add(b'>')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

pub(super) struct RedirectEntry {
    redirect: Redirect,
    phases: PhaseMask,
}

impl RedirectEntry {
    pub(super) fn new(redirect: Redirect, phases: PhaseMask) -> RedirectEntry {
        RedirectEntry { redirect, phases }
    }

    /// Where the client is to go. An error says why there is no such place.
    fn target(&self, exchange: &Exchange) -> Result<String, String> {
        let mut target = match &self.redirect.target {
            RedirectTarget::Whole(to) => {
                let text = to.render(exchange).map_err(|error| error.to_string())?;
                match text.starts_with(['/', '\\']) {
                    true => encoded_path(&text),
                    false => utf8_percent_encode(&text, NOT_OF_URLS).to_string(),
                }
            }
            RedirectTarget::Parts { scheme, host, port, path } => {
                let facts = &exchange.facts;
                let mut authority = match host {
                    Some(host) => named_host(host.render(exchange).map_err(|error| error.to_string())?)?,
                    None => facts.host.clone(),
                };
                // The request's port belongs to the request's scheme and host.
                let inherited = host.is_none() && scheme.is_none();
                if port.is_some() || (host.is_none() && !inherited) {
                    let port = port.map_or_else(String::new, |port| format!(":{port}"));
                    let text = format!("{}{port}", authority.host());
                    authority = text.parse().map_err(|_| format!("`{text}` is no host"))?;
                }
                let path = match path {
                    Some(path) => encoded_path(&path.render(exchange).map_err(|error| error.to_string())?),
                    None => exchange.request.path.as_str().to_owned(),
                };
                format!("{}://{authority}{path}", scheme.unwrap_or(facts.scheme).name())
            }
        };
        if self.redirect.keep_query
            && let Some(query) = exchange.request.query.as_ref().map(TargetPart::as_str)
        {
            let end = target.find('#').unwrap_or(target.len());
            if !target[..end].contains('?') {
                target.insert_str(end, &format!("?{query}"));
            }
        }
        Ok(target)
    }
}

impl PluginEntry for RedirectEntry {
    fn traits(&self) -> EntryTraits {
        heads_only(self.phases)
    }

    fn keeps_sessions(&self) -> bool {
        false
    }

    fn call<'a>(&'a self, call: PhaseCall<'a>) -> Pending<'a> {
        let exchange = call.exchange;
        let location = self.target(&exchange).and_then(|target| {
            let here = exchange.url();
            let path_of_here = &here[here.len() - exchange.request.target().as_str().len()..];
            if target == here || target == path_of_here {
                return Ok(None);
            }
            Op::header_value(target.into()).map(Some).map_err(|error| error.to_string())
        });
        Pending::Ready(match location {
            Ok(None) => pass(exchange),
            Ok(Some(location)) => {
                let status = Op::SetStatus(self.redirect.status);
                let location = Op::SetResponseHeader(header::LOCATION, location);
                conclude(exchange, &[status, location], Outcome::End)
            }
            Err(why) => fail(exchange, FailureKind::Raised, why),
        })
    }
}

/// A path that does not look like the host of a URL without a scheme, encoded.
fn encoded_path(text: &str) -> String {
    let rest = text.trim_start_matches(['/', '\\']);
    format!("/{}", utf8_percent_encode(rest, NOT_OF_URLS))
}

/// A host that a template gave, perhaps with a port.
fn named_host(text: String) -> Result<Authority, String> {
    let wrong = || format!("`{}` is no host", text.chars().take(80).collect::<String>());
    if text.contains('@') {
        return Err(wrong());
    }
    text.parse().map_err(|_| wrong())
}
