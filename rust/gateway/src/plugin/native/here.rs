//! What this thread is doing with libraries.
//!
//! A phase asks for it at each call into a library and each call back, some twenty times; a thread's own variables are not
//! free in a shared object, so they are kept together and looked up once per call.

use super::reads::Scratch;
use super::seat::{self, Seat};
use super::slab::OwnFree;
use std::cell::{Cell, OnceCell};
use std::sync::Arc;
use std::time::Instant;

/// One thread's.
#[derive(Default)]
pub(super) struct Here {
    /// The calls of the gateway into libraries that it is inside of.
    inside: Cell<Inside>,
    /// Whose record it has been noted in last.
    pub(super) noted: Cell<usize>,
    /// Room for an answer. A call from within an answer finds none and makes its own.
    scratch: Cell<Option<Box<Scratch>>>,
    /// Where the watchdog sees it.
    seat: OnceCell<Arc<Seat>>,
    /// Places for sessions that it opens.
    pub(super) free: OwnFree,
}

/// While there are any such calls, the thread must not block.
#[derive(Clone, Copy, Default)]
struct Inside {
    depth: u32,
    /// The session of the innermost one, or 0.
    sid: u32,
}

thread_local! {
    static HERE: Here = const {
        Here {
            inside: Cell::new(Inside { depth: 0, sid: 0 }),
            noted: Cell::new(0),
            scratch: Cell::new(None),
            seat: OnceCell::new(),
            free: OwnFree::none(),
        }
    };
}

/// Looks at what this thread is doing.
pub(super) fn here<R>(look: impl FnOnce(&Here) -> R) -> R {
    let mut look = Some(look);
    let found = HERE.try_with(|here| look.take().map(|look| look(here)));
    match (found, look) {
        (Ok(Some(result)), _) => result,
        // A thread that is ending has nothing any more, so it is inside of nothing.
        (_, Some(look)) => look(&Here::default()),
        (_, None) => unreachable!("a look that was taken has given a result"),
    }
}

impl Here {
    /// Whether the thread is one of the gateway's, inside a call of it: then nothing may block it.
    pub(super) fn is_inside(&self) -> bool {
        self.inside.get().depth > 0
    }

    /// Whether it is inside a call of the gateway for this session.
    pub(super) fn is_inside_of(&self, sid: u32) -> bool {
        self.inside.get().sid == sid
    }

    /// Runs a call into a library on this thread, which is one of the gateway's.
    pub(super) fn inside<R>(&self, sid: u32, call: impl FnOnce() -> R) -> R {
        let before = self.inside.get();
        self.inside.set(Inside { depth: before.depth + 1, sid });
        let result = call();
        self.inside.set(before);
        result
    }

    /// The thread's seat.
    pub(super) fn seat(&self) -> &Seat {
        self.seat.get_or_init(seat::take)
    }

    /// Room for an answer.
    pub(super) fn scratch(&self) -> Box<Scratch> {
        self.scratch.take().unwrap_or_default()
    }

    /// Keeps the room for the next one.
    pub(super) fn give_back(&self, scratch: Box<Scratch>) {
        self.scratch.set(scratch.emptied());
    }
}

/// Runs a call into a library for the session `sid`, which is due at `due`, on this thread, which is one of the gateway's.
pub(super) fn watched<R>(sid: u32, due: Instant, call: impl FnOnce(&Here) -> R) -> R {
    here(|here| here.seat().during(sid, due, || call(here)))
}
