//! What stands between a handler that writes a response and whoever takes it.
//!
//! A write puts its bytes into the queue and then waits until little enough is in it, so a handler is at most one
//! write ahead of its reader. The queue knows nothing of what a writer waits with where it has no thread to block: a
//! ticket is kept here, such as the future of Python's `async def` handler, which its loop's thread resolves.

use bytes::{Bytes, BytesMut};
use nylon_core::{Failure, FailureKind};
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Bytes that may wait without holding the handler back.
const ROOM: usize = 128 * 1024;

/// Why nothing can be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unwritten {
    /// Nobody takes it any more; the text says why.
    Closed(String),
    /// The handler has ended the body itself.
    Ended,
    /// The write before it still waits for room.
    Waiting,
}

/// Whether a write may return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    Enough,
    Wanting,
}

/// A queue of bytes with one writer and one reader.
pub struct Pipe<T = ()> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    chunks: VecDeque<Bytes>,
    bytes: usize,
    /// How the handler has ended it.
    end: Option<Result<(), Failure>>,
    /// Why nobody takes any more.
    closed: Option<String>,
    /// The ticket of a write that waits.
    ticket: Option<T>,
}

impl<T> Default for Pipe<T> {
    fn default() -> Pipe<T> {
        let state = State { chunks: VecDeque::new(), bytes: 0, end: None, closed: None, ticket: None };
        Pipe { state: Mutex::new(state), changed: Condvar::new() }
    }
}

impl<T> State<T> {
    fn room(&self) -> Result<Room, Unwritten> {
        match &self.closed {
            Some(why) => Err(Unwritten::Closed(why.clone())),
            None if self.bytes > ROOM => Ok(Room::Wanting),
            None => Ok(Room::Enough),
        }
    }
}

impl<T> Pipe<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        // Nothing that could panic half-way runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // ---- the handler's end ----

    /// Takes bytes; the writer then waits where room is wanting.
    pub fn write(&self, data: Bytes) -> Result<Room, Unwritten> {
        let mut state = self.state();
        if state.room()? == Room::Wanting {
            return Err(Unwritten::Waiting);
        }
        if state.end.is_some() {
            return Err(Unwritten::Ended);
        }
        if !data.is_empty() {
            state.bytes += data.len();
            state.chunks.push_back(data);
        }
        state.room()
    }

    /// Takes bytes from a writer that cannot wait, as long as no more than `most` wait in all.
    pub fn push(&self, data: Bytes, most: usize) -> Result<(), Unwritten> {
        let mut state = self.state();
        state.room()?;
        if state.end.is_some() {
            return Err(Unwritten::Ended);
        }
        if state.bytes + data.len() > most {
            return Err(Unwritten::Waiting);
        }
        if !data.is_empty() {
            state.bytes += data.len();
            state.chunks.push_back(data);
        }
        Ok(())
    }

    /// Whether there is room now.
    pub fn room(&self) -> Result<Room, Unwritten> {
        self.state().room()
    }

    /// Waits for room. On a thread that may wait, without the GIL.
    pub fn wait(&self) -> Result<(), Unwritten> {
        let wanting = |state: &mut State<T>| state.room() == Ok(Room::Wanting);
        let state = self.changed.wait_while(self.state(), wanting).unwrap_or_else(PoisonError::into_inner);
        state.room().map(drop)
    }

    /// Keeps the ticket of a write that waits. False if there is room meanwhile, or will never be.
    pub fn keep(&self, ticket: T) -> bool {
        let mut state = self.state();
        let waits = state.room() == Ok(Room::Wanting);
        let old = if waits { state.ticket.replace(ticket) } else { None };
        drop(state);
        drop(old);
        waits
    }

    /// Takes that ticket where its write need not wait any more.
    pub fn take_ticket(&self) -> Option<T> {
        let mut state = self.state();
        if state.room() == Ok(Room::Wanting) { None } else { state.ticket.take() }
    }

    /// Ends the body, for the first time only. With a failure what waits is thrown away: it ends in the middle.
    pub fn end(&self, how: Result<(), Failure>) {
        let mut state = self.state();
        if state.end.is_none() {
            if how.is_err() {
                (state.chunks, state.bytes) = (VecDeque::new(), 0);
            }
            state.end = Some(how);
        }
    }

    /// Whether the handler has ended the body.
    pub fn has_ended(&self) -> bool {
        self.state().end.is_some()
    }

    // ---- the reader's end ----

    /// Takes at most `most` bytes, small writes together. The flag says that a ticket is to be taken.
    pub fn take(&self, most: usize) -> (Option<Bytes>, bool) {
        let mut state = self.state();
        let taken = state.take(most);
        let room = state.bytes <= ROOM;
        let wake = room && state.ticket.is_some();
        drop(state);
        if room && taken.is_some() {
            self.changed.notify_all();
        }
        (taken, wake)
    }

    /// How it has ended, once all that was written is taken.
    pub fn ended(&self) -> Option<Result<(), Failure>> {
        let state = self.state();
        if state.chunks.is_empty() { state.end.clone() } else { None }
    }

    /// Nobody takes any more: what waits is thrown away, and the body has not ended well unless all of it was taken. The
    /// flag says that a ticket is to be taken.
    pub fn close(&self, why: &str) -> bool {
        let mut state = self.state();
        if state.closed.is_none() {
            state.closed = Some(why.to_owned());
        }
        if state.end.is_none() || !state.chunks.is_empty() {
            state.end = Some(Err(Failure::new(FailureKind::Cancelled, why)));
        }
        (state.chunks, state.bytes) = (VecDeque::new(), 0);
        let wake = state.ticket.is_some();
        drop(state);
        self.changed.notify_all();
        wake
    }

    /// Whether it is closed.
    pub fn is_closed(&self) -> bool {
        self.state().closed.is_some()
    }
}

