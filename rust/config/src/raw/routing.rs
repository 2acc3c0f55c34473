//! Services, middleware and routes, as written.

use super::{Algorithm, CircuitBreaker, Hash, HealthCheck, PassiveHealth, PerPhase, RequestRetry, When};
use crate::{
    kinds::{Count, Flag, FlagOr, FlagOrText, Interval, Millis, OneOrMany, Payload, Text},
    read::{choice, section},
    source::Spanned,
};

section! {
    /// What a path leads to.
    Service "a service", {
        /// Its name.
        required name("name"): Text;
        /// What it is.
        required service_type("service_type"): Spanned<ServiceType>;
        /// How an endpoint is chosen. `round_robin` by default.
        optional algorithm("algorithm"): Spanned<Algorithm>;
        /// Upstream addresses.
        optional endpoints("endpoints"): Vec<Endpoint>;
        /// What the endpoints speak. `http1` by default.
        optional protocol("protocol"): Spanned<Protocol>;
        /// Whether they speak TLS, and how.
        optional tls("tls"): FlagOr<UpstreamTls>;
        /// How sick endpoints are found by asking them.
        optional health_check("health_check"): HealthCheck;
        /// How sick endpoints are found by what they answer.
        optional passive_health("passive_health"): PassiveHealth;
        /// How long an endpoint that came back takes to get its full share.
        optional slow_start("slow_start"): Interval;
        /// What requests have in common that go to the same endpoint, with `algorithm: consistent`.
        optional hash("hash"): Hash;
        /// When a request is sent once more.
        optional retry("retry"): RequestRetry;
        /// When a request is refused at once.
        optional circuit_breaker("circuit_breaker"): CircuitBreaker;
        /// The plugin entry that answers.
        optional plugin("plugin"): ServicePlugin;
        /// The files that are served.
        optional static_files("static"): StaticFiles;
        /// Its own `limits.connect_timeout_ms`.
        optional connect_timeout_ms("connect_timeout_ms"): Millis;
        /// Its own `limits.response_head_timeout_ms`.
        optional response_head_timeout_ms("response_head_timeout_ms"): Millis;
        /// Its own `limits.upstream_read_timeout_ms`.
        optional upstream_read_timeout_ms("upstream_read_timeout_ms"): Millis;
        /// Its own `limits.upstream_idle_timeout_ms`.
        optional upstream_idle_timeout_ms("upstream_idle_timeout_ms"): Millis;
    }
}

choice! {
    /// What a service is.
    ServiceType "service_type" {
        now "http" => Http,
        now "plugin" => Plugin,
        now "static" => Static,
    }
}

choice! {
    /// What an upstream speaks.
    Protocol "protocol" {
        now "http1" => Http1,
        now "http2" => Http2,
    }
}

section! {
    /// TLS to the endpoints of a service.
    UpstreamTls "`tls` of a service", {
        /// Whether it is used. True unless written.
        optional enabled("enabled"): Flag;
        /// The name in the endpoints' certificates, where it is not the one in their address; they are told that it is
        /// meant (SNI).
        optional sni("sni"): Text;
        /// A PEM file of the authorities to trust, instead of those of `runtime.ca_file` or the system's.
        optional ca_file("ca_file"): Text;
        /// A PEM file with the gateway's certificate, and those up to its authority.
        optional cert("cert"): Text;
        /// A PEM file with the certificate's key.
        optional key("key"): Text;
    }
}

section! {
    /// One upstream address.
    Endpoint "an endpoint", {
        /// An IP address or a host name.
        optional ip("ip" | "host"): Text;
        /// The port, with `ip`.
        optional port("port"): Count<1, 65_535>;
        /// The path of a Unix socket, instead of `ip` and `port`.
        optional unix("unix"): Text;
        /// Its share, for the algorithms that weigh.
        optional weight("weight"): Count<1, 65_535>;
    }
}

section! {
    /// The plugin entry that answers for a service.
    ServicePlugin "`plugin` of a service", {
        /// The plugin.
        required name("name"): Text;
        /// The entry in it.
        required entry("entry"): Text;
        /// What the handler finds in `ctx.payload`.
        optional payload("payload"): Payload;
    }
}

section! {
    /// Files that are served.
    StaticFiles "`static`", {
        /// Their directory.
        required root("root"): Text;
        /// The file that answers for a directory. `index.html` by default.
        optional index("index"): Text;
        /// Whether a page that is no file gets the root's index: for applications that route in the browser.
        optional spa("spa"): Flag;
        /// Whether `app.js.br` or `app.js.gz`, where it lies beside `app.js`, is sent to clients that accept it. True by default.
        optional precompressed("precompressed"): Flag;
        /// Whether names that begin with a dot are served, `.well-known` apart, which always is. False by default.
        optional hidden("hidden"): Flag;
    }
}

section! {
    /// A plugin entry attached to a route or a path, or a group of them.
    Middleware "a middleware", {
        /// The plugin.
        optional plugin("plugin"): Text;
        /// The entry in it.
        optional entry("entry"): Text;
        /// What the handler finds in `ctx.payload`.
        optional payload("payload"): Payload;
        /// What differs from the plugin's `per_phase`.
        optional per_phase("per_phase"): PerPhase;
        /// A group of `middleware_groups` instead of a plugin.
        optional group("group"): Text;
        /// Which requests it is for. All by default.
        optional when("when"): When;
    }
}

section! {
    /// A set of requests, and what is done with them.
    Route "a route", {
        /// Which requests.
        required matcher("route"): RouteMatcher;
        /// Its name.
        required name("name"): Text;
        /// Whether plain requests are refused, or where they are redirected.
        optional tls("tls"): RouteTls;
        /// Middleware for all its paths.
        optional middleware("middleware"): Vec<Middleware>;
        /// Its paths.
        required paths("paths"): Vec<PathRule>;
    }
}

section! {
    /// Which requests a route is for.
    RouteMatcher "`route` of a route", {
        /// Whether the host or the `header_selector` decides.
        required kind("type"): Spanned<MatcherType>;
        /// Hosts or header values, separated by `|`. A host may be `*` or `*.example.com`.
        required value("value"): Text;
    }
}

choice! {
    /// What decides.
    MatcherType "type of a route" {
        now "host" => Host,
        now "header" => Header,
    }
}

section! {
    /// What becomes of a route's plain requests.
    RouteTls "`tls` of a route", {
        /// Whether the route is served over TLS only. `true` where the section is written.
        optional enabled("enabled"): Flag;
        /// Where plain requests are sent instead of being refused: `true` for the same URL with `https`, or a host such as `${host}:8443`.
        optional redirect("redirect"): FlagOrText;
    }
}

section! {
    /// Paths and methods, and what they lead to.
    PathRule "a path", {
        /// One or more patterns, such as `/x/{id}` or `/{*path}`.
        required path("path"): OneOrMany<Text>;
        /// The methods; all by default.
        optional methods("methods"): Vec<Text>;
        /// Where the requests go.
        required service("service"): PathService;
        /// Middleware for these paths, after the route's.
        optional middleware("middleware"): Vec<Middleware>;
    }
}

section! {
    /// Where a path's requests go.
    PathService "`service` of a path", {
        /// The service.
        required name("name"): Text;
        /// The path that the service sees instead: the pattern's fixed part is replaced, what `{*rest}` matched is kept.
        optional rewrite("rewrite"): Text;
    }
}
