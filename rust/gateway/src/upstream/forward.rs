//! One request to a service, and its response.
//!
//! A pooled connection may turn out to be closed just as it is used. The request then goes out once more, on a
//! fresh connection, but only where that cannot do it twice: hyper hands it back unsent, or it is idempotent and
//! has no body (RFC 9110, 9.2.2).

use super::balance::{Address, HttpService};
use super::body::{ForwardBody, Home, SendBody, Upload, UpstreamBody};
use super::error::ForwardError;
use super::tunnel;
use crate::downstream::{Upgrade, strip_hop_by_hop};
use crate::worker::Worker;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version, header};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use nylon_core::{RequestHead, ResponseHead};
use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};

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

type Upstream = SendRequest<SendBody>;

/// Sends a request to the service's next endpoint.
///
/// # Errors
/// [`ForwardError`]; nothing of a response has come then.
pub async fn forward(
    worker: &Rc<Worker>,
    service: &HttpService,
    mut out: Outgoing,
) -> Result<Forwarded, ForwardError> {
    let address = service.next();
    let upgrade = out.upgrade.take();
    frame(&mut out.head.headers, &out.body, upgrade.as_ref());
    let upload = Rc::new(RefCell::new(Upload::Sent));
    let pooled = match upgrade {
        Some(_) => None,
        None => worker.pool.take(address, service.limits().idle_timeout).await,
    };
    let (connection, response) = match pooled {
        None => {
            let request = request(out.head, send(out.body, &upload));
            first(service, address, request, &upload).await?
        }
        Some(mut connection) => {
            let copy = (matches!(out.body, ForwardBody::Empty) && out.head.method.is_idempotent())
                .then(|| out.head.clone());
            let request = request(out.head, send(out.body, &upload));
            let sent = within(service, address, &upload, connection.try_send_request(request)).await?;
            match sent {
                Ok(response) => (connection, response),
                Err(mut error) => match (error.take_message(), copy) {
                    (Some(unsent), _) => first(service, address, unsent, &upload).await?,
                    (None, Some(head)) => {
                        first(service, address, self::request(head, SendBody::Empty), &upload).await?
                    }
                    (None, None) => return Err(broken(address, error.into_error(), &upload)),
                },
            }
        }
    };
    Ok(receive(worker, service, address, connection, response, upgrade))
}

/// Sends on a fresh connection.
async fn first(
    service: &HttpService,
    address: &Address,
    request: Request<SendBody>,
    upload: &RefCell<Upload>,
) -> Result<(Upstream, Response<Incoming>), ForwardError> {
    let mut connection = connect(service, address).await?;
    let sent = within(service, address, upload, connection.try_send_request(request)).await?;
    match sent {
        Ok(response) => Ok((connection, response)),
        Err(error) => Err(broken(address, error.into_error(), upload)),
    }
}

/// Awaits a response for as long as the service may take, counted from the end of the request.
async fn within<T>(
    service: &HttpService,
    address: &Address,
    upload: &RefCell<Upload>,
    sent: impl Future<Output = T>,
) -> Result<T, ForwardError> {
    let limit = service.limits().response_head_timeout;
    tokio::pin!(sent);
    loop {
        let deadline = Instant::now() + limit;
        tokio::select! {
            biased;
            done = &mut sent => return Ok(done),
            // While the client's body is on its way, the clock that counts is the client's.
            () = sleep_until(deadline) => if !matches!(*upload.borrow(), Upload::Sending) {
                return Err(ForwardError::ResponseTimeout {
                    address: address.to_string(),
                    millis: limit.as_millis(),
                });
            },
        }
    }
}

fn broken(address: &Address, source: hyper::Error, upload: &RefCell<Upload>) -> ForwardError {
    match upload.take() {
        Upload::Failed(error) => ForwardError::ClientBody(error),
        Upload::Sending | Upload::Sent => ForwardError::Broken { address: address.to_string(), source },
    }
}

async fn connect(service: &HttpService, address: &Address) -> Result<Upstream, ForwardError> {
    let limit = service.limits().connect_timeout;
    let stream = timeout(limit, TcpStream::connect((address.host(), address.port())))
        .await
        .map_err(|_| ForwardError::ConnectTimeout {
            address: address.to_string(),
            millis: limit.as_millis(),
        })?
        .map_err(|source| ForwardError::Connect { address: address.to_string(), source })?;
    // Without it a small request can wait for an acknowledgement; failing to set it loses nothing else.
    let _ = stream.set_nodelay(true);
    let (connection, driver) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|source| ForwardError::Broken { address: address.to_string(), source })?;
    tokio::task::spawn_local(async move {
        // It ends with its connection; its errors reach whoever waits for a response on it.
        let _ = driver.with_upgrades().await;
    });
    Ok(connection)
}

fn request(head: RequestHead, body: SendBody) -> Request<SendBody> {
    let mut request = Request::new(body);
    *request.uri_mut() = head.target().into();
    *request.method_mut() = head.method;
    *request.version_mut() = Version::HTTP_11;
    *request.headers_mut() = head.headers;
    request
}

fn send(body: ForwardBody, upload: &Rc<RefCell<Upload>>) -> SendBody {
    match body {
        ForwardBody::Empty => SendBody::Empty,
        ForwardBody::Bytes(bytes) => SendBody::Bytes(Some(bytes)),
        ForwardBody::Client(body) => {
            upload.replace(Upload::Sending);
            SendBody::Client(body, upload.clone())
        }
    }
}

/// Makes the fields that frame the message right, whatever handlers wrote: one message comes out, as long as its
/// body is. hyper writes `transfer-encoding` itself where a streamed body has no length.
fn frame(headers: &mut HeaderMap, body: &ForwardBody, upgrade: Option<&Upgrade>) {
    strip_hop_by_hop(headers);
    let length = match body {
        // A GET without a body says nothing about it; a POST says 0, as the client did (RFC 9110, 8.6).
        ForwardBody::Empty => headers.contains_key(header::CONTENT_LENGTH).then_some(0),
        ForwardBody::Bytes(bytes) => Some(bytes.len() as u64),
        ForwardBody::Client(body) => http_body::Body::size_hint(body).exact(),
    };
    match length {
        Some(length) => drop(headers.insert(header::CONTENT_LENGTH, length.into())),
        None => drop(headers.remove(header::CONTENT_LENGTH)),
    }
    if let Some(upgrade) = upgrade {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, upgrade.protocol.clone());
    }
}

fn receive(
    worker: &Rc<Worker>,
    service: &HttpService,
    address: &Address,
    connection: Upstream,
    mut response: Response<Incoming>,
    upgrade: Option<Upgrade>,
) -> Forwarded {
    let switching = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    let protocol = response.headers().get(header::UPGRADE).cloned();
    let stall = service.limits().read_timeout;
    if switching && let Some(upgrade) = upgrade {
        tunnel::open(worker, upgrade, hyper::upgrade::on(&mut response), stall);
    }
    let (mut parts, body) = response.into_parts();
    strip_hop_by_hop(&mut parts.headers);
    if switching && let Some(protocol) = protocol {
        parts.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        parts.headers.insert(header::UPGRADE, protocol);
    }
    let home = Home { connection, pool: worker.pool.clone(), address: address.clone() };
    let head = ResponseHead { status: parts.status, headers: parts.headers };
    Forwarded { head, body: UpstreamBody::new(body, (!switching).then_some(home), stall) }
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
