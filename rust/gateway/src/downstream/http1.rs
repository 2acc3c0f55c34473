//! A connection that speaks HTTP/1, served by hyper and closed by the limits of the plan.

use super::Client;
use super::connection::{FRESH, request_id};
use super::io::{ClientIo, Progress};
use super::normalise::normalise;
use super::socket::ClientSocket;
use crate::pipeline::{self, BodyAborted, OutBody};
use crate::stop::Stop;
use crate::worker::Worker;
use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, Version, header};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use nylon_config::plan::Limits;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::SystemTime;
use tokio::time::Instant;

/// hyper keeps this many fields of a head on the stack; other limits cost an allocation per request.
const FIELDS_ON_STACK: usize = 100;
/// The smallest buffer that hyper takes.
const LEAST_BUFFER: usize = 8192;
/// Serves a connection, accepted at `start`, until the client, a limit or `stop` ends it.
pub(super) fn serve<'s>(
    worker: Rc<Worker>,
    stop: &'s Stop,
    socket: ClientSocket,
    client: Rc<Client>,
    limits: &Limits,
    start: Instant,
) -> impl Future<Output = ()> + use<'s> {
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.max_header_size(limits.max_header_bytes).max_buf_size(limits.max_header_bytes.max(LEAST_BUFFER));
    if limits.max_headers != FIELDS_ON_STACK {
        builder.max_headers(limits.max_headers);
    }
    let progress = Progress::new(limits, start);
    let io = TokioIo::new(ClientIo::new(socket, progress.clone()));
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
    async move {
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
