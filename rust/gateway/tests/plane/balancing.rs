//! Which endpoint gets a request: shares, loads, keys, names, Unix sockets.

use crate::name_server::NameServer;
use crate::origin::Origin;
use crate::{Gateway, eventually};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// How many requests each has seen.
fn counts(origins: &[Origin]) -> Vec<usize> {
    origins.iter().map(Origin::requests).collect()
}

fn origins(count: usize) -> Vec<Origin> {
    (0..count).map(|_| Origin::answering(OK)).collect()
}

/// A gateway with one service; `endpoint` has what stands behind `ip` and `port` of each.
fn gateway(origins: &[Origin], weights: &[usize], more: &str) -> Gateway {
    let endpoint = |(origin, weight): (&Origin, &usize)| {
        format!("{{ip: 127.0.0.1, port: {}, weight: {weight}}}", origin.port)
    };
    let endpoints: Vec<_> = origins.iter().zip(weights).map(endpoint).collect();
    service(&format!("endpoints: [{}], {more}", endpoints.join(", ")), "")
}

/// A gateway with one service, and `more` at the root of its configuration.
fn service(service: &str, more: &str) -> Gateway {
    Gateway::start(&config(service, more))
}

pub(crate) fn config(service: &str, more: &str) -> String {
    format!(
        "http: ['127.0.0.1:0']\nruntime: {{threads: 2}}\n{more}\n\
         services: [{{name: origin, service_type: http, {service}}}]\n\
         routes: [{{route: {{type: host, value: '*'}}, name: all, paths: [{{path: ['/', '/{{*rest}}'], service: {{name: origin}}}}]}}]"
    )
}

#[test]
fn each_endpoint_gets_its_turn_by_weight() {
    for (algorithm, weights, expected) in [
        ("round_robin", [1, 1, 1], [20, 20, 20]),
        ("weighted", [3, 2, 1], [30, 20, 10]),
        ("round_robin", [4, 1, 1], [40, 10, 10]),
    ] {
        let origins = origins(3);
        let gateway = gateway(&origins, &weights, &format!("algorithm: {algorithm}"));
        // Over both threads: whose turn it is, they say together.
        let mut clients = [(); 4].map(|()| gateway.connect());
        for turn in 0..60 {
            assert_eq!(clients[turn % 4].get("/").status, 200);
        }
        assert_eq!(counts(&origins), expected, "{algorithm} {weights:?}");
    }
}

#[test]
fn chance_regards_weights() {
    for algorithm in ["random", "p2c"] {
        let origins = origins(2);
        let gateway = gateway(&origins, &[3, 1], &format!("algorithm: {algorithm}"));
        let mut client = gateway.connect();
        (0..400).for_each(|_| assert_eq!(client.get("/").status, 200));
        let seen = counts(&origins);
        // 300 and 100 are expected; six standard deviations are 52. Of two that are idle, p2c takes the first it drew.
        assert!((240..360).contains(&seen[0]) && seen[0] + seen[1] == 400, "{algorithm}: {seen:?}");
    }
}

/// An origin that answers only when it is told to.
fn held() -> (Origin, Sender<()>) {
    let (release, released): (Sender<()>, Receiver<()>) = channel();
    let released = Arc::new(Mutex::new(released));
    let origin = Origin::start(move |connection| {
        while connection.request()?.is_some() {
            let _ = released.lock().unwrap_or_else(PoisonError::into_inner).recv();
            connection.write(OK)?;
        }
        Ok(())
    });
    (origin, release)
}

