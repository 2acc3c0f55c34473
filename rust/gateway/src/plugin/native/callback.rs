//! The callback that libraries call, and what is checked before a call means anything.
//!
//! It may come on any thread, at any time, with anything in it. A call finds its session by number, takes effect under
//! the session's small lock, and is answered after that lock is given back: an answer calls the library again, which
//! may call back from within.

use super::here::{Here, here};
use super::library::Callback;
use super::mapped::{self, MAX_LIBRARIES, Mapped};
use super::misuse::Kind;
use super::reads::{Answer, Scratch};
use super::session::{Opened, SessionState, answer};
use super::slab::{self, Place};
use super::{reads, stream, writes};
use nylon_abi::{FfiBuffer, method};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;

/// Bytes of the largest body that is believed.
const MAX_BODY: u64 = 1 << 30;
/// Bytes of the largest header, text or name that is believed.
const MAX_TEXT: u64 = 1 << 20;

/// The callback of the library with this number.
pub(super) fn number(index: usize) -> Option<Callback> {
    ALL.as_flattened().get(index).copied()
}

extern "C" fn call<const INDEX: usize>(message: *const FfiBuffer) {
    // A panic must not unwind into the library. It would be a defect of Nylon, which its phase's time-out closes.
    if catch_unwind(AssertUnwindSafe(|| receive(INDEX, message))).is_err() {
        tracing::error!("a call of a native library panicked: this is a defect of Nylon");
    }
}

macro_rules! sixteen {
    ($row:literal) => {
        [
            call::<{ $row * 16 }>,
            call::<{ $row * 16 + 1 }>,
            call::<{ $row * 16 + 2 }>,
            call::<{ $row * 16 + 3 }>,
            call::<{ $row * 16 + 4 }>,
            call::<{ $row * 16 + 5 }>,
            call::<{ $row * 16 + 6 }>,
            call::<{ $row * 16 + 7 }>,
            call::<{ $row * 16 + 8 }>,
            call::<{ $row * 16 + 9 }>,
            call::<{ $row * 16 + 10 }>,
            call::<{ $row * 16 + 11 }>,
            call::<{ $row * 16 + 12 }>,
            call::<{ $row * 16 + 13 }>,
            call::<{ $row * 16 + 14 }>,
            call::<{ $row * 16 + 15 }>,
        ]
    };
}

/// One function for each library, so that it is known which one calls.
const ALL: [[Callback; 16]; MAX_LIBRARIES / 16] = [
    sixteen!(0),
    sixteen!(1),
    sixteen!(2),
    sixteen!(3),
    sixteen!(4),
    sixteen!(5),
    sixteen!(6),
    sixteen!(7),
    sixteen!(8),
    sixteen!(9),
    sixteen!(10),
    sixteen!(11),
    sixteen!(12),
    sixteen!(13),
    sixteen!(14),
    sixteen!(15),
];

fn receive(index: usize, message: *const FfiBuffer) {
    // A library gets its callback from its record, so the record is there.
    let Some(mapped) = mapped::behind(index) else { return };
    here(|here| receive_here(here, mapped, message));
}

fn receive_here(here: &Here, mapped: &'static Mapped, message: *const FfiBuffer) {
    mapped.called(here);
    if message.is_null() {
        return mapped.misuse.count(Kind::NullMessage, 0, 0);
    }
    // SAFETY: not null; the library promises a message that is valid until this call returns. Nothing is asked of its
    // alignment.
    let message = unsafe { message.read_unaligned() };
    take(here, mapped, &message);
    mapped.done_with(message.ptr);
}

