//! Services and clients that fail, stall or misbehave: every wait ends, and a truncated body never looks complete.

use crate::origin::Origin;
use crate::{Gateway, eventually};
use std::io::ErrorKind;
use std::net::TcpListener;
use std::time::{Duration, Instant};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A port that nobody listens on.
fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").expect("bind").local_addr().expect("address").port()
}

#[test]
fn a_service_that_refuses_is_a_502_with_the_requests_id() {
    let gateway = Gateway::to(&[closed_port()], "");
    let mut client = gateway.connect();
    let response = client.get("/");
    assert_eq!((response.status, response.header("content-type")), (502, Some("application/json")));
    assert!(response.text().contains("\"request_id\":\""), "{}", response.text());
    assert!(!response.text().contains("127.0.0.1"), "no internals: {}", response.text());
    assert_eq!(client.get("/").status, 502, "the client's connection goes on");
}

#[test]
fn a_head_that_is_no_valid_response_is_a_502() {
    let long = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "y".repeat(300_000)).leak();
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(2000)).leak();
    for answer in [
        "",
        "HTTP/1.1 200 OK\r\nContent-",
        "HTTP/1.1 2",
        "nonsense\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nX Y: z\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        long,
        many,
    ] {
        let answer = answer.to_owned();
        let start = &answer[..answer.len().min(60)].to_owned();
        let origin = Origin::start(move |connection| {
            connection.request()?;
            connection.write(&answer)
        });
        let gateway = Gateway::to(&[origin.port], "");
        let mut client = gateway.connect();
        assert_eq!(client.get("/").status, 502, "{start:?}");
        assert_eq!(client.get("/").status, 502, "{start:?}");
    }
}

#[test]
fn a_reset_instead_of_a_head_is_a_502() {
    let origin = Origin::start(|connection| {
        connection.request()?;
        connection.write("HTTP/1.1 200 OK\r\nX: ")?;
        connection.reset()
    });
    let gateway = Gateway::to(&[origin.port], "");
    assert_eq!(gateway.connect().get("/").status, 502);
}

#[test]
fn a_body_that_breaks_off_never_looks_complete() {
    for head in ["Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "Content-Length: 100\r\n\r\nhello"] {
        for reset in [false, true] {
            for version in ["1.1", "1.0"] {
                let origin = Origin::start(move |connection| {
                    connection.request()?;
                    connection.write(format!("HTTP/1.1 200 OK\r\n{head}"))?;
                    std::thread::sleep(Duration::from_millis(20));
                    if reset { connection.reset() } else { Ok(()) }
                });
                let gateway = Gateway::to(&[origin.port], "");
                let mut client = gateway.connect();
                client.send(format!("GET / HTTP/{version}\r\nHost: a\r\n\r\n"));
                let failed = client.try_response(false);
                assert!(failed.is_err(), "{head:?} reset: {reset}, HTTP/{version}: {failed:?}");
            }
        }
    }
}

#[test]
fn a_service_that_never_answers_is_a_504_in_time() {
    let origin = Origin::start(|connection| {
        connection.request()?;
        connection.await_end()
    });
    let gateway = Gateway::to(&[origin.port], "limits: {response_head_timeout_ms: 100}");
    let mut client = gateway.connect();
    for request in [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    ] {
        assert_eq!(client.send(request).response().status, 504, "{request}");
    }
    eventually("all upstream connections are closed", || origin.seen(|seen| seen.ended == 3));
}

#[test]
fn a_service_that_takes_no_body_is_a_504_in_time() {
    let origin = Origin::start(|connection| {
        connection.lines()?;
        std::thread::sleep(Duration::from_secs(20));
        Ok(())
    });
    let gateway = Gateway::to(&[origin.port], "limits: {response_head_timeout_ms: 200}");
    let mut client = gateway.connect();
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", 64 << 20));
    let mut sender = client.stream().try_clone().expect("a clone");
    std::thread::spawn(move || while std::io::Write::write_all(&mut sender, &[0; 1 << 16]).is_ok() {});
    assert_eq!(client.response().status, 504);
}

#[test]
fn a_body_that_stalls_is_aborted_in_time() {
    let origin = Origin::start(|connection| {
        connection.request()?;
        connection.write("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello")?;
        connection.await_end()
    });
    let gateway = Gateway::to(&[origin.port], "limits: {upstream_read_timeout_ms: 100}");
    let mut client = gateway.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.try_response(false).expect_err("cut off").kind(), ErrorKind::UnexpectedEof);
    eventually("the upstream connection is closed", || origin.seen(|seen| seen.ended == 1));
}

