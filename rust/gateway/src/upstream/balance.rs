//! Which endpoint is next: round robin, over all threads.

use nylon_config::plan::{self, UpstreamLimits};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// One upstream address, as the config names it. Connections to it are shared by services that give it the same
/// times.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Address(Arc<(String, u16, UpstreamLimits)>);

impl Address {
    pub(super) fn host(&self) -> &str {
        &self.0.0
    }

    pub(super) fn port(&self) -> u16 {
        self.0.1
    }

    /// The times that this upstream may take.
    pub(super) fn limits(&self) -> &UpstreamLimits {
        &self.0.2
    }
}

impl Eq for Address {}

impl Hash for Address {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.host().hash(state);
        self.port().hash(state);
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
    turn: AtomicUsize,
}

impl HttpService {
    /// `endpoints` is not empty.
    pub fn new(name: &str, endpoints: &[plan::Endpoint], limits: &UpstreamLimits) -> HttpService {
        let address = |e: &plan::Endpoint| Address(Arc::new((e.host.clone(), e.port, limits.clone())));
        HttpService {
            name: name.to_owned(),
            endpoints: endpoints.iter().map(address).collect(),
            turn: AtomicUsize::new(0),
        }
    }

    /// Its name in the config.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whose turn it is.
    pub(super) fn turn(&self) -> usize {
        match self.endpoints.len() {
            1 => 0,
            several => self.turn.fetch_add(1, Ordering::Relaxed) % several,
        }
    }

    /// The endpoint whose turn it is.
    pub(super) fn at(&self, turn: usize) -> &Address {
        &self.endpoints[turn]
    }

    /// All endpoints from that one on: where it cannot be reached, the others are tried.
    pub(super) fn from(&self, turn: usize) -> impl Iterator<Item = &Address> {
        self.endpoints[turn..].iter().chain(&self.endpoints[..turn])
    }
}
