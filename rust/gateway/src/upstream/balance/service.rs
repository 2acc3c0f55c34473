//! A service and its endpoints: who is chosen for a request, and what its outcome says of who was chosen.

use super::super::tls::ServiceTls;
use super::budget::Budget;
use super::clock::{self, seconds_until};
use super::ejection::may_eject;
use super::endpoint::{Endpoint, Seat, State};
use super::gate::Gate;
use super::origin::Origin;
use super::smooth::Smooth;
use super::{Address, choice, rendezvous};
use arc_swap::ArcSwap;
use nylon_config::plan::{self, Algorithm, Balancing, HashBy, UpstreamLimits};
use nylon_core::{RequestHead, cookie, joined};
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How long a client is told to wait for a place.
const BUSY_SECONDS: u64 = 1;

/// A service over HTTP, shared by all threads.
pub struct HttpService {
    pub(super) name: String,
    upstream: plan::Upstream,
    pub(super) origins: Vec<Origin>,
    set: ArcSwap<Endpoints>,
    turn: AtomicUsize,
    shared: Arc<Shared>,
}

/// What outlives a reload, beside the states of endpoints.
#[derive(Debug, Default)]
struct Shared {
    budget: Budget,
    gate: Arc<Gate>,
    /// Held by whoever decides that an endpoint is to be left alone: the others must not do so at the same time.
    ejecting: Mutex<()>,
    /// Held by whoever makes another set.
    changing: Mutex<()>,
}

/// The endpoints as they are known now.
struct Endpoints {
    all: Vec<Arc<Endpoint>>,
    smooth: Smooth,
    /// All weights are the same.
    even: bool,
}

impl Endpoints {
    fn new(all: Vec<Arc<Endpoint>>) -> Endpoints {
        let smooth = Smooth::new(all.len());
        let even = all.iter().all(|endpoint| endpoint.weight == all[0].weight);
        Endpoints { all, smooth, even }
    }
}

/// What a request shows of itself to whoever chooses.
pub(in crate::upstream) struct Key<'r> {
    pub(in crate::upstream) head: &'r RequestHead,
    pub(in crate::upstream) client: IpAddr,
}

impl Key<'_> {
    fn hash(&self, by: &HashBy) -> u64 {
        let client = || match self.client {
            IpAddr::V4(ip) => rendezvous::hash(&ip.octets()),
            IpAddr::V6(ip) => rendezvous::hash(&ip.octets()),
        };
        match by {
            HashBy::ClientIp => client(),
            HashBy::Path => rendezvous::hash(self.head.path.as_bytes()),
            HashBy::Header(name) => {
                joined(&self.head.headers, name.as_str(), rendezvous::hash).unwrap_or_else(client)
            }
            HashBy::Cookie(name) => cookie(&self.head.headers, name).map_or_else(client, rendezvous::hash),
        }
    }
}

/// No endpoint takes the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::upstream) enum Refused {
    /// None is well. In so many seconds one may be.
    Down(u64),
    /// Each that is well has as many requests as it may have. In so many seconds one may have room.
    Full(u64),
}

impl HttpService {
    /// The service as the plan has it. What is known of endpoints that `before` has too is taken over.
    ///
    /// # Errors
    /// What is wrong with the files that its TLS needs.
    pub fn new(
        name: &str,
        upstream: &plan::Upstream,
        before: Option<&HttpService>,
    ) -> Result<HttpService, String> {
        let tls = upstream.tls.as_ref().map(|tls| ServiceTls::load(tls, upstream.protocol)).transpose()?;
        let shared = before.map_or_else(Arc::default, |before| before.shared.clone());
        let origins = upstream.endpoints.iter().map(|endpoint| {
            let known = before.and_then(|b| b.origins.iter().find(|o| *o.address() == endpoint.address));
            let tls = tls.as_ref().map(|tls| tls.to(&endpoint.address)).transpose()?;
            Ok::<_, String>(Origin::new(endpoint, tls, known))
        });
        let mut known = before.map_or_else(Vec::new, |before| before.endpoints());
        let service = HttpService {
            name: name.to_owned(),
            upstream: upstream.clone(),
            origins: origins.collect::<Result<_, _>>()?,
            set: ArcSwap::from_pointee(Endpoints::new(Vec::new())),
            turn: AtomicUsize::new(0),
            shared,
        };
        let all = service.made(|address| {
            let at = known.iter().position(|e| is_same_place(&e.address, address))?;
            Some(known.swap_remove(at).state.clone())
        });
        service.set.store(Arc::new(Endpoints::new(all)));
        Ok(service)
    }

