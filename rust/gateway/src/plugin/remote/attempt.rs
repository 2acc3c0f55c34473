//! One attempt: send the call, and wait for what becomes of it.

use super::call::Running;
use super::correlation::{Event, Waiting};
use super::life::Life;
use nylon_core::{Failure, FailureKind};
use nylon_wire::{Busy, ChunkFrame, Claim, Envelope, Kind, ReadFrame, Reply, SessionId, Text, WireError};
use std::sync::Arc;
use tokio::time::timeout_at;

/// What one round of sending and waiting came to.
pub(super) enum Round {
    Replied(Reply),
    /// Nobody received it.
    NoResponders,
    /// A worker received it and had no room.
    Busy,
}

impl Running<'_> {
    pub(super) fn life(&self) -> Result<Arc<Life>, Failure> {
        let connection = &self.entry.connection;
        connection.life().ok_or_else(|| {
            unavailable(
                connection.ready().err().unwrap_or_else(|| "the connection just came back".to_owned()),
            )
        })
    }

    /// Sends the call once and waits for what becomes of it.
    pub(super) async fn round(
        &mut self,
        subject: String,
        session: SessionId,
        waiting: &Waiting,
    ) -> Result<Round, Failure> {
        let life = self.life()?;
        let frame = self.encode(session, life.max_payload)?;
        let reply_to = waiting.reply_subject(&self.entry.connection.inbox);
        let sent = timeout_at(self.deadline.into(), life.client.publish_with_reply(subject, reply_to, frame));
        match sent.await {
            Ok(Ok(())) => {}
            Ok(Err(why)) => return Err(unavailable(format!("the call could not be sent: {why}"))),
            Err(_) => {
                const WHY: &str = "the broker took no message in time: the connection is congested";
                return Err(Failure::new(FailureKind::TimedOut, WHY));
            }
        }
        loop {
            let Ok(event) = timeout_at(self.deadline.into(), waiting.event()).await else {
                return Err(self.timed_out(waiting.acked_by()));
            };
            let frame = match event {
                Event::NoResponders => return Ok(Round::NoResponders),
                Event::Frame(frame) => frame,
            };
            match Envelope::peek(&frame).map_err(|why| protocol(&why))?.kind {
                Kind::Reply => {
                    let streaming = self.exchange.chunk.is_some();
                    let mut reply =
                        Reply::decode(&frame, self.call.phase, streaming).map_err(|why| protocol(&why))?;
                    if reply.id == self.id {
                        self.attach_bodies(&mut reply).map_err(|why| protocol(&why))?;
                        return Ok(Round::Replied(reply));
                    }
                    tracing::warn!("a reply to another call came in and was ignored: {:?}", reply.id);
                }
                Kind::Busy => {
                    Busy::decode(&frame).map_err(|why| protocol(&why))?;
                    return Ok(Round::Busy);
                }
                Kind::Read => {
                    let read = ReadFrame::decode(&frame).map_err(|why| protocol(&why))?;
                    self.answer_read(read, &life).await?;
                }
                Kind::Chunk => {
                    let chunk = ChunkFrame::decode(&frame).map_err(|why| protocol(&why))?;
                    self.take_chunk(chunk, &life).await?;
                }
                Kind::Claim => {
                    let claim = Claim::decode(&frame).map_err(|why| protocol(&why))?;
                    self.grant(&claim, &life).await?;
                }
                // Acks do not come this far, and nothing else is an answer to a call.
                kind => {
                    let message = format!("a worker answered with a {} frame", kind.name());
                    return Err(Failure::new(FailureKind::Protocol, message));
                }
            }
        }
    }

    pub(super) fn timed_out(&self, acked_by: Option<Text>) -> Failure {
        let message = match acked_by {
            Some(worker) => format!("no result in time from worker {:?}", worker.as_str()),
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
