//! An endpoint as the configuration has it: an address, or a name that leads to some.

use super::super::tls::EndpointTls;
use super::address::{Target, is_name};
use super::clock;
use super::service::locked;
use nylon_config::plan::{self, EndpointAddress};
use std::net::{IpAddr, SocketAddr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// What stands in the list of a service's endpoints.
pub(in crate::upstream) struct Origin {
    address: EndpointAddress,
    pub(super) weight: u32,
    tls: Option<EndpointTls>,
    /// What its name resolved to. `None`: it never did.
    found: Mutex<Option<Vec<IpAddr>>>,
    /// When its name will be resolved again.
    next: AtomicU64,
}

impl Origin {
    /// As it is written; `known` is the same one of the plan before.
    pub(super) fn new(endpoint: &plan::Endpoint, tls: Option<EndpointTls>, known: Option<&Origin>) -> Origin {
        Origin {
            address: endpoint.address.clone(),
            weight: endpoint.weight,
            tls,
            found: Mutex::new(known.and_then(|known| locked(&known.found).clone())),
            next: AtomicU64::new(known.map_or(0, Origin::next_resolution)),
        }
    }

    /// The name to be resolved, where it is one.
    pub(in crate::upstream) fn name(&self) -> Option<&str> {
        match &self.address {
            EndpointAddress::Tcp { host, .. } if is_name(host) => Some(host),
            _ => None,
        }
    }

    /// As it is written.
    pub(super) fn address(&self) -> &EndpointAddress {
        &self.address
    }

    pub(super) fn tls(&self) -> Option<&EndpointTls> {
        self.tls.as_ref()
    }

    /// Its name will be resolved again after this time.
    pub(in crate::upstream) fn resolved_next(&self, in_time: Duration) {
        self.next.store(clock::now() + clock::millis(in_time), Relaxed);
    }

    pub(super) fn next_resolution(&self) -> u64 {
        self.next.load(Relaxed)
    }

    pub(in crate::upstream) fn is_resolved(&self) -> bool {
        self.name().is_none() || locked(&self.found).is_some()
    }

    /// Its name leads to these addresses. Says whether that is news.
    pub(super) fn found(&self, mut addresses: Vec<IpAddr>) -> bool {
        addresses.sort_unstable();
        addresses.dedup();
        let mut found = locked(&self.found);
        let news = found.as_ref() != Some(&addresses);
        *found = Some(addresses);
        news
    }

    /// Where it leads now.
    pub(super) fn targets(&self) -> Vec<Target> {
        match &self.address {
            EndpointAddress::Unix(path) => vec![Target::Unix(path.clone())],
            EndpointAddress::Tcp { host, port } => {
                let tcp = |ip| Target::Tcp(SocketAddr::new(ip, *port));
                match host.parse() {
                    Ok(ip) => vec![tcp(ip)],
                    Err(_) => locked(&self.found).iter().flatten().copied().map(tcp).collect(),
                }
            }
        }
    }
}
