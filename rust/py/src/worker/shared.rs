//! What the threads of one worker share: the way out to the broker, what runs now, what is counted.
//!
//! The loop's thread receives and dispatches (`receive.rs`), threads of the pool answer too. No lock is held while Python
//! code runs, and none but the one it is about.

use super::bodies::Transfers;
use super::call::RemoteCall;
use super::clock::{Moment, Watch};
use super::counters::Counters;
use super::known::KnownCalls;
use super::outbox::{Outbox, Publication, Refused};
use super::pool::Pool;
use super::sessions::Sessions;
use super::stream::Streams;
use super::waiting::Waiting;
use super::wake::Wake;
use crate::context::Lease;
use crate::registry::{Entry, SessionHandlers};
use nylon_core::{Failure, FailureKind};
use nylon_wire::{CallId, GroupSubjects, Text, WireError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// A scratch buffer that grew beyond this is given back.
const KEPT_SCRATCH: usize = 1 << 18;

thread_local! {
    /// Where a frame is encoded before its size is known.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The connection as it is now.
#[derive(Default)]
struct Link {
    /// `transport.write` of the hooked connection.
    write: Option<Py<PyAny>>,
    /// Which transport that is.
    transport: Option<Py<PyAny>>,
    /// Connected, subscribed, and its `max_payload` known.
    online: bool,
    /// The transport's own buffer is full.
    paused: bool,
}

/// How a worker was set up.
pub(crate) struct Setup {
    pub(crate) worker: Text,
    pub(crate) group: String,
    pub(crate) subjects: GroupSubjects,
    pub(crate) own_subject: String,
    pub(crate) entries: HashMap<String, Arc<Entry>>,
    pub(crate) concurrency: usize,
    pub(crate) inline: bool,
    pub(crate) plain: bool,
}

pub(crate) struct Shared {
    pub(crate) setup: Setup,
    pub(crate) pool: Pool,
    pub(crate) wake: Wake,
    pub(crate) counters: Counters,
    pub(crate) sessions: Mutex<Sessions<Arc<SessionHandlers>>>,
    pub(crate) transfers: Transfers,
    pub(crate) streams: Streams,
    pub(crate) watch: Watch,
    pub(crate) known: Mutex<KnownCalls>,
    pub(crate) waiting: Mutex<HashMap<CallId, Waiting>>,
    pub(crate) stepper: Mutex<Option<Py<PyAny>>>,
    running: Mutex<HashMap<CallId, Arc<Lease<RemoteCall>>>>,
    subscriptions: Mutex<Vec<(u64, bool)>>,
    outbox: Mutex<Outbox>,
    link: Mutex<Link>,
    in_flight: AtomicUsize,
    /// Enough waits to be written before the batch is over.
    flush_soon: AtomicBool,
    batching: AtomicBool,
}

pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic under one of these locks leaves no half-made value behind that matters to the next call.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(crate) fn new(setup: Setup, pool: Pool, wake: Wake) -> Shared {
        Shared {
            outbox: Mutex::new(Outbox::new(setup.plain)),
            setup,
            pool,
            wake,
            counters: Counters::default(),
            sessions: Mutex::default(),
            transfers: Transfers::default(),
            streams: Streams::default(),
            watch: Watch::new(),
            known: Mutex::default(),
            waiting: Mutex::default(),
            stepper: Mutex::default(),
            running: Mutex::default(),
            subscriptions: Mutex::default(),
            link: Mutex::default(),
            in_flight: AtomicUsize::new(0),
            flush_soon: AtomicBool::new(false),
            batching: AtomicBool::new(false),
        }
    }

    // ---- the connection ----

    /// The hooked connection's way out.
    pub(crate) fn attach(&self, transport: Py<PyAny>, write: Py<PyAny>) {
        let mut link = locked(&self.link);
        let old = (link.write.replace(write), link.transport.replace(transport));
        link.paused = false;
        drop(link);
        drop(old);
    }

    /// That connection is gone, unless a newer one has taken its place.
    pub(crate) fn detach(&self, transport: &Py<PyAny>) {
        let mut link = locked(&self.link);
        if link.transport.as_ref().is_some_and(|current| current.is(transport)) {
            let old = (link.write.take(), link.transport.take());
            link.online = false;
            drop(link);
            drop(old);
        }
    }

    /// Everything is subscribed: what waits may go.
    pub(crate) fn online(&self, max_payload: usize) {
        locked(&self.outbox).set_max_payload(max_payload);
        locked(&self.link).online = true;
        locked(&self.known).hold(false, Moment::now());
    }

    pub(crate) fn offline(&self) {
        locked(&self.link).online = false;
        locked(&self.known).hold(true, Moment::now());
    }

    pub(crate) fn pause(&self, paused: bool) {
        locked(&self.link).paused = paused;
    }

    /// Takes the messages of subscription `sid` out of the stream; `own` for the worker's own subject.
    pub(crate) fn take_subscription(&self, sid: u64, own: bool) {
        locked(&self.subscriptions).push((sid, own));
    }

    /// Whether a subscription is ours, and if so whether it is the worker's own subject.
    pub(crate) fn subscription(&self, sid: u64) -> Option<bool> {
        locked(&self.subscriptions).iter().find(|(known, _)| *known == sid).map(|(_, own)| *own)
    }

    // ---- the way out ----

    /// While a batch of messages is dispatched, what they publish waits for one write at its end.
    pub(crate) fn begin_batch(&self) {
        self.batching.store(true, SeqCst);
    }

    /// From here on whoever publishes wakes the loop. Follow with [`Shared::flush`].
    pub(crate) fn end_batch(&self) {
        self.batching.store(false, SeqCst);
    }

    /// Writes what waits, on the loop's thread; not in the plain path, which asks for
    /// [`Shared::publications`].
    pub(crate) fn flush(&self, py: Python<'_>) -> PyResult<()> {
        let write = {
            let link = locked(&self.link);
            match &link.write {
                Some(write) if link.online && !link.paused => write.clone_ref(py),
                _ => return Ok(()),
            }
        };
        let commands = {
            let mut outbox = locked(&self.outbox);
            if outbox.is_empty() {
                return Ok(());
            }
            let commands = PyBytes::new(py, outbox.commands());
            outbox.clear();
            commands
        };
        write.bind(py).call1((commands,)).map(drop)
    }

    /// Writes what waits if it is much: between the handlers of a batch.
    pub(crate) fn flush_much(&self, py: Python<'_>) {
        if self.flush_soon.swap(false, SeqCst)
            && let Err(error) = self.flush(py)
        {
            super::report::error(py, "writing to the broker failed", &error);
        }
    }

    /// What waits, for the plain path.
    pub(crate) fn publications<T>(&self, each: impl FnMut(Publication<'_>) -> T) -> Vec<T> {
        if !locked(&self.link).online {
            return Vec::new();
        }
        let mut outbox = locked(&self.outbox);
        let all = outbox.publications().map(each).collect();
        outbox.clear();
        all
    }

    /// Bytes of the largest message that the server takes.
    pub(crate) fn max_payload(&self) -> usize {
        locked(&self.outbox).max_payload()
    }

    /// Whether a frame of about so many bytes can be published now.
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        locked(&self.outbox).has_room(bytes)
    }

    /// Bytes that wait to be written.
    pub(crate) fn unsent(&self) -> usize {
        locked(&self.outbox).commands().len()
    }

    /// Publications that were dropped because too much was waiting.
    pub(crate) fn dropped(&self) -> u64 {
        locked(&self.outbox).dropped()
    }

    /// Encodes a frame and puts it into the outbox, from any thread.
    pub(crate) fn publish(
        &self,
        subject: &[u8],
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), WireError>,
    ) -> Result<(), Unsent> {
        encoded(encode, |frame| Ok(self.publish_frame(subject, frame)?))
    }

    /// Puts a frame into the outbox, from any thread.
    pub(crate) fn publish_frame(&self, subject: &[u8], frame: &[u8]) -> Result<(), Refused> {
        let mut outbox = locked(&self.outbox);
        let was_empty = outbox.is_empty();
        outbox.publish(subject, b"", frame)?;
        let has_enough = outbox.has_enough();
        drop(outbox);
        if has_enough {
            self.flush_soon.store(true, SeqCst);
        }
        // Ordered after the push: whoever ends a batch after this looks into the outbox once more.
        if was_empty && (self.setup.plain || !self.batching.load(SeqCst)) {
            self.wake.set();
        }
        Ok(())
    }

    // ---- what runs ----

    /// The loop turns. If it stood still before, that is counted and said.
    pub(crate) fn beat(&self, py: Python<'_>) {
        let Some(gap) = self.watch.beat() else { return };
        let count = self.counters.stalls.fetch_add(1, Relaxed) + 1;
        if count.is_power_of_two() {
            super::report::warning(
                py,
                &format!(
                    "this worker stood still for {:.1} s (stopped, suspended, or its loop blocked by a handler): calls \
                     of before are claimed before they run ({count} so far)",
                    gap.as_secs_f64()
                ),
            );
        }
    }

    /// Reserves room for one call; false where there is none.
    pub(crate) fn reserve(&self) -> bool {
        let room = |running| (running < self.setup.concurrency).then_some(running + 1);
        self.in_flight.fetch_update(SeqCst, SeqCst, room).is_ok()
    }

    /// Takes a slot whether there is one or not: for what follows from a call that had one.
    pub(crate) fn hold(&self) {
        self.in_flight.fetch_add(1, SeqCst);
    }

    pub(crate) fn release(&self) {
        self.in_flight.fetch_sub(1, SeqCst);
    }

    /// Calls that have been taken and are not over.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(SeqCst)
    }

    /// Keeps a call whose handler goes on, to find it by its id.
    pub(crate) fn remember(&self, call: Arc<Lease<RemoteCall>>) {
        let old = locked(&self.running).insert(call.owner.origin.id, call);
        drop(old);
    }

    pub(crate) fn forget(&self, id: CallId) {
        let call = locked(&self.running).remove(&id);
        drop(call);
        self.transfers.forget(id);
    }

    pub(crate) fn running(&self, id: CallId) -> Option<Arc<Lease<RemoteCall>>> {
        locked(&self.running).get(&id).cloned()
    }

    /// Gives up calls that are late, or all; on the loop's thread. Sessions of silent gateways end too.
    pub(crate) fn give_up(&self, py: Python<'_>, all: Option<&Failure>) {
        let now = Instant::now();
        let calls: Vec<_> = {
            let running = locked(&self.running);
            running.values().filter(|call| all.is_some() || call.owner.has_run_out(now)).cloned().collect()
        };
        for call in calls {
            const LATE: &str = "the handler did not decide in time";
            let failure = all.cloned().unwrap_or_else(|| Failure::new(FailureKind::TimedOut, LATE));
            if call.give_up(failure)
                && let Some(task) = call.take_task()
                && let Err(error) = task.call_method0(py, pyo3::intern!(py, "cancel"))
            {
                super::report::error(py, "cancelling a handler's task failed", &error);
            }
        }
        self.give_up_waiting(all);
        self.look_after_transfers(all.is_some());
        self.look_after_streams(py, all);
        locked(&self.known).expire(Moment::now());
        let over = match all {
            None => locked(&self.sessions).expire(now),
            Some(_) => locked(&self.sessions).clear(),
        };
        drop(over);
    }
}

/// Why a frame did not get into the outbox.
#[derive(Debug)]
pub(crate) enum Unsent {
    Refused(Refused),
    Wire(WireError),
}

impl From<Refused> for Unsent {
    fn from(refused: Refused) -> Unsent {
        Unsent::Refused(refused)
    }
}

impl From<WireError> for Unsent {
    fn from(error: WireError) -> Unsent {
        Unsent::Wire(error)
    }
}

/// Encodes a frame into this thread's scratch buffer, for `take` to look at.
pub(crate) fn encoded<R>(
    encode: impl FnOnce(&mut Vec<u8>) -> Result<(), WireError>,
    take: impl FnOnce(&[u8]) -> Result<R, Unsent>,
) -> Result<R, Unsent> {
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.clear();
        encode(scratch)?;
        let taken = take(scratch);
        if scratch.capacity() > KEPT_SCRATCH {
            *scratch = Vec::new();
        }
        taken
    })
}
