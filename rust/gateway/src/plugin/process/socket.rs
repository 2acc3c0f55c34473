//! The socket between a gateway and a plugin's own process, the same at both ends: frames behind their length. One task
//! reads, and sends on what the way out (outbox.rs) could not get rid of at once.

use super::outbox::{Manner, Outbox};
use crate::plugin::buffer::in_buffer;
use bytes::{Bytes, BytesMut};
use nylon_wire::WireError;
use nylon_wire::limits::MAX_FRAME;
use std::io;
use std::os::unix::net::UnixStream as StdStream;
use tokio::net::UnixStream;

/// Bytes of a frame's length.
const PREFIX: usize = 4;
/// What is read at once, as long as no larger frame is on its way.
const READ: usize = 64 * 1024;
/// Frames up to this size are copied out of the read buffer, which they would keep alive whole.
const COPY_UP_TO: usize = 16 * 1024;

/// A frame behind its length.
pub(super) struct Frame(pub(super) Bytes);

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
                        outbox.filled().await;
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
    use super::super::outbox::{ROOM, Unsent};
    use super::*;
    use std::io::{Read, Write};
    use std::sync::Arc;
    use std::time::{Duration, Instant};

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
