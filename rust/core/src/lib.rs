//! What a plugin handler sees, whatever runs it.
//!
//! The gateway, the in-process hosts and the NATS workers all build the same [`Context`] out of these types,
//! and every mutation a handler makes is an [`Op`] that one function ([`Op::apply`]) applies to an
//! [`Exchange`]. "Same code, same behaviour" therefore holds by construction. There is no I/O here, no async
//! runtime, no HTTP engine beyond the `http` crate's plain types, and no Python.

/// The four phases of a plugin, and sets of them.
pub mod phase;
/// Request and response heads, and the facts of a request that never change.
pub mod head;
/// What a path pattern captured.
pub mod params;
/// One request and its response on their way through the phases.
pub mod exchange;
/// One mutation, what each phase allows, and the only place where mutations are applied.
pub mod op;
/// What a call of a handler came to.
pub mod outcome;
/// A handler's view of one phase: reads, its own writes, one decision.
pub mod context;
/// Text with parts that come from the request.
pub mod template;

pub use context::{Call, Chunk, Context, DecisionError, Finished, StreamError};
pub use exchange::{Exchange, RequestBody, ResponseBody, Sent};
pub use head::{RequestFacts, RequestHead, RequestId, ResponseHead, Scheme, TargetPart, cookie, joined};
pub use op::{Op, OpError};
pub use outcome::{Decision, Failure, FailureKind, Outcome};
pub use params::Params;
pub use phase::{Phase, PhaseMask};
pub use template::Template;
