//! Services over HTTP: endpoints, connections, and one request on one of them.

/// Which endpoint is next.
mod balance;
/// From an address to a connection that speaks HTTP.
mod connect;
/// TLS to the endpoints of one service.
mod tls;
/// What may stand behind a body.
mod trailers;
/// A client's body whose beginning is kept.
mod kept;
/// Connections that carry many requests.
mod lines;
/// One request on such a connection.
mod http2;
/// The clocks of one connection.
mod watch;
/// Idle connections of one thread.
mod pool;
/// Bodies on their way to a service and back.
mod body;
/// Why there is no response.
mod error;
/// Where a request has been, and where it may go next.
mod course;
/// One request to a service, and its response.
mod forward;
/// The same for a service that sends requests once more.
mod retry;
/// What goes on beside requests: names are resolved, endpoints are checked.
mod background;
/// What is left of a connection when it no longer speaks HTTP.
mod tunnel;

pub(crate) use background::Background;
pub use balance::HttpService;
pub use body::{ForwardBody, UpstreamBody, UpstreamBodyError};
pub use error::ForwardError;
pub use forward::{Forwarded, Outgoing, forward};
pub use pool::Pool;
