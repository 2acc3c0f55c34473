//! The exchanges of one connection: a task for each, which ends with its client's patience or with the connection.

use super::calm::Calm;
use crate::downstream::clock::Clock;
use crate::downstream::normalise::strip_hop_by_hop;
use crate::pipeline::{BodyAborted, OutBody};
use crate::worker::ConnectionGuard;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::rt::Executor;
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// Bytes of a response that h2 gets at once: what it holds for a client that opens no window is little more.
const PIECE: usize = 16 * 1024;

/// What a connection and its streams share.
#[derive(Clone)]
pub(super) struct Streams(Rc<Shared>);

struct Shared {
    running: Cell<usize>,
    /// Since when none has run.
    idle: Cell<Instant>,
    /// The pace of the stream that begins next: hyper asks for its service, then for its task.
    next: RefCell<Option<Rc<Pace>>>,
    write_time: Duration,
    /// When the socket last took nothing.
    stuck: Rc<Cell<Instant>>,
    /// The connection is open for as long as one of its exchanges is.
    _guard: ConnectionGuard,
}

impl Streams {
    /// A client that opens no window for `write_time` loses the stream. As long as its socket is what holds it up, it is
    /// not the window: `stuck` is when it last was.
    pub(super) fn new(guard: ConnectionGuard, write_time: Duration, stuck: Rc<Cell<Instant>>) -> Streams {
        Streams(Rc::new(Shared {
            running: Cell::new(0),
            idle: Cell::new(Instant::now()),
            next: RefCell::default(),
            write_time,
            stuck,
            _guard: guard,
        }))
    }

    /// A stream begins.
    pub(super) fn begin(&self) -> Rc<Pace> {
        self.0.next.borrow_mut().insert(Rc::default()).clone()
    }

    /// Ends once no stream has run for `limit`, counted from now at the earliest or from the end of the last.
    pub(super) async fn idle(&self, limit: Duration, from: Instant) {
        loop {
            let now = Instant::now();
            let until = match self.0.running.get() {
                0 => self.0.idle.get().max(from) + limit,
                _ => now + limit,
            };
            if until <= now {
                return;
            }
            sleep_until(until).await;
        }
    }
}

impl<F: Future<Output = ()> + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        let running = Running::new(self.0.clone());
        // What a WebSocket sends has a task of its own, which counts like its stream; the tunnel has its clocks.
        let pace = self.0.next.take().unwrap_or_default();
        tokio::task::spawn_local(async move {
            let mut stream = pin!(stream);
            let Shared { write_time, stuck, .. } = &*running.0;
            poll_fn(|cx| match stream.as_mut().poll(cx) {
                Poll::Pending if pace.is_late(stuck.get(), *write_time, cx) => {
                    tracing::debug!("a stream is reset: its client opens no window");
                    Poll::Ready(())
                }
                polled => polled,
            })
            .await;
        });
    }
}

/// Counts a stream.
struct Running(Rc<Shared>);

impl Running {
    fn new(shared: Rc<Shared>) -> Running {
        shared.running.set(shared.running.get() + 1);
        Running(shared)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let running = self.0.running.get() - 1;
        self.0.running.set(running);
        if running == 0 {
            self.0.idle.set(Instant::now());
        }
    }
}

/// How fast a client takes its response.
#[derive(Default)]
pub(super) struct Pace {
    /// A piece is on its way.
    waits: Cell<bool>,
    /// Since when it waits for the client to open its window; most pieces never do.
    since: Cell<Option<Instant>>,
    clock: RefCell<Option<Clock>>,
}

impl Pace {
    fn is_late(&self, stuck: Instant, limit: Duration, cx: &mut Context<'_>) -> bool {
        if !self.waits.get() {
            return false;
        }
        let since = self.since.get().unwrap_or_else(Instant::now);
        self.since.set(Some(since));
        let deadline = since.max(stuck) + limit;
        self.clock.borrow_mut().get_or_insert_with(|| Clock::new(deadline)).is_late(deadline, cx)
    }
}

/// The body of a response in small pieces, each of which is asked for once there is room for it.
pub(super) struct Paced {
    body: OutBody,
    rest: Bytes,
    pace: Rc<Pace>,
    calm: Rc<Calm>,
    has_ended: bool,
}

impl Paced {
    pub(super) fn new(body: OutBody, pace: Rc<Pace>, calm: Rc<Calm>) -> Paced {
        Paced { body, rest: Bytes::new(), pace, calm, has_ended: false }
    }

    fn send(&mut self, mut data: Bytes) -> Frame<Bytes> {
        self.rest = data.split_off(data.len().min(PIECE));
        self.pace.waits.set(true);
        self.pace.since.set(None);
        self.calm.sent_piece();
        Frame::data(data)
    }
}

impl Body for Paced {
    type Data = Bytes;
    type Error = BodyAborted;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyAborted>>> {
        let this = &mut *self;
        this.pace.waits.set(false);
        if !this.rest.is_empty() {
            let rest = std::mem::take(&mut this.rest);
            return Poll::Ready(Some(Ok(this.send(rest))));
        }
        let polled = ready!(Pin::new(&mut this.body).poll_frame(cx));
        Poll::Ready(match polled {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => Some(Ok(this.send(data))),
                Err(frame) => {
                    this.has_ended = true;
                    // As in the head: what is for one connection only has no place here.
                    let trailers = frame.into_trailers().map(|mut trailers| {
                        strip_hop_by_hop(&mut trailers);
                        Frame::trailers(trailers)
                    });
                    Some(Ok(trailers.unwrap_or_else(|frame| frame)))
                }
            },
            Some(Err(broken)) => Some(Err(broken)),
            None => {
                this.has_ended = true;
                None
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.rest.is_empty() { self.body.size_hint() } else { SizeHint::default() }
    }
}

impl Drop for Paced {
    fn drop(&mut self) {
        if self.has_ended || self.is_end_stream() {
            self.calm.answered();
        }
    }
}
