//! The frames that a gateway and its workers exchange over NATS, and the subjects they travel on.
//!
//! Every frame is a MessagePack map with short string keys: `t` names the kind, `v` the version of the sender.
//! Keys that a reader does not know are skipped, so version N speaks with N-1 in both directions. Decoding
//! trusts nobody: lengths are checked against the bytes that are there before anything is allocated, every
//! count has a limit, and a decoded operation has been through the same checks as one made by a handler.
//! There is no I/O here; the table of frames and keys is docs/nats-protocol.md.

/// Why a frame or a name was refused.
pub mod error;
/// The limits of a frame and its parts.
pub mod limits;
/// Reads MessagePack without copying and without trusting it.
mod reader;
/// Writes MessagePack into a buffer that is used again.
mod writer;
/// What every frame starts with: its kind, the sender's version, the call it is about.
pub mod envelope;
/// Heads, facts and bodies: the parts of a call.
mod section;
/// Gateway to worker: run one phase.
pub mod call;
/// One mutation as a small array.
mod op;
/// Worker to gateway: the result.
pub mod reply;
/// Signs about a call beside its result: arrived, no room, where is it, who may run it.
pub mod sign;
/// A body that did not travel with its call: asked for, and sent after.
pub mod body;
/// Parts of a body that a handler made, and the room for them.
pub mod chunk;
/// A body cut into parts, and put together again.
pub mod transfer;
/// Gateway to worker: a session is over.
pub mod session;
/// What a worker says of itself.
pub mod worker;
/// First and last frames between a gateway and a process that runs one plugin for it.
pub mod process;
/// The subjects that frames travel on.
pub mod subjects;

pub use body::{BodyFrame, Part, ReadFrame, Which};
pub use call::{BodyPart, CallFrame, CallMeta, encode_call};
pub use chunk::{ChunkFrame, CreditFrame};
pub use envelope::{CallId, Envelope, Kind, SessionId, Text, VERSION};
pub use error::WireError;
pub use process::{Refusal, Start, Stop};
pub use reply::Reply;
pub use session::Close;
pub use sign::{Ack, Busy, Claim, Grant, Probe, Unknown};
pub use subjects::{GroupSubjects, SubjectError};
pub use transfer::{Incoming, Outgoing};
pub use worker::{EntryInfo, EntryShape, Info, Leave};
