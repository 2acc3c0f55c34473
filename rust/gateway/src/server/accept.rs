//! From a listening socket to a task per connection.

use super::listeners::{LISTEN_QUEUE, Speaks};
use crate::downstream::{ClientStream, Ends, serve_connection};
use crate::socket::Socket;
use crate::stop::Stop;
use crate::tls;
use crate::worker::Worker;
use std::io;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long a stop waits for a handshake.
const LAST_HANDSHAKE: Duration = Duration::from_secs(1);
/// After an accept that failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts for as long as there is room; what waits, waits in the listen queue. Being told to `stop` empties the queue first:
/// those clients are connected already, as far as they know.
pub(super) async fn accept(
    worker: Rc<Worker>,
    listener: TcpListener,
    speaks: Speaks,
    stop: Rc<Stop>,
    room: Arc<Semaphore>,
) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!("cannot watch a listener: {error}"),
    };
    let local = match listener.local_addr() {
        Ok(local) => local,
        Err(error) => return tracing::error!("a listener has no address: {error}"),
    };
    let told = stop.told();
    tokio::pin!(told);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut told => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                // Taken after accepting: a thread that took it before would keep it from the others while it waits.
                tokio::select! {
                    biased;
                    Ok(place) = room.clone().acquire_owned() => {
                        serve(&worker, &stop, stream, speaks.tls(), Ends { peer, local }, place);
                    }
                    () = &mut told => break,
                }
            }
            Err(error) => {
                // Out of file descriptors, mostly: open connections have to end first.
                tracing::warn!("cannot accept a connection: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // From the system itself: the runtime may not have heard yet of connections that wait there already.
    let listener = match listener.into_std() {
        Ok(listener) => listener,
        Err(error) => return tracing::error!("cannot empty the queue of a listener: {error}"),
    };
    for _ in 0..LISTEN_QUEUE {
        let accepted = listener.accept().and_then(|(stream, peer)| {
            stream.set_nonblocking(true)?;
            Ok((TcpStream::from_std(stream)?, peer))
        });
        match accepted {
            Ok((stream, peer)) => {
                let Ok(place) = room.clone().try_acquire_owned() else { return };
                serve(&worker, &stop, stream, speaks.tls(), Ends { peer, local }, place);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(error) => tracing::warn!("cannot accept a connection: {error}"),
        }
    }
}

/// Serves a connection in a task of its own, which the worker counts and its runtime ends.
fn serve(
    worker: &Rc<Worker>,
    stop: &Rc<Stop>,
    stream: TcpStream,
    tls: bool,
    ends: Ends,
    place: OwnedSemaphorePermit,
) {
    let guard = worker.connection();
    let (worker, stop) = (worker.clone(), stop.clone());
    tokio::task::spawn_local(async move {
        let stream = match tls {
            false => Some(ClientStream::Plain(Socket(stream))),
            // In a box: plain connections need no room for it.
            true => Box::pin(shake_hands(&worker, &stop, stream)).await,
        };
        if let Some(stream) = stream {
            serve_connection(worker, &stop, stream, ends).await;
        }
        drop((guard, place));
    });
}

/// The client's TLS connection, where it makes one in time.
async fn shake_hands(worker: &Worker, stop: &Stop, stream: TcpStream) -> Option<ClientStream> {
    let limit = worker.with_plan(|plan| plan.limits.tls_handshake_timeout);
    let told = async {
        stop.told().await;
        // It is on its way, most likely.
        tokio::time::sleep(LAST_HANDSHAKE).await;
    };
    tokio::select! {
        biased;
        shaken = tls::shake_hands(&worker.tls, stream, limit) => Some(ClientStream::Tls(Box::new(shaken?))),
        () = told => None,
    }
}
