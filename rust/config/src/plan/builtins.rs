//! The built-ins that a middleware can be, with their settings as run.

use http::HeaderName;
use nylon_core::template::Template;
use nylon_core::{Phase, PhaseMask};

/// A plugin of the gateway's own.
#[derive(Debug, Clone, PartialEq)]
pub enum Builtin {
    /// Changes the fields that the service gets.
    RequestHeaderModifier(HeaderChanges),
}

impl Builtin {
    /// Its name, as `plugin` says it.
    pub fn name(&self) -> &'static str {
        match self {
            Builtin::RequestHeaderModifier(_) => "RequestHeaderModifier",
        }
    }

    /// The phases in which it is called.
    pub fn phases(&self) -> PhaseMask {
        let phases: &[Phase] = match self {
            Builtin::RequestHeaderModifier(_) => &[Phase::RequestFilter],
        };
        phases.iter().copied().collect()
    }
}

/// What becomes of the fields of a head: `remove`, then `set`, then `add`.
#[derive(Debug, Clone, PartialEq)]
pub struct HeaderChanges {
    /// Fields that are taken out.
    pub remove: Vec<HeaderName>,
    /// Fields that get one value instead of all that they had.
    pub set: Vec<(HeaderName, Template)>,
    /// Fields that get a value beside those that they have.
    pub add: Vec<(HeaderName, Template)>,
}
