//! A connection that speaks HTTP/2, served by hyper and closed by the limits of the plan.

/// How much a client may send that is neither a request nor its body.
mod calm;
/// The frames that a client sends.
mod frames;
/// What of a request's head is HTTP/2's own.
mod head;
/// The socket, with a look at the frames.
mod io;
/// The exchanges of a connection.
mod streams;
/// What an extended CONNECT is answered with.
mod websocket;

use super::Client;
use super::connection::request_id;
use super::normalise::{normalise, strip_hop_by_hop};
use super::socket::ClientSocket;
use crate::pipeline;
use crate::stop::Stop;
use crate::worker::Worker;
use calm::Calm;
use http::{Method, Request};
use hyper::body::Incoming;
use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use io::Http2Io;
use nylon_config::plan::Limits;
use std::cell::Cell;
use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, SystemTime};
use streams::{Paced, Streams};
use tokio::time::Instant;

/// Bytes of bodies that a client may send before anyone reads them, on one stream and on all together. No stream can
/// take all that there is, so one that nobody reads does not stop the others. h2 lets frames of a few bytes, with all that
/// they cost it, take half of what there is: so much that a stream of small messages can fill its window with them.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;
/// Bytes of a response that wait for the socket, beside the piece that comes next.
const SEND_BUFFER: usize = 64 * 1024;
/// Requests taken back before they were looked at, at once (CVE-2023-44487), and malformed ones, over all; beyond
/// either the client is sent away.
const EARLY_RESETS: usize = 20;
const MALFORMED: usize = 1024;
/// How long a client that was told to go may take to hear it, once nothing of its own is left to do.
const GOODBYE: Duration = Duration::from_secs(2);

/// Serves a connection, accepted at `start`, until the client, a limit or `stop` ends it.
pub(super) fn serve<'s>(
    worker: Rc<Worker>,
    stop: &'s Stop,
    socket: ClientSocket,
    client: Rc<Client>,
    limits: &Limits,
    start: Instant,
) -> impl Future<Output = ()> + use<'s> {
    let idle_time = limits.keepalive_timeout;
    let calm = Rc::new(Calm::new());
    let stuck = Rc::new(Cell::new(start));
    let streams = Streams::new(worker.connection(), limits.write_timeout, stuck.clone());
    let io = Http2Io::new(socket, calm.clone(), stuck, limits.header_read_timeout, start);
    let mut builder = Builder::new(streams.clone());
    builder
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_concurrent_streams(limits.max_concurrent_streams)
        // Validation has bounded it.
        .max_header_list_size(u32::try_from(limits.max_header_bytes).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(EARLY_RESETS)
        .max_local_error_reset_streams(MALFORMED)
        .enable_connect_protocol();
    let beginning = streams.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        let (worker, client, calm, pace) = (worker.clone(), client.clone(), calm.clone(), beginning.begin());
        // In a box: hyper and the runtime move what a stream is made of a few times, and this is nearly all of it.
        Box::pin(async move {
            let now = SystemTime::now();
            let id = request_id(now);
            let connecting = *request.method() == Method::CONNECT;
            let arrived = worker.with_plan(|plan| {
                let target = std::mem::take(request.uri_mut());
                head::check(request.headers_mut(), &target, plan.limits.max_headers)?;
                *request.uri_mut() = target;
                normalise(request, &client, id, now, plan)
            });
            let mut response = match arrived {
                Ok(mut arrived) => {
                    if let Some(upgrade) = &mut arrived.upgrade {
                        let calm = calm.clone();
                        upgrade.on_piece = Some(Rc::new(move || calm.sent_piece()));
                    }
                    pipeline::serve(&worker, arrived).await
                }
                Err(refused) => {
                    tracing::debug!(request_id = %id, client = %client.ip, "refused: {}", refused.text);
                    refused.response(id)
                }
            };
            if connecting {
                response = websocket::answer(response, id);
            }
            // What a handler or an answer of ours says of the connection has no place here (RFC 9113, 8.2.2).
            strip_hop_by_hop(response.headers_mut());
            Ok::<_, Infallible>(response.map(|body| Paced::new(body, pace, calm)))
        })
    });
    let connection = builder.serve_connection(TokioIo::new(io), service);
    async move {
        let mut connection = pin!(connection);
        tokio::select! {
            biased;
            // How it ended concerns only the client, which has been told as far as it could be.
            _ = connection.as_mut() => return,
            () = stop.told() => {}
            () = streams.idle(idle_time, start) => {}
        }
        // What is in flight, on the network too, is served to its end.
        connection.as_mut().graceful_shutdown();
        let gone = Instant::now();
        tokio::select! {
            biased;
            _ = connection => {}
            () = streams.idle(GOODBYE, gone) => {}
        }
    }
}
