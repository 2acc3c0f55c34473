//! One client connection, served by hyper and closed by the limits of the plan.

use super::io::{ClientIo, Progress};
use super::normalise::normalise;
use super::{Client, Ends};
use crate::pipeline::{self, BodyAborted, OutBody};
use crate::stop::Stop;
use crate::worker::Worker;
use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, Version, header};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use nylon_core::{RequestId, Scheme};
use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::net::TcpStream;

/// hyper keeps this many fields of a head on the stack; other limits cost an allocation per request.
const FIELDS_ON_STACK: usize = 100;
/// How long a stop waits for a connection's first request.
const FRESH: std::time::Duration = std::time::Duration::from_millis(50);
/// The smallest buffer that hyper takes.
const LEAST_BUFFER: usize = 8192;

/// Serves `stream` until the client, a limit or `stop` ends it.
pub(crate) async fn serve_connection(worker: Rc<Worker>, stop: &Stop, stream: TcpStream, ends: Ends) {
    let live = worker.live();
    let limits = &live.plan.limits;
    let progress = Progress::new(limits);
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.max_header_size(limits.max_header_bytes).max_buf_size(limits.max_header_bytes.max(LEAST_BUFFER));
    if limits.max_headers != FIELDS_ON_STACK {
        builder.max_headers(limits.max_headers);
    }
    drop(live);
    let mut local = ends.local;
    if local.ip().is_unspecified() {
        // The connection is gone already if it has no address.
        let Ok(own) = stream.local_addr() else { return };
        local = own;
    }
    let ip = ends.peer.ip().to_canonical();
    let ip_value = address_value(ip);
    let client = Rc::new(Client { ip, ip_value, local, scheme: Scheme::Http, host: RefCell::new(None) });
    let io = TokioIo::new(ClientIo::new(stream, progress.clone()));
    let shared = progress.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let (worker, client, progress) = (worker.clone(), client.clone(), shared.clone());
        async move {
            progress.serving();
            let version = request.version();
            let now = SystemTime::now();
            let id = request_id(now);
            let arrived = worker.with_plan(|plan| normalise(request, &client, id, now, plan));
            let response = match arrived {
                Ok(arrived) => pipeline::serve(&worker, arrived).await,
                Err(refused) => {
                    tracing::debug!(request_id = %id, client = %client.ip, "refused: {}", refused.text);
                    let mut response = refused.response(id);
                    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                    response
                }
            };
            let switching = response.status() == StatusCode::SWITCHING_PROTOCOLS;
            progress.answered(switching);
            Ok::<_, Infallible>(response.map(|body| Timed { body, progress, version, switching }))
        }
    });
    let connection = builder.serve_connection(io, service).with_upgrades();
    let told = stop.told();
    tokio::pin!(connection, told);
    tokio::select! {
        biased;
        // How it ended concerns only the client, which has been told as far as it could be.
        _ = connection.as_mut() => {}
        () = told.as_mut() => {
            if progress.is_fresh() {
                // Its first request is on its way, most likely.
                tokio::select! {
                    biased;
                    _ = connection.as_mut() => return,
                    () = tokio::time::sleep(FRESH) => {}
                }
            }
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

/// An address as a field value. Most are IPv4, for which the general way is ten times as long.
fn address_value(ip: IpAddr) -> HeaderValue {
    let IpAddr::V4(ip) = ip else {
        return HeaderValue::try_from(ip.to_string()).expect("an address is text");
    };
    let mut text = Vec::with_capacity(15);
    for (place, octet) in ip.octets().into_iter().enumerate() {
        if place > 0 {
            text.push(b'.');
        }
        text.extend_from_slice(itoa::Buffer::new().format(octet).as_bytes());
    }
    HeaderValue::from_maybe_shared(Bytes::from(text)).expect("digits and dots are text")
}

/// A name for a request, of the form of a UUID version 7 (RFC 9562, 5.7): milliseconds, then bits that differ. They
/// come from a generator (splitmix64) with a random start per thread: a name is no secret.
pub(super) fn request_id(now: SystemTime) -> RequestId {
    thread_local! {
        static STATE: Cell<u64> = Cell::new(RandomState::new().hash_one(0));
    }
    let random = || {
        let state = STATE.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        STATE.set(state);
        let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    };
    let millis = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    let first = millis << 16 | 7 << 12 | random() & 0x0fff;
    let second = 0b10 << 62 | random() >> 2;
    RequestId((u128::from(first) << 64 | u128::from(second)).to_be_bytes())
}

/// A response body that starts the connection's idle clock when it is gone.
struct Timed {
    body: OutBody,
    progress: Arc<Progress>,
    version: Version,
    /// The connection speaks something else from here on, with clocks of its own.
    switching: bool,
}

impl Body for Timed {
    type Data = Bytes;
    type Error = BodyAborted;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyAborted>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if matches!(polled, Poll::Ready(Some(Err(_)))) && self.version < Version::HTTP_11 {
            // Without chunks the end of the connection may be the end of the body.
            self.progress.abort();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Timed {
    fn drop(&mut self) {
        if !self.switching {
            self.progress.served();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_usual() {
        for ip in ["1.2.3.4", "255.0.10.100", "::1", "2001:db8::7"] {
            assert_eq!(address_value(ip.parse().expect("an address")), ip);
        }
    }

    #[test]
    fn request_ids_are_of_version_7_and_differ() {
        let ids: std::collections::HashSet<String> =
            (0..1000).map(|_| request_id(SystemTime::now()).to_string()).collect();
        assert_eq!(ids.len(), 1000);
        assert!(
            ids.iter().all(|id| id.len() == 32
                && id.as_bytes()[12] == b'7'
                && b"89ab".contains(&id.as_bytes()[16]))
        );
    }
}
