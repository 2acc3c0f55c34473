//! The bodies of one call to another process that do not travel inside its frames: in parts, both ways, as far as the
//! receiver has room. A worker of an earlier attempt may still ask or send, so each worker's transfers are its own, and a
//! reply counts with the bodies of its own worker only.
//!
//! While parts flow, the call's time stands still: neither side waits for a handler then. What bounds a transfer
//! is that it must move.

use super::BodySource;
use bytes::Bytes;
use nylon_core::{Exchange, Failure, FailureKind, RequestBody, ResponseBody};
use nylon_wire::{
    BodyFrame, CallId, ChunkFrame, Incoming, Outgoing, Part, ReadFrame, Text, Which, WireError, limits,
};
use std::time::{Duration, Instant};

/// The longest that a transfer may stand still.
const STALL: Duration = Duration::from_secs(5);
/// What a worker may send without saying so before: larger than what any reply could hold when it was one message.
const MAX_BODY: u64 = limits::MAX_FRAME as u64;
/// Transfers of one call. A worker has one of each body; attempts on other workers have their own.
const MAX_TRANSFERS: usize = 8;

/// The transfers of one call.
pub(in crate::plugin) struct Bodies {
    limit: u64,
    outgoing: Vec<(Text, Which, Outgoing)>,
    incoming: Vec<Arriving>,
    /// The time that was left for the result when the first of the transfers under way began.
    left: Option<Duration>,
}

/// A body that a worker sends.
struct Arriving {
    worker: Text,
    which: Which,
    parts: Incoming,
    complete: bool,
}

impl Bodies {
    /// `max_body` is what handlers may hold of a body; what they make may be as large, or 64 MiB.
    pub(in crate::plugin) fn new(max_body: u64) -> Bodies {
        Bodies { limit: max_body.max(MAX_BODY), outgoing: Vec::new(), incoming: Vec::new(), left: None }
    }

    /// What answers the `read` of a call's worker, within `max_payload` each: the parts that it has room for, or the
    /// failure that its handler's call shall end with. Moves the call's deadline.
    pub(in crate::plugin) fn answers(
        &mut self,
        call: CallId,
        read: &ReadFrame,
        body: Result<Bytes, Failure>,
        max_payload: usize,
        deadline: &mut Instant,
    ) -> Vec<BodyFrame> {
        let parts = body.and_then(|body| self.parts(read, &body, max_payload));
        *deadline = self.moved(*deadline);
        let remaining = self.left(*deadline);
        let answer = |body| BodyFrame { id: call, which: read.which, body, remaining };
        match parts {
            Ok(parts) => parts.into_iter().map(|part| answer(Ok(part))).collect(),
            Err(failure) => vec![answer(Err(failure))],
        }
    }

    /// The parts of `body` that answer a worker's `read`.
    ///
    /// # Errors
    /// When the worker wants it in one message, and it does not fit into one.
    fn parts(&mut self, read: &ReadFrame, body: &Bytes, max_payload: usize) -> Result<Vec<Part>, Failure> {
        let fits = body.len() <= limits::INLINE_BODY.min(max_payload / 2);
        let Some(up_to) = read.up_to.filter(|_| !fits) else {
            // Beside the body stand a few keys and a name.
            if body.len().saturating_add(2 * limits::MAX_NAME) <= max_payload {
                return Ok(vec![Part::whole(body.clone())]);
            }
            let size = body.len();
            return Err(Failure::new(
                FailureKind::BodyTooLarge,
                format!(
                    "the body has {size} bytes, more than the broker's max_payload of {max_payload}, and the worker takes it in one message only"
                ),
            ));
        };
        let own =
            |(worker, which, _): &(Text, Which, Outgoing)| *worker == read.worker && *which == read.which;
        let place = self.outgoing.iter().position(own).unwrap_or_else(|| {
            if self.outgoing.len() == MAX_TRANSFERS {
                self.outgoing.remove(0);
            }
            let parts = Outgoing::new(body.clone(), max_payload, 0);
            self.outgoing.push((Text::from(read.worker.as_str()), read.which, parts));
            self.outgoing.len() - 1
        });
        let parts = &mut self.outgoing[place].2;
        parts.grant(up_to);
        Ok(parts.collect())
    }

