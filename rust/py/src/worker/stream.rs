//! A response that a handler on this worker is still writing.
//!
//! What it writes goes out in chunks as far as the gateway has room; the rest waits in the pipe, which holds the
//! handler back. So between a handler and a slow client stand one window of chunks and one write, whatever the
//! body's size.

use super::call::Origin;
use super::clock::Moment;
use super::report;
use super::shared::{Shared, Unsent, locked};
use crate::context::{Outlet, Pipe, wake_writer};
use bytes::Bytes;
use nylon_core::{Failure, FailureKind, Finished, Outcome};
use nylon_wire::{CallId, ChunkFrame, CreditFrame, Reply, Which, limits};
use pyo3::prelude::*;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The longest silence of the gateway: its own limits for a slow client end a stream sooner, unless it is gone.
const PATIENCE: Duration = Duration::from_secs(600);
/// How long a handler may take to notice that nobody reads on, before it is given up.
const NOTICE: Duration = Duration::from_secs(5);

/// The streams of one worker, by call.
pub(crate) type Streams = Mutex<HashMap<CallId, Arc<RemoteOutlet>>>;

/// The handler's end of a stream.
pub(crate) struct RemoteOutlet {
    shared: Arc<Shared>,
    origin: Origin,
    pipe: Pipe,
    sent: Mutex<Sent>,
}

struct Sent {
    /// The next chunk's number.
    next: u64,
    /// Chunks below this may go.
    granted: u64,
    /// The end is sent, or nobody takes it any more.
    over: bool,
    /// The handler is over, and what it wrote last still waits: the stream has a slot of its own.
    lingers: bool,
    /// When something moved.
    moved: Instant,
}

impl RemoteOutlet {
    /// Sends what there is room for, and behind it the end.
    fn pump(&self) {
        let mut sent = locked(&self.sent);
        let size = limits::MAX_PART.min(self.shared.max_payload() / 2).max(1);
        while !sent.over && self.shared.has_room(limits::MAX_PART) {
            let (data, _) = if sent.next < sent.granted { self.pipe.take(size) } else { (None, false) };
            let end = if data.is_none() { self.pipe.ended() } else { None };
            if data.is_none() && end.is_none() {
                break;
            }
            let over = end.is_some();
            if let Err(why) = self.send(sent.next, data.unwrap_or_default(), end) {
                self.pipe.close(&format!("what was written could not be sent: {why}"));
                return self.finish(&mut sent);
            }
            sent.next += 1;
            sent.moved = Instant::now();
            if over {
                return self.finish(&mut sent);
            }
        }
    }

    fn send(&self, number: u64, data: Bytes, end: Option<Result<(), Failure>>) -> Result<(), Unsent> {
        let (id, worker) = (self.origin.id, self.shared.setup.worker.clone());
        let chunk = ChunkFrame { id, worker, which: Which::Stream, number, total: 0, data, end };
        self.shared.publish(&self.origin.reply, |out| chunk.encode(out))
    }

    fn finish(&self, sent: &mut Sent) {
        if std::mem::replace(&mut sent.over, true) {
            return;
        }
        let ended = locked(&self.shared.streams).remove(&self.origin.id);
        drop(ended);
        // It has run; there is no reply that could be given again.
        locked(&self.shared.known).end(self.origin.id, b"", Moment::now());
        if sent.lingers {
            self.shared.release();
        }
    }

    /// Nobody takes any more.
    fn close(&self, why: &str) {
        self.pipe.close(why);
        self.finish(&mut locked(&self.sent));
    }

    /// The handler is over. What it wrote last may still wait for room.
    fn linger(&self) {
        let mut sent = locked(&self.sent);
        if !sent.over && !sent.lingers {
            sent.lingers = true;
            self.shared.hold();
        }
    }
}

impl Outlet for RemoteOutlet {
    fn pipe(&self) -> &Pipe {
        &self.pipe
    }

    fn written(&self) {
        self.pump();
    }
}

impl Shared {
    /// Sends the head of a response that its handler goes on writing.
    pub(crate) fn begin_stream(self: &Arc<Self>, origin: &Origin, finished: Finished) -> Arc<RemoteOutlet> {
        let Finished { ops, state, .. } = finished;
        let reply = Reply::new(origin.id, self.setup.worker.clone(), Outcome::End);
        let reply = Reply { streams: true, ops, state, shape: origin.shape, ..reply };
        let (next, granted, moved) = (0, limits::WINDOW, Instant::now());
        let sent = Mutex::new(Sent { next, granted, over: false, lingers: false, moved });
        let outlet = Arc::new(RemoteOutlet {
            shared: self.clone(),
            origin: origin.clone(),
            pipe: Pipe::default(),
            sent,
        });
        locked(&self.streams).insert(origin.id, outlet.clone());
        if let Err(why) = self.publish(&origin.reply, |out| reply.encode(out)) {
            let why = format!("the response could not begin: {why}");
            self.refuse(origin, FailureKind::Protocol, why.as_str());
            outlet.close(&why);
        }
        outlet
    }

    /// The handler of a call that had begun a stream is over.
    pub(crate) fn stream_over(&self, id: CallId) {
        let outlet = locked(&self.streams).get(&id).cloned();
        if let Some(outlet) = outlet {
            outlet.linger();
        }
    }

    /// The gateway has room for more of a stream, or takes no more. On the loop's thread.
    pub(crate) fn receive_room(&self, py: Python<'_>, frame: CreditFrame) {
        let CreditFrame { id, up_to, .. } = frame;
        let Some(outlet) = locked(&self.streams).get(&id).cloned() else { return };
        match up_to {
            Ok(up_to) => {
                {
                    let mut sent = locked(&outlet.sent);
                    // More than a window is not believed.
                    sent.granted = sent.granted.max(up_to.min(sent.next.saturating_add(limits::WINDOW)));
                    sent.moved = Instant::now();
                }
                outlet.pump();
            }
            Err(failure) => {
                outlet.close(&failure.message);
                self.give_notice(id);
            }
        }
        wake(py, &outlet);
    }

    /// Gives a handler that may still write the time to notice that it need not.
    fn give_notice(&self, id: CallId) {
        if let Some(call) = self.running(id) {
            call.owner.put_off(Instant::now() + NOTICE);
        }
    }

    /// Goes on with streams that found the way out full, and gives up those of gateways that are gone.
    pub(crate) fn look_after_streams(&self, py: Python<'_>, all: Option<&Failure>) {
        let outlets: Vec<_> = locked(&self.streams).values().cloned().collect();
        for outlet in outlets {
            let silent = locked(&outlet.sent).moved.elapsed() > PATIENCE;
            match all {
                Some(failure) => outlet.close(&failure.message),
                None if silent => {
                    outlet.close("the gateway has been silent for too long");
                    self.give_notice(outlet.origin.id);
                }
                None => outlet.pump(),
            }
            wake(py, &outlet);
        }
    }
}

fn wake(py: Python<'_>, outlet: &RemoteOutlet) {
    if let Err(error) = wake_writer(py, &outlet.pipe) {
        report::error(py, "waking a handler that writes a response failed", &error);
    }
}
