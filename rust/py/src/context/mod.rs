//! `ctx`: the very same class in the gateway and in a worker.
//!
//! The Python classes hold no data but a lease on `nylon_core::Context`: reads look into it, writes become its
//! `Op`s. What is decoded for Python (the payload, the state) is kept per call, so that handlers cannot disturb
//! each other.

/// The cell between Python and the host.
pub(crate) mod lease;
/// Awaitables that have their result.
mod done;
/// Header fields.
pub(crate) mod headers;
/// The request.
pub(crate) mod request;
/// The response.
pub(crate) mod response;
/// A response that is being written.
pub(crate) mod stream;
/// `ctx.state`.
pub(crate) mod state;
/// `ctx` itself.
mod root;

pub(crate) use headers::Headers;
pub(crate) use lease::{Labels, Lease, Owner};
pub(crate) use request::{Request, wake_readers};
pub(crate) use response::Response;
pub(crate) use root::Context;
pub(crate) use stream::{Manner, Outlet, Pipe, ResponseStream, wake_writer};
