//! Worker to gateway: the result of a call.

use crate::body::Which;
use crate::envelope::{CallId, Kind, Text, read_frame, read_map, required};
use crate::error::WireError;
use crate::limits::{MAX_FRAME, MAX_NAME, MAX_OPS, MAX_STATE};
use crate::op;
use crate::reader::Reader;
use crate::section::shorten;
use crate::worker::{EntryShape, read_shape, write_shape};
use crate::writer::Writer;
use bytes::Bytes;
use nylon_core::{Failure, FailureKind, Op, Outcome, Phase};

/// The result of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The call.
    pub id: CallId,
    /// The worker that ran it: later phases of its session go there.
    pub worker: Text,
    /// What the handler decided, or how it failed.
    pub outcome: Outcome,
    /// The response's body follows in chunks while the handler writes it: an `end` that has only begun.
    pub streams: bool,
    /// The mutations in order; none with a failure.
    pub ops: Vec<Op>,
    /// Bodies among the mutations that travelled before the reply, in chunks: place in `ops`, size. There the
    /// bytes are missing until [`Reply::put_back`].
    pub apart: Vec<(usize, u64)>,
    /// The session's new state, where the handler changed it.
    pub state: Option<Bytes>,
    /// What the entry's handlers want, for a gateway that has not seen the worker's announcement.
    pub shape: Option<EntryShape>,
}

impl Reply {
    /// A reply with an outcome and nothing else.
    pub fn new(id: CallId, worker: Text, outcome: Outcome) -> Reply {
        let (ops, apart) = (Vec::new(), Vec::new());
        Reply { id, worker, outcome, streams: false, ops, apart, state: None, shape: None }
    }

