//! What a service gets of a request, and a client of a response.

use crate::Gateway;
use crate::origin::Origin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// The lines of a request as the origin saw it, the request line first.
fn lines(text: &str) -> Vec<&str> {
    text.split("\r\n\r\n").next().expect("a head").lines().collect()
}

fn values<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    lines(text).into_iter().skip(1).filter_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).collect()
}

#[test]
fn fields_for_one_connection_are_removed_and_forwarding_is_told() {
    let origin = Origin::echo();
    let gateway = Gateway::to(&[origin.port], "");
    let mut client = gateway.connect();
    client.send(
        "GET /a?b=c HTTP/1.1\r\nHost: a.example:81\r\nConnection: keep-alive, X-Hop, Host\r\nX-Hop: 1\r\n\
         Keep-Alive: timeout=5\r\nTE: trailers\r\nTrailer: X\r\nProxy-Connection: close\r\nUpgrade: h2c\r\n\
         X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\n\
         Forwarded: for=6.6.6.6\r\nX-End: 1\r\nX-End: 2\r\n\r\n",
    );
    let response = client.response();
    let seen = response.text();
    let mut found = lines(seen);
    found[1..].sort_unstable();
    assert_eq!(
        found,
        [
            "GET /a?b=c HTTP/1.1",
            // The client takes trailers, and so the gateway says of itself that it does.
            "connection: te",
            "host: a.example:81",
            "te: trailers",
            "via: 1.1 nylon",
            "x-end: 1",
            "x-end: 2",
            "x-forwarded-for: 127.0.0.1",
            "x-forwarded-host: a.example:81",
            "x-forwarded-proto: http",
        ]
    );
}

#[test]
fn a_trusted_proxy_is_believed_and_added_to() {
    let origin = Origin::echo();
    let gateway = Gateway::to(&[origin.port], "trusted_proxies: [127.0.0.0/8, 10.0.0.0/8]");
    let mut client = gateway.connect();
    client.send(
        "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 6.6.6.6, 1.2.3.4\r\nX-Forwarded-For: 10.0.0.1\r\n\
         X-Forwarded-Proto: https\r\nX-Forwarded-Host: public.example\r\nVia: 1.0 edge\r\n\r\n",
    );
    let response = client.response();
    let seen = response.text();
    assert_eq!(values(seen, "x-forwarded-for"), ["6.6.6.6, 1.2.3.4, 10.0.0.1, 127.0.0.1"]);
    assert_eq!(values(seen, "x-forwarded-proto"), ["https"]);
    assert_eq!(values(seen, "x-forwarded-host"), ["public.example"]);
    assert_eq!(values(seen, "via"), ["1.0 edge", "1.1 nylon"]);
}

