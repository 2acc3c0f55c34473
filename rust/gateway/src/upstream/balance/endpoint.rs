//! What is known of an endpoint, by all threads at once.

use super::clock;
use super::ejection::Ejection;
use super::gate::Gate;
use super::health::Health;
use super::{Address, rendezvous};
use nylon_config::plan::Balancing;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::time::Duration;

/// What a weight of 1 is worth: shares are hundredths of it, for an endpoint that comes back by and by.
const FULL: u64 = 100;
/// The part of its share that an endpoint which comes back has at first, in percent.
const FIRST: u64 = 10;

/// One of a service's endpoints.
pub(in crate::upstream) struct Endpoint {
    pub(in crate::upstream) address: Address,
    pub(super) weight: u32,
    /// Requests that it may have at once.
    pub(super) limit: usize,
    /// Its name's hash, the same in every process.
    pub(super) hash: u64,
    /// Whether its service asks it how it is.
    checked: bool,
    /// Whether its service judges it by its answers.
    judged: bool,
    pub(super) state: Arc<State>,
    /// Where those wait who find no place.
    gate: Arc<Gate>,
}

/// What outlives a reload.
#[derive(Debug, Default)]
pub(super) struct State {
    in_flight: AtomicUsize,
    pub(super) health: Health,
    pub(super) ejection: Ejection,
    /// Since when it is back, while it does not have its full share; 0 is not.
    back_since: AtomicU64,
}

/// What can be said of an endpoint in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    Healthy,
    Unhealthy,
    Ejected,
}

impl Endpoint {
    pub(super) fn new(
        address: Address,
        weight: u32,
        balancing: &Balancing,
        state: Arc<State>,
        gate: Arc<Gate>,
    ) -> Endpoint {
        let hash = rendezvous::hash(address.to_string().as_bytes());
        let limit = balancing.circuit_breaker.as_ref().map_or(usize::MAX, |breaker| breaker.max_connections);
        let (checked, judged) = (balancing.health_check.is_some(), balancing.passive_health.is_some());
        Endpoint { address, weight, limit, hash, checked, judged, state, gate }
    }

    /// Whether its checks say so.
    pub(super) fn is_sick(&self) -> bool {
        self.checked && self.state.health.is_sick()
    }

    /// Until when it is left alone because of its answers.
    pub(super) fn ejected_until(&self) -> u64 {
        if self.judged { self.state.ejection.until() } else { 0 }
    }

    /// When it is to be checked again; 0 if it never was.
    pub(in crate::upstream) fn next_check(&self) -> u64 {
        self.state.health.next_check()
    }

    pub(in crate::upstream) fn check_at(&self, next: u64) {
        self.state.health.check_at(next);
    }

    pub(super) fn condition(&self) -> Condition {
        if self.is_sick() {
            Condition::Unhealthy
        } else if self.ejected_until() > clock::now() {
            Condition::Ejected
        } else {
            Condition::Healthy
        }
    }

    /// Its share when nothing is the matter with it.
    pub(super) fn full_share(&self) -> u64 {
        u64::from(self.weight) * FULL
    }

    /// Its share now; 0 while it is not to be chosen.
    pub(super) fn share(&self, service: &str, slow_start: Option<Duration>) -> u64 {
        let state = &*self.state;
        if self.is_sick() || self.is_full() {
            return 0;
        }
        let ejected_until = self.ejected_until();
        if ejected_until != 0 {
            let now = clock::now();
            if ejected_until > now {
                return 0;
            }
            if state.ejection.ends(now) {
                tracing::warn!(service, endpoint = %self.address, "the endpoint is given requests again");
                self.came_back();
            }
        }
        let since = state.back_since.load(Relaxed);
        if since == 0 { self.full_share() } else { self.growing_share(since, slow_start) }
    }

