//! Signs about a call beside its result: it has arrived, there is no room, does anybody have it, who may run it.
//! Each is the call's id and a word or two, because a gateway sees one of them per call and sends the others only
//! when an answer is late.

use crate::envelope::{CallId, Kind, Text, read_frame, required};
use crate::error::WireError;
use crate::writer::Writer;
use bytes::Bytes;

/// Worker to gateway: the call has arrived, and runs next. Also the answer to a [`Probe`] while it is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    /// The call.
    pub id: CallId,
    /// The worker that has it.
    pub worker: Text,
}

/// Worker to gateway: the call has arrived, and was not run for want of room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Busy {
    /// The call.
    pub id: CallId,
    /// The worker that had no room.
    pub worker: Text,
}

/// Gateway to worker, on the worker's own subject and with a reply subject: do you have this call? Answered with
/// [`Ack`] while it is there, with its result where that is still remembered, else with [`Unknown`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The call.
    pub id: CallId,
}

/// Worker to gateway: the call that was asked for is not here, and no result of it is remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// The call.
    pub id: CallId,
    /// The worker that was asked.
    pub worker: Text,
}

/// Worker to gateway: may I run this call? Sent before a call whose handler must not run twice, and by a worker that
/// has noticed a stall of its own, since the gateway may have turned to another one meanwhile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The call.
    pub id: CallId,
    /// The worker that wants to run it.
    pub worker: Text,
}

/// Gateway to worker: the answer to a [`Claim`]. The first claim of a call wins; without an answer nothing runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The call.
    pub id: CallId,
    /// Whether the worker may run it.
    pub granted: bool,
}

/// The signs of a worker: a kind, a call, and who says it.
macro_rules! worker_signs {
    ($($sign:ident)*) => {$(
        impl $sign {
            /// Appends the frame to `out`; on an error `out` is as it was.
            pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
                let (mut writer, mut map) = Writer::frame(out, Kind::$sign);
                writer.key(&mut map, "id").bin(&self.id.0);
                writer.key(&mut map, "w").text(self.worker.as_str());
                writer.finish(map)
            }

            /// Reads the frame.
            pub fn decode(frame: &Bytes) -> Result<$sign, WireError> {
                let (mut id, mut worker) = (None, None);
                read_frame(frame, Kind::$sign, |key, reader| {
                    match key {
                        b"id" => id = Some(CallId(reader.exactly("the call id")?)),
                        b"w" => worker = Some(Text::read(reader, "the worker's id")?),
                        _ => return Ok(false),
                    }
                    Ok(true)
                })?;
                Ok($sign { id: required(id, "call id (id)")?, worker: required(worker, "worker (w)")? })
            }
        }
    )*};
}

worker_signs!(Ack Busy Unknown Claim);

impl Probe {
    /// Appends the frame to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        let (mut writer, mut map) = Writer::frame(out, Kind::Probe);
        writer.key(&mut map, "id").bin(&self.id.0);
        writer.finish(map)
    }

    /// Reads the frame.
    pub fn decode(frame: &Bytes) -> Result<Probe, WireError> {
        let mut id = None;
        read_frame(frame, Kind::Probe, |key, reader| {
            match key {
                b"id" => id = Some(CallId(reader.exactly("the call id")?)),
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(Probe { id: required(id, "call id (id)")? })
    }
}

impl Grant {
    /// Appends the frame to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        let (mut writer, mut map) = Writer::frame(out, Kind::Grant);
        writer.key(&mut map, "id").bin(&self.id.0);
        writer.key(&mut map, "ok").boolean(self.granted);
        writer.finish(map)
    }

    /// Reads the frame. One that does not say yes says no.
    pub fn decode(frame: &Bytes) -> Result<Grant, WireError> {
        let (mut id, mut granted) = (None, false);
        read_frame(frame, Kind::Grant, |key, reader| {
            match key {
                b"id" => id = Some(CallId(reader.exactly("the call id")?)),
                b"ok" => granted = reader.boolean("the answer to a claim")?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(Grant { id: required(id, "call id (id)")?, granted })
    }
}
