//! Plugins in processes of their own (`isolation: process`).
//!
//! The process runs the very host that would run the plugin here ([`serve`]), and speaks with the gateway over a socket
//! in the frames that workers speak in over NATS. The exchange never leaves the gateway, as with a worker; what is
//! simpler is death: a socket that ends says it at once, and whether a call was lost with it is never in doubt.

/// A call in flight, as the thread that reads sees it.
mod inbox;
/// Frames over a socket.
mod socket;
/// The way out of it.
mod outbox;
/// One process.
mod child;
/// Those that can take calls.
mod children;
/// How there come to be processes.
mod seat;
/// One call.
mod call;
/// What is kept of a session between its phases.
mod session;
/// A response body that a handler is still writing.
mod stream;
/// The process's own side.
pub mod serve;

use super::{BodyUse, EntryTraits, Pending, PhaseCall, PluginEntry, PluginHost, UnknownEntry};
use children::Children;
use nylon_wire::Info;
pub use seat::Unstarted;
use seat::{Ending, FirstStart};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// What a host needs to know.
pub struct ProcessSettings {
    /// The plugin's name in the configuration.
    pub name: String,
    /// What its processes run: `python` or `native`.
    pub kind: &'static str,
    /// How many.
    pub processes: usize,
    /// The program and its arguments.
    pub program: Vec<OsString>,
    /// What the process with this number (from 0) is told to run: a JSON text.
    pub recipe: Box<dyn Fn(usize) -> Vec<u8> + Send + Sync>,
}

/// Runs the entries of one plugin in processes of its own.
pub struct ProcessHost {
    shared: Arc<Shared>,
    stop: watch::Sender<Option<Instant>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What the host, its entries and its seats share.
struct Shared {
    name: String,
    kind: &'static str,
    program: Vec<OsString>,
    recipe: Box<dyn Fn(usize) -> Vec<u8> + Send + Sync>,
    children: Children,
    /// What the first process has announced.
    info: OnceLock<Info>,
    in_flight: Arc<AtomicUsize>,
    restarts: AtomicU64,
    retried: AtomicU64,
    counter: AtomicU64,
}

impl Shared {
    /// A name for a call or a session that no other one has.
    fn new_id(&self) -> [u8; 16] {
        let mut id = [0; 16];
        id[8..].copy_from_slice(&self.counter.fetch_add(1, Relaxed).to_be_bytes());
        id
    }

    /// Whether a process runs the same as those before it.
    fn agrees(&self, info: &Info) -> Result<(), String> {
        match self.info.get_or_init(|| info.clone()).entries == info.entries {
            true => Ok(()),
            false => Err("has other entries than the one before it: its code has changed since; reload the \
                          configuration, so that all of the plugin's processes run the same"
                .to_owned()),
        }
    }
}

/// A host whose processes are being started.
pub struct Starting {
    host: ProcessHost,
    results: mpsc::Receiver<FirstStart>,
    missing: usize,
}

impl Starting {
    /// Waits for at most `time`. True once all processes are ready.
    ///
    /// # Errors
    /// Why one of them cannot run. Dropping this ends the others.
    pub fn wait(&mut self, time: Duration) -> Result<bool, Unstarted> {
        let until = Instant::now() + time;
        while self.missing > 0 {
            match self.results.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(first) => first.map(|_| self.missing -= 1)?,
                Err(RecvTimeoutError::Timeout) => return Ok(false),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Unstarted::Failed("was not started".to_owned()));
                }
            }
        }
        Ok(true)
    }

    /// The host, whose processes are ready.
    pub fn into_host(self) -> ProcessHost {
        self.host
    }
}

