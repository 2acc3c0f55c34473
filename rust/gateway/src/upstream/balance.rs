//! Which endpoint is next: round robin, over all threads.

use nylon_config::plan::{self, UpstreamLimits};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// One upstream address, as the config names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Address(Arc<(String, u16)>);

impl Address {
    pub(super) fn host(&self) -> &str {
        &self.0.0
    }

    pub(super) fn port(&self) -> u16 {
        self.0.1
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host().contains(':') {
            write!(f, "[{}]:{}", self.host(), self.port())
        } else {
            write!(f, "{}:{}", self.host(), self.port())
        }
    }
}

/// A service over HTTP, shared by all threads.
#[derive(Debug)]
pub struct HttpService {
    name: String,
    endpoints: Vec<Address>,
    limits: UpstreamLimits,
    turn: AtomicUsize,
}

impl HttpService {
    /// `endpoints` is not empty.
    pub fn new(name: &str, endpoints: &[plan::Endpoint], limits: &UpstreamLimits) -> HttpService {
        HttpService {
            name: name.to_owned(),
            endpoints: endpoints.iter().map(|e| Address(Arc::new((e.host.clone(), e.port)))).collect(),
            limits: limits.clone(),
            turn: AtomicUsize::new(0),
        }
    }

    /// Its name in the config.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn limits(&self) -> &UpstreamLimits {
        &self.limits
    }

    pub(super) fn next(&self) -> &Address {
        match self.endpoints.as_slice() {
            [only] => only,
            several => &several[self.turn.fetch_add(1, Ordering::Relaxed) % several.len()],
        }
    }
}
