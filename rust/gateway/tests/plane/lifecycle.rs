//! Starting, stopping, and who may have an address.

use crate::origin::Origin;
use crate::{Client, Gateway, eventually};
use nylon_gateway::server::StartError;
use std::net::TcpListener;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn config(address: &str, threads: usize, port: u16, more: &str) -> String {
    format!(
        "http: ['{address}']\nruntime: {{threads: {threads}}}\n{more}\n\
         services: [{{name: o, service_type: http, endpoints: [{{ip: 127.0.0.1, port: {port}}}]}}]\n\
         routes: [{{route: {{type: host, value: '*'}}, name: all, paths: [{{path: '/{{*rest}}', service: {{name: o}}}}]}}]"
    )
}

/// This process's open files, sockets included, and its threads.
fn resources() -> (usize, usize) {
    let count = |path| std::fs::read_dir(path).expect("procfs").count();
    (count("/proc/self/fd"), count("/proc/self/task"))
}

/// An origin that answers each request once the test has come to the barrier as well.
fn origin_at_a_barrier() -> (Origin, Arc<Barrier>) {
    let barrier = Arc::new(Barrier::new(2));
    let held = barrier.clone();
    let origin = Origin::start(move |connection| {
        while connection.request()?.is_some() {
            held.wait();
            connection.write(OK)?;
        }
        Ok(())
    });
    (origin, barrier)
}

#[test]
fn a_stop_finishes_what_is_in_flight_and_closes() {
    let (origin, barrier) = origin_at_a_barrier();
    let gateway = Gateway::to(&[origin.port], "");
    let mut idle = gateway.connect();
    idle.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    barrier.wait();
    assert_eq!(idle.response().status, 200);
    let mut busy = gateway.connect();
    busy.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("the request is in flight", || origin.requests() == 2);
    let address = gateway.address();
    let stopping = std::thread::spawn(move || {
        gateway.server.stop(Duration::from_secs(10));
        gateway.server.stop(Duration::from_secs(10));
    });
    idle.assert_closed();
    eventually("nobody listens any more", || std::net::TcpStream::connect(address).is_err());
    assert!(!stopping.is_finished());
    barrier.wait();
    let response = busy.response();
    assert_eq!((response.status, response.header("connection")), (200, Some("close")));
    busy.assert_closed();
    stopping.join().expect("stopped");
}

#[test]
fn a_stop_cuts_what_outlives_its_grace() {
    let origin = Origin::start(|connection| {
        connection.request()?;
        connection.await_end()
    });
    let gateway = Gateway::to(&[origin.port], "");
    let mut client = gateway.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("the request is in flight", || origin.requests() == 1);
    let started = Instant::now();
    gateway.server.stop(Duration::from_millis(100));
    assert!(started.elapsed() >= Duration::from_millis(100));
    assert!(started.elapsed() < Duration::from_secs(5));
    client.assert_closed();
    eventually("the upstream connection is closed", || origin.seen(|seen| seen.ended == 1));
}

#[test]
fn a_client_that_has_just_connected_is_served_by_a_stop() {
    let origin = Origin::answering(OK);
    let gateway = Gateway::to(&[origin.port], "");
    let mut clients: Vec<_> = (0..20).map(|_| gateway.connect()).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    gateway.server.stop(Duration::from_secs(5));
    for client in &mut clients {
        assert_eq!(client.response().status, 200);
    }
}

#[test]
fn an_address_in_use_is_one_clear_error() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = taken.local_addr().expect("address").to_string();
    let error = Gateway::try_start(&config(&address, 2, 1, "")).err().expect("an error").to_string();
    assert!(error.starts_with(&format!("cannot listen on {address}: ")), "{error}");
    assert!(error.contains("in use") && !error.contains('\n'), "{error}");
}

#[test]
fn an_address_of_another_gateway_is_not_shared() {
    let first = Gateway::start(&config("127.0.0.1:0", 2, 1, ""));
    let address = first.address().to_string();
    for threads in [1, 4] {
        let error = Gateway::try_start(&config(&address, threads, 1, "")).err().expect("an error");
        assert!(error.to_string().contains("in use"), "{error}");
    }
    first.server.stop(Duration::ZERO);
    Gateway::start(&config(&address, 2, 1, ""));
}

#[test]
fn of_gateways_that_start_at_once_one_gets_the_address() {
    for _ in 0..20 {
        let port = TcpListener::bind("127.0.0.1:0").expect("bind").local_addr().expect("address").port();
        let text = Arc::new(config(&format!("127.0.0.1:{port}"), 3, 1, ""));
        let barrier = Arc::new(Barrier::new(4));
        let starting: Vec<_> = (0..4)
            .map(|_| {
                let (text, barrier) = (text.clone(), barrier.clone());
                std::thread::spawn(move || {
                    barrier.wait();
                    let server = Gateway::try_start(&text);
                    barrier.wait();
                    server.is_ok()
                })
            })
            .collect();
        let started: Vec<bool> = starting.into_iter().map(|s| s.join().expect("joined")).collect();
        assert_eq!(started.iter().filter(|started| **started).count(), 1);
    }
}

#[test]
fn port_0_is_one_port_for_all_threads() {
    let origin = Origin::answering(OK);
    let gateway = Gateway::start(&config("127.0.0.1:0", 4, origin.port, ""));
    assert_eq!(gateway.server.addresses().len(), 1);
    // With one connection at a time, each thread that serves one opens its own upstream connection.
    for _ in 0..100 {
        assert_eq!(gateway.connect().get("/x").status, 200);
    }
    assert!(origin.seen(|seen| seen.connections) > 1, "one thread got all connections");
}

