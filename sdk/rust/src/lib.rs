#![doc = include_str!("../README.md")]
#![warn(missing_docs)]

mod answers;
mod context;
mod deferred;
mod error;
mod library;
mod link;
mod loaded;
mod open;
mod panics;
mod phase;
mod plugin;
mod request;
mod response;
mod sessions;
mod stream;

/// What `export_plugin!` is made of.
#[doc(hidden)]
pub mod export;
/// Running handlers without a gateway.
pub mod testing;

pub use context::{Chunk, Context, Decision};
pub use deferred::Deferred;
pub use error::{Error, ErrorKind, Outcome, Result};
pub use http;
pub use phase::Phase;
pub use plugin::{Plugin, Session};
pub use request::Request;
pub use response::Response;
pub use serde_json::json;
pub use stream::ResponseStream;
