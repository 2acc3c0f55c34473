//! Handlers run here without a gateway, as they would run in one: through the same exported functions and the same
//! messages, with a gateway that a test can hold in its hand.
//!
//! ```
//! use nylon_plugin::{Plugin, json, testing::PluginClient};
//!
//! fn plugin() -> Plugin {
//!     Plugin::new().request_filter("auth", |ctx| {
//!         let key: String = ctx.payload()?;
//!         if ctx.request().header("x-api-key")?.is_none_or(|given| given != key) {
//!             ctx.response().set_status(401)?.body_json(&json!({"error": "unauthorized"}))?;
//!             return ctx.end();
//!         }
//!         ctx.request().set_header("x-user", "42")?;
//!         ctx.next()
//!     })
//! }
//!
//! let client = PluginClient::new(plugin()).expect("a good plugin");
//! let refused = client.get("/shop").payload(&json!("k-1")).send("auth");
//! assert_eq!(refused.status, 401);
//! assert!(refused.forwarded.is_none());
//!
//! let passed = client.get("/shop").header("x-api-key", "k-1").payload(&json!("k-1")).send("auth");
//! assert_eq!(passed.forwarded.expect("the service was asked").headers["x-user"], "42");
//! ```

mod exchange;
mod gateway;

pub use exchange::Forwarded;

use crate::error::Result;
use crate::library::Library;
use crate::plugin::Plugin;
use exchange::Exchange;
use gateway::Run;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// Asks a plugin as clients ask a gateway that has it.
pub struct PluginClient {
    library: Arc<Library>,
}

impl PluginClient {
    /// Loads a plugin.
    ///
    /// # Errors
    /// What is wrong with the plugin: a phase registered twice, a setup that fails.
    pub fn new(plugin: Plugin) -> Result<PluginClient> {
        Ok(PluginClient { library: Arc::new(Library::of(plugin)?) })
    }

    /// A GET request. The target is a path, with a query or without.
    pub fn get(&self, target: &str) -> TestRequest {
        self.request(Method::GET, target)
    }

    /// A POST request.
    pub fn post(&self, target: &str, body: impl Into<Vec<u8>>) -> TestRequest {
        self.request(Method::POST, target).body(body)
    }

    /// Any request.
    pub fn request(&self, method: Method, target: &str) -> TestRequest {
        TestRequest {
            library: self.library.clone(),
            exchange: Exchange::new(method, target),
            upstream: Upstream::default(),
            timeout: Duration::from_secs(10),
        }
    }
}

impl Drop for PluginClient {
    fn drop(&mut self) {
        self.library.shutdown();
    }
}

/// What the service behind the gateway answers.
pub(crate) struct Upstream {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    pub(crate) chunk: usize,
}

impl Default for Upstream {
    fn default() -> Upstream {
        Upstream { status: StatusCode::OK, headers: HeaderMap::new(), body: Vec::new(), chunk: usize::MAX }
    }
}

/// A request on its way to an entry.
///
/// Panics (this is for tests) where what it is given is not legal HTTP.
#[must_use = "nothing is asked before send()"]
pub struct TestRequest {
    library: Arc<Library>,
    exchange: Exchange,
    upstream: Upstream,
    timeout: Duration,
}

impl TestRequest {
    /// Adds a header.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> TestRequest {
        append(&mut self.exchange.request.headers, name, value.as_ref());
        self
    }

    /// The request's body.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> TestRequest {
        self.exchange.request.body = body.into();
        self
    }

    /// The payload of the middleware.
    pub fn payload(mut self, payload: &impl Serialize) -> TestRequest {
        self.exchange.payload = serde_json::to_vec(payload).expect("a payload that is JSON");
        self
    }

    /// What the route's pattern found in the path.
    pub fn param(mut self, name: &str, value: &str) -> TestRequest {
        self.exchange.params.insert(name.to_owned(), value.to_owned());
        self
    }

    /// The client's address.
    pub fn client_ip(mut self, address: impl Into<IpAddr>) -> TestRequest {
        self.exchange.client_ip = address.into();
        self
    }

    /// What the service answers if it is asked: by default 200 without a body.
    pub fn upstream(mut self, status: u16, body: impl Into<Vec<u8>>) -> TestRequest {
        self.upstream.status = StatusCode::from_u16(status).expect("a status");
        self.upstream.body = body.into();
        self
    }

    /// A header of the service's answer.
    pub fn upstream_header(mut self, name: &str, value: impl AsRef<[u8]>) -> TestRequest {
        append(&mut self.upstream.headers, name, value.as_ref());
        self
    }

    /// How large the chunks are that filters by chunk get; by default the body is one.
    pub fn chunks_of(mut self, bytes: usize) -> TestRequest {
        self.upstream.chunk = bytes.max(1);
        self
    }

    /// How long each phase may take: 10 seconds by default.
    pub fn timeout(mut self, timeout: Duration) -> TestRequest {
        self.timeout = timeout;
        self
    }

    /// Sends it through the phases of an entry, whichever it has, and through the service unless the entry ends it.
    ///
    /// Panics where there is no such entry.
    pub fn send(self, entry: &str) -> Answer {
        Run::new(self.library, self.exchange, self.timeout, entry).through(self.upstream)
    }
}

fn append(headers: &mut HeaderMap, name: &str, value: &[u8]) {
    let name = HeaderName::from_bytes(name.as_bytes()).expect("a header name");
    headers.append(name, HeaderValue::from_bytes(value).expect("a header value"));
}

/// What the client gets, and what became of the request.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
    /// What reached the service; `None` where nothing did.
    pub forwarded: Option<Forwarded>,
    /// The phases that failed, with the texts that the gateway's log would have.
    pub failures: BTreeMap<&'static str, String>,
}

impl Answer {
    /// The body as text.
    ///
    /// Panics where it is none.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body that is text")
    }

    /// The body as JSON.
    ///
    /// Panics where it is none, or of another shape.
    pub fn json<T: DeserializeOwned>(&self) -> T {
        serde_json::from_slice(&self.body).expect("a body that is JSON")
    }
}
