//! Where requests go: services, routes, paths, and the middleware on the way.

use std::{fmt, path::PathBuf, sync::Arc};

use super::{
    Balancing, Builtin, ClientTls, Condition, Payload, PlainRequests, PluginIndex, Policies, ServiceIndex,
    UpstreamLimits,
};
#[cfg(doc)]
use super::{Limits, Plan, Runtime};
use crate::diagnostic::Location;

/// What a path leads to.
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// Its name in the configuration.
    pub name: String,
    /// What it is.
    pub kind: ServiceKind,
    /// Where the configuration defines it.
    pub location: Location,
}

/// What a service is.
#[derive(Debug, Clone, PartialEq)]
pub enum ServiceKind {
    /// Upstream servers.
    Http(Box<Upstream>),
    /// A plugin that answers itself: its `request_filter` must end the exchange.
    Plugin(Box<Middleware>),
    /// A directory of files.
    Static(StaticFiles),
}

/// A directory whose files are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticFiles {
    /// The directory, which exists. It may be a link that leads elsewhere later on.
    pub root: PathBuf,
    /// The file that answers for a directory.
    pub index: String,
    /// Whether a page that is no file gets the root's index.
    pub spa: bool,
    /// Whether a `.br` or `.gz` beside a file is sent instead of it.
    pub precompressed: bool,
    /// Whether names that begin with a dot are served, `.well-known` apart, which always is.
    pub hidden: bool,
}

/// The servers behind a service.
#[derive(Debug, Clone, PartialEq)]
pub struct Upstream {
    /// Their addresses. Never empty.
    pub endpoints: Vec<Endpoint>,
    /// The times they may take: the service's own, or those of [`Limits::upstream`].
    pub limits: UpstreamLimits,
    /// What they speak.
    pub protocol: Protocol,
    /// How they speak TLS, if they do. The trust of [`Runtime::ca_file`] is filled in. A Unix socket has a `hostname`.
    pub tls: Option<ClientTls>,
    /// How requests are shared among them.
    pub balancing: Balancing,
}

/// What an upstream speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.1, one request at a time on a connection.
    Http1,
    /// HTTP/2, many requests on one connection.
    Http2,
}

/// One of the servers behind a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Where it is.
    pub address: EndpointAddress,
    /// Its share, for the algorithms that weigh.
    pub weight: u32,
}

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum EndpointAddress {
    /// At a port.
    Tcp {
        /// An IP address or a host name.
        host: String,
        /// The port.
        port: u16,
    },
    /// At a Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for EndpointAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EndpointAddress::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            EndpointAddress::Tcp { host, port } => write!(f, "{host}:{port}"),
            EndpointAddress::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A set of requests, and what is done with them.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// Its name in the configuration.
    pub name: String,
    /// Which requests are meant.
    pub matcher: Matcher,
    /// What becomes of plain requests; `None`: they are served like those over TLS.
    pub plain: Option<PlainRequests>,
    /// What their paths lead to. Never empty. See [`PathRule::patterns`] for how they are told apart.
    pub paths: Vec<PathRule>,
    /// Where the configuration defines it.
    pub location: Location,
}

/// Which requests a route is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Matcher {
    /// By the request's host (without its port). No pattern stands in two routes.
    Host(Vec<HostPattern>),
    /// By the value of the header that [`Plan::header_selector`] names. No value stands in two routes.
    Header(Vec<String>),
}

/// Which hosts are meant. An exact name wins over a suffix, a longer suffix over a shorter, both over any.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// This host, in lower case.
    Exact(String),
    /// Every host that ends in this, `*.example.com` written: `.example.com`, in lower case.
    Suffix(String),
    /// Every host: `*`.
    Any,
}

/// Paths and methods of a route, and what they lead to.
#[derive(Debug, Clone, PartialEq)]
pub struct PathRule {
    /// matchit patterns. In one route no two patterns conflict, so all go into one `matchit::Router`; an equal
    /// pattern may stand in several rules, and then their methods are disjoint.
    pub patterns: Vec<String>,
    /// The methods; empty means all.
    pub methods: Vec<http::Method>,
    /// Where the requests go.
    pub service: ServiceIndex,
    /// The path the service sees, unless it is the client's.
    pub rewrite: Option<Rewrite>,
    /// The route's middleware, then the path's, groups expanded in place.
    pub middleware: Vec<Middleware>,
    /// Where the configuration defines it.
    pub location: Location,
}

/// The path that a service sees instead of the client's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewrite {
    /// Text and parameters of the pattern, in turn.
    pub parts: Vec<RewritePart>,
    /// The parameter of a pattern's `{*name}` to be put behind it, one per pattern of the rule (same order).
    pub rest: Vec<Option<String>>,
}

/// A piece of a [`Rewrite`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RewritePart {
    /// Text as it is.
    Text(String),
    /// What the pattern's parameter of this name matched.
    Param(String),
}

impl Rewrite {
    /// The new path, for the rule's pattern number `pattern`; `param` gives what a parameter matched, as the
    /// client wrote it (percent-encoding kept).
    pub fn apply<'a>(&self, pattern: usize, param: impl Fn(&str) -> Option<&'a str>) -> String {
        let mut path = String::new();
        for part in &self.parts {
            match part {
                RewritePart::Text(text) => path.push_str(text),
                RewritePart::Param(name) => path.push_str(param(name).unwrap_or_default()),
            }
        }
        if let Some(Some(name)) = self.rest.get(pattern) {
            if !path.ends_with('/') {
                path.push('/');
            }
            path.push_str(param(name).unwrap_or_default());
        }
        path
    }
}

/// One entry of a plugin, or a built-in, attached to a route, a path or a service.
#[derive(Debug, Clone, PartialEq)]
pub struct Middleware {
    /// What is called.
    pub handler: Handler,
    /// What the handler finds in `ctx.payload`.
    pub payload: Payload,
    /// How each phase is called: the plugin's policies with the middleware's own on top.
    pub per_phase: Policies,
    /// Which requests it is for: those for which all of these hold, its own and those of the groups that it is in.
    pub when: Vec<Arc<Condition>>,
    /// Where the configuration names the entry, or the built-in.
    pub location: Location,
}

impl Middleware {
    /// The plugin and the entry in it, unless it is a built-in.
    pub fn entry(&self) -> Option<(PluginIndex, &str)> {
        match &self.handler {
            Handler::Plugin { plugin, entry } => Some((*plugin, entry)),
            Handler::Builtin(_) => None,
        }
    }
}

/// What a middleware calls.
#[derive(Debug, Clone, PartialEq)]
pub enum Handler {
    /// An entry of a plugin.
    Plugin {
        /// The plugin.
        plugin: PluginIndex,
        /// The entry in it. Whether the plugin has it is known once it is loaded: see [`Location::diagnostic`].
        entry: String,
    },
    /// A plugin of the gateway's own, with its settings; its payload is none.
    Builtin(Builtin),
}
