//! A body that did not travel with its call. The worker asks for it on the call's reply subject and the gateway
//! answers on the worker's own subject: in one message, or in numbered parts where the worker said how many of
//! them it has room for. A worker that says nothing of parts never meets one.

use crate::envelope::{CallId, Kind, Text, read_frame, required};
use crate::error::WireError;
use crate::limits::{MAX_FRAME, MAX_NAME};
use crate::reader::Reader;
use crate::reply::{read_failure, write_failure};
use crate::writer::Writer;
use bytes::Bytes;
use nylon_core::{Failure, Op};
use std::time::Duration;

/// Which body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The request's.
    Request,
    /// The response's.
    Response,
    /// What a handler put in the place of one chunk of the response's.
    Chunk,
    /// A response's that its handler still writes.
    Stream,
}

impl Which {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Which::Request => "q",
            Which::Response => "r",
            Which::Chunk => "c",
            Which::Stream => "s",
        }
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Which, WireError> {
        match reader.text("which body", MAX_NAME)? {
            "q" => Ok(Which::Request),
            "r" => Ok(Which::Response),
            "c" => Ok(Which::Chunk),
            "s" => Ok(Which::Stream),
            _ => Err(WireError::Invalid { what: "which body", why: "it is q, r, c or s" }),
        }
    }

    /// One that a worker can ask for.
    fn read_kept(reader: &mut Reader<'_>) -> Result<Which, WireError> {
        match Which::read(reader)? {
            which @ (Which::Request | Which::Response) => Ok(which),
            _ => Err(WireError::Invalid { what: "which body", why: "a gateway has q and r" }),
        }
    }

    /// The body that a mutation carries.
    pub fn of(op: &Op) -> Option<(Which, &Bytes)> {
        match op {
            Op::SetRequestBody(bytes) => Some((Which::Request, bytes)),
            Op::SetResponseBody(bytes) => Some((Which::Response, bytes)),
            Op::SetChunk(bytes) => Some((Which::Chunk, bytes)),
            _ => None,
        }
    }
}

/// A part of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its place, from 0.
    pub number: u64,
    /// The size of the whole body.
    pub total: u64,
    /// The bytes.
    pub data: Bytes,
}

impl Part {
    /// A body in one part.
    pub fn whole(data: Bytes) -> Part {
        Part { number: 0, total: data.len() as u64, data }
    }

    /// Whether this is all of the body.
    pub fn is_whole(&self) -> bool {
        self.number == 0 && self.total == self.data.len() as u64
    }
}

/// Worker to gateway: send the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadFrame {
    /// The call that wants it.
    pub id: CallId,
    /// The worker that asks.
    pub worker: Text,
    /// Which body.
    pub which: Which,
    /// Parts with a number below this may be sent; `None` for a body in one message.
    pub up_to: Option<u64>,
}

impl ReadFrame {
    /// Appends the frame to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        let (mut writer, mut map) = Writer::frame(out, Kind::Read);
        writer.key(&mut map, "id").bin(&self.id.0);
        writer.key(&mut map, "w").text(self.worker.as_str());
        writer.key(&mut map, "b").text(self.which.name());
        if let Some(up_to) = self.up_to {
            writer.key(&mut map, "up").uint(up_to);
        }
        writer.finish(map)
    }

    /// Reads the frame.
    pub fn decode(frame: &Bytes) -> Result<ReadFrame, WireError> {
        let (mut id, mut worker, mut which, mut up_to) = (None, None, Which::Request, None);
        read_frame(frame, Kind::Read, |key, reader| {
            match key {
                b"id" => id = Some(CallId(reader.exactly("the call id")?)),
                b"w" => worker = Some(Text::read(reader, "the worker's id")?),
                b"b" => which = Which::read_kept(reader)?,
                b"up" => up_to = Some(reader.uint("the room for parts")?),
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        let (id, worker) = (required(id, "call id (id)")?, required(worker, "worker (w)")?);
        Ok(ReadFrame { id, worker, which, up_to })
    }
}

/// Gateway to worker: the body or a part of it, or why there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BodyFrame {
    /// The call that wanted it.
    pub id: CallId,
    /// Which body.
    pub which: Which,
    /// The part, or a failure that the handler's call shall end with.
    pub body: Result<Part, Failure>,
    /// The time left for a result once all of it is there; neither the wait for the client nor the way of the
    /// parts counts.
    pub remaining: Duration,
}

impl BodyFrame {
    /// Appends the frame to `out`; on an error `out` is as it was.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        let (mut writer, mut map) = Writer::frame(out, Kind::Body);
        writer.key(&mut map, "id").bin(&self.id.0);
        writer.key(&mut map, "b").text(self.which.name());
        let remaining = u64::try_from(self.remaining.as_millis()).unwrap_or(u64::MAX);
        writer.key(&mut map, "ms").uint(remaining);
        match &self.body {
            Ok(part) => {
                writer.key(&mut map, "n").uint(part.number);
                writer.key(&mut map, "to").uint(part.total);
                writer.key(&mut map, "d").bin(&part.data);
            }
            Err(failure) => write_failure(writer.key(&mut map, "er"), failure),
        }
        writer.finish(map)
    }

    /// Reads the frame. Without a number and a size it is the whole body.
    pub fn decode(frame: &Bytes) -> Result<BodyFrame, WireError> {
        let (mut id, mut which, mut remaining) = (None, Which::Request, Duration::ZERO);
        let (mut number, mut total, mut data, mut failure) = (0, None, None, None);
        read_frame(frame, Kind::Body, |key, reader| {
            match key {
                b"id" => id = Some(CallId(reader.exactly("the call id")?)),
                b"b" => which = Which::read_kept(reader)?,
                b"ms" => remaining = Duration::from_millis(reader.uint("the time left")?),
                b"n" => number = reader.uint("the part's number")?,
                b"to" => total = Some(reader.uint("the body's size")?),
                b"d" => data = Some(reader.shared("the body", MAX_FRAME)?),
                b"er" => failure = Some(read_failure(reader)?),
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        let body = match failure {
            Some(failure) => Err(failure),
            None => {
                let data = required(data, "body (d)")?;
                Ok(Part { number, total: total.unwrap_or(data.len() as u64), data })
            }
        };
        Ok(BodyFrame { id: required(id, "call id (id)")?, which, body, remaining })
    }
}