#[test]
fn an_absolute_target_wins_over_the_host_field() {
    let origin = Origin::echo();
    let gateway = Gateway::to(&[origin.port], "");
    let mut client = gateway.connect();
    client.send("GET http://b.example/x?y HTTP/1.1\r\nHost: a\r\n\r\n");
    let response = client.response();
    assert_eq!(lines(response.text())[0], "GET /x?y HTTP/1.1");
    assert_eq!(values(response.text(), "host"), ["b.example"]);
    client.send("GET http://b.example HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(lines(client.response().text())[0], "GET / HTTP/1.1");
}

#[test]
fn an_http_1_0_client_gets_a_host_and_a_closed_connection() {
    let origin = Origin::echo();
    let gateway = Gateway::to(&[origin.port], "");
    let mut client = gateway.connect();
    let response = client.send("GET / HTTP/1.0\r\n\r\n").response();
    assert_eq!(values(response.text(), "host"), [gateway.address().to_string()]);
    assert_eq!((response.status, response.version.as_str()), (200, "HTTP/1.0"));
    client.assert_closed();
    let chunked =
        Origin::answering("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n");
    let gateway = Gateway::to(&[chunked.port], "");
    let mut client = gateway.connect();
    let response = client.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n").response();
    assert_eq!((response.text(), response.header("transfer-encoding")), ("ok", None));
}

#[test]
fn routes_and_services_see_the_same_spelling_of_a_path() {
    let (open, guarded) = (Origin::echo(), Origin::answering(OK));
    let gateway = Gateway::start(&format!(
        "http: ['127.0.0.1:0']\nruntime: {{threads: 1}}\n\
         services: [{{name: open, service_type: http, endpoints: [{{ip: 127.0.0.1, port: {}}}]}}, \
         {{name: guarded, service_type: http, endpoints: [{{ip: 127.0.0.1, port: {}}}]}}]\n\
         routes: [{{route: {{type: host, value: '*'}}, name: all, paths: [\
         {{path: /admin, service: {{name: guarded}}}}, {{path: ['/', '/{{*rest}}'], service: {{name: open}}}}]}}]",
        open.port, guarded.port
    ));
    let mut client = gateway.connect();
    let spellings = ["/admin", "/%61dmin", "//admin", "/./admin", "/x/../admin", "/x/%2e%2e/admin?y"];
    for path in spellings {
        assert_eq!(client.get(path).text(), "ok", "{path}");
    }
    assert_eq!((open.requests(), guarded.requests()), (0, spellings.len()));
    assert_eq!(
        lines(client.get("/a%2fb/%7e/{x}?q={a:1}|%zz").text())[0],
        "GET /a%2Fb/~/%7Bx%7D?q=%7Ba:1%7D%7C%zz HTTP/1.1"
    );
}

#[test]
fn a_services_own_answers_arrive_unchanged() {
    for (answer, to_head) in [
        ("HTTP/1.1 204 No Content\r\nx-a: 1\r\n\r\n", false),
        ("HTTP/1.1 304 Not Modified\r\netag: \"x\"\r\n\r\n", false),
        ("HTTP/1.1 404 Not Found\r\ncontent-length: 4\r\nx-a: 1\r\nx-a: 2\r\n\r\nnope", false),
        ("HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\ncontent-length: 0\r\n\r\n", false),
        ("HTTP/1.1 200 OK\r\ncontent-length: 12345\r\n\r\n", true),
        ("HTTP/1.1 302 Found\r\nlocation: /there\r\ncontent-length: 0\r\n\r\n", false),
        (
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
            false,
        ),
    ] {
        let origin = Origin::answering(answer);
        let gateway = Gateway::to(&[origin.port], "");
        let mut client = gateway.connect();
        let last = &answer[answer.rfind("HTTP/1.1").expect("a status line")..];
        for _ in 0..3 {
            let response = if to_head {
                client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").head_response()
            } else {
                client.get("/")
            };
            let (head, body) = last.split_once("\r\n\r\n").expect("a head");
            let mut expected: Vec<_> =
                head.lines().skip(1).filter_map(|line| line.split_once(": ")).collect();
            let mut found: Vec<_> = response
                .headers
                .iter()
                .map(|(n, v)| (n.as_str(), v.as_str()))
                .filter(|(n, _)| *n != "date")
                .collect();
            expected.sort_unstable();
            found.sort_unstable();
            assert_eq!(response.status.to_string(), last[9..12]);
            assert_eq!(found, expected, "{answer}");
            assert_eq!(response.text(), body);
        }
        assert_eq!(origin.seen(|seen| seen.connections), 1, "{answer}");
    }
}

#[test]
fn bodies_of_every_framing_arrive_whole() {
    let origin = Origin::echo();
    let gateway = Gateway::to(&[origin.port], "");
    let mut client = gateway.connect();
    let big = "0123456789abcdef".repeat(1 << 16);
    for method in ["POST", "GET", "DELETE"] {
        client.send(format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{big}", big.len()));
        assert!(client.response().text().ends_with(&format!("\r\n\r\n{big}")));
        client.send(format!(
            "{method} / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n"
        ));
        client.send(format!("{:x}\r\n{big}\r\n0\r\nX-Trailer: 1\r\n\r\n", big.len()));
        let response = client.response();
        assert!(response.text().ends_with(&format!("\r\n\r\nhello{big}")), "{method}");
        assert_eq!(values(response.text(), "transfer-encoding"), ["chunked"]);
    }
    let response = client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").response();
    assert_eq!(values(response.text(), "content-length"), ["0"]);
}

#[test]
fn a_response_streams_through_as_it_comes() {
    let barrier = Arc::new(Barrier::new(2));
    let held = barrier.clone();
    let origin = Origin::start(move |connection| {
        connection.request()?;
        connection.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")?;
        held.wait();
        connection.write("4\r\nlast\r\n0\r\n\r\n")
    });
    let gateway = Gateway::to(&[origin.port], "");
    let mut client = gateway.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut got = String::new();
    while !got.contains("first") {
        let mut buffer = [0; 1024];
        let length = client.read(&mut buffer).expect("the first part");
        got += std::str::from_utf8(&buffer[..length]).expect("text");
    }
    assert!(!got.contains("last"));
    barrier.wait();
    let mut buffer = [0; 64];
    let length = client.read(&mut buffer).expect("the last part");
    assert!(buffer[..length].starts_with(b"4\r\nlast"));
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let origin = Origin::echo();
    let gateway = Gateway::to(&[origin.port], "");
    let mut client = gateway.connect();
    let requests: String =
        (0..20).map(|n| format!("POST /{n} HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc")).collect();
    client.send(requests);
    for n in 0..20 {
        assert!(client.response().text().starts_with(&format!("POST /{n} ")));
    }
}

#[test]
fn connections_to_a_service_are_used_again() {
    let origin = Origin::answering(OK);
    let gateway = Gateway::to(&[origin.port], "");
    for _ in 0..5 {
        let mut client = gateway.connect();
        for _ in 0..5 {
            assert_eq!(client.get("/").status, 200);
        }
    }
    assert_eq!(origin.seen(|seen| seen.connections), 1);
}

#[test]
fn endpoints_take_turns_and_one_that_is_down_is_passed_over() {
    let (a, b) = (Origin::answering(OK), Origin::answering(OK));
    let gateway = Gateway::to(&[a.port, b.port], "");
    let mut client = gateway.connect();
    for _ in 0..10 {
        client.get("/");
    }
    assert_eq!((a.requests(), b.requests()), (5, 5));
    let closed =
        std::net::TcpListener::bind("127.0.0.1:0").expect("bind").local_addr().expect("address").port();
    let gateway = Gateway::to(&[a.port, closed], "");
    let mut client = gateway.connect();
    for _ in 0..6 {
        assert_eq!(client.get("/").status, 200);
    }
}

#[test]
fn a_pooled_connection_that_was_closed_costs_no_request() {
    let origin = Origin::start(|connection| {
        // Closes without a word after a few responses, as servers do.
        for _ in 0..3 {
            if connection.request()?.is_none() {
                return Ok(());
            }
            connection.write(OK)?;
        }
        Ok(())
    });
    let gateway = Gateway::to(&[origin.port], "");
    let mut client = gateway.connect();
    for _ in 0..300 {
        assert_eq!(client.get("/").status, 200);
    }
}

/// An origin that takes a second request on a connection and closes instead of answering.
fn closing_after_one() -> Origin {
    Origin::start(|connection| {
        connection.request()?;
        connection.write(OK)?;
        connection.request().map(drop)
    })
}

#[test]
fn a_request_that_may_have_run_is_repeated_only_if_that_is_safe() {
    for (request, status, seen) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 200, 3),
        ("DELETE / HTTP/1.1\r\nHost: a\r\n\r\n", 200, 3),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", 502, 2),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi", 502, 2),
        ("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi", 502, 2),
    ] {
        let origin = closing_after_one();
        let gateway = Gateway::to(&[origin.port], "");
        let mut client = gateway.connect();
        assert_eq!(client.get("/").status, 200);
        assert_eq!(client.send(request).response().status, status, "{request}");
        assert_eq!(origin.requests(), seen, "{request}");
    }
}

