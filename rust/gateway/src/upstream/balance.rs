//! Which endpoint is next: round robin, over all threads.

use nylon_config::plan::{self, EndpointAddress, UpstreamLimits};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// One upstream address, as the config names it. Connections to it are shared by services that give it the same
/// times. It is hashed once, when it is made: the pool is asked with it twice per request.
#[derive(Clone, Debug)]
pub(super) struct Address(Arc<Named>);

#[derive(Debug)]
struct Named {
    endpoint: EndpointAddress,
    limits: UpstreamLimits,
    hash: u64,
}

impl Address {
    fn new(endpoint: &EndpointAddress, limits: &UpstreamLimits) -> Address {
        let mut hasher = DefaultHasher::new();
        endpoint.hash(&mut hasher);
        let (endpoint, limits, hash) = (endpoint.clone(), limits.clone(), hasher.finish());
        Address(Arc::new(Named { endpoint, limits, hash }))
    }

    /// Where it is.
    pub(super) fn endpoint(&self) -> &EndpointAddress {
        &self.0.endpoint
    }

    /// The times that this upstream may take.
    pub(super) fn limits(&self) -> &UpstreamLimits {
        &self.0.limits
    }
}

impl PartialEq for Address {
    fn eq(&self, other: &Address) -> bool {
        let (own, its) = (&*self.0, &*other.0);
        Arc::ptr_eq(&self.0, &other.0) || (own.endpoint == its.endpoint && own.limits == its.limits)
    }
}

impl Eq for Address {}

impl Hash for Address {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.hash);
    }
}

/// Passes an address's own hash on.
#[derive(Default)]
pub(super) struct Hashed(u64);

impl Hasher for Hashed {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.endpoint(), f)
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
    /// The service as the plan has it.
    pub fn new(name: &str, upstream: &plan::Upstream) -> HttpService {
        let address = |e: &plan::Endpoint| Address::new(&e.address, &upstream.limits);
        HttpService {
            name: name.to_owned(),
            endpoints: upstream.endpoints.iter().map(address).collect(),
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
