//! Nylon's configuration.

/// Errors and warnings with their place in the files.
pub mod diagnostic;
/// Misspelt names.
mod names;
/// The files, and places in them.
mod source;
/// The configuration as it is run.
pub mod plan;

pub use diagnostic::{ConfigErrors, Diagnostic, Location};
pub use plan::Plan;
