//! One connection to a broker, shared by all plugins behind it.
//!
//! A thread of its own runs the client, so that no data-plane thread ever does. Each life of the connection is
//! one `async-nats` client in one runtime: when the connection breaks, both are thrown away with everything
//! that was queued, and a new life begins. The client's own reconnect would keep the queue and send calls that
//! were given up long ago. A call in flight when a life ends keeps its slot and its inbox subject, so an answer
//! that the worker sends after both are back still arrives.

use super::correlation::Slots;
use super::workers::{self, Group};
use arc_swap::ArcSwapOption;
use async_nats::{Client, ConnectOptions, Event};
use bytes::Bytes;
use futures_util::StreamExt;
use nylon_config::plan::{BrokerAuth, Messaging, Overflow};
use nylon_wire::{CallId, SessionId};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, mpsc, watch};

/// The longest that one attempt to connect may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause before the second attempt; it doubles up to [`MAX_PAUSE`], each time with jitter.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const MAX_PAUSE: Duration = Duration::from_secs(4);
/// Messages that nobody waits for (the end of a session) and that are not sent yet.
const MAX_BEHIND: usize = 4096;

/// A connection to a broker.
pub struct Connection {
    name: String,
    servers: Vec<String>,
    auth: BrokerAuth,
    /// Where answers come in, with the final dot.
    pub(super) inbox: String,
    pub(super) slots: Arc<Slots>,
    /// Calls in flight, bounded.
    pub(super) permits: Semaphore,
    pub(super) overflow: Overflow,
    life: ArcSwapOption<Life>,
    /// Why there is no life just now.
    trouble: Mutex<String>,
    groups: Mutex<Vec<Weak<Group>>>,
    new_groups: watch::Sender<()>,
    behind: mpsc::Sender<(String, Bytes)>,
    stop: watch::Sender<bool>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Hosts that use this connection; the last one to shut down ends it.
    pub(super) hosts: AtomicUsize,
    identity: [u8; 8],
    counter: AtomicU64,
}

