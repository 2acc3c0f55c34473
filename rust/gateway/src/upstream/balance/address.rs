//! Where an endpoint is: as the configuration names it, and where that leads.

use super::super::tls::EndpointTls;
use nylon_config::plan::{self, EndpointAddress, Protocol, UpstreamLimits};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// Where to connect to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::upstream) enum Target {
    /// A port of an IP address.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

/// One upstream address. Connections to it are shared by services that give it the same times. It is hashed once, when
/// it is made: the pool is asked with it twice per request.
#[derive(Clone)]
pub(in crate::upstream) struct Address(Arc<Named>);

struct Named {
    endpoint: EndpointAddress,
    target: Target,
    protocol: Protocol,
    tls: Option<EndpointTls>,
    limits: UpstreamLimits,
    hash: u64,
}

impl Address {
    pub(super) fn new(
        endpoint: &EndpointAddress,
        target: Target,
        tls: Option<EndpointTls>,
        upstream: &plan::Upstream,
    ) -> Address {
        let mut hasher = DefaultHasher::new();
        (endpoint, &target).hash(&mut hasher);
        Address(Arc::new(Named {
            endpoint: endpoint.clone(),
            target,
            protocol: upstream.protocol,
            tls,
            limits: upstream.limits.clone(),
            hash: hasher.finish(),
        }))
    }

    /// Where it is, as the configuration names it.
    pub(in crate::upstream) fn endpoint(&self) -> &EndpointAddress {
        &self.0.endpoint
    }

    /// Where that leads.
    pub(in crate::upstream) fn target(&self) -> &Target {
        &self.0.target
    }

    /// What it speaks.
    pub(in crate::upstream) fn protocol(&self) -> Protocol {
        self.0.protocol
    }

    /// How it speaks TLS, if it does.
    pub(in crate::upstream) fn tls(&self) -> Option<&EndpointTls> {
        self.0.tls.as_ref()
    }

    /// The times that this upstream may take.
    pub(in crate::upstream) fn limits(&self) -> &UpstreamLimits {
        &self.0.limits
    }
}

impl PartialEq for Address {
    fn eq(&self, other: &Address) -> bool {
        let (own, its) = (&*self.0, &*other.0);
        Arc::ptr_eq(&self.0, &other.0)
            || (own.endpoint == its.endpoint
                && own.target == its.target
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
pub(in crate::upstream) struct Hashed(u64);

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

/// `app.internal:3000 (10.0.0.7)` where a name led there.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.endpoint(), f)?;
        match (self.endpoint(), self.target()) {
            (EndpointAddress::Tcp { host, .. }, Target::Tcp(target)) if is_name(host) => {
                write!(f, " ({})", target.ip())
            }
            _ => Ok(()),
        }
    }
}

/// Whether a host is to be resolved.
pub(in crate::upstream) fn is_name(host: &str) -> bool {
    host.parse::<std::net::IpAddr>().is_err()
}
