//! The socket of a client that speaks HTTP/2, with a look at the frames on their way to h2.
//!
//! What a client has begun (the first settings, a frame that is no part of a body, the fields of a message) has to
//! end within `header_read_timeout_ms`, and what it does too much of ends the connection ([`super::calm`]). h2 cannot
//! be told either, so the GOAWAY that says why goes past it, between two of its frames. What the client sends after that
//! is read and dropped here, and what h2 writes goes nowhere; only then h2 reads the client's end. It may take that for an
//! error, in the middle of a frame, and drop the socket at once.

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

/// How far a client has been sent away.
enum Leaving {
    /// It stays.
    No,
    /// This GOAWAY is for it, once h2 has written the frame that it is at.
    Farewell([u8; 17]),
    /// It has been told.
    Told,
}

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
    /// The client has ended its side.
    has_ended: bool,
    leaving: Leaving,
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
            leaving: Leaving::No,
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
    fn send_away(&mut self, why: &str) {
        tracing::debug!("an HTTP/2 client is sent away: {why}");
        let mut frame = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        frame[9..13].copy_from_slice(&self.frames.last_stream.to_be_bytes());
        frame[13..].copy_from_slice(&ENHANCE_YOUR_CALM.to_be_bytes());
        self.leaving = Leaving::Farewell(frame);
    }

    /// Says why the client is sent away, as soon as no frame of h2's is half written.
    fn say_farewell(&mut self, cx: &mut Context<'_>) {
        let Leaving::Farewell(frame) = self.leaving else { return };
        if !self.is_between_frames {
            return;
        }
        if !matches!(self.socket.poll_write(cx, &frame), Poll::Ready(Ok(17))) {
            tracing::debug!("an HTTP/2 client that was sent away could not be told");
        }
        self.leaving = Leaving::Told;
        // The reading side goes on from here.
        cx.waker().wake_by_ref();
    }

    /// The end of a client that was sent away, as h2 reads it: once the client has been told, and has had time to hear.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.say_farewell(cx);
        match self.leaving {
            Leaving::Told => self.poll_linger(cx),
            // With nothing to read, h2 writes what it has begun, and flushes.
            _ => Poll::Pending,
        }
    }

    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A window opened or a ping answered meanwhile would reset a closed connection.
        self.socket.poll_linger(cx, LINGER_BYTES)
    }
}

impl AsyncRead for Http2Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !matches!(this.leaving, Leaving::No) {
            return this.poll_gone(cx);
        }
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
                this.send_away(why);
                return this.poll_gone(cx);
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
                this.send_away("it does not finish what it began");
                this.poll_gone(cx)
            }
            _ => Poll::Pending,
        }
    }
}

impl AsyncWrite for Http2Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if let Leaving::Told = self.leaving {
            return Poll::Ready(Ok(bytes.len()));
        }
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
        self.poll_linger(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Leaving::Told = self.leaving {
            return Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()));
        }
        let polled = self.socket.poll_write_vectored(cx, slices);
        self.wrote(polled)
    }
}
