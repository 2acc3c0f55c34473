//! Native plugins over real sockets: shared libraries that the C compiler makes from `plugins/`.

#[path = "../plane/client.rs"]
#[allow(dead_code)] // Each suite needs a part of it.
mod client;
#[path = "../plane/origin.rs"]
#[allow(dead_code)]
mod origin;

mod bodies;
mod building;
mod deciding;
mod faults;
mod gateway;
mod instances;
mod lateness;
mod streams;
mod unloading;
mod reading;
mod writing;
