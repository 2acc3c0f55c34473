//! Brokers, plugins, and how their phases are called, as written.

use crate::{
    kinds::{Anything, Count, EnvText, Flag, FlagOr, Millis, Named, Servers, Text},
    read::{choice, section},
    source::Spanned,
};

section! {
    /// A connection to a message broker.
    Messaging "a messaging connection", {
        /// Its name.
        required name("name"): Text;
        /// The kind of broker.
        optional kind("type"): Spanned<BrokerType>;
        /// NATS servers, as `nats://host:port`. `${NAME}` is an environment variable, with several separated by commas.
        optional servers("servers"): Servers;
        /// Whether the gateway starts a nats-server of its own on loopback.
        optional embedded("embedded"): Flag;
        /// The first part of every subject.
        optional subject_prefix("subject_prefix"): Text = "nylon";
        /// The total, in milliseconds, for a call of a filter whose policy has no `timeout_ms`.
        optional request_timeout_ms("request_timeout_ms"): Millis;
        /// Connections that calls share, each on a thread of its own; without it each data-plane thread has one.
        optional connections("connections"): Count<1, 64>;
        /// Calls in flight at once.
        optional max_inflight("max_inflight"): Count<1, 1_000_000> = 1024;
        /// What happens when every worker is busy. `queue` by default.
        optional overflow_policy("overflow_policy"): Spanned<OverflowPolicy>;
        /// Re-sending of lost calls of a filter whose policy has no `retry`.
        optional retry("retry"): Retry;
        /// Who the gateway is to the broker.
        optional auth("auth"): Auth;
        /// TLS to the broker: `true` to insist on it, or a mapping with certificates of one's own.
        optional tls("tls"): FlagOr<BrokerTls>;
        /// Headers put on every message.
        later default_headers("default_headers"): Named<Text>;
    }
}

choice! {
    /// The kind of broker.
    BrokerType "type of a messaging connection" {
        now "nats" => Nats,
    }
}

choice! {
    /// What happens when every worker is busy.
    OverflowPolicy "overflow_policy" {
        /// Wait, within the time-out.
        now "queue" => Queue,
        /// Fail at once.
        now "reject" => Reject,
    }
}

section! {
    /// Re-sending of calls that were lost or could not be delivered.
    Retry "`retry`", {
        /// Attempts after the first; 0 is none.
        optional max("max"): Count<0, 100>;
        /// Milliseconds before the first of them; the pause doubles each time.
        optional backoff_ms_initial("backoff_ms_initial"): Count<0, 3_600_000>;
        /// The longest pause in milliseconds.
        optional backoff_ms_max("backoff_ms_max"): Count<0, 3_600_000>;
    }
}

section! {
    /// Who the gateway is to a broker, in one of four ways. Each value may be `${NAME}`.
    Auth "`auth`", {
        /// The user.
        optional user("user"): EnvText;
        /// The user's password.
        optional password("password"): EnvText;
        /// A token instead.
        optional token("token"): EnvText;
        /// A file with an nkey seed instead.
        optional nkey("nkey"): EnvText;
        /// A `.creds` file (a user's JWT and seed) instead.
        optional creds("creds"): EnvText;
    }
}

section! {
    /// TLS to a broker or a store. Each text may be `${NAME}`.
    BrokerTls "`tls` of a broker or a store", {
        /// Whether it is used. True unless written.
        optional enabled("enabled"): Flag;
        /// A PEM file of the authorities to trust, instead of the system's.
        optional ca_file("ca_file"): EnvText;
        /// A PEM file with the gateway's certificate, and those up to its authority.
        optional cert("cert"): EnvText;
        /// A PEM file with the certificate's key.
        optional key("key"): EnvText;
        /// The name in the server's certificate, where it is not the one in the address.
        optional hostname("hostname"): EnvText;
    }
}

