//! The way out to the other end of a plugin's process.
//!
//! What one turn of a thread has to say goes out together, since each write wakes the other side. In the gateway the
//! first call of a turn writes for all that follow it, on the data-plane thread that has them: a call costs no hand-over
//! between threads on its way out. In the process, the one thread writes what it has answered before it waits. What the
//! socket does not take waits here until the task that reads (socket.rs) sends it on. Bodies wait for room, so what waits
//! is bounded.

use super::socket::Frame;
use bytes::Bytes;
use socket2::SockRef;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::os::unix::net::UnixStream as StdStream;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::Notify;
use tokio::time::timeout_at;

/// Bytes that may wait before those who can wait do so.
pub(super) const ROOM: usize = 1 << 20;
/// Slices that are handed to the system at once.
const SLICES: usize = 32;
/// The longest that something waits for the end of a turn, while there is more to send.
const TURN: Duration = Duration::from_micros(100);

#[cfg(target_os = "linux")]
const FLAGS: i32 = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
#[cfg(not(target_os = "linux"))]
const FLAGS: i32 = libc::MSG_DONTWAIT;

/// The other side is gone.
#[derive(Debug)]
pub(super) struct Closed;

/// Why a frame was not sent.
pub(super) enum Unsent {
    Closed,
    /// The other side takes nothing, and the time is up.
    TimedOut,
}

/// When what was sent is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// By whoever sends it: the gateway, whose threads do not wait for this socket.
    AtOnce,
    /// By the task that reads, at the end of its turn: the process, which does nothing else.
    ByTurn,
}

/// The way out. Any thread may use it.
pub(super) struct Outbox {
    socket: StdStream,
    manner: Manner,
    waiting: Mutex<Waiting>,
    /// Something waits.
    filled: Notify,
    /// There is room again, or nothing can be sent any more.
    drained: Notify,
}

#[derive(Default)]
struct Waiting {
    /// The first one may be sent in part.
    frames: VecDeque<Bytes>,
    bytes: usize,
    /// Since when something waits.
    since: Option<Instant>,
    closed: bool,
}

impl Outbox {
    /// The way out of `socket`, which must not block.
    pub(super) fn new(socket: StdStream, manner: Manner) -> Outbox {
        let (filled, drained) = (Notify::new(), Notify::new());
        Outbox { socket, manner, waiting: Mutex::default(), filled, drained }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // The queue is changed whole pieces at a time.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a frame behind what waits. True where it is the first one.
    fn put(&self, frame: Frame) -> Result<(bool, MutexGuard<'_, Waiting>), Closed> {
        let mut waiting = self.waiting();
        if waiting.closed {
            return Err(Closed);
        }
        let first = waiting.frames.is_empty();
        if first {
            waiting.since = Some(Instant::now());
        }
        waiting.bytes += frame.0.len();
        waiting.frames.push_back(frame.0);
        Ok((first, waiting))
    }

    /// Sends a frame. For those that are small or whose number is bounded.
    pub(super) fn send(&self, frame: Frame) -> Result<(), Closed> {
        let (first, mut waiting) = self.put(frame)?;
        match (self.manner, first) {
            // Whoever was first writes.
            (Manner::AtOnce, false) => Ok(()),
            (Manner::ByTurn, true) => {
                drop(waiting);
                self.filled.notify_one();
                Ok(())
            }
            (Manner::ByTurn, false) if waiting.since.is_some_and(|since| since.elapsed() < TURN) => Ok(()),
            _ => self.write(&mut waiting),
        }
    }

    /// Waits until something waits to be sent.
    pub(super) async fn filled(&self) {
        self.filled.notified().await;
    }

    fn write(&self, waiting: &mut Waiting) -> Result<(), Closed> {
        match self.push(waiting) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.filled.notify_one();
                Ok(())
            }
            Err(_) => Err(Closed),
        }
    }

    /// The same, once there is room. What others send on this thread meanwhile goes along.
    pub(super) async fn send_by(&self, frame: Frame, deadline: Instant) -> Result<(), Unsent> {
        self.room_by(deadline).await?;
        if self.manner == Manner::ByTurn {
            return self.send(frame).map_err(|Closed| Unsent::Closed);
        }
        let first = self.put(frame).map(|(first, _)| first).map_err(|Closed| Unsent::Closed)?;
        if first {
            let writing = Writing(self);
            tokio::task::yield_now().await;
            drop(writing);
        }
        Ok(())
    }

    async fn room_by(&self, deadline: Instant) -> Result<(), Unsent> {
        loop {
            let drained = self.drained.notified();
            tokio::pin!(drained);
            // Registered before the look, so that no room is made in between unseen.
            drained.as_mut().enable();
            if self.has_room() {
                return Ok(());
            }
            if timeout_at(deadline.into(), drained).await.is_err() {
                return Err(Unsent::TimedOut);
            }
        }
    }

    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting().frames.is_empty()
    }

    /// Whether somebody who can wait need not. What is closed says it at once.
    fn has_room(&self) -> bool {
        let waiting = self.waiting();
        waiting.closed || waiting.bytes < ROOM
    }

    /// Gives the system what it takes.
    fn push(&self, waiting: &mut Waiting) -> io::Result<()> {
        let socket = SockRef::from(&self.socket);
        while !waiting.frames.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let count = waiting.frames.len().min(SLICES);
            for (slice, frame) in slices.iter_mut().zip(&waiting.frames) {
                *slice = IoSlice::new(frame);
            }
            let mut sent = match socket.send_vectored_with_flags(&slices[..count], FLAGS) {
                Ok(sent) => sent,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    if error.kind() != io::ErrorKind::WouldBlock {
                        waiting.close();
                        self.drained.notify_waiters();
                    }
                    return Err(error);
                }
            };
            let had_room = waiting.bytes < ROOM;
            waiting.bytes -= sent;
            if !had_room && waiting.bytes < ROOM {
                self.drained.notify_waiters();
            }
            while let Some(frame) = waiting.frames.front_mut() {
                if frame.len() > sent {
                    bytes::Buf::advance(frame, sent);
                    break;
                }
                sent -= frame.len();
                waiting.frames.pop_front();
            }
        }
        Ok(())
    }

    /// Nothing is sent any more; whoever waits is told.
    pub(super) fn close(&self) {
        self.waiting().close();
        self.drained.notify_waiters();
        self.filled.notify_one();
    }

    /// Tells the other side that nothing follows, once what waits is sent.
    pub(super) async fn finish(&self, stream: &UnixStream) {
        self.drain(stream).await;
        self.close();
        // Where the other side is gone already there is nobody to tell.
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// Sends what waits, until there is nothing.
    pub(super) async fn drain(&self, stream: &UnixStream) {
        while self.is_waiting() {
            if stream.writable().await.is_err() {
                return self.close();
            }
            // An error has closed the outbox; a socket that is full is waited for again.
            let _ = stream.try_io(Interest::WRITABLE, || self.push(&mut self.waiting()));
        }
    }
}

/// Writes for a whole turn, also where the one that began it is given up.
struct Writing<'a>(&'a Outbox);

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        // If it is closed, the end of the process tells everybody.
        let _ = self.0.write(&mut self.0.waiting());
    }
}

impl Waiting {
    fn close(&mut self) {
        *self = Waiting { closed: true, ..Waiting::default() };
    }
}
