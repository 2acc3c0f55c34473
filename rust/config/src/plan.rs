//! The configuration as it is run.
//!
//! A [`Plan`] is what validation leaves: every name is resolved to an index, every group is expanded in place,
//! every default is filled in, every payload is already encoded. The data plane looks nothing up by name, and a
//! reload swaps one plan for another. Whatever could be wrong in a configuration was reported before a plan exists.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use ipnet::IpNet;
use nylon_core::Phase;

use crate::diagnostic::Location;

/// Certificates obtained by ACME.
mod acme;
/// Plugins of the gateway's own.
mod builtins;
/// Requests that a middleware is for.
mod condition;
/// Media types.
mod media;
/// What a handler finds in its payload.
mod payload;
/// Where requests go.
mod routing;
/// TLS towards clients.
mod tls;
/// How requests are shared among endpoints.
mod balancing;

pub use acme::*;
pub use balancing::*;
pub use builtins::*;
pub use condition::*;
pub use media::*;
pub use payload::*;
pub use routing::*;
pub use tls::*;

/// A valid configuration, ready to run.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The addresses that speak plain HTTP, in the order written. They or `https` are not empty.
    pub http: Vec<Listener>,
    /// The addresses that speak HTTPS, in the order written.
    pub https: Vec<Listener>,
    /// The certificates for them, in the order written: the first is also for clients that ask for none of the names.
    pub certificates: Vec<Certificate>,
    /// Threads, shutdown times, the pool of idle upstream connections.
    pub runtime: Runtime,
    /// Time-outs and sizes that protect the gateway.
    pub limits: Limits,
    /// The peers whose `X-Forwarded-*` are believed. Empty: nobody's.
    pub trusted_proxies: Vec<IpNet>,
    /// The request header whose value picks a [`Matcher::Header`] route, before any host is looked at.
    pub header_selector: Option<http::HeaderName>,
    /// The Unix socket for `nylon reload` and `nylon status`.
    pub control: Option<PathBuf>,
    /// Connections to message brokers.
    pub messaging: Vec<Messaging>,
    /// All plugins, used or not, in the order written.
    pub plugins: Vec<Plugin>,
    /// How the names of endpoints are resolved.
    pub dns: Dns,
    /// All services, used or not, in the order written.
    pub services: Vec<Service>,
    /// All routes, in the order written. Their matchers never overlap.
    pub routes: Vec<Route>,
}

/// One address that the gateway listens on.
#[derive(Debug, Clone, PartialEq)]
pub struct Listener {
    /// The address. Port 0 asks the system for a free port.
    pub address: SocketAddr,
    /// Where the configuration names it.
    pub location: Location,
}

/// How the process runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Runtime {
    /// Data-plane threads; `None` is one per core.
    pub threads: Option<usize>,
    /// How long open requests may take to finish once a stop was asked for and the listeners are closed; what is
    /// open after that is cut.
    pub grace_period: Duration,
    /// How long the last step may take after that: `logging` phases, plugins' `shutdown`, the broker's drain.
    pub graceful_shutdown_timeout: Duration,
    /// How long a plugin that a reload replaced lives on for the exchanges that began with it.
    pub reload_grace_period: Duration,
    /// PEM file of the authorities that the gateway trusts as a client, unless something more special is written;
    /// `None` trusts the system's.
    pub ca_file: Option<PathBuf>,
    /// Idle upstream connections kept per data-plane thread, over all endpoints.
    pub upstream_keepalive_pool_size: usize,
}

/// Time-outs and sizes that protect the gateway. `None` in a size is "no limit".
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// From a client's first byte of a request (or from accept) to the end of its head.
    pub header_read_timeout: Duration,
    /// From accept to the end of the TLS handshake.
    pub tls_handshake_timeout: Duration,
    /// How long a client's connection may sit between two requests.
    pub keepalive_timeout: Duration,
    /// The longest silence while a request body is awaited.
    pub body_read_timeout: Duration,
    /// The longest time in which a client takes no byte of a response.
    pub write_timeout: Duration,
    /// Bytes of a request head; beyond it 431.
    pub max_header_bytes: usize,
    /// Fields in a request head; beyond it 431.
    pub max_headers: usize,
    /// Bytes of a body that the gateway holds for a plugin that asked for it; beyond it 413.
    pub max_body_bytes: usize,
    /// Bytes of a request body that is only forwarded; beyond it 413.
    pub max_forwarded_body_bytes: Option<u64>,
    /// Client connections open at once; beyond it they wait in the listen queue.
    pub max_connections: usize,
    /// Requests that one HTTP/2 connection may have in flight.
    pub max_concurrent_streams: u32,
    /// Upstream times, unless a service has its own.
    pub upstream: UpstreamLimits,
}