    /// Appends the frame to `out`; on an error `out` is as it was.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        let limits = [
            (self.ops.len(), MAX_OPS, "the number of mutations"),
            (self.state.as_ref().map_or(0, Bytes::len), MAX_STATE, "ctx.state"),
            (self.worker.as_str().len(), MAX_NAME, "the worker's id"),
        ];
        if let Some(&(_, limit, what)) = limits.iter().find(|(size, limit, _)| size > limit) {
            return Err(WireError::TooLarge { what, limit });
        }
        let (mut writer, mut map) = Writer::frame(out, Kind::Reply);
        writer.key(&mut map, "id").bin(&self.id.0);
        writer.key(&mut map, "w").text(self.worker.as_str());
        writer.key(&mut map, "o").text(match self.outcome {
            Outcome::Next => "next",
            Outcome::End if self.streams => "stream",
            Outcome::End => "end",
            Outcome::Failed(_) => "error",
        });
        if let Outcome::Failed(failure) = &self.outcome {
            write_failure(writer.key(&mut map, "er"), failure);
        }
        if !self.ops.is_empty() {
            writer.key(&mut map, "op").array(self.ops.len());
            for (place, op) in self.ops.iter().enumerate() {
                let apart = self.apart.iter().find(|(at, _)| *at == place).map(|(_, size)| *size);
                op::write(&mut writer, op, apart);
            }
        }
        if let Some(state) = &self.state {
            writer.key(&mut map, "st").bin(state);
        }
        if let Some(shape) = self.shape {
            write_shape(writer.key(&mut map, "x"), shape);
        }
        writer.finish(map)
    }

    /// Reads a reply and checks that the phase allows each of its mutations: all of it is good, or none.
    pub fn decode(frame: &Bytes, phase: Phase, streaming: bool) -> Result<Reply, WireError> {
        let (mut id, mut worker, mut decision, mut failure) = (None, None, None, None);
        let (mut ops, mut apart, mut state, mut shape) = (Vec::new(), Vec::new(), None, None);
        read_frame(frame, Kind::Reply, |key, reader| {
            match key {
                b"id" => id = Some(CallId(reader.exactly("the call id")?)),
                b"w" => worker = Some(Text::read(reader, "the worker's id")?),
                b"o" => decision = Some(reader.text("the outcome", MAX_NAME)?),
                b"er" => failure = Some(read_failure(reader)?),
                b"op" => {
                    let count = reader.array("the mutations", MAX_OPS)?;
                    ops = Vec::with_capacity(count);
                    apart.clear();
                    for place in 0..count {
                        let (op, size) = op::read(reader)?;
                        op.check_phase(phase, streaming)?;
                        apart.extend(size.map(|size| (place, size)));
                        ops.push(op);
                    }
                }
                b"st" => state = Some(reader.shared("ctx.state", MAX_STATE)?),
                b"x" => shape = Some(read_shape(reader)?),
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        let decision = required(decision, "outcome (o)")?;
        let streams = decision == "stream";
        let outcome = match decision {
            "next" => Outcome::Next,
            "end" => Outcome::End,
            "stream" if phase == Phase::RequestFilter => Outcome::End,
            "error" => Outcome::Failed(required(failure, "error (er)")?),
            _ => {
                return Err(WireError::Invalid {
                    what: "the outcome",
                    why: "it is next, end, error, or stream in request_filter",
                });
            }
        };
        if matches!(outcome, Outcome::Failed(_)) {
            ops.clear();
            apart.clear();
            state = None;
        }
        let (id, worker) = (required(id, "call id (id)")?, required(worker, "worker (w)")?);
        Ok(Reply { id, worker, outcome, streams, ops, apart, state, shape })
    }

    /// Takes out the bodies that are larger than `inline`, to be sent before the reply. Of several that one handler
    /// has set in one place only the last one counts.
    pub fn take_apart(&mut self, inline: usize) -> Vec<(Which, Bytes)> {
        let mut seen = Vec::new();
        let mut kept: Vec<Op> = Vec::with_capacity(self.ops.len());
        for op in std::mem::take(&mut self.ops).into_iter().rev() {
            match Which::of(&op) {
                Some((which, _)) if seen.contains(&which) => {}
                which => {
                    seen.extend(which.map(|(which, _)| which));
                    kept.push(op);
                }
            }
        }
        kept.reverse();
        self.ops = kept;
        let mut bodies = Vec::new();
        for (place, op) in self.ops.iter_mut().enumerate() {
            let (Op::SetRequestBody(body) | Op::SetResponseBody(body) | Op::SetChunk(body)) = op else {
                continue;
            };
            if body.len() > inline {
                let body = std::mem::take(body);
                self.apart.push((place, body.len() as u64));
                bodies.extend(Which::of(op).map(|(which, _)| (which, body)));
            }
        }
        bodies
    }

    /// Puts the bodies that came before the reply where they belong.
    ///
    /// # Errors
    /// When `body` does not have one of that size.
    pub fn put_back(&mut self, mut body: impl FnMut(Which) -> Option<Bytes>) -> Result<(), WireError> {
        for (place, size) in std::mem::take(&mut self.apart) {
            const WHY: &str = "the body that it speaks of did not come before it";
            let missing = WireError::Invalid { what: "a mutation", why: WHY };
            let op = self.ops.get_mut(place).ok_or_else(|| missing.clone())?;
            let Some((which, _)) = Which::of(op) else { return Err(missing) };
            let came = body(which).filter(|body| body.len() as u64 == size).ok_or(missing)?;
            let (Op::SetRequestBody(bytes) | Op::SetResponseBody(bytes) | Op::SetChunk(bytes)) = op else {
                continue;
            };
            *bytes = came;
        }
        Ok(())
    }
}

pub(crate) fn write_failure(writer: &mut Writer<'_>, failure: &Failure) {
    let mut map = writer.open();
    writer.key(&mut map, "k").text(failure.kind.name());
    writer.key(&mut map, "m").text(shorten(&failure.message));
    writer.close(map);
}

pub(crate) fn read_failure(reader: &mut Reader<'_>) -> Result<Failure, WireError> {
    let (mut kind, mut message) = (None, "");
    read_map(reader, "the error", |key, reader| {
        match key {
            b"k" => kind = Some(reader.text("the error's kind", MAX_NAME)?),
            b"m" => message = reader.text("the error's text", MAX_FRAME)?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    // A kind that a later version added is still a failure of its handler.
    let kind = FailureKind::from_name(required(kind, "error kind (er.k)")?).unwrap_or(FailureKind::Raised);
    Ok(Failure::new(kind, shorten(message)))
}
