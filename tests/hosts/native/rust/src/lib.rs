//! The suite's entries in Rust: each does what the entry of its name in tests/hosts/entries does, with what the SDK
//! gives it. What cannot be said in Rust is in tests/hosts/unexpressed.py, with the reason.
//!
//! "Awaited" is "deferred" here, and what blocks in Python's pool has a thread of its own.

mod bodies;
mod deciding;
mod failing;
mod origin;
mod reading;
mod sessions;
mod streaming;
mod waiting;
mod writing;

use nylon_plugin::{Plugin, Result, export_plugin};
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// What the plugin was made with.
#[derive(Clone)]
struct Initialized {
    times: u32,
    config: Arc<Value>,
}

/// `config.refuse` says why there is to be no plugin: an `error`, or a `panic`.
fn plugin(config: Value) -> Result<Plugin> {
    let refusal = &config["refuse"];
    assert!(refusal["panic"].is_null(), "{}", refusal["panic"]);
    if let Some(why) = refusal["error"].as_str() {
        return Err(why.into());
    }
    static TIMES: AtomicU32 = AtomicU32::new(0);
    let times = TIMES.fetch_add(1, Ordering::SeqCst) + 1;
    let plugin = reading::register(Plugin::new(), Initialized { times, config: Arc::new(config) });
    let plugin = writing::register(plugin);
    let plugin = deciding::register(plugin);
    let plugin = failing::register(plugin);
    let plugin = bodies::register(plugin);
    let plugin = sessions::register(plugin);
    let plugin = waiting::register(plugin);
    Ok(streaming::register(plugin))
}

export_plugin!(plugin);
