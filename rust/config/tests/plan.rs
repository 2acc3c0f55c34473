//! What a valid configuration becomes.

use std::{fs, path::Path, time::Duration};

use nylon_config::{
    Loaded, Plan,
    plan::{
        Algorithm, Balancing, Broker, BrokerAuth, CallbackMemory, Execution, HashBy, HostPattern, Isolation,
        Matcher, Middleware, OnError, OnLoadError, Overflow, PluginIndex, PluginKind, PythonSource,
        RetryStatus, ServiceKind, Upstream, Workers,
    },
};
use nylon_core::Phase;

fn env(name: &str) -> Option<String> {
    match name {
        "NATS_SERVERS" => Some("nats://one:4222, two:4223".to_owned()),
        "NATS_GROUP" => Some("blue".to_owned()),
        "TOKEN" => Some("s3cret".to_owned()),
        "LIBRARY" => Some("library.so".to_owned()),
        _ => None,
    }
}

fn loaded(text: &str) -> Loaded {
    match nylon_config::parse_str("nylon.yaml", text, Path::new("tests/data/example"), &env) {
        Ok(loaded) => loaded,
        Err(errors) => panic!("{errors}"),
    }
}

fn plan(text: &str) -> Plan {
    let loaded = loaded(text);
    assert_eq!(loaded.warnings, []);
    loaded.plan
}

const CODE: &str = "
http: ['127.0.0.1:0']
plugins:
  - {name: a, file: plugin.py}
  - {name: b, type: ffi, file: 'plugin.py:other', execution: inline}
  - {name: c, module: 'shop.auth:plug', threads: 9, config: {deep: [1, 2.5, null]}}
services:
  - {name: up, service_type: http, endpoints: [{ip: 127.0.0.1, port: 3000}]}
";

#[test]
fn a_minimal_configuration_gets_the_documented_defaults() {
    let plan = plan("http: [127.0.0.1:8080]");
    assert_eq!(plan.http[0].address.to_string(), "127.0.0.1:8080");
    assert_eq!(plan.runtime.threads, None);
    assert_eq!(plan.runtime.grace_period, Duration::from_secs(30));
    assert_eq!(plan.limits.header_read_timeout, Duration::from_secs(30));
    assert_eq!(plan.limits.keepalive_timeout, Duration::from_secs(75));
    assert_eq!(plan.limits.max_header_bytes, 64 * 1024);
    assert_eq!(plan.limits.max_headers, 100);
    assert_eq!(plan.limits.max_body_bytes, 10 * 1024 * 1024);
    assert_eq!(plan.limits.max_forwarded_body_bytes, None);
    assert_eq!(plan.limits.upstream.connect_timeout, Duration::from_secs(5));
    assert!(plan.trusted_proxies.is_empty());
}

#[test]
fn plugins_are_told_apart_by_their_keys() {
    let plan = plan(CODE);
    let file = fs::canonicalize("tests/data/example/plugin.py").expect("the file is there");
    let source = |path, attribute: &str| PythonSource::File { path, attribute: attribute.to_owned() };
    assert_eq!(
        plan.plugins[0].kind,
        PluginKind::Python {
            source: source(file.clone(), "plugin"),
            execution: Execution::Thread,
            threads: 4
        }
    );
    assert_eq!(
        plan.plugins[1].kind,
        PluginKind::Python { source: source(file, "other"), execution: Execution::Inline, threads: 4 }
    );
    let module = PythonSource::Module { module: "shop.auth".to_owned(), attribute: "plug".to_owned() };
    assert_eq!(
        plan.plugins[2].kind,
        PluginKind::Python { source: module, execution: Execution::Thread, threads: 9 }
    );
    assert_eq!(plan.plugins[2].config, serde_json::json!({"deep": [1, 2.5, null]}));
    assert_eq!(plan.plugins[2].location.to_string(), "nylon.yaml:6:12");
}

