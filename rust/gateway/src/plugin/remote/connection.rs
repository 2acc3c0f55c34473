//! One connection to a broker, shared by all plugins behind it.
//!
//! This is what the data plane sees of it, from any thread: whether it is there, ids, the lanes on which calls
//! travel (lane.rs), and the queue of messages that nobody waits for.

use super::access::Access;
use super::counters::{Counters, Counts};
use super::kept::Kept;
use super::lane::{self, Lane};
use super::life::{self, Life};
use super::servers::Servers;
use super::workers::Group;
use async_nats::{ConnectOptions, Event};
use bytes::Bytes;
use nylon_config::plan::{Messaging, Overflow};
use nylon_wire::{CallId, SessionId};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, mpsc, watch};

/// The longest that one server may take to let the gateway in, as in NATS' own clients.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How often the server is asked whether it is there. One that does not answer three times, frozen or behind a cable
/// that was pulled, is left for another while a call still has time to be sent again.
const PING_INTERVAL: Duration = Duration::from_secs(1);
/// Messages that nobody waits for (the end of a session) and that are not sent yet.
const MAX_BEHIND: usize = 4096;

/// What a server takes in a message, as long as none has said so.
const DEFAULT_MAX_PAYLOAD: usize = 1 << 20;

/// A connection to a broker.
pub struct Connection {
    pub(super) name: String,
    pub(super) servers: Mutex<Servers>,
    pub(super) access: Access,
    /// On threads of their own, never none. The first one has the duties beside calls.
    lanes: Vec<Arc<Lane>>,
    /// Whether threads that host lanes use one of their own for calls.
    per_thread: bool,
    pub(super) counters: Arc<Counters>,
    pub(super) kept: Kept,
    /// Calls in flight, bounded.
    pub(super) permits: Semaphore,
    pub(super) overflow: Overflow,
    max_payload: AtomicUsize,
    /// Why there is no life just now.
    trouble: Mutex<String>,
    pub(super) groups: Mutex<Vec<Weak<Group>>>,
    pub(super) new_groups: watch::Sender<()>,
    behind: mpsc::Sender<(String, Bytes)>,
    stop: watch::Sender<bool>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Hosts that use this connection; the last one to shut down ends it.
    pub(super) hosts: AtomicUsize,
    identity: [u8; 8],
    counter: AtomicU64,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // None of these values is ever left half-changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Between half of the pause and one and a half, so that many do not come back in step.
pub(in crate::plugin) fn jittered(pause: Duration) -> Duration {
    pause / 2 + pause.mul_f64((random() >> 11) as f64 / (1u64 << 53) as f64)
}

pub(super) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

impl Connection {
    /// Starts connecting, and returns at once: a broker that is not there yet is waited for in the background.
    /// `servers` are those of the plan, or the embedded server's.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(messaging: &Messaging, servers: Vec<String>) -> io::Result<Arc<Connection>> {
        let (behind, behind_queue) = mpsc::channel(MAX_BEHIND);
        let stop = watch::Sender::new(false);
        let own = messaging.connections.unwrap_or(1).max(1);
        let counters = Arc::<Counters>::default();
        let connection = Arc::new(Connection {
            name: messaging.name.clone(),
            servers: Mutex::new(Servers::new(servers)),
            access: Access { auth: messaging.auth.clone(), tls: messaging.tls.clone() },
            lanes: (0..own).map(|_| Lane::new(counters.clone(), behind.clone(), stop.subscribe())).collect(),
            per_thread: messaging.connections.is_none(),
            kept: Kept::new(counters.clone()),
            counters,
            permits: Semaphore::new(messaging.max_inflight.min(Semaphore::MAX_PERMITS)),
            overflow: messaging.overflow,
            max_payload: AtomicUsize::new(DEFAULT_MAX_PAYLOAD),
            trouble: Mutex::new("it has not been tried yet".to_owned()),
            groups: Mutex::default(),
            new_groups: watch::Sender::new(()),
            behind,
            stop,
            threads: Mutex::default(),
            hosts: AtomicUsize::new(0),
            identity: random().to_be_bytes(),
            counter: AtomicU64::new(0),
        });
        // The threads hold no strong reference: a connection that everybody has dropped stops them.
        let mut duties = Some(life::Duties::new(behind_queue));
        for lane in &connection.lanes {
            let (weak, lane, duties) = (Arc::downgrade(&connection), lane.clone(), duties.take());
            let thread = std::thread::Builder::new()
                .name(format!("nats-{}", messaging.name))
                .spawn(move || life::run(weak, lane, duties))?;
            lock(&connection.threads).push(thread);
        }
        Ok(connection)
    }

    /// The lane for a call that begins on this thread: it keeps to it in all its attempts.
    pub(super) fn lane(self: &Arc<Connection>) -> Arc<Lane> {
        let hosted = if self.per_thread { lane::of_thread(self) } else { None };
        match hosted.filter(|lane| lane.is_connected()) {
            Some(lane) => lane,
            None => self.lanes[lane::place_of_thread(self.lanes.len())].clone(),
        }
    }

