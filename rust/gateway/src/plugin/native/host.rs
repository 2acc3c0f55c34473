//! A plugin that is a shared library.

use super::entry::{Entry, NativeEntry, UNANNOUNCED};
use super::fault::LoadError;
use super::library::Library;
use super::mapped::{Mapped, TooManyLibraries};
use super::session::{NotOpened, Opened};
use super::slab;
use crate::plugin::{BodyUse, EntryTraits, PluginEntry, PluginHost, UnknownEntry};
use nylon_config::plan::CallbackMemory;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::Ordering;
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
    /// The version of the ABI that the library is built for.
    version: u32,
    /// What the library has announced; `None` where it announces nothing.
    announced: Option<Vec<Arc<Entry>>>,
}

impl NativeHost {
    /// Initializes `library` and learns its entries. May run for as long as the library's `initialize` does.
    ///
    /// # Errors
    /// When the library could not initialize, or its entries make no sense.
    pub fn start(library: Library, settings: NativeSettings) -> Result<NativeHost, StartError> {
        let NativeSettings { name, config, callback_memory } = settings;
        let version = library.version();
        let mapped = Mapped::new(library, callback_memory == CallbackMemory::Host)?;
        let started = mapped.starting(|library| {
            library.initialize(&config)?;
            library.entries()
        });
        let announced = match started {
            Ok(announced) => announced,
            Err(error) => {
                mapped.shut_down(Instant::now());
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
        Ok(NativeHost { name, mapped, version, announced })
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
                match Opened::new(&entry) {
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
            "abi": self.version,
            "sessions": self.mapped.open.load(Ordering::Relaxed),
            "refused_calls": self.mapped.misuse.figures(),
        })
    }

    fn shutdown(&self, grace: Duration) {
        if self.mapped.ended.swap(true, Ordering::SeqCst) {
            return;
        }
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
        self.mapped.shut_down(Instant::now() + LAST_CALLS);
    }
}

/// How long a library's calls that are under way may take to come to their ends once its sessions are closed.
const LAST_CALLS: Duration = Duration::from_secs(1);
