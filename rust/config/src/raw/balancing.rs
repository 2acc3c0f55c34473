//! How requests are shared among the endpoints of a service, as written.

use crate::{
    kinds::{Count, Flag, Interval, Text},
    read::{choice, section},
    source::Spanned,
};

choice! {
    /// How an endpoint is chosen.
    Algorithm "algorithm" {
        now "round_robin" => RoundRobin,
        now "weighted" => Weighted,
        now "consistent" => Consistent,
        now "random" => Random,
        now "least_conn" => LeastConn,
        now "p2c" => P2c,
    }
}

section! {
    /// What requests have in common that go to the same endpoint.
    Hash "`hash`", {
        /// Where it stands in a request. `client_ip` by default.
        optional by("by"): Spanned<HashBy>;
        /// The name of the header or the cookie.
        optional name("name"): Text;
    }
}

choice! {
    /// Where in a request the key stands by which `consistent` chooses.
    HashBy "by" {
        now "client_ip" => ClientIp,
        now "header" => Header,
        now "cookie" => Cookie,
        now "path" => Path,
    }
}

section! {
    /// How sick endpoints are found by asking them.
    HealthCheck "`health_check`", {
        /// Whether it is done. True by default.
        optional enabled("enabled"): Flag;
        /// The path that is asked for.
        optional path("path"): Text = "/";
        /// The pause between two checks.
        optional interval("interval"): Interval = "10s";
        /// How long an answer may take.
        optional timeout("timeout"): Interval = "3s";
        /// Good answers in a row that make an endpoint healthy.
        optional healthy_threshold("healthy_threshold"): Count<1, 1_000> = 2;
        /// Bad answers in a row that make it sick.
        optional unhealthy_threshold("unhealthy_threshold"): Count<1, 1_000> = 3;
    }
}

section! {
    /// How sick endpoints are found by what they answer to requests.
    PassiveHealth "`passive_health`", {
        /// Whether it is done. True by default.
        optional enabled("enabled"): Flag;
        /// Answers of 500 and more, and connections or answers that failed, in a row, after which an endpoint is left alone.
        optional consecutive_failures("consecutive_failures"): Count<1, 1_000> = 5;
        /// How long it is left alone at first; each time that it fails again soon doubles that.
        optional ejection("ejection"): Interval = "10s";
        /// The longest time that it is left alone.
        optional max_ejection("max_ejection"): Interval = "5m";
        /// The part of a service's endpoints that may be left alone at once, in percent. One endpoint always stays.
        optional max_ejected_percent("max_ejected_percent"): Count<1, 100> = 50;
    }
}

section! {
    /// When a request is sent once more.
    RequestRetry "`retry` of a service", {
        /// How often, after the first time.
        optional attempts("attempts"): Count<0, 10> = 2;
        /// What calls for it: `connect_error`, `reset`, `timeout`, `gateway_error`, `5xx`. `[connect_error, reset]` by default.
        optional on("on"): Vec<Spanned<RetryOn>>;
        /// The part of the service's requests that may be sent once more, in percent.
        optional budget_percent("budget_percent"): Count<0, 1_000> = 20;
        /// How long the response head of one attempt may take; needed for `timeout`.
        optional attempt_timeout("attempt_timeout"): Interval;
    }
}

choice! {
    /// What calls for sending a request once more.
    RetryOn "on" {
        /// No connection: nothing was sent.
        now "connect_error" => ConnectError,
        /// The connection broke before an answer.
        now "reset" => Reset,
        /// No answer within `attempt_timeout`.
        now "timeout" => Timeout,
        /// 502, 503 or 504.
        now "gateway_error" => GatewayError,
        /// Any answer of 500 and more.
        now "5xx" => ServerError,
    }
}

section! {
    /// When a request is refused at once, because its service has more than it can do.
    CircuitBreaker "`circuit_breaker`", {
        /// Requests that an endpoint has at once.
        optional max_connections("max_connections"): Count<1, 1_000_000>;
        /// Requests that wait, over all of the service, while each endpoint has as many as it may.
        optional max_pending("max_pending"): Count<0, 1_000_000> = 0;
        /// How long one may wait.
        optional pending_timeout("pending_timeout"): Interval = "1s";
    }
}

section! {
    /// How the names of endpoints are resolved.
    Dns "`dns`", {
        /// Name servers as `IP` or `IP:PORT`. Those of the system by default.
        optional servers("servers"): Vec<Text>;
        /// The shortest time after which a name is resolved again, whatever its answer says.
        optional min_ttl("min_ttl"): Interval = "1s";
        /// The longest.
        optional max_ttl("max_ttl"): Interval = "60s";
        /// How long one server may take to answer.
        optional timeout("timeout"): Interval = "2s";
        /// Whether all names must resolve for the gateway to start or to reload.
        optional must_resolve("must_resolve"): Flag;
    }
}