#[test]
fn the_endpoint_with_less_to_do_is_chosen() {
    for algorithm in ["least_conn", "p2c"] {
        let (busy, release) = held();
        let idle = Origin::answering(OK);
        let endpoints = format!(
            "algorithm: {algorithm}, endpoints: [{{ip: 127.0.0.1, port: {}}}, {{ip: 127.0.0.1, port: {}}}]",
            busy.port, idle.port
        );
        let gateway = service(&endpoints, "");
        // Until one is held.
        let mut held = Vec::new();
        while busy.requests() == 0 {
            let mut client = gateway.connect();
            client.send("GET /held HTTP/1.1\r\nHost: a\r\n\r\n");
            let before = held.len() + 1;
            eventually("a request arrives", || busy.requests() + idle.requests() >= before);
            held.push(client);
        }
        let before = idle.requests();
        let mut clients = [gateway.connect(), gateway.connect(), gateway.connect()];
        for turn in 0..30 {
            assert_eq!(clients[turn % 3].get("/").status, 200);
        }
        assert_eq!((busy.requests(), idle.requests()), (1, before + 30), "{algorithm}");
        drop(release);
        held.iter_mut().for_each(|client| assert_eq!(client.response().status, 200));
    }
}

#[test]
fn the_same_key_leads_to_the_same_endpoint() {
    for (hash, requests) in [
        ("{by: header, name: x-user}", ["GET /a HTTP/1.1\r\nHost: a\r\nX-User: 7\r\n\r\n"; 2]),
        ("{by: cookie, name: session}", ["GET /a HTTP/1.1\r\nHost: a\r\nCookie: a=b; session=7\r\n\r\n"; 2]),
        ("{by: path}", ["GET /a?x HTTP/1.1\r\nHost: a\r\n\r\n", "GET /a?y HTTP/1.1\r\nHost: b\r\n\r\n"]),
        ("{by: client_ip}", ["GET /a HTTP/1.1\r\nHost: a\r\n\r\n", "GET /b HTTP/1.1\r\nHost: b\r\n\r\n"]),
    ] {
        let origins = origins(4);
        let gateway = gateway(&origins, &[1; 4], &format!("algorithm: consistent, hash: {hash}"));
        for turn in 0..20 {
            assert_eq!(gateway.connect().send(requests[turn % 2]).response().status, 200);
        }
        let mut seen = counts(&origins);
        seen.sort_unstable();
        assert_eq!(seen, [0, 0, 0, 20], "{hash}");
    }
    let origins = origins(4);
    let gateway = gateway(&origins, &[1; 4], "algorithm: consistent, hash: {by: path}");
    let mut client = gateway.connect();
    (0..200).for_each(|path| assert_eq!(client.get(&format!("/{path}")).status, 200));
    let seen = counts(&origins);
    assert!(seen.iter().all(|count| (20..80).contains(count)), "different keys are spread: {seen:?}");
}

#[test]
fn one_key_cannot_bury_its_endpoint() {
    let held: Vec<_> = (0..3).map(|_| held()).collect();
    let endpoints: Vec<_> =
        held.iter().map(|(origin, _)| format!("{{ip: 127.0.0.1, port: {}}}", origin.port)).collect();
    let gateway = service(
        &format!("algorithm: consistent, hash: {{by: path}}, endpoints: [{}]", endpoints.join(", ")),
        "",
    );
    let seen = || held.iter().map(|(origin, _)| origin.requests()).collect::<Vec<_>>();
    let mut clients = Vec::new();
    for number in 1..=12 {
        let mut client = gateway.connect();
        client.send("GET /same HTTP/1.1\r\nHost: a\r\n\r\n");
        eventually("the request arrives", || seen().iter().sum::<usize>() == number);
        clients.push(client);
    }
    // A quarter more than its third, and no more.
    assert_eq!(seen().iter().max(), Some(&5), "{:?}", seen());
    held.into_iter().for_each(|(_, release)| drop(release));
    clients.iter_mut().for_each(|client| assert_eq!(client.response().status, 200));
}

#[test]
fn an_endpoint_is_a_unix_socket() {
    use std::io::{Read, Write};
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("app.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).expect("bind");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut seen = Vec::new();
            let mut buffer = [0; 4096];
            while !seen.ends_with(b"\r\n\r\n") {
                match stream.read(&mut buffer) {
                    Ok(length @ 1..) => seen.extend_from_slice(&buffer[..length]),
                    _ => break,
                }
            }
            let _ =
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nunix");
        }
    });
    let gateway =
        service(&format!("endpoints: [{{unix: '{}'}}], health_check: {{interval: 1s}}", path.display()), "");
    assert_eq!(gateway.connect().get("/").text(), "unix");
    let figures = gateway.server.services();
    assert_eq!(figures[0]["endpoints"][0]["address"], format!("unix:{}", path.display()));
    assert_eq!(figures[0]["endpoints"][0]["state"], "healthy");
}

