//! The socket between a gateway and a plugin's own process, the same at both ends: frames behind their length.
//!
//! What one turn of a thread has to say goes out together, since each write wakes the other side. In the gateway the
//! first call of a turn writes for all that follow it, on the data-plane thread that has them: a call costs no hand-over
//! between threads on its way out. In the process, the one thread writes what it has answered before it waits. What the
//! socket does not take waits in the outbox, which the one task that also reads sends on. Bodies wait for room in it,
//! so what waits is bounded.

use crate::plugin::buffer::in_buffer;
use bytes::{Bytes, BytesMut};
use nylon_wire::WireError;
use nylon_wire::limits::MAX_FRAME;
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
const ROOM: usize = 1 << 20;
/// Bytes of a frame's length.
const PREFIX: usize = 4;
/// What is read at once, as long as no larger frame is on its way.
const READ: usize = 64 * 1024;
/// Frames up to this size are copied out of the read buffer, which they would keep alive whole.
const COPY_UP_TO: usize = 16 * 1024;
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

/// A frame behind its length.
pub(super) struct Frame(Bytes);

/// Encodes a frame.
///
/// # Errors
/// When it is one that cannot be sent.
pub(super) fn framed(encode: impl FnOnce(&mut Vec<u8>) -> Result<(), WireError>) -> Result<Frame, WireError> {
    let framed = in_buffer(|out| {
        out.extend_from_slice(&[0; PREFIX]);
        encode(out)?;
        let too_large = || WireError::TooLarge { what: "a frame", limit: MAX_FRAME };
        let length = Some(out.len() - PREFIX).filter(|length| *length <= MAX_FRAME).ok_or_else(too_large)?;
        let length = u32::try_from(length).map_err(|_| too_large())?;
        out[..PREFIX].copy_from_slice(&length.to_be_bytes());
        Ok(())
    });
    framed.map(Frame)
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
    fn new(socket: StdStream, manner: Manner) -> Outbox {
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

    fn is_waiting(&self) -> bool {
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
    async fn finish(&self, stream: &UnixStream) {
        self.drain(stream).await;
        self.close();
        // Where the other side is gone already there is nobody to tell.
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// Sends what waits, until there is nothing.
    async fn drain(&self, stream: &UnixStream) {
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

/// The way in, and the sending of what waits: of one task.
pub(super) struct Stream {
    stream: UnixStream,
    buffer: BytesMut,
}

/// What comes next.
pub(super) enum Came {
    Frame(Bytes),
    /// The other side is gone, or sends nothing any more.
    Ended,
}

impl Stream {
    /// Both ways over `socket`. In a tokio runtime.
    ///
    /// # Errors
    /// When the system refuses.
    pub(super) fn over(socket: StdStream, manner: Manner) -> io::Result<(Stream, Outbox)> {
        socket.set_nonblocking(true)?;
        let outbox = Outbox::new(socket.try_clone()?, manner);
        Ok((Stream { stream: UnixStream::from_std(socket)?, buffer: BytesMut::new() }, outbox))
    }

    /// The next frame; meanwhile what waits in the outbox is sent. Nothing is lost where the future is dropped.
    ///
    /// # Errors
    /// When what comes is no frame.
    pub(super) async fn next(&mut self, outbox: &Outbox) -> Result<Came, WireError> {
        loop {
            if let Some(frame) = self.take()? {
                return Ok(Came::Frame(frame));
            }
            self.make_room();
            tokio::select! {
                // What comes in is what handlers and clients wait for.
                biased;
                readable = self.stream.readable() => {
                    if readable.is_err() {
                        return Ok(Came::Ended);
                    }
                    match self.stream.try_read_buf(&mut self.buffer) {
                        Ok(0) => return Ok(Came::Ended),
                        Ok(_) => {}
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        Err(_) => return Ok(Came::Ended),
                    }
                }
                () = async {
                    // What an earlier look here left over has told of itself already.
                    if !outbox.is_waiting() {
                        outbox.filled.notified().await;
                    }
                    outbox.drain(&self.stream).await;
                } => {}
            }
        }
    }

    /// Tells the other side that nothing follows.
    pub(super) async fn finish(&self, outbox: &Outbox) {
        outbox.finish(&self.stream).await;
    }

    /// The length of the frame that begins the buffer, where so much of it is here.
    fn length(&self) -> Result<Option<usize>, WireError> {
        let Some(prefix) = self.buffer.first_chunk::<PREFIX>() else { return Ok(None) };
        match u32::from_be_bytes(*prefix) as usize {
            length if length <= MAX_FRAME => Ok(Some(length)),
            _ => Err(WireError::TooLarge { what: "a frame", limit: MAX_FRAME }),
        }
    }

    fn take(&mut self) -> Result<Option<Bytes>, WireError> {
        let Some(length) = self.length()?.filter(|length| self.buffer.len() >= PREFIX + length) else {
            return Ok(None);
        };
        if length > COPY_UP_TO {
            let _ = self.buffer.split_to(PREFIX);
            return Ok(Some(self.buffer.split_to(length).freeze()));
        }
        let frame = Bytes::copy_from_slice(&self.buffer[PREFIX..PREFIX + length]);
        bytes::Buf::advance(&mut self.buffer, PREFIX + length);
        Ok(Some(frame))
    }

    /// Room for what is read next: all that is missing of a large frame, step by step as it really comes.
    fn make_room(&mut self) {
        let missing = match self.length() {
            Ok(Some(length)) => (PREFIX + length).saturating_sub(self.buffer.len()),
            _ => 0,
        };
        self.buffer.reserve(missing.clamp(READ, 1 << 20));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::sync::Arc;

    fn pair() -> (StdStream, StdStream) {
        StdStream::pair().expect("a socket pair")
    }

    fn content(length: usize) -> Bytes {
        (0..length).map(|at| (at % 251) as u8).collect()
    }

    fn sent(length: usize) -> Frame {
        framed(|out| {
            out.extend_from_slice(&content(length));
            Ok(())
        })
        .expect("within the limit")
    }

    async fn frame(stream: &mut Stream, outbox: &Outbox) -> Option<Bytes> {
        match stream.next(outbox).await {
            Ok(Came::Frame(frame)) => Some(frame),
            Ok(Came::Ended) => None,
            Err(why) => panic!("{why}"),
        }
    }

    #[tokio::test]
    async fn frames_arrive_whole_and_in_order_whatever_the_socket_takes_at_once() {
        let (one, other) = pair();
        let (mut near, near_out) = Stream::over(one, Manner::AtOnce).expect("near");
        let (mut far, far_out) = Stream::over(other, Manner::ByTurn).expect("far");
        let sizes = [0, 1, COPY_UP_TO, COPY_UP_TO + 1, 300_000, 3 << 20, 5];
        for size in sizes {
            near_out.send(sent(size)).expect("open");
        }
        assert!(near_out.is_waiting(), "more than a socket takes");
        let reads = async {
            for size in sizes {
                assert_eq!(frame(&mut far, &far_out).await, Some(content(size)));
            }
            far_out.send(sent(7)).expect("open");
            assert_eq!(frame(&mut far, &far_out).await, None);
        };
        let writes = async {
            assert_eq!(frame(&mut near, &near_out).await, Some(content(7)));
            near.finish(&near_out).await;
        };
        tokio::join!(reads, writes);
        assert!(near_out.send(sent(1)).is_err(), "nothing is sent after the end");
    }

    #[tokio::test]
    async fn who_can_wait_waits_for_room_and_not_for_ever() {
        let (one, other) = pair();
        let (mut near, near_out) = Stream::over(one, Manner::AtOnce).expect("near");
        near_out.send(sent(ROOM + (1 << 20))).expect("open");
        let soon = Instant::now() + Duration::from_millis(50);
        assert!(matches!(near_out.send_by(sent(1), soon).await, Err(Unsent::TimedOut)));
        let late = Instant::now() + Duration::from_secs(20);
        let (mut far, far_out) = Stream::over(other, Manner::ByTurn).expect("far");
        let near_out = Arc::new(near_out);
        let waits = async { near_out.send_by(sent(2), late).await.ok().expect("room") };
        let reads = async {
            assert_eq!(frame(&mut far, &far_out).await.map(|frame| frame.len()), Some(ROOM + (1 << 20)));
            assert_eq!(frame(&mut far, &far_out).await, Some(content(2)));
        };
        tokio::select! {
            _ = async { tokio::join!(waits, reads) } => {}
            _ = near.next(&near_out) => panic!("nothing comes from there"),
        }
        drop((far, far_out));
        assert_eq!(frame(&mut near, &near_out).await, None);
        near_out.close();
        assert!(matches!(near_out.send_by(sent(1), late).await, Err(Unsent::Closed)));
    }

    #[tokio::test]
    async fn a_length_beyond_the_limit_is_refused_before_anything_is_allocated() {
        let (one, mut other) = pair();
        let (mut near, near_out) = Stream::over(one, Manner::AtOnce).expect("near");
        other.write_all(&(MAX_FRAME as u32 + 1).to_be_bytes()).expect("written");
        assert!(near.next(&near_out).await.is_err());
        assert!(near.buffer.capacity() <= 2 * READ);
    }

    #[tokio::test]
    async fn a_frame_that_is_announced_costs_memory_only_as_it_comes() {
        let (one, mut other) = pair();
        let (mut near, near_out) = Stream::over(one, Manner::AtOnce).expect("near");
        other.write_all(&(MAX_FRAME as u32).to_be_bytes()).expect("written");
        other.write_all(&[0; 100]).expect("written");
        let waited = tokio::time::timeout(Duration::from_millis(50), near.next(&near_out)).await;
        assert!(waited.is_err(), "the rest is awaited");
        assert!(near.buffer.capacity() <= 4 << 20);
        let mut nothing = [0; 1];
        other.set_nonblocking(true).expect("set");
        assert!(other.read(&mut nothing).is_err(), "nothing is answered");
    }
}