#[test]
fn a_library_is_a_native_plugin_with_or_without_its_type() {
    let plan = plan("
http: [127.0.0.1:0]
plugins:
  - {name: a, file: library.so}
  - {name: b, type: ffi, file: '${LIBRARY}', callback_memory: host, isolation: process, on_load_error: isolate}
  - {name: c, file: plugin.py, isolation: process, processes: 3}
");
    let file = fs::canonicalize("tests/data/example/library.so").expect("the file is there");
    let native = |callback_memory| PluginKind::Native { file: file.clone(), callback_memory };
    let found: Vec<_> = plan.plugins.iter().map(|plugin| (plugin.isolation, plugin.on_load_error)).collect();
    assert_eq!(plan.plugins[0].kind, native(CallbackMemory::Plugin));
    assert_eq!(plan.plugins[1].kind, native(CallbackMemory::Host));
    let processes = |processes| Some(Isolation { processes });
    assert_eq!(
        found,
        [(None, OnLoadError::Fail), (processes(1), OnLoadError::Isolate), (processes(3), OnLoadError::Fail)]
    );
}

#[test]
fn code_that_may_be_missing_is_a_warning_and_expected_beside_the_configuration() {
    let loaded = loaded(
        "
http: [127.0.0.1:0]
plugins:
  - {name: a, file: none.so, on_load_error: isolate}
  - {name: b, file: 'none.py:p', on_load_error: isolate}
",
    );
    let warned: Vec<_> = loaded.warnings.iter().map(|warning| warning.text().to_owned()).collect();
    assert_eq!(warned, ["none.so", "'none.py:p'"]);
    let here = std::env::current_dir().expect("a directory").join("tests/data/example");
    let PluginKind::Native { file, .. } = &loaded.plan.plugins[0].kind else { panic!("a native plugin") };
    assert_eq!(*file, here.join("none.so"));
    let PluginKind::Python { source: PythonSource::File { path, .. }, .. } = &loaded.plan.plugins[1].kind
    else {
        panic!("a Python plugin")
    };
    assert_eq!(*path, here.join("none.py"));
}

#[test]
fn middleware_is_the_routes_then_the_paths_with_groups_in_their_places() {
    let plan = plan(&format!(
        "{CODE}
middleware_groups:
  outer: [{{plugin: a, entry: one}}, {{group: inner}}, {{plugin: a, entry: four}}]
  inner: [{{plugin: b, entry: two, payload: {{k: v}}}}, {{plugin: c, entry: three}}]
routes:
  - route: {{type: host, value: '*'}}
    name: main
    middleware: [{{plugin: c, entry: zero}}, {{group: outer}}]
    paths:
      - path: ['/', '/{{*path}}']
        service: {{name: up}}
        middleware: [{{plugin: b, entry: five}}]
"
    ));
    let middleware = &plan.routes[0].paths[0].middleware;
    let order: Vec<_> = middleware.iter().filter_map(Middleware::entry).collect();
    assert_eq!(
        order,
        [(2, "zero"), (0, "one"), (1, "two"), (2, "three"), (0, "four"), (1, "five")]
            .map(|(plugin, entry)| (PluginIndex(plugin), entry))
    );
    let payload = |index: usize| middleware[index].payload.constant().map(|bytes| &bytes[..]);
    assert_eq!(payload(2), Some(&b"\x81\xa1k\xa1v"[..]));
    assert_eq!(payload(0), Some(&b"\xc0"[..]));
    // The place of the entry is where the group names it: that is the line to mend.
    assert_eq!(middleware[2].location.line, 12);
    assert_eq!(middleware[2].location.text(), "two");
}

#[test]
fn policies_come_from_default_connection_plugin_and_middleware_in_turn() {
    let plan = plan("
http: [127.0.0.1:0]
messaging:
  - {name: m, servers: [nats://h:1], request_timeout_ms: 4000, retry: {max: 7}}
plugins:
  - name: r
    messaging: m
    group: g
    per_phase:
      request_filter: {timeout_ms: 900, on_error: continue}
      response_filter: {retry: {max: 1, backoff_ms_initial: 800}, idempotent: false}
services: [{name: s, service_type: plugin, plugin: {name: r, entry: e}}]
routes:
  - route: {type: host, value: x.test}
    name: x
    paths:
      - path: /
        service: {name: s}
        middleware: [{plugin: r, entry: e, per_phase: {request_filter: {on_error: end}, logging: {timeout_ms: 5}}}]
");
    let own = &plan.plugins[0].per_phase;
    let request = own.of(Phase::RequestFilter);
    assert_eq!((request.timeout, request.on_error), (Duration::from_millis(900), OnError::Continue));
    assert_eq!((request.retry.max, request.retry.backoff_initial), (7, Duration::from_millis(100)));
    let response = own.of(Phase::ResponseFilter);
    assert_eq!((response.timeout, response.on_error), (Duration::from_millis(4000), OnError::Fail));
    assert_eq!((response.retry.max, response.idempotent), (1, false));
    assert_eq!(response.retry.backoff_max, Duration::from_millis(800));
    let logging = own.of(Phase::Logging);
    assert_eq!((logging.on_error, logging.retry.max), (OnError::Continue, 0));

    let attached = &plan.routes[0].paths[0].middleware[0].per_phase;
    assert_eq!(attached.request_filter.on_error, OnError::Fail);
    assert_eq!(attached.request_filter.timeout, Duration::from_millis(900));
    assert_eq!(attached.logging.timeout, Duration::from_millis(5));
    let ServiceKind::Plugin(service) = &plan.services[0].kind else { panic!("a plugin service") };
    assert_eq!(&service.per_phase, own);
}

#[test]
fn brokers_take_servers_groups_and_secrets_from_the_environment() {
    let plan = plan(
        "
http: [127.0.0.1:0]
messaging:
  - {name: m, servers: '${NATS_SERVERS}', auth: {token: '${TOKEN}'}, overflow_policy: reject}
  - {name: own, embedded: true, subject_prefix: shop.eu}
plugins:
  - {name: r, type: messaging, messaging: m, group: '${NATS_GROUP}'}
  - {name: s, messaging: own}
",
    );
    let servers = vec!["nats://one:4222".to_owned(), "nats://two:4223".to_owned()];
    assert_eq!(plan.messaging[0].broker, Broker::Servers(servers));
    assert_eq!(plan.messaging[0].overflow, Overflow::Reject);
    let BrokerAuth::Token(token) = &plan.messaging[0].auth else { panic!("a token") };
    assert_eq!(token.reveal(), "s3cret");
    assert!(!format!("{plan:?}").contains("s3cret"), "a secret shows in the plan's debug text");
    assert_eq!(plan.messaging[1].broker, Broker::Embedded);
    assert_eq!(plan.messaging[1].subject_prefix, "shop.eu");
    assert_eq!(plan.plugins[0].kind, PluginKind::Messaging { messaging: 0, workers: Workers::of("blue") });
    assert_eq!(plan.plugins[1].kind, PluginKind::Messaging { messaging: 1, workers: Workers::of("s") });
}

#[test]
fn routes_know_hosts_header_values_methods_and_rewrites() {
    let plan = plan(&format!(
        "{CODE}
header_selector: X-Tenant
trusted_proxies: [10.0.0.0/8, '::1']
routes:
  - route: {{type: host, value: 'A.example | *.b.example|[::1]'}}
    name: hosts
    paths:
      - {{path: [/static, '/static/{{*rest}}'], service: {{name: up, rewrite: /files}}}}
      - {{path: '/u/{{id}}/{{*rest}}', methods: [GET], service: {{name: up, rewrite: '/v2/{{id}}'}}}}
      - {{path: '/u/{{id}}/{{*rest}}', methods: [POST], service: {{name: up}}}}
  - route: {{type: header, value: red|blue}}
    name: tenants
    paths: [{{path: /, service: {{name: up}}}}]
"
    ));
    assert_eq!(
        plan.routes[0].matcher,
        Matcher::Host(vec![
            HostPattern::Exact("a.example".to_owned()),
            HostPattern::Suffix(".b.example".to_owned()),
            HostPattern::Exact("[::1]".to_owned()),
        ])
    );
    assert_eq!(plan.routes[1].matcher, Matcher::Header(vec!["red".to_owned(), "blue".to_owned()]));
    assert_eq!(plan.header_selector.as_ref().map(http::HeaderName::as_str), Some("x-tenant"));
    assert_eq!(plan.trusted_proxies.len(), 2);
    let paths = &plan.routes[0].paths;
    let rest = |name: &str| if name == "rest" { Some("a/b") } else { Some("7") };
    let files = paths[0].rewrite.as_ref().expect("a rewrite");
    assert_eq!(files.apply(0, rest), "/files");
    assert_eq!(files.apply(1, rest), "/files/a/b");
    assert_eq!(paths[1].rewrite.as_ref().expect("a rewrite").apply(0, rest), "/v2/7/a/b");
    assert_eq!(paths[1].methods, [http::Method::GET]);
    assert_eq!(paths[2].rewrite, None);
}

#[test]
fn a_service_may_have_its_own_upstream_times() {
    let plan = plan(
        "
http: [127.0.0.1:0]
limits: {connect_timeout_ms: 700, response_head_timeout_ms: 800}
services:
  - name: s
    service_type: http
    response_head_timeout_ms: 120000
    endpoints: [{ip: '[::1]', port: 80}, {host: Origin.test, port: 81}]
",
    );
    let ServiceKind::Http(upstream) = &plan.services[0].kind else { panic!("an http service") };
    let Upstream { endpoints, limits, .. } = &**upstream;
    let addresses: Vec<_> = endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect();
    assert_eq!(addresses, ["[::1]:80", "origin.test:81"]);
    assert_eq!(limits.connect_timeout, Duration::from_millis(700));
    assert_eq!(limits.response_head_timeout, Duration::from_secs(120));
}

#[test]
fn balancing_comes_with_its_defaults() {
    let plan = plan(
        "
http: [127.0.0.1:0]
services:
  - name: plain
    service_type: http
    endpoints: [{ip: 127.0.0.1, port: 1}]
  - name: careful
    service_type: http
    algorithm: consistent
    hash: {by: header, name: X-User}
    endpoints: [{host: app.test, port: 1, weight: 3}]
    health_check: {}
    passive_health: {enabled: false}
    retry: {on: [timeout, gateway_error], attempt_timeout: 2s}
    circuit_breaker: {max_connections: 5}
",
    );
    let balancing = |service: usize| {
        let ServiceKind::Http(upstream) = &plan.services[service].kind else { panic!("an http service") };
        upstream.balancing.clone()
    };
    assert_eq!(balancing(0), Balancing::default());
    let careful = balancing(1);
    let user = HashBy::Header(http::HeaderName::from_static("x-user"));
    assert_eq!(careful.algorithm, Algorithm::Consistent(user));
    let check = careful.health_check.expect("a check");
    assert_eq!((check.path.as_str(), check.interval), ("/", Duration::from_secs(10)));
    assert_eq!((check.healthy_threshold, check.unhealthy_threshold), (2, 3));
    assert_eq!(careful.passive_health, None);
    let retry = careful.retry.expect("a retry");
    assert!(retry.on_timeout && !retry.on_connect_error && !retry.on_reset);
    assert_eq!((retry.on_status, retry.attempts), (RetryStatus::Gateway, 2));
    let breaker = careful.circuit_breaker.expect("a breaker");
    assert_eq!((breaker.max_connections, breaker.max_pending), (5, 0));
    assert_eq!((plan.dns.min_ttl, plan.dns.max_ttl), (Duration::from_secs(1), Duration::from_secs(60)));
}

#[test]
fn json_anchors_and_merge_keys_are_read_too() {
    let from_json = plan(
        r#"{"http": ["127.0.0.1:0"], "services": [{"name": "s\u00e9\ud83d\ude00\/", "service_type": "http",
        "endpoints": [{"ip": "h", "port": 1}]}]}"#,
    );
    assert_eq!(from_json.services[0].name, "sé😀/");
    let merged = plan(
        "
http: [127.0.0.1:0]
services:
  - &base {name: s, service_type: http, endpoints: &there [{ip: h, port: 1}], connect_timeout_ms: 9}
  - {<<: *base, name: t, connect_timeout_ms: 10}
",
    );
    let ServiceKind::Http(upstream) = &merged.services[1].kind else { panic!("an http service") };
    let Upstream { endpoints, limits, .. } = &**upstream;
    assert_eq!(endpoints[0].address.to_string(), "h:1");
    assert_eq!(limits.connect_timeout, Duration::from_millis(10));
}

#[test]
fn what_asks_for_nothing_is_fine_even_if_it_is_not_available() {
    let text = "
http: [127.0.0.1:0]
https: []
tls: []
runtime: {daemon: false}
services:
  - {name: s, service_type: http, endpoints: [{ip: h, port: 1}], health_check: {enabled: false, path: /up}}
";
    assert_eq!(plan(text).services.len(), 1);
}

#[test]
fn what_has_no_effect_is_a_warning() {
    let text = "
http: [127.0.0.1:0]
runtime: {work_stealing: true}
services:
limits: null
plugins:
  - {name: p, module: m, execution: inline, threads: 3, per_phase: {logging: {retry: {max: 1}}}}
  - {name: q, module: m, isolation: process, per_phase: {logging: {retry: {max: 1}}}}
";
    let reasons: Vec<_> = loaded(text).warnings.iter().map(|warning| warning.reason.clone()).collect();
    assert_eq!(
        reasons,
        [
            "`work_stealing` has no effect in this gateway",
            "`services` has no value and is left out",
            "`threads` has no effect on handlers that run inline",
            "`retry` has no effect on a plugin in the gateway's process: no call gets lost",
        ]
    );
}

#[test]
fn groups_keep_their_order_and_their_weights() {
    let plan = plan(
        "http: [127.0.0.1:0]
messaging: [{name: m, servers: [nats://h:4222]}]
plugins:
  - {name: a, groups: [{name: '${NATS_GROUP}', weight: 95}, {name: green, weight: 0}, {name: red}], messaging: m, mirror: black}
",
    );
    let PluginKind::Messaging { workers, .. } = &plan.plugins[0].kind else { panic!("on workers") };
    let shares: Vec<_> = workers.groups.iter().map(|group| (group.name.as_str(), group.weight)).collect();
    assert_eq!(shares, [("blue", 95), ("green", 0), ("red", 1)]);
    assert_eq!(workers.mirror.as_deref(), Some("black"));
}

#[test]
fn the_control_socket_stands_beside_the_file_that_names_it() {
    let plan = plan("http: [127.0.0.1:0]\ncontrol: run/nylon.sock");
    let here = std::env::current_dir().expect("a directory");
    assert_eq!(plan.control, Some(here.join("tests/data/example/run/nylon.sock")));
}

#[test]
fn the_control_socket_is_found_in_a_configuration_that_is_wrong() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("nylon.yaml");
    for (text, found) in [
        ("control: a.sock\nrutes: 1\n", Some(dir.path().join("a.sock"))),
        ("control: /run/a.sock\n", Some("/run/a.sock".into())),
        ("http: []\n", None),
        ("control: [1]\n", None),
        ("control: a.sock\n  x: [\n", None),
    ] {
        fs::write(&path, text).expect("a file");
        assert_eq!(nylon_config::control_socket(&path, &env), found, "{text}");
    }
    assert_eq!(nylon_config::control_socket(&dir.path().join("none.yaml"), &env), None);
}