section! {
    /// A unit of code.
    Plugin "a plugin", {
        /// Its name.
        required name("name"): Text;
        /// What runs it; inferred from the other keys where it is left out. `ffi` with a `.py` file means `python`.
        optional kind("type"): Spanned<PluginType>;
        /// A `.py` file or a native library. `x.py:name` names the attribute, `plugin` by default.
        optional file("file"): EnvText;
        /// A Python module, as `pkg.mod` or `pkg.mod:name`; the attribute is `plugin` by default.
        optional module("module"): EnvText;
        /// What the plugin's `initialize` gets.
        optional config("config"): Anything;
        /// How `def` handlers of a Python plugin are scheduled. `thread` by default.
        optional execution("execution"): Spanned<Execution>;
        /// Threads of a Python plugin's own pool. 4 by default.
        optional threads("threads"): Count<1, 1024>;
        /// The messaging connection to its workers.
        optional messaging("messaging"): Text;
        /// Its workers' queue group.
        optional group("group"): EnvText;
        /// Several queue groups instead, which share the sessions by weight.
        optional groups("groups"): Vec<Group>;
        /// A queue group that gets a copy of each call; its answers are only measured.
        optional mirror("mirror"): EnvText;
        /// How each phase is called.
        optional per_phase("per_phase"): PerPhase;
        /// `process` runs the plugin in processes of its own, so that a crash of it takes down nothing else. Without it
        /// the plugin runs in the gateway's process.
        optional isolation("isolation"): Spanned<Isolation>;
        /// How many of them. 1 by default.
        optional processes("processes"): Count<1, 256>;
        /// What becomes of the gateway when the plugin cannot be loaded. `fail` by default.
        optional on_load_error("on_load_error"): Spanned<OnLoadError>;
        /// Who frees the memory that a native plugin hands over in a callback. `plugin` by default.
        optional callback_memory("callback_memory"): Spanned<CallbackMemory>;
    }
}

section! {
    /// A queue group and its share of a plugin's sessions.
    Group "one of `groups`", {
        /// The group.
        required name("name"): EnvText;
        /// Its share, of the sum of all weights; 0 is none.
        optional weight("weight"): Count<0, 1_000_000> = 1;
    }
}

choice! {
    /// What runs a plugin.
    PluginType "type of a plugin" {
        /// A native library.
        now "ffi" => Ffi,
        /// Python in the gateway's process.
        now "python" => Python,
        /// Workers behind a broker.
        now "messaging" => Messaging,
    }
}

choice! {
    /// How `def` handlers are scheduled.
    Execution "execution" {
        now "thread" => Thread,
        now "inline" => Inline,
    }
}

choice! {
    /// What a crash may take down.
    Isolation "isolation" {
        /// Processes of the plugin's own.
        now "process" => Process,
    }
}

choice! {
    /// What becomes of the gateway when a plugin cannot be loaded.
    OnLoadError "on_load_error" {
        /// It does not start; at a reload the running configuration stays.
        now "fail" => Fail,
        /// It runs, and what the plugin would have to do fails.
        now "isolate" => Isolate,
    }
}

choice! {
    /// Who frees a native plugin's memory.
    CallbackMemory "callback_memory" {
        /// The plugin itself.
        now "plugin" => Plugin,
        /// The gateway, with the library's `plugin_free`.
        now "host" => Host,
    }
}

section! {
    /// How each phase is called.
    PerPhase "`per_phase`", {
        /// Before the service is called.
        optional request_filter("request_filter"): PhasePolicy;
        /// When the response head is known.
        optional response_filter("response_filter"): PhasePolicy;
        /// Over the response body.
        optional response_body_filter("response_body_filter"): PhasePolicy;
        /// After the last byte.
        optional logging("logging"): PhasePolicy;
    }
}

section! {
    /// How one phase is called.
    PhasePolicy "a phase's policy", {
        /// The total in milliseconds, retries included.
        optional timeout_ms("timeout_ms"): Millis;
        /// What a failure means. `retry` is "retry, then fail"; `end` is `fail`.
        optional on_error("on_error"): Spanned<OnError>;
        /// Re-sending of calls that a worker or a process lost.
        optional retry("retry"): Retry;
        /// Whether a call may run twice. True by default.
        optional idempotent("idempotent"): Flag;
    }
}

choice! {
    /// What a failure means.
    OnError "on_error" {
        now "fail" => Fail,
        now "continue" => Continue,
        now "retry" => Retry,
        now "end" => End,
    }
}
