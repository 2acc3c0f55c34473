//! What libraries do to a request or a response, and what they must not.

use crate::gateway::{Gateway, host};
use crate::origin::Origin;
use nylon_config::plan::CallbackMemory;

const ORIGIN: &str = "HTTP/1.1 200 OK\r\nX-Origin: here\r\nContent-Length: 5\r\n\r\nhello";

#[test]
fn a_request_is_changed_in_all_its_parts_and_stays_one_message() {
    let origin = Origin::echo();
    let gateway = Gateway::with("mirror", "request", origin.port);
    let head = "POST /x?y=z HTTP/1.1\r\nHost: test\r\nX-Two: 1\r\nContent-Length: 3\r\n\r\nabc";
    let response = gateway.connect().send(head).response();
    let seen = String::from_utf8_lossy(&response.body).into_owned();
    assert!(seen.starts_with("PATCH /other%20path?q=1 HTTP/1.1\r\n"), "{seen}");
    assert!(seen.ends_with("\r\n\r\nmade here"), "{seen}");
    assert!(seen.contains("x-set: plain\r\n") && seen.contains("x-set: more\r\n"), "{seen}");
    assert!(!seen.contains("x-two") && !seen.contains("transfer-encoding"), "{seen}");
    assert_eq!(seen.matches("content-length: 9\r\n").count(), 1, "{seen}");
}

#[test]
fn a_response_is_changed_in_all_its_parts_and_stays_one_message() {
    let origin = Origin::answering(ORIGIN);
    let response = Gateway::with("mirror", "response", origin.port).connect().get("/");
    assert_eq!((response.status, response.text()), (201, "hello"));
    let values: Vec<_> =
        response.headers.iter().filter(|(name, _)| name == "x-a").map(|(_, v)| v.as_str()).collect();
    assert_eq!(values, ["1", "2"]);
    assert_eq!(response.header("x-origin"), None);
    let framing = (response.header("content-length"), response.header("transfer-encoding"));
    assert_eq!(framing, (Some("5"), None));
}

#[test]
fn whatever_is_not_allowed_fails_the_phase_and_undoes_it() {
    let origin = Origin::answering(ORIGIN);
    for entry in ["fails", "invalid", "garbage", "upgrade", "too_late"] {
        let response = Gateway::with("mirror", entry, origin.port).connect().get("/");
        assert_eq!(response.status, 500, "{entry}");
        assert!(!response.text().contains("wrong"), "what went wrong inside is for the log");
    }
    let echo = Origin::echo();
    for entry in ["fails", "invalid", "garbage"] {
        let middleware =
            format!("[{{plugin: x, entry: {entry}, per_phase: {{request_filter: {{on_error: continue}}}}}}]");
        let gateway = Gateway::start(host("mirror", CallbackMemory::Plugin), echo.port, &middleware, "");
        let response = gateway.connect().get("/");
        assert_eq!(response.status, 200, "{entry}");
        assert!(!response.text().contains("x-set"), "{entry}");
    }
}

#[test]
fn the_first_decision_counts_and_a_second_one_is_counted() {
    let origin = Origin::answering(ORIGIN);
    let gateway = Gateway::with("mirror", "twice", origin.port);
    assert_eq!(gateway.connect().get("/").status, 403);
    assert_eq!((gateway.refused("second_decision"), origin.requests()), (1, 0));
}

#[test]
fn numbers_that_mean_nothing_are_answered_and_counted() {
    let origin = Origin::answering(ORIGIN);
    let gateway = Gateway::with("mirror", "unknown", origin.port);
    assert_eq!(gateway.connect().get("/").status, 200);
    assert_eq!((gateway.refused("unknown_method"), gateway.refused("websocket")), (2, 1));
}

#[test]
fn the_gateway_frees_each_payload_once_where_it_is_told_to() {
    let origin = Origin::answering(ORIGIN);
    let middleware = "[{plugin: x, entry: guard}]";
    let gateway = Gateway::start(host("freed", CallbackMemory::Host), origin.port, middleware, "");
    for _ in 0..10 {
        assert_eq!(gateway.connect().get("/").status, 200);
    }
    let response = gateway.connect().get("/count");
    // A header's name and the path's own answer for each request before this one; a second free would abort.
    assert_eq!(response.header("x-freed-as-allocated"), Some("yes"));
}
