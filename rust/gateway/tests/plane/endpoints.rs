//! Endpoints that are sick, dead or full: requests go elsewhere, once more or not at all, and come back.

use crate::balancing::config;
use crate::client::Client;
use crate::origin::{Connection, Origin};
use crate::{Gateway, eventually};
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const SICK: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nsick";

fn gateway(ports: &[u16], more: &str) -> Gateway {
    Gateway::start(&to(ports, more))
}

fn to(ports: &[u16], more: &str) -> String {
    let endpoints: Vec<_> = ports.iter().map(|port| format!("{{ip: 127.0.0.1, port: {port}}}")).collect();
    config(&format!("endpoints: [{}], {more}", endpoints.join(", ")), "")
}

/// What `nylon status` says of an endpoint.
fn state(gateway: &Gateway, endpoint: usize) -> String {
    gateway.server.services()[0]["endpoints"][endpoint]["state"].as_str().expect("a state").to_owned()
}

fn in_flight(gateway: &Gateway) -> u64 {
    let services = gateway.server.services();
    let endpoints = services[0]["endpoints"].as_array().expect("a list");
    endpoints.iter().filter_map(|endpoint| endpoint["in_flight"].as_u64()).sum()
}

/// An origin that is well or sick as the test says.
fn moody(answer: &'static str) -> (Origin, Arc<AtomicBool>) {
    let well = Arc::new(AtomicBool::new(true));
    let mood = well.clone();
    let origin = Origin::start(move |connection| {
        while connection.request()?.is_some() {
            connection.write(if mood.load(Ordering::SeqCst) { OK } else { answer })?;
        }
        Ok(())
    });
    (origin, well)
}

/// An origin that gets a request and answers nothing, as one that is killed.
fn dying() -> Origin {
    Origin::start(|connection| {
        connection.request()?;
        connection.reset()
    })
}

/// A port that nobody listens on, for as long as the listener is kept from listening.
fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").expect("bind").local_addr().expect("address").port()
}

fn seconds(response: &crate::client::Response) -> u64 {
    response.header("retry-after").expect("retry-after").parse().expect("seconds")
}

#[test]
fn a_sick_endpoint_is_left_alone_and_comes_back() {
    let (sick, well) = moody(SICK);
    let other = Origin::answering(OK);
    let check = "health_check: {path: '/up?now', interval: 100ms, timeout: 2s, healthy_threshold: 2, unhealthy_threshold: 2}";
    let gateway = gateway(&[sick.port, other.port], check);
    eventually("it is checked", || sick.requests() > 0);
    assert!(sick.seen(|seen| seen.requests[0].starts_with("GET /up?now HTTP/1.1\r\n")));
    well.store(false, Ordering::SeqCst);
    eventually("it is found sick", || state(&gateway, 0) == "unhealthy");
    let mut client = gateway.connect();
    (0..20).for_each(|_| assert_eq!(client.get("/request").status, 200));
    let got = || sick.seen(|seen| seen.requests.iter().filter(|r| r.starts_with("GET /request")).count());
    assert_eq!(got(), 0);
    well.store(true, Ordering::SeqCst);
    eventually("it is found well", || state(&gateway, 0) == "healthy");
    (0..20).for_each(|_| assert_eq!(client.get("/request").status, 200));
    assert_eq!(got(), 10);
}

#[test]
fn checks_are_made_once_for_all_threads_and_not_as_often_as_requests_come() {
    let origin = Origin::answering(OK);
    let text =
        to(&[origin.port], "health_check: {path: /up, interval: 1h}").replace("threads: 2", "threads: 4");
    let gateway = Gateway::start(&text);
    eventually("it is checked", || origin.requests() > 0);
    let mut client = gateway.connect();
    (0..20).for_each(|_| assert_eq!(client.get("/request").status, 200));
    assert_eq!(origin.seen(|seen| seen.requests.iter().filter(|r| r.starts_with("GET /up ")).count()), 1);
}