/// The times that an upstream may take.
#[derive(Debug, Clone, PartialEq)]
pub struct UpstreamLimits {
    /// To take a connection.
    pub connect_timeout: Duration,
    /// From the end of the request to the end of the response head.
    pub response_head_timeout: Duration,
    /// The longest silence inside a response body.
    pub read_timeout: Duration,
    /// How long a pooled connection may sit idle before it is closed.
    pub idle_timeout: Duration,
}

/// A connection to a message broker.
#[derive(Debug, Clone, PartialEq)]
pub struct Messaging {
    /// Its name in the configuration.
    pub name: String,
    /// Where the broker is.
    pub broker: Broker,
    /// The first part of every subject (`nylon`).
    pub subject_prefix: String,
    /// Connections that the calls of all threads share; `None` is one for each data-plane thread.
    pub connections: Option<usize>,
    /// Calls in flight at once, on all connections together.
    pub max_inflight: usize,
    /// What happens when every worker is busy.
    pub overflow: Overflow,
    /// Who the gateway is to the broker.
    pub auth: BrokerAuth,
    /// How it speaks TLS; `None` only where the server may do without.
    pub tls: Option<ClientTls>,
    /// Where the configuration defines it.
    pub location: Location,
}

impl Messaging {
    /// Whether a connection with these settings could serve for the other: all but their places are the same.
    pub fn is_same_connection(&self, other: &Messaging) -> bool {
        *self == Messaging { location: self.location.clone(), ..other.clone() }
    }
}

/// Where a broker is.
#[derive(Debug, Clone, PartialEq)]
pub enum Broker {
    /// NATS servers as URLs (`nats://host:port`, `tls://host:port`), without credentials. Never empty.
    Servers(Vec<String>),
    /// The gateway starts a nats-server of its own on loopback.
    Embedded,
}

/// Who the gateway is to a broker.
#[derive(Debug, Clone, PartialEq)]
pub enum BrokerAuth {
    /// Nobody in particular.
    Anonymous,
    /// User and password.
    Password {
        /// The user.
        user: String,
        /// The password.
        password: Secret,
    },
    /// A token.
    Token(Secret),
    /// An nkey: a file with its seed, which [`crate::credentials::read_seed`] reads. Read again at each connect.
    Nkey(PathBuf),
    /// A user's JWT and seed: a file which [`crate::credentials::read_creds`] reads. Read again at each connect.
    Creds(PathBuf),
}

/// TLS to a broker or an upstream: there is no connection without it. The files are read again at each connect to a
/// broker, and with each plan for an upstream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientTls {
    /// PEM file of the authorities to trust; `None` trusts the system's.
    pub ca_file: Option<PathBuf>,
    /// PEM files of the gateway's certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The name in the peer's certificate, where it is not the one in the address.
    pub hostname: Option<String>,
}

/// Text that never shows in a log.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps `text`.
    pub fn new(text: String) -> Secret {
        Secret(text)
    }

    /// The text itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// What happens to a call when every worker is busy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overflow {
    /// It waits, within its time-out.
    Queue,
    /// It fails at once (503).
    Reject,
}

/// The place of a plugin in [`Plan::plugins`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PluginIndex(pub usize);

/// The place of a service in [`Plan::services`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceIndex(pub usize);

/// A unit of code.
#[derive(Debug, Clone, PartialEq)]
pub struct Plugin {
    /// Its name in the configuration.
    pub name: String,
    /// What runs it.
    pub kind: PluginKind,
    /// What its `initialize` gets; `Null` where nothing is written.
    pub config: serde_json::Value,
    /// The processes of its own that it runs in; `None` is the gateway's. Always `None` for workers.
    pub isolation: Option<Isolation>,
    /// What becomes of the gateway when the plugin cannot be loaded. Always `Fail` for workers.
    pub on_load_error: OnLoadError,
    /// How each phase is called, unless a middleware says otherwise.
    pub per_phase: Policies,
    /// Where the configuration defines it.
    pub location: Location,
}

/// Processes of a plugin's own, apart from the gateway's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Isolation {
    /// How many there are; at least 1.
    pub processes: usize,
}