    fn growing_share(&self, since: u64, slow_start: Option<Duration>) -> u64 {
        let time = clock::millis(slow_start.unwrap_or_default());
        let age = clock::now().saturating_sub(since);
        if age >= time {
            self.state.back_since.store(0, Relaxed);
            return self.full_share();
        }
        // Never 0: something has to come for it to grow warm.
        self.full_share() * (age * 100 / time).clamp(FIRST, 100) / 100
    }

    /// It is well again, or new beside others: its share grows from now on.
    pub(super) fn came_back(&self) {
        self.state.back_since.store(clock::now(), Relaxed);
    }

    pub(super) fn in_flight(&self) -> usize {
        self.state.in_flight.load(SeqCst)
    }

    pub(super) fn is_full(&self) -> bool {
        self.limit != usize::MAX && self.in_flight() >= self.limit
    }

    /// A request goes there, if it may have one more.
    pub(super) fn enter(self: &Arc<Endpoint>) -> Option<Seat> {
        let state = &*self.state;
        if self.limit == usize::MAX {
            state.in_flight.fetch_add(1, Relaxed);
        } else {
            let one_more = |count: usize| (count < self.limit).then_some(count + 1);
            state.in_flight.fetch_update(SeqCst, SeqCst, one_more).ok()?;
        }
        Some(Seat(self.clone()))
    }
}

/// A request's place at an endpoint. It is in flight until this is dropped.
pub(in crate::upstream) struct Seat(Arc<Endpoint>);

impl Seat {
    pub(in crate::upstream) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.0
    }

    pub(in crate::upstream) fn address(&self) -> &Address {
        &self.0.address
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.state.in_flight.fetch_sub(1, SeqCst);
        if self.0.limit != usize::MAX {
            self.0.gate.freed();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::address::Target;
    use super::*;
    use nylon_config::plan::{CircuitBreaker, EndpointAddress, Protocol, Upstream, UpstreamLimits};

    fn endpoint(max_connections: Option<usize>) -> Arc<Endpoint> {
        let second = Duration::from_secs(1);
        let breaker =
            |max_connections| CircuitBreaker { max_connections, max_pending: 0, pending_timeout: second };
        let circuit_breaker = max_connections.map(breaker);
        let upstream = Upstream {
            endpoints: Vec::new(),
            limits: UpstreamLimits {
                connect_timeout: second,
                response_head_timeout: second,
                read_timeout: second,
                idle_timeout: second,
            },
            protocol: Protocol::Http1,
            tls: None,
            balancing: Balancing { circuit_breaker, ..Balancing::default() },
        };
        let named = EndpointAddress::Tcp { host: "app.test".into(), port: 80 };
        let address = Address::new(&named, Target::Tcp(([127, 0, 0, 1], 80).into()), None, &upstream);
        Arc::new(Endpoint::new(address, 2, &upstream.balancing, Arc::default(), Arc::default()))
    }

    #[test]
    fn a_full_endpoint_has_no_share_until_a_seat_is_free() {
        let endpoint = endpoint(Some(1));
        let seat = endpoint.enter().expect("a place");
        assert!(endpoint.enter().is_none());
        assert_eq!((endpoint.share("s", None), endpoint.in_flight()), (0, 1));
        drop(seat);
        assert_eq!((endpoint.share("s", None), endpoint.in_flight()), (200, 0));
    }

    #[test]
    fn the_share_of_one_that_came_back_grows() {
        let endpoint = endpoint(None);
        endpoint.came_back();
        let at_first = endpoint.share("s", Some(Duration::from_secs(1000)));
        assert_eq!(at_first, 20);
        assert_eq!(endpoint.share("s", Some(Duration::ZERO)), 200, "its time is over");
        assert_eq!(endpoint.state.back_since.load(Relaxed), 0);
    }

    #[test]
    fn a_name_is_told_with_where_it_led() {
        assert_eq!(endpoint(None).address.to_string(), "app.test:80 (127.0.0.1)");
    }
}
