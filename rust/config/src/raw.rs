//! The configuration as it is written: every section with its keys, their types, defaults and meanings.
//!
//! This is the schema's only home: struct, reader and JSON Schema come from these declarations. `docs/config.md`
//! says the same at more length, and a test compares them.

use crate::{
    kinds::{Count, EnvText, Flag, FlagOr, Millis, Named, Text},
    read::{ROOT, choice, section},
    source::Spanned,
};

/// Plugins of the gateway's own.
mod builtins;
/// Which requests a middleware is for.
mod conditions;
/// What is attached: brokers, plugins, policies.
mod plugins;
/// Where requests go: services, middleware, routes.
mod routing;
/// Certificates.
mod tls;
/// How requests are shared among endpoints.
mod balancing;

pub(crate) use balancing::*;
pub(crate) use builtins::*;
pub(crate) use conditions::*;
pub(crate) use plugins::*;
pub(crate) use routing::*;
pub(crate) use tls::*;

section! {
    /// A Nylon gateway.
    Root ROOT, {
        /// Addresses that speak plain HTTP, as `IP:PORT`. Port 0 takes a free port.
        optional http("http"): Vec<Text>;
        /// Addresses that speak HTTPS, as `IP:PORT`. They need a certificate in `tls`.
        optional https("https"): Vec<Text>;
        /// Addresses that serve metrics, health and the dashboard.
        later metrics("metrics"): Vec<Text>;
        /// A directory whose `*.yaml` and `*.yml` files are merged into this one in the order of their names.
        optional config_dir("config_dir"): EnvText;
        /// The directory where accounts and certificates obtained by ACME are kept.
        optional acme("acme"): EnvText;
        /// How gateways share WebSocket rooms.
        later websocket("websocket"): WebSocket;
        /// How the process runs.
        optional runtime("runtime" | "pingora"): Runtime;
        /// Time-outs and sizes that protect the gateway.
        optional limits("limits"): Limits;
        /// Addresses or networks of the proxies whose `X-Forwarded-*` are believed. None by default.
        optional trusted_proxies("trusted_proxies"): Vec<Text>;
        /// The Unix socket through which `nylon reload` and `nylon status` speak to the gateway.
        optional control("control"): Text;
        /// The request header whose value picks a route of type `header`.
        optional header_selector("header_selector"): Text;
        /// Connections to message brokers.
        optional messaging("messaging"): Vec<Messaging>;
        /// Units of code.
        optional plugins("plugins"): Vec<Plugin>;
        /// How the names of endpoints are resolved.
        optional dns("dns"): Dns;
        /// What paths lead to.
        optional services("services"): Vec<Service>;
        /// Lists of middleware by name.
        optional middleware_groups("middleware_groups"): Named<Vec<Middleware>>;
        /// Which requests go where.
        optional routes("routes"): Vec<Route>;
        /// Certificates for the `https` addresses. The first one also serves clients that ask for no name, or for an unknown one.
        optional tls("tls"): Vec<Certificate>;
    }
}

section! {
    /// How the process runs.
    Runtime "`runtime`", {
        /// Data-plane threads. One per core by default.
        optional threads("threads"): Count<1, 1024>;
        /// Seconds that open requests may take to finish once a stop was asked for.
        optional grace_period_seconds("grace_period_seconds"): Count<0, 86_400> = 30;
        /// Seconds that the last step of a stop may take after that.
        optional graceful_shutdown_timeout_seconds("graceful_shutdown_timeout_seconds"): Count<0, 86_400> = 10;
        /// Seconds that a plugin which a reload replaced lives on for the exchanges that began with it.
        optional reload_grace_period_seconds("reload_grace_period_seconds"): Count<0, 86_400> = 300;
        /// Idle upstream connections kept per thread.
        optional upstream_keepalive_pool_size("upstream_keepalive_pool_size"): Count<0, 65_536> = 128;
        /// A file that gets the process id.
        later pid_file("pid_file"): Text;
        /// The user to run as.
        later user("user"): Text;
        /// The group to run as.
        later group("group"): Text;
        /// A PEM file of the authorities to trust where the gateway is a client, instead of the system's.
        optional ca_file("ca_file"): Text;
        /// Whether to run in the background.
        later daemon("daemon"): Flag;
        /// The socket over which a new process takes the listeners over.
        later upgrade_sock("upgrade_sock"): Text;
        /// Whether threads take work from each other: they never do here.
        ignored work_stealing("work_stealing"): Flag;
        /// A file for errors: they go to standard error.
        ignored error_log("error_log"): Text;
    }
}

