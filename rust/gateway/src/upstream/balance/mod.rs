//! Which endpoint is next.
//!
//! A service has a set of endpoints, which is swapped whole when a name resolves to others. What is known of an
//! endpoint (its requests in flight, its health) stands in atomics that all threads share, so a choice takes no lock,
//! but for the weighted turn. A choice is a [`Seat`]: it counts as a request in flight until it is dropped.
//!
//! The ways to choose are plain functions over shares and loads, without endpoints, clocks or threads; a share of
//! 0 is an endpoint that cannot be chosen now, be it sick, left alone, full or tried before.

/// Where an endpoint is.
mod address;
/// The ways to choose one of several.
mod choice;
/// A turn for each, in proportion, without runs.
mod smooth;
/// The same endpoint for the same key.
mod rendezvous;
/// Milliseconds that fit into an atomic.
pub(super) mod clock;
/// What is known of an endpoint.
mod endpoint;
/// Endpoints that are found sick by what they answer.
mod ejection;
/// Endpoints that are found sick by asking them.
mod health;
/// How many requests may be sent once more.
mod budget;
/// Requests that wait for a place.
mod gate;
/// An endpoint as the configuration has it.
mod origin;
/// A service and its endpoints.
mod service;
/// What people are told of a service.
mod figures;

pub(super) use address::{Address, Hashed, Target};
pub(super) use endpoint::{Endpoint, Seat};
pub use service::HttpService;
pub(super) use service::{Key, Refused};
