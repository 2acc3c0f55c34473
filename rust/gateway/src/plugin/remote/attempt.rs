//! One attempt: send the call, and wait for what becomes of it.
//!
//! A call that is answered soon costs one message, one timer and one wake-up, for its reply. Only one that is not
//! is looked after: by the watch of vigil.rs, with questions to the worker that took it.

use super::call::Running;
use super::course::Target;
use super::ledger::NOBODY;
use super::life::Life;
use super::peer::Peer;
use super::slot::Event;
use super::vigil::{Due, STALL, Vigil};
use super::waiting::Waiting;
use crate::plugin::buffer::in_buffer;
use async_nats::client::PublishErrorKind;
use bytes::Bytes;
use nylon_core::{Failure, FailureKind};
use nylon_wire::{
    Busy, ChunkFrame, Claim, Grant, Kind, Probe, ReadFrame, Reply, SessionId, Unknown, WireError,
};
use std::sync::Arc;
use std::time::Instant;
use tokio::time::timeout_at;

/// What waiting for an attempt came to.
pub(super) enum Heard {
    Reply(Reply),
    /// Nobody listens where the call was sent.
    Nobody,
    /// This worker received it and had no room.
    Busy(Arc<Peer>),
    /// No worker took it in time.
    Silence,
    /// The worker that took it is gone.
    Gone(Arc<Peer>),
    /// The worker that took it does not answer.
    Frozen(Arc<Peer>),
    /// The worker that took it does not have it any more.
    Forgotten(Arc<Peer>),
    /// The connection to the broker is lost.
    Lost,
}

