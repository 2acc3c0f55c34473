//! The life of a lane: how its connection comes, goes and comes back.
//!
//! Each unbroken connection is one `async-nats` client: when it breaks, the client is thrown away with everything that
//! was queued, and a new life begins. The client's own reconnect would keep the queue and send calls that were
//! given up long ago. A call in flight when a life ends keeps its slot and its inbox subject, so an answer that the
//! worker sends after both are back still arrives.

use super::connection::{CONNECT_TIMEOUT, Connection, jittered, lock, random};
use super::correlation::Slots;
use super::lane::Lane;
use super::workers::Group;
use super::{kept, roll, servers};
use async_nats::{Client, Event};
use bytes::Bytes;
use futures_util::StreamExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

/// The pause before the second attempt; it doubles up to [`MAX_PAUSE`], each time with jitter. The longest one is
/// short enough for the gateway to be back within a second of its broker.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const MAX_PAUSE: Duration = Duration::from_millis(250);
/// A connection that held this long was a good one.
const STABLE: Duration = Duration::from_secs(4);
/// How long after an outage a worker that nobody finds may still be on its way back.
const SETTLING: Duration = Duration::from_secs(1);
/// Reasons that are logged while there is no connection.
const MAX_TOLD: usize = 8;

/// One unbroken connection.
pub(super) struct Life {
    pub(super) client: Client,
    /// Bytes of the largest message that the server takes.
    pub(super) max_payload: usize,
    born: Instant,
    /// There was another one before.
    again: bool,
}

impl Life {
    /// Whether workers may still be coming back from an outage.
    pub(super) fn is_settling(&self) -> bool {
        self.again && self.born.elapsed() < SETTLING
    }
}

/// How a life ended.
enum Ended {
    Stopped,
    NeverConnected(String),
    Lost(String),
}

/// What a connection's first lane does beside calls.
pub(super) struct Duties {
    /// Messages that nobody waits for.
    behind: mpsc::Receiver<(String, Bytes)>,
}

impl Duties {
    pub(super) fn new(behind: mpsc::Receiver<(String, Bytes)>) -> Duties {
        Duties { behind }
    }
}

/// Lives on a thread of its own until the connection ends.
pub(super) fn run(weak: Weak<Connection>, lane: Arc<Lane>, duties: Option<Duties>) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(why) => return tracing::error!("the messaging connection cannot run: {why}"),
    };
    runtime.block_on(live(weak, lane, duties));
    // A name look-up that hangs is not waited for.
    runtime.shutdown_background();
}

/// Lives among the tasks of a data-plane thread until the connection ends.
pub(super) async fn stay(weak: Weak<Connection>, lane: Arc<Lane>) {
    live(weak, lane, None).await;
}

async fn live(weak: Weak<Connection>, lane: Arc<Lane>, mut duties: Option<Duties>) {
    let mut stop = lane.stop();
    let mut pause = Duration::ZERO;
    // The reasons that the log has since there was a connection: servers may have different ones, in turn. What
    // other lanes meet, the first one meets and tells as well.
    let mut told: Vec<String> = Vec::new();
    let tells = duties.is_some();
    loop {
        tokio::select! {
            () = tokio::time::sleep(jittered(pause)) => {}
            () = stopped(&mut stop) => return,
        }
        let born = Instant::now();
        let ended = one_life(&weak, &lane, &mut stop, duties.as_mut()).await;
        lane.lost();
        let Some(connection) = weak.upgrade() else { return };
        let why = match ended {
            Ended::Stopped => {
                connection.trouble("it was shut down".to_owned());
                return;
            }
            Ended::NeverConnected(why) => {
                if tells && told.len() < MAX_TOLD && !told.contains(&why) {
                    tracing::warn!(messaging = %connection.name, "no connection to the broker, trying on: {why}");
                    told.push(why.clone());
                }
                pause = (pause * 2).clamp(FIRST_PAUSE, MAX_PAUSE);
                why
            }
            Ended::Lost(why) => {
                if tells {
                    tracing::warn!(messaging = %connection.name, "lost the broker, reconnecting: {why}");
                }
                told.clear();
                // A server that takes the connection only to cut it is not tried in a tight circle.
                let stable = born.elapsed() > STABLE;
                pause = if stable { Duration::ZERO } else { (pause * 2).clamp(FIRST_PAUSE, MAX_PAUSE) };
                why
            }
        };
        if tells {
            connection.trouble(why);
            connection.kept.expire();
        }
    }
}

