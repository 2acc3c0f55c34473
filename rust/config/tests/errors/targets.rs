//! Mistakes in listeners, services, plugins and brokers.

use super::{VALID, case, check};

#[test]
fn listeners_and_endpoints_are_addresses() {
    case(
        "http: [127.0.0.1:0]",
        "http: ['8080']",
        "'8080'",
        "`8080` is no address: expected `IP:PORT`",
        Some("write `0.0.0.0:8080` or `127.0.0.1:8080`"),
    );
    case(
        "http: [127.0.0.1:0]",
        "http: ['::1']",
        "'::1'",
        "`::1` is no address: expected `IP:PORT`",
        Some("write `[::1]:8080`"),
    );
    case(
        "http: [127.0.0.1:0]",
        "http: ['127.0.0.1:9', 'localhost:9']",
        "'localhost:9'",
        "`127.0.0.1:9` is already listened on, see nylon.yaml:1:8",
        None,
    );
    case(
        "http: [127.0.0.1:0]",
        "http: []",
        "http",
        "no address to listen on",
        Some("write `http: [127.0.0.1:8080]`, or port 0 for a free one"),
    );
    case(
        "ip: 127.0.0.1,",
        "ip: 300.1.1.1,",
        "300.1.1.1",
        "`300.1.1.1` is neither an IP address nor a host name",
        None,
    );
    case(
        "ip: 127.0.0.1,",
        "ip: 'http://h',",
        "'http://h'",
        "`http://h` is neither an IP address nor a host name",
        Some("write the host alone, and the port in `port`"),
    );
    case(
        "header_selector: x-pick",
        "trusted_proxies: [10.0.0.0/33]",
        "10.0.0.0/33",
        "`10.0.0.0/33` is no address or network",
        Some("write an address such as `10.0.0.7` or a network such as `10.0.0.0/8`"),
    );
}

#[test]
fn services_have_what_their_type_needs_and_nothing_else() {
    case(
        ", endpoints: [{ip: 127.0.0.1, port: 3000}]",
        "",
        "up",
        "an http service needs `endpoints`",
        Some("write `endpoints: [{ip: 127.0.0.1, port: 3000}]`"),
    );
    case(
        "[{ip: 127.0.0.1, port: 3000}]",
        "[{ip: 127.0.0.1}]",
        "ip",
        "an endpoint needs the key `port`",
        Some("write `{ip: 127.0.0.1, port: 3000}`, or `{unix: /run/app.sock}`"),
    );
    case(
        "[{ip: 127.0.0.1, port: 3000}]",
        "[{unix: a.sock, port: 3000}]",
        "unix",
        "an endpoint has either `ip` and `port`, or `unix`, not both",
        None,
    );
    case(
        "service_type: http",
        "service_type: http, static: {root: x}",
        "http",
        "a service of type `http` has no `static`",
        None,
    );
    case(
        "service_type: plugin, plugin: {name: auth, entry: hello}",
        "service_type: static",
        "answer",
        "a static service needs `static`",
        Some("write `static: {root: ./public}`"),
    );
    case(
        "service_type: plugin, plugin: {name: auth, entry: hello}",
        "service_type: static, static: {root: ., index: a/b}",
        "a/b",
        "`index` is the name of a file in each directory: `a/b` is none",
        None,
    );
    case(
        "service_type: plugin, plugin: {name: auth, entry: hello}",
        "service_type: plugin",
        "answer",
        "a plugin service needs a `plugin`",
        Some("write `plugin: {name: ..., entry: ...}`"),
    );
    case(
        "{name: auth, entry: hello}",
        "{name: auth}",
        "name",
        "`plugin` of a service needs the key `entry`",
        None,
    );
}

#[test]
fn plugins_say_what_runs_them() {
    case(
        "file: plugin.py}",
        "file: plugin.rb, type: python}",
        "plugin.rb",
        "`plugin.rb` is no `.py` file",
        None,
    );
    case(
        "file: plugin.py}",
        "module: 'a/b'}",
        "'a/b'",
        "`a/b` is no Python module",
        Some("write `pkg.mod` or `pkg.mod:name`; a path is a `file`"),
    );
    case("file: plugin.py}", "module: 'a:1b'}", "'a:1b'", "`1b` is no name of an attribute", None);
    case(
        "file: plugin.py}",
        "file: plugin.py, module: a}",
        "a",
        "either a `file` or a `module`, not both",
        None,
    );
    case(
        ", file: plugin.py}",
        "}",
        "auth",
        "nothing says what runs this plugin",
        Some("give it a `file`, a `module`, or `messaging` and `group`"),
    );
    case(
        "file: plugin.py}",
        "type: ffi}",
        "auth",
        "a native plugin needs a `file`: a library that speaks the C ABI",
        None,
    );
    case(
        "group: g}",
        "group: a.b}",
        "a.b",
        "`a.b` is no name for a queue group",
        Some("a group is one word without dots, spaces, `*` and `>`"),
    );
    case(
        "group: g}",
        "group: '${GROUP}'}",
        "'${GROUP}'",
        "the environment variable `GROUP` is not set",
        None,
    );
    case("group: g}", "group: '${EMPTY}'}", "'${EMPTY}'", "the environment variable `EMPTY` is empty", None);
    case("group: g}", "group: g, threads: 3}", "3", "`threads` belongs to a plugin of `type: python`", None);
    case(
        "group: g}",
        "group: g, per_phase: {logging: {retry: {backoff_ms_initial: 9, backoff_ms_max: 8}}}}",
        "9",
        "`backoff_ms_initial` (9) is more than `backoff_ms_max` (8)",
        None,
    );
}