impl Running<'_> {
    /// Sends the call. False when the connection was lost before.
    pub(super) async fn send(
        &mut self,
        life: &Life,
        target: &Target,
        session: SessionId,
        waiting: &Waiting,
    ) -> Result<bool, Failure> {
        let frame = self.encode(session, life.max_payload)?;
        let subject = match target {
            Target::Group => self.on.group.subjects.call.clone(),
            Target::Worker(peer) => peer.subject.clone(),
        };
        self.message = self.message.wrapping_add(1);
        let reply_to = waiting.reply_subject(&self.lane.inbox, self.message);
        let sending = life.client.publish_with_reply(subject, reply_to, frame);
        match timeout_at(self.deadline.into(), sending).await {
            Ok(Ok(())) => {
                self.sent = self.message;
                Ok(true)
            }
            // The client has ended with its connection.
            Ok(Err(why)) if why.kind() == PublishErrorKind::Send => {
                self.lane.ended(life);
                Ok(false)
            }
            Ok(Err(why)) => Err(unavailable(format!("the call could not be sent: {why}"))),
            Err(_) => {
                const WHY: &str = "the broker took no message in time: the connection is congested";
                Err(Failure::new(FailureKind::TimedOut, WHY))
            }
        }
    }

    /// Waits for what becomes of the call.
    pub(super) async fn outcome(
        &mut self,
        life: &Life,
        waiting: &Waiting,
        vigil: &mut Vigil,
    ) -> Result<Heard, Failure> {
        loop {
            let look = vigil.wake_at(waiting.is_taken()).map_or(self.deadline, |at| at.min(self.deadline));
            let Ok(event) = timeout_at(look.into(), waiting.event()).await else {
                let now = Instant::now();
                if now >= self.deadline {
                    return Err(self.timed_out(waiting));
                }
                // Answers come in on this very thread as a rule: after a stall of it they are still to be read.
                let late = now.saturating_duration_since(look);
                if late > STALL {
                    vigil.excuse(late);
                    continue;
                }
                match self.look(life, waiting, vigil).await? {
                    Some(heard) => return Ok(heard),
                    None => continue,
                }
            };
            let heard = match event {
                Event::Frame(message, kind, frame) => {
                    self.understand(message, kind, &frame, life, waiting, vigil).await
                }
                Event::NoResponders(message) => Ok(self.nobody_at(message, life, waiting, vigil)),
                Event::Taken(message) => {
                    vigil.taken(message, Instant::now());
                    Ok(None)
                }
                Event::Malformed(why) => Err(protocol(&why)),
                Event::Lost => Ok(Some(Heard::Lost)),
            };
            match heard {
                Ok(None) => {}
                Ok(Some(heard)) => return Ok(heard),
                Err(failure) => {
                    if failure.kind == FailureKind::Protocol {
                        let holder = waiting.taken_by();
                        let worker = holder.as_deref().map_or(NOBODY, Peer::name);
                        self.on.group.counters.misbehaved(
                            worker,
                            "an answer that is not valid",
                            &failure.message,
                        );
                    }
                    return Err(failure);
                }
            }
        }
    }

    /// It is time to look after the call.
    async fn look(
        &mut self,
        life: &Life,
        waiting: &Waiting,
        vigil: &mut Vigil,
    ) -> Result<Option<Heard>, Failure> {
        // From here on the call wants to know who takes it.
        waiting.watch();
        let holder = waiting.taken_by();
        Ok(match (vigil.due(Instant::now(), holder.is_some()), holder) {
            (Due::Roll, _) => {
                self.on.group.doubt();
                None
            }
            (Due::Silence, _) => Some(Heard::Silence),
            (Due::Probe, Some(holder)) => {
                self.probe(life, &holder, waiting, vigil).await?;
                None
            }
            (Due::NoAnswer, Some(holder)) => Some(Heard::Frozen(holder)),
            (Due::Nothing | Due::Probe | Due::NoAnswer, _) => None,
        })
    }

    /// Asks the worker that took the call whether it has it.
    async fn probe(
        &mut self,
        life: &Life,
        holder: &Peer,
        waiting: &Waiting,
        vigil: &mut Vigil,
    ) -> Result<(), Failure> {
        self.entry.connection.counters.probes.add();
        self.message = self.message.wrapping_add(1);
        let reply_to = waiting.reply_subject(&self.lane.inbox, self.message);
        let probe = Probe { id: self.id };
        let frame = in_buffer(|buffer| probe.encode(buffer)).map_err(|why| protocol(&why))?;
        let asking = life.client.publish_with_reply(holder.subject.clone(), reply_to, frame);
        match timeout_at(self.deadline.into(), asking).await {
            // What could not be asked is not answered: a lost connection is told by an event.
            Ok(_) => vigil.asked(self.message, Instant::now()),
            Err(_) => return Err(self.timed_out(waiting)),
        }
        Ok(())
    }

    /// Nobody listens where this message of the call was sent.
    fn nobody_at(&self, message: u32, life: &Life, waiting: &Waiting, vigil: &mut Vigil) -> Option<Heard> {
        if vigil.is_question(message) {
            if life.is_settling() {
                vigil.settle(Instant::now());
                return None;
            }
            return waiting.taken_by().map(Heard::Gone);
        }
        (message == self.sent).then_some(Heard::Nobody)
    }

    async fn understand(
        &mut self,
        message: u32,
        kind: Kind,
        frame: &Bytes,
        life: &Life,
        waiting: &Waiting,
        vigil: &mut Vigil,
    ) -> Result<Option<Heard>, Failure> {
        match kind {
            Kind::Reply => {
                let streaming = self.exchange.chunk.is_some();
                let mut reply =
                    Reply::decode(frame, self.call.phase, streaming).map_err(|why| protocol(&why))?;
                self.attach_bodies(&mut reply).map_err(|why| protocol(&why))?;
                Ok(Some(Heard::Reply(reply)))
            }
            Kind::Busy => {
                let busy = Busy::decode(frame).map_err(|why| protocol(&why))?;
                let peer = self.worker(busy.worker.as_str())?;
                self.on.group.busy(&peer);
                // One that was asked by an earlier attempt and answers now changes nothing.
                Ok((message == self.sent && !waiting.is_taken()).then_some(Heard::Busy(peer)))
            }
            Kind::Unknown => {
                let unknown = Unknown::decode(frame).map_err(|why| protocol(&why))?;
                let peer = self.worker(unknown.worker.as_str())?;
                // As the answer to a copy of the call: it has run there, and its reply is no longer kept.
                let is_asked = vigil.is_question(message) || message == self.sent;
                Ok(is_asked.then_some(Heard::Forgotten(peer)))
            }
            Kind::Claim => {
                let claim = Claim::decode(frame).map_err(|why| protocol(&why))?;
                self.answer_claim(message, &claim, life, waiting).await?;
                Ok(None)
            }
            Kind::Read => {
                let read = ReadFrame::decode(frame).map_err(|why| protocol(&why))?;
                self.answer_read(read, life, waiting).await?;
                Ok(None)
            }
            Kind::Chunk => {
                let chunk = ChunkFrame::decode(frame).map_err(|why| protocol(&why))?;
                self.take_chunk(chunk, life, waiting).await?;
                Ok(None)
            }
            // Acks do not come this far, and nothing else is an answer to a call.
            kind => {
                let message = format!("a worker answered with a {} frame", kind.name());
                Err(Failure::new(FailureKind::Protocol, message))
            }
        }
    }

    /// Tells a worker whether it may run the call.
    async fn answer_claim(
        &mut self,
        message: u32,
        claim: &Claim,
        life: &Life,
        waiting: &Waiting,
    ) -> Result<(), Failure> {
        let peer = self.worker(claim.worker.as_str())?;
        let holder = waiting.taken_by();
        let granted = self.claims.decide(&peer.id, holder.as_ref().map(|holder| &holder.id));
        if granted {
            waiting.granted(&peer, message);
        } else {
            self.entry.connection.counters.refusals.add();
        }
        let grant = Grant { id: self.id, granted };
        let frame = in_buffer(|buffer| grant.encode(buffer)).map_err(|why| protocol(&why))?;
        let sending = life.client.publish(peer.subject.clone(), frame);
        match timeout_at(self.deadline.into(), sending).await {
            // Without a grant nothing runs, and the worker is asked after; a lost connection is told by an event.
            Ok(_) => Ok(()),
            Err(_) => Err(self.timed_out(waiting)),
        }
    }

    /// The worker that a frame names.
    pub(super) fn worker(&self, id: &str) -> Result<Arc<Peer>, Failure> {
        let group = &self.on.group;
        let peer = group.peer(id).ok_or_else(|| {
            Failure::new(
                FailureKind::Protocol,
                format!("a worker's answer is not valid: it calls itself {id:?}"),
            )
        })?;
        group.heard(&peer);
        Ok(peer)
    }

    pub(super) fn timed_out(&self, waiting: &Waiting) -> Failure {
        let message = match waiting.taken_by() {
            Some(worker) if worker.is_suspect() => {
                format!("no result in time from worker {:?}, which does not answer", worker.name())
            }
            Some(worker) => format!("no result in time from worker {:?}", worker.name()),
            None => {
                format!("no result in time from group {:?}; no worker took the call", self.on.group.name)
            }
        };
        Failure::new(FailureKind::TimedOut, message)
    }
}

pub(super) fn unavailable(message: String) -> Failure {
    Failure::new(FailureKind::Unavailable, message)
}

pub(super) fn protocol(why: &WireError) -> Failure {
    Failure::new(FailureKind::Protocol, format!("a worker's answer is not valid: {why}"))
}
