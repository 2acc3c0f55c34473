//! How requests are shared among the endpoints of a service.

use std::{net::SocketAddr, time::Duration};

/// How a service treats its endpoints.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Balancing {
    /// How one is chosen.
    pub algorithm: Algorithm,
    /// How sick ones are found by asking them.
    pub health_check: Option<HealthCheck>,
    /// How sick ones are found by what they answer to requests.
    pub passive_health: Option<PassiveHealth>,
    /// How long one that came back takes to get its full share; `None` is at once.
    pub slow_start: Option<Duration>,
    /// When a request is sent once more, beyond what costs nothing.
    pub retry: Option<RequestRetry>,
    /// How many requests there may be at once.
    pub circuit_breaker: Option<CircuitBreaker>,
}

/// How an endpoint is chosen. Every way regards weights.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Algorithm {
    /// In turn; with weights spread as evenly as can be (`round_robin` and `weighted`).
    #[default]
    InTurn,
    /// The same endpoint for what is alike in this.
    Consistent(HashBy),
    /// By chance.
    Random,
    /// The one with the fewest requests at the moment.
    LeastConn,
    /// The one with fewer requests, of two taken by chance.
    PowerOfTwo,
}

/// What requests have in common that go to the same endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashBy {
    /// The client's address.
    ClientIp,
    /// A header's value; the client's address where there is none.
    Header(http::HeaderName),
    /// A cookie's value; the client's address where there is none.
    Cookie(String),
    /// The path, as the service sees it.
    Path,
}

/// How sick endpoints are found by asking them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// What is asked for: a path, perhaps with a query.
    pub path: http::uri::PathAndQuery,
    /// The pause between two checks.
    pub interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// Good answers in a row that make a sick endpoint healthy.
    pub healthy_threshold: u32,
    /// Bad answers in a row that make a healthy one sick.
    pub unhealthy_threshold: u32,
}

/// How sick endpoints are found by what they answer to requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassiveHealth {
    /// Failures in a row after which an endpoint is left alone.
    pub consecutive_failures: u32,
    /// How long, at first.
    pub ejection: Duration,
    /// How long at most.
    pub max_ejection: Duration,
    /// The part of the endpoints that may be left alone at once. One always stays.
    pub max_ejected_percent: u32,
}

/// When a request is sent once more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestRetry {
    /// How often, after the first time.
    pub attempts: u32,
    /// No connection calls for it.
    pub on_connect_error: bool,
    /// A connection that broke before an answer calls for it.
    pub on_reset: bool,
    /// An answer that does not come in time calls for it.
    pub on_timeout: bool,
    /// Which answers call for it.
    pub on_status: RetryStatus,
    /// The part of all requests that may be sent once more, in percent.
    pub budget_percent: u32,
    /// How long the response head of one attempt may take.
    pub attempt_timeout: Option<Duration>,
}

/// The answers that call for another attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryStatus {
    /// None: an answer is an answer.
    None,
    /// 502, 503 and 504.
    Gateway,
    /// 500 and more.
    AllOf5xx,
}

/// How many requests there may be at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CircuitBreaker {
    /// At one endpoint, over all threads.
    pub max_connections: usize,
    /// Waiting for a place, in the whole service.
    pub max_pending: usize,
    /// How long one may wait.
    pub pending_timeout: Duration,
}

/// How the names of endpoints are resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dns {
    /// The name servers; empty: those of the system.
    pub servers: Vec<SocketAddr>,
    /// The shortest time between two resolutions of a name.
    pub min_ttl: Duration,
    /// The longest.
    pub max_ttl: Duration,
    /// How long a server may take to answer.
    pub timeout: Duration,
    /// Whether a plan is refused whose names do not all resolve.
    pub must_resolve: bool,
}