#[test]
fn a_fresh_connection_that_fails_is_not_tried_again() {
    let origin = Origin::start(|connection| connection.request().map(drop));
    let gateway = Gateway::to(&[origin.port], "");
    assert_eq!(gateway.connect().get("/").status, 502);
    assert_eq!(origin.requests(), 1);
}

const UPGRADE: &str =
    "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n";

#[test]
fn an_upgrade_joins_client_and_service_until_one_ends() {
    let origin = Origin::start(|connection| {
        let request = connection.request()?.expect("a request");
        assert_eq!(values(&request, "upgrade"), ["websocket"]);
        assert_eq!(values(&request, "connection"), ["upgrade"]);
        connection.write(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello",
        )?;
        let mut buffer = [0; 64];
        loop {
            let length = connection.read(&mut buffer)?;
            if length == 0 {
                return Ok(());
            }
            connection.write(&buffer[..length])?;
        }
    });
    let gateway = Gateway::to(&[origin.port], "");
    let mut client = gateway.connect();
    let response = client.send(UPGRADE).response();
    assert_eq!((response.status, response.header("upgrade")), (101, Some("websocket")));
    assert_eq!(response.header("connection"), Some("upgrade"));
    let mut buffer = [0; 5];
    client.read(&mut buffer).expect("the greeting");
    assert_eq!(&buffer, b"hello");
    for _ in 0..3 {
        client.send(b"\x00\xff\n\n\x01");
        client.read(&mut buffer).expect("an echo");
        assert_eq!(&buffer, b"\x00\xff\n\n\x01");
    }
    client.stream().shutdown(std::net::Shutdown::Write).expect("shutdown");
    client.assert_closed();
    crate::eventually("the tunnel ends", || origin.seen(|seen| seen.ended == 1));
}