/// Waits until the connection shall end. (A function of its own, so that no lock of the channel is kept.)
pub(super) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the connection was dropped, which is the same thing.
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn one_life(
    weak: &Weak<Connection>,
    lane: &Arc<Lane>,
    stop: &mut watch::Receiver<bool>,
    duties: Option<&mut Duties>,
) -> Ended {
    let (events_in, mut events) = mpsc::unbounded_channel();
    let Some(connection) = weak.upgrade() else { return Ended::Stopped };
    let client = tokio::select! {
        client = connect(&connection, lane, events_in) => match client {
            Ok(client) => client,
            Err(why) => return Ended::NeverConnected(why),
        },
        () = stopped(stop) => return Ended::Stopped,
    };
    let inbox = match client.subscribe(format!("{}*", lane.inbox)).await {
        Ok(inbox) => inbox,
        Err(why) => return Ended::Lost(why.to_string()),
    };
    // What this life has begun ends with it.
    let mut tasks = JoinSet::new();
    tasks.spawn(receive(inbox, lane.slots.clone(), lane.inbox.len()));
    let (born, again) = (Instant::now(), lane.lives() > 0);
    let life = Arc::new(Life { max_payload: client.server_info().max_payload, client, born, again });
    lane.came(&life);
    match duties {
        Some(duties) => serve(connection, life, (stop, &mut events), duties, tasks).await,
        None => {
            drop(connection);
            loop {
                tokio::select! {
                    biased;
                    () = stopped(stop) => return Ended::Stopped,
                    event = events.recv() => if let Some(ended) = end_by(event) { return ended },
                }
            }
        }
    }
}

/// A client that does not reconnect.
async fn connect(
    connection: &Connection,
    lane: &Arc<Lane>,
    events: mpsc::UnboundedSender<Event>,
) -> Result<Client, String> {
    let established = Arc::new(AtomicBool::new(false));
    let options = connection.options(lane, established.clone(), events)?;
    let in_order = lock(&connection.servers).in_order(random);
    // The client bounds each server's turn, but not the look-up of its name.
    let limit = CONNECT_TIMEOUT * u32::try_from(in_order.len()).unwrap_or(u32::MAX).saturating_add(2);
    let connected = tokio::time::timeout(limit, options.connect(in_order)).await;
    let client = connected.map_err(|_| "no answer in time".to_owned())?;
    let client = client.map_err(|why| connection.access.explain(&why))?;
    let known = servers::known_to(&client).await;
    lock(&connection.servers).connected(known);
    established.store(true, Ordering::Relaxed);
    Ok(client)
}

/// What is done beside calls, for as long as the connection holds.
async fn serve(
    connection: Arc<Connection>,
    life: Arc<Life>,
    (stop, events): (&mut watch::Receiver<bool>, &mut mpsc::UnboundedReceiver<Event>),
    duties: &mut Duties,
    mut tasks: JoinSet<()>,
) -> Ended {
    connection.came(&life);
    let weak = Arc::downgrade(&connection);
    tasks.spawn(kept::deliver(weak.clone(), life.clone()));
    tracing::info!(messaging = %connection.name, server = %life.client.server_info().server_id, "connected");
    let mut new_groups = connection.new_groups.subscribe();
    drop(connection);
    let mut watched: Vec<Weak<Group>> = Vec::new();
    loop {
        let Some(connection) = weak.upgrade() else { return Ended::Stopped };
        watch_new_groups(&connection, &life, &mut watched, &mut tasks);
        drop(connection);
        tokio::select! {
            biased;
            () = stopped(stop) => return leave(&weak, &life, &mut duties.behind).await,
            event = events.recv() => if let Some(ended) = end_by(event) { return ended },
            Some((subject, frame)) = duties.behind.recv() => {
                if let Err(why) = life.client.publish(subject, frame).await {
                    tracing::debug!("the end of a session was not sent: {why}");
                }
            }
            // Errs only when the connection is dropped, which the next round sees.
            _ = new_groups.changed() => {}
        }
    }
}

/// Whether the client's life ends with this event.
fn end_by(event: Option<Event>) -> Option<Ended> {
    match event {
        Some(Event::Disconnected | Event::Closed) => Some(Ended::Lost("the connection was lost".to_owned())),
        Some(Event::ServerError(why)) => {
            tracing::warn!("the broker says: {why}");
            None
        }
        Some(event) => {
            tracing::debug!("broker connection: {event}");
            None
        }
        None => Some(Ended::Lost("the client ended".to_owned())),
    }
}

/// Sends what is still waiting and takes leave of the server, briefly.
async fn leave(weak: &Weak<Connection>, life: &Life, behind: &mut mpsc::Receiver<(String, Bytes)>) -> Ended {
    if let Some(connection) = weak.upgrade() {
        connection.own_lane().lost();
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

fn watch_new_groups(
    connection: &Connection,
    life: &Arc<Life>,
    watched: &mut Vec<Weak<Group>>,
    tasks: &mut JoinSet<()>,
) {
    let mut groups = lock(&connection.groups);
    groups.retain(|group| group.strong_count() > 0);
    watched.retain(|group| group.strong_count() > 0);
    for group in groups.iter() {
        if watched.iter().any(|known| known.ptr_eq(group)) {
            continue;
        }
        watched.push(group.clone());
        let (life, group) = (life.clone(), group.clone());
        tasks.spawn(async move {
            if let Err(why) = roll::watch(life, group).await {
                tracing::debug!("a group is not watched any more: {why}");
            }
        });
    }
}

async fn receive(mut inbox: async_nats::Subscriber, slots: Arc<Slots>, prefix: usize) {
    while let Some(message) = inbox.next().await {
        let subject = message.subject.clone();
        let token = subject.as_str().get(prefix..).unwrap_or_default();
        slots.deliver(token, message);
    }
}
