//! Which endpoint is next: round robin, over all threads.

use nylon_config::plan::{self, UpstreamLimits};
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
    host: String,
    port: u16,
    limits: UpstreamLimits,
    hash: u64,
}

impl Address {
    fn new(host: &str, port: u16, limits: &UpstreamLimits) -> Address {
        let mut hasher = DefaultHasher::new();
        (host, port).hash(&mut hasher);
        let (host, limits, hash) = (host.to_owned(), limits.clone(), hasher.finish());
        Address(Arc::new(Named { host, port, limits, hash }))
    }

    pub(super) fn host(&self) -> &str {
        &self.0.host
    }

    pub(super) fn port(&self) -> u16 {
        self.0.port
    }

    /// The times that this upstream may take.
    pub(super) fn limits(&self) -> &UpstreamLimits {
        &self.0.limits
    }
}

impl PartialEq for Address {
    fn eq(&self, other: &Address) -> bool {
        let (own, its) = (&*self.0, &*other.0);
        Arc::ptr_eq(&self.0, &other.0)
            || (own.host == its.host && own.port == its.port && own.limits == its.limits)
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
        let address = |e: &plan::Endpoint| Address::new(&e.host, e.port, limits);
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
