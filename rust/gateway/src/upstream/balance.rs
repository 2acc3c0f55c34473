//! Which endpoint is next: round robin, over all threads.

use super::tls::{EndpointTls, ServiceTls};
use nylon_config::plan::{self, EndpointAddress, Protocol, UpstreamLimits};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// One upstream address, as the config names it. Connections to it are shared by services that give it the same
/// times. It is hashed once, when it is made: the pool is asked with it twice per request.
#[derive(Clone)]
pub(super) struct Address(Arc<Named>);

struct Named {
    endpoint: EndpointAddress,
    protocol: Protocol,
    tls: Option<EndpointTls>,
    limits: UpstreamLimits,
    hash: u64,
}

impl Address {
    fn new(endpoint: &EndpointAddress, tls: Option<EndpointTls>, upstream: &plan::Upstream) -> Address {
        let mut hasher = DefaultHasher::new();
        endpoint.hash(&mut hasher);
        Address(Arc::new(Named {
            endpoint: endpoint.clone(),
            protocol: upstream.protocol,
            tls,
            limits: upstream.limits.clone(),
            hash: hasher.finish(),
        }))
    }

    /// Where it is.
    pub(super) fn endpoint(&self) -> &EndpointAddress {
        &self.0.endpoint
    }

    /// How it speaks TLS, if it does.
    pub(super) fn tls(&self) -> Option<&EndpointTls> {
        self.0.tls.as_ref()
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
            || (own.endpoint == its.endpoint
                && own.protocol == its.protocol
                && own.tls == its.tls
                && own.limits == its.limits)
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
pub struct HttpService {
    name: String,
    endpoints: Vec<Address>,
    turn: AtomicUsize,
}

impl HttpService {
    /// The service as the plan has it.
    ///
    /// # Errors
    /// What is wrong with the files that its TLS needs.
    pub fn new(name: &str, upstream: &plan::Upstream) -> Result<HttpService, String> {
        let tls = upstream.tls.as_ref().map(|tls| ServiceTls::load(tls, upstream.protocol)).transpose()?;
        let address = |endpoint: &plan::Endpoint| {
            let tls = tls.as_ref().map(|tls| tls.to(&endpoint.address)).transpose()?;
            Ok::<_, String>(Address::new(&endpoint.address, tls, upstream))
        };
        Ok(HttpService {
            name: name.to_owned(),
            endpoints: upstream.endpoints.iter().map(address).collect::<Result<_, _>>()?,
            turn: AtomicUsize::new(0),
        })
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
