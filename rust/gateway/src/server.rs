//! The data plane as a whole: it binds the addresses, starts a thread per core and stops them all.

use crate::downstream::{Ends, serve_connection};
use crate::pipeline::LivePlan;
use crate::plugin::PluginHost;
use crate::worker::Worker;
use arc_swap::ArcSwap;
use nylon_config::{Diagnostic, Plan};
use socket2::{Domain, Socket, Type};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// After an accept that failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How often a stop looks whether all is done.
const STOP_STEP: Duration = Duration::from_millis(2);
/// Connections that the system holds until they are accepted.
const LISTEN_QUEUE: i32 = 4096;

/// Runs the body of each data-plane thread; a binding keeps its thread state around it.
pub type ThreadHook = Arc<dyn Fn(Box<dyn FnOnce() + Send>) + Send + Sync>;

/// Why the data plane did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The plan names something that a plugin lacks.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Plan(Vec<Diagnostic>),
    /// An address cannot be had.
    #[error("cannot listen on {address}: {source}{}", listen_hint(source))]
    Listen {
        /// The address, as configured.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// A thread cannot be started.
    #[error("cannot start a data-plane thread: {0}")]
    Thread(#[source] io::Error),
}

/// What to do about an address that cannot be had.
fn listen_hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; another process, perhaps another Nylon, listens there",
        io::ErrorKind::PermissionDenied => "; ports below 1024 need root or CAP_NET_BIND_SERVICE",
        io::ErrorKind::AddrNotAvailable => "; it is no address of this machine",
        _ => "",
    }
}

/// A running data plane.
pub struct Server {
    addresses: Vec<SocketAddr>,
    stop: watch::Sender<Option<Duration>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Server {
    /// Starts the data plane. `hosts` are in the order of `plan.plugins`.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running.
    pub fn start(
        plan: Arc<Plan>,
        hosts: Vec<Arc<dyn PluginHost>>,
        hook: Option<ThreadHook>,
    ) -> Result<Server, StartError> {
        let live = LivePlan::build(plan.clone(), hosts).map_err(StartError::Plan)?;
        let live = Arc::new(ArcSwap::from_pointee(live));
        let count =
            plan.runtime.threads.or_else(|| std::thread::available_parallelism().ok().map(Into::into));
        let count = count.unwrap_or(1);
        let mut addresses = Vec::new();
        let mut sets: Vec<Vec<TcpListener>> = (0..count).map(|_| Vec::new()).collect();
        for listener in &plan.http {
            let fail = |source| StartError::Listen { address: listener.address, source };
            // The first socket listens without SO_REUSEPORT, so it gets the address only if nobody has it, another
            // Nylon included. Only then it may be shared, which no process can do that has not seen it free.
            let first = bind(listener.address, false).map_err(fail)?;
            first.listen(LISTEN_QUEUE).map_err(fail)?;
            let address = first.local_addr().and_then(|a| a.as_socket().ok_or(io::ErrorKind::Other.into()));
            let address = address.map_err(fail)?;
            first.set_reuse_port(true).map_err(fail)?;
            addresses.push(address);
            let mut first = Some(first);
            for set in &mut sets {
                let socket = match first.take() {
                    Some(first) => first,
                    None => {
                        let socket = bind(address, true).map_err(fail)?;
                        socket.listen(LISTEN_QUEUE).map_err(fail)?;
                        socket
                    }
                };
                set.push(socket.into());
            }
        }
        let (stop, stopping) = watch::channel(None);
        let room = Arc::new(Semaphore::new(plan.limits.max_connections));
        let server = Server { addresses, stop, threads: Mutex::default() };
        for (number, listeners) in sets.into_iter().enumerate() {
            let (live, room, stopping, hook) = (live.clone(), room.clone(), stopping.clone(), hook.clone());
            let body = move || run(live, listeners, room, stopping);
            let thread =
                std::thread::Builder::new().name(format!("nylon-{number}")).spawn(move || match hook {
                    Some(hook) => hook(Box::new(body)),
                    None => body(),
                });
            match thread {
                Ok(thread) => server.threads.lock().unwrap_or_else(|e| e.into_inner()).push(thread),
                Err(error) => {
                    server.stop(Duration::ZERO);
                    return Err(StartError::Thread(error));
                }
            }
        }
        Ok(server)
    }

    /// The addresses listened on, port 0 resolved, in the plan's order.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Stops accepting, lets open requests finish within `grace`, cuts the rest, and joins all threads.
    pub fn stop(&self, grace: Duration) {
        self.stop.send_replace(Some(grace));
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(|e| e.into_inner()));
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a data-plane thread panicked");
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop(Duration::ZERO);
    }
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

fn run(
    live: Arc<ArcSwap<LivePlan>>,
    listeners: Vec<TcpListener>,
    room: Arc<Semaphore>,
    mut stopping: watch::Receiver<Option<Duration>>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default());
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return tracing::error!("cannot start a data-plane runtime: {error}"),
    };
    runtime.block_on(async move {
        let worker = Worker::new(live);
        let logging = tokio::task::spawn_local(worker.logs.clone().run());
        let accepting: Vec<_> = listeners
            .into_iter()
            .map(|listener| tokio::task::spawn_local(accept(worker.clone(), listener, room.clone())))
            .collect();
        let grace =
            stopping.wait_for(Option::is_some).await.ok().and_then(|grace| *grace).unwrap_or_default();
        worker.stop.tell();
        let until = Instant::now() + grace;
        while Instant::now() < until
            && (accepting.iter().any(|a| !a.is_finished()) || worker.connections() > 0)
        {
            tokio::time::sleep(STOP_STEP).await;
        }
        accepting.iter().for_each(tokio::task::JoinHandle::abort);
        // Dropping the runtime cuts what is left. Logging has its own time, if there is any at all.
        let more = worker.live().plan.runtime.graceful_shutdown_timeout;
        let until = if grace.is_zero() { Instant::now() } else { Instant::now() + more };
        while Instant::now() < until && !worker.logs.is_idle() {
            tokio::time::sleep(STOP_STEP).await;
        }
        logging.abort();
    });
}

/// Accepts for as long as there is room; what waits, waits in the listen queue. A stop empties the queue first:
/// those clients are connected already, as far as they know.
async fn accept(worker: Rc<Worker>, listener: TcpListener, room: Arc<Semaphore>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!("cannot watch a listener: {error}"),
    };
    let local = match listener.local_addr() {
        Ok(local) => local,
        Err(error) => return tracing::error!("a listener has no address: {error}"),
    };
    let told = worker.stop.told();
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
                    Ok(place) = room.clone().acquire_owned() => serve(&worker, stream, Ends { peer, local }, place),
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
                serve(&worker, stream, Ends { peer, local }, place);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(error) => tracing::warn!("cannot accept a connection: {error}"),
        }
    }
}

/// Serves a connection in a task of its own, which the worker counts and its runtime ends.
fn serve(worker: &Rc<Worker>, stream: TcpStream, ends: Ends, place: OwnedSemaphorePermit) {
    let guard = worker.connection();
    let worker = worker.clone();
    tokio::task::spawn_local(async move {
        serve_connection(worker, stream, ends).await;
        drop((guard, place));
    });
}