#[test]
fn a_slow_body_that_keeps_coming_is_not_late() {
    let origin = Origin::start(|connection| {
        connection.request()?;
        connection.write("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n")?;
        for _ in 0..8 {
            std::thread::sleep(Duration::from_millis(60));
            connection.write("x")?;
        }
        connection.await_end()
    });
    let limits = "limits: {upstream_read_timeout_ms: 300, response_head_timeout_ms: 200, upstream_idle_timeout_ms: 250}";
    let gateway = Gateway::to(&[origin.port], limits);
    assert_eq!(gateway.connect().get("/").text(), "xxxxxxxx");
}

#[test]
fn an_idle_upstream_connection_is_closed_in_time() {
    let origin = Origin::answering(OK);
    let gateway = Gateway::to(&[origin.port], "limits: {upstream_idle_timeout_ms: 100}");
    let mut client = gateway.connect();
    assert_eq!(client.get("/").status, 200);
    eventually("it is closed", || origin.seen(|seen| seen.ended == 1));
    assert_eq!(client.get("/").status, 200);
}

#[test]
fn a_client_that_dribbles_its_head_is_cut_off_in_time() {
    let origin = Origin::answering(OK);
    let gateway = Gateway::to(&[origin.port], "limits: {header_read_timeout_ms: 300}");
    for before in [false, true] {
        let mut client = gateway.connect();
        if before {
            assert_eq!(client.get("/").status, 200);
        }
        let started = Instant::now();
        client.send("GET / HTTP/1.1\r\nHost: a\r\n");
        while client.try_send("X: y\r\n").is_ok() {
            assert!(started.elapsed() < Duration::from_secs(8), "it may dribble on");
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(started.elapsed() >= Duration::from_millis(300));
    }
    assert_eq!(origin.requests(), 1);
}

#[test]
fn an_idle_client_is_closed_and_a_silent_one_too() {
    let origin = Origin::answering(OK);
    let gateway =
        Gateway::to(&[origin.port], "limits: {header_read_timeout_ms: 200, keepalive_timeout_ms: 100}");
    let mut client = gateway.connect();
    client.assert_closed();
    let mut client = gateway.connect();
    assert_eq!(client.get("/").status, 200);
    client.assert_closed();
}

#[test]
fn a_client_that_stalls_in_its_body_is_told_and_closed() {
    let origin = Origin::echo();
    let gateway =
        Gateway::to(&[origin.port], "limits: {body_read_timeout_ms: 150, response_head_timeout_ms: 60000}");
    let mut client = gateway.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello");
    assert_eq!(client.response().status, 408);
    client.assert_closed();
    assert_eq!(origin.requests(), 0);
    eventually("the upstream connection is closed", || origin.seen(|seen| seen.connections == seen.ended));
}

#[test]
fn a_slow_upload_that_keeps_coming_is_not_late() {
    let origin = Origin::echo();
    let gateway =
        Gateway::to(&[origin.port], "limits: {body_read_timeout_ms: 300, response_head_timeout_ms: 200}");
    let mut client = gateway.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\n");
    for _ in 0..8 {
        std::thread::sleep(Duration::from_millis(80));
        client.send("x");
    }
    assert!(client.response().text().ends_with("xxxxxxxx"));
}

#[test]
fn a_client_that_reads_nothing_is_cut_off_and_holds_the_service_back() {
    let origin = Origin::start(|connection| {
        connection.request()?;
        connection.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 1_u64 << 30))?;
        // The gateway must not take it all on the client's behalf: this breaks off with the connection.
        loop {
            connection.write([0; 1 << 16])?;
        }
    });
    let gateway = Gateway::to(&[origin.port], "limits: {write_timeout_ms: 200}");
    let mut client = gateway.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("the service's connection ends", || origin.seen(|seen| seen.ended == 1));
    let mut got = 0;
    let mut buffer = vec![0; 1 << 16];
    while let Ok(length @ 1..) = client.read(&mut buffer) {
        got += length;
    }
    assert!(got < 64 << 20, "{got} bytes were on their way");
}

#[test]
fn a_client_that_leaves_takes_its_upstream_request_along() {
    let origin = Origin::start(|connection| {
        connection.request()?;
        connection.await_end()
    });
    let gateway = Gateway::to(&[origin.port], "");
    let mut client = gateway.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("the request arrives", || origin.requests() == 1);
    drop(client);
    eventually("it is given up", || origin.seen(|seen| seen.ended == 1));
}

#[test]
fn a_silent_tunnel_is_closed_in_time() {
    let origin = Origin::start(|connection| {
        connection.request()?;
        connection.write("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")?;
        connection.await_end()
    });
    let gateway = Gateway::to(&[origin.port], "limits: {upstream_read_timeout_ms: 200}");
    let mut client = gateway.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n");
    assert_eq!(client.response().status, 101);
    client.assert_closed();
    eventually("both sides are closed", || origin.seen(|seen| seen.ended == 1));
}
