//! The addresses that the gateway listens on, each with one socket per data-plane thread.
//!
//! A reload keeps the sockets of every address that stands in the new plan too: they are never closed and bound
//! again, so no client notices. What is new is bound before anything changes, so that an address that cannot be had
//! refuses the reload as a whole.

use super::StartError;
use nylon_config::Plan;
use socket2::{Domain, Socket, Type};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Connections that the system holds until they are accepted.
pub(super) const LISTEN_QUEUE: i32 = 4096;

/// What is spoken at an address. A reload can change it for the connections to come, and needs no other socket for that.
#[derive(Clone, Debug)]
pub(super) struct Speaks(Arc<AtomicBool>);

impl Speaks {
    fn new(tls: bool) -> Speaks {
        Speaks(Arc::new(AtomicBool::new(tls)))
    }

    /// Whether TLS is spoken.
    pub(super) fn tls(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// One address that is listened on.
#[derive(Clone, Debug)]
pub(super) struct Listening {
    /// As the threads know it; never used again.
    pub(super) id: u64,
    /// As configured.
    configured: SocketAddr,
    /// Port 0 resolved.
    pub(super) actual: SocketAddr,
    /// What is spoken there.
    pub(super) speaks: Speaks,
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
    /// Those at which something else is spoken from now on, TLS or not.
    changed: Vec<(Speaks, bool)>,
}

impl Change {
    /// Binds what `plan` has and `now` lacks, for `threads` threads.
    ///
    /// # Errors
    /// The first address that cannot be had; then nothing is bound.
    pub(super) fn prepare(now: &[Listening], plan: &Plan, threads: usize) -> Result<Change, StartError> {
        let plain = plan.http.iter().map(|listener| (listener.address, false));
        let wanted: Vec<_> =
            plain.chain(plan.https.iter().map(|listener| (listener.address, true))).collect();
        let mut left = now.to_vec();
        let mut kept: Vec<Option<Listening>> = vec![None; wanted.len()];
        // Those written alike first: `…:0` stays the port that it got, even where that port is written elsewhere.
        for (place, (address, tls)) in kept.iter_mut().zip(&wanted) {
            *place = take(&mut left, |known| known.configured == *address && known.speaks.tls() == *tls);
        }
        for (place, (address, _)) in kept.iter_mut().zip(&wanted) {
            if place.is_none() && address.port() != 0 {
                *place = take(&mut left, |known| known.actual == *address);
            }
        }
        let mut change =
            Change { after: Vec::new(), added: Vec::new(), removed: Vec::new(), changed: Vec::new() };
        for (kept, (address, tls)) in kept.into_iter().zip(wanted) {
            let listening = match kept {
                Some(kept) => Listening { configured: address, ..kept },
                None => {
                    let bound = bind_all(address, tls, threads)
                        .map_err(|source| StartError::Listen { address, source })?;
                    let listening = bound.listening.clone();
                    change.added.push(bound);
                    listening
                }
            };
            if listening.speaks.tls() != tls {
                change.changed.push((listening.speaks.clone(), tls));
            }
            change.after.push(listening);
        }
        change.removed = left;
        Ok(change)
    }

    /// Lets what is spoken be as the new plan says.
    pub(super) fn speak(&self) {
        for (speaks, tls) in &self.changed {
            speaks.0.store(*tls, Ordering::Relaxed);
        }
    }
}

fn take(left: &mut Vec<Listening>, is: impl Fn(&Listening) -> bool) -> Option<Listening> {
    left.iter().position(is).map(|at| left.remove(at))
}

fn bind_all(configured: SocketAddr, tls: bool, threads: usize) -> io::Result<Bound> {
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
    Ok(Bound { listening: Listening { id, configured, actual, speaks: Speaks::new(tls) }, sockets })
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
