//! The phases are numbered as in the C ABI (design 6), so that one number means one phase on the wire, in a
//! shared library and here.

use std::fmt;

/// A moment of an exchange in which handlers run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// Before the service is called, in the order written.
    RequestFilter = 1,
    /// When the response head is known, in reverse order.
    ResponseFilter = 2,
    /// Over the response body (whole or by chunk), in reverse order.
    ResponseBodyFilter = 3,
    /// After the last byte.
    Logging = 4,
}

impl Phase {
    /// All phases in the order in which they run.
    pub const ALL: [Phase; 4] =
        [Phase::RequestFilter, Phase::ResponseFilter, Phase::ResponseBodyFilter, Phase::Logging];

    /// The name used in config, Python, metrics and docs.
    pub const fn name(self) -> &'static str {
        match self {
            Phase::RequestFilter => "request_filter",
            Phase::ResponseFilter => "response_filter",
            Phase::ResponseBodyFilter => "response_body_filter",
            Phase::Logging => "logging",
        }
    }

    /// The phase with this number, if there is one.
    pub const fn from_number(number: u8) -> Option<Phase> {
        match number {
            1 => Some(Phase::RequestFilter),
            2 => Some(Phase::ResponseFilter),
            3 => Some(Phase::ResponseBodyFilter),
            4 => Some(Phase::Logging),
            _ => None,
        }
    }

    /// The phase with this name, if there is one.
    pub fn from_name(name: &str) -> Option<Phase> {
        Phase::ALL.into_iter().find(|phase| phase.name() == name)
    }

    /// 0 to 3: an index into per-phase arrays.
    pub const fn index(self) -> usize {
        self as usize - 1
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of phases. Bit `n - 1` stands for the phase with number `n`; other bits are ignored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PhaseMask(u8);

impl PhaseMask {
    /// No phase.
    pub const NONE: PhaseMask = PhaseMask(0);
    /// All four phases.
    pub const ALL: PhaseMask = PhaseMask(0b1111);

    /// The set with these bits.
    pub const fn from_bits(bits: u8) -> PhaseMask {
        PhaseMask(bits & 0b1111)
    }

    /// The bits of this set.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Whether `phase` is in the set.
    pub const fn contains(self, phase: Phase) -> bool {
        self.0 & (1 << phase.index()) != 0
    }

    /// The set with `phase` added.
    #[must_use]
    pub const fn with(self, phase: Phase) -> PhaseMask {
        PhaseMask(self.0 | 1 << phase.index())
    }

    /// Whether a phase is in both sets.
    pub const fn intersects(self, other: PhaseMask) -> bool {
        self.0 & other.0 != 0
    }

    /// The phases of either set.
    #[must_use]
    pub const fn union(self, other: PhaseMask) -> PhaseMask {
        PhaseMask(self.0 | other.0)
    }
}

impl FromIterator<Phase> for PhaseMask {
    fn from_iter<I: IntoIterator<Item = Phase>>(phases: I) -> Self {
        phases.into_iter().fold(PhaseMask::NONE, PhaseMask::with)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_round_trip() {
        for phase in Phase::ALL {
            assert_eq!(Phase::from_number(phase as u8), Some(phase));
            assert_eq!(Phase::from_name(phase.name()), Some(phase));
        }
        assert_eq!(Phase::from_number(0), None);
        assert_eq!(Phase::from_name("request"), None);
    }

    #[test]
    fn a_mask_holds_exactly_what_was_added() {
        let mask = PhaseMask::from_iter([Phase::RequestFilter, Phase::Logging]);
        assert_eq!(mask.bits(), 0b1001);
        assert!(mask.contains(Phase::Logging) && !mask.contains(Phase::ResponseFilter));
    }
}