    /// Takes a part of a body that a worker sends, and says how far it may go now, where that is news.
    ///
    /// # Errors
    /// When parts are missing, or go beyond what was announced or is allowed.
    pub(in crate::plugin) fn take(&mut self, chunk: ChunkFrame) -> Result<Option<u64>, Failure> {
        let own = |known: &Arriving| known.worker == chunk.worker && known.which == chunk.which;
        let place = match self.incoming.iter().position(own) {
            Some(place) => place,
            None => {
                if self.incoming.len() == MAX_TRANSFERS {
                    self.incoming.remove(0);
                }
                self.incoming.push(Arriving {
                    worker: Text::from(chunk.worker.as_str()),
                    which: chunk.which,
                    // The first part comes unasked.
                    parts: Incoming::new(1),
                    complete: false,
                });
                self.incoming.len() - 1
            }
        };
        let arriving = &mut self.incoming[place];
        match arriving.parts.take(&chunk.into_part(), self.limit) {
            Ok(complete) => {
                arriving.complete = complete;
                Ok(if complete { None } else { arriving.parts.room() })
            }
            Err(why) => {
                self.incoming.remove(place);
                let kind = match why {
                    WireError::TooLarge { .. } => FailureKind::BodyTooLarge,
                    _ => FailureKind::Protocol,
                };
                Err(Failure::new(kind, format!("a body from the worker was broken off: {why}")))
            }
        }
    }

    /// The body that a worker has sent, if all of it is here.
    pub(in crate::plugin) fn taken(&mut self, worker: &Text, which: Which) -> Option<Bytes> {
        let own = |known: &Arriving| known.worker == *worker && known.which == which && known.complete;
        let place = self.incoming.iter().position(own)?;
        Some(self.incoming.remove(place).parts.into_body())
    }

    /// The time that the worker has for its result, transfers under way left out.
    fn left(&self, deadline: Instant) -> Duration {
        self.left.unwrap_or_else(|| deadline.saturating_duration_since(Instant::now()))
    }

    /// The call's deadline once a transfer has moved.
    pub(in crate::plugin) fn moved(&mut self, deadline: Instant) -> Instant {
        let now = Instant::now();
        let left = *self.left.get_or_insert_with(|| deadline.saturating_duration_since(now));
        let sending = self.outgoing.iter().any(|(_, _, parts)| !parts.is_done());
        if sending || self.incoming.iter().any(|arriving| !arriving.complete) {
            return now + left.max(STALL);
        }
        self.left = None;
        now + left
    }
}

/// The request's body, for a handler elsewhere that asks for it. The wait for the client moves the deadline.
pub(in crate::plugin) async fn request_body(
    exchange: &mut Exchange,
    source: &mut dyn BodySource,
    deadline: &mut Instant,
) -> Result<Bytes, Failure> {
    if let Some(bytes) = exchange.request_body.bytes() {
        return Ok(bytes.clone());
    }
    let bytes = waited_for(source, deadline).await?;
    // It stays read whatever becomes of the call, since the connection has it no more.
    exchange.request_body = RequestBody::Read(bytes.clone());
    Ok(bytes)
}

/// The response's body. Only a filter that gets it on demand has a source for it.
pub(in crate::plugin) async fn response_body(
    exchange: &mut Exchange,
    source: Option<&mut dyn BodySource>,
    deadline: &mut Instant,
) -> Result<Bytes, Failure> {
    if let Some(bytes) = exchange.response_body.bytes() {
        return Ok(bytes.clone());
    }
    let Some(source) = source else {
        const WHY: &str = "the response body streams past and cannot be read";
        return Err(Failure::new(FailureKind::BodyUnreadable, WHY));
    };
    let bytes = waited_for(source, deadline).await?;
    exchange.response_body = ResponseBody::Read(bytes.clone());
    Ok(bytes)
}