impl<T> State<T> {
    fn take(&mut self, most: usize) -> Option<Bytes> {
        let mut first = self.chunks.pop_front()?;
        if first.len() > most {
            let part = first.split_to(most);
            self.chunks.push_front(first);
            self.bytes -= part.len();
            return Some(part);
        }
        let fits = |held: usize, next: Option<&Bytes>| next.is_some_and(|next| held + next.len() <= most);
        if !fits(first.len(), self.chunks.front()) {
            self.bytes -= first.len();
            return Some(first);
        }
        let mut together = BytesMut::from(first);
        while fits(together.len(), self.chunks.front())
            && let Some(next) = self.chunks.pop_front()
        {
            together.extend_from_slice(&next);
        }
        self.bytes -= together.len();
        Some(together.freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(length: usize) -> Bytes {
        Bytes::from(vec![7; length])
    }

    #[test]
    fn a_writer_is_at_most_one_write_ahead() {
        let pipe = Pipe::<()>::default();
        assert_eq!(pipe.write(bytes(ROOM)), Ok(Room::Enough));
        assert_eq!(pipe.write(bytes(1 << 20)), Ok(Room::Wanting));
        assert_eq!(pipe.write(bytes(1)), Err(Unwritten::Waiting));
        let mut taken = 0;
        while pipe.room() == Ok(Room::Wanting) {
            taken += pipe.take(1000).0.expect("bytes").len();
        }
        assert!(taken >= 1 << 20);
        assert_eq!(pipe.write(bytes(1)), Ok(Room::Enough));
    }

    #[test]
    fn small_writes_are_taken_together_and_large_ones_in_parts() {
        let pipe = Pipe::<()>::default();
        for text in ["a", "b", "", "cd"] {
            pipe.write(Bytes::from_static(text.as_bytes())).expect("room");
        }
        assert_eq!(pipe.take(3).0.as_deref(), Some(&b"ab"[..]));
        pipe.write(bytes(10)).expect("room");
        let sizes: Vec<_> = std::iter::from_fn(|| pipe.take(4).0).map(|part| part.len()).collect();
        assert_eq!(sizes, [2, 4, 4, 2]);
        pipe.end(Ok(()));
        assert_eq!(pipe.ended(), Some(Ok(())));
        assert_eq!(pipe.write(bytes(1)), Err(Unwritten::Ended));
    }

    #[test]
    fn a_failure_throws_away_what_waits_and_the_first_end_counts() {
        let pipe = Pipe::<()>::default();
        pipe.write(bytes(10)).expect("room");
        let failure = Failure::new(FailureKind::Raised, "boom");
        pipe.end(Err(failure.clone()));
        pipe.end(Ok(()));
        assert_eq!((pipe.take(10).0, pipe.ended()), (None, Some(Err(failure))));
    }

    #[test]
    fn a_body_that_was_closed_with_bytes_in_it_has_not_ended_well() {
        let pipe = Pipe::<()>::default();
        pipe.write(bytes(10)).expect("room");
        pipe.end(Ok(()));
        pipe.close("gone");
        assert!(matches!(pipe.ended(), Some(Err(_))));
        let taken = Pipe::<()>::default();
        taken.end(Ok(()));
        taken.close("gone");
        assert_eq!(taken.ended(), Some(Ok(())));
    }

    #[test]
    fn closing_wakes_a_writer_that_waits() {
        let pipe = std::sync::Arc::new(Pipe::<()>::default());
        pipe.write(bytes(1 << 20)).expect("taken");
        let waiting = std::thread::spawn({
            let pipe = pipe.clone();
            move || pipe.wait()
        });
        pipe.close("gone");
        assert_eq!(waiting.join().expect("no panic"), Err(Unwritten::Closed("gone".to_owned())));
        assert_eq!(pipe.write(bytes(1)), Err(Unwritten::Closed("gone".to_owned())));
    }
}