#[test]
fn an_upgrade_that_the_service_declines_leaves_http() {
    let origin = Origin::echo();
    let gateway = Gateway::to(&[origin.port], "");
    let mut client = gateway.connect();
    for _ in 0..3 {
        assert_eq!(client.send(UPGRADE).response().status, 200);
        assert_eq!(client.get("/").status, 200);
    }
}

#[test]
fn bytes_behind_an_unanswered_upgrade_reach_nobody() {
    let origin = Origin::echo();
    let gateway = Gateway::to(&[origin.port], "");
    let mut client = gateway.connect();
    client.send(format!("{UPGRADE}GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n"));
    assert_eq!(client.response().status, 200);
    assert_eq!(client.response().status, 400);
    assert_eq!(origin.requests(), 1);
}

#[test]
fn a_million_bytes_pass_in_both_directions_at_once() {
    let count = Arc::new(AtomicUsize::new(0));
    let sum = count.clone();
    let origin = Origin::start(move |connection| {
        connection.lines()?;
        connection.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 8 << 20))?;
        let mut buffer = vec![0; 1 << 16];
        for _ in 0..128 {
            let mut filled = 0;
            while filled < buffer.len() {
                filled += connection.read(&mut buffer[filled..])?;
            }
            sum.fetch_add(filled, Ordering::Relaxed);
            connection.write(&buffer)?;
        }
        Ok(())
    });
    let gateway = Gateway::to(&[origin.port], "");
    let mut client = gateway.connect();
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", 8 << 20));
    let mut sender = client.stream().try_clone().expect("a clone");
    let sending = std::thread::spawn(move || {
        for _ in 0..128 {
            std::io::Write::write_all(&mut sender, &vec![7; 1 << 16]).expect("sent");
        }
    });
    let response = client.response();
    sending.join().expect("all sent");
    assert!(response.body.len() == 8 << 20 && response.body.iter().all(|byte| *byte == 7));
    assert_eq!(count.load(Ordering::Relaxed), 8 << 20);
}