    /// Its name in the config.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it treats its endpoints.
    pub(in crate::upstream) fn balancing(&self) -> &Balancing {
        &self.upstream.balancing
    }

    /// The times that its endpoints may take.
    pub(in crate::upstream) fn limits(&self) -> &UpstreamLimits {
        &self.upstream.limits
    }

    pub(in crate::upstream) fn origins(&self) -> &[Origin] {
        &self.origins
    }

    /// The endpoints as they are known now.
    pub(in crate::upstream) fn endpoints(&self) -> Vec<Arc<Endpoint>> {
        self.set.load().all.clone()
    }

    /// What to say of names that never resolved.
    pub(crate) fn unresolved(&self) -> Vec<String> {
        let unresolved = self.origins.iter().filter(|origin| !origin.is_resolved());
        let told = unresolved.filter_map(|origin| {
            Some(format!("`{}`, an endpoint of service `{}`, does not resolve", origin.name()?, self.name))
        });
        told.collect()
    }

    /// Requests that wait for a place.
    pub(super) fn waiting(&self) -> usize {
        self.shared.gate.waiting()
    }

    /// Endpoints for all addresses, with what is known of those that have been there.
    fn made(&self, mut known: impl FnMut(&Address) -> Option<Arc<State>>) -> Vec<Arc<Endpoint>> {
        let mut all = Vec::new();
        for origin in &self.origins {
            for target in origin.targets() {
                let address = Address::new(origin.address(), target, origin.tls().cloned(), &self.upstream);
                let state = known(&address).unwrap_or_default();
                let gate = self.shared.gate.clone();
                all.push(Arc::new(Endpoint::new(address, origin.weight, self.balancing(), state, gate)));
            }
        }
        all
    }

    /// The name of the origin number `origin` leads to `found`. Says whether that is news.
    pub(in crate::upstream) fn resolved(&self, origin: usize, found: Vec<IpAddr>) -> bool {
        let _changing = locked(&self.shared.changing);
        if !self.origins[origin].found(found) {
            return false;
        }
        let mut known = self.endpoints();
        let grown = !known.is_empty();
        let mut new = Vec::new();
        let all = self.made(|address| {
            let at = known.iter().position(|e| e.address == *address);
            if at.is_none() {
                new.push(address.clone());
            }
            Some(known.swap_remove(at?).state.clone())
        });
        if grown {
            // They find no connections and cold caches, as one does that comes back.
            all.iter().filter(|e| new.contains(&e.address)).for_each(|e| e.came_back());
        }
        self.set.store(Arc::new(Endpoints::new(all)));
        true
    }

    /// Chooses an endpoint for a request. Those of `tried` are left out.
    pub(in crate::upstream) fn choose(
        &self,
        key: &Key<'_>,
        tried: &[Arc<Endpoint>],
    ) -> Result<Seat, Refused> {
        let set = self.set.load();
        // As often as there are places that others may take meanwhile.
        for _ in 0..=set.all.len() {
            let Some(at) = self.pick(&set, key, tried) else { break };
            if let Some(seat) = set.all[at].enter() {
                return Ok(seat);
            }
        }
        Err(self.refusal(&set, tried))
    }

    fn pick(&self, set: &Endpoints, key: &Key<'_>, tried: &[Arc<Endpoint>]) -> Option<usize> {
        let slow_start = self.balancing().slow_start;
        let share = |at: usize| {
            let endpoint = &set.all[at];
            if tried.iter().any(|tried| Arc::ptr_eq(&tried.state, &endpoint.state)) {
                return 0;
            }
            endpoint.share(&self.name, slow_start)
        };
        let load = |at: usize| set.all[at].in_flight();
        let count = set.all.len();
        if count == 1 {
            return (share(0) > 0).then_some(0);
        }
        let turn = || self.turn.fetch_add(1, Relaxed) % count.max(1);
        match &self.balancing().algorithm {
            Algorithm::InTurn if set.even && (0..count).all(|at| share(at) == set.all[at].full_share()) => {
                (count > 0).then(turn)
            }
            Algorithm::InTurn => set.smooth.next(share),
            Algorithm::Random => choice::random(count, share),
            Algorithm::LeastConn => choice::least(count, turn(), share, load),
            Algorithm::PowerOfTwo => choice::of_two(count, share, load),
            Algorithm::Consistent(by) => {
                rendezvous::owner(key.hash(by), count, |at| set.all[at].hash, share, load)
            }
        }
    }

