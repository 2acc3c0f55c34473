//! How many requests are let through.

use std::time::Duration;

use nylon_core::template::Template;

use super::super::{ClientTls, Secret};

/// A limit, and where its buckets are.
#[derive(Debug, Clone, PartialEq)]
pub struct RateLimit {
    /// What shares its buckets: the name that is written, or else the place.
    pub name: String,
    /// What clients are told of its name.
    pub shown_name: String,
    /// So many requests ...
    pub count: u64,
    /// ... in this time.
    pub period: Duration,
    /// Requests that may come at once after a pause.
    pub burst: u64,
    /// Whose requests are counted together; `None` is the client's address (of IPv6 its network of 64 bits).
    pub key: Option<Template>,
    /// Buckets that may be other than full at once in this process.
    pub max_keys: usize,
    /// Which responses tell about the limit.
    pub headers: LimitHeaders,
    /// Where the buckets are.
    pub store: LimitStore,
    /// In which time a store must answer.
    pub store_timeout: Duration,
    /// What happens when it does not.
    pub on_store_error: OnStoreError,
}

/// Which responses tell about a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitHeaders {
    /// Those of refused requests.
    Refused,
    /// All.
    Always,
    /// None, but for `Retry-After`.
    Never,
}

/// Where buckets are.
#[derive(Debug, Clone, PartialEq)]
pub enum LimitStore {
    /// In this process.
    Local,
    /// In Redis.
    Redis(Redis),
    /// In a key-value bucket of NATS JetStream.
    Nats {
        /// The place of the connection in [`crate::Plan::messaging`]; it has `servers`.
        messaging: usize,
        /// How many servers of a cluster keep each value.
        replicas: usize,
    },
}

/// What happens to a request when the store of its bucket does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnStoreError {
    /// It is refused with 503.
    Fail,
    /// This process counts by itself.
    Local,
    /// It is let through.
    Allow,
}

/// A Redis server and who the gateway is to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redis {
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The user, where it is not the default one.
    pub user: Option<String>,
    /// The password.
    pub password: Option<Secret>,
    /// The number of the database.
    pub db: u32,
    /// What its keys begin with.
    pub key_prefix: String,
    /// TLS; `None` is plain.
    pub tls: Option<ClientTls>,
}
