//! The log of the Rust half.

use pyo3::prelude::*;
use std::io::IsTerminal;

/// Sends the data plane's log to stderr, once per process: at `level`, or as `NYLON_LOG` says (`debug`,
/// `nylon_gateway=trace`). The NATS client's own lines, which repeat with each attempt what the gateway says once, are
/// there only where that is at least `debug`, or names `async_nats`. False where the process has a subscriber of its own already.
#[pyfunction]
pub(crate) fn start_logging(level: &str) -> bool {
    use tracing_subscriber::EnvFilter;
    let with_client = |wanted: &str| match ["debug", "trace", "async_nats"] {
        words if words.iter().any(|word| wanted.to_lowercase().contains(word)) => wanted.to_owned(),
        _ => format!("{wanted},async_nats=off"),
    };
    let wanted = std::env::var("NYLON_LOG").ok().filter(|wanted| !wanted.is_empty());
    let filter = wanted.and_then(|wanted| EnvFilter::try_new(with_client(&wanted)).ok());
    let filter = filter.unwrap_or_else(|| EnvFilter::new(with_client(level)));
    let coloured = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(coloured);
    log.with_writer(std::io::stderr).try_init().is_ok()
}