#[test]
fn keys_of_native_plugins_and_of_processes_stand_where_they_mean_something() {
    case(
        "file: plugin.py}",
        "type: ffi, file: plugin.py, callback_memory: host}",
        "host",
        "`callback_memory` belongs to a native plugin, whose `file` is a library",
        None,
    );
    case(
        "file: plugin.py}",
        "file: library.so, execution: inline}",
        "inline",
        "`execution` belongs to a plugin of `type: python`",
        None,
    );
    case(
        "file: plugin.py}",
        "file: library.so, type: ffi, group: g}",
        "g",
        "`group` belongs to a plugin of `type: messaging`",
        None,
    );
    case(
        "file: plugin.py}",
        "file: library.so, processes: 2}",
        "2",
        "without `isolation: process` a plugin has no processes of its own",
        Some("add `isolation: process`"),
    );
    case(
        "file: plugin.py}",
        "file: library.so, isolation: process, processes: 0}",
        "0",
        "expected a whole number from 1 to 256, found 0",
        None,
    );
    for (key, text) in [("isolation", "process"), ("processes", "2"), ("on_load_error", "isolate")] {
        case(
            "group: g}",
            &format!("group: g, {key}: {text}}}"),
            text,
            &format!(
                "`{key}` belongs to a plugin that the gateway runs itself; workers are processes of their own"
            ),
            None,
        );
    }
    case(
        "file: plugin.py}",
        "file: library.so, on_load_error: ignore}",
        "ignore",
        "unknown on_load_error: `ignore`",
        Some("known: `fail`, `isolate`"),
    );
}

#[test]
fn a_library_is_looked_for_like_other_files() {
    let errors = check(&VALID.replace("file: plugin.py}", "file: none.so}")).expect_err("no file").errors;
    let [error] = errors.as_slice() else { panic!("{errors:?}") };
    assert_eq!(error.text(), "none.so");
    assert!(error.reason.starts_with("no such file; looked for `"), "{error}");
    assert!(error.reason.contains("tests/data/example/none.so` and `"), "{error}");
}

#[test]
fn brokers_are_servers_that_can_be_reached() {
    case(
        "servers: ['nats://h:4222']",
        "servers: ['http://h']",
        "'http://h'",
        "a NATS server cannot be reached by `http://`",
        Some("write `nats://host:port` or `tls://host:port`"),
    );
    case(
        "servers: ['nats://h:4222']",
        "servers: ['nats://h:x']",
        "'nats://h:x'",
        "this is no server's address",
        Some("write `nats://host:port`"),
    );
    case("servers: ['nats://h:4222']", "servers: []", "broker", "the list of `servers` is empty", None);
    case(
        "servers: ['nats://h:4222']",
        "servers: ['${NOPE}']",
        "'${NOPE}'",
        "the environment variable `NOPE` is not set",
        None,
    );
    case(
        ", servers: ['nats://h:4222']",
        ", embedded: false",
        "broker",
        "a messaging connection needs `servers`",
        Some(
            "write `servers: [nats://127.0.0.1:4222]`, or `embedded: true` for a server that the gateway starts",
        ),
    );
    case(
        "servers: ['nats://h:4222']",
        "servers: ['nats://h:4222'], embedded: true",
        "true",
        "either `servers` or `embedded: true`, not both",
        None,
    );
    case(
        "servers: ['nats://h:4222']",
        "servers: h, auth: {user: u}",
        "user",
        "`user` and `password` belong together",
        None,
    );
    case(
        "servers: ['nats://h:4222']",
        "servers: h, auth: {user: u, password: p, token: t}",
        "*",
        "either `user` and `password`, or a `token`, or an `nkey`, or `creds`",
        None,
    );
    case(
        "servers: ['nats://h:4222']",
        "servers: h, subject_prefix: 'a b'",
        "'a b'",
        "`a b` is no subject prefix",
        Some("a prefix is words joined by dots, without spaces, `*` and `>`"),
    );
}
