//! A client's socket, whatever it speaks: what was read ahead, a deadline for writing, a close that loses nothing.
//!
//! A connection that ends with bytes of the client unread lingers for a moment, since closing at once would reset it
//! and could take our last response with it (RFC 9112, 9.6).

use super::ClientStream;
use super::clock::Clock;
use socket2::SockRef;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// How long a connection lingers for a client that is still sending.
const LINGER: Duration = Duration::from_secs(2);

/// The socket. All its deadlines share one clock.
pub(super) struct ClientSocket {
    stream: ClientStream,
    /// What was read to learn what the client speaks.
    ahead: Vec<u8>,
    clock: Clock,
    write_time: Duration,
    write_since: Option<Instant>,
    lingering: Option<Lingering>,
    reset: bool,
}

/// What is still read of a client that has been told all.
struct Lingering {
    until: Instant,
    bytes: usize,
}

impl ClientSocket {
    /// A client that takes nothing for `write_time` while something waits for it is cut off; `first` is when the clock
    /// will have something to look at for the first time.
    pub(super) fn new(stream: ClientStream, write_time: Duration, first: Instant) -> ClientSocket {
        ClientSocket {
            stream,
            ahead: Vec::new(),
            clock: Clock::new(first),
            write_time,
            write_since: None,
            lingering: None,
            reset: false,
        }
    }

    /// Whether `deadline` has passed; if not, the task is woken when the clock has something to look at again.
    pub(super) fn is_late(&mut self, deadline: Instant, cx: &mut Context<'_>) -> bool {
        self.clock.is_late(deadline, cx)
    }

    /// Closing will reset the connection: its orderly end would look like completion, or what the kernel still holds
    /// is for a client that takes nothing.
    pub(super) fn reset_at_end(&mut self) {
        self.reset = true;
    }

    /// Whether something that was to be written waits for the client.
    pub(super) fn is_writing(&self) -> bool {
        self.write_since.is_some()
    }

    /// Reads more of what comes before anything else, to be read again by whoever speaks with the client. All that
    /// was read so far; the same as before if the client has ended its side.
    pub(super) fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        // The first read mostly holds a whole request: a smaller piece would cost it a second one.
        let mut piece = [0; 2048];
        let mut buffer = ReadBuf::new(&mut piece);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
        self.ahead.extend_from_slice(buffer.filled());
        Poll::Ready(Ok(&self.ahead))
    }

    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buffer);
        }
        let length = self.ahead.len().min(buffer.remaining());
        buffer.put_slice(&self.ahead[..length]);
        if length == self.ahead.len() {
            self.ahead = Vec::new();
        } else {
            self.ahead.drain(..length);
        }
        Poll::Ready(Ok(()))
    }

    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wrote(polled, cx)
    }

    pub(super) fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    pub(super) fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.wrote(polled, cx)
    }

    fn wrote<T>(&mut self, polled: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.write_since = None;
            return polled;
        }
        let since = *self.write_since.get_or_insert_with(Instant::now);
        if self.is_late(since + self.write_time, cx) {
            self.reset_at_end();
            Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
        } else {
            Poll::Pending
        }
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        match self.stream {
            ClientStream::Plain(_) => polled,
            // Records that could not be sent yet wait here.
            ClientStream::Tls(_) => self.wrote(polled, cx),
        }
    }

    /// Ends our side, then reads and drops what the client still sends, until it stops, has sent `most` bytes or its
    /// time is over.
    pub(super) fn poll_linger(&mut self, cx: &mut Context<'_>, most: usize) -> Poll<io::Result<()>> {
        if self.lingering.is_none() {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
            self.lingering = Some(Lingering { until: Instant::now() + LINGER, bytes: most });
        }
        let mut dropped = [0; 4096];
        while let Some(Lingering { until, bytes: 1.. }) = self.lingering {
            if self.is_late(until, cx) {
                break;
            }
            let mut buffer = ReadBuf::new(&mut dropped);
            let read = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer));
            let length = buffer.filled().len();
            match &mut self.lingering {
                Some(lingering) if read.is_ok() && length > 0 => {
                    lingering.bytes = lingering.bytes.saturating_sub(length);
                }
                _ => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for ClientSocket {
    fn drop(&mut self) {
        if self.reset {
            // A failure leaves an orderly close, which still ends before the length that was promised, if one was.
            let _ = SockRef::from(self.stream.tcp()).set_linger(Some(Duration::ZERO));
        } else {
            self.stream.notify_close();
        }
    }
}
