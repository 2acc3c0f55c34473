//! Nylon's data plane, in the order in which a request flows through it.
//!
//! One single-threaded runtime per core owns its connections, its upstream pools and its exchanges: nothing on
//! the way of a request is shared between threads but the plan, which is swapped whole.

/// What runs a plugin's code: the two host traits, and the hosts that need no Python.
pub mod plugin;
/// Clients: listeners, connections, well-formed requests.
pub mod downstream;
/// TLS towards clients: certificates, handshakes.
pub mod tls;
/// A TCP connection as the data plane writes to it.
mod socket;
/// Tells the tasks of one thread to come to an end.
mod stop;
/// What belongs to one data-plane thread.
pub mod worker;
/// From a request's head to its response, through the phases.
pub mod pipeline;
/// Services over HTTP: endpoints, connections, forwarding.
pub mod upstream;
/// Services that are directories of files.
pub mod files;
/// From error to answer.
pub mod respond;
/// Certificates from an authority that issues them by itself.
pub mod acme;
/// What clients like, and how much.
mod likes;
/// How changes of files are noticed.
mod stamp;
/// Whom the gateway believes where it is a client.
mod trust;
/// Errors with what has caused them.
mod causes;
/// Listeners, threads, start and stop.
pub mod server;
