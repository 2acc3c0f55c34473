//! `RateLimit` with buckets of this process.

use super::through;
use crate::Gateway;
use crate::client::Client;
use crate::eventually;
use crate::origin::Origin;

fn with_key(client: &mut Client, path: &str, key: &str) -> u16 {
    client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\nX-Key: {key}\r\n\r\n")).response().status
}

#[test]
fn who_asks_too_often_is_told_when_to_come_back() {
    let origin = Origin::echo();
    let gateway = through(&origin, "      - {plugin: RateLimit, payload: {rate: 3/h, name: front}}");
    let mut client = gateway.connect();
    for _ in 0..3 {
        let response = client.get("/");
        assert_eq!((response.status, response.header("ratelimit")), (200, None));
    }
    let refused = client.get("/");
    assert_eq!(refused.status, 429);
    assert_eq!(refused.header("ratelimit-policy"), Some("\"front\";q=3;w=3600"));
    assert_eq!(refused.header("ratelimit"), Some("\"front\";r=0;t=3600"));
    let wait: u64 = refused.header("retry-after").expect("a time").parse().expect("seconds");
    assert!((1195..=1200).contains(&wait), "{wait}");
    assert!(refused.text().contains("too many requests"));
    assert_eq!(origin.requests(), 3);
}

#[test]
fn every_response_can_tell_what_is_left() {
    let origin = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nRateLimit: \"own\";r=7\r\n\r\n");
    let gateway =
        through(&origin, "      - {plugin: RateLimit, payload: {rate: 2/h, burst: 5, headers: always}}");
    let mut client = gateway.connect();
    let told = |response: &crate::client::Response| {
        let values = response.headers.iter().filter(|(name, _)| name == "ratelimit");
        values.map(|(_, value)| value.clone()).collect::<Vec<_>>()
    };
    assert_eq!(told(&client.get("/")), ["\"own\";r=7", "\"default\";r=4;t=1800"]);
    for _ in 0..4 {
        client.get("/");
    }
    let refused = client.get("/");
    assert_eq!((refused.status, told(&refused).len()), (429, 1), "once, and not twice");
    let quiet = through(&origin, "      - {plugin: RateLimit, payload: {rate: 1/h, headers: never}}");
    let mut client = quiet.connect();
    client.get("/");
    let refused = client.get("/");
    assert_eq!((refused.status, told(&refused).len()), (429, 0));
    assert!(refused.header("retry-after").is_some());
}

#[test]
fn tokens_come_back() {
    let origin = Origin::echo();
    let gateway = through(&origin, "      - {plugin: RateLimit, payload: {rate: 20/s, burst: 1}}");
    let mut client = gateway.connect();
    assert_eq!(client.get("/").status, 200);
    eventually("a token", || client.get("/").status == 200);
}

#[test]
fn each_key_counts_by_itself_and_limits_share_by_name_only() {
    let origin = Origin::echo();
    let limit = |name: &str| {
        format!("{{plugin: RateLimit, payload: {{rate: 1/h, key: '${{header(x-key)}}'{name}}}}}")
    };
    let gateway = Gateway::start(&format!(
        "http: ['127.0.0.1:0']
runtime: {{threads: 2}}
services: [{{name: origin, service_type: http, endpoints: [{{ip: 127.0.0.1, port: {}}}]}}]
routes:
  - route: {{type: host, value: '*'}}
    name: all
    paths:
      - {{path: /own, service: {{name: origin}}, middleware: [{own}]}}
      - {{path: /other, service: {{name: origin}}, middleware: [{own}]}}
      - {{path: /a, service: {{name: origin}}, middleware: [{shared}]}}
      - {{path: /b, service: {{name: origin}}, middleware: [{shared}]}}
",
        origin.port,
        own = limit(""),
        shared = limit(", name: shared"),
    ));
    // Both threads serve some of these.
    let mut clients: Vec<Client> = (0..8).map(|_| gateway.connect()).collect();
    let mut all = |path: &str, key: &str| -> usize {
        clients.iter_mut().map(|client| with_key(client, path, key)).filter(|status| *status == 200).count()
    };
    assert_eq!((all("/own", "1"), all("/own", "2"), all("/other", "1")), (1, 1, 1));
    assert_eq!((all("/a", "1"), all("/b", "1"), all("/b", "2")), (1, 0, 1));
}

#[test]
fn a_reload_gives_back_no_token_unless_the_limit_is_another() {
    let origin = Origin::echo();
    let config = |rate: &str, more: &str| {
        format!(
            "http: ['127.0.0.1:0']
runtime: {{threads: 1}}
services: [{{name: origin, service_type: http, endpoints: [{{ip: 127.0.0.1, port: {}}}]}}]
{more}
routes:
  - route: {{type: host, value: '*'}}
    name: all
    middleware: [{{plugin: RateLimit, payload: {{rate: {rate}, name: front}}}}]
    paths: [{{path: /, service: {{name: origin}}}}]
",
            origin.port
        )
    };
    let gateway = Gateway::start(&config("2/h", ""));
    let mut client = gateway.connect();
    let statuses =
        |client: &mut Client| [client.get("/").status, client.get("/").status, client.get("/").status];
    assert_eq!(statuses(&mut client), [200, 200, 429]);
    let switch = |config: String| gateway.server.switch(Gateway::plan(&config), Vec::new()).map(|_| ());
    switch(config("2/h", "\n# moved\n\n")).expect("a plan");
    assert_eq!(statuses(&mut gateway.connect()), [429; 3]);
    switch(config("3/h", "")).expect("a plan");
    eventually("the new limit", || gateway.connect().get("/").status == 200);
}