/// One unbroken connection.
pub(super) struct Life {
    pub(super) client: Client,
    /// Bytes of the largest message that the server takes.
    pub(super) max_payload: usize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // None of these values is ever left half-changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn random() -> u64 {
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
        let connection = Arc::new(Connection {
            name: messaging.name.clone(),
            servers,
            auth: messaging.auth.clone(),
            inbox: format!("_INBOX.{:016x}{:016x}.", random(), random()),
            slots: Slots::new(),
            permits: Semaphore::new(messaging.max_inflight.min(Semaphore::MAX_PERMITS)),
            overflow: messaging.overflow,
            life: ArcSwapOption::empty(),
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
            .spawn(move || run(&weak, stop, behind_queue))?;
        *lock(&connection.thread) = Some(thread);
        Ok(connection)
    }

    /// The connection, if there is one now.
    pub(super) fn life(&self) -> Option<Arc<Life>> {
        self.life.load_full()
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
                self.servers.join(", "),
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

    fn lost(&self, why: String) {
        self.life.store(None);
        *lock(&self.trouble) = why;
    }

    fn options(
        self: &Arc<Connection>,
        established: Arc<AtomicBool>,
        events: mpsc::UnboundedSender<Event>,
    ) -> ConnectOptions {
        let weak = Arc::downgrade(self);
        let options = ConnectOptions::new()
            .name(format!("nylon gateway ({})", self.name))
            .connection_timeout(CONNECT_TIMEOUT)
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
        match &self.auth {
            BrokerAuth::Anonymous => options,
            BrokerAuth::Password { user, password } => {
                options.user_and_password(user.clone(), password.reveal().to_owned())
            }
            BrokerAuth::Token(token) => options.token(token.reveal().to_owned()),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // Not joined: the last reference may be dropped on a data-plane thread. The thread ends by itself.
        self.stop.send_replace(true);
    }
}

/// How a life ended.
enum Ended {
    Stopped,
    NeverConnected(String),
    Lost(String),
}

fn run(
    weak: &Weak<Connection>,
    mut stop: watch::Receiver<bool>,
    mut behind: mpsc::Receiver<(String, Bytes)>,
) {
    let mut pause = Duration::ZERO;
    loop {
        let born = Instant::now();
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(why) => {
                tracing::error!("the messaging connection cannot run: {why}");
                return;
            }
        };
        let ended = runtime.block_on(async {
            tokio::select! {
                () = tokio::time::sleep(jittered(pause)) => {}
                () = stopped(&mut stop) => return Ended::Stopped,
            }
            one_life(weak, &mut stop, &mut behind).await
        });
        // Throws away the client and whatever it had queued; a name look-up that hangs is not waited for.
        runtime.shutdown_background();
        let Some(connection) = weak.upgrade() else { return };
        match ended {
            Ended::Stopped => return,
            Ended::NeverConnected(why) => {
                if pause.is_zero() {
                    tracing::warn!(messaging = %connection.name, "no connection to the broker, trying on: {why}");
                }
                connection.lost(why);
                pause = (pause * 2).clamp(FIRST_PAUSE, MAX_PAUSE);
            }
            Ended::Lost(why) => {
                tracing::warn!(messaging = %connection.name, "lost the broker, reconnecting: {why}");
                connection.lost(why);
                // A server that takes the connection only to cut it is not tried in a tight circle.
                let stable = born.elapsed() > MAX_PAUSE;
                pause = if stable { Duration::ZERO } else { (pause * 2).clamp(FIRST_PAUSE, MAX_PAUSE) };
            }
        }
    }
}

/// Waits until the connection shall end. (A function of its own, so that no lock of the channel is kept.)
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the connection was dropped, which is the same thing.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Between half of the pause and one and a half, so that many gateways do not come back in step.
fn jittered(pause: Duration) -> Duration {
    pause / 2 + pause.mul_f64((random() >> 11) as f64 / (1u64 << 53) as f64)
}

async fn one_life(
    weak: &Weak<Connection>,
    stop: &mut watch::Receiver<bool>,
    behind: &mut mpsc::Receiver<(String, Bytes)>,
) -> Ended {
    let (events_in, mut events) = mpsc::unbounded_channel();
    let Some(connection) = weak.upgrade() else { return Ended::Stopped };
    let established = Arc::new(AtomicBool::new(false));
    let options = connection.options(established.clone(), events_in);
    let servers = connection.servers.clone();
    let connecting = async {
        let connecting = tokio::time::timeout(CONNECT_TIMEOUT * 2, options.connect(servers));
        connecting.await.map_err(|_| "no answer in time".to_owned())?.map_err(|why| describe(&why))
    };
    let client = tokio::select! {
        client = connecting => match client {
            Ok(client) => client,
            Err(why) => return Ended::NeverConnected(why),
        },
        () = stopped(stop) => return Ended::Stopped,
    };
    established.store(true, Ordering::Relaxed);
    let inbox = match client.subscribe(format!("{}*", connection.inbox)).await {
        Ok(inbox) => inbox,
        Err(why) => return Ended::Lost(why.to_string()),
    };
    tokio::spawn(receive(inbox, connection.slots.clone(), connection.inbox.len()));
    let life = Arc::new(Life { max_payload: client.server_info().max_payload, client });
    connection.life.store(Some(life.clone()));
    tracing::info!(messaging = %connection.name, server = %life.client.server_info().server_id, "connected");
    let mut new_groups = connection.new_groups.subscribe();
    drop(connection);
    let mut watched: Vec<Weak<Group>> = Vec::new();
    loop {
        let Some(connection) = weak.upgrade() else { return Ended::Stopped };
        watch_new_groups(&connection, &life, &mut watched);
        drop(connection);
        tokio::select! {
            biased;
            () = stopped(stop) => return leave(weak, &life, behind).await,
            event = events.recv() => match event {
                Some(Event::Disconnected | Event::Closed) => return Ended::Lost("the connection was lost".to_owned()),
                Some(Event::ServerError(why)) => tracing::warn!("the broker says: {why}"),
                Some(event) => tracing::debug!("broker connection: {event}"),
                None => return Ended::Lost("the client ended".to_owned()),
            },
            Some((subject, frame)) = behind.recv() => {
                if let Err(why) = life.client.publish(subject, frame).await {
                    tracing::debug!("the end of a session was not sent: {why}");
                }
            }
            // Errs only when the connection is dropped, which the next round sees.
            _ = new_groups.changed() => {}
        }
    }
}

/// Sends what is still waiting and takes leave of the server, briefly.
async fn leave(weak: &Weak<Connection>, life: &Life, behind: &mut mpsc::Receiver<(String, Bytes)>) -> Ended {
    if let Some(connection) = weak.upgrade() {
        connection.lost("it was shut down".to_owned());
    }
    let farewell = async {
        while let Ok((subject, frame)) = behind.try_recv() {
            if life.client.publish(subject, frame).await.is_err() {
                return;
            }
        }
        if let Err(why) = life.client.flush().await {
            tracing::debug!("the last messages may not have been sent: {why}");
        }
    };
    if tokio::time::timeout(Duration::from_millis(500), farewell).await.is_err() {
        tracing::debug!("the last messages were not taken in time");
    }
    Ended::Stopped
}

fn watch_new_groups(connection: &Connection, life: &Arc<Life>, watched: &mut Vec<Weak<Group>>) {
    let mut groups = lock(&connection.groups);
    groups.retain(|group| group.strong_count() > 0);
    watched.retain(|group| group.strong_count() > 0);
    for group in groups.iter() {
        if watched.iter().any(|known| known.ptr_eq(group)) {
            continue;
        }
        watched.push(group.clone());
        let (life, group) = (life.clone(), group.clone());
        // Owned by this life's runtime, and ended with it.
        tokio::spawn(async move {
            if let Err(why) = workers::watch(life, group).await {
                tracing::debug!("a group is not watched any more: {why}");
            }
        });
    }
}

async fn receive(mut inbox: async_nats::Subscriber, slots: Arc<Slots>, prefix: usize) {
    while let Some(message) = inbox.next().await {
        let subject = message.subject.clone();
        let token = subject.as_str().get(prefix..).unwrap_or_default();
        if !slots.deliver(token, message) {
            tracing::trace!("an answer came for nobody: {token}");
        }
    }
}

fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
