//! Which endpoint is next: round robin.

use nylon_config::plan::{Endpoint, UpstreamLimits};
use std::sync::atomic::{AtomicUsize, Ordering};

/// A service over HTTP, shared by all threads.
#[derive(Debug)]
pub struct HttpService {
    name: String,
    endpoints: Vec<Endpoint>,
    pub(super) limits: UpstreamLimits,
    turn: AtomicUsize,
}

impl HttpService {
    /// `endpoints` is not empty.
    pub fn new(name: &str, endpoints: &[Endpoint], limits: &UpstreamLimits) -> HttpService {
        HttpService {
            name: name.to_owned(),
            endpoints: endpoints.to_vec(),
            limits: limits.clone(),
            turn: AtomicUsize::new(0),
        }
    }

    /// Its name in the config.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn next(&self) -> &Endpoint {
        &self.endpoints[self.turn.fetch_add(1, Ordering::Relaxed) % self.endpoints.len()]
    }
}
