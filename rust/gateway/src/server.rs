//! The data plane as a whole: it binds the addresses, starts a thread per core and stops them all.

use crate::downstream::serve_connection;
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
use tokio::sync::{Semaphore, watch};

/// After an accept that failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
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
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, #[source] io::Error),
    /// A thread cannot be started.
    #[error("cannot start a data-plane thread: {0}")]
    Thread(#[source] io::Error),
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
            let fail = |error| StartError::Listen(listener.address, error);
            // Without SO_REUSEPORT first: with it, another Nylon on this port would silently share it.
            let probe = bind(listener.address, false).map_err(fail)?;
            let address = probe.local_addr().and_then(|a| a.as_socket().ok_or(io::ErrorKind::Other.into()));
            let address = address.map_err(fail)?;
            drop(probe);
            addresses.push(address);
            for set in &mut sets {
                let socket = bind(address, true).map_err(fail)?;
                socket.listen(LISTEN_QUEUE).map_err(fail)?;
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
        let (stop_connections, connections_stopping) = watch::channel(false);
        let sweeping = tokio::task::spawn_local(sweep(worker.clone()));
        let accepting: Vec<_> = listeners
            .into_iter()
            .map(|listener| {
                tokio::task::spawn_local(accept(
                    worker.clone(),
                    listener,
                    room.clone(),
                    connections_stopping.clone(),
                ))
            })
            .collect();
        let grace =
            stopping.wait_for(Option::is_some).await.ok().and_then(|grace| *grace).unwrap_or_default();
        accepting.iter().for_each(tokio::task::JoinHandle::abort);
        sweeping.abort();
        stop_connections.send_replace(true);
        let until = Instant::now() + grace;
        while Instant::now() < until && (worker.connections() > 0 || !worker.logs.is_idle()) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        logging.abort();
    });
}

/// Closes upstream connections that nobody has used for a while.
async fn sweep(worker: Rc<Worker>) {
    loop {
        let idle = worker.live().plan.limits.upstream.idle_timeout;
        tokio::time::sleep(idle.clamp(Duration::from_millis(100), Duration::from_secs(10))).await;
        worker.pool.sweep(idle);
    }
}

/// Accepts for as long as there is room; what waits, waits in the listen queue.
async fn accept(
    worker: Rc<Worker>,
    listener: TcpListener,
    room: Arc<Semaphore>,
    stopping: watch::Receiver<bool>,
) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!("cannot watch a listener: {error}"),
    };
    loop {
        let Ok(place) = room.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, peer)) => {
                // Without it a small response can wait for an acknowledgement; failing to set it loses nothing.
                let _ = stream.set_nodelay(true);
                let guard = worker.connection();
                let (worker, stopping) = (worker.clone(), stopping.clone());
                tokio::task::spawn_local(async move {
                    serve_connection(worker, stream, peer, stopping).await;
                    drop((guard, place));
                });
            }
            Err(error) => {
                // Out of file descriptors, mostly: open connections have to end first.
                tracing::warn!("cannot accept a connection: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
