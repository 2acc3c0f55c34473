//! One request to a service, and its response.
//!
//! A pooled connection may turn out to be closed just as it is used. The request then goes out once more, on a
//! fresh connection, but only where that cannot do it twice: hyper hands it back unsent, or it is idempotent and
//! has no body (RFC 9110, 9.2.2).

use super::balance::{HttpService, Key, Refused, Seat};
use super::body::{ForwardBody, Home, SendBody, Upload, UpstreamBody};
use super::connect::connect;
use super::course::{Cause, Course};
use super::error::ForwardError;
use super::watch::Watch;
use super::{http2, retry, tunnel};
use crate::downstream::{Upgrade, strip_but_trailers, strip_hop_by_hop};
use crate::worker::Worker;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version, header};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use nylon_config::plan::Protocol;
use nylon_core::{RequestHead, ResponseHead};
use std::net::IpAddr;
use std::rc::Rc;

/// What goes to the service.
pub struct Outgoing {
    /// The head, hop-by-hop fields removed.
    pub head: RequestHead,
    /// The body.
    pub body: ForwardBody,
    /// Who sent it.
    pub client: IpAddr,
    /// What the client wants to speak instead of HTTP.
    pub upgrade: Option<Upgrade>,
}

/// What came back.
pub struct Forwarded {
    /// The head, hop-by-hop fields removed.
    pub head: ResponseHead,
    /// The body, streaming.
    pub body: UpstreamBody,
}

impl Outgoing {
    /// What whoever chooses an endpoint may look at.
    pub(super) fn key(&self) -> Key<'_> {
        Key { head: &self.head, client: self.client }
    }
}

/// Sends a request to the service's next endpoint.
///
/// # Errors
/// [`ForwardError`]; nothing of a response has come then.
pub async fn forward(
    worker: &Rc<Worker>,
    service: &HttpService,
    out: &mut Outgoing,
) -> Result<Forwarded, ForwardError> {
    let upgrade = out.upgrade.take();
    frame(&mut out.head.headers, &out.body, upgrade.as_ref());
    let mut seat = match service.choose(&out.key(), &[]) {
        Ok(seat) => seat,
        Err(_) => Box::pin(wait(service, out)).await?,
    };
    if seat.address().protocol() == Protocol::Http2 {
        return Box::pin(http2::forward(worker, service, out, seat, upgrade)).await;
    }
    if let Some(retry) = &service.balancing().retry
        && upgrade.is_none()
    {
        return Box::pin(retry::forward(worker, service, out, seat, retry)).await;
    }
    let mut reused = false;
    let mut home = None;
    // What is left of an upgraded connection cannot come back, so it does not take one from the pool.
    if upgrade.is_none() {
        let pooled = worker.pool.take(seat.address()).await;
        home = pooled.map(|connection| Home { connection, pool: worker.pool.clone() });
        reused = home.is_some();
    }
    let mut home = match home {
        Some(home) => home,
        None => {
            let mut course = Course::new(service);
            Box::pin(open(worker, service, &out.key(), &mut seat, &mut course)).await?
        }
    };
    let body = std::mem::replace(&mut out.body, ForwardBody::Empty);
    // Only the fields are needed twice: the rest of the head is copied into each request anyway.
    let repeatable = reused && matches!(body, ForwardBody::Empty) && out.head.method.is_idempotent();
    let fields = if repeatable { out.head.headers.clone() } else { std::mem::take(&mut out.head.headers) };
    let request = request(&out.head, fields, send(body, &home.connection.watch));
    begin(&home, &request);
    // Not in a function of its own: each one that a response passes through copies it.
    let answer = home.connection.sender.try_send_request(request).await;
    home.connection.watch.answered();
    let response = match answer {
        Ok(response) => response,
        Err(error) if reused => {
            Box::pin(again(worker, service, out, &mut seat, &mut home, error, repeatable)).await?
        }
        Err(error) => return Err(failed(service, &seat, &home, error)),
    };
    service.judge(seat.endpoint(), response.status().is_server_error());
    receive(worker, home, seat, response, upgrade)
}

