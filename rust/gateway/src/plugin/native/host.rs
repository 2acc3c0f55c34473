//! A plugin that is a shared library.

use super::entry::{Entry, NativeEntry, UNANNOUNCED};
use super::fault::LoadError;
use super::go::{earlier_go_library, two_go_libraries};
use super::library::Library;
use super::mapped::{Left, Mapped, TooManyLibraries};
use super::seat;
use super::session::{NotOpened, Opened};
use super::slab;
use crate::plugin::watchdog::Watch;
use crate::plugin::{BodyUse, EntryTraits, PluginEntry, PluginHost, UnknownEntry};
use nylon_config::plan::CallbackMemory;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How a library is run.
#[derive(Clone, Debug)]
pub struct NativeSettings {
    /// The plugin's name in the configuration.
    pub name: String,
    /// What `initialize` gets: JSON, or nothing.
    pub config: String,
    /// Who frees what the library hands over.
    pub callback_memory: CallbackMemory,
}

/// Why a library does not run.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its own fault.
    #[error(transparent)]
    Library(#[from] LoadError),
    /// There are too many.
    #[error(transparent)]
    TooMany(#[from] TooManyLibraries),
}

/// Runs the entries of one library.
pub struct NativeHost {
    name: String,
    mapped: &'static Mapped,
    lease: u64,
    left: AtomicBool,
    watch: Mutex<Option<Watch>>,
    /// What the library has announced; `None` where it announces nothing.
    announced: Option<Vec<Arc<Entry>>>,
}

impl NativeHost {
    /// Loads the library in a file, and starts it. Where the process has that very library already and cannot get rid of
    /// it (one in Go, one with threads of its own, one for version 1), this is initialized again instead of being loaded
    /// once more: the one that `before` runs, which goes on with its sessions, or one that was shut down.
    ///
    /// # Errors
    /// When the library cannot be loaded or could not initialize, or its entries make no sense. `before` runs on as it
    /// did.
    pub fn load(
        file: &Path,
        settings: NativeSettings,
        before: Option<&NativeHost>,
    ) -> Result<NativeHost, StartError> {
        let image = Library::image(file)?;
        let frees = settings.callback_memory == CallbackMemory::Host;
        let before = before.map(|host| host.mapped);
        match Mapped::again(file, image.fingerprint(), frees, before) {
            Some(mapped) => NativeHost::enter(mapped, settings),
            None => NativeHost::start(Library::from_image(file, &image)?, settings),
        }
    }

    /// Initializes `library` and learns its entries. May run for as long as the library's `initialize` does.
    ///
    /// # Errors
    /// When the library could not initialize, or its entries make no sense.
    pub fn start(library: Library, settings: NativeSettings) -> Result<NativeHost, StartError> {
        let frees = settings.callback_memory == CallbackMemory::Host;
        let mapped = Mapped::new(library, &settings.name, frees)?;
        NativeHost::enter(mapped, settings)
    }

    fn enter(mapped: &'static Mapped, settings: NativeSettings) -> Result<NativeHost, StartError> {
        let NativeSettings { name, config, .. } = settings;
        let lease = mapped.enter(&config);
        let started = mapped.starting(|library| {
            library.initialize(&config)?;
            library.entries()
        });
        let announced = match started {
            Ok(announced) => announced,
            Err(error) => {
                give_back(mapped, lease, &name, || mapped.shut_down(Instant::now()));
                return Err(error.into());
            }
        };
        let entry = |entry: super::AnnouncedEntry| {
            let traits = EntryTraits {
                phases: entry.phases,
                request_body: entry.request_body,
                response_body: BodyUse::by_chunk(entry.stream),
            };
            Arc::new(Entry { mapped, name: entry.name.into(), traits })
        };
        let announced = announced.map(|entries| entries.into_iter().map(entry).collect());
        // Without a watchdog everything runs, only that nobody is told of what is stuck.
        let watch = Watch::keep(seat::LOOK).inspect_err(|error| {
            tracing::warn!("native plugins run without a watchdog: {error}");
        });
        let (left, watch) = (AtomicBool::new(false), Mutex::new(watch.ok()));
        Ok(NativeHost { name, mapped, lease, left, watch, announced })
    }

    /// What is doubtful about the library beside others of this process.
    pub fn warning(&self) -> Option<String> {
        let other = self.mapped.other_in_go()?;
        let plugin = &other.origin().plugin;
        let going = *plugin == self.name || other.is_idle();
        Some(if going {
            earlier_go_library(&self.name, plugin)
        } else {
            two_go_libraries(&self.name, plugin)
        })
    }

    /// The names of the entries that the library announces; `None` where it announces nothing.
    pub fn announced(&self) -> Option<Vec<String>> {
        let entries = self.announced.as_ref()?;
        Some(entries.iter().map(|entry| entry.name.to_string()).collect())
    }

    /// Closes sessions that nobody gives back. A phase that runs in one fails.
    fn close_all(&self) {
        for slot in slab::all() {
            let place = slot.lock();
            let own = place.session.as_ref().filter(|state| std::ptr::eq(state.entry.mapped, self.mapped));
            let opened = own.map(|_| Opened { sid: place.sid, slot, mapped: self.mapped });
            drop(place);
            if let Some(opened) = opened {
                opened.close();
            }
        }
    }
}

impl PluginHost for NativeHost {
    fn kind(&self) -> &'static str {
        "native"
    }

    /// A library that announces nothing is asked: it has what it opens a session for.
    fn entry(&self, name: &str) -> Result<Arc<dyn PluginEntry>, UnknownEntry> {
        let known = match &self.announced {
            Some(entries) => entries.iter().find(|entry| &*entry.name == name).cloned(),
            None => {
                let entry = Arc::new(Entry { mapped: self.mapped, name: name.into(), traits: UNANNOUNCED });
                match Opened::new(&entry, Instant::now()) {
                    Ok(opened) => {
                        opened.close();
                        Some(entry)
                    }
                    Err(NotOpened::NoSuchEntry) => None,
                    // What that means shows in the calls.
                    Err(NotOpened::TooMany | NotOpened::Ended) => Some(entry),
                }
            }
        };
        match known {
            Some(entry) => Ok(Arc::new(NativeEntry(entry))),
            None => Err(UnknownEntry {
                name: name.to_owned(),
                known: self.announced.iter().flatten().map(|entry| entry.name.to_string()).collect(),
            }),
        }
    }

    fn figures(&self) -> Value {
        json!({
            "abi": self.mapped.origin().version,
            "sessions": self.mapped.open.load(Ordering::Relaxed),
            "refused_calls": self.mapped.misuse.figures(),
        })
    }

    fn shutdown(&self, grace: Duration) {
        if !self.left.swap(true, Ordering::SeqCst) {
            give_back(self.mapped, self.lease, &self.name, || self.end(grace));
            drop(self.watch.lock().unwrap_or_else(PoisonError::into_inner).take());
        }
    }
}