fn take(here: &Here, mapped: &'static Mapped, message: &FfiBuffer) {
    let sid = message.sid;
    let Some(slot) = slab::find(sid) else { return refuse(mapped, message, Kind::UnknownSession) };
    let opened = Opened { sid, slot, mapped };
    let mut scratch = here.scratch();
    // A call from within one of the gateway's for this very session is covered by that one.
    let covered = here.is_inside_of(sid);
    let effect = {
        let mut place = slot.lock();
        match owned(mapped, &mut place, sid) {
            Err(kind) => {
                drop(place);
                return refuse(mapped, message, kind);
            }
            Ok(state) => {
                let effect = act(mapped, state, message, &mut scratch);
                if effect.answer.is_some() && !covered {
                    state.take_off();
                }
                effect
            }
        }
    };
    if let Some(waker) = effect.waker {
        waker.wake();
    }
    if let Some(found) = effect.answer {
        mapped.event(&answer(sid, message.method, found.bytes(&scratch)));
        if !covered {
            opened.landed();
        }
    } else if let Some(write) = effect.write {
        write.wait();
    }
    here.give_back(scratch);
}

/// The open session of `mapped` with this number, or why there is none.
fn owned<'a>(mapped: &Mapped, place: &'a mut Place, sid: u32) -> Result<&'a mut SessionState, Kind> {
    let (is_here, is_new) = (place.sid == sid, place.sid == 0);
    match place.session.as_mut() {
        Some(state) if is_here && !std::ptr::eq(state.entry.mapped, mapped) => Err(Kind::ForeignSession),
        Some(state) if is_here && !state.is_closing() => Ok(state),
        _ if is_new => Err(Kind::UnknownSession),
        _ => Err(Kind::ClosedSession),
    }
}

/// A call without a session. A read that comes too late is answered all the same: its reader may wait for that.
fn refuse(mapped: &Mapped, message: &FfiBuffer, kind: Kind) {
    mapped.misuse.count(kind, message.sid, message.method);
    if kind == Kind::ClosedSession && reads::is_read(message.method) {
        mapped.event_stray(&answer(message.sid, message.method, &[]));
    }
}

/// What follows from a call once the session's lock is given back.
#[derive(Default)]
struct Effect {
    answer: Option<Answer>,
    /// Who waits for what has happened.
    waker: Option<Waker>,
    /// A write that may have to wait for room.
    write: Option<stream::Written>,
}

fn act(mapped: &Mapped, state: &mut SessionState, message: &FfiBuffer, scratch: &mut Scratch) -> Effect {
    let mut effect = Effect::default();
    let (sid, number) = (message.sid, message.method);
    let payload = match payload(message) {
        Ok(payload) => payload,
        Err(kind) => {
            mapped.misuse.count(kind, sid, number);
            effect.answer = reads::is_read(number).then_some(Answer::Nothing);
            return effect;
        }
    };
    if reads::is_read(number) {
        effect.answer = reads::read(mapped, state, message, payload, scratch);
        // A body that is not here is fetched by whoever waits for the phase.
        if effect.answer.is_none() {
            effect.waker = state.running.as_mut().and_then(|running| running.waker.take());
        }
        return effect;
    }
    match number {
        method::NEXT..=method::END | method::FAIL | 100..=116 | 220..=226 | method::WEBSOCKET_UPGRADE => {
            effect.write = writes::write(mapped, state, message, payload);
            effect.waker = match &mut state.running {
                Some(running) if running.is_over() => running.waker.take(),
                _ => None,
            };
        }
        301..=303 | 310..=313 => mapped.misuse.count(Kind::WebSocket, sid, number),
        _ => {
            mapped.misuse.count(Kind::UnknownMethod, sid, number);
            effect.answer = Some(Answer::Nothing);
        }
    }
    effect
}

/// The bytes of a message.
fn payload(message: &FfiBuffer) -> Result<&[u8], Kind> {
    let is_body = matches!(
        message.method,
        method::SET_RESPONSE_FULL_BODY
            | method::SET_RESPONSE_STREAM_DATA
            | method::SET_RESPONSE_CHUNK
            | method::SET_REQUEST_BODY
    );
    match message.len {
        0 => Ok(&[]),
        _ if message.ptr.is_null() => Err(Kind::NullPayload),
        len if len > if is_body { MAX_BODY } else { MAX_TEXT } => Err(Kind::HugePayload),
        // SAFETY: not null and of a believable length; the library promises that many bytes until this call returns.
        len => Ok(unsafe { std::slice::from_raw_parts(message.ptr, len as usize) }),
    }
}
