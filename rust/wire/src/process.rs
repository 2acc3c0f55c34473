//! What a gateway and the process that runs one plugin for it say beside calls and their answers: their first frames
//! and their last. These never travel over NATS; the rest of what the two say is what a gateway and a worker say.
//!
//! On the socket between them each frame follows its length, four bytes, the highest first.

use crate::envelope::{Kind, read_frame, required};
use crate::error::WireError;
use crate::limits::MAX_FRAME;
use crate::section::shorten;
use crate::writer::Writer;
use bytes::Bytes;
use std::time::Duration;

/// Gateway to process, the first frame: what to run. The answer is an [`crate::Info`] or a [`Refusal`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// A JSON text, which only the two know: both are of one version.
    pub recipe: Bytes,
}

impl Start {
    /// Appends the frame to `out`; on an error `out` is as it was.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        let (mut writer, mut map) = Writer::frame(out, Kind::Start);
        writer.key(&mut map, "d").bin(&self.recipe);
        writer.finish(map)
    }

    /// Reads the frame.
    pub fn decode(frame: &Bytes) -> Result<Start, WireError> {
        let mut recipe = None;
        read_frame(frame, Kind::Start, |key, reader| match key {
            b"d" => {
                recipe = Some(reader.shared("what to run", MAX_FRAME)?);
                Ok(true)
            }
            _ => Ok(false),
        })?;
        Ok(Start { recipe: required(recipe, "recipe (d)")? })
    }
}

/// Process to gateway, in the place of an `Info`: why the plugin cannot run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// For people: what is wrong, and where in the plugin.
    pub why: String,
}

impl Refusal {
    /// Appends the frame to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        let (mut writer, mut map) = Writer::frame(out, Kind::Refusal);
        writer.key(&mut map, "m").text(shorten(&self.why));
        writer.finish(map)
    }

    /// Reads the frame.
    pub fn decode(frame: &Bytes) -> Result<Refusal, WireError> {
        let mut why = None;
        read_frame(frame, Kind::Refusal, |key, reader| match key {
            b"m" => {
                why = Some(reader.text("the reason", MAX_FRAME)?.to_owned());
                Ok(true)
            }
            _ => Ok(false),
        })?;
        Ok(Refusal { why: required(why, "reason (m)")? })
    }
}

/// Gateway to process, the last frame: no call follows, end the plugin and yourself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stop {
    /// The time for it.
    pub remaining: Duration,
}

impl Stop {
    /// Appends the frame to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        let (mut writer, mut map) = Writer::frame(out, Kind::Stop);
        let remaining = u64::try_from(self.remaining.as_millis()).unwrap_or(u64::MAX);
        writer.key(&mut map, "ms").uint(remaining);
        writer.finish(map)
    }

    /// Reads the frame.
    pub fn decode(frame: &Bytes) -> Result<Stop, WireError> {
        let mut remaining = None;
        read_frame(frame, Kind::Stop, |key, reader| match key {
            b"ms" => {
                remaining = Some(Duration::from_millis(reader.uint("the time left")?));
                Ok(true)
            }
            _ => Ok(false),
        })?;
        Ok(Stop { remaining: required(remaining, "time left (ms)")? })
    }
}