    /// The lane for what belongs to no call of the data plane.
    pub(super) fn own_lane(&self) -> &Arc<Lane> {
        &self.lanes[0]
    }

    /// One more lane to the same broker.
    pub(super) fn new_lane(&self) -> Arc<Lane> {
        Lane::new(self.counters.clone(), self.behind.clone(), self.stop.subscribe())
    }

    /// Bytes of the largest message that the server takes, as it said last.
    pub(super) fn max_payload(&self) -> usize {
        self.max_payload.load(Ordering::Relaxed)
    }

    /// What was out of the ordinary so far.
    pub fn counts(&self) -> Counts {
        self.counters.counts()
    }

    /// The start of the subjects that answers come to, on the connection's own lane.
    pub fn inbox(&self) -> &str {
        &self.own_lane().inbox
    }

    /// Calls on the connection's own lane that wait for an answer, and places that there are for such.
    pub fn slots(&self) -> (usize, usize) {
        self.own_lane().slots.in_use()
    }

    /// The connection's own lane is connected.
    pub(super) fn came(&self, life: &Life) {
        self.max_payload.store(life.max_payload, Ordering::Relaxed);
    }

    /// Whether the broker can be reached; an error says why not.
    ///
    /// # Errors
    /// With the text for whoever asks.
    pub fn ready(&self) -> Result<(), String> {
        match self.own_lane().is_connected() {
            true => Ok(()),
            false => Err(format!(
                "messaging {:?} is not connected to {}: {}",
                self.name,
                lock(&self.servers),
                lock(&self.trouble)
            )),
        }
    }

    /// Keeps `group` up to date from now on, for as long as somebody holds it.
    pub(super) fn join(&self, group: &Arc<Group>) {
        lock(&self.groups).push(Arc::downgrade(group));
        self.new_groups.send_replace(());
    }

    pub(super) fn new_call(&self) -> CallId {
        CallId(self.new_id())
    }

    pub(super) fn new_session(&self) -> SessionId {
        SessionId(self.new_id())
    }

    fn new_id(&self) -> [u8; 16] {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.identity);
        id[8..].copy_from_slice(&self.counter.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        id
    }

    /// Sends a message that nobody waits for. With too many of them waiting it is dropped: a worker forgets
    /// the sessions of a gateway that fell silent by itself.
    pub(super) fn send_behind(&self, subject: String, frame: Bytes) {
        if self.behind.try_send((subject, frame)).is_err() {
            tracing::debug!(messaging = %self.name, "the end of a session was not sent: too many are waiting");
        }
    }

    /// Ends the connection and its threads, within `grace`.
    pub fn shutdown(&self, grace: Duration) {
        self.stop.send_replace(true);
        let end = Instant::now() + grace.max(Duration::from_millis(100));
        for thread in std::mem::take(&mut *lock(&self.threads)) {
            while !thread.is_finished() {
                if Instant::now() >= end {
                    tracing::warn!(messaging = %self.name, "the connection did not end in time and is left behind");
                    return;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            if thread.join().is_err() {
                tracing::error!(messaging = %self.name, "the connection's thread has panicked");
            }
        }
    }

    /// Why the connection's own lane has no life just now.
    pub(super) fn trouble(&self, why: String) {
        *lock(&self.trouble) = why;
    }

    /// How a life connects.
    ///
    /// # Errors
    /// When a file of the access is broken.
    pub(super) fn options(
        &self,
        lane: &Arc<Lane>,
        established: Arc<AtomicBool>,
        events: mpsc::UnboundedSender<Event>,
    ) -> Result<ConnectOptions, String> {
        let weak = Arc::downgrade(lane);
        let options = ConnectOptions::new()
            .name(format!("nylon gateway ({})", self.name))
            .connection_timeout(CONNECT_TIMEOUT)
            .ping_interval(PING_INTERVAL)
            .retain_servers_order()
            .reconnect_delay_callback(move |_| {
                if established.load(Ordering::Relaxed) {
                    // The client would reconnect by itself, and send then what it had queued: calls that were given up
                    // long ago. Its task knows no other end while it has no connection than to be unwound, which
                    // its runtime catches; no panic is reported.
                    std::panic::resume_unwind(Box::new("this life is over"));
                }
                Duration::ZERO
            })
            .event_callback(move |event| {
                if event == Event::Disconnected
                    && let Some(lane) = weak.upgrade()
                {
                    lane.lost();
                }
                // The receiver lives as long as this life; an event after it interests nobody.
                let _ = events.send(event);
                std::future::ready(())
            });
        self.access.apply(options)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // Not joined: the last reference may be dropped on a data-plane thread. The thread ends by itself.
        self.stop.send_replace(true);
    }
}