#[test]
fn where_all_are_down_it_is_a_503_that_says_when_to_come_again() {
    let (sick, well) = moody(SICK);
    let check = "health_check: {interval: 2s, timeout: 2s, healthy_threshold: 1, unhealthy_threshold: 1}";
    well.store(false, Ordering::SeqCst);
    let gateway = gateway(&[sick.port, closed_port()], check);
    eventually("both are found sick", || [0, 1].iter().all(|at| state(&gateway, *at) == "unhealthy"));
    let mut client = gateway.connect();
    let response = client.get("/");
    assert_eq!((response.status, response.header("content-type")), (503, Some("application/json")));
    assert!((1..=3).contains(&seconds(&response)));
    well.store(true, Ordering::SeqCst);
    eventually("one is found well", || client.get("/").status == 200);
}

#[test]
fn health_survives_a_reload() {
    let (sick, well) = moody(SICK);
    let other = Origin::answering(OK);
    well.store(false, Ordering::SeqCst);
    let check = "health_check: {interval: 1h, unhealthy_threshold: 1}";
    let gateway = gateway(&[sick.port, other.port], check);
    eventually("it is found sick", || state(&gateway, 0) == "unhealthy");
    let checks = sick.requests();
    let plan = Gateway::plan(&to(&[other.port, sick.port], &format!("algorithm: random, {check}")));
    gateway.server.switch(plan, Vec::new()).expect("a switch");
    assert_eq!(state(&gateway, 1), "unhealthy");
    let mut client = gateway.connect();
    (0..20).for_each(|_| assert_eq!(client.get("/").status, 200));
    assert_eq!(sick.requests(), checks, "nothing went there, not even another check");
}

#[test]
fn one_that_fails_is_ejected_and_given_another_chance() {
    let (failing, well) = moody(SICK);
    let other = Origin::answering(OK);
    well.store(false, Ordering::SeqCst);
    let passive = "passive_health: {consecutive_failures: 3, ejection: 1s}";
    let gateway = gateway(&[failing.port, other.port], passive);
    let mut client = gateway.connect();
    let statuses: Vec<u16> = (0..20).map(|_| client.get("/").status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 503).count(), 3, "{statuses:?}");
    assert_eq!(state(&gateway, 0), "ejected");
    well.store(true, Ordering::SeqCst);
    eventually("it gets requests again", || {
        assert_eq!(client.get("/").status, 200);
        failing.requests() > 3
    });
    assert_eq!(state(&gateway, 0), "healthy");
}

#[test]
fn never_are_all_ejected() {
    let origins = [(); 3].map(|()| Origin::answering(SICK));
    let ports = origins.each_ref().map(|origin| origin.port);
    let passive =
        "passive_health: {consecutive_failures: 1, ejection: 1h, max_ejection: 2h, max_ejected_percent: 100}";
    let gateway = gateway(&ports, passive);
    let mut client = gateway.connect();
    (0..20).for_each(|_| assert_eq!(client.get("/").text(), "sick", "an answer, not the gateway's own"));
    let ejected = (0..3).filter(|at| state(&gateway, *at) == "ejected").count();
    assert_eq!(ejected, 2);
}

#[test]
fn one_that_came_back_begins_slowly() {
    let (failing, well) = moody(SICK);
    let other = Origin::answering(OK);
    well.store(false, Ordering::SeqCst);
    let passive = "slow_start: 1h, passive_health: {consecutive_failures: 1, ejection: 200ms}";
    let gateway = gateway(&[failing.port, other.port], passive);
    let mut client = gateway.connect();
    eventually("it fails", || client.get("/").status == 503);
    well.store(true, Ordering::SeqCst);
    eventually("it is back", || {
        assert_eq!(client.get("/").status, 200);
        failing.requests() > 1
    });
    let before = failing.requests();
    (0..110).for_each(|_| assert_eq!(client.get("/").status, 200));
    assert_eq!(failing.requests() - before, 10, "a tenth of the other's share");
}

