//! What libraries do that the contract does not allow: counted, and told once for each library and kind.

use serde_json::{Map, Value};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// The kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The message itself is null.
    NullMessage,
    /// A length with a null pointer.
    NullPayload,
    /// A length that nothing has.
    HugePayload,
    /// A session that never was.
    UnknownSession,
    /// A session that is over.
    ClosedSession,
    /// A session of another library.
    ForeignSession,
    /// Between two phases.
    OutsidePhase,
    /// A decision after the first one.
    SecondDecision,
    /// A number that means nothing.
    UnknownMethod,
    /// A number that means something to come.
    WebSocket,
}

impl Kind {
    const ALL: [Kind; 10] = {
        use Kind::*;
        [
            NullMessage,
            NullPayload,
            HugePayload,
            UnknownSession,
            ClosedSession,
            ForeignSession,
            OutsidePhase,
            SecondDecision,
            UnknownMethod,
            WebSocket,
        ]
    };

    const fn name(self) -> &'static str {
        match self {
            Kind::NullMessage => "null_message",
            Kind::NullPayload => "null_payload",
            Kind::HugePayload => "huge_payload",
            Kind::UnknownSession => "unknown_session",
            Kind::ClosedSession => "closed_session",
            Kind::ForeignSession => "foreign_session",
            Kind::OutsidePhase => "outside_phase",
            Kind::SecondDecision => "second_decision",
            Kind::UnknownMethod => "unknown_method",
            Kind::WebSocket => "websocket",
        }
    }
}

/// One library's counts.
pub(super) struct Misuse {
    library: String,
    counts: [AtomicU64; Kind::ALL.len()],
}

impl Misuse {
    pub(super) fn new(library: &Path) -> Misuse {
        Misuse { library: library.display().to_string(), counts: Default::default() }
    }

    /// Counts one, and tells the first.
    pub(super) fn count(&self, kind: Kind, sid: u32, method: u32) {
        if self.counts[kind as usize].fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::warn!(
                library = self.library,
                kind = kind.name(),
                sid,
                method,
                "a native library called back in a way that the ABI does not allow: the call was refused; further ones \
                 of this kind are only counted"
            );
        }
    }

    /// The counts that are not zero, by name.
    pub(super) fn figures(&self) -> Value {
        let counted = Kind::ALL.into_iter().zip(&self.counts);
        let counted = counted.map(|(kind, count)| (kind.name(), count.load(Ordering::Relaxed)));
        let seen = counted.filter(|(_, count)| *count > 0);
        Value::Object(seen.map(|(name, count)| (name.to_owned(), count.into())).collect::<Map<_, _>>())
    }
}
