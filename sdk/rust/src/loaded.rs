//! A plugin that the gateway has loaded, with one configuration.

use crate::error::{Error, Result};
use crate::panics;
use crate::phase::Phase;
use crate::plugin::{Entry, Plugin};
use serde::de::DeserializeOwned;
use serde_json::json;
use std::sync::{Mutex, PoisonError};

pub(crate) struct Loaded {
    /// In the order of their names.
    entries: Vec<Entry>,
    shutdown: Mutex<Option<Box<dyn FnOnce() + Send + Sync>>>,
}

impl Loaded {
    pub(crate) fn new(plugin: Plugin) -> Result<Loaded> {
        let mut plugin = plugin.recorded()?;
        let shutdown = Mutex::new(plugin.shutdown.take());
        let entries = plugin.entries.into_values().collect();
        Ok(Loaded { entries, shutdown })
    }

    /// The place of the entry of this name.
    pub(crate) fn find(&self, name: &[u8]) -> Option<usize> {
        self.entries.binary_search_by(|entry| entry.name.as_bytes().cmp(name)).ok()
    }

    /// The entry at a place that was found.
    pub(crate) fn entry(&self, place: usize) -> &Entry {
        &self.entries[place]
    }

    pub(crate) fn entry_names(&self) -> Vec<String> {
        self.entries.iter().map(|entry| entry.name.clone()).collect()
    }

    /// The entries as `nylon_entries` gives them.
    pub(crate) fn announcement(&self) -> String {
        let entry = |entry: &Entry| {
            let wants = &entry.wants;
            let phases: Vec<_> =
                Phase::ALL.into_iter().filter(|phase| wants.phases[*phase]).map(Phase::name).collect();
            json!({"name": entry.name, "phases": phases, "body": wants.body, "stream": wants.by_chunk})
        };
        serde_json::Value::Array(self.entries.iter().map(entry).collect()).to_string()
    }

    /// Runs what the plugin wants to do at its end, once.
    pub(crate) fn shut_down(&self) {
        let action = self.shutdown.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(action) = action
            && let Err(panic) = panics::caught(|_| action())
        {
            eprintln!("nylon-plugin: shutdown {panic}");
        }
    }
}

/// A plugin that was replaced ends when its last session does.
impl Drop for Loaded {
    fn drop(&mut self) {
        self.shut_down();
        panics::dropped(std::mem::take(&mut self.entries));
    }
}

/// A function that makes the plugin: with or without the configuration, with or without a [`Result`].
pub trait Construct<Arguments> {
    #[doc(hidden)]
    fn construct(self, config: &[u8]) -> Result<Plugin>;
}

impl<F, R> Construct<()> for F
where
    F: FnOnce() -> R,
    R: Constructed,
{
    fn construct(self, _config: &[u8]) -> Result<Plugin> {
        self().into_plugin()
    }
}

impl<F, C, R> Construct<(C,)> for F
where
    F: FnOnce(C) -> R,
    C: DeserializeOwned,
    R: Constructed,
{
    fn construct(self, config: &[u8]) -> Result<Plugin> {
        let text = if config.is_empty() { b"null" } else { config };
        let config = serde_json::from_slice(text).map_err(|error| {
            let none = if config.is_empty() { " (the configuration gives this plugin none)" } else { "" };
            Error::from(format!("its config is not what it expects{none}: {error}"))
        })?;
        self(config).into_plugin()
    }
}

/// What such a function may return.
pub trait Constructed {
    #[doc(hidden)]
    fn into_plugin(self) -> Result<Plugin>;
}

impl Constructed for Plugin {
    fn into_plugin(self) -> Result<Plugin> {
        Ok(self)
    }
}

impl Constructed for Result<Plugin> {
    fn into_plugin(self) -> Result<Plugin> {
        self
    }
}