#[test]
fn one_that_cannot_be_reached_costs_no_request() {
    let origin = Origin::echo();
    let gateway = gateway(&[closed_port(), origin.port, closed_port()], "");
    let mut client = gateway.connect();
    for _ in 0..6 {
        assert_eq!(client.get("/").status, 200);
        let sent = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
        let response = client.send(sent).response();
        assert!(response.status == 200 && response.text().ends_with("hello"), "nothing was sent before");
    }
}

#[test]
fn a_request_that_broke_off_is_sent_once_more_elsewhere() {
    let (dying, other) = (dying(), Origin::answering(OK));
    let gateway = gateway(&[dying.port, other.port], "retry: {}");
    let mut client = gateway.connect();
    (0..20).for_each(|_| assert_eq!(client.get("/").status, 200));
    assert_eq!((dying.requests(), other.requests()), (10, 20));
}

#[test]
fn what_may_have_had_an_effect_is_never_sent_twice() {
    let (dying, other) = (dying(), Origin::answering(OK));
    let gateway = gateway(&[dying.port, other.port], "retry: {on: [connect_error, reset, 5xx]}");
    let mut client = gateway.connect();
    let statuses: Vec<u16> = (0..10)
        .map(|_| client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").response().status)
        .collect();
    assert_eq!((dying.requests(), other.requests()), (5, 5));
    assert_eq!(statuses.iter().filter(|status| **status == 502).count(), 5);
}

#[test]
fn answers_that_call_for_it_are_asked_for_again_and_the_last_one_counts() {
    let (sick, other) = (Origin::answering(SICK), Origin::answering(OK));
    let gateway = gateway(&[sick.port, other.port], "retry: {on: [gateway_error]}");
    let mut client = gateway.connect();
    (0..10).for_each(|_| assert_eq!(client.get("/").status, 200));
    drop(gateway);
    let both = [Origin::answering(SICK), Origin::answering(SICK)];
    let gateway = self::gateway(&[both[0].port, both[1].port], "retry: {attempts: 3, on: [5xx]}");
    let response = gateway.connect().get("/");
    assert_eq!((response.status, response.text()), (503, "sick"));
    assert_eq!(both[0].requests() + both[1].requests(), 4);
    let names: Vec<_> = response.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["content-length", "date"], "nothing tells of the attempts");
}

#[test]
fn a_late_answer_is_not_waited_for_where_another_may_come() {
    let slow = Origin::start(|connection| {
        connection.request()?;
        connection.await_end()
    });
    let other = Origin::answering(OK);
    let retry = "retry: {on: [timeout], attempt_timeout: 100ms}";
    let gateway = gateway(&[slow.port, other.port], retry);
    let mut client = gateway.connect();
    (0..4).for_each(|_| assert_eq!(client.get("/").status, 200));
    assert_eq!((slow.requests(), other.requests()), (2, 4));
    eventually("the late ones are closed", || slow.seen(|seen| seen.ended == 2));
}

#[test]
fn the_time_of_the_whole_request_is_kept() {
    let slow = [(); 2].map(|()| {
        Origin::start(|connection| {
            connection.request()?;
            connection.await_end()
        })
    });
    let retry = "retry: {attempts: 10, on: [timeout], attempt_timeout: 250ms}, \
                 connect_timeout_ms: 100, response_head_timeout_ms: 900";
    let gateway = gateway(&[slow[0].port, slow[1].port], retry);
    let begun = Instant::now();
    assert_eq!(gateway.connect().get("/").status, 504);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let attempts = slow[0].requests() + slow[1].requests();
    // Of a second in all, each takes a quarter.
    assert!((2..=5).contains(&attempts), "{attempts}");
}

#[test]
fn a_budget_stops_a_storm_of_retries() {
    let origins = [(); 2].map(|()| Origin::answering(SICK));
    let retry = "retry: {attempts: 5, on: [5xx], budget_percent: 10}";
    let gateway = gateway(&[origins[0].port, origins[1].port], retry);
    let mut client = gateway.connect();
    for _ in 0..300 {
        assert_eq!(client.get("/").status, 503);
    }
    let retries = origins[0].requests() + origins[1].requests() - 300;
    // A hundred to begin with, and a tenth of 300: not 1500.
    assert!((100..=130).contains(&retries), "{retries}");
}

