//! The socket of a client that speaks HTTP/2, with a look at the frames on their way to h2.
//!
//! What a client has begun (the first settings, a frame that is no part of a body, the fields of a message) has to
//! end within `header_read_timeout_ms`, and what it does too much of ends the connection ([`super::calm`]). h2 cannot
//! be told either, so the GOAWAY that says why goes past it, between two of its frames; then the client's end is all
//! that it reads.

use super::calm::Calm;
use super::frames::{Frames, Kind};
use crate::downstream::socket::ClientSocket;
use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// Bytes that a connection still takes of a client that was sent away: more than systems hold of what nobody has read yet,
/// since a connection closed over unread bytes is reset, and the client may never read why.
const LINGER_BYTES: usize = 8 << 20;
const ENHANCE_YOUR_CALM: u32 = 0xb;
/// DATA frames that are read before those who wait for them get a turn: h2 takes what nobody has read yet for a flood.
const DATA_AT_ONCE: u32 = 512;

/// The client's socket.
pub(super) struct Http2Io {
    socket: ClientSocket,
    frames: Frames,
    calm: Rc<Calm>,
    /// When the socket last took nothing.
    stuck: Rc<Cell<Instant>>,
    head_time: Duration,
    /// Since when something is begun.
    begun: Option<Instant>,
    /// All that h2 had to write is written, so the next byte begins a frame.
    is_between_frames: bool,
    /// DATA frames since others had a turn.
    data: u32,
    /// The client has ended its side, or was sent away.
    has_ended: bool,
    /// The GOAWAY for a client that was sent away, while h2 still writes a frame.
    farewell: Option<[u8; 17]>,
}

impl Http2Io {
    /// A connection that was accepted at `start`; `stuck` is kept up to date.
    pub(super) fn new(
        socket: ClientSocket,
        calm: Rc<Calm>,
        stuck: Rc<Cell<Instant>>,
        head_time: Duration,
        start: Instant,
    ) -> Http2Io {
        Http2Io {
            socket,
            frames: Frames::new(),
            calm,
            stuck,
            head_time,
            begun: Some(start),
            is_between_frames: true,
            data: 0,
            has_ended: false,
            farewell: None,
        }
    }

    fn wrote(&mut self, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.is_between_frames = false;
        if polled.is_pending() {
            self.stuck.set(Instant::now());
        }
        polled
    }

    /// Sends the client away: what it still sends is not looked at.
    fn send_away(&mut self, why: &str, cx: &mut Context<'_>) {
        tracing::debug!("an HTTP/2 client is sent away: {why}");
        self.has_ended = true;
        let mut frame = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        frame[9..13].copy_from_slice(&self.frames.last_stream.to_be_bytes());
        frame[13..].copy_from_slice(&ENHANCE_YOUR_CALM.to_be_bytes());
        self.farewell = Some(frame);
        self.say_farewell(cx);
    }

    /// Says why the client is sent away, as soon as no frame of h2's is half written.
    fn say_farewell(&mut self, cx: &mut Context<'_>) {
        if let Some(frame) = self.farewell.take_if(|_| self.is_between_frames)
            && !matches!(self.socket.poll_write(cx, &frame), Poll::Ready(Ok(17)))
        {
            tracing::debug!("an HTTP/2 client that was sent away could not be told");
        }
    }
}

impl AsyncRead for Http2Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.has_ended {
            return Poll::Ready(Ok(()));
        }
        if this.data >= DATA_AT_ONCE {
            this.data = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        if let Poll::Ready(result) = this.socket.poll_read(cx, buffer) {
            result?;
            let read = &buffer.filled()[before..];
            this.has_ended = read.is_empty();
            let followed = this.frames.follow(read, |kind| {
                this.data += u32::from(kind == Kind::Data);
                this.calm.count(kind)
            });
            if let Err(why) = followed {
                buffer.set_filled(before);
                this.send_away(why, cx);
            }
            if this.frames.has_rested() {
                this.begun = None;
            }
            if !this.frames.is_at_rest() {
                this.begun.get_or_insert_with(Instant::now);
            }
            return Poll::Ready(Ok(()));
        }
        this.data = 0;
        match this.begun {
            Some(begun) if this.socket.is_late(begun + this.head_time, cx) => {
                this.send_away("it does not finish what it began", cx);
                Poll::Ready(Ok(()))
            }
            _ => Poll::Pending,
        }
    }
}

impl AsyncWrite for Http2Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = self.socket.poll_write(cx, bytes);
        self.wrote(polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.socket.poll_flush(cx))?;
        // h2 flushes once all its frames are written.
        self.is_between_frames = true;
        self.say_farewell(cx);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A window opened or a ping answered meanwhile would reset a closed connection.
        self.socket.poll_linger(cx, LINGER_BYTES)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = self.socket.poll_write_vectored(cx, slices);
        self.wrote(polled)
    }
}
