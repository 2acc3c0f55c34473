//! One connection to a broker, shared by all plugins behind it.
//!
//! This is what the data plane sees of it, from any thread: whether it is there, ids, slots, and the queue of
//! messages that nobody waits for. The client itself runs on a thread of the connection's own (life.rs).

use super::access::Access;
use super::correlation::Slots;
use super::counters::{Counters, Counts};
use super::kept::Kept;
use super::life::{self, Life};
use super::servers::Servers;
use super::workers::Group;
use arc_swap::ArcSwapOption;
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
use tokio::time::timeout_at;

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
    /// Where answers come in, with the final dot.
    pub(super) inbox: String,
    pub(super) slots: Arc<Slots>,
    pub(super) counters: Arc<Counters>,
    pub(super) kept: Kept,
    /// Calls in flight, bounded.
    pub(super) permits: Semaphore,
    pub(super) overflow: Overflow,
    life: ArcSwapOption<Life>,
    /// Changes whenever there is a new life.
    came: watch::Sender<u64>,
    max_payload: AtomicUsize,
    /// Why there is no life just now.
    trouble: Mutex<String>,
    pub(super) groups: Mutex<Vec<Weak<Group>>>,
    pub(super) new_groups: watch::Sender<()>,
    behind: mpsc::Sender<(String, Bytes)>,
    stop: watch::Sender<bool>,
    thread: Mutex<Option<JoinHandle<()>>>,
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
pub(super) fn jittered(pause: Duration) -> Duration {
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
        let counters = Arc::<Counters>::default();
        let connection = Arc::new(Connection {
            name: messaging.name.clone(),
            servers: Mutex::new(Servers::new(servers)),
            access: Access { auth: messaging.auth.clone(), tls: messaging.tls.clone() },
            inbox: format!("_INBOX.{:016x}{:016x}.", random(), random()),
            slots: Slots::new(counters.clone()),
            kept: Kept::new(counters.clone()),
            counters,
            permits: Semaphore::new(messaging.max_inflight.min(Semaphore::MAX_PERMITS)),
            overflow: messaging.overflow,
            life: ArcSwapOption::empty(),
            came: watch::Sender::new(0),
            max_payload: AtomicUsize::new(DEFAULT_MAX_PAYLOAD),
            trouble: Mutex::new("it has not been tried yet".to_owned()),
            groups: Mutex::default(),
            new_groups: watch::Sender::new(()),
            behind,
            stop: watch::Sender::new(false),
            thread: Mutex::default(),
            hosts: AtomicUsize::new(0),
            identity: random().to_be_bytes(),
            counter: AtomicU64::new(0),
        });
        // The thread holds no strong reference: a connection that everybody has dropped stops it.
        let weak = Arc::downgrade(&connection);
        let stop = connection.stop.subscribe();
        let thread = std::thread::Builder::new()
            .name(format!("nats-{}", messaging.name))
            .spawn(move || life::run(&weak, stop, behind_queue))?;
        *lock(&connection.thread) = Some(thread);
        Ok(connection)
    }

    /// The connection, if there is one now.
    pub(super) fn life(&self) -> Option<Arc<Life>> {
        self.life.load_full()
    }

    /// The connection, once there is one; none if there is none by the deadline, or the gateway stops.
    pub(super) async fn life_by(&self, deadline: Instant) -> Option<Arc<Life>> {
        let (mut came, mut stop) = (self.came.subscribe(), self.stop.subscribe());
        let back = async {
            loop {
                came.borrow_and_update();
                if let Some(life) = self.life() {
                    return Some(life);
                }
                came.changed().await.ok()?;
            }
        };
        let stopped = async {
            // An error means that the connection was dropped, which is the same thing.
            let _ = stop.wait_for(|stop| *stop).await;
        };
        tokio::select! {
            life = timeout_at(deadline.into(), back) => life.ok().flatten(),
            () = stopped => None,
        }
    }

    /// Whether this is the connection that there is now.
    pub(super) fn is_current(&self, life: &Life) -> bool {
        self.life.load().as_ref().is_some_and(|now| std::ptr::eq(&**now, life))
    }

    /// Bytes of the largest message that the server takes, as it said last.
    pub(super) fn max_payload(&self) -> usize {
        self.max_payload.load(Ordering::Relaxed)
    }

    /// What was out of the ordinary so far.
    pub fn counts(&self) -> Counts {
        self.counters.counts()
    }

    /// The start of the subjects that answers come to.
    pub fn inbox(&self) -> &str {
        &self.inbox
    }

    /// Calls that wait for an answer, and places that there are for such.
    pub fn slots(&self) -> (usize, usize) {
        self.slots.in_use()
    }

    /// A new life begins.
    pub(super) fn came(&self, life: &Arc<Life>) {
        self.max_payload.store(life.max_payload, Ordering::Relaxed);
        self.life.store(Some(life.clone()));
        self.came.send_modify(|lives| *lives += 1);
    }

    /// Lives so far.
    pub(super) fn lives(&self) -> u64 {
        *self.came.borrow()
    }

    /// Whether the broker can be reached; an error says why not.
    ///
    /// # Errors
    /// With the text for whoever asks.
    pub fn ready(&self) -> Result<(), String> {
        match self.life.load().is_some() {
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

    /// Ends the connection and its thread, within `grace`.
    pub fn shutdown(&self, grace: Duration) {
        self.stop.send_replace(true);
        let Some(thread) = lock(&self.thread).take() else { return };
        let end = Instant::now() + grace.max(Duration::from_millis(100));
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

    pub(super) fn lost(&self, why: String) {
        *lock(&self.trouble) = why;
        // In this order: a call that finds a life and opens its slot later is told by the next one to be lost.
        if self.life.swap(None).is_some() {
            self.slots.lost();
        }
    }

    /// How a life connects.
    ///
    /// # Errors
    /// When a file of the access is broken.
    pub(super) fn options(
        self: &Arc<Connection>,
        established: Arc<AtomicBool>,
        events: mpsc::UnboundedSender<Event>,
    ) -> Result<ConnectOptions, String> {
        let weak = Arc::downgrade(self);
        let options = ConnectOptions::new()
            .name(format!("nylon gateway ({})", self.name))
            .connection_timeout(CONNECT_TIMEOUT)
            .ping_interval(PING_INTERVAL)
            .retain_servers_order()
            // This side never reconnects inside a life; the pause outlasts the life, which ends at once.
            .reconnect_delay_callback(move |_| match established.load(Ordering::Relaxed) {
                true => Duration::from_secs(3600),
                false => Duration::ZERO,
            })
            .event_callback(move |event| {
                if event == Event::Disconnected
                    && let Some(connection) = weak.upgrade()
                {
                    connection.lost("the connection was lost".to_owned());
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
