//! The client's socket, with the clocks that hyper does not keep and a look at the bytes that it does not show.
//!
//! Clocks: between two requests a connection may idle; from the first byte of a head to its last the client has a
//! deadline; a client that takes no byte of a response is cut off. All three share one lazily re-armed timer.
//!
//! Bytes: hyper merges equal `content-length` lines and lets `transfer-encoding` silently win over them. Both are
//! refused here (RFC 9112, 6.3), so the bytes of a head are kept until the request that they make is checked.

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use nylon_config::plan::Limits;
use std::future::Future;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

/// What a connection is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waiting {
    /// The first byte of a request.
    Idle,
    /// The rest of a head.
    Head,
    /// Nothing that the socket's clocks are for: a request is being served.
    Serving,
}

/// What the socket and the service of one connection share. hyper wants a socket that could change its thread; it
/// never does, so the lock is free.
pub(super) struct Progress {
    state: Mutex<State>,
    idle: Duration,
    head_time: Duration,
    write_time: Duration,
    max_head: usize,
}

struct State {
    waiting: Waiting,
    since: Instant,
    head: Vec<u8>,
}

impl Progress {
    pub(super) fn new(limits: &Limits) -> Arc<Progress> {
        let state = State { waiting: Waiting::Head, since: Instant::now(), head: Vec::new() };
        Arc::new(Progress {
            state: Mutex::new(state),
            idle: limits.keepalive_timeout,
            head_time: limits.header_read_timeout,
            write_time: limits.write_timeout,
            max_head: limits.max_header_bytes,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A head is complete; gives the bytes read since the last response, which begin with it.
    pub(super) fn serving(&self) -> Vec<u8> {
        let mut state = self.state();
        state.waiting = Waiting::Serving;
        std::mem::take(&mut state.head)
    }

    /// Gives the buffer of [`Progress::serving`] back, to be used again.
    pub(super) fn reuse(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        self.state().head = buffer;
    }

    /// The response is sent.
    pub(super) fn served(&self) {
        let mut state = self.state();
        state.waiting = Waiting::Idle;
        state.since = Instant::now();
    }

    fn is_serving(&self) -> bool {
        self.state().waiting == Waiting::Serving
    }

    fn received(&self, bytes: &[u8]) {
        let mut state = self.state();
        if state.waiting == Waiting::Idle {
            state.waiting = Waiting::Head;
            state.since = Instant::now();
        }
        let room = self.max_head.saturating_sub(state.head.len());
        state.head.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn read_deadline(&self) -> Option<Instant> {
        let state = self.state();
        match state.waiting {
            Waiting::Idle => Some(state.since + self.idle),
            Waiting::Head => Some(state.since + self.head_time),
            Waiting::Serving => None,
        }
    }
}

/// The client's socket.
pub(super) struct ClientIo {
    inner: TokioIo<TcpStream>,
    progress: Arc<Progress>,
    timer: Pin<Box<Sleep>>,
    write_since: Option<Instant>,
}

impl ClientIo {
    pub(super) fn new(stream: TcpStream, progress: Arc<Progress>) -> ClientIo {
        let timer = Box::pin(sleep_until(Instant::now() + progress.head_time));
        ClientIo { inner: TokioIo::new(stream), progress, timer, write_since: None }
    }

    /// Whether `deadline` has passed; if not, the task is woken when the timer has something to look at again.
    fn is_late(&mut self, deadline: Instant, cx: &mut Context<'_>) -> bool {
        if self.timer.deadline() > deadline {
            self.timer.as_mut().reset(deadline);
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                return true;
            }
            self.timer.as_mut().reset(deadline);
        }
        false
    }

    fn wrote(&mut self, polled: Poll<io::Result<usize>>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if polled.is_ready() {
            self.write_since = None;
            return polled;
        }
        let since = *self.write_since.get_or_insert_with(Instant::now);
        let deadline = since + self.progress.write_time;
        if self.is_late(deadline, cx) {
            Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
        } else {
            Poll::Pending
        }
    }
}

impl Read for ClientIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.progress.is_serving() {
            // Of a body nothing is kept. A head pipelined behind one is not checked by its bytes, but hyper closes
            // the connection after a request whose lengths disagree.
            return Pin::new(&mut this.inner).poll_read(cx, buffer);
        }
        // hyper reads into the room that it offers; going through a buffer of ours keeps the bytes of a head
        // visible without unsafe code.
        let mut bytes = [const { MaybeUninit::uninit() }; 8192];
        let room = buffer.remaining().min(bytes.len());
        let mut own = hyper::rt::ReadBuf::uninit(&mut bytes[..room]);
        if let Poll::Ready(result) = Pin::new(&mut this.inner).poll_read(cx, own.unfilled()) {
            result?;
            this.progress.received(own.filled());
            buffer.put_slice(own.filled());
            return Poll::Ready(Ok(()));
        }
        match this.progress.read_deadline() {
            Some(deadline) if this.is_late(deadline, cx) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            _ => Poll::Pending,
        }
    }
}

impl Write for ClientIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.wrote(polled, cx)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = ready!(Pin::new(&mut self.inner).poll_shutdown(cx));
        Poll::Ready(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write_vectored(cx, slices);
        self.wrote(polled, cx)
    }
}
