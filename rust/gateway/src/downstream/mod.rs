//! Clients: from a connection to one well-formed request at a time.

/// One client connection.
mod connection;
/// From what hyper accepts to what Nylon accepts.
mod normalise;
/// The request body under its limits.
mod body;

pub use body::{ClientBody, ClientBodyError};
pub use connection::serve_connection;
pub(crate) use normalise::strip_hop_by_hop;

use hyper::upgrade::OnUpgrade;
use nylon_core::{RequestFacts, RequestHead};

/// One request, normalised.
pub struct Arrived {
    /// What never changes; the path's parameters are still to come.
    pub facts: RequestFacts,
    /// The head.
    pub head: RequestHead,
    /// The body, unread.
    pub body: ClientBody,
    /// The way to take the connection over, where the client asked for an upgrade.
    pub upgrade: Option<OnUpgrade>,
}
