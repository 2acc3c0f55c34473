//! One request to a service over HTTP/2.
//!
//! A request that the endpoint says it did nothing with is sent again; another failure is forgiven where a pooled
//! connection of HTTP/1.1 would forgive it, and beyond that as the service's `retry` says.

use super::balance::{Address, HttpService, Seat};
use super::body::{ForwardBody, SendBody, Upload, UpstreamBody};
use super::course::{Cause, Course};
use super::error::ForwardError;
use super::forward::{Forwarded, Outgoing, reason};
use super::kept::Kept;
use super::lines::{Place, place};
use super::pool::Pool;
use super::watch::Watch;
use crate::downstream::{Upgrade, strip_but_trailers};
use crate::worker::Worker;
use bytes::Bytes;
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version, header};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use nylon_core::{RequestHead, ResponseHead};
use std::rc::Rc;
use tokio::time::timeout_at;

/// How often a request may be sent that the endpoint says it did nothing with.
const MAX_ATTEMPTS: usize = 3;

/// What is sent, as often as it takes.
enum Content {
    Empty,
    Bytes(Bytes),
    Client(Kept),
}

impl Content {
    fn new(body: ForwardBody) -> Content {
        match body {
            ForwardBody::Empty => Content::Empty,
            ForwardBody::Bytes(bytes) => Content::Bytes(bytes),
            ForwardBody::Client(client) => Content::Client(Kept::new(client)),
        }
    }

    fn body(&self, watch: &Rc<Watch>) -> SendBody {
        match self {
            Content::Empty => SendBody::Empty,
            Content::Bytes(bytes) => SendBody::Bytes(Some(bytes.clone())),
            Content::Client(kept) => SendBody::Kept(kept.read(), watch.clone()),
        }
    }

    /// A response is here: nothing is sent again.
    fn let_go(&self) {
        if let Content::Client(kept) = self {
            kept.let_go();
        }
    }

    fn is_whole(&self) -> bool {
        match self {
            Content::Empty | Content::Bytes(_) => true,
            Content::Client(kept) => kept.is_whole(),
        }
    }
}

/// Sends a request, whose fields are framed for HTTP/1.1, to the endpoint of `seat`, and to others after it where it was
/// not reached or the service's `retry` says so.
///
/// # Errors
/// [`ForwardError`]; nothing of a response has come then.
pub(super) async fn forward(
    worker: &Rc<Worker>,
    service: &HttpService,
    out: &mut Outgoing,
    mut seat: Seat,
    upgrade: Option<Upgrade>,
) -> Result<Forwarded, ForwardError> {
    // Other protocols than WebSocket are offered, not asked for: the service may pass them over (RFC 9110, 7.8).
    if upgrade.is_some_and(|upgrade| upgrade.protocol.as_bytes().eq_ignore_ascii_case(b"websocket")) {
        return Err(ForwardError::NoUpgrade { address: seat.address().to_string() });
    }
    let retry = service.balancing().retry.as_ref();
    if let Some(retry) = retry {
        service.earn_retry(retry.budget_percent);
    }
    let mut course = Course::new(service);
    let content = Content::new(std::mem::replace(&mut out.body, ForwardBody::Empty));
    let spare = retry.is_some() && out.head.method.is_idempotent() && !matches!(content, Content::Client(_));
    let request = Message { head: &out.head, target: target(seat.address(), &out.head)?, content };
    loop {
        let sent = request.send(&worker.pool, seat.address());
        let outcome = match retry.filter(|_| spare) {
            None => sent.await,
            Some(retry) => {
                let begun = tokio::time::Instant::now();
                let due = course.due(retry);
                timeout_at(due, sent).await.unwrap_or_else(|_| {
                    let millis = (due - begun).as_millis();
                    Err(ForwardError::ResponseTimeout { address: seat.address().to_string(), millis })
                })
            }
        };
        let cause = match &outcome {
            Ok((_, response)) => {
                service.judge(seat.endpoint(), response.status().is_server_error());
                Some(Cause::Answered(response.status()))
            }
            Err(error) => {
                if !matches!(error, ForwardError::ClientBody(_)) {
                    service.judge(seat.endpoint(), true);
                }
                error.cause()
            }
        };
        if let Some(cause) = cause.filter(|cause| spare || *cause == Cause::Unsent)
            && request.content.is_whole()
            && let Some(next) = course.next(&seat, &out.key(), cause).await
        {
            if let Err(error) = &outcome {
                tracing::warn!(service = %service.name(), "sent once more: {error}");
            }
            seat = next;
            continue;
        }
        let (place, response) = outcome?;
        request.content.let_go();
        return receive(place, seat, response);
    }
}

