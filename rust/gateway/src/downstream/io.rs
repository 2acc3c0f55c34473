//! The socket of a client that speaks HTTP/1, with the clocks that hyper does not keep and a look at the bytes that it
//! does not show.
//!
//! Between two requests a connection may idle; from the first byte of a head to its last the client has a deadline;
//! a client that takes no byte of a response is cut off. All three share the socket's timer, which is armed again only
//! when it fires: a request costs it nothing.

use super::connection::request_id;
use super::framing::{Framing, Refused};
use super::socket::ClientSocket;
use crate::respond::SLOW_HEAD;
use nylon_config::plan::Limits;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// What a connection is waiting for: the first byte of a request,
const IDLE: u8 = 0;
/// the rest of a head,
const HEAD: u8 = 1;
/// or nothing that the socket's clocks are for: a request is being served.
const SERVING: u8 = 2;

/// What the socket and the service of one connection share. hyper wants a socket that could change its thread; it
/// never does, so these are plain loads and stores.
pub(super) struct Progress {
    waiting: AtomicU8,
    /// Since when, in microseconds after `start`.
    since: AtomicU64,
    start: Instant,
    abort: AtomicBool,
    /// How many requests have been answered, and whether the last answer ended HTTP.
    answers: AtomicU64,
    switched: AtomicBool,
    /// Who reads while an offered upgrade has no answer.
    reader: Mutex<Option<Waker>>,
    idle: Duration,
    head_time: Duration,
}

impl Progress {
    pub(super) fn new(limits: &Limits, start: Instant) -> Arc<Progress> {
        Arc::new(Progress {
            waiting: AtomicU8::new(HEAD),
            since: AtomicU64::new(0),
            start,
            abort: AtomicBool::new(false),
            answers: AtomicU64::new(0),
            switched: AtomicBool::new(false),
            reader: Mutex::new(None),
            idle: limits.keepalive_timeout,
            head_time: limits.header_read_timeout,
        })
    }

    fn wait_for(&self, what: u8) {
        let since = self.start.elapsed().as_micros();
        // In microseconds a connection lasts for 500,000 years.
        self.since.store(since as u64, Relaxed);
        self.waiting.store(what, Relaxed);
    }

    /// Whether no request has come yet.
    pub(super) fn is_fresh(&self) -> bool {
        self.waiting.load(Relaxed) == HEAD && self.answers.load(Relaxed) == 0
    }

    /// A head is complete.
    pub(super) fn serving(&self) {
        self.waiting.store(SERVING, Relaxed);
    }

    /// The response is on its way: whether both sides speak something else from here on.
    pub(super) fn answered(&self, switched: bool) {
        self.switched.store(switched, Relaxed);
        self.answers.store(self.answers.load(Relaxed) + 1, Relaxed);
        let reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// The response is sent.
    pub(super) fn served(&self) {
        self.wait_for(IDLE);
    }

    /// The response cannot be completed, and its end would look like completion: reset the connection instead.
    pub(super) fn abort(&self) {
        self.abort.store(true, Relaxed);
    }

    fn deadline(&self) -> Option<Instant> {
        let limit = match self.waiting.load(Relaxed) {
            IDLE => self.idle,
            HEAD => self.head_time,
            _ => return None,
        };
        Some(self.start + Duration::from_micros(self.since.load(Relaxed)) + limit)
    }
}

/// The client's socket.
pub(super) struct ClientIo {
    socket: ClientSocket,
    framing: Framing,
    progress: Arc<Progress>,
}

impl ClientIo {
    pub(super) fn new(socket: ClientSocket, progress: Arc<Progress>) -> ClientIo {
        ClientIo { socket, framing: Framing::new(), progress }
    }

    /// Nothing is read before an offered upgrade is answered: it decides what the bytes are.
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let progress = &self.progress;
        if self.framing.awaits_answer(progress.answers.load(Relaxed)) {
            *progress.reader.lock().unwrap_or_else(PoisonError::into_inner) = Some(cx.waker().clone());
            return Poll::Pending;
        }
        self.framing.answered(progress.switched.load(Relaxed));
        Poll::Ready(())
    }

    /// Tells a client that its head took too long (RFC 9110, 15.5.9). hyper has no answer for a request that it never
    /// saw, so this goes past it: nothing of an earlier response waits once the next head has begun. One attempt, as
    /// far as the kernel takes it; a client that never sent a byte gets none.
    fn refuse_slow_head(&mut self, cx: &mut Context<'_>) {
        if self.socket.is_writing() {
            return;
        }
        let (head, body) = SLOW_HEAD.for_request(request_id(SystemTime::now()));
        let mut answer = format!("HTTP/1.1 {}\r\n", head.status).into_bytes();
        for (name, value) in &head.headers {
            answer.extend_from_slice(name.as_str().as_bytes());
            answer.extend_from_slice(b": ");
            answer.extend_from_slice(value.as_bytes());
            answer.extend_from_slice(b"\r\n");
        }
        answer.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
        answer.extend_from_slice(&body);
        if !matches!(self.socket.poll_write(cx, &answer), Poll::Ready(Ok(_))) {
            tracing::debug!("a client with a slow head could not be told");
        }
    }
}

impl AsyncRead for ClientIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        ready!(this.poll_answer(cx));
        let before = buffer.filled().len();
        if let Poll::Ready(result) = this.socket.poll_read(cx, buffer) {
            result?;
            let read = &mut buffer.filled_mut()[before..];
            if !read.is_empty() && this.progress.waiting.load(Relaxed) == IDLE {
                this.progress.wait_for(HEAD);
            }
            if let Err(Refused { keep, reason }) = this.framing.follow(read) {
                tracing::debug!("malformed request: {reason}");
                buffer.set_filled(before + keep);
            }
            return Poll::Ready(Ok(()));
        }
        if this.progress.waiting.load(Relaxed) == IDLE && !this.framing.is_at_rest() {
            // The beginning of a head came together with the request before.
            this.progress.wait_for(HEAD);
        }
        let late = match this.progress.deadline() {
            Some(deadline) => this.socket.is_late(deadline, cx),
            None => {
                // hyper does not ask again when the response is sent, so the timer has to: when a connection that
                // idled from now on would be late.
                let _ = this.socket.is_late(Instant::now() + this.progress.idle, cx);
                false
            }
        };
        if !late {
            return Poll::Pending;
        }
        if this.progress.waiting.load(Relaxed) == HEAD && !this.framing.is_at_rest() {
            this.refuse_slow_head(cx);
        }
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncWrite for ClientIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.socket.poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.framing.is_at_rest() {
            // Closing the socket, which comes next, says the same.
            return Poll::Ready(Ok(()));
        }
        self.socket.poll_linger(cx, usize::MAX)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.socket.poll_write_vectored(cx, slices)
    }
}

impl Drop for ClientIo {
    fn drop(&mut self) {
        if self.progress.abort.load(Relaxed) {
            self.socket.reset_at_end();
        }
    }
}