/// Origins that answer once they are released.
struct Held {
    origin: Origin,
    released: Arc<AtomicBool>,
}

impl Held {
    fn start() -> Held {
        let released = Arc::new(AtomicBool::new(false));
        let shared = released.clone();
        let origin = Origin::start(move |connection: &mut Connection| -> io::Result<()> {
            while connection.request()?.is_some() {
                while !shared.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(2));
                }
                connection.write(OK)?;
            }
            Ok(())
        });
        Held { origin, released }
    }

    fn release(&self) {
        self.released.store(true, Ordering::SeqCst);
    }
}

fn begin(gateway: &Gateway) -> Client {
    let mut client = gateway.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client
}

#[test]
fn a_full_service_refuses_at_once_and_serves_those_that_wait() {
    let held = Held::start();
    let breaker = "circuit_breaker: {max_connections: 2, max_pending: 1, pending_timeout: 20s}";
    let gateway = gateway(&[held.origin.port], breaker);
    let mut served = [begin(&gateway), begin(&gateway)];
    eventually("two are under way", || held.origin.requests() == 2);
    let mut waiting = begin(&gateway);
    let pending = || gateway.server.services()[0]["pending"] == 1;
    eventually("a third waits", pending);
    let response = gateway.connect().get("/");
    assert_eq!((response.status, seconds(&response)), (503, 1));
    assert_eq!((held.origin.requests(), in_flight(&gateway)), (2, 2));
    held.release();
    served.iter_mut().for_each(|client| assert_eq!(client.response().status, 200));
    assert_eq!(waiting.response().status, 200, "and the one that waited, over whichever thread");
    eventually("all places are free", || in_flight(&gateway) == 0);
    assert_eq!(gateway.connect().get("/").status, 200);
}

#[test]
fn whoever_waits_too_long_is_refused() {
    let held = Held::start();
    let breaker = "circuit_breaker: {max_connections: 1, max_pending: 5, pending_timeout: 100ms}";
    let gateway = gateway(&[held.origin.port], breaker);
    let mut served = begin(&gateway);
    eventually("one is under way", || held.origin.requests() == 1);
    assert_eq!(gateway.connect().get("/").status, 503);
    held.release();
    assert_eq!(served.response().status, 200);
}

#[test]
fn a_client_that_leaves_gives_its_place_back() {
    let held = Held::start();
    let breaker = "circuit_breaker: {max_connections: 1}";
    let gateway = gateway(&[held.origin.port], breaker);
    let client = begin(&gateway);
    eventually("it is under way", || held.origin.requests() == 1);
    drop(client);
    eventually("its place is free", || in_flight(&gateway) == 0);
    held.release();
    assert_eq!(gateway.connect().get("/").status, 200);
}

#[test]
fn an_endpoint_that_dies_under_load_costs_no_request() {
    let dead = Arc::new(AtomicBool::new(false));
    let shared = dead.clone();
    let mortal = Origin::start(move |connection| {
        while connection.request()?.is_some() {
            if shared.load(Ordering::SeqCst) {
                return connection.reset();
            }
            connection.write(OK)?;
        }
        Ok(())
    });
    let other = Origin::answering(OK);
    let more = "retry: {}, passive_health: {consecutive_failures: 3, ejection: 1h, max_ejection: 1h}";
    let gateway = gateway(&[mortal.port, other.port], more);
    let served = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = gateway.connect();
                for _ in 0..100 {
                    assert_eq!(client.get("/").status, 200);
                    if served.fetch_add(1, Ordering::SeqCst) == 100 {
                        dead.store(true, Ordering::SeqCst);
                    }
                }
            });
        }
    });
    assert_eq!(state(&gateway, 0), "ejected");
}
