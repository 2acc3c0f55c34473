//! One exchange × one middleware, as a library and the pipeline share it.
//!
//! The pipeline lends the exchange to the session for the time of a phase; the library's calls find it there, from
//! whatever thread they come. What a call came to is left in the session, and the data-plane thread that owns the
//! exchange takes it back. So no call of a library ever touches the data plane's own state.

use super::entry::Entry;
use super::here::watched;
use super::mapped::Mapped;
use super::slab::{self, Slot};
use super::stream::{Outlet, Writer};
use nylon_abi::{FfiBuffer, phase};
use nylon_core::{Context, Failure, FailureKind, Finished};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;
use std::time::Instant;

/// What is kept of a session.
pub(super) struct SessionState {
    /// Whose session it is.
    pub(super) entry: Arc<Entry>,
    /// The phase that is running.
    pub(super) running: Option<Box<Running>>,
    /// The handler that goes on writing its response.
    pub(super) writer: Option<Box<Writer>>,
    /// Calls into the library that are under way for it.
    flights: u32,
    /// It is over once they have landed: nothing begins any more.
    closing: bool,
}

/// A phase that is running.
pub(super) struct Running {
    pub(super) context: Context,
    /// How it ended, where it did not end by the context's own decision.
    pub(super) ended: Option<Ended>,
    /// Reads of a body that is still on its way.
    pub(super) awaited: Awaited,
    /// Bytes of a body that may be held.
    pub(super) limit: usize,
    /// The response's body can be fetched where the library asks for it.
    pub(super) on_demand: bool,
    /// Who waits for the end, once the start has returned.
    pub(super) waker: Option<Waker>,
}

/// An end that is none of the two decisions.
pub(super) enum Ended {
    /// The handler failed, or did what it must not.
    Failed(Failure),
    /// A stream has begun: this is its head's exchange.
    Begun(Box<Finished>, Arc<Outlet>),
}

/// How many reads of each body wait to be answered.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Awaited {
    pub(super) request: u32,
    pub(super) response: u32,
}

impl SessionState {
    /// A call into the library begins.
    pub(super) fn take_off(&mut self) {
        self.flights += 1;
    }

    /// Whether the library was told that it is over, or is about to be.
    pub(super) fn is_closing(&self) -> bool {
        self.closing
    }
}

impl Running {
    /// Whether nothing more can be done in this phase.
    pub(super) fn is_over(&self) -> bool {
        self.ended.is_some() || self.context.decision().is_some()
    }

    /// Ends the phase by a failure, unless it has ended.
    pub(super) fn fail(&mut self, failure: Failure) {
        if !self.is_over() {
            self.ended = Some(Ended::Failed(failure));
        }
    }
}

/// An open session, as the pipeline keeps it between phases. Dropping it closes the session.
#[derive(Clone, Copy)]
pub(super) struct Opened {
    pub(super) sid: u32,
    pub(super) slot: &'static Slot,
    pub(super) mapped: &'static Mapped,
}

/// Why there is no session.
pub(super) enum NotOpened {
    /// The library does not have the entry.
    NoSuchEntry,
    /// More sessions are open than there are numbers for.
    TooMany,
    /// The host is shut down.
    Ended,
}

impl Opened {
    /// Opens a session for `entry`, by `due`.
    pub(super) fn new(entry: &Arc<Entry>, due: Instant) -> Result<Opened, NotOpened> {
        let mapped = entry.mapped;
        // Counted before the look, so that a shutdown sees the one or the other.
        mapped.open.fetch_add(1, Ordering::SeqCst);
        if mapped.ended.load(Ordering::SeqCst) {
            mapped.open.fetch_sub(1, Ordering::SeqCst);
            return Err(NotOpened::Ended);
        }
        let state =
            SessionState { entry: entry.clone(), running: None, writer: None, flights: 0, closing: false };
        let Some((sid, slot)) = slab::open(state) else {
            mapped.open.fetch_sub(1, Ordering::SeqCst);
            return Err(NotOpened::TooMany);
        };
        let opened = Opened { sid, slot, mapped };
        if watched(sid, due, |here| mapped.register(here, sid, &entry.name)) {
            return Ok(opened);
        }
        // The library does not know the session, so it is not told of its end.
        opened.abandon();
        Err(NotOpened::NoSuchEntry)
    }

    fn abandon(self) {
        let state = self.slot.lock().session.take();
        drop(state);
        self.left();
    }

