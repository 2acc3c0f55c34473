//! What a group's entries handle, from what their workers say, as the data plane reads it: one atomic number each.
//!
//! What is not known errs on the side of calling: while no worker is known, an entry has all phases, so that
//! they fail by their policy instead of being skipped; a phase is skipped only when every live worker of the
//! group says that it lacks it. The request body is not read ahead for an unknown entry: a worker that needs
//! it asks for it. A response body goes by chunk only if every worker that filters it takes chunks.

use crate::plugin::{BodyUse, EntryTraits};
use nylon_core::{Phase, PhaseMask};
use nylon_wire::EntryShape;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

const BODY: u16 = 1 << 4;
const STREAM: u16 = 1 << 5;
const SESSION: u16 = 1 << 6;
const UNKNOWN: u16 = PhaseMask::ALL.bits() as u16 | SESSION;

/// What is known of one entry, readable without a lock.
#[derive(Clone)]
pub(super) struct Known(Arc<AtomicU16>);

impl Known {
    pub(super) fn new<'a>(shapes: impl Iterator<Item = &'a EntryShape>) -> Known {
        Known(Arc::new(AtomicU16::new(summary(shapes))))
    }

    /// The workers' shapes of the entry have changed.
    pub(super) fn update<'a>(&self, shapes: impl Iterator<Item = &'a EntryShape>) {
        self.0.store(summary(shapes), Ordering::Relaxed);
    }

    pub(super) fn traits(&self) -> EntryTraits {
        let bits = self.0.load(Ordering::Relaxed);
        EntryTraits {
            phases: PhaseMask::from_bits(bits as u8),
            request_body: bits & BODY != 0,
            response_body: BodyUse::by_chunk(bits & STREAM != 0),
        }
    }

    /// Whether a session's later phases must go to the worker that took its first one.
    pub(super) fn keeps_sessions(&self) -> bool {
        self.0.load(Ordering::Relaxed) & SESSION != 0
    }
}

fn summary<'a>(shapes: impl Iterator<Item = &'a EntryShape>) -> u16 {
    let having: Vec<_> = shapes.collect();
    if having.is_empty() {
        return UNKNOWN;
    }
    let phases = having.iter().fold(PhaseMask::NONE, |all, shape| all.union(shape.phases));
    let flag = |set, bit| if set { bit } else { 0 };
    let filters_body = having.iter().filter(|shape| shape.phases.contains(Phase::ResponseBodyFilter)).count();
    let by_chunk = having
        .iter()
        .filter(|shape| shape.phases.contains(Phase::ResponseBodyFilter) && shape.stream)
        .count();
    u16::from(phases.bits())
        | flag(having.iter().any(|shape| shape.request_body), BODY)
        | flag(by_chunk > 0 && by_chunk == filters_body, STREAM)
        | flag(having.iter().any(|shape| shape.session), SESSION)
}
