//! Plugins that are shared libraries: the C ABI of docs/native-abi.md.

/// What a library says about its entries.
mod announced;
/// Why a library cannot be loaded.
mod fault;
/// A library's file, before any of its code runs.
mod image;
/// A library's symbols, and safe ways to call them.
mod library;
/// A library's code in this process.
mod loading;

pub use announced::AnnouncedEntry;
pub use fault::{Fault, LoadError, Symbol};
pub use library::{Callback, Library};
