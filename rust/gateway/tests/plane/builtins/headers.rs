//! `RequestHeaderModifier` and `ResponseHeaderModifier`.

use super::{through, values};
use crate::origin::Origin;

#[test]
fn a_service_gets_the_fields_that_were_set_added_and_not_removed() {
    let origin = Origin::echo();
    let gateway = through(
        &origin,
        "      - plugin: RequestHeaderModifier
        payload:
          set: [{name: X-Set, value: new}, {name: x-from, value: nothing}]
          add: [{name: x-list, value: third}]
          remove: [x-secret, x-absent]",
    );
    let mut client = gateway.connect();
    let response = client
        .send("GET / HTTP/1.1\r\nHost: a\r\nX-Set: 1\r\nX-Set: 2\r\nX-List: first\r\nX-List: second\r\nX-Secret: s\r\n\r\n")
        .response();
    let seen = response.text();
    assert_eq!(values(seen, "x-set"), ["new"]);
    assert_eq!(values(seen, "x-from"), ["nothing"]);
    assert_eq!(values(seen, "x-list"), ["first", "second", "third"]);
    assert_eq!(values(seen, "x-secret"), [""; 0]);
}

#[test]
fn a_value_comes_from_the_request_as_it_was_and_cannot_bring_a_field_of_its_own() {
    let origin = Origin::echo();
    let gateway = through(
        &origin,
        "      - plugin: RequestHeaderModifier
        payload:
          set:
            x-user: 'u-${header(x-old)}'
            x-old: '${query(q)}'
          remove: [x-older]",
    );
    let mut client = gateway.connect();
    let response = client.send("GET /?q=a%20b HTTP/1.1\r\nHost: a\r\nX-Old: 7\r\n\r\n").response();
    assert_eq!(values(response.text(), "x-user"), ["u-7"]);
    assert_eq!(values(response.text(), "x-old"), ["a b"]);
    for bad in ["%0d%0ax-evil:%201", "%0a", "%00"] {
        let response = client.get(&format!("/?q={bad}"));
        assert_eq!((response.status, response.text().contains("plugin error")), (500, true));
    }
    assert_eq!(origin.requests(), 1);
}

#[test]
fn a_client_gets_the_fields_that_were_set_added_and_not_removed_also_of_errors() {
    let origin = Origin::start(|connection| {
        while let Some(request) = connection.request()? {
            if request.starts_with("GET /broken") {
                return Ok(());
            }
            connection.write(
                "HTTP/1.1 200 OK\r\nServer: secret\r\nX-Frame: allow\r\nLink: a\r\nContent-Length: 2\r\n\r\nok",
            )?;
        }
        Ok(())
    });
    let gateway = through(
        &origin,
        "      - plugin: ResponseHeaderModifier
        payload:
          set: {x-frame: deny, x-for: '${header(x-who)}'}
          add: [{name: link, value: b}]
          remove: [server]",
    );
    let mut client = gateway.connect();
    let response = client.send("GET / HTTP/1.1\r\nHost: a\r\nX-Who: me\r\n\r\n").response();
    assert_eq!((response.status, response.text()), (200, "ok"));
    assert_eq!((response.header("x-frame"), response.header("x-for")), (Some("deny"), Some("me")));
    assert_eq!(response.header("server"), None);
    let links: Vec<_> = response.headers.iter().filter(|(name, _)| name == "link").collect();
    assert_eq!(links.len(), 2);
    assert_eq!(response.header("content-length"), Some("2"));
    let response = client.get("/broken");
    assert_eq!((response.status, response.header("x-frame")), (502, Some("deny")));
}
