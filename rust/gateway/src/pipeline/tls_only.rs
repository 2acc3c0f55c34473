//! Plain requests for routes that are served over TLS only.
//!
//! What counts is the scheme that the client used, as far as it can be known: behind a trusted proxy that is what the
//! proxy says of it.

use super::{OutBody, without_port};
use crate::respond;
use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};
use nylon_config::plan::PlainRequests;
use nylon_core::{RequestFacts, RequestHead};

/// What such a request gets instead of the service's response.
pub(super) fn answer(plain: &PlainRequests, facts: &RequestFacts, head: &RequestHead) -> Response<OutBody> {
    let PlainRequests::Redirected(target) = plain else {
        return respond::TLS_ONLY.response(facts.id);
    };
    let query = head.query.as_ref().map(|query| query.as_str());
    let url = target.url(without_port(&facts.host), head.path.as_str(), query);
    // Neither can hold what no field may hold; a service would get them in its request line.
    let Ok(url) = HeaderValue::try_from(url) else { return respond::TLS_ONLY.response(facts.id) };
    let mut response = Response::new(OutBody::full(Bytes::new()));
    // 308 keeps the method and the body; for the others every client knows 301 (RFC 9110, 15.4).
    *response.status_mut() = match head.method {
        Method::GET | Method::HEAD => StatusCode::MOVED_PERMANENTLY,
        _ => StatusCode::PERMANENT_REDIRECT,
    };
    response.headers_mut().insert(header::LOCATION, url);
    response
}
