//! Plugins on remote workers, reached over NATS.
//!
//! The exchange never leaves the gateway: a call carries a copy of what a handler reads, and the reply carries
//! its mutations, which are checked as a whole before the first one is applied. So whatever happens to a worker
//! or to the broker, an exchange is either as the handler left it or untouched.

/// One connection to a broker, as the data plane sees it.
mod connection;
/// The ways of calls and answers, one for each data-plane thread.
mod lane;
/// How a lane's connection comes, goes and comes back.
mod life;
/// The servers of a broker, in the order in which they are tried.
mod servers;
/// Who the gateway is to a broker, and how it knows the broker.
mod access;
/// A call in flight, as those see it who bring its answers.
mod slot;
/// Which answer belongs to which call.
mod correlation;
/// Every worker of a group that is known.
mod members;
/// One call in flight, as the call sees it.
mod waiting;
/// What a group's entries handle.
mod entries;
/// Calls that wait for a worker to have room.
mod room;
/// The workers of a group, what their entries handle, and which to choose.
mod workers;
/// One worker as the calls see it.
mod peer;
/// How a group's workers are followed.
mod roll;
/// Which group serves a session.
mod groups;
/// A copy of each call to one more group.
mod mirror;
/// How calls ended and how long they took.
mod tally;
/// One call: its start and its end.
mod call;
/// A place among the calls in flight.
mod admission;
/// Where a call is sent, and where next.
mod course;
/// One attempt: send the call, and wait for what becomes of it.
mod attempt;
/// When to look after a call that is not answered.
mod vigil;
/// Who may run a call that must not run twice.
mod claims;
/// Calls of `logging` that were due while the broker was away.
mod kept;
/// What workers did that the protocol does not allow.
mod ledger;
/// What was out of the ordinary, counted.
mod counters;
/// A call as it is written.
mod outgoing;
/// Bodies that a worker asks for while its handler runs, and those that it has made.
mod reads;
/// A response body that a handler is still writing.
mod stream;
/// Sessions that a worker may have opened unnoticed.
mod orphans;
/// What is kept of a session between its phases.
mod session;

pub(in crate::plugin) use access::{Access, client_config};
pub use connection::Connection;
pub(in crate::plugin) use connection::jittered;
pub use counters::Counts;
pub(crate) use lane::host_lanes;

use super::{EntryTraits, Pending, PhaseCall, PluginEntry, PluginHost, UnknownEntry};
use groups::Groups;
use mirror::{Mirror, MirrorEntry};
use nylon_config::plan::{GroupShare, Workers};
use nylon_wire::SubjectError;
use serde_json::{Value, json};
use session::Served;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Runs the entries of one plugin on the workers of its groups.
pub struct RemoteHost {
    plugin: Arc<str>,
    connection: Arc<Connection>,
    groups: Arc<Groups>,
    mirror: Option<Arc<Mirror>>,
    ended: AtomicBool,
}

impl RemoteHost {
    /// A host for `plugin` on `workers`, over a connection that may serve other plugins too. `prefix` is the
    /// connection's `subject_prefix`.
    ///
    /// # Errors
    /// When the prefix or a group cannot stand in a subject.
    pub fn new(
        connection: Arc<Connection>,
        prefix: &str,
        plugin: &str,
        workers: &Workers,
    ) -> Result<RemoteHost, SubjectError> {
        let groups = Arc::new(Groups::new(&connection, prefix, &workers.groups)?);
        let mirror = workers.mirror.iter().map(|name| {
            let only = [GroupShare { name: name.clone(), weight: 1 }];
            Ok(Arc::new(Mirror::new(Groups::new(&connection, prefix, &only)?)))
        });
        let mirror = mirror.collect::<Result<Vec<_>, _>>()?.pop();
        connection.hosts.fetch_add(1, Ordering::Relaxed);
        Ok(RemoteHost { plugin: plugin.into(), connection, groups, mirror, ended: AtomicBool::new(false) })
    }

    /// Live workers, as known now.
    pub fn workers(&self) -> usize {
        self.groups.all().iter().map(|share| share.group.size()).sum()
    }
}

impl PluginHost for RemoteHost {
    fn kind(&self) -> &'static str {
        "remote"
    }

    /// Any name is taken: workers come and go. One that they lack fails when it is called.
    fn entry(&self, name: &str) -> Result<Arc<dyn PluginEntry>, UnknownEntry> {
        let entry = |groups: &Arc<Groups>, mirror, counts| RemoteEntry {
            plugin: self.plugin.clone(),
            name: name.into(),
            connection: self.connection.clone(),
            on: groups.entry(name),
            groups: groups.clone(),
            mirror,
            counts,
        };
        let mirror = self.mirror.as_ref().map(|mirror| {
            let entry = Arc::new(entry(&mirror.groups, None, false));
            Arc::new(MirrorEntry { mirror: mirror.clone(), entry })
        });
        Ok(Arc::new(entry(&self.groups, mirror, true)))
    }

    fn ready_for(&self, entries: &[&str]) -> Result<(), String> {
        self.ready()?;
        let sharing = self.groups.all().iter().filter(|share| share.weight > 0);
        for group in sharing.map(|share| &share.group) {
            if let Some(entry) = entries.iter().find(|entry| !group.has(entry)) {
                return Err(format!("no worker of group {:?} has the entry {entry:?}", group.name));
            }
        }
        Ok(())
    }

    fn figures(&self) -> Value {
        let mut figures =
            json!({ "groups": self.groups.figures(), "connection": self.connection.counts().figures() });
        if let Some(mirror) = &self.mirror {
            figures["mirror"] = mirror.figures();
        }
        figures
    }

    fn ready(&self) -> Result<(), String> {
        self.connection.ready()?;
        let mut sharing = self.groups.all().iter().filter(|share| share.weight > 0);
        match sharing.find(|share| share.group.size() == 0) {
            Some(share) => Err(format!("no worker of group {:?} has announced itself", share.group.name)),
            None => Ok(()),
        }
    }

    fn shutdown(&self, grace: Duration) {
        if self.ended.swap(true, Ordering::Relaxed) {
            return;
        }
        let end = Instant::now() + grace;
        let in_flight =
            || self.groups.all().iter().any(|share| share.group.in_flight.load(Ordering::Relaxed) > 0);
        while in_flight() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(2));
        }
        if self.connection.hosts.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.connection.shutdown(end.saturating_duration_since(Instant::now()));
        }
    }
}

/// One entry on the workers.
pub(crate) struct RemoteEntry {
    plugin: Arc<str>,
    name: Arc<str>,
    connection: Arc<Connection>,
    /// On each group, in their order.
    on: Vec<Arc<Served>>,
    groups: Arc<Groups>,
    mirror: Option<Arc<MirrorEntry>>,
    /// Its calls count against `max_inflight`.
    counts: bool,
}

impl RemoteEntry {
    /// The group that serves a session that begins now.
    fn serving(&self) -> &Arc<Served> {
        &self.on[self.groups.choose()]
    }
}

impl PluginEntry for RemoteEntry {
    fn traits(&self) -> EntryTraits {
        self.groups.traits(&self.on)
    }

    fn call<'a>(&'a self, mut call: PhaseCall<'a>) -> Pending<'a> {
        match self.mirror.as_ref().and_then(|mirror| mirror.copy(self, &mut call)) {
            None => call::run(self, call),
            Some(mirror) => mirror.of(call::run(self, call)),
        }
    }
}
