//! Services over HTTP/2: what is shared, what is sent again, what is waited for and for how long.

use super::frames::{
    ACK, DATA, END_HEADERS, END_STREAM, Frames, HEADERS, MAX_STREAMS, PING, REFUSED_STREAM, RST_STREAM,
    WINDOW, WINDOW_UPDATE,
};
use super::peer::Peer;
use super::{at, gateway_to};
use crate::origin::{Connection, Origin};
use crate::{Gateway, eventually};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

fn speaking_http2(port: u16, more: &str) -> Gateway {
    gateway_to(&at(port), ", protocol: http2", more)
}

/// Answers every request that `refuses` lets through; it gets the number of the connection and of the request on it.
fn origin(
    settings: &'static [(u16, u32)],
    behave: impl Fn(&mut Frames<'_>, usize, u32) -> io::Result<bool> + Send + Sync + 'static,
) -> Origin {
    let connections = AtomicUsize::new(0);
    Origin::start(move |connection: &mut Connection| {
        let number = connections.fetch_add(1, Ordering::Relaxed);
        let mut frames = Frames::open(connection, settings)?;
        loop {
            let request = frames.next_of(HEADERS)?;
            if !behave(&mut frames, number, request.stream)? {
                frames.answer(request.stream, format!("{number}").as_bytes())?;
            }
        }
    })
}

#[test]
fn a_request_is_turned_into_one_of_http2() {
    let peer = Peer::start(true, None);
    let gateway = speaking_http2(peer.port, "");
    let mut client = gateway.connect();
    client.send(
        "POST /a/b?c=d HTTP/1.1\r\nHost: app.example:81\r\nConnection: keep-alive, x-hop\r\nX-Hop: 1\r\nTE: trailers\r\n\
         Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
    );
    let response = client.response();
    assert_eq!(response.status, 200);
    let text = response.text();
    assert!(text.starts_with("POST http://app.example:81/a/b?c=d HTTP/2.0\n"), "{text}");
    assert!(text.contains("\nte: trailers\n") && text.ends_with("5 bytes"), "{text}");
    for gone in ["\nhost:", "\nconnection:", "\nx-hop:", "\ntransfer-encoding:", "\nkeep-alive:"] {
        assert!(!text.contains(gone), "{gone} in {text}");
    }
    for (method, length) in [("PUT", 0), ("POST", 200_000)] {
        client.send(format!("{method} / HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n"));
        let response = client.send(vec![b'x'; length]).response();
        assert!(response.text().contains(&format!("\ncontent-length: {length}\n")), "{}", response.text());
        assert!(response.text().ends_with(&format!("{length} bytes")));
    }
    assert_eq!(client.send("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n").head_response().status, 200);
    assert_eq!(peer.connections(), 1);
}

#[test]
fn requests_at_the_same_time_share_one_connection() {
    let open = Arc::new(AtomicUsize::new(0));
    let seen = open.clone();
    // Nobody is answered before all eight are there.
    let origin = Origin::start(move |connection| {
        let mut frames = Frames::open(connection, &[])?;
        let mut streams = Vec::new();
        loop {
            streams.push(frames.next_of(HEADERS)?.stream);
            seen.fetch_add(1, Ordering::Relaxed);
            if streams.len() == 8 {
                for stream in streams.drain(..).rev() {
                    frames.answer(stream, b"together")?;
                }
            }
        }
    });
    let gateway = speaking_http2(origin.port, "");
    for _ in 0..2 {
        let mut clients: Vec<_> = (0..8).map(|_| gateway.connect()).collect();
        for client in &mut clients {
            client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        }
        assert!(clients.iter_mut().all(|client| client.response().text() == "together"));
    }
    assert_eq!((origin.seen(|seen| seen.connections), open.load(Ordering::Relaxed)), (1, 16));
}

#[test]
fn another_connection_is_opened_when_one_carries_as_many_requests_as_the_endpoint_takes() {
    let origin = Origin::start(|connection| {
        let mut frames = Frames::open(connection, &[(MAX_STREAMS, 2)])?;
        let first = frames.next_of(HEADERS)?.stream;
        frames.answer(first, b"warm")?;
        let streams = [frames.next_of(HEADERS)?.stream, frames.next_of(HEADERS)?.stream];
        streams.into_iter().try_for_each(|stream| frames.answer(stream, b"full"))?;
        frames.next_of(HEADERS).map(drop)
    });
    let gateway = speaking_http2(origin.port, "");
    // From here on the gateway knows the limit.
    assert_eq!(gateway.connect().get("/").text(), "warm");
    let mut pair = [gateway.connect(), gateway.connect()];
    for client in &mut pair {
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    }
    let texts = pair.each_mut().map(|client| client.response().text().to_owned());
    assert_eq!(texts, ["full", "full"]);
    assert_eq!(origin.seen(|seen| seen.connections), 1);
    let held = Origin::start(|connection| {
        let mut frames = Frames::open(connection, &[(MAX_STREAMS, 1)])?;
        let warm = frames.next_of(HEADERS)?.stream;
        frames.answer(warm, b"warm")?;
        frames.next_of(HEADERS)?;
        // Never answered.
        frames.next_of(u8::MAX).map(drop)
    });
    let gateway = speaking_http2(held.port, "");
    assert_eq!(gateway.connect().get("/").text(), "warm");
    let mut stuck = gateway.connect();
    stuck.send("GET /stuck HTTP/1.1\r\nHost: h\r\n\r\n");
    eventually("a second connection", || {
        let mut other = gateway.connect();
        other.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        held.seen(|seen| seen.connections) > 1
    });
}

#[test]
fn what_the_endpoint_did_nothing_with_is_sent_again_with_its_body() {
    let refusals = AtomicUsize::new(0);
    let origin = Origin::start(move |connection| {
        let mut frames = Frames::open(connection, &[])?;
        loop {
            let stream = frames.next_of(HEADERS)?.stream;
            let mut body = Vec::new();
            loop {
                let data = frames.next_of(DATA)?;
                body.extend(&data.payload);
                if data.flags & END_STREAM != 0 {
                    break;
                }
            }
            match refusals.fetch_add(1, Ordering::Relaxed) {
                0 => frames.reset(stream, REFUSED_STREAM)?,
                _ => frames.answer(stream, &body)?,
            }
        }
    });
    let gateway = speaking_http2(origin.port, "");
    let mut client = gateway.connect();
    client.send(
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n",
    );
    let response = client.response();
    assert_eq!((response.status, response.text()), (200, "abcdefg"));
    assert_eq!(origin.seen(|seen| seen.connections), 1);
}

#[test]
fn what_was_on_its_way_when_the_endpoint_said_goodbye_goes_to_another_connection() {
    let origin = origin(&[], |frames, connection, stream| {
        if connection == 0 && stream > 1 {
            frames.go_away(1)?;
            return Ok(true);
        }
        Ok(false)
    });
    let gateway = speaking_http2(origin.port, "");
    let mut client = gateway.connect();
    assert_eq!(client.get("/").text(), "0");
    // Not idempotent, and yet safe: the endpoint has not looked at it.
    client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nxy");
    assert_eq!(client.response().text(), "1");
    assert_eq!(client.get("/").text(), "1");
    assert_eq!(origin.seen(|seen| seen.connections), 2);
}

#[test]
fn what_an_endpoint_that_leaves_has_begun_it_ends() {
    let origin = origin(&[], |frames, connection, stream| {
        if connection == 0 {
            // The head first, so that the goodbye comes in the middle of a response.
            frames.write(HEADERS, END_HEADERS, stream, &[0x88])?;
            frames.go_away(stream)?;
            frames.write(DATA, END_STREAM, stream, b"ended")?;
            return Ok(true);
        }
        Ok(false)
    });
    let gateway = speaking_http2(origin.port, "");
    let mut client = gateway.connect();
    assert_eq!(client.get("/").text(), "ended");
    client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nxy");
    assert_eq!(client.response().text(), "1");
    assert_eq!(origin.seen(|seen| seen.connections), 2);
}

#[test]
fn what_the_endpoint_may_have_done_is_not_sent_again() {
    let requests = Arc::new(AtomicUsize::new(0));
    let seen = requests.clone();
    let origin = origin(&[], move |frames, _, stream| {
        if stream > 1 {
            seen.fetch_add(1, Ordering::Relaxed);
            // INTERNAL_ERROR: who knows what has been done.
            frames.reset(stream, 2)?;
            return Ok(true);
        }
        Ok(false)
    });
    let gateway = speaking_http2(origin.port, "");
    let mut client = gateway.connect();
    assert_eq!(client.get("/").status, 200);
    client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(client.response().status, 502);
    assert_eq!(client.get("/").status, 502);
    assert_eq!(requests.load(Ordering::Relaxed), 2);
    let gone = Origin::start(|connection| {
        let mut frames = Frames::open(connection, &[])?;
        frames.next_of(HEADERS).map(drop)
    });
    let gateway = speaking_http2(gone.port, "");
    let mut client = gateway.connect();
    client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(client.response().status, 502);
    assert_eq!(gone.seen(|seen| seen.connections), 1);
}

#[test]
fn an_endpoint_that_refuses_for_ever_is_asked_a_few_times_only() {
    let requests = Arc::new(AtomicUsize::new(0));
    let seen = requests.clone();
    let origin = origin(&[], move |frames, _, stream| {
        seen.fetch_add(1, Ordering::Relaxed);
        frames.reset(stream, REFUSED_STREAM)?;
        Ok(true)
    });
    let gateway = speaking_http2(origin.port, "");
    assert_eq!(gateway.connect().get("/").status, 502);
    assert_eq!(requests.load(Ordering::Relaxed), 3);
}

#[test]
fn a_late_head_costs_its_stream_and_not_the_connection() {
    let resets = Arc::new(AtomicUsize::new(0));
    let seen = resets.clone();
    let origin = Origin::start(move |connection| {
        let mut frames = Frames::open(connection, &[])?;
        loop {
            let frame = frames.next()?;
            match (frame.kind, frame.stream) {
                (HEADERS, 3) => {}
                (HEADERS, stream) => frames.answer(stream, b"fine")?,
                (RST_STREAM, 3) => drop(seen.fetch_add(1, Ordering::Relaxed)),
                _ => {}
            }
        }
    });
    let gateway = speaking_http2(origin.port, "limits: {response_head_timeout_ms: 300}");
    let mut client = gateway.connect();
    assert_eq!(client.get("/").text(), "fine");
    assert_eq!(client.get("/late").status, 504);
    assert_eq!(client.get("/").text(), "fine");
    eventually("the stream's reset", || resets.load(Ordering::Relaxed) == 1);
    assert_eq!(origin.seen(|seen| seen.connections), 1);
}

#[test]
fn silence_inside_a_body_ends_the_response_unmistakably() {
    let origin = Origin::start(|connection| {
        let mut frames = Frames::open(connection, &[])?;
        let stream = frames.next_of(HEADERS)?.stream;
        frames.write(HEADERS, END_HEADERS, stream, &[0x88])?;
        frames.write(DATA, 0, stream, b"begun")?;
        frames.next_of(RST_STREAM)?;
        let stream = frames.next_of(HEADERS)?.stream;
        frames.answer(stream, b"whole")
    });
    let gateway = speaking_http2(origin.port, "limits: {upstream_read_timeout_ms: 300}");
    let mut client = gateway.connect();
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    let error = client.try_response(false).expect_err("the body is not complete");
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    assert_eq!(gateway.connect().get("/").text(), "whole");
}

#[test]
fn an_endpoint_that_takes_no_more_of_an_upload_holds_the_client_back() {
    let origin = Origin::start(|connection| {
        let mut frames = Frames::open(connection, &[(WINDOW, 1000)])?;
        let stream = frames.next_of(HEADERS)?.stream;
        let mut taken = 0;
        while taken < 1000 {
            taken += frames.next_of(DATA)?.payload.len();
        }
        // Let the client write on for as long as it can; then take the rest.
        std::thread::sleep(Duration::from_millis(300));
        let more = (64_u32 << 20).to_be_bytes();
        frames.write(WINDOW_UPDATE, 0, stream, &more)?;
        frames.write(WINDOW_UPDATE, 0, 0, &more)?;
        loop {
            let data = frames.next_of(DATA)?;
            taken += data.payload.len();
            if data.flags & END_STREAM != 0 {
                return frames.answer(stream, taken.to_string().as_bytes());
            }
        }
    });
    let gateway = speaking_http2(origin.port, "");
    let mut client = gateway.connect();
    let length = 48 << 20;
    client.send(format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n"));
    let begun = Instant::now();
    client.send(vec![b'x'; length]);
    assert!(begun.elapsed() > Duration::from_millis(250), "the gateway took what the endpoint did not");
    assert_eq!(client.response().text(), length.to_string());
}

#[test]
fn a_connection_that_nobody_uses_is_closed() {
    let peer = Origin::start(|connection| {
        let mut frames = Frames::open(connection, &[])?;
        let stream = frames.next_of(HEADERS)?.stream;
        frames.answer(stream, b"x")?;
        frames.next_of(HEADERS).map(drop)
    });
    let gateway = speaking_http2(peer.port, "limits: {upstream_idle_timeout_ms: 300}");
    assert_eq!(gateway.connect().get("/").status, 200);
    eventually("the connection's end", || peer.seen(|seen| seen.ended) == 1);
}

#[test]
fn a_connection_in_use_is_asked_whether_it_is_alive() {
    let pings = Arc::new(AtomicUsize::new(0));
    let seen = pings.clone();
    let origin = Origin::start(move |connection| {
        let mut frames = Frames::open(connection, &[])?;
        let stream = frames.next_of(HEADERS)?.stream;
        let ping = frames.next_of(PING)?;
        frames.write(PING, ACK, 0, &ping.payload)?;
        seen.fetch_add(1, Ordering::Relaxed);
        frames.answer(stream, b"slow, but there")
    });
    let gateway = speaking_http2(origin.port, "limits: {upstream_read_timeout_ms: 200}");
    assert_eq!(gateway.connect().get("/").text(), "slow, but there");
    assert_eq!(pings.load(Ordering::Relaxed), 1);
}

#[test]
fn a_websocket_cannot_be_had_and_other_upgrades_are_passed_over() {
    let peer = Peer::start(true, None);
    let gateway = speaking_http2(peer.port, "");
    let offer = |protocol: &str| {
        let mut client = gateway.connect();
        client
            .send(format!("GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: {protocol}\r\n\r\n"));
        client.response().status
    };
    assert_eq!((offer("websocket"), offer("h2c")), (501, 200));
}

#[test]
fn what_is_no_http2_is_a_bad_gateway() {
    let origin = Origin::answering("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    let gateway = speaking_http2(origin.port, "limits: {response_head_timeout_ms: 1000}");
    assert!(matches!(gateway.connect().get("/").status, 502 | 504));
}
