//! `Cors`: what browsers are told about pages of other sites.

use super::{through, values};
use crate::origin::Origin;

const LISTED: &str = "      - plugin: Cors
        payload:
          allow_origins: [https://a.example, 'https://*.b.example', 'http://localhost:3000']
          allow_methods: [GET, PUT]
          allow_headers: [content-type, X-Token]
          expose_headers: [X-Total]
          allow_credentials: true
          max_age_seconds: 600";

/// A service with an opinion of its own.
fn opinionated() -> Origin {
    Origin::answering(
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nAccess-Control-Allow-Origin: https://evil.example\r\n\
         Access-Control-Allow-Credentials: true\r\nVary: Accept\r\n\r\nok",
    )
}

fn preflight(origin: &str, method: &str) -> String {
    format!(
        "OPTIONS / HTTP/1.1\r\nHost: api\r\nOrigin: {origin}\r\nAccess-Control-Request-Method: {method}\r\n\r\n"
    )
}

fn get(origin: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: api\r\nOrigin: {origin}\r\n\r\n")
}

#[test]
fn a_preflight_of_an_allowed_origin_is_answered_by_the_gateway() {
    let origin = opinionated();
    let gateway = through(&origin, LISTED);
    let response = gateway.connect().send(preflight("https://a.example", "PUT")).response();
    assert_eq!((response.status, &response.body[..]), (204, &b""[..]));
    for (name, value) in [
        ("access-control-allow-origin", "https://a.example"),
        ("access-control-allow-credentials", "true"),
        ("access-control-allow-methods", "GET, PUT"),
        ("access-control-allow-headers", "content-type, x-token"),
        ("access-control-max-age", "600"),
        ("vary", "origin"),
    ] {
        assert_eq!(response.header(name), Some(value));
    }
    assert_eq!(origin.requests(), 0);
}

#[test]
fn a_response_names_the_allowed_origin_and_no_other() {
    let origin = opinionated();
    let gateway = through(&origin, LISTED);
    let mut client = gateway.connect();
    for allowed in
        ["https://a.example", "https://x.b.example", "https://x.y.b.example", "http://localhost:3000"]
    {
        let response = client.send(get(allowed)).response();
        assert_eq!(response.header("access-control-allow-origin"), Some(allowed));
        assert_eq!(response.header("access-control-allow-credentials"), Some("true"));
        assert_eq!(response.header("access-control-expose-headers"), Some("x-total"));
        let vary: Vec<_> = response.headers.iter().filter(|(name, _)| name == "vary").collect();
        assert_eq!(vary.len(), 2, "{vary:?}");
    }
    for other in [
        "https://evil.example",
        "http://a.example",
        "https://a.example:8443",
        "https://b.example",
        "https://evil.example/.b.example",
        "https://evil.example?.b.example",
        "https://evil.example:1.b.example",
        "https://a.example.evil.example",
        "https://xb.example",
        "null",
    ] {
        let response = client.send(get(other)).response();
        assert_eq!((response.status, response.text()), (200, "ok"), "{other}");
        let told: Vec<_> =
            response.headers.iter().filter(|(name, _)| name.starts_with("access-control")).collect();
        assert!(told.is_empty(), "{other}: {told:?}");
        assert!(response.headers.iter().any(|(name, value)| name == "vary" && value == "origin"));
        let response = client.send(preflight(other, "PUT")).response();
        assert_eq!((response.status, response.header("access-control-allow-origin")), (204, None), "{other}");
    }
}

#[test]
fn without_an_origin_nothing_is_granted_and_caches_are_warned() {
    let origin = opinionated();
    let gateway = through(&origin, LISTED);
    let response = gateway.connect().get("/");
    assert_eq!(response.header("access-control-allow-origin"), None);
    assert!(response.headers.iter().any(|(name, value)| name == "vary" && value == "origin"));
}

#[test]
fn an_options_request_that_is_no_preflight_reaches_the_service() {
    let origin = Origin::echo();
    let gateway = through(&origin, LISTED);
    let mut client = gateway.connect();
    let response =
        client.send("OPTIONS / HTTP/1.1\r\nHost: a\r\nOrigin: https://a.example\r\n\r\n").response();
    assert_eq!((response.status, values(response.text(), "origin")), (200, vec!["https://a.example"]));
}

#[test]
fn every_origin_may_read_what_is_for_all() {
    let origin = opinionated();
    let gateway =
        through(&origin, "      - {plugin: Cors, payload: {allow_origins: '*', allow_headers: '*'}}");
    let mut client = gateway.connect();
    for request in [get("https://any.example"), "GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned()] {
        let response = client.send(request).response();
        assert_eq!(response.header("access-control-allow-origin"), Some("*"));
        assert_eq!(response.header("access-control-allow-credentials"), None);
        assert_eq!(response.header("vary"), Some("Accept"));
    }
    let response = client.send(preflight("https://any.example", "POST")).response();
    assert_eq!(response.header("access-control-allow-origin"), Some("*"));
    assert_eq!(response.header("access-control-allow-methods"), Some("GET, HEAD, POST"));
    assert_eq!(response.header("access-control-allow-headers"), Some("*"));
    assert_eq!(response.header("vary"), None);
}

#[test]
fn other_origins_are_refused_where_that_is_wanted_and_the_own_one_is_not() {
    let origin = opinionated();
    let gateway = through(
        &origin,
        "      - {plugin: Cors, payload: {allow_origins: https://a.example, refuse_others: true}}",
    );
    let mut client = gateway.connect();
    for request in [get("https://evil.example"), preflight("https://evil.example", "GET")] {
        let response = client.send(request).response();
        assert_eq!((response.status, response.header("vary")), (403, Some("origin")));
        assert!(response.text().contains("the origin is not allowed"));
        assert_eq!(response.header("access-control-allow-origin"), None);
    }
    assert_eq!(origin.requests(), 0);
    for own in ["http://api", "https://a.example"] {
        assert_eq!(client.send(get(own)).response().status, 200);
    }
}
