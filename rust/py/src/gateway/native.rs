//! Native plugins are loaded in a thread of their own: nothing can interrupt a library's `initialize`, and Ctrl-C has to
//! end the wait for it all the same.

use super::SLICE;
use nylon_gateway::plugin::PluginHost;
use nylon_gateway::plugin::native::{NativeHost, NativeSettings};
use pyo3::prelude::*;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// How long a library may take before it is said that it does.
const LONG: Duration = Duration::from_secs(10);
/// The stack of that thread, which is the library's: what a main thread usually has.
const STACK: usize = 8 << 20;

/// Loads the library in `file` and starts it; `before` runs the plugin now. An error that is a text is the library's.
///
/// # Errors
/// What Ctrl-C raises.
pub(super) fn load(
    py: Python<'_>,
    file: &Path,
    settings: NativeSettings,
    before: Option<Arc<NativeHost>>,
) -> PyResult<Result<NativeHost, String>> {
    let (name, file) = (settings.name.clone(), file.to_owned());
    let (done, mut loaded) = mpsc::channel();
    let load = move || {
        let host = NativeHost::load(&file, settings, before.as_deref());
        // Nobody waits any more: it ends as soon as it can.
        if let Err(mpsc::SendError(Ok(host))) = done.send(host) {
            host.shutdown(Duration::from_secs(1));
        }
    };
    let thread = std::thread::Builder::new().name("nylon-load".to_owned()).stack_size(STACK);
    let thread = match thread.spawn(load) {
        Ok(thread) => thread,
        Err(error) => return Ok(Err(format!("no thread can be started to load it: {error}"))),
    };
    let begun = Instant::now();
    let mut told = false;
    loop {
        let waited = py.detach(move || {
            let waited = loaded.recv_timeout(SLICE);
            (loaded, waited)
        });
        loaded = waited.0;
        match waited.1 {
            Ok(host) => {
                // It has nothing left to do.
                let _ = py.detach(|| thread.join());
                return Ok(host.map_err(|error| error.to_string()));
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                return Ok(Err("loading it panicked: this is a defect of Nylon".to_owned()));
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {}
        }
        py.check_signals()?;
        if !told && begun.elapsed() > LONG {
            told = true;
            tracing::warn!("plugin `{name}`: its library's `initialize` has not returned for {LONG:?}");
        }
    }
}
