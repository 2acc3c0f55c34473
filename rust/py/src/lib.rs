//! `nylon._core`: the Rust half of the Python package.

use pyo3::prelude::*;

// Worth about 1 of 27 to 31 µs per proxied request. `local_dynamic_tls` is set in Cargo.toml: without it the extension would need
// room in the static TLS block, of which a process that has imported other such modules may have none left.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Exceptions.
mod errors;
/// The configuration, checked without running it.
mod config;
/// Bytes, strings, MessagePack and JSON.
mod text;
/// What a handler sees.
mod context;
/// What can be known of a function before it is called.
mod signature;
/// What a plugin registers.
mod registry;
/// From a lent context to a finished call.
mod dispatch;
/// Plugins in the gateway's process.
mod python_host;
/// A gateway as a Python object.
mod gateway;
/// The log.
mod logging;
/// The process of one plugin.
mod isolation;
/// A worker's call from the broker's bytes to its answer.
mod worker;
/// A worker's proof of who it is to the broker.
mod credentials;
/// A plugin without a gateway.
mod testing;

#[pymodule]
mod _core {
    use super::*;

    #[pymodule_export]
    use super::config::{BrokerServers, ConfigCheck, Diagnostic, check_config, control_socket, json_schema};
    #[pymodule_export]
    use super::context::{Context, Headers, Request, Response, ResponseStream};
    #[pymodule_export]
    use super::credentials::{sign_with_creds, sign_with_nkey};
    #[pymodule_export]
    use super::dispatch::{_finish, _suspend};
    #[pymodule_export]
    use super::errors::_error_names;
    #[pymodule_export]
    use super::gateway::GatewayCore;
    #[pymodule_export]
    use super::isolation::PluginProcess;
    #[pymodule_export]
    use super::logging::start_logging;
    #[pymodule_export]
    use super::python_host::LoopQueue;
    #[pymodule_export]
    use super::registry::{PhaseHandler, Registry};
    #[pymodule_export]
    use super::testing::{TestExchange, TestHost, TestSession};
    #[pymodule_export]
    use super::worker::{Worker, WorkerProtocol};

    #[pymodule_init]
    fn init(m: &Bound<'_, PyModule>) -> PyResult<()> {
        m.add("version", env!("CARGO_PKG_VERSION"))?;
        let mapping = m.py().import("collections.abc")?.getattr("MutableMapping")?;
        mapping.call_method1("register", (m.py().get_type::<Headers>(),))?;
        Ok(())
    }
}
