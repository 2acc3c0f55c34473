//! Clients: from a connection to one well-formed request at a time.

/// One client connection.
mod connection;
/// Deadlines.
mod clock;
/// A client's connection, plain or over TLS.
mod stream;
/// The client's socket, whatever it speaks.
mod socket;
/// What a client speaks.
mod preface;
/// A connection that speaks HTTP/1.
mod http1;
/// A connection that speaks HTTP/2.
mod http2;
/// The socket of a client that speaks HTTP/1, and its clocks.
mod io;
/// Where one message ends and the next begins, judged by the bytes.
mod framing;
/// From what hyper accepts to what Nylon accepts.
mod normalise;
/// One spelling per path.
mod path;
/// What a client wants to speak instead of HTTP.
mod upgrade;
/// The request body under its limits.
mod body;

pub use body::{ClientBody, ClientBodyError};
pub(crate) use connection::serve_connection;
pub(crate) use normalise::{strip_but_trailers, strip_hop_by_hop};
pub(crate) use path::normalise_path;
pub(crate) use stream::{ClientStream, HTTP2};
pub use upgrade::Upgrade;

use http::HeaderValue;
use http::uri::Authority;
use nylon_core::{RequestFacts, RequestHead, Scheme};
use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};

/// The two ends of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// The client's.
    pub peer: SocketAddr,
    /// The listener's; it may stand for all addresses of this machine.
    pub local: SocketAddr,
}

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub struct Client {
    /// The peer's address.
    pub ip: IpAddr,
    /// The same as a field value.
    pub ip_value: HeaderValue,
    /// The address that it connected to.
    pub local: SocketAddr,
    /// What the connection speaks.
    pub scheme: Scheme,
    /// The host of its last request, already checked: it is mostly the next one's too.
    pub(crate) host: RefCell<Option<Authority>>,
}

/// One request, normalised.
pub struct Arrived {
    /// What never changes; the path's parameters are still to come.
    pub facts: RequestFacts,
    /// The head.
    pub head: RequestHead,
    /// The body, unread.
    pub body: ClientBody,
    /// What the client wants to speak instead of HTTP.
    pub upgrade: Option<Upgrade>,
}
