//! What a call is answered: signs on the way, one reply at the end, and that reply again for whoever asks.

use super::call::Origin;
use super::clock::Moment;
use super::known::Known;
use super::outbox::Refused;
use super::shared::{Shared, Unsent, encoded, locked};
use bytes::Bytes;
use nylon_core::{Failure, FailureKind, Finished, Outcome};
use nylon_wire::{Ack, CallId, Probe, Reply, Unknown, WireError};
use std::sync::atomic::Ordering::Relaxed;

impl Shared {
    /// Answers a call with what its handler came to.
    pub(crate) fn answer(&self, origin: Origin, finished: Finished) {
        let nanoseconds = u64::try_from(origin.came.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.counters.nanoseconds.fetch_add(nanoseconds, Relaxed);
        let Finished { outcome, ops, state, .. } = finished;
        let worker = self.setup.worker.clone();
        let reply = Reply { ops, state, shape: origin.shape, ..Reply::new(origin.id, worker, outcome) };
        self.send_reply(origin, reply);
    }

    /// Answers a call that no handler ran for.
    pub(crate) fn refuse(&self, origin: &Origin, kind: FailureKind, why: impl Into<String>) {
        let reply = self.error(origin.id, Failure::new(kind, why));
        self.reply(origin, Reply { shape: origin.shape, ..reply });
    }

    /// Answers something that is no call. What is known of a call of that id stays as it is.
    pub(crate) fn refuse_message(&self, id: CallId, subject: &[u8], why: String) {
        let reply = self.error(id, Failure::new(FailureKind::Protocol, why));
        self.send(subject, reply, false);
    }

    fn error(&self, id: CallId, failure: Failure) -> Reply {
        Reply::new(id, self.setup.worker.clone(), Outcome::Failed(failure))
    }

    /// Sends a reply that fits into a message, and keeps it: also one for which there is no room on the way out, since
    /// it will be asked for.
    pub(crate) fn reply(&self, origin: &Origin, reply: Reply) {
        self.send(&origin.reply, reply, true);
    }

    fn send(&self, subject: &[u8], mut reply: Reply, is_calls: bool) {
        if let Outcome::Failed(failure) = &reply.outcome {
            self.counters.failed(failure);
        }
        let send = |reply: &Reply| {
            encoded(
                |out| reply.encode(out),
                |frame| {
                    let sent = match subject {
                        [] => Ok(()),
                        subject => self.publish_frame(subject, frame),
                    };
                    if let Err(refused @ Refused::TooLarge { .. }) = sent {
                        return Err(refused.into());
                    }
                    if is_calls {
                        locked(&self.known).end(reply.id, frame, Moment::now());
                    }
                    Ok(())
                },
            )
        };
        let why = match send(&reply) {
            Ok(()) => return,
            Err(Unsent::Refused(Refused::TooLarge { limit })) => {
                format!("the reply is over the broker's max_payload of {limit} bytes: set fewer headers")
            }
            Err(Unsent::Refused(Refused::Full)) => return,
            Err(Unsent::Wire(error)) => format!("the reply cannot be sent: {error}"),
        };
        let failure = Failure::new(FailureKind::Protocol, why);
        self.counters.failed(&failure);
        reply = Reply { outcome: Outcome::Failed(failure), ops: Vec::new(), state: None, ..reply };
        // An error's text is cut to what always fits.
        if let Err(error) = send(&reply) {
            tracing::error!("an error reply could not be sent: {error:?}");
        }
    }

    /// Says something about a call beside its reply.
    pub(crate) fn sign(&self, reply: &[u8], encode: impl FnOnce(&mut Vec<u8>) -> Result<(), WireError>) {
        if !reply.is_empty() {
            // A sign that is dropped because too much waits is counted by the outbox, and asked for again.
            let _dropped = self.publish(reply, encode);
        }
    }

    /// Says that a call is here.
    pub(crate) fn acknowledge(&self, id: CallId, reply: &[u8]) {
        self.sign(reply, |out| Ack { id, worker: self.setup.worker.clone() }.encode(out));
    }

    /// Answers a question whether a call is here.
    pub(crate) fn answer_probe(&self, frame: &Bytes, reply: &[u8]) -> Result<(), WireError> {
        let Probe { id } = Probe::decode(frame)?;
        self.counters.probes.fetch_add(1, Relaxed);
        let known = locked(&self.known).look(id);
        self.tell(id, known, reply);
        Ok(())
    }

    /// Tells what is known of a call: that it is here, what was replied, or that there is nothing to tell (any more).
    pub(crate) fn tell(&self, id: CallId, known: Known, reply: &[u8]) {
        match known {
            Known::Here => self.acknowledge(id, reply),
            Known::Ended(Some(frame)) if !reply.is_empty() => {
                self.counters.repeated.fetch_add(1, Relaxed);
                if let Err(Refused::TooLarge { .. }) = self.publish_frame(reply, &frame) {
                    // The server takes less than it did.
                    self.tell(id, Known::Ended(None), reply);
                }
            }
            Known::Ended(_) | Known::Unknown => {
                self.sign(reply, |out| Unknown { id, worker: self.setup.worker.clone() }.encode(out));
            }
        }
    }
}
