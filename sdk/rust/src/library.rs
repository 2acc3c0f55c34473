//! The library as the gateway sees it: what stands behind the exported symbols.
//!
//! Nothing here lets a panic out, and no lock is held while code of the plugin runs.

use crate::error::{Error, Result};
use crate::link::{self, Callback};
use crate::loaded::{Construct, Loaded};
use crate::panics;
use crate::phase::Phase;
use crate::plugin::Plugin;
use crate::sessions::Sessions;
use nylon_abi::{FfiBuffer, phase};
use std::ffi::{CString, c_char, c_int};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A plugin as a library. `export_plugin!` makes one, the exported functions call it.
pub struct Library {
    build: fn(&[u8]) -> Result<Plugin>,
    current: Mutex<Current>,
    sessions: Sessions,
}

#[derive(Default)]
struct Current {
    plugin: Option<Arc<Loaded>>,
    /// What was announced; the gateway may read it until `shutdown`. Grows only where a reload changes the entries.
    announced: Vec<CString>,
    /// The last `initialize` failed.
    failed: bool,
}

/// Calls the function that makes the plugin.
pub fn construct<A>(function: impl Construct<A>, config: &[u8]) -> Result<Plugin> {
    function.construct(config)
}

impl Library {
    /// A library that is not initialized.
    pub const fn new(build: fn(&[u8]) -> Result<Plugin>) -> Library {
        let current = Current { plugin: None, announced: Vec::new(), failed: false };
        Library { build, current: Mutex::new(current), sessions: Sessions::new() }
    }

    /// A library that has this plugin already.
    pub(crate) fn of(plugin: Plugin) -> Result<Library> {
        let library = Library::new(|_| Err("this library has its plugin from the start".into()));
        let plugin = Some(Arc::new(Loaded::new(plugin)?));
        library.sessions.begin_with(plugin.as_ref());
        library.current().plugin = plugin;
        Ok(library)
    }

    /// The phases of an entry, and whether it wants the request's body and response bodies by chunk; where there is no
    /// such entry, those that there are.
    pub(crate) fn wants(&self, entry: &str) -> Result<(Vec<Phase>, bool, bool), Vec<String>> {
        let Some(plugin) = self.current().plugin.clone() else { return Err(Vec::new()) };
        let entry = plugin.find(entry.as_bytes()).ok_or_else(|| plugin.entry_names())?;
        let entry = plugin.entry(entry);
        let phases = Phase::ALL.into_iter().filter(|phase| entry.wants.phases[*phase]).collect();
        Ok((phases, entry.wants.body, entry.wants.by_chunk))
    }

    /// `initialize`: makes the plugin, or makes it anew with another configuration.
    ///
    /// # Safety
    /// `config` points to `len` bytes, or `len` is 0.
    pub unsafe fn initialize(&self, config: *const c_char, len: c_int) {
        // SAFETY: as the caller says.
        let config = unsafe { bytes(config.cast(), u64::try_from(len).unwrap_or(0)) };
        let made = panics::caught(|_| -> Result<(Arc<Loaded>, CString)> {
            let loaded = Arc::new(Loaded::new((self.build)(config)?)?);
            let announced = CString::new(loaded.announcement())?;
            Ok((loaded, announced))
        });
        let made = made.unwrap_or_else(|panic| Err(Error::from(panic)));
        let replaced = {
            let mut current = self.current();
            current.failed = made.is_err();
            match made {
                Ok((loaded, announced)) => {
                    self.sessions.begin_with(Some(&loaded));
                    if current.announced.last() != Some(&announced) {
                        current.announced.push(announced);
                    }
                    current.plugin.replace(loaded)
                }
                Err(error) => {
                    eprintln!("nylon-plugin: the plugin cannot be initialized: {error}");
                    None
                }
            }
        };
        // Outside of the lock, since it may end the replaced plugin.
        drop(replaced);
    }

    /// `nylon_entries`: null where the plugin could not be made.
    pub fn entries(&self) -> *const c_char {
        let current = self.current();
        match current.announced.last() {
            Some(announced) if !current.failed => announced.as_ptr(),
            _ => std::ptr::null(),
        }
    }

    /// `register_session_stream`: opens a session.
    ///
    /// # Safety
    /// `entry` points to `len` bytes, or `len` is 0; `callback` is the gateway's.
    pub unsafe fn register(&self, sid: u32, entry: *const c_char, len: u32, callback: Callback) -> bool {
        // SAFETY: as the caller says.
        let entry = unsafe { bytes(entry.cast(), u64::from(len)) };
        self.sessions.open(sid, entry, callback)
    }

    /// `event_stream`: a phase starts, or a read is answered.
    ///
    /// # Safety
    /// `message` is null, or points to a message whose payload can be read.
    pub unsafe fn event(&self, message: *const FfiBuffer) {
        // SAFETY: as the caller says.
        let Some(message) = (unsafe { message.as_ref() }) else { return };
        if message.phase == phase::NONE {
            // SAFETY: as the caller says.
            let answer = unsafe { bytes(message.ptr, message.len) };
            if !link::answer(message.sid, message.method, answer)
                && let Some(session) = self.sessions.get(message.sid)
            {
                session.link.keep(message.method, answer);
            }
        } else if let Some(phase) = Phase::from_number(message.phase)
            && let Some(session) = self.sessions.get(message.sid)
            && let Err(panic) = panics::caught(|guard| session.run(phase, guard))
        {
            eprintln!("nylon-plugin: {phase} {panic}");
        }
    }

    /// `close_session_stream`: nothing of the session is called any more.
    pub fn close(&self, sid: u32) {
        self.sessions.close(sid);
    }

    /// `shutdown`: ends the plugin.
    pub fn shutdown(&self) {
        self.sessions.begin_with(None);
        self.sessions.close_all();
        let current = std::mem::take(&mut *self.current());
        if let Some(plugin) = &current.plugin {
            plugin.shut_down();
        }
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// # Safety
/// `pointer` points to `len` bytes that stay as they are for `'a`, or is null.
unsafe fn bytes<'a>(pointer: *const u8, len: u64) -> &'a [u8] {
    match usize::try_from(len) {
        Ok(len) if len > 0 && !pointer.is_null() => {
            // SAFETY: as the caller says.
            unsafe { std::slice::from_raw_parts(pointer, len) }
        }
        _ => &[],
    }
}
