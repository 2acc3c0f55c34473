//! One session's line to the gateway: what is told it, and what is asked.
//!
//! An answer comes back through `event_stream`, nearly always on the asking thread and before the callback returns.
//! So the question waits in a thread-local place for it, without a lock or a lookup; only a body that is still on its
//! way to the gateway comes later and from another thread, through the session.

use crate::error::{Error, ErrorKind, Result};
use nylon_abi::{FfiBuffer, phase};
use std::cell::Cell;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// The gateway's side.
pub(crate) type Callback = unsafe extern "C" fn(*const FfiBuffer);

/// Answers that are kept for whoever will ask for them; one is outstanding at a time, the rest is room for doubt.
const KEPT: usize = 4;

pub(crate) struct Link {
    sid: u32,
    callback: Callback,
    closed: AtomicBool,
    late: Mutex<Late>,
    arrived: Condvar,
}

/// Answers that came from another thread.
#[derive(Default)]
struct Late {
    kept: Vec<(u32, Vec<u8>)>,
    /// How many threads wait for one. Waking nobody costs a system call.
    waiting: usize,
}

/// A question that is being asked on this thread.
struct Question<'a> {
    sid: u32,
    method: u32,
    take: &'a mut (dyn FnMut(&[u8]) + 'a),
}

thread_local! {
    /// Not a value with a destructor: that would keep the library in memory after it was closed.
    static ASKING: Cell<*mut Question<'static>> = const { Cell::new(ptr::null_mut()) };
}

impl Link {
    pub(crate) fn new(sid: u32, callback: Callback) -> Link {
        Link {
            sid,
            callback,
            closed: AtomicBool::new(false),
            late: Mutex::default(),
            arrived: Condvar::new(),
        }
    }

    /// The gateway has closed the session: whoever waits for an answer gets none.
    pub(crate) fn close(&self) {
        // Under the lock, so that nobody starts to wait in between.
        let late = self.late();
        self.closed.store(true, Ordering::Release);
        self.wake(&late);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(crate) fn check_open(&self) -> Result {
        if self.is_closed() { Err(closed()) } else { Ok(()) }
    }

    /// Tells the gateway something that has no answer.
    pub(crate) fn tell(&self, method: u32, payload: &[u8]) -> Result {
        self.check_open()?;
        self.call(method, payload);
        Ok(())
    }

    /// Asks the gateway, and takes what it answers. `wait` where the answer may take its time and this thread has it.
    pub(crate) fn ask<T>(
        &self,
        method: u32,
        payload: &[u8],
        wait: bool,
        take: impl FnOnce(&[u8]) -> T,
    ) -> Result<T> {
        self.check_open()?;
        let mut take = Some(take);
        let mut taken = None;
        let mut once = |answer: &[u8]| {
            if let Some(take) = take.take() {
                taken = Some(take(answer));
            }
        };
        let mut question = Question { sid: self.sid, method, take: &mut once };
        // Put back afterwards, whatever happens: nothing unwinds out of the gateway.
        ASKING.with(|asking| {
            let before = asking.replace((&raw mut question).cast());
            self.call(method, payload);
            asking.set(before);
        });
        match (taken, take) {
            (Some(taken), _) => Ok(taken),
            (None, Some(take)) if wait => self.await_late(method).map(|answer| take(&answer)),
            _ => Err(Error::new(
                ErrorKind::Body,
                "the gateway has no answer yet, and this thread must not wait for it",
            )),
        }
    }

    /// Waits for an answer that did not come at once. The deadline is the gateway's: it closes the session when the
    /// phase's `timeout_ms` is over.
    fn await_late(&self, method: u32) -> Result<Vec<u8>> {
        let mut late = self.late();
        loop {
            if let Some(place) = late.kept.iter().position(|(answered, _)| *answered == method) {
                return Ok(late.kept.swap_remove(place).1);
            }
            self.check_open()?;
            late.waiting += 1;
            late = self.arrived.wait(late).unwrap_or_else(PoisonError::into_inner);
            late.waiting -= 1;
        }
    }

    /// An answer that nobody on this thread asked for.
    pub(crate) fn keep(&self, method: u32, answer: &[u8]) {
        let mut late = self.late();
        if late.kept.len() < KEPT {
            late.kept.push((method, answer.to_vec()));
        }
        self.wake(&late);
    }

    fn late(&self) -> MutexGuard<'_, Late> {
        self.late.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self, late: &Late) {
        if late.waiting > 0 {
            self.arrived.notify_all();
        }
    }

    fn call(&self, method: u32, payload: &[u8]) {
        let pointer = if payload.is_empty() { ptr::null() } else { payload.as_ptr() };
        let message =
            FfiBuffer { sid: self.sid, phase: phase::NONE, method, ptr: pointer, len: payload.len() as u64 };
        // SAFETY: the gateway gave this function with the session, and takes messages of any sid from any thread. It
        // copies the payload before it returns.
        unsafe { (self.callback)(&raw const message) }
    }
}

/// Hands an answer to the question that is being asked on this thread, if it is the answer to that.
pub(crate) fn answer(sid: u32, method: u32, answer: &[u8]) -> bool {
    let asking = ASKING.get();
    if asking.is_null() {
        return false;
    }
    // SAFETY: `ask` put it here on this very thread and is in the middle of its callback, so the question is alive and
    // nobody else has a reference to it; it takes it away again before it returns.
    let question = unsafe { &mut *asking };
    if (question.sid, question.method) != (sid, method) {
        return false;
    }
    (question.take)(answer);
    true
}

pub(crate) fn closed() -> Error {
    const WHY: &str = "the phase is over: its time was up, or the client has left";
    Error::new(ErrorKind::Closed, WHY)
}
