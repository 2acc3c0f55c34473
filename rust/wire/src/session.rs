//! Gateway to worker, on the worker's own subject: a session is over, whatever the worker keeps for it can go.

use crate::envelope::{Kind, SessionId, read_frame, required};
use crate::error::WireError;
use crate::writer::Writer;
use bytes::Bytes;

/// A session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Close {
    /// The session.
    pub session: SessionId,
}

impl Close {
    /// Appends the frame to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        let (mut writer, mut map) = Writer::frame(out, Kind::Close);
        writer.key(&mut map, "s").bin(&self.session.0);
        writer.finish(map)
    }

    /// Reads the frame.
    pub fn decode(frame: &Bytes) -> Result<Close, WireError> {
        let mut session = None;
        read_frame(frame, Kind::Close, |key, reader| match key {
            b"s" => {
                session = Some(SessionId(reader.exactly("the session id")?));
                Ok(true)
            }
            _ => Ok(false),
        })?;
        Ok(Close { session: required(session, "session id (s)")? })
    }
}