    /// Why none was chosen.
    fn refusal(&self, set: &Endpoints, tried: &[Arc<Endpoint>]) -> Refused {
        let is_tried = |e: &Endpoint| tried.iter().any(|tried| Arc::ptr_eq(&tried.state, &e.state));
        let now = clock::now();
        let well = |e: &&Arc<Endpoint>| !e.is_sick() && e.ejected_until() <= now;
        if set.all.iter().filter(well).any(|e| !is_tried(e)) {
            return Refused::Full(BUSY_SECONDS);
        }
        let checks = set.all.iter().map(|e| if e.is_sick() { e.next_check() } else { e.ejected_until() });
        let unresolved = self.origins.iter().filter(|origin| !origin.is_resolved());
        let next = checks.chain(unresolved.map(Origin::next_resolution)).min();
        Refused::Down(seconds_until(next.unwrap_or(now), now))
    }

    /// The same, and waits for a place where the circuit breaker lets it.
    pub(in crate::upstream) async fn wait(&self, key: &Key<'_>) -> Result<Seat, Refused> {
        let refused = match self.choose(key, &[]) {
            Err(refused @ Refused::Full(_)) => refused,
            chosen => return chosen,
        };
        let Some(breaker) = &self.balancing().circuit_breaker else { return Err(refused) };
        let choose = || match self.choose(key, &[]) {
            Err(Refused::Full(_)) => None,
            chosen => Some(chosen),
        };
        self.shared.gate.wait(breaker, choose).await.unwrap_or(Err(refused))
    }

    /// A request has come, which earns a part of a retry.
    pub(in crate::upstream) fn earn_retry(&self, percent: u32) {
        self.shared.budget.earn(percent);
    }

    /// Whether one more request may be sent once more.
    pub(in crate::upstream) fn may_retry(&self) -> bool {
        self.shared.budget.spend()
    }

    /// What a request came to at an endpoint. `failed`: no connection, no answer, or one of 500 and more.
    pub(in crate::upstream) fn judge(&self, endpoint: &Arc<Endpoint>, failed: bool) {
        let Some(settings) = &self.balancing().passive_health else { return };
        let ejection = &endpoint.state.ejection;
        if !failed {
            return ejection.succeeded();
        }
        if !ejection.failed(settings) {
            return;
        }
        let _ejecting = locked(&self.shared.ejecting);
        let now = clock::now();
        if endpoint.ejected_until() > now {
            return;
        }
        let set = self.set.load();
        let is_ejected = |e: &&Arc<Endpoint>| e.ejected_until() > now;
        let ejected = set.all.iter().filter(is_ejected).count();
        let others = set
            .all
            .iter()
            .filter(|e| !Arc::ptr_eq(&e.state, &endpoint.state) && !is_ejected(e) && !e.is_sick());
        if may_eject(set.all.len(), ejected, others.count(), settings) {
            let time = ejection.begin(now, settings);
            tracing::warn!(
                service = self.name,
                endpoint = %endpoint.address,
                "the endpoint failed {} times in a row and is left alone for {time:?}",
                settings.consecutive_failures,
            );
        }
    }

    /// What a check of an endpoint came to. `Err` says what was wrong.
    pub(in crate::upstream) fn checked(&self, endpoint: &Endpoint, found: Result<(), String>) {
        let Some(check) = &self.balancing().health_check else { return };
        let health = &endpoint.state.health;
        match health.record(found.is_ok(), check.healthy_threshold, check.unhealthy_threshold) {
            None => {}
            Some(super::health::Change::Well) => {
                tracing::warn!(service = self.name, endpoint = %endpoint.address, "the endpoint is healthy again");
                endpoint.came_back();
            }
            Some(super::health::Change::Sick) => {
                let why = found.err().unwrap_or_default();
                tracing::warn!(
                    service = self.name,
                    endpoint = %endpoint.address,
                    "the endpoint is unhealthy and gets no requests: {why}"
                );
            }
        }
    }
}

/// Whether what is known of one says something of the other: their times may differ.
fn is_same_place(one: &Address, other: &Address) -> bool {
    one.endpoint() == other.endpoint() && one.target() == other.target()
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each value is replaced whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
