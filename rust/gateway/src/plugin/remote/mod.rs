//! Plugins on remote workers, reached over NATS.
//!
//! The exchange never leaves the gateway: a call carries a copy of what a handler reads, and the reply carries
//! its mutations, which are checked as a whole before the first one is applied. So whatever happens to a worker
//! or to the broker, an exchange is either as the handler left it or untouched.

/// One connection to a broker, as the data plane sees it.
mod connection;
/// The connection's thread: how it comes, goes and comes back.
mod life;
/// Which answer belongs to which call.
mod correlation;
/// The live workers of a group and what their entries handle.
mod workers;
/// One call: its start, its course over workers, its end.
mod call;
/// A place among the calls in flight.
mod admission;
/// One attempt: send the call, and wait for what becomes of it.
mod attempt;
/// A call as it is written.
mod outgoing;
/// Bodies that a worker asks for while its handler runs, and those that it has made.
mod reads;
/// The parts that such bodies travel in.
mod bodies;
/// What is kept of a session between its phases.
mod session;

pub use connection::Connection;

use super::{EntryTraits, Pending, PhaseCall, PluginEntry, PluginHost, UnknownEntry};
use nylon_wire::{GroupSubjects, SubjectError};
use session::Served;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use workers::Group;

/// Runs the entries of one plugin on the workers of one group.
pub struct RemoteHost {
    plugin: Arc<str>,
    connection: Arc<Connection>,
    group: Arc<Group>,
    ended: AtomicBool,
}

impl RemoteHost {
    /// A host for `plugin` on `group`, over a connection that may serve other plugins too. `prefix` is the
    /// connection's `subject_prefix`.
    ///
    /// # Errors
    /// When the prefix or the group cannot stand in a subject.
    pub fn new(
        connection: Arc<Connection>,
        prefix: &str,
        plugin: &str,
        group: &str,
    ) -> Result<RemoteHost, SubjectError> {
        let group = Group::new(group, GroupSubjects::new(prefix, group)?);
        connection.join(&group);
        connection.hosts.fetch_add(1, Ordering::Relaxed);
        Ok(RemoteHost { plugin: plugin.into(), connection, group, ended: AtomicBool::new(false) })
    }

    /// Live workers, as known now.
    pub fn workers(&self) -> usize {
        self.group.size()
    }
}

impl PluginHost for RemoteHost {
    fn kind(&self) -> &'static str {
        "remote"
    }

    /// Any name is taken: workers come and go. One that they lack fails when it is called.
    fn entry(&self, name: &str) -> Result<Arc<dyn PluginEntry>, UnknownEntry> {
        Ok(Arc::new(RemoteEntry {
            plugin: self.plugin.clone(),
            name: name.into(),
            connection: self.connection.clone(),
            on: Arc::new(Served { group: self.group.clone(), known: self.group.entry(name) }),
        }))
    }

    fn ready(&self) -> Result<(), String> {
        self.connection.ready()?;
        match self.group.size() {
            0 => Err(format!("no worker of group {:?} has announced itself", self.group.name)),
            _ => Ok(()),
        }
    }

    fn shutdown(&self, grace: Duration) {
        if self.ended.swap(true, Ordering::Relaxed) {
            return;
        }
        let end = Instant::now() + grace;
        while self.group.in_flight.load(Ordering::Relaxed) > 0 && Instant::now() < end {
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
    on: Arc<Served>,
}

impl RemoteEntry {
    /// The group that serves a session that begins now.
    fn serving(&self) -> &Arc<Served> {
        &self.on
    }
}

impl PluginEntry for RemoteEntry {
    fn traits(&self) -> EntryTraits {
        self.on.known.traits()
    }

    fn call<'a>(&'a self, call: PhaseCall<'a>) -> Pending<'a> {
        call::run(self, call)
    }
}
