//! The life of one request: route, `request_filter`, service, `response_filter`, `response_body_filter`, send,
//! `logging`.
//!
//! A rule without middleware is only forwarded: nothing of the machinery for phases is touched. The pipeline
//! knows plugins by [`crate::plugin::PluginEntry`] and no HTTP engine beyond the bodies that it passes on.

/// A plan with its hosts, routes and services.
mod live;
/// Which rule a request belongs to.
mod route;
/// Plain requests for routes that want TLS.
mod tls_only;
/// The request body and who gets it.
mod source;
/// One exchange × the middlewares of its rule.
mod flow;
/// What happens once the request phase is over: service, response phases.
mod answer;
/// The response body before any filter: a service's, or one that a handler writes.
mod service_body;
/// The response body, read whole.
mod whole;
/// The response body, filtered or not.
mod body;
/// The phase after the last byte.
mod logging;

pub use body::{BodyAborted, OutBody};
pub use live::LivePlan;
pub use logging::LogQueue;
pub use route::{Routed, Router, RuleMatch};

use crate::downstream::{Arrived, normalise_path};
use crate::files::Files;
use crate::respond::{self, ErrorAnswer};
use crate::upstream::{ForwardBody, HttpService, Outgoing, forward};
use crate::worker::Worker;
use flow::{Flow, Verdict};
use http::uri::Authority;
use http::{HeaderValue, Response, header};
use http_body::Body;
use live::LiveService;
use nylon_core::{Exchange, Params, Phase, RequestFacts, RequestHead, RequestId, Scheme, TargetPart};
use percent_encoding::percent_decode_str;
use service_body::ServiceBody;
use source::RequestSource;
use std::borrow::Cow;
use std::rc::Rc;
use std::time::Instant;

/// Serves one request, from its normalised head to a response whose body is still to be sent.
pub async fn serve(worker: &Rc<Worker>, arrived: Arrived) -> Response<OutBody> {
    let live = worker.live();
    let Arrived { mut facts, mut head, body, upgrade } = arrived;
    // Before routing: no route, redirect or middleware may stand between an authority and its proof.
    if let Some(proof) = worker.answers.answer(head.path.as_str()) {
        return proof;
    }
    let (rule, rewritten) = match find(&live, &mut facts, &head) {
        Ok(found) => found,
        Err(refusal) => return refusal.response(facts.id),
    };
    let links = &live.rules[rule].links;
    if links.is_empty() {
        let service = &live.rules[rule].service;
        if let Some(path) = rewritten {
            head.path = path;
        }
        match service {
            LiveService::Http(service) => {
                let body = if body.is_end_stream() { ForwardBody::Empty } else { ForwardBody::Client(body) };
                let mut out = Outgoing { head, body, client: facts.client_ip, upgrade };
                return plain(worker, service, &mut out, facts.id).await;
            }
            LiveService::Files(files) => return Box::pin(file(files, head, facts.id)).await,
            LiveService::Plugin => unreachable!("a plugin service is a link itself"),
        }
    }
    let id = facts.id;
    let logs = links.iter().any(|link| link.handles(Phase::Logging));
    let source = RequestSource::new(body, live.plan.limits.max_body_bytes);
    let started = Instant::now();
    let rewrite = rewritten.map(|to| answer::Rewritten { from: head.path.clone(), to });
    let exchange = Box::new(Exchange::new(facts, head));
    let mut flow = Box::new(Flow::new(worker.clone(), live, rule, exchange, source, started));
    let onward = answer::Onward { upgrade, rewrite };
    if !logs {
        let verdict = flow.request_phase().await;
        if matches!(verdict, Verdict::Next) && flow.is_through() {
            let (mut out, live) = flow.into_outgoing(onward);
            let LiveService::Http(service) = &live.rules[rule].service else {
                unreachable!("an exchange is through only where it is to be forwarded")
            };
            return plain(worker, service, &mut out, id).await;
        }
        // In a box: the future of a request that is only forwarded would have to have room for it.
        return Box::pin(answer::run(flow, verdict, onward)).await;
    }
    // The exchange must outlive a client that leaves: its logging is owed. The task ends with its deadlines.
    let (send, receive) = tokio::sync::oneshot::channel();
    tokio::task::spawn_local(async move {
        let verdict = flow.request_phase().await;
        // Nobody is there to take it when the client has left; dropping it starts the logging.
        let _ = send.send(answer::run(flow, verdict, onward).await);
    });
    match receive.await {
        Ok(response) => response,
        Err(_) => respond::PANICKED.response(id),
    }
}