/// A place at an endpoint, where none was free.
pub(super) async fn wait(service: &HttpService, out: &Outgoing) -> Result<Seat, ForwardError> {
    service.wait(&out.key()).await.map_err(|refused| match refused {
        Refused::Full(seconds) => ForwardError::Full { seconds },
        Refused::Down(seconds) => ForwardError::Down { seconds },
    })
}

/// Sends a request once more that failed on a connection used before, where that is safe.
async fn again(
    worker: &Rc<Worker>,
    service: &HttpService,
    out: &mut Outgoing,
    seat: &mut Seat,
    home: &mut Home,
    mut error: TrySendError<Request<SendBody>>,
    repeatable: bool,
) -> Result<Response<Incoming>, ForwardError> {
    let Some(mut request) = unsent(out, home, &mut error, repeatable.then_some(SendBody::Empty)) else {
        return Err(failed(service, seat, home, error));
    };
    *home = open(worker, service, &out.key(), seat, &mut Course::new(service)).await?;
    hand_over(&mut request, home);
    begin(home, &request);
    let answer = home.connection.sender.try_send_request(request).await;
    home.connection.watch.answered();
    answer.map_err(|error| failed(service, seat, home, error))
}

/// The request that a connection used before did not take: the very same, or one like it with the body `spare`, if it may
/// be made anew.
pub(super) fn unsent(
    out: &Outgoing,
    home: &Home,
    error: &mut TrySendError<Request<SendBody>>,
    spare: Option<SendBody>,
) -> Option<Request<SendBody>> {
    if let Some(unsent) = error.take_message() {
        return Some(unsent);
    }
    // What came was no HTTP, or came too late: the connection was alive, and would be so again.
    let was_alive = error.error().is_parse() || home.connection.watch.is_late();
    let body = spare.filter(|_| !was_alive)?;
    Some(self::request(&out.head, out.head.headers.clone(), body))
}

/// Gives a request that another connection had to this one.
pub(super) fn hand_over(request: &mut Request<SendBody>, home: &Home) {
    if let SendBody::Client(_, clocks) = request.body_mut() {
        *clocks = home.connection.watch.clone();
    }
}

/// A fresh connection to the endpoint of `seat`, or to another one that can be reached.
pub(super) async fn open(
    worker: &Rc<Worker>,
    service: &HttpService,
    key: &Key<'_>,
    seat: &mut Seat,
    course: &mut Course<'_>,
) -> Result<Home, ForwardError> {
    loop {
        let error = match connect(&worker.pool, seat.address()).await {
            Ok(connection) => return Ok(Home { connection, pool: worker.pool.clone() }),
            Err(error) => error,
        };
        service.judge(seat.endpoint(), true);
        match course.next(seat, key, Cause::Unsent).await {
            // The last one's is returned.
            Some(next) => {
                tracing::warn!(service = %service.name(), "{error}");
                *seat = next;
            }
            None => return Err(error),
        }
    }
}

/// Starts the connection's clock for `request`.
pub(super) fn begin(home: &Home, request: &Request<SendBody>) {
    home.connection.watch.send(match request.body() {
        SendBody::Client(..) | SendBody::Kept(..) => Upload::Sending,
        SendBody::Empty | SendBody::Bytes(_) => Upload::Sent,
    });
}

/// Why an exchange failed, which its endpoint is judged by where it is its fault.
pub(super) fn failed(
    service: &HttpService,
    seat: &Seat,
    home: &Home,
    error: TrySendError<Request<SendBody>>,
) -> ForwardError {
    let error = reason(&home.connection.watch, error);
    if !matches!(error, ForwardError::ClientBody(_)) {
        service.judge(seat.endpoint(), true);
    }
    error
}

/// Why there is no answer to a request that `watch` is for.
pub(super) fn reason(watch: &Watch, error: TrySendError<Request<SendBody>>) -> ForwardError {
    match watch.upload.take() {
        Upload::Failed(error) => ForwardError::ClientBody(error),
        Upload::Sending | Upload::Sent if watch.is_late() => watch.response_timeout(),
        Upload::Sending | Upload::Sent => {
            ForwardError::Broken { address: watch.address().to_string(), source: error.into_error() }
        }
    }
}

pub(super) fn request(head: &RequestHead, fields: HeaderMap, body: SendBody) -> Request<SendBody> {
    let mut request = Request::new(body);
    *request.uri_mut() = head.target().into();
    *request.method_mut() = head.method.clone();
    *request.version_mut() = Version::HTTP_11;
    *request.headers_mut() = fields;
    request
}