#[test]
fn ipv6_is_served_too() {
    let origin = Origin::answering(OK);
    let gateway = Gateway::start(&config("[::1]:0", 2, origin.port, ""));
    assert!(gateway.address().is_ipv6());
    assert_eq!(gateway.connect().get("/x").status, 200);
}

#[test]
fn connections_over_the_limit_wait_for_their_turn() {
    let origin = Origin::answering(OK);
    let gateway = Gateway::start(&config("127.0.0.1:0", 2, origin.port, "limits: {max_connections: 2}"));
    let mut open: Vec<Client> = (0..2).map(|_| gateway.connect()).collect();
    for client in &mut open {
        assert_eq!(client.get("/x").status, 200);
    }
    let mut waiting = gateway.connect();
    waiting.send("GET /x HTTP/1.1\r\nHost: a\r\n\r\n");
    waiting.stream().set_read_timeout(Some(Duration::from_millis(200))).expect("time-out");
    assert!(waiting.read(&mut [0]).is_err(), "it was served over the limit");
    waiting.stream().set_read_timeout(Some(Duration::from_secs(10))).expect("time-out");
    open.pop();
    assert_eq!(waiting.response().status, 200);
}

#[test]
fn starting_and_stopping_leaves_nothing_behind() {
    let origin = Origin::answering(OK);
    let round = || {
        let gateway = Gateway::start(&config("127.0.0.1:0", 2, origin.port, ""));
        let mut client = gateway.connect();
        assert_eq!(client.get("/x").status, 200);
        gateway.server.stop(Duration::from_secs(1));
    };
    round();
    let before = resources();
    for _ in 0..50 {
        round();
    }
    // Other tests run in this process at the same time.
    eventually("sockets and threads are back where they were", || {
        let after = resources();
        after.0 < before.0 + 40 && after.1 < before.1 + 40
    });
}

/// Puts another configuration into the place of the running one.
fn switch(gateway: &Gateway, config: &str) -> Result<nylon_gateway::server::Replaced, StartError> {
    gateway.server.switch(Gateway::plan(config), Vec::new())
}

#[test]
fn a_switch_changes_the_upstream_under_open_connections_on_every_thread() {
    let (one, two) =
        (Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none"), Origin::answering(OK));
    let gateway = Gateway::start(&config("127.0.0.1:0", 3, one.port, ""));
    let mut clients: Vec<_> = (0..12).map(|_| gateway.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.get("/x").body, b"one");
    }
    let before = gateway.server.addresses();
    let replaced = switch(&gateway, &config("127.0.0.1:0", 3, two.port, "")).expect("switched");
    assert_eq!(gateway.server.addresses(), before);
    for client in &mut clients {
        assert_eq!(client.get("/x").body, b"ok");
    }
    eventually("nobody has the plan before", || !replaced.is_in_use());
}

#[test]
fn a_replaced_plan_is_in_use_for_as_long_as_a_request_that_began_with_it() {
    let (slow, barrier) = origin_at_a_barrier();
    let fast = Origin::answering("HTTP/1.1 204 No Content\r\n\r\n");
    let gateway = Gateway::start(&config("127.0.0.1:0", 2, slow.port, ""));
    let mut client = gateway.connect();
    client.send("GET /x HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("the request is in flight", || slow.requests() == 1);
    let replaced = switch(&gateway, &config("127.0.0.1:0", 2, fast.port, "")).expect("switched");
    assert_eq!(gateway.connect().get("/x").status, 204);
    assert!(replaced.is_in_use());
    barrier.wait();
    assert_eq!(client.response().status, 200);
    eventually("nobody has the plan before", || !replaced.is_in_use());
    assert_eq!(client.get("/x").status, 204);
}

#[test]
fn addresses_come_and_go_on_every_thread_and_a_taken_one_changes_nothing() {
    let origin = Origin::answering(OK);
    let listening =
        |addresses: &str| config("127.0.0.1:0", 3, origin.port, "").replace("['127.0.0.1:0']", addresses);
    let gateway = Gateway::start(&listening("['127.0.0.1:0']"));
    let taken = TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = taken.local_addr().expect("address").port();
    let refused = switch(&gateway, &listening(&format!("['127.0.0.1:0', '127.0.0.1:{port}']")));
    assert!(refused.is_err_and(|error| error.to_string().contains("in use")));
    assert_eq!(gateway.server.addresses().len(), 1);
    for _ in 0..20 {
        switch(&gateway, &listening("['127.0.0.1:0', '127.0.0.1:0']")).expect("switched");
        let [first, second] = gateway.server.addresses()[..] else { panic!("two addresses") };
        let mut kept: Vec<_> = (0..6).map(|_| Client::connect(first)).collect();
        let mut ended: Vec<_> = (0..6).map(|_| Client::connect(second)).collect();
        for client in kept.iter_mut().chain(&mut ended) {
            assert_eq!(client.get("/x").status, 200);
        }
        switch(&gateway, &listening("['127.0.0.1:0']")).expect("switched");
        ended.iter_mut().for_each(Client::assert_closed);
        eventually("nobody listens there any more", || std::net::TcpStream::connect(second).is_err());
        for client in &mut kept {
            assert_eq!(client.get("/x").status, 200);
        }
    }
}
