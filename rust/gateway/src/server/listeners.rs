//! The addresses that the gateway listens on, each with one socket per data-plane thread.
//!
//! A reload keeps the sockets of every address that stands in the new plan too: they are never closed and bound
//! again, so no client notices. What is new is bound before anything changes, so that an address that cannot be had
//! refuses the reload as a whole.

use super::StartError;
use nylon_config::plan::Listener;
use socket2::{Domain, Socket, Type};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU64, Ordering};

/// Connections that the system holds until they are accepted.
pub(super) const LISTEN_QUEUE: i32 = 4096;

/// One address that is listened on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listening {
    /// As the threads know it; never used again.
    pub(super) id: u64,
    /// As configured.
    configured: SocketAddr,
    /// Port 0 resolved.
    pub(super) actual: SocketAddr,
}

/// A new address with its sockets, one per thread.
pub(super) struct Bound {
    pub(super) listening: Listening,
    pub(super) sockets: Vec<TcpListener>,
}

/// What becomes of the addresses when another plan takes over.
pub(super) struct Change {
    /// All that will be listened on, in the new plan's order.
    pub(super) after: Vec<Listening>,
    /// Those of them that are new.
    pub(super) added: Vec<Bound>,
    /// Those that the new plan lacks.
    pub(super) removed: Vec<Listening>,
}

impl Change {
    /// Binds what `wanted` has and `now` lacks, for `threads` threads.
    ///
    /// # Errors
    /// The first address that cannot be had; then nothing is bound.
    pub(super) fn prepare(
        now: &[Listening],
        wanted: &[Listener],
        threads: usize,
    ) -> Result<Change, StartError> {
        let mut left = now.to_vec();
        // Those written alike first: `…:0` stays the port that it got, even where that port is written elsewhere.
        let mut kept: Vec<Option<Listening>> =
            wanted.iter().map(|w| take(&mut left, |known| known.configured == w.address)).collect();
        for (place, listener) in kept.iter_mut().zip(wanted) {
            if place.is_none() && listener.address.port() != 0 {
                *place = take(&mut left, |known| known.actual == listener.address);
            }
        }
        let mut added = Vec::new();
        let mut after = Vec::new();
        for (kept, listener) in kept.into_iter().zip(wanted) {
            let listening = match kept {
                Some(kept) => Listening { configured: listener.address, ..kept },
                None => {
                    let bound = bind_all(listener.address, threads)
                        .map_err(|source| StartError::Listen { address: listener.address, source })?;
                    let listening = bound.listening;
                    added.push(bound);
                    listening
                }
            };
            after.push(listening);
        }
        Ok(Change { after, added, removed: left })
    }
}

fn take(left: &mut Vec<Listening>, is: impl Fn(&Listening) -> bool) -> Option<Listening> {
    left.iter().position(is).map(|at| left.remove(at))
}

fn bind_all(configured: SocketAddr, threads: usize) -> io::Result<Bound> {
    static IDS: AtomicU64 = AtomicU64::new(0);
    let id = IDS.fetch_add(1, Ordering::Relaxed);
    // The first socket listens without SO_REUSEPORT, so it gets the address only if nobody has it, another Nylon
    // included. Only then it may be shared, which no process can do that has not seen it free.
    let first = bind(configured, false)?;
    first.listen(LISTEN_QUEUE)?;
    let actual = first.local_addr()?.as_socket().ok_or(io::ErrorKind::Other)?;
    first.set_reuse_port(true)?;
    let mut sockets = vec![first.into()];
    while sockets.len() < threads {
        let socket = bind(actual, true)?;
        socket.listen(LISTEN_QUEUE)?;
        sockets.push(socket.into());
    }
    Ok(Bound { listening: Listening { id, configured, actual }, sockets })
}

fn bind(address: SocketAddr, reuse_port: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuse_port)?;
    socket.set_nonblocking(true)?;
    // Connections inherit it. Without it a small response can wait for an acknowledgement.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}
