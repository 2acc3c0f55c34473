//! Which requests `when:` lets through, and what payloads are for them.

use std::path::Path;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};
use nylon_config::Plan;
use nylon_config::plan::Middleware;
use nylon_core::{Exchange, Params, RequestFacts, RequestHead, RequestId, Scheme, TargetPart};

/// A request as `METHOD path name:value ...`.
fn request(text: &str) -> RequestHead {
    let mut words = text.split(' ');
    let mut word = || words.next().expect("method and path");
    let (method, path) = (word(), word());
    let headers: HeaderMap = words
        .map(|field| {
            let (name, value) = field.split_once(':').expect("a field");
            (name.parse::<HeaderName>().expect("a name"), HeaderValue::from_str(value).expect("a value"))
        })
        .collect();
    RequestHead {
        method: method.parse::<Method>().expect("a method"),
        path: TargetPart::path(path.to_owned().into()).expect("a path"),
        query: None,
        version: Version::HTTP_11,
        headers,
    }
}

fn plan(middleware: &str, groups: &str) -> Plan {
    let text = format!(
        "http: [127.0.0.1:0]
plugins: [{{name: near, file: plugin.py}}]
services: [{{name: up, service_type: http, endpoints: [{{ip: 127.0.0.1, port: 9}}]}}]
middleware_groups: {{{groups}}}
routes:
  - route: {{type: host, value: '*'}}
    name: main
    paths: [{{path: '/{{*all}}', service: {{name: up}}, middleware: [{middleware}]}}]
"
    );
    let loaded = nylon_config::parse_str("nylon.yaml", &text, Path::new("tests/data/example"), &|_| None);
    loaded.unwrap_or_else(|errors| panic!("{errors}")).plan
}

fn middleware(plan: &Plan) -> &[Middleware] {
    &plan.routes[0].paths[0].middleware
}

#[test]
fn a_condition_holds_for_the_requests_that_it_names() {
    for (condition, holds, not) in [
        ("methods: POST", "POST /a", "GET /a"),
        ("methods: [GET, PUT]", "HEAD /a", "DELETE /a"),
        ("header: {name: X-A}", "GET /a x-a:1", "GET /a x-b:1"),
        ("header: {name: x-a, value: [b, c]}", "GET /a x-a:z x-a:c", "GET /a x-a:cc"),
        ("header: {name: x-a, prefix: [b, Bearer]}", "GET /a x-a:Bearer-x", "GET /a x-a:Bear"),
        ("header: [{name: x-a}, {name: x-b}]", "GET /a x-b:1 x-a:1", "GET /a x-b:1"),
        ("path: /a", "GET /a", "GET /a/"),
        ("path: ['/a/{*rest}', '/b/{id}']", "GET /b/7", "GET /b/7/8"),
        ("content_type: application/json", "POST /a content-type:Application/JSON;x=y", "POST /a"),
        ("content_type: ['text/*', a/b]", "POST /a content-type:text/plain", "POST /a content-type:texts/b"),
        ("not: {methods: GET, header: {name: x-a}}", "GET /a", "GET /a x-a:1"),
        ("methods: GET, not: {not: {path: /a}}", "GET /a", "GET /b"),
    ] {
        let plan = plan(&format!("{{plugin: near, entry: e, when: {{{condition}}}}}"), "");
        let [condition] = &middleware(&plan)[0].when[..] else { panic!("one condition") };
        assert!(condition.holds(&request(holds)), "{holds}: {condition:?}");
        assert!(!condition.holds(&request(not)), "{not}: {condition:?}");
    }
}

#[test]
fn a_groups_condition_holds_for_its_members_beside_their_own() {
    let groups = "outer: [{group: inner, when: {methods: GET}}, {plugin: near, entry: c}], \
                  inner: [{plugin: near, entry: a, when: {path: /x}}, {plugin: near, entry: b}]";
    let plan = plan("{group: outer, when: {header: {name: x-on}}}, {group: inner}", groups);
    let called = |text: &str| -> String {
        let head = request(text);
        let called = middleware(&plan).iter().filter(|it| it.when.iter().all(|when| when.holds(&head)));
        called.filter_map(Middleware::entry).map(|(_, entry)| entry).collect()
    };
    assert_eq!(called("GET /x x-on:1"), "abcab");
    assert_eq!(called("GET /y x-on:1"), "bcb");
    assert_eq!(called("POST /x x-on:1"), "cab");
    assert_eq!(called("GET /x"), "ab");
}

#[test]
fn a_payload_is_constant_where_nothing_of_it_comes_from_the_request() {
    let plan = plan(
        "{plugin: near, entry: a, payload: {k: [\"$${a}\", \"${upper('b')}\", 7]}}, \
         {plugin: near, entry: b, payload: {a: 1, '${header(x)}': [\"${header(x)}!\", null], z: \"${request(path)}\"}}",
        "",
    );
    let [constant, templated] = middleware(&plan) else { panic!("two") };
    assert_eq!(
        constant.payload.constant().map(|bytes| &bytes[..]),
        Some(&b"\x81\xa1k\x93\xa4${a}\xa1B\x07"[..])
    );
    assert_eq!(templated.payload.constant(), None);
    let facts = RequestFacts {
        id: RequestId([0; 16]),
        scheme: Scheme::Http,
        host: "a".parse().expect("authority"),
        client_ip: [127, 0, 0, 1].into(),
        received_at: std::time::SystemTime::UNIX_EPOCH,
        params: Params::default(),
    };
    let long = "\u{e9}".repeat(20);
    let mut head = request("GET /p");
    let field = |text: &str| HeaderValue::from_bytes(text.as_bytes()).expect("a value");
    head.headers.insert("x", field(&long));
    let mut exchange = Exchange::new(facts, head);
    let rendered = templated.payload.render(&exchange).expect("short");
    let expected =
        [b"\x83\xa1a\x01\xac${header(x)}\x92\xd9\x29", long.as_bytes(), b"!\xc0\xa1z\xa2/p"].concat();
    assert_eq!(rendered, expected);
    exchange.request.headers.insert("x", field(&"a".repeat(65_534)));
    assert!(templated.payload.render(&exchange).is_err(), "all its templates share one limit");
    exchange.request.headers.insert("x", field(&"a".repeat(65_533)));
    assert!(templated.payload.render(&exchange).is_ok());
}
