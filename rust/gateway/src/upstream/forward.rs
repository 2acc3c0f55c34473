//! One request to a service, and its response.
//!
//! A pooled connection may turn out to be closed just as it is used. The request then goes out once more, on a
//! fresh connection, but only where that cannot do it twice: hyper hands it back unsent, or it is idempotent and
//! has no body (RFC 9110, 9.2.2).

use super::balance::HttpService;
use super::body::{ForwardBody, Home, SendBody, Upload, UpstreamBody};
use super::connect::connect;
use super::error::ForwardError;
use super::tunnel;
use super::watch::Watch;
use crate::downstream::{Upgrade, strip_hop_by_hop};
use crate::worker::Worker;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version, header};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use nylon_core::{RequestHead, ResponseHead};
use std::rc::Rc;

/// What goes to the service.
pub struct Outgoing {
    /// The head, hop-by-hop fields removed.
    pub head: RequestHead,
    /// The body.
    pub body: ForwardBody,
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
    let turn = service.turn();
    let mut reused = false;
    let mut home = None;
    // What is left of an upgraded connection cannot come back, so it does not take one from the pool.
    if upgrade.is_none() {
        let pooled = worker.pool.take(service.at(turn)).await;
        home = pooled.map(|connection| Home { connection, pool: worker.pool.clone() });
        reused = home.is_some();
    }
    let mut home = match home {
        Some(home) => home,
        None => Box::pin(open(worker, service, turn)).await?,
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
            let head = repeatable.then_some(&mut out.head);
            Box::pin(again(worker, service, turn, &mut home, error, head)).await?
        }
        Err(error) => return Err(failed(&home, error)),
    };
    receive(worker, home, response, upgrade)
}

/// Sends a request once more that failed on a connection used before, where that is safe. `head` is there if the
/// request may be made anew from it.
async fn again(
    worker: &Rc<Worker>,
    service: &HttpService,
    turn: usize,
    home: &mut Home,
    mut error: TrySendError<Request<SendBody>>,
    head: Option<&mut RequestHead>,
) -> Result<Response<Incoming>, ForwardError> {
    let mut request = match (error.take_message(), head) {
        (Some(unsent), _) => unsent,
        // What came was no HTTP, or came too late: the connection was alive, and would be so again.
        (None, Some(head)) if !error.error().is_parse() && !home.connection.watch.is_late() => {
            let fields = std::mem::take(&mut head.headers);
            self::request(head, fields, SendBody::Empty)
        }
        (None, _) => return Err(failed(home, error)),
    };
    *home = open(worker, service, turn).await?;
    if let SendBody::Client(_, clocks) = request.body_mut() {
        // They were those of the other connection.
        *clocks = home.connection.watch.clone();
    }
    begin(home, &request);
    let answer = home.connection.sender.try_send_request(request).await;
    home.connection.watch.answered();
    answer.map_err(|error| failed(home, error))
}

/// A fresh connection to the first endpoint that can be reached.
async fn open(worker: &Rc<Worker>, service: &HttpService, turn: usize) -> Result<Home, ForwardError> {
    let mut failed = None;
    for address in service.from(turn) {
        match connect(worker, address).await {
            Ok(connection) => return Ok(Home { connection, pool: worker.pool.clone() }),
            Err(error) => {
                // The last one's is returned.
                if let Some(error) = failed.replace(error) {
                    tracing::warn!(service = %service.name(), "{error}");
                }
            }
        }
    }
    Err(failed.expect("a service has an endpoint: validation refuses one without"))
}

/// Starts the connection's clock for `request`.
fn begin(home: &Home, request: &Request<SendBody>) {
    home.connection.watch.send(match request.body() {
        SendBody::Client(..) => Upload::Sending,
        SendBody::Empty | SendBody::Bytes(_) => Upload::Sent,
    });
}

/// Why an exchange failed.
fn failed(home: &Home, error: TrySendError<Request<SendBody>>) -> ForwardError {
    let watch = &home.connection.watch;
    let address = home.connection.watch.address().to_string();
    match watch.upload.take() {
        Upload::Failed(error) => ForwardError::ClientBody(error),
        Upload::Sending | Upload::Sent if watch.is_late() => ForwardError::ResponseTimeout {
            address,
            millis: watch.limits().response_head_timeout.as_millis(),
        },
        Upload::Sending | Upload::Sent => ForwardError::Broken { address, source: error.into_error() },
    }
}

fn request(head: &RequestHead, fields: HeaderMap, body: SendBody) -> Request<SendBody> {
    let mut request = Request::new(body);
    *request.uri_mut() = head.target().into();
    *request.method_mut() = head.method.clone();
    *request.version_mut() = Version::HTTP_11;
    *request.headers_mut() = fields;
    request
}

fn send(body: ForwardBody, watch: &Rc<Watch>) -> SendBody {
    match body {
        ForwardBody::Empty => SendBody::Empty,
        ForwardBody::Bytes(bytes) => SendBody::Bytes(Some(bytes)),
        ForwardBody::Client(body) => SendBody::Client(body, watch.clone()),
    }
}

/// Makes the fields that frame the message right, whatever handlers wrote: one message comes out, as long as its
/// body is.
fn frame(headers: &mut HeaderMap, body: &ForwardBody, upgrade: Option<&Upgrade>) {
    strip_hop_by_hop(headers);
    let length = match body {
        ForwardBody::Empty => None,
        ForwardBody::Bytes(bytes) => Some(bytes.len() as u64),
        ForwardBody::Client(body) => http_body::Body::size_hint(body).exact(),
    };
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
fn receive(
    worker: &Rc<Worker>,
    home: Home,
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
        strip_hop_by_hop(&mut parts.headers);
        let head = ResponseHead { status: parts.status, headers: parts.headers };
        return Ok(Forwarded { head, body: UpstreamBody::new(body, Some(home)) });
    }
    let protocol = response.headers().get(header::UPGRADE).cloned();
    let (Some(upgrade), Some(protocol)) = (upgrade, protocol) else {
        return Err(invalid("it switched protocols without being asked to"));
    };
    let silence = home.connection.watch.limits().read_timeout;
    tunnel::open(worker, upgrade, hyper::upgrade::on(&mut response), silence);
    let (mut parts, body) = response.into_parts();
    strip_hop_by_hop(&mut parts.headers);
    parts.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    parts.headers.insert(header::UPGRADE, protocol);
    let head = ResponseHead { status: parts.status, headers: parts.headers };
    Ok(Forwarded { head, body: UpstreamBody::new(body, None) })
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
