//! The four phases.

use nylon_abi::phase;
use std::fmt;

/// A phase of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Before the service is called.
    RequestFilter,
    /// The response's head is there.
    ResponseFilter,
    /// The response's body is there, whole or by chunk.
    ResponseBodyFilter,
    /// The last byte is sent.
    Logging,
}

impl Phase {
    /// All of them, in their order.
    pub const ALL: [Phase; 4] =
        [Phase::RequestFilter, Phase::ResponseFilter, Phase::ResponseBodyFilter, Phase::Logging];

    /// Its name in configurations and logs.
    pub fn name(self) -> &'static str {
        match self {
            Phase::RequestFilter => "request_filter",
            Phase::ResponseFilter => "response_filter",
            Phase::ResponseBodyFilter => "response_body_filter",
            Phase::Logging => "logging",
        }
    }

    pub(crate) fn number(self) -> u8 {
        match self {
            Phase::RequestFilter => phase::REQUEST_FILTER,
            Phase::ResponseFilter => phase::RESPONSE_FILTER,
            Phase::ResponseBodyFilter => phase::RESPONSE_BODY_FILTER,
            Phase::Logging => phase::LOGGING,
        }
    }

    pub(crate) fn from_number(number: u8) -> Option<Phase> {
        Phase::ALL.into_iter().find(|phase| phase.number() == number)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One value for each phase.
#[derive(Debug, Default)]
pub(crate) struct PerPhase<T>([T; 4]);

impl<T> std::ops::Index<Phase> for PerPhase<T> {
    type Output = T;
    fn index(&self, phase: Phase) -> &T {
        &self.0[phase as usize]
    }
}

impl<T> std::ops::IndexMut<Phase> for PerPhase<T> {
    fn index_mut(&mut self, phase: Phase) -> &mut T {
        &mut self.0[phase as usize]
    }
}
