//! Responses that libraries write while they are on their way.

use crate::client::Client;
use crate::gateway::{Gateway, eventually, host, host_with};
use crate::origin::Origin;
use nylon_config::plan::CallbackMemory;

const LARGE: usize = 16 << 20;

fn written(log: &tempfile::NamedTempFile) -> usize {
    std::fs::read_to_string(log.path()).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn logging(entry: &str, origin: &Origin, more: &str) -> (Gateway, tempfile::NamedTempFile) {
    let log = tempfile::NamedTempFile::new().expect("a file");
    let library = host_with("streams", CallbackMemory::Plugin, log.path().to_str().expect("text"));
    let gateway = Gateway::start(library, origin.port, &format!("[{{plugin: x, entry: {entry}}}]"), more);
    (gateway, log)
}

/// Asks, and takes the head.
fn asked(gateway: &Gateway) -> Client {
    let mut client = gateway.connect();
    client.send("GET /a HTTP/1.1\r\nHost: test\r\n\r\n");
    client
}

#[test]
fn a_stream_is_one_well_formed_response() {
    let origin = Origin::echo();
    for entry in ["short", "inline"] {
        let gateway = Gateway::with("streams", entry, origin.port);
        let mut client = gateway.connect();
        for _ in 0..3 {
            let response = client.get("/a");
            assert_eq!((response.status, response.text()), (202, "/a and more"), "{entry}");
            let framing = (response.header("transfer-encoding"), response.header("content-length"));
            assert_eq!(framing, (Some("chunked"), None), "{entry}");
        }
        eventually("its sessions are closed", || gateway.open() == 0);
    }
    assert_eq!(origin.requests(), 0);
}

#[test]
fn what_was_asked_for_is_there_at_every_moment_of_a_stream() {
    let origin = Origin::echo();
    let gateway = Gateway::with("streams", "asking", origin.port);
    let mut client = gateway.connect();
    for _ in 0..50 {
        assert_eq!(client.get("/a").text(), "all are answered");
    }
    assert_eq!(gateway.refused("outside_phase"), 0);
}

#[test]
fn a_client_that_takes_nothing_holds_the_library_back() {
    let origin = Origin::echo();
    let (gateway, log) = logging("large", &origin, "");
    let mut client = asked(&gateway);
    eventually("it has begun", || written(&log) > 0);
    let mut before = 0;
    eventually("it comes to a halt", || {
        std::thread::sleep(std::time::Duration::from_millis(50));
        std::mem::replace(&mut before, written(&log)) == written(&log)
    });
    assert!(written(&log) < 256, "{} parts went nowhere", written(&log));
    let response = client.response();
    assert_eq!((response.body.len(), written(&log)), (LARGE, 256));
}

#[test]
fn a_client_that_leaves_ends_the_stream_and_the_session() {
    let origin = Origin::echo();
    let (gateway, log) = logging("large", &origin, "");
    let client = asked(&gateway);
    eventually("it has begun", || written(&log) > 0);
    drop(client);
    eventually("the session is closed", || gateway.open() == 0);
}

#[test]
fn within_the_call_a_stream_is_kept_up_to_the_limit_and_no_further() {
    let origin = Origin::echo();
    let (gateway, _log) = logging("inline_large", &origin, "limits: {max_body_bytes: 20000000}");
    assert_eq!(asked(&gateway).response().body.len(), LARGE);
    let (gateway, _log) = logging("inline_large", &origin, "limits: {max_body_bytes: 1000000}");
    // A truncated body never looks complete.
    let broken = asked(&gateway).try_response(false);
    assert!(!broken.is_ok_and(|response| response.status == 202));
    eventually("the session is closed", || gateway.open() == 0);
}

#[test]
fn a_stream_that_fails_or_stalls_is_cut() {
    let origin = Origin::echo();
    for entry in ["fails", "inline_fails", "stalls"] {
        let middleware =
            format!("[{{plugin: x, entry: {entry}, per_phase: {{request_filter: {{timeout_ms: 300}}}}}}]");
        let gateway = Gateway::start(host("streams", CallbackMemory::Plugin), origin.port, &middleware, "");
        let broken = asked(&gateway).try_response(false);
        assert!(!broken.is_ok_and(|response| response.status == 202), "{entry}");
        eventually("the session is closed", || gateway.open() == 0);
        // Also where the pipeline had not taken the stream yet, its failure was not passed over.
        assert_eq!(gateway.refused("second_decision"), 0, "{entry}");
    }
}

#[test]
fn a_stream_without_its_head_fails() {
    let origin = Origin::echo();
    assert_eq!(Gateway::with("streams", "headless", origin.port).connect().get("/").status, 500);
    assert_eq!(origin.requests(), 0);
}
