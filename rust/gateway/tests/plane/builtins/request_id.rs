//! `RequestId`: one name for a request, wherever it goes.

use super::{through, values};
use crate::origin::Origin;

#[test]
fn service_and_client_get_the_gateways_own_id() {
    let origin = Origin::echo();
    let gateway = through(&origin, "      - {plugin: RequestId, payload: {response: true}}");
    let mut client = gateway.connect();
    let mut ids = Vec::new();
    for _ in 0..2 {
        let response = client.send("GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: mine\r\n\r\n").response();
        let seen = values(response.text(), "x-request-id");
        let [id] = seen[..] else { panic!("{seen:?}") };
        assert!(id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
        assert_eq!(response.header("x-request-id"), Some(id));
        ids.push(id.to_owned());
    }
    assert_ne!(ids[0], ids[1]);
}

#[test]
fn an_id_of_the_client_is_kept_where_it_is_trusted_and_well_formed() {
    let origin = Origin::echo();
    let gateway = through(
        &origin,
        "      - {plugin: RequestId, payload: {header: X-Trace, trust_incoming: true, response: true}}
      - {plugin: RequestHeaderModifier, payload: {set: {x-trace: other}}}",
    );
    let mut client = gateway.connect();
    let mut ask = |fields: &str| {
        let response = client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).response();
        response.header("x-trace").expect("an id").to_owned()
    };
    assert_eq!(ask("X-Trace: 7f-Ab_c.1:2\r\n"), "7f-Ab_c.1:2");
    let long = format!("X-Trace: {}\r\n", "a".repeat(129));
    for fields in
        ["", "X-Trace: \r\n", "X-Trace: a b\r\n", "X-Trace: <x>\r\n", "X-Trace: a\r\nX-Trace: b\r\n", &long]
    {
        let id = ask(fields);
        assert!(id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{fields}: {id}");
    }
}

#[test]
fn the_client_gets_no_id_unless_it_is_to() {
    let origin = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let gateway = through(&origin, "      - {plugin: RequestId}");
    assert_eq!(gateway.connect().get("/").header("x-request-id"), None);
    let seen = origin.seen(|seen| seen.requests[0].clone());
    assert_eq!(values(&seen, "x-request-id").len(), 1);
}
