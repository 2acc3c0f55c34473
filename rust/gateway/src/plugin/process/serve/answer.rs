//! What a call is answered: one reply, the large bodies in it ahead of it, a streamed one behind it.

use super::Desk;
use crate::plugin::ResponseStream;
use crate::plugin::process::outbox::Unsent;
use crate::plugin::process::socket::framed;
use bytes::Bytes;
use nylon_core::{Failure, FailureKind, Outcome};
use nylon_wire::limits::{INLINE_BODY, MAX_FRAME, MAX_PART, WINDOW};
use nylon_wire::{CallId, ChunkFrame, CreditFrame, Outgoing, Reply, Which};
use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// The longest that a body may stand still: longer than the gateway's own patience.
const STALL: Duration = Duration::from_secs(10);

/// The answer to one call. Dropped before it was sent, it says that something went wrong.
pub(super) struct Answer {
    desk: Rc<Desk>,
    id: CallId,
    sent: Cell<bool>,
}

/// Nobody takes it.
struct Untaken;

impl Answer {
    pub(super) fn new(desk: Rc<Desk>, id: CallId) -> Answer {
        Answer { desk, id, sent: Cell::new(false) }
    }

    /// A reply with an outcome and nothing else.
    pub(super) fn reply(&self, outcome: Outcome) -> Reply {
        Reply::new(self.id, self.desk.worker.clone(), outcome)
    }

    /// Sends the reply, its large bodies first.
    pub(super) async fn send(&self, mut reply: Reply, credits: &mut mpsc::Receiver<CreditFrame>) {
        for (which, body) in reply.take_apart(INLINE_BODY) {
            // The first part goes unasked; the gateway answers it with room for more.
            let mut parts = Outgoing::new(body, MAX_FRAME, 1);
            if self.send_parts(which, &mut parts, credits).await.is_err() {
                const WHY: &str = "the gateway did not take the handler's body";
                return self.send_whole(self.reply(failed(FailureKind::Cancelled, WHY)));
            }
        }
        self.send_whole(reply);
    }

    /// The call was given up.
    pub(super) fn give_up(&self, failure: Failure) {
        // The gateway takes it as a sign of life.
        if !self.sent.get() {
            self.send_whole(self.reply(Outcome::Failed(failure)));
        }
    }

    fn send_whole(&self, reply: Reply) {
        self.sent.set(true);
        let frame = framed(|out| reply.encode(out)).or_else(|why| {
            let why = format!("the reply cannot be sent: {why}");
            framed(|out| self.reply(failed(FailureKind::Protocol, &why)).encode(out))
        });
        match frame {
            // Without a gateway there is nobody to answer.
            Ok(frame) => drop(self.desk.outbox.send(frame)),
            Err(why) => tracing::error!("an error reply could not be written: {why}"),
        }
    }

    async fn send_parts(
        &self,
        which: Which,
        parts: &mut Outgoing,
        credits: &mut mpsc::Receiver<CreditFrame>,
    ) -> Result<(), Untaken> {
        loop {
            for part in parts.by_ref() {
                let (number, total, data) = (part.number, part.total, part.data);
                self.send_chunk(which, number, total, data, None).await?;
            }
            if parts.is_done() {
                return Ok(());
            }
            match timeout(STALL, credits.recv()).await {
                Ok(Some(CreditFrame { which: its, up_to: Ok(up_to), .. })) => {
                    if its == which {
                        parts.grant(up_to);
                    }
                }
                _ => return Err(Untaken),
            }
        }
    }

    async fn send_chunk(
        &self,
        which: Which,
        number: u64,
        total: u64,
        data: Bytes,
        end: Option<Result<(), Failure>>,
    ) -> Result<(), Untaken> {
        let worker = self.desk.worker.clone();
        let chunk = ChunkFrame { id: self.id, worker, which, number, total, data, end };
        let frame = framed(|out| chunk.encode(out)).map_err(|why| {
            tracing::error!("a chunk could not be written: {why}");
            Untaken
        })?;
        let sent = self.desk.outbox.send_by(frame, Instant::now() + STALL).await;
        sent.map_err(|(Unsent::Closed | Unsent::TimedOut)| Untaken)
    }

    /// Sends a body that its handler still writes, as far as the gateway has room. The rest waits with the handler.
    pub(super) async fn go_on(
        &self,
        mut stream: Box<dyn ResponseStream>,
        credits: &mut mpsc::Receiver<CreditFrame>,
    ) {
        let (mut number, mut granted) = (0, WINDOW);
        loop {
            let (mut data, end) = match poll_fn(|cx| stream.poll_next(cx)).await {
                Some(Ok(data)) => (data, None),
                Some(Err(failure)) => (Bytes::new(), Some(Err(failure))),
                None => (Bytes::new(), Some(Ok(()))),
            };
            if end.is_some() {
                // A gateway that takes no end is gone, or has given the stream up.
                let _ = self.send_chunk(Which::Stream, number, 0, data, end).await;
                return;
            }
            while !data.is_empty() {
                while number >= granted {
                    let Some(CreditFrame { up_to, .. }) = credits.recv().await else { return };
                    let Ok(up_to) = up_to else { return };
                    // More than a window is not believed.
                    granted = granted.max(up_to.min(number + WINDOW));
                }
                let part = data.split_to(data.len().min(MAX_PART));
                if self.send_chunk(Which::Stream, number, 0, part, None).await.is_err() {
                    return;
                }
                number += 1;
            }
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        let taps = self.desk.calls.borrow_mut().remove(&self.id);
        drop(taps);
        if !self.sent.get() {
            const WHY: &str = "the call ended without a result: this is a defect of the plugin's host";
            self.send_whole(self.reply(failed(FailureKind::Raised, WHY)));
        }
    }
}

fn failed(kind: FailureKind, why: &str) -> Outcome {
    Outcome::Failed(Failure::new(kind, why))
}