    fn left(self) {
        slab::leave(self.sid);
        self.mapped.open.fetch_sub(1, Ordering::SeqCst);
    }

    /// A look at the session, if it is still open.
    pub(super) fn with<R>(self, look: impl FnOnce(&mut SessionState) -> R) -> Option<R> {
        let mut place = self.slot.lock();
        if place.sid != self.sid {
            return None;
        }
        place.session.as_mut().filter(|state| !state.is_closing()).map(look)
    }

    /// Lends the exchange to the session and announces the call that starts the phase. Gives it back where the session
    /// is over.
    pub(super) fn lend(self, running: Box<Running>) -> Result<(), Box<Running>> {
        let mut running = Some(running);
        self.with(|state| {
            state.running = running.take();
            state.take_off();
        });
        running.map_or(Ok(()), Err)
    }

    /// Tells the library that the phase starts for which the exchange was lent, and looks at what came of it. From a
    /// data-plane thread.
    pub(super) fn start<R>(
        self,
        phase: u8,
        due: Instant,
        look: impl FnOnce(&mut SessionState) -> R,
    ) -> Option<R> {
        let message = FfiBuffer { sid: self.sid, phase, method: 0, ptr: std::ptr::null(), len: 0 };
        watched(self.sid, due, |here| self.mapped.event_inline(here, &message));
        self.land(look)
    }

    /// Answers `count` reads. From a data-plane thread, which knows that the session is open.
    pub(super) fn answer(self, method: u32, count: u32, bytes: &[u8]) {
        for _ in 0..count {
            if self.with(SessionState::take_off).is_none() {
                return;
            }
            let message = answer(self.sid, method, bytes);
            watched(self.sid, Instant::now(), |here| self.mapped.event_inline(here, &message));
            self.landed();
        }
    }

    /// A call into the library for this session is over.
    pub(super) fn landed(self) {
        self.land(|_| ());
    }

    /// The same, with a look at the session if it is still open.
    fn land<R>(self, look: impl FnOnce(&mut SessionState) -> R) -> Option<R> {
        let over = {
            let mut place = self.slot.lock();
            // It stays here for as long as a call is under way.
            let state = place.session.as_mut()?;
            state.flights -= 1;
            match (state.closing, state.flights) {
                (false, _) => return Some(look(state)),
                (true, 0) => place.session.take(),
                (true, _) => None,
            }
        };
        if over.is_some() {
            drop(over);
            self.tell_closed();
        }
        None
    }

    /// Closes the session: at once, or when the last call into the library for it returns. A phase that is running fails
    /// instead, since only who waits for it can give its exchange back.
    pub(super) fn close(self) {
        let (writer, waker, over) = {
            let mut place = self.slot.lock();
            if place.sid != self.sid {
                return;
            }
            let Some(state) = place.session.as_mut().filter(|state| !state.closing) else { return };
            match &mut state.running {
                Some(running) => {
                    running.fail(Failure::new(FailureKind::Unavailable, "the session was closed"));
                    (None, running.waker.take(), None)
                }
                None => {
                    state.closing = true;
                    let (writer, now) = (state.writer.take(), state.flights == 0);
                    (writer, None, if now { place.session.take() } else { None })
                }
            }
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        if over.is_some() {
            drop(over);
            self.tell_closed();
        }
        // Last, so that a handler that writes to nobody finds its session closed.
        if let Some(writer) = writer {
            writer.outlet.leave();
        }
    }

    /// Answers the reads that waited for a body which nobody gets any more.
    pub(super) fn answer_nothing(self, awaited: Awaited) {
        self.answer(nylon_abi::method::READ_REQUEST_FULL_BODY, awaited.request, &[]);
        self.answer(nylon_abi::method::READ_RESPONSE_FULL_BODY, awaited.response, &[]);
    }

    /// Tells the library that a session is over which is nowhere any more, and lets its place.
    fn tell_closed(self) {
        self.mapped.close(self.sid);
        self.left();
    }
}

/// The session as it lies in the pipeline's hands.
pub(super) struct Kept(pub(super) Opened);

impl Drop for Kept {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// The answer to a read.
pub(super) fn answer(sid: u32, method: u32, bytes: &[u8]) -> FfiBuffer {
    let ptr = if bytes.is_empty() { std::ptr::null() } else { bytes.as_ptr() };
    FfiBuffer { sid, phase: phase::NONE, method, ptr, len: bytes.len() as u64 }
}
