//! A plugin that could not be loaded, in a gateway that runs all the same (`on_load_error: isolate`).
//!
//! Nobody knows which entries and phases it has, so it has all of them, and each fails: its routes answer 503, unless a
//! policy says that they do without it.

use super::{BodyUse, EntryTraits, Pending, PhaseCall, PluginEntry, PluginHost, UnknownEntry, reply};
use nylon_core::{Failure, FailureKind, Outcome, PhaseMask};
use std::sync::Arc;
use std::time::Duration;

/// Stands for a plugin that could not be loaded.
pub struct UnloadedHost {
    kind: &'static str,
    why: Arc<str>,
}

impl UnloadedHost {
    /// For a plugin that a host of this kind would run.
    pub fn new(kind: &'static str, why: &str) -> UnloadedHost {
        UnloadedHost { kind, why: why.into() }
    }
}

impl PluginHost for UnloadedHost {
    fn kind(&self) -> &'static str {
        self.kind
    }

    fn entry(&self, _: &str) -> Result<Arc<dyn PluginEntry>, UnknownEntry> {
        Ok(Arc::new(UnloadedEntry { why: self.why.clone() }))
    }

    fn ready(&self) -> Result<(), String> {
        Err(format!("it could not be loaded: {}", self.why))
    }

    fn ready_for(&self, _: &[&str]) -> Result<(), String> {
        // No waiting helps it, and whoever configured it wants the others to run.
        Ok(())
    }

    fn shutdown(&self, _: Duration) {}
}

struct UnloadedEntry {
    why: Arc<str>,
}

impl PluginEntry for UnloadedEntry {
    fn traits(&self) -> EntryTraits {
        EntryTraits { phases: PhaseMask::ALL, request_body: false, response_body: BodyUse::Whole }
    }

    fn keeps_sessions(&self) -> bool {
        false
    }

    fn call<'a>(&'a self, call: PhaseCall<'a>) -> Pending<'a> {
        // The whole reason was logged when it was found.
        let why = self.why.lines().next().unwrap_or_default();
        let failure =
            Failure::new(FailureKind::Unavailable, format!("the plugin could not be loaded: {why}"));
        Pending::Ready(reply::finished(call.exchange, Outcome::Failed(failure), None))
    }
}
