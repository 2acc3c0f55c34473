//! What must be refused, and that nothing of it reaches a service.

use crate::Gateway;
use crate::origin::Origin;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn what_can_be_read_in_two_ways_is_refused_and_never_forwarded() {
    let origin = Origin::answering(OK);
    let gateway = Gateway::to(&[origin.port], "");
    let post = "POST / HTTP/1.1\r\nHost: a\r\n";
    let cases = [
        format!(
            "{post}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n"
        ),
        format!("{post}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
        format!("{post}Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello"),
        format!("{post}Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"),
        format!("{post}Content-Length: 5, 5\r\n\r\nhello"),
        format!("{post}Content-Length: +5\r\n\r\nhello"),
        format!("{post}Content-Length: -5\r\n\r\nhello"),
        format!("{post}Content-Length: 0x5\r\n\r\nhello"),
        format!("{post}Content-Length: 5 5\r\n\r\nhello"),
        format!("{post}Content-Length:\r\n\r\n"),
        format!("{post}Content-Length : 5\r\n\r\nhello"),
        format!("{post}Content-Length: 99999999999999999999\r\n\r\n"),
        format!("{post}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
        format!("{post}Transfer-Encoding: identity\r\n\r\n"),
        format!("{post}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
        format!("{post}Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n"),
        format!("{post}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        format!("{post}Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n"),
        format!("{post}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n"),
        format!("{post}X: a\r\n b\r\n\r\n"),
        format!("{post}X: a\0b\r\n\r\n"),
        format!("{post}X: a\rb\r\n\r\n"),
        format!("{post}: a\r\n\r\n"),
        format!("{post}X y: a\r\n\r\n"),
        format!("{post}nonsense\r\n\r\n"),
        "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".into(),
        "GET / HTTP/1.1\nHost: a\r\n\r\n".into(),
        "GET / HTTP/1.1\r\nHost: a\n\r\n".into(),
        "GET / HTTP/1.1\r\nHost: a\r\n\n".into(),
        "GET  / HTTP/1.1\r\nHost: a\r\n\r\n".into(),
        "GET / HTTP/1.1 \r\nHost: a\r\n\r\n".into(),
        "GET / HTTP/2.0\r\nHost: a\r\n\r\n".into(),
        "GET /\r\nHost: a\r\n\r\n".into(),
        "G\0T / HTTP/1.1\r\nHost: a\r\n\r\n".into(),
        "GET / HTTP/1.1\r\n\r\n".into(),
        "GET / HTTP/1.1\r\nHost:\r\n\r\n".into(),
        "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n".into(),
        "GET / HTTP/1.1\r\nHost: user@a\r\n\r\n".into(),
        "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n".into(),
        "GET / HTTP/1.1\r\nHost: a:b\r\n\r\n".into(),
        "GET http://user@a/ HTTP/1.1\r\nHost: a\r\n\r\n".into(),
        "GET a HTTP/1.1\r\nHost: a\r\n\r\n".into(),
        "GET * HTTP/1.1\r\nHost: a\r\n\r\n".into(),
        "GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n".into(),
        "GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n".into(),
        "GET /a%2f..%2fb HTTP/1.1\r\nHost: a\r\n\r\n".into(),
        "GET /a/..;/b HTTP/1.1\r\nHost: a\r\n\r\n".into(),
        "GET /a\\..\\b HTTP/1.1\r\nHost: a\r\n\r\n".into(),
        "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n".into(),
        "\x16\x03\x01\x02\x00\x01\x00\x01\x7c\x03\x03\r\n\r\n".into(),
    ];
    for case in &cases {
        let mut client = gateway.connect();
        let response = client.send(case).response();
        assert_eq!(response.status, 400, "{case:?}");
        client.assert_closed();
        assert_eq!(origin.requests(), 0, "{case:?}");
    }
}

#[test]
fn another_protocol_is_closed_without_a_word() {
    let origin = Origin::answering(OK);
    let gateway = Gateway::to(&[origin.port], "");
    gateway.connect().send("DESCRIBE rtsp://a RTSP/1.0\r\nCSeq: 1\r\n\r\n").assert_closed();
    // A preface that is not quite one is a request of a version that nobody speaks.
    let mut client = gateway.connect();
    assert_eq!(client.send("PRI * HTTP/2.0\r\n\r\nMS\r\n\r\n").response().status, 400);
    client.assert_closed();
    assert_eq!(origin.requests(), 0);
}

#[test]
fn what_hides_behind_a_good_request_is_refused_too() {
    let origin = Origin::answering(OK);
    let gateway = Gateway::to(&[origin.port], "");
    for (number, bad) in [
        "POST /bad HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /bad HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
        "GET /bad HTTP/1.1\nHost: a\r\n\r\n",
    ]
    .into_iter()
    .enumerate()
    {
        let mut client = gateway.connect();
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n\r\n{bad}"));
        assert_eq!(client.response().status, 200);
        assert_eq!(client.response().status, 400, "{bad:?}");
        client.assert_closed();
        assert_eq!(origin.requests(), number + 1);
    }
}

#[test]
fn a_malformed_chunk_ends_the_request_on_both_sides() {
    for chunk in
        ["5x\r\nhello\r\n0\r\n\r\n", "5\nhello\r\n0\r\n\r\n", "5\r\nhelloworld", "ffffffffffffffff\r\n"]
    {
        let origin = Origin::echo();
        let gateway = Gateway::to(&[origin.port], "");
        let mut client = gateway.connect();
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}"));
        // The status may be lost when the connection breaks first; a success would be wrong.
        if let Ok(response) = client.try_response(false) {
            assert_eq!(response.status, 400, "{chunk:?}");
        }
        client.assert_closed();
        crate::eventually("the origin's connection ends", || {
            origin.seen(|seen| seen.connections == seen.ended)
        });
        assert_eq!(origin.requests(), 0, "{chunk:?}");
    }
}

#[test]
fn a_request_that_is_cut_off_is_not_forwarded_as_a_whole() {
    let origin = Origin::echo();
    let gateway = Gateway::to(&[origin.port], "");
    for cut in [
        "GET / HTTP/1.1\r\nHost: a\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ] {
        let mut client = gateway.connect();
        client.send(cut);
        client.stream().shutdown(std::net::Shutdown::Write).expect("shutdown");
        if let Ok(response) = client.try_response(false) {
            assert_eq!(response.status, 400);
        }
        client.assert_closed();
    }
    crate::eventually("the origin's connections end", || origin.seen(|seen| seen.connections == seen.ended));
    assert_eq!(origin.requests(), 0);
}

#[test]
fn heads_over_the_limits_are_refused_and_closed() {
    let origin = Origin::answering(OK);
    let gateway = Gateway::to(&[origin.port], "limits: {max_header_bytes: 4096, max_headers: 20}");
    let long = "a".repeat(5000);
    let many = "X: y\r\n".repeat(30);
    let more = "a".repeat(3000);
    for (case, status) in [
        (format!("GET / HTTP/1.1\r\nHost: a\r\nX: {long}\r\n\r\n"), 431),
        (format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n"), 431),
        (format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n"), 431),
        (format!("GET / HTTP/1.1\r\nHost: a\r\nX: {more}\r\n\r\n"), 200),
    ] {
        let mut client = gateway.connect();
        assert_eq!(client.send(&case).response().status, status, "{}", &case[..40]);
        if status != 200 {
            client.assert_closed();
        }
    }
    let gateway = Gateway::to(&[origin.port], "limits: {max_header_bytes: 200000}");
    for length in [40_000, 70_000] {
        let mut client = gateway.connect();
        client.send(format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(length)));
        assert_eq!(client.response().status, 414);
        client.assert_closed();
    }
}

#[test]
fn an_endless_head_is_refused_before_it_ends() {
    let origin = Origin::answering(OK);
    let gateway = Gateway::to(&[origin.port], "");
    let mut client = gateway.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n");
    for _ in 0..1000 {
        // It may be reset by now, if it sends on for long enough.
        if client.try_send(format!("X: {}\r\n", "y".repeat(1000))).is_err() {
            break;
        }
    }
    assert_eq!(client.response().status, 431);
    client.assert_closed();
    assert_eq!(origin.requests(), 0);
}

#[test]
fn a_body_over_the_limit_is_refused_and_the_client_can_read_why() {
    let origin = Origin::echo();
    let gateway = Gateway::to(&[origin.port], "limits: {max_forwarded_body_bytes: 100000}");
    let mut client = gateway.connect();
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", 5 << 20));
    // As clients do: the body is sent whatever comes back.
    for _ in 0..80 {
        if client.try_send(vec![b'x'; 1 << 16]).is_err() {
            break;
        }
    }
    let response = client.response();
    assert_eq!(response.status, 413);
    assert_eq!(response.header("connection"), Some("close"));
    assert_eq!(origin.requests(), 0);

    let mut client = gateway.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    for _ in 0..3 {
        client.send("10000\r\n").send(vec![b'x'; 1 << 16]).send("\r\n");
    }
    assert_eq!(client.response().status, 413);
    assert_eq!(origin.requests(), 0);
}

#[test]
fn a_refused_request_is_never_told_to_continue() {
    let origin = Origin::echo();
    let gateway = Gateway::to(&[origin.port], "limits: {max_forwarded_body_bytes: 10}");
    let expect = "Expect: 100-continue\r\n\r\n";
    let mut client = gateway.connect();
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n{expect}"));
    assert_eq!(client.response().status, 413);
    let mut client = gateway.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: the-unexpected\r\n\r\n");
    assert_eq!(client.response().status, 417);
    client.assert_closed();
    let mut client = gateway.connect();
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n{expect}"));
    assert_eq!(client.response().status, 100);
    let response = client.send("hello").response();
    assert_eq!(response.status, 200);
    assert!(response.text().ends_with("\r\n\r\nhello") && !response.text().contains("expect"));
}