/// Forwards a request that no middleware wants to see any more.
async fn plain(
    worker: &Rc<Worker>,
    service: &HttpService,
    out: &mut Outgoing,
    id: RequestId,
) -> Response<OutBody> {
    match forward(worker, service, out).await {
        Ok(forwarded) => {
            let mut response = Response::new(OutBody::service(ServiceBody::Upstream(forwarded.body)));
            *response.status_mut() = forwarded.head.status;
            *response.headers_mut() = forwarded.head.headers;
            response
        }
        Err(error) => {
            tracing::warn!(request_id = %id, service = %service.name(), "{error}");
            let mut response = respond::upstream_failure(&error).response(id);
            respond::retry_after(&error, response.headers_mut());
            response
        }
    }
}

/// Answers a request with a file that no middleware wants to see.
async fn file(files: &Files, head: RequestHead, id: RequestId) -> Response<OutBody> {
    match files.serve(&head, id).await {
        Ok((head, body)) => {
            let mut response = Response::new(OutBody::service(ServiceBody::File(body)));
            *response.status_mut() = head.status;
            *response.headers_mut() = head.headers;
            response
        }
        Err(answer) => answer.response(id),
    }
}

/// A request without a rule.
enum Refusal {
    Error(ErrorAnswer),
    OtherMethods(String),
    /// The rule is there, but not for plain requests.
    TlsOnly(Box<Response<OutBody>>),
}

impl Refusal {
    fn response(self, id: RequestId) -> Response<OutBody> {
        match self {
            Refusal::Error(answer) => answer.response(id),
            Refusal::OtherMethods(methods) => {
                let mut response = respond::OTHER_METHODS.response(id);
                if let Ok(methods) = HeaderValue::try_from(methods) {
                    response.headers_mut().insert(header::ALLOW, methods);
                }
                response
            }
            Refusal::TlsOnly(response) => *response,
        }
    }
}

/// The rule for a request and the path its service is to see, where that is another.
fn find(
    live: &LivePlan,
    facts: &mut RequestFacts,
    head: &RequestHead,
) -> Result<(usize, Option<TargetPart>), Refusal> {
    let path = head.path.as_str();
    let found = match live.router.find(&head.headers, without_port(&facts.host), &head.method, path) {
        Routed::Rule(found) => found,
        Routed::NoRoute => return Err(Refusal::Error(respond::NO_ROUTE)),
        Routed::OtherMethods(methods) => return Err(Refusal::OtherMethods(methods)),
    };
    let RuleMatch { rule, pattern, params } = found;
    if let Some(plain) = &live.rules[rule].plain
        && facts.scheme == Scheme::Http
    {
        return Err(Refusal::TlsOnly(Box::new(tls_only::answer(plain, facts, head))));
    }
    // Without middleware nobody asks for them.
    if !params.is_empty() && !live.rules[rule].links.is_empty() {
        let decode = |text| match memchr::memchr(b'%', str::as_bytes(text)) {
            Some(_) => percent_decode_str(text).decode_utf8_lossy(),
            None => Cow::Borrowed(text),
        };
        facts.params = Params::new(params.iter().map(|(name, value)| (name, decode(value))));
    }
    let Some(rewrite) = &live.rules[rule].rewrite else { return Ok((rule, None)) };
    let param = |name: &str| params.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
    let text = rewrite.apply(pattern, param);
    // Captured pieces, put together anew, could make dot segments or other characters than the client's path had.
    match normalise_path(&text).filter(|path| path.as_str() == text) {
        Some(path) => Ok((rule, Some(path))),
        None => Err(Refusal::Error(respond::REWRITE_IMPOSSIBLE)),
    }
}

/// The host of an authority that holds no user information: normalising has refused that.
fn without_port(authority: &Authority) -> &str {
    let text = authority.as_str();
    match text.bytes().rposition(|byte| matches!(byte, b':' | b']')) {
        Some(at) if text.as_bytes()[at] == b':' => &text[..at],
        _ => text,
    }
}

impl ErrorAnswer {
    /// The whole response.
    pub fn response(self, id: RequestId) -> Response<OutBody> {
        let (head, body) = self.for_request(id);
        let mut response = Response::new(OutBody::full(body));
        *response.status_mut() = head.status;
        *response.headers_mut() = head.headers;
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_not_part_of_the_host() {
        for (authority, host) in [
            ("a.example", "a.example"),
            ("a.example:80", "a.example"),
            ("[::1]", "[::1]"),
            ("[::1]:8080", "[::1]"),
            ("127.0.0.1:1", "127.0.0.1"),
        ] {
            let authority = Authority::from_static(authority);
            assert_eq!((without_port(&authority), authority.host()), (host, host));
        }
    }
}
