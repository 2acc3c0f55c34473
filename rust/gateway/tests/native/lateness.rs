//! Libraries that take too long.

use crate::gateway::{Gateway, eventually, host};
use crate::origin::Origin;
use nylon_config::plan::CallbackMemory;
use nylon_gateway::plugin::PluginHost;
use std::time::Duration;

fn impatient(entry: &str, port: u16) -> Gateway {
    let middleware =
        format!("[{{plugin: x, entry: {entry}, per_phase: {{request_filter: {{timeout_ms: 100}}}}}}]");
    Gateway::start(host("silent", CallbackMemory::Plugin), port, &middleware, "")
}

#[test]
fn a_phase_without_a_decision_fails_in_time_and_its_session_is_closed() {
    let origin = Origin::echo();
    let gateway = impatient("never", origin.port);
    let timed_out = gateway.connect().get("/");
    assert_eq!(timed_out.status, 504);
    assert_eq!(origin.requests(), 0);
    eventually("its session is closed", || gateway.open() == 0);
}

#[test]
fn what_comes_after_the_time_out_is_refused_and_harmless() {
    let origin = Origin::echo();
    let gateway = impatient("slow", origin.port);
    assert_eq!(gateway.connect().get("/").status, 504);
    eventually("late calls are counted", || gateway.refused("closed_session") >= 1);
    assert_eq!(gateway.connect().get("/").status, 504);
    assert_eq!(origin.requests(), 0);
}

#[test]
fn a_decision_within_a_call_that_returns_too_late_lets_nothing_through() {
    let origin = Origin::echo();
    let gateway = impatient("blocks", origin.port);
    assert_eq!(gateway.connect().get("/").status, 504);
    assert_eq!(origin.requests(), 0);
}

#[test]
fn a_client_that_leaves_gives_the_call_up_and_closes_its_session() {
    let origin = Origin::echo();
    let middleware = "[{plugin: x, entry: never, per_phase: {request_filter: {timeout_ms: 600000}}}]";
    let gateway = Gateway::start(host("mirror", CallbackMemory::Plugin), origin.port, middleware, "");
    let mut client = gateway.connect();
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    eventually("the phase runs", || gateway.open() == 1);
    drop(client);
    eventually("the session is closed", || gateway.open() == 0);
}

#[test]
fn a_shutdown_fails_what_still_runs_and_closes_all_sessions() {
    let origin = Origin::echo();
    let middleware = "[{plugin: x, entry: never, per_phase: {request_filter: {timeout_ms: 600000}}}]";
    let gateway = Gateway::start(host("mirror", CallbackMemory::Plugin), origin.port, middleware, "");
    let mut waiting = gateway.connect();
    waiting.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    eventually("the phase runs", || gateway.open() == 1);
    gateway.host.shutdown(Duration::from_millis(50));
    assert_eq!(waiting.response().status, 503);
    assert_eq!(gateway.open(), 0);
    assert_eq!(gateway.connect().get("/").status, 503, "and nothing begins");
    assert_eq!(origin.requests(), 0);
}
