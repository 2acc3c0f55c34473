//! One named handler set of a library.

use super::call;
use super::mapped::Mapped;
use crate::plugin::{BodyUse, EntryTraits, Pending, PhaseCall, PluginEntry};
use nylon_core::PhaseMask;
use std::sync::Arc;

/// An entry, as sessions know it.
pub(super) struct Entry {
    pub(super) mapped: &'static Mapped,
    pub(super) name: Box<str>,
    pub(super) traits: EntryTraits,
}

/// An entry, as the pipeline knows it.
pub(super) struct NativeEntry(pub(super) Arc<Entry>);

impl PluginEntry for NativeEntry {
    fn traits(&self) -> EntryTraits {
        self.0.traits
    }

    fn call<'a>(&'a self, call: PhaseCall<'a>) -> Pending<'a> {
        call::run(&self.0, call)
    }
}

/// What is known of an entry whose library announces nothing.
pub(super) const UNANNOUNCED: EntryTraits =
    EntryTraits { phases: PhaseMask::ALL, request_body: false, response_body: BodyUse::OnDemand };