/// What becomes of the gateway when a plugin cannot be loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnLoadError {
    /// It does not start; at a reload the running plan stays.
    Fail,
    /// It runs, and what the plugin would have to do fails (503), by the policies of its phases.
    Isolate,
}

/// What runs a plugin.
#[derive(Debug, Clone, PartialEq)]
pub enum PluginKind {
    /// A library that speaks the C ABI.
    Native {
        /// The library.
        file: PathBuf,
        /// Who frees the memory that it hands over.
        callback_memory: CallbackMemory,
    },
    /// Python code in the gateway's process.
    Python {
        /// Where the code is.
        source: PythonSource,
        /// How `def` handlers are scheduled.
        execution: Execution,
        /// Threads of the pool that runs `def` handlers (with [`Execution::Thread`]).
        threads: usize,
    },
    /// Workers behind a message broker.
    Messaging {
        /// The place of the connection in [`Plan::messaging`].
        messaging: usize,
        /// Which workers there.
        workers: Workers,
    },
}

/// Who frees the memory that a native plugin hands over in a callback. Nothing in a library tells, and the wrong one
/// aborts the process or leaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallbackMemory {
    /// The plugin, when the callback has returned.
    Plugin,
    /// The gateway, by the library's `plugin_free`.
    Host,
}

/// The workers of a plugin behind a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workers {
    /// The queue groups that share the sessions by weight. Never empty, no name twice, not all weights 0.
    pub groups: Vec<GroupShare>,
    /// A further group that gets a copy of each call; its answers are only measured.
    pub mirror: Option<String>,
}

impl Workers {
    /// All workers of one group.
    pub fn of(group: impl Into<String>) -> Workers {
        Workers { groups: vec![GroupShare { name: group.into(), weight: 1 }], mirror: None }
    }
}

/// A queue group and its share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupShare {
    /// The group.
    pub name: String,
    /// Its share of the sessions, of the sum of all weights; 0 is none.
    pub weight: u32,
}

/// Where a Python plugin's code is, and what it calls itself there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PythonSource {
    /// A file that exists, and the attribute in it.
    File {
        /// The file.
        path: PathBuf,
        /// The attribute, `plugin` unless written.
        attribute: String,
    },
    /// A module that can be imported, and the attribute in it.
    Module {
        /// The module, dotted.
        module: String,
        /// The attribute, `plugin` unless written.
        attribute: String,
    },
}

/// How `def` handlers of an in-process plugin are scheduled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Execution {
    /// In a pool of threads of the plugin's own.
    Thread,
    /// On the data-plane thread: for trusted handlers that never block.
    Inline,
}

/// How each phase of a plugin or a middleware is called.
#[derive(Debug, Clone, PartialEq)]
pub struct Policies {
    /// For `request_filter`.
    pub request_filter: PhasePolicy,
    /// For `response_filter`.
    pub response_filter: PhasePolicy,
    /// For `response_body_filter`.
    pub response_body_filter: PhasePolicy,
    /// For `logging`.
    pub logging: PhasePolicy,
}

impl Policies {
    /// The policy of `phase`.
    pub fn of(&self, phase: Phase) -> &PhasePolicy {
        match phase {
            Phase::RequestFilter => &self.request_filter,
            Phase::ResponseFilter => &self.response_filter,
            Phase::ResponseBodyFilter => &self.response_body_filter,
            Phase::Logging => &self.logging,
        }
    }
}

/// How one phase is called.
#[derive(Debug, Clone, PartialEq)]
pub struct PhasePolicy {
    /// The total, retries included.
    pub timeout: Duration,
    /// What a failure means.
    pub on_error: OnError,
    /// Re-sending of calls that were lost or could not be delivered, on NATS or with a process of the plugin's own.
    pub retry: Retry,
    /// Whether a call may run twice. If not, a worker that died after it took a call is an error, never a retry.
    pub idempotent: bool,
}

/// What a failed call means for the exchange. (`retry` is read as "retry, then fail", `end` as fail.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// The exchange ends with an error.
    Fail,
    /// The exchange goes on as if the middleware were not there.
    Continue,
}

/// Re-sending of lost calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Attempts after the first; 0 is none.
    pub max: u32,
    /// The pause before the first of them; it doubles each time.
    pub backoff_initial: Duration,
    /// The longest pause.
    pub backoff_max: Duration,
}