async fn waited_for(source: &mut dyn BodySource, deadline: &mut Instant) -> Result<Bytes, Failure> {
    let asked = Instant::now();
    let bytes = source.read().await;
    *deadline += asked.elapsed();
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(worker: &str, up_to: Option<u64>) -> ReadFrame {
        ReadFrame { id: CallId([1; 16]), worker: worker.into(), which: Which::Request, up_to }
    }

    fn chunk(worker: &str, number: u64, total: u64, size: usize) -> ChunkFrame {
        let data = Bytes::from(vec![number as u8; size]);
        let which = Which::Response;
        ChunkFrame { id: CallId([1; 16]), worker: worker.into(), which, number, total, data, end: None }
    }

    #[test]
    fn each_worker_that_asks_sees_the_body_from_its_start() {
        let body = Bytes::from(vec![7; 3 << 20]);
        let mut bodies = Bodies::new(0);
        let numbers = |parts: Vec<Part>| parts.iter().map(|part| part.number).collect::<Vec<_>>();
        let mut ask = |worker, up_to| bodies.parts(&read(worker, Some(up_to)), &body, 1 << 20).map(numbers);
        assert_eq!(ask("a", 8), Ok((0..8).collect()));
        assert_eq!(ask("b", 2), Ok(vec![0, 1]), "another attempt's worker");
        assert_eq!(ask("a", 10), Ok(vec![8, 9]));
        assert_eq!(ask("a", 10), Ok(vec![]), "what was sent is not sent again");
    }

    #[test]
    fn a_worker_that_takes_no_parts_gets_what_fits_and_else_a_reason() {
        let mut bodies = Bodies::new(0);
        let small = Bytes::from(vec![1; 500_000]);
        let parts = bodies.parts(&read("a", None), &small, 1 << 20).expect("it fits");
        assert!(parts.len() == 1 && parts[0].is_whole());
        let large = Bytes::from(vec![1; 1 << 20]);
        let refused = bodies.parts(&read("a", None), &large, 1 << 20).expect_err("it does not fit");
        assert_eq!(refused.kind, FailureKind::BodyTooLarge);
    }

    #[test]
    fn bodies_of_two_attempts_do_not_mix() {
        let mut bodies = Bodies::new(0);
        assert_eq!(bodies.take(chunk("a", 0, 20, 10)), Ok(Some(9)));
        assert_eq!(bodies.take(chunk("b", 0, 20, 20)), Ok(None));
        let (a, b) = (Text::from("a"), Text::from("b"));
        assert_eq!(bodies.taken(&a, Which::Response), None, "half of it is not used");
        assert_eq!(bodies.taken(&b, Which::Response), Some(Bytes::from(vec![0; 20])));
    }

    #[test]
    fn a_gap_ends_the_transfer_and_the_call() {
        let mut bodies = Bodies::new(0);
        assert_eq!(bodies.take(chunk("a", 0, 30, 10)), Ok(Some(9)));
        let gap = bodies.take(chunk("a", 2, 30, 10)).expect_err("a gap");
        assert_eq!(gap.kind, FailureKind::Protocol);
        let limit = bodies.take(chunk("a", 0, MAX_BODY + 1, 10)).expect_err("over the limit");
        assert_eq!(limit.kind, FailureKind::BodyTooLarge);
    }

    #[test]
    fn time_stands_still_while_parts_flow() {
        let mut bodies = Bodies::new(0);
        let soon = Instant::now() + Duration::from_millis(100);
        bodies.take(chunk("a", 0, 20, 10)).expect("good");
        let flowing = bodies.moved(soon);
        assert!(flowing > Instant::now() + STALL / 2);
        bodies.take(chunk("a", 1, 20, 10)).expect("good");
        assert!(bodies.moved(flowing) <= Instant::now() + Duration::from_millis(100));
    }
}