/// Origins on one port of 127.0.0.2, 127.0.0.3 and so on.
fn neighbours(count: u8) -> (u16, Vec<Origin>) {
    'ports: loop {
        let first = Origin::on("127.0.0.2:0").expect("a free port");
        let port = first.port;
        let mut all = vec![first];
        for host in 3..2 + count {
            match Origin::on(&format!("127.0.0.{host}:{port}")) {
                Ok(origin) => all.push(origin),
                Err(_) => continue 'ports,
            }
        }
        return (port, all);
    }
}

#[test]
fn the_addresses_of_a_name_are_followed() {
    let names = NameServer::start();
    let (port, origins) = neighbours(3);
    names.set("app.test", &[2, 3]);
    let gateway = service(&format!("endpoints: [{{host: app.test, port: {port}}}]"), &names.config());
    let mut client = gateway.connect();
    (0..20).for_each(|_| assert_eq!(client.get("/").status, 200));
    assert_eq!(counts(&origins), [10, 10, 0], "each address is an endpoint");

    names.set("app.test", &[4]);
    eventually("the new address is used", || {
        assert_eq!(client.get("/").status, 200);
        origins[2].requests() > 0
    });
    let before = counts(&origins);
    (0..10).for_each(|_| assert_eq!(client.get("/").status, 200));
    assert_eq!(counts(&origins), [before[0], before[1], before[2] + 10], "and no other any more");

    // The last answer is kept, whatever becomes of the name.
    names.set("app.test", &[]);
    let asked = names.asked();
    eventually("the name is asked for again", || names.asked() > asked + 1);
    names.silence(true);
    let asked = names.asked();
    eventually("and again", || names.asked() > asked + 1);
    assert_eq!(client.get("/").status, 200);
    let endpoints = &gateway.server.services()[0]["endpoints"];
    assert_eq!(endpoints[0]["address"], format!("app.test:{port} (127.0.0.4)"));
}

#[test]
fn a_name_that_does_not_resolve_is_a_503_until_it_does() {
    let names = NameServer::start();
    let (port, _origins) = neighbours(1);
    let gateway = service(&format!("endpoints: [{{host: late.test, port: {port}}}]"), &names.config());
    let mut client = gateway.connect();
    let response = client.get("/");
    assert_eq!(response.status, 503);
    let seconds: u64 = response.header("retry-after").expect("a time").parse().expect("seconds");
    assert!((1..=30).contains(&seconds));
    assert!(!response.text().contains("late.test"), "no internals: {}", response.text());
    assert_eq!(gateway.server.services()[0]["endpoints"][0]["state"], "unresolved");
    names.set("late.test", &[2]);
    eventually("the name resolves", || client.get("/").status == 200);
}

#[test]
fn a_name_that_must_resolve_keeps_the_gateway_from_starting() {
    let names = NameServer::start();
    let dns = names.config().replace("dns: {", "dns: {must_resolve: true, ");
    let text = config("endpoints: [{host: never.test, port: 1}, {ip: 127.0.0.1, port: 1}]", &dns);
    let error = Gateway::try_start(&text).err().expect("it cannot start").to_string();
    assert!(error.contains("`never.test`, an endpoint of service `origin`, does not resolve"), "{error}");
}

#[test]
fn a_name_of_the_systems_own_file_needs_no_name_server() {
    let names = NameServer::start();
    let origin = Origin::answering(OK);
    let gateway =
        service(&format!("endpoints: [{{host: localhost, port: {}}}]", origin.port), &names.config());
    assert_eq!(gateway.connect().get("/").status, 200);
    assert_eq!(names.asked(), 0);
}
