//! Services over HTTP.

/// Which endpoint is next.
mod balance;
/// Idle connections of one thread.
mod pool;
/// One request to a service, and its response.
mod forward;

pub use balance::HttpService;
pub use forward::{ForwardBody, ForwardError, Forwarded, Outgoing, UpstreamBody, forward};
pub use pool::Pool;