pub(super) fn send(body: ForwardBody, watch: &Rc<Watch>) -> SendBody {
    match body {
        ForwardBody::Empty => SendBody::Empty,
        ForwardBody::Bytes(bytes) => SendBody::Bytes(Some(bytes)),
        ForwardBody::Client(body) => SendBody::Client(body, watch.clone()),
    }
}

/// Makes the fields that frame the message right, whatever handlers wrote: one message comes out, as long as its
/// body is.
fn frame(headers: &mut HeaderMap, body: &ForwardBody, upgrade: Option<&Upgrade>) {
    let length = match body {
        ForwardBody::Empty => None,
        ForwardBody::Bytes(bytes) => Some(bytes.len() as u64),
        ForwardBody::Client(body) => http_body::Body::size_hint(body).exact(),
    };
    // Trailers follow what is sent in chunks only.
    let chunked = length.is_none() && !matches!(body, ForwardBody::Empty);
    if strip_but_trailers(headers, chunked) && upgrade.is_none() {
        headers.insert(header::CONNECTION, HeaderValue::from_static("te"));
    }
    match (length, body) {
        (Some(length), _) => drop(headers.insert(header::CONTENT_LENGTH, length.into())),
        // A GET without a body says nothing about it; a POST says 0, as the client did (RFC 9110, 8.6).
        (None, ForwardBody::Empty) => {
            if let header::Entry::Occupied(mut length) = headers.entry(header::CONTENT_LENGTH) {
                length.insert(0.into());
            }
        }
        (None, _) => {
            headers.remove(header::CONTENT_LENGTH);
            // hyper says so itself, but not for a GET, whose body it would drop.
            headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
    }
    if let Some(upgrade) = upgrade {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, upgrade.protocol.clone());
    }
}

/// Checks a response, and takes what is meant for the connection only out of it.
pub(super) fn receive(
    worker: &Rc<Worker>,
    home: Home,
    seat: Seat,
    mut response: Response<Incoming>,
    upgrade: Option<Upgrade>,
) -> Result<Forwarded, ForwardError> {
    let invalid =
        |reason| ForwardError::Invalid { address: home.connection.watch.address().to_string(), reason };
    let headers = response.headers_mut();
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    if let Some(first) = lengths.next() {
        // hyper has refused those that differ.
        let several = lengths.next().map(|_| first.clone());
        if headers.contains_key(header::TRANSFER_ENCODING) {
            // It ought to be handled as an error (RFC 9112, 6.3): someone may read it as two responses.
            return Err(invalid("both content-length and transfer-encoding"));
        }
        if let Some(length) = several {
            headers.insert(header::CONTENT_LENGTH, length);
        }
    }
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let (mut parts, body) = response.into_parts();
        strip_but_trailers(&mut parts.headers, true);
        let head = ResponseHead { status: parts.status, headers: parts.headers };
        return Ok(Forwarded { head, body: UpstreamBody::new(body, Some(home), Some(seat)) });
    }
    let protocol = response.headers().get(header::UPGRADE).cloned();
    let (Some(upgrade), Some(protocol)) = (upgrade, protocol) else {
        return Err(invalid("it switched protocols without being asked to"));
    };
    upgrade.verify(response.headers_mut()).map_err(invalid)?;
    let silence = home.connection.watch.limits().read_timeout;
    tunnel::open(worker, upgrade, hyper::upgrade::on(&mut response), seat, silence);
    let (mut parts, body) = response.into_parts();
    strip_hop_by_hop(&mut parts.headers);
    parts.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    parts.headers.insert(header::UPGRADE, protocol);
    let head = ResponseHead { status: parts.status, headers: parts.headers };
    Ok(Forwarded { head, body: UpstreamBody::new(body, None, None) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn a_replaced_body_gets_its_own_length() {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_LENGTH, 3.into());
        headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        frame(&mut headers, &ForwardBody::Bytes(Bytes::from_static(b"longer")), None);
        assert_eq!(headers[header::CONTENT_LENGTH], "6");
        assert!(!headers.contains_key(header::TRANSFER_ENCODING));
    }
}
