//! A library that speaks the C ABI: its symbols, and safe ways to call them.
//!
//! Everything that can be wrong is found when it is opened: docs/native-abi.md is the contract, and what a library
//! breaks of it here is a [`LoadError`] that names the file. What is called later is only what was found then.

use super::announced::{self, AnnouncedEntry};
use super::fault::{Fault, LoadError, Symbol};
use super::image::Image;
use super::loading::Loaded;
use nylon_abi::FfiBuffer;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::path::{Path, PathBuf};

/// What a library calls to answer.
pub type Callback = extern "C" fn(*const FfiBuffer);

type Initialize = unsafe extern "C" fn(*const c_char, c_int);
type Register = unsafe extern "C" fn(u32, *const c_char, u32, Callback) -> bool;
type Event = unsafe extern "C" fn(*const FfiBuffer);
type Close = unsafe extern "C" fn(u32);
type Free = unsafe extern "C" fn(*const u8);
type Shutdown = unsafe extern "C" fn();
type Version = unsafe extern "C" fn() -> u32;
type Entries = unsafe extern "C" fn() -> *const c_char;

/// A native library in this process. Dropping it unloads it: then nothing of it runs any more, and no thread of it
/// does. One that cannot be unloaded ([`Library::is_go`]) stays.
pub struct Library {
    file: PathBuf,
    fingerprint: u64,
    version: u32,
    go: bool,
    once: bool,
    calls: Calls,
    // Last: the code behind `calls` is there for as long as they are.
    _loaded: Loaded,
}

/// A library whose file is in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checked {
    /// It is written in Go.
    pub is_go: bool,
}

/// The functions behind the symbols.
struct Calls {
    initialize: Initialize,
    register: Register,
    event: Event,
    close: Close,
    free: Free,
    shutdown: Shutdown,
    entries: Option<Entries>,
}

impl Library {
    /// Loads the library in a file and resolves what it exports. No function of the plugin is called yet but its
    /// `nylon_abi_version`.
    ///
    /// The library is one of its own, with data of its own, also where the process has the same file loaded already.
    ///
    /// # Errors
    ///
    /// What is wrong with the file.
    pub fn open(file: &Path) -> Result<Library, LoadError> {
        Library::from_image(file, &Library::image(file)?)
    }

    /// What is in a file, to be opened with [`Library::from_image`].
    pub(super) fn image(file: &Path) -> Result<Image, LoadError> {
        Image::read(file).map_err(|fault| LoadError { file: file.to_owned(), fault })
    }

    pub(super) fn from_image(file: &Path, image: &Image) -> Result<Library, LoadError> {
        Library::load(file, image).map_err(|fault| LoadError { file: file.to_owned(), fault })
    }

    /// Whether the library in a file could be opened, as far as can be told without running anything of it.
    ///
    /// # Errors
    ///
    /// What is wrong with the file.
    pub fn check(file: &Path) -> Result<Checked, LoadError> {
        Ok(Checked { is_go: Library::image(file)?.go })
    }

    fn load(file: &Path, image: &Image) -> Result<Library, Fault> {
        let loaded = Loaded::open(file, image)?;
        let calls = Calls::of(&loaded)?;
        let version = match address(&loaded, Symbol::Version) {
            None => 1,
            Some(found) => {
                // SAFETY: by the contract a symbol of this name is a function of this type.
                let version = unsafe { std::mem::transmute::<*mut c_void, Version>(found) };
                // SAFETY: it may be called at any time after loading.
                unsafe { version() }
            }
        };
        if !(1..=nylon_abi::VERSION).contains(&version) {
            return Err(Fault::Version(version));
        }
        let fingerprint = image.fingerprint();
        let once = loaded.is_in_its_place();
        Ok(Library {
            file: file.to_owned(),
            fingerprint,
            version,
            go: image.go,
            once,
            calls,
            _loaded: loaded,
        })
    }

    /// The file that it was loaded from.
    pub fn path(&self) -> &Path {
        &self.file
    }

    /// Tells what its file held when it was loaded.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// The version of the ABI that it is built for.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Whether it is written in Go: it cannot be unloaded, and two such libraries in one process are not safe.
    pub fn is_go(&self) -> bool {
        self.go
    }

    /// Whether the process can have it only once: it was loaded from its file's place.
    pub fn is_bound_to_its_place(&self) -> bool {
        self.once
    }

