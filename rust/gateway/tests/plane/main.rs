//! The data plane over real sockets: raw bytes in, raw bytes out.

mod builtins;
mod balancing;
mod client;
mod endpoints;
mod failure;
mod forwarding;
mod lifecycle;
mod malformed;
mod name_server;
mod origin;
mod upstream;

use client::Client;
use nylon_config::Plan;
use nylon_gateway::server::{Server, StartError};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A running gateway, stopped when dropped.
pub(crate) struct Gateway {
    pub(crate) server: Server,
}

impl Gateway {
    /// Every path of every host leads to the endpoints at `ports`; `more` is further YAML.
    pub(crate) fn to(ports: &[u16], more: &str) -> Gateway {
        let endpoints: Vec<_> = ports.iter().map(|port| format!("{{ip: 127.0.0.1, port: {port}}}")).collect();
        let routes = "routes: [{route: {type: host, value: '*'}, name: all, \
                      paths: [{path: [/, '/{*rest}'], service: {name: origin}}]}]";
        Gateway::start(&format!(
            "http: ['127.0.0.1:0']\nruntime: {{threads: 1}}\n{routes}\n{more}\n\
             services: [{{name: origin, service_type: http, endpoints: [{}]}}]\n",
            endpoints.join(", ")
        ))
    }

    pub(crate) fn start(config: &str) -> Gateway {
        Gateway { server: Gateway::try_start(config).expect("the gateway starts") }
    }

    pub(crate) fn try_start(config: &str) -> Result<Server, StartError> {
        Server::start(Gateway::plan(config), Vec::new(), None)
    }

    pub(crate) fn plan(config: &str) -> Arc<Plan> {
        let loaded = nylon_config::parse_str("test.yaml", config, Path::new("."), &|_| None)
            .unwrap_or_else(|errors| panic!("{errors}\n{config}"));
        Arc::new(loaded.plan)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.server.addresses()[0]
    }

    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.address())
    }
}

/// Waits until `is_so`, and fails if it never is.
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(10);
    while !is_so() {
        assert!(Instant::now() < until, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
