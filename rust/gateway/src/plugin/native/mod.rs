//! Plugins that are shared libraries: the C ABI of docs/native-abi.md.

/// What a library says about its entries.
mod announced;
/// Why a library cannot be loaded.
mod fault;
/// Libraries written in Go.
mod go;
/// A library's file, before any of its code runs.
mod image;
/// A library's symbols, and safe ways to call them.
mod library;
/// A library's code in this process.
mod loading;
/// The plugin.
mod host;
/// One entry of it.
mod entry;
/// A library in this process, and the way back from it.
mod mapped;
/// What this thread is doing with libraries.
mod here;
/// What each data-plane thread does in a library at the moment.
mod seat;
/// What libraries call.
mod callback;
/// Where sessions are found by their number.
mod slab;
/// One exchange × one middleware.
mod session;
/// One phase of it, from the pipeline's side.
mod call;
/// What a library may ask.
mod reads;
/// What a library may do.
mod writes;
/// All header fields as one answer.
mod headers;
/// A middleware's payload as JSON.
mod payload;
/// A response that a handler is still writing.
mod stream;
/// The threads of a library's own.
mod threads;
/// What libraries do that the contract does not allow.
mod misuse;

pub use announced::AnnouncedEntry;
pub use fault::{Fault, LoadError, Symbol};
pub use go::two_go_libraries;
pub use host::{NativeHost, NativeSettings, StartError};
pub use library::{Callback, Checked, Library};
pub use mapped::TooManyLibraries;