section! {
    /// Time-outs and sizes that protect the gateway.
    Limits "`limits`", {
        /// Milliseconds in which a client must have sent a whole request head.
        optional header_read_timeout_ms("header_read_timeout_ms"): Millis = 30_000;
        /// Milliseconds in which a client must have finished its TLS handshake.
        optional tls_handshake_timeout_ms("tls_handshake_timeout_ms"): Millis = 10_000;
        /// Milliseconds that a client's connection may sit between two requests.
        optional keepalive_timeout_ms("keepalive_timeout_ms"): Millis = 75_000;
        /// The longest silence, in milliseconds, while a request body is awaited.
        optional body_read_timeout_ms("body_read_timeout_ms"): Millis = 30_000;
        /// The longest time, in milliseconds, in which a client takes nothing of a response.
        optional write_timeout_ms("write_timeout_ms"): Millis = 30_000;
        /// Bytes of a request head; beyond it 431.
        optional max_header_bytes("max_header_bytes"): Count<1_024, 1_048_576> = 65_536;
        /// Fields of a request head; beyond it 431.
        optional max_headers("max_headers"): Count<1, 10_000> = 100;
        /// Bytes of a body that the gateway holds for a plugin that asked for it; beyond it 413.
        optional max_body_bytes("max_body_bytes"): Count<1, 1_099_511_627_776> = 10_485_760;
        /// Bytes of a request body that is only forwarded, 0 for no limit; beyond it 413.
        optional max_forwarded_body_bytes("max_forwarded_body_bytes"): Count<0, 1_125_899_906_842_624> = 0;
        /// Client connections open at once.
        optional max_connections("max_connections"): Count<1, 1_000_000> = 10_000;
        /// Requests that one HTTP/2 connection may have in flight.
        optional max_concurrent_streams("max_concurrent_streams"): Count<1, 10_000> = 100;
        /// Milliseconds in which an upstream must take a connection.
        optional connect_timeout_ms("connect_timeout_ms"): Millis = 5_000;
        /// Milliseconds from the end of a request to the end of the upstream's response head.
        optional response_head_timeout_ms("response_head_timeout_ms"): Millis = 60_000;
        /// The longest silence, in milliseconds, inside an upstream's response body.
        optional upstream_read_timeout_ms("upstream_read_timeout_ms"): Millis = 60_000;
        /// Milliseconds that a pooled upstream connection may sit idle.
        optional upstream_idle_timeout_ms("upstream_idle_timeout_ms"): Millis = 60_000;
    }
}

section! {
    /// How gateways share WebSocket rooms.
    WebSocket "`websocket`", {
        /// What carries them.
        optional adapter_type("adapter_type"): Spanned<AdapterType>;
        /// The Redis server.
        optional redis("redis"): Redis;
    }
}

choice! {
    /// What carries WebSocket rooms between gateways.
    AdapterType "adapter_type" {
        now "memory" => Memory,
        now "redis" => Redis,
        now "cluster" => Cluster,
        now "nats" => Nats,
    }
}

section! {
    /// A Redis server.
    Redis "`redis`", {
        /// All in one: `redis://[user:password@]host[:port][/db]`, or `rediss://` for TLS.
        optional url("url"): EnvText;
        /// Its host.
        optional host("host"): EnvText;
        /// Its port. 6379 by default.
        optional port("port"): Count<1, 65_535>;
        /// The user, where it is not the default one.
        optional user("user"): EnvText;
        /// Its password.
        optional password("password"): EnvText;
        /// The number of the database. 0 by default.
        optional db("db"): Count<0, 65_535>;
        /// What the keys begin with. `nylon` by default.
        optional key_prefix("key_prefix"): Text;
        /// TLS to it: `true`, or a mapping with certificates of one's own.
        optional tls("tls"): FlagOr<BrokerTls>;
    }
}
