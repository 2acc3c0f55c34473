//! A gateway with one library as its plugin.

use crate::client::Client;
use nylon_config::plan::CallbackMemory;
use nylon_gateway::plugin::PluginHost;
use nylon_gateway::plugin::native::{Library, NativeHost, NativeSettings};
use nylon_gateway::server::Server;
use serde_json::Value;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

/// The library that the compiler makes of `plugins/NAME.c`, once per run.
pub(crate) fn built(name: &str) -> PathBuf {
    type Built = Mutex<HashMap<String, PathBuf>>;
    static BUILT: OnceLock<Built> = OnceLock::new();
    let mut built = BUILT.get_or_init(Built::default).lock().expect("no panic while building");
    built.entry(name.to_owned()).or_insert_with(|| compile(name)).clone()
}

fn compile(name: &str) -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}.so", std::process::id()));
    let done = Command::new("cc")
        .args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-D_DEFAULT_SOURCE", "-Wno-unused-function"])
        .args(["-g", "-O1", "-shared", "-fPIC", "-pthread", "-I"])
        .arg(here.join("../../include"))
        .arg("-o")
        .arg(&out)
        .arg(here.join(format!("tests/native/plugins/{name}.c")))
        .output()
        .expect("a C compiler (cc) is needed for the tests of native plugins");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    out
}

/// A host for the library `name`.
pub(crate) fn host(name: &str, callback_memory: CallbackMemory) -> Arc<NativeHost> {
    host_with(name, callback_memory, "")
}

/// The same, with what the library is initialized with.
pub(crate) fn host_with(name: &str, callback_memory: CallbackMemory, config: &str) -> Arc<NativeHost> {
    let library = Library::open(&built(name)).expect("the library is sound");
    let settings = NativeSettings { name: name.to_owned(), config: config.to_owned(), callback_memory };
    Arc::new(NativeHost::start(library, settings).expect("the library starts"))
}

/// A running gateway, stopped when dropped.
pub(crate) struct Gateway {
    pub(crate) server: Server,
    pub(crate) host: Arc<NativeHost>,
}

impl Gateway {
    /// Every request meets `middleware` (YAML, the plugin is `x`) on its way to the origin at `port`.
    pub(crate) fn start(host: Arc<NativeHost>, port: u16, middleware: &str, more: &str) -> Gateway {
        let config = format!(
            "http: ['127.0.0.1:0']\nruntime: {{threads: 2}}\n{more}\n\
             plugins: [{{name: x, type: ffi, file: {file}}}]\n\
             services: [{{name: origin, service_type: http, endpoints: [{{ip: 127.0.0.1, port: {port}}}]}}]\n\
             routes: [{{route: {{type: host, value: '*'}}, name: all, middleware: {middleware}, \
             paths: [{{path: [/, '/{{*rest}}'], service: {{name: origin}}}}]}}]\n",
            file = built("guard").display(),
        );
        let loaded = nylon_config::parse_str("test.yaml", &config, Path::new("."), &|_| None)
            .unwrap_or_else(|errors| panic!("{errors}\n{config}"));
        let hosts: Vec<Arc<dyn PluginHost>> = vec![host.clone()];
        let server = Server::start(Arc::new(loaded.plan), hosts, None).expect("the gateway starts");
        Gateway { server, host }
    }

    /// The entry `entry` of the library `name`, before the origin at `port`.
    pub(crate) fn with(name: &str, entry: &str, port: u16) -> Gateway {
        let middleware = format!("[{{plugin: x, entry: {entry}}}]");
        Gateway::start(host(name, CallbackMemory::Plugin), port, &middleware, "")
    }

    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.server.addresses()[0])
    }

    /// Sessions that are open.
    pub(crate) fn open(&self) -> u64 {
        self.host.figures()["sessions"].as_u64().unwrap_or(0)
    }

    /// How often calls of the kind were refused.
    pub(crate) fn refused(&self, kind: &str) -> u64 {
        self.host.figures()["refused_calls"].get(kind).and_then(Value::as_u64).unwrap_or(0)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.server.stop(Duration::from_secs(5));
        self.host.shutdown(Duration::from_secs(5));
    }
}

/// Waits until `is_so`, and fails if it never is.
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < until, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
