//! Why a library cannot be loaded: each fault says what is wrong and what to do about it.

use std::io;
use std::path::PathBuf;

/// A library that cannot be loaded, and why.
#[derive(Debug, thiserror::Error)]
#[error("cannot load `{}`: {fault}", file.display())]
pub struct LoadError {
    /// The library's file.
    pub file: PathBuf,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What is wrong with a library.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// Its file is missing or cannot be read.
    #[error("{}", unreadable(.0))]
    Unreadable(io::Error),
    /// Its file is something else.
    #[error("it is no shared library, but {0}")]
    NotALibrary(String),
    /// It is for another machine.
    #[error("it is built for {found}, and this gateway runs on {own}: build it for this machine")]
    OtherMachine {
        /// What it is built for.
        found: String,
        /// What the gateway is built for.
        own: String,
    },
    /// It does not export what a native plugin exports.
    #[error("{}", missing(.0))]
    Missing(Vec<Symbol>),
    /// It is built for a version of the ABI that this gateway does not know.
    #[error(
        "`nylon_abi_version` says {0}, and this gateway knows the versions 1 to {known}: build it for one of them, or \
         use a newer gateway",
        known = nylon_abi::VERSION
    )]
    Version(u32),
    /// A library that it needs is missing.
    #[error(
        "a library that it needs is missing: {0} (install it, or link it into the plugin; `ldd` lists what is needed)"
    )]
    Dependency(String),
    /// It uses a symbol that nothing defines.
    #[error(
        "it uses the symbol `{0}`, which nothing defines: link it with what does (`-Wl,-z,defs` finds such symbols when it \
         is built)"
    )]
    Undefined(String),
    /// It is built for newer libraries than this system has.
    #[error(
        "it needs newer libraries than this system has ({0}): build it on a system that is not newer than this one"
    )]
    TooNew(String),
    /// The system's loader refuses it.
    #[error("the system's loader refuses it: {0}")]
    Refused(String),
    /// It can be in a process only once, and is in this one already.
    #[error(
        "it is loaded already, and can be in this process only once, since it works from its own place alone: it finds \
         other libraries by `$ORIGIN`, or the system lets nothing be loaded from memory. Give the plugin \
         `isolation: process`, or replace the file by renaming another one to its name"
    )]
    LoadedAlready,
    /// What the configuration gives it is too long for the ABI, which has an `int` for its length.
    #[error("its `config` has more than 2 GiB")]
    ConfigTooLong,
    /// It could not initialize.
    #[error(
        "it could not initialize (`nylon_entries` returned null): see what the plugin itself has logged, and its \
         `config`"
    )]
    NotInitialized,
    /// What it announces makes no sense.
    #[error("`nylon_entries` returned what is no list of entries: {0}")]
    Entries(String),
}

/// What a native plugin exports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Symbol {
    /// `initialize`
    Initialize,
    /// `register_session_stream`
    Register,
    /// `event_stream`
    Event,
    /// `close_session_stream`
    Close,
    /// `plugin_free`
    Free,
    /// `shutdown`
    Shutdown,
    /// `nylon_abi_version`
    Version,
    /// `nylon_entries`
    Entries,
}

impl Symbol {
    /// Those that each library has.
    pub const REQUIRED: [Symbol; 6] =
        [Symbol::Initialize, Symbol::Register, Symbol::Event, Symbol::Close, Symbol::Free, Symbol::Shutdown];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Symbol::Initialize => "initialize",
            Symbol::Register => "register_session_stream",
            Symbol::Event => "event_stream",
            Symbol::Close => "close_session_stream",
            Symbol::Free => "plugin_free",
            Symbol::Shutdown => "shutdown",
            Symbol::Version => "nylon_abi_version",
            Symbol::Entries => "nylon_entries",
        }
    }
}

fn unreadable(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file: build the library, or mend `file`".to_owned(),
        io::ErrorKind::PermissionDenied => {
            format!("its file may not be read ({error}): give the gateway's user the right to")
        }
        _ => format!("its file cannot be read: {error}"),
    }
}

fn missing(symbols: &[Symbol]) -> String {
    let names: Vec<String> = symbols.iter().map(|symbol| format!("`{}`", symbol.name())).collect();
    let all = symbols.len() == Symbol::REQUIRED.len();
    let hint = if all { "it is no native plugin of Nylon, or exports nothing" } else { "it is not complete" };
    let plural = if symbols.len() == 1 { "" } else { "s" };
    format!(
        "it lacks the symbol{plural} {}: {hint} (the symbols that a plugin exports are in docs/native-abi.md)",
        names.join(", ")
    )
}
