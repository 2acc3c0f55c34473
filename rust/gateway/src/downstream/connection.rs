//! One client connection, served by hyper and closed by the limits of the plan.

use super::normalise::normalise;
use crate::pipeline;
use crate::worker::Worker;
use http::header;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use nylon_core::RequestId;
use std::cell::Cell;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use tokio::net::TcpStream;
use tokio::sync::watch;

thread_local! {
    static SEQUENCE: Cell<u64> = const { Cell::new(0) };
}

fn request_id() -> RequestId {
    use std::hash::{BuildHasher, RandomState};
    thread_local!(static SEED: RandomState = RandomState::new());
    let n = SEQUENCE.get().wrapping_add(1);
    SEQUENCE.set(n);
    let millis = std::time::UNIX_EPOCH.elapsed().map_or(0, |d| d.as_millis() as u64);
    let random = SEED.with(|seed| u128::from(seed.hash_one(n)) << 64 | u128::from(seed.hash_one(!n)));
    let uuid = u128::from(millis) << 80 | random & !(u128::MAX << 80);
    RequestId((uuid & !(0xf << 76) & !(0b11 << 62) | 7 << 76 | 0b10 << 62).to_be_bytes())
}

/// Serves `stream` until the client, a limit or `stopping` ends it.
pub async fn serve_connection(
    worker: Rc<Worker>,
    stream: TcpStream,
    peer: SocketAddr,
    mut stopping: watch::Receiver<bool>,
) {
    let limits = worker.live().plan.limits.clone();
    let owner = worker.clone();
    let service = service_fn(move |request| {
        let worker = worker.clone();
        async move {
            let id = request_id();
            let plan = worker.live().plan.clone();
            let response = match normalise(request, peer, id, &plan) {
                Ok(arrived) => pipeline::serve(&worker, arrived).await,
                Err(answer) => {
                    let mut response = answer.response(id);
                    response
                        .headers_mut()
                        .insert(header::CONNECTION, header::HeaderValue::from_static("close"));
                    response
                }
            };
            Ok::<_, Infallible>(response)
        }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(limits.header_read_timeout);
    builder.max_headers(limits.max_headers).max_buf_size(limits.max_header_bytes.max(8192));
    let connection = builder.serve_connection(TokioIo::new(stream), service).with_upgrades();
    tokio::pin!(connection);
    tokio::select! {
        // How it ended concerns only the client, which has been told as far as it could be.
        _ = connection.as_mut() => {}
        _ = stopping.wait_for(|stop| *stop) => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
    drop(owner);
}