    /// Hands the plugin its configuration: JSON, or nothing.
    ///
    /// # Errors
    ///
    /// The configuration is too long for the ABI.
    pub fn initialize(&self, config: &str) -> Result<(), LoadError> {
        let Ok(length) = c_int::try_from(config.len()) else {
            return Err(self.error(Fault::ConfigTooLong));
        };
        // SAFETY: the text is valid for the length that goes with it until the call returns.
        unsafe { (self.calls.initialize)(config.as_ptr().cast(), length) };
        Ok(())
    }

    /// The entries that the plugin announces, after `initialize`. `None`: it announces nothing.
    ///
    /// # Errors
    ///
    /// It could not initialize, or what it announces makes no sense.
    pub fn entries(&self) -> Result<Option<Vec<AnnouncedEntry>>, LoadError> {
        let Some(entries) = self.calls.entries else { return Ok(None) };
        // SAFETY: by the contract it may be called once the plugin is initialized.
        let text = unsafe { entries() };
        if text.is_null() {
            return Err(self.error(Fault::NotInitialized));
        }
        // SAFETY: by the contract it ends with a NUL and is valid until `shutdown`, which nobody calls meanwhile.
        let text = unsafe { CStr::from_ptr(text) };
        announced::read(text.to_bytes()).map(Some).map_err(|why| self.error(Fault::Entries(why)))
    }

    /// Opens a session for an entry, whose calls come to `callback`. False: there is no such entry.
    pub fn register(&self, session: u32, entry: &str, callback: Callback) -> bool {
        let Ok(length) = u32::try_from(entry.len()) else { return false };
        // SAFETY: the name is valid for the length that goes with it until the call returns.
        unsafe { (self.calls.register)(session, entry.as_ptr().cast(), length, callback) }
    }

    /// Tells the plugin that a phase starts, or the answer to a read.
    pub fn event(&self, message: &FfiBuffer) {
        // SAFETY: the message and what it points to are borrowed until the call returns.
        unsafe { (self.calls.event)(message) };
    }

    /// Tells the plugin that a session is over.
    pub fn close(&self, session: u32) {
        // SAFETY: it takes a number and nothing else.
        unsafe { (self.calls.close)(session) };
    }

    /// Frees what the plugin has handed over.
    #[expect(
        clippy::not_unsafe_ptr_arg_deref,
        reason = "it is not read here, but goes back to where it came from"
    )]
    pub fn free(&self, payload: *const u8) {
        // SAFETY: by the contract the plugin takes back what its callback passed; the address comes from there.
        unsafe { (self.calls.free)(payload) };
    }

    /// Tells the plugin that no session is open and none will be opened.
    pub fn shutdown(&self) {
        // SAFETY: it takes nothing.
        unsafe { (self.calls.shutdown)() };
    }

    fn error(&self, fault: Fault) -> LoadError {
        LoadError { file: self.file.clone(), fault }
    }
}

fn address(loaded: &Loaded, symbol: Symbol) -> Option<*mut c_void> {
    loaded.address(symbol.name())
}

impl Calls {
    fn of(loaded: &Loaded) -> Result<Calls, Fault> {
        let found = Symbol::REQUIRED.map(|symbol| address(loaded, symbol).ok_or(symbol));
        let [Ok(initialize), Ok(register), Ok(event), Ok(close), Ok(free), Ok(shutdown)] = found else {
            return Err(Fault::Missing(found.into_iter().filter_map(Result::err).collect()));
        };
        // SAFETY: by the contract, symbols of these names are functions of these types; nothing in a library could
        // prove it. They are called only while it is loaded.
        unsafe {
            Ok(Calls {
                initialize: std::mem::transmute::<*mut c_void, Initialize>(initialize),
                register: std::mem::transmute::<*mut c_void, Register>(register),
                event: std::mem::transmute::<*mut c_void, Event>(event),
                close: std::mem::transmute::<*mut c_void, Close>(close),
                free: std::mem::transmute::<*mut c_void, Free>(free),
                shutdown: std::mem::transmute::<*mut c_void, Shutdown>(shutdown),
                entries: address(loaded, Symbol::Entries)
                    .map(|found| std::mem::transmute::<*mut c_void, Entries>(found)),
            })
        }
    }
}