/// Asks the endpoint at `address` for `path`, as `host`.
///
/// # Errors
/// Why there is no answer.
pub(super) async fn ask(
    pool: &Rc<Pool>,
    address: &Address,
    host: &str,
    path: PathAndQuery,
    agent: HeaderValue,
) -> Result<StatusCode, ForwardError> {
    let place = place(pool, address).await?;
    let mut request = Request::new(SendBody::Empty);
    *request.uri_mut() = uri(address, host.as_bytes(), path)?;
    request.headers_mut().insert(header::USER_AGENT, agent);
    let watch = Watch::new(address.clone());
    watch.send(Upload::Sent);
    match watch.drive(place.sender().try_send_request(request)).await {
        Some(Ok(response)) => Ok(response.status()),
        Some(Err(error)) => Err(reason(&watch, error)),
        None => Err(watch.response_timeout()),
    }
}

/// A request, as often as it is sent.
struct Message<'a> {
    head: &'a RequestHead,
    target: Uri,
    content: Content,
}

impl Message<'_> {
    /// Sends it to the endpoint at `address`; again, where that says that it did nothing with it.
    async fn send(
        &self,
        pool: &Rc<Pool>,
        address: &Address,
    ) -> Result<(Place, Response<Incoming>), ForwardError> {
        let mut attempts = 1;
        loop {
            let place = place(pool, address).await?;
            let watch = Rc::new(Watch::new(address.clone()));
            let request = self.request(&watch);
            watch.send(match self.content {
                Content::Client(_) => Upload::Sending,
                Content::Empty | Content::Bytes(_) => Upload::Sent,
            });
            let answer = watch.drive(place.sender().try_send_request(request)).await;
            watch.answered();
            let error = match answer {
                Some(Ok(response)) => return Ok((place, response)),
                Some(Err(error)) => error,
                None => return Err(watch.response_timeout()),
            };
            let failed = matches!(&*watch.upload.borrow(), Upload::Failed(_));
            if failed || attempts == MAX_ATTEMPTS || !self.may_repeat(&place, &error) {
                return Err(reason(&watch, error));
            }
            tracing::debug!("{address} did nothing with a request: {}", error.error());
            attempts += 1;
        }
    }

    /// Whether it can be sent again, after it failed at `place`, without being done twice.
    fn may_repeat(&self, place: &Place, error: &TrySendError<Request<SendBody>>) -> bool {
        let cause = std::error::Error::source(error.error());
        let cause = cause.and_then(|cause| cause.downcast_ref::<h2::Error>());
        let untouched = match cause.filter(|cause| cause.is_remote()) {
            // The last request that it looks at came before this one (RFC 9113, 6.8).
            Some(cause) if cause.is_go_away() => {
                place.avoid();
                true
            }
            Some(cause) => cause.reason() == Some(h2::Reason::REFUSED_STREAM),
            None if place.is_closed() || cause.is_some_and(h2::Error::is_io) => {
                place.avoid();
                let is_empty = matches!(self.content, Content::Empty);
                error.message().is_some() || place.was_open() && is_empty && self.head.method.is_idempotent()
            }
            None => error.message().is_some(),
        };
        untouched && self.content.is_whole()
    }

    /// Turns fields for HTTP/1.1 into those for HTTP/2 (RFC 9113, 8.2.2).
    fn request(&self, watch: &Rc<Watch>) -> Request<SendBody> {
        let mut request = Request::new(self.content.body(watch));
        *request.uri_mut() = self.target.clone();
        *request.method_mut() = self.head.method.clone();
        *request.version_mut() = Version::HTTP_2;
        let mut fields = self.head.headers.clone();
        for name in [header::TRANSFER_ENCODING, header::CONNECTION, header::UPGRADE, header::HOST] {
            fields.remove(name);
        }
        *request.headers_mut() = fields;
        request
    }
}

fn target(address: &Address, head: &RequestHead) -> Result<Uri, ForwardError> {
    let host = head.headers.get(header::HOST).map_or(&[][..], HeaderValue::as_bytes);
    uri(address, host, head.target())
}

fn uri(address: &Address, host: &[u8], path: PathAndQuery) -> Result<Uri, ForwardError> {
    let invalid = |reason| ForwardError::Unsendable { address: address.to_string(), reason };
    Uri::builder()
        .scheme(if address.tls().is_some() { Scheme::HTTPS } else { Scheme::HTTP })
        .authority(Authority::try_from(host).map_err(|_| invalid("its host is no authority"))?)
        .path_and_query(path)
        .build()
        .map_err(|_| invalid("its target is no URI"))
}

fn receive(place: Place, seat: Seat, response: Response<Incoming>) -> Result<Forwarded, ForwardError> {
    let (parts, body) = response.into_parts();
    let mut headers: HeaderMap = parts.headers;
    let invalid = |reason| ForwardError::Invalid { address: seat.address().to_string(), reason };
    if parts.status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(invalid("it switched protocols, which HTTP/2 cannot"));
    }
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let first = lengths.next().cloned();
    if let Some(first) = first
        && lengths.next().is_some()
    {
        if headers.get_all(header::CONTENT_LENGTH).iter().any(|other| *other != first) {
            return Err(invalid("it says two different lengths of its body"));
        }
        headers.insert(header::CONTENT_LENGTH, first);
    }
    strip_but_trailers(&mut headers, true);
    let body = UpstreamBody::on_stream(body, place, seat);
    Ok(Forwarded { head: ResponseHead { status: parts.status, headers }, body })
}
