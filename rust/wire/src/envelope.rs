//! What every frame starts with. A receiver looks here first: to know the kind, and which call a frame is about
//! even when the rest of it turns out to be malformed, so that it can be answered.

use crate::error::WireError;
use crate::limits::MAX_NAME;
use crate::reader::Reader;
use bytes::Bytes;
use std::fmt;

/// The version of the protocol that this crate writes. It grows when a peer must be able to tell.
pub const VERSION: u64 = 1;

/// Names one call: the same in every attempt, never used again.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CallId(pub [u8; 16]);

/// Names one session. Its first eight bytes name the gateway's connection, so that a worker can tell which
/// sessions are of a gateway that fell silent.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId(pub [u8; 16]);

fn hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

impl fmt::Debug for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

/// Text inside a frame, without a copy of its own.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Text(Bytes);

impl Text {
    /// The text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("a Text is UTF-8: checked when made")
    }

    pub(crate) fn read(reader: &mut Reader<'_>, what: &'static str) -> Result<Text, WireError> {
        let text = reader.text(what, MAX_NAME)?;
        Ok(Text(reader.share(text.as_bytes())))
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Text {
        Text(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// The kinds of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Gateway to worker: run one phase.
    Call,
    /// Worker to gateway: its result.
    Reply,
    /// Worker to gateway: the call has arrived and will run.
    Ack,
    /// Worker to gateway: the call has arrived and will not run, for want of room.
    Busy,
    /// Worker to gateway: send the body of this call.
    Read,
    /// Gateway to worker: the body, or a part of it.
    Body,
    /// Worker to gateway: a part of a body that a handler made.
    Chunk,
    /// Gateway to worker: so many more chunks may come.
    Credit,
    /// Gateway to worker: do you have this call?
    Probe,
    /// Worker to gateway: no.
    Unknown,
    /// Worker to gateway: may I run this call?
    Claim,
    /// Gateway to worker: yes or no.
    Grant,
    /// Gateway to worker: the session is over.
    Close,
    /// Worker to everybody: here I am, this is what I run.
    Info,
    /// Worker to everybody: I take no new sessions.
    Leave,
    /// Gateway to a plugin's own process: what to run.
    Start,
    /// A plugin's own process to its gateway: it cannot run.
    Refusal,
    /// Gateway to a plugin's own process: end.
    Stop,
}

impl Kind {
    const ALL: [Kind; 18] = [
        Kind::Call,
        Kind::Reply,
        Kind::Ack,
        Kind::Busy,
        Kind::Read,
        Kind::Body,
        Kind::Chunk,
        Kind::Credit,
        Kind::Probe,
        Kind::Unknown,
        Kind::Claim,
        Kind::Grant,
        Kind::Close,
        Kind::Info,
        Kind::Leave,
        Kind::Start,
        Kind::Refusal,
        Kind::Stop,
    ];

    /// The name in a frame's `t`.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Call => "call",
            Kind::Reply => "reply",
            Kind::Ack => "ack",
            Kind::Busy => "busy",
            Kind::Read => "read",
            Kind::Body => "body",
            Kind::Chunk => "chunk",
            Kind::Credit => "credit",
            Kind::Probe => "probe",
            Kind::Unknown => "unknown",
            Kind::Claim => "claim",
            Kind::Grant => "grant",
            Kind::Close => "close",
            Kind::Info => "info",
            Kind::Leave => "leave",
            Kind::Start => "start",
            Kind::Refusal => "refusal",
            Kind::Stop => "stop",
        }
    }
}

/// The first look at a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// What it is.
    pub kind: Kind,
    /// The sender's version.
    pub version: u64,
    /// The call it is about, where it is about one.
    pub id: Option<CallId>,
}

impl Envelope {
    /// Reads kind, version and call id, and looks no further than it must. Frames of a kind that this version
    /// does not know are a [`WireError::Kind`].
    pub fn peek(frame: &Bytes) -> Result<Envelope, WireError> {
        let mut reader = Reader::new(frame);
        let (mut kind, mut version, mut id) = (None, None, None);
        for _ in 0..reader.map("the frame")? {
            match reader.key()? {
                b"t" => kind = Some(read_kind(&mut reader)?),
                b"v" => version = Some(read_version(&mut reader)?),
                b"id" => id = Some(CallId(reader.exactly("the call id")?)),
                _ => {
                    // A frame about a call has its id among the first three keys.
                    if let (Some(kind), Some(version)) = (kind, version) {
                        return Ok(Envelope { kind, version, id });
                    }
                    reader.skip()?;
                }
            }
            if let (Some(kind), Some(version), Some(_)) = (kind, version, id) {
                return Ok(Envelope { kind, version, id });
            }
        }
        Ok(Envelope {
            kind: kind.ok_or(WireError::Missing { what: "kind (t)" })?,
            version: version.ok_or(WireError::Missing { what: "version (v)" })?,
            id,
        })
    }
}

fn read_kind(reader: &mut Reader<'_>) -> Result<Kind, WireError> {
    let name = reader.text("the kind (t)", MAX_NAME)?;
    Kind::ALL
        .into_iter()
        .find(|kind| kind.name() == name)
        .ok_or_else(|| WireError::Kind { found: name.chars().take(40).collect() })
}

fn read_version(reader: &mut Reader<'_>) -> Result<u64, WireError> {
    match reader.uint("the version (v)")? {
        0 => Err(WireError::Version(0)),
        version => Ok(version),
    }
}

/// Reads a frame of one kind: hands every key but `t` and `v` to `field`, which answers false for one it does
/// not know.
pub(crate) fn read_frame<'a>(
    frame: &'a Bytes,
    expected: Kind,
    mut field: impl FnMut(&[u8], &mut Reader<'a>) -> Result<bool, WireError>,
) -> Result<(), WireError> {
    let mut reader = Reader::new(frame);
    let (mut kind, mut version) = (false, false);
    for _ in 0..reader.map("the frame")? {
        match reader.key()? {
            b"t" => {
                let found = read_kind(&mut reader)?;
                if found != expected {
                    return Err(WireError::Kind { found: found.name().to_owned() });
                }
                kind = true;
            }
            b"v" => version = read_version(&mut reader).map(|_| true)?,
            key => {
                if !field(key, &mut reader)? {
                    reader.skip()?;
                }
            }
        }
    }
    match (kind, version) {
        (true, true) => reader.finish(),
        (false, _) => Err(WireError::Missing { what: "kind (t)" }),
        (_, false) => Err(WireError::Missing { what: "version (v)" }),
    }
}

/// Reads a map inside a frame the same way.
pub(crate) fn read_map<'a>(
    reader: &mut Reader<'a>,
    what: &'static str,
    mut field: impl FnMut(&[u8], &mut Reader<'a>) -> Result<bool, WireError>,
) -> Result<(), WireError> {
    for _ in 0..reader.map(what)? {
        let key = reader.key()?;
        if !field(key, reader)? {
            reader.skip()?;
        }
    }
    Ok(())
}

/// The value of a key that must be there.
pub(crate) fn required<T>(value: Option<T>, what: &'static str) -> Result<T, WireError> {
    value.ok_or(WireError::Missing { what })
}
