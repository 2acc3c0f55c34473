//! Where plugin code runs.
//!
//! The pipeline knows hosts by these two traits only. A host turns a call into whatever its plugin understands
//! (a Python call, a C callback, a NATS message) and always gives the exchange back before the deadline: with
//! the mutations applied, or untouched and a failure. So the pipeline needs no second clock around a call, and
//! a plugin that never answers costs its exchange nothing but its time-out.

/// Looks for handlers that are stuck.
pub mod watchdog;
/// Between a handler that writes a response and whoever takes it.
pub mod pipe;
/// How it is taken.
pub mod pull;
/// Plugins that are shared libraries.
pub mod native;
/// Plugins on workers, over NATS.
pub mod remote;
/// Plugins of the gateway's own.
pub(crate) mod builtin;
/// A plugin that could not be loaded.
mod unloaded;
/// Plugins in processes of their own.
pub mod process;
/// Where frames are written.
mod buffer;
/// Bodies that travel in parts.
mod bodies;
/// A response body that another process is still writing.
mod chunks;
/// What a reply does to an exchange.
mod reply;

pub use unloaded::UnloadedHost;

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use nylon_config::plan::PhasePolicy;
use nylon_core::{Call, Exchange, Failure, Finished, PhaseMask};
use std::any::Any;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// Runs the entries of one plugin.
pub trait PluginHost: Send + Sync {
    /// `python`, `native`, `remote` or `builtin`: the label in metrics and logs.
    fn kind(&self) -> &'static str;

    /// The entry with this name; an error is the text for a config diagnostic. Called when a plan is loaded.
    fn entry(&self, name: &str) -> Result<Arc<dyn PluginEntry>, UnknownEntry>;

    /// Whether calls can be expected to succeed now; an error says why not (for readiness).
    fn ready(&self) -> Result<(), String> {
        Ok(())
    }

    /// Whether calls of these entries, which a plan names, can be expected to succeed now; an error says why not. Asked
    /// before a plan takes over, where it is better to wait than to fail.
    fn ready_for(&self, _entries: &[&str]) -> Result<(), String> {
        self.ready()
    }

    /// What it can tell of its calls, for people: an object.
    fn figures(&self) -> serde_json::Value {
        serde_json::Value::Object(serde_json::Map::new())
    }

    /// Ends the host: no call follows. Blocks its caller for at most `grace` while calls in flight finish.
    fn shutdown(&self, grace: Duration);
}

/// The plugin has no such entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the plugin has no entry {name:?}; it has {}", if known.is_empty() { "none".to_owned() } else { known.join(", ") })]
pub struct UnknownEntry {
    /// The name asked for.
    pub name: String,
    /// The names that exist.
    pub known: Vec<String>,
}

/// One named handler set of a plugin.
pub trait PluginEntry: Send + Sync {
    /// What its handlers want, as known now. A remote entry's answer changes as workers come and go.
    fn traits(&self) -> EntryTraits;

    /// Whether it keeps something of a session between its phases, beside `ctx.state`. If so, all of them have to come
    /// to the process that has it.
    fn keeps_sessions(&self) -> bool {
        true
    }

    /// Runs one phase of one session.
    ///
    /// The future is polled on the data-plane thread that owns the exchange. Dropping it (the client went away)
    /// gives the call up: the host closes the context and frees what the call held.
    fn call<'a>(&'a self, call: PhaseCall<'a>) -> Pending<'a>;
}

/// What an entry's handlers want.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryTraits {
    /// The phases to call. Where they cannot be known (no worker has announced itself) this is all of them, so
    /// that a phase fails by its policy instead of being skipped.
    pub phases: PhaseMask,
    /// `request_filter` finds the request body read (`body=True`).
    pub request_body: bool,
    /// How `response_body_filter` gets the body.
    pub response_body: BodyUse,
}

/// How a `response_body_filter` gets the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyUse {
    /// Read whole before the call.
    Whole,
    /// By chunk, one call for each (`stream=True`).
    ByChunk,
    /// Only where it asks for it, whole then. A body that it neither reads nor replaces streams past untouched.
    OnDemand,
    /// By chunk, where it wants to. It is called once with no chunk, after every filter that may change the head, and may
    /// change it itself; then [`Session::takes_chunks`] says whether the chunks are to follow. For `HEAD` and 304, of
    /// which the head is all, that call is the only one.
    ByChunkIfWanted,
}

impl BodyUse {
    /// For those that know the first two only.
    pub fn by_chunk(stream: bool) -> BodyUse {
        if stream { BodyUse::ByChunk } else { BodyUse::Whole }
    }

    /// Whether the body goes by in chunks, if it is looked at.
    pub fn is_by_chunk(self) -> bool {
        matches!(self, BodyUse::ByChunk | BodyUse::ByChunkIfWanted)
    }
}

/// One call of one phase.
pub struct PhaseCall<'a> {
    /// The exchange; it comes back in the result.
    pub exchange: Box<Exchange>,
    /// Phase, payload, state and attempt.
    pub call: Call,
    /// The phase's policy; the host applies its retry rules, the pipeline its `on_error`.
    pub policy: &'a PhasePolicy,
    /// When the result is due. Time spent in [`BodySource::read`] moves it back.
    pub deadline: Instant,
    /// The session this call belongs to.
    pub session: &'a mut Session,
    /// Reads the request body for a handler that asks for it during its call.
    pub body: &'a mut dyn BodySource,
    /// Reads the response body for a handler that asks for it during its call: with [`BodyUse::OnDemand`], where it has
    /// not been read before. A wait for it moves the deadline back too.
    pub response_body: Option<&'a mut dyn BodySource>,
    /// Where the host leaves the body of a response that its handler goes on writing: beside an `end` in
    /// `request_filter`, at the moment when the head is known.
    pub stream: &'a mut Option<Box<dyn ResponseStream>>,
    /// The mutations are wanted as operations, in [`Finished::ops`]: this process runs the handler for another one.
    pub recording: bool,
}

/// A call's result, at once or later. Hosts that run inline answer at once and cost no allocation.
pub enum Pending<'a> {
    /// Done already.
    Ready(Finished),
    /// Done later, by the call's deadline.
    Later(LocalBoxFuture<'a, Finished>),
}

/// One exchange × one middleware. Dropping it closes the session: a host that keeps something for it puts a
/// value with that `Drop` into `slot`.
#[derive(Default)]
pub struct Session {
    /// `ctx.state` as MessagePack, empty while nothing was stored. The pipeline carries it between phases.
    pub state: Bytes,
    /// Whatever the host keeps for the session.
    pub slot: Option<Box<dyn Any + Send>>,
    /// The chunks of the response's body are wanted: see [`BodyUse::ByChunkIfWanted`].
    pub takes_chunks: bool,
}

/// A response's body that its handler is still writing. It is pulled, so the client's pace holds the handler back;
/// dropping it before its end tells the handler that nobody takes any more.
pub trait ResponseStream {
    /// The next bytes, never empty. `None` is the end; an error says that the body will never be complete. Not to
    /// be asked again after either.
    ///
    /// A handler that writes nothing for as long as its phase's `timeout_ms` is such an error.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Failure>>>;
}

/// A body behind a call.
pub trait BodySource {
    /// Reads the whole body, within the plan's limits for size and for the pace of the client or the upstream. A second
    /// call gives the same bytes again.
    fn read(&mut self) -> LocalBoxFuture<'_, Result<Bytes, Failure>>;

    /// The plan's limit for a body that is held in memory, in bytes.
    fn limit(&self) -> usize;
}