impl NativeHost {
    /// Ends the library, which nobody uses any more.
    fn end(&self, grace: Duration) {
        self.mapped.ended.store(true, Ordering::SeqCst);
        let until = Instant::now() + grace;
        let open = || self.mapped.open.load(Ordering::SeqCst);
        while open() > 0 && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(2));
        }
        if open() > 0 {
            tracing::warn!(
                plugin = self.name,
                sessions = open(),
                "sessions of the plugin are still open after {grace:?}: they are closed"
            );
            self.close_all();
        }
        self.mapped.shut_down(until.max(Instant::now() + LAST_CALLS));
    }
}

/// Gives a library back: to nobody, and `end` ends it; or to a host before, which gets it as it had it.
fn give_back(mapped: &'static Mapped, lease: u64, plugin: &str, end: impl FnOnce()) {
    match mapped.leave(lease) {
        Left::Nobody => end(),
        Left::Others => {}
        Left::Earlier(config) => {
            let again = mapped.starting(|library| {
                library.initialize(&config)?;
                library.entries()
            });
            if let Err(error) = again {
                tracing::error!(
                    plugin,
                    "the library does not take its configuration of before again: {error}"
                );
            }
        }
    }
}

/// How long a library's calls that are under way may take to come to their ends once its sessions are closed.
const LAST_CALLS: Duration = Duration::from_secs(1);