impl ProcessHost {
    /// Begins to start the processes.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(settings: ProcessSettings) -> io::Result<Starting> {
        let ProcessSettings { name, kind, processes, program, recipe } = settings;
        let processes = processes.max(1);
        let shared = Arc::new(Shared {
            name,
            kind,
            program,
            recipe,
            children: Children::new(processes),
            info: OnceLock::new(),
            in_flight: Arc::default(),
            restarts: AtomicU64::new(0),
            retried: AtomicU64::new(0),
            counter: AtomicU64::new(0),
        });
        let (stop, ending) = watch::channel(None);
        let (first, results) = mpsc::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let seats = shared.clone();
        let thread = std::thread::Builder::new()
            .name(format!("nylon-{}-io", shared.name))
            .spawn(move || runtime.block_on(run(seats, processes, ending, first)))?;
        let host = ProcessHost { shared, stop, thread: Mutex::new(Some(thread)) };
        Ok(Starting { host, results, missing: processes })
    }

    fn end(&self, until: Instant) {
        self.shared.children.end();
        self.stop.send_replace(Some(until));
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!(plugin = %self.shared.name, "the thread of the plugin's processes panicked: this is a defect of Nylon");
        }
    }
}

/// Keeps all seats until the host ends.
async fn run(shared: Arc<Shared>, processes: usize, ending: Ending, first: mpsc::Sender<FirstStart>) {
    let seats = (0..processes).map(|seat| seat::keep(shared.clone(), seat, ending.clone(), first.clone()));
    let seats = futures_util::future::join_all(seats);
    drop(first);
    seats.await;
}

impl PluginHost for ProcessHost {
    fn kind(&self) -> &'static str {
        self.shared.kind
    }

    fn entry(&self, name: &str) -> Result<Arc<dyn PluginEntry>, UnknownEntry> {
        let entries = self.shared.info.get().map_or(&[][..], |info| &info.entries);
        let Some(info) = entries.iter().find(|entry| entry.name == name) else {
            let known = entries.iter().map(|entry| entry.name.clone()).collect();
            return Err(UnknownEntry { name: name.to_owned(), known });
        };
        let shape = info.shape;
        let traits = EntryTraits {
            phases: shape.phases,
            request_body: shape.request_body,
            response_body: match shape.on_demand {
                true => BodyUse::OnDemand,
                false => BodyUse::by_chunk(shape.stream),
            },
        };
        let (shared, name) = (self.shared.clone(), name.into());
        Ok(Arc::new(ProcessEntry { shared, name, traits, keeps: shape.session }))
    }

    fn ready(&self) -> Result<(), String> {
        self.shared.children.ready()
    }

    fn figures(&self) -> Value {
        let children = self.shared.children.live();
        let processes: Vec<Value> = children
            .iter()
            .map(|child| {
                json!({
                    "pid": child.pid,
                    "uptime_seconds": child.since.elapsed().as_secs(),
                    "calls": child.load(),
                    "answered": child.answered.load(Relaxed),
                    "silent": child.is_silent(),
                })
            })
            .collect();
        let missing: Vec<String> = self.shared.children.vacancies().iter().map(ToString::to_string).collect();
        json!({
            "isolation": "process",
            "processes": processes,
            "missing": missing,
            "restarts": self.shared.restarts.load(Relaxed),
            "retried": self.shared.retried.load(Relaxed),
        })
    }

    fn shutdown(&self, grace: Duration) {
        let end = Instant::now() + grace;
        while self.shared.in_flight.load(Relaxed) > 0 && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(2));
        }
        self.end(end);
    }
}

impl Drop for ProcessHost {
    fn drop(&mut self) {
        self.end(Instant::now());
    }
}

/// One entry in the processes.
struct ProcessEntry {
    shared: Arc<Shared>,
    name: Arc<str>,
    traits: EntryTraits,
    /// A session's later phases must come to the process that has its closures.
    keeps: bool,
}

impl PluginEntry for ProcessEntry {
    fn traits(&self) -> EntryTraits {
        self.traits
    }

    fn keeps_sessions(&self) -> bool {
        self.keeps
    }

    fn call<'a>(&'a self, call: PhaseCall<'a>) -> Pending<'a> {
        call::run(self, call)
    }
}
