//! `Compress`: bodies that travel smaller, and those that must not.

use super::through;
use crate::Gateway;
use crate::client::{Client, Response};
use crate::origin::Origin;
use std::io::Read;
use std::sync::mpsc;
use std::time::Duration;

const COMPRESS: &str = "      - {plugin: Compress, payload: {min_bytes: 100}}";

/// Text of this many lines.
fn text(lines: usize) -> String {
    (0..lines).map(|n| format!("line {n} of a text that says the same again and again\n")).collect()
}

/// An origin that answers with these fields and a text.
fn origin(fields: &'static str, body: String) -> Origin {
    Origin::start(move |connection| {
        while let Some(request) = connection.request()? {
            let head = format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: {}\r\n\r\n", body.len());
            connection.write(head)?;
            if !request.starts_with("HEAD") {
                connection.write(&body)?;
            }
        }
        Ok(())
    })
}

fn ask(client: &mut Client, method: &str, accepts: &str) -> Response {
    client.send(format!("{method} / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: {accepts}\r\n\r\n"));
    match method {
        "HEAD" => client.head_response(),
        _ => client.response(),
    }
}

fn decoded(response: &Response) -> String {
    let body = &response.body[..];
    let mut text = String::new();
    let read = match response.header("content-encoding") {
        None => return response.text().to_owned(),
        Some("gzip") => flate2::read::GzDecoder::new(body).read_to_string(&mut text),
        Some("br") => brotli::Decompressor::new(body, 4096).read_to_string(&mut text),
        Some("zstd") => zstd::stream::read::Decoder::new(body).expect("zstd").read_to_string(&mut text),
        Some(other) => panic!("{other}"),
    };
    read.expect("a whole encoding");
    text
}

#[test]
fn a_body_comes_in_the_encoding_that_the_client_likes() {
    let body = text(2000);
    let origin = origin(
        "Content-Type: text/plain; charset=utf-8\r\nETag: \"v1\"\r\nAccept-Ranges: bytes\r\nVary: Cookie\r\n",
        body.clone(),
    );
    let gateway = through(&origin, COMPRESS);
    let mut client = gateway.connect();
    for (accepts, encoding) in [("gzip", "gzip"), ("br", "br"), ("zstd", "zstd"), ("gzip, br;q=0.5", "gzip")]
    {
        let response = ask(&mut client, "GET", accepts);
        assert_eq!(response.header("content-encoding"), Some(encoding));
        assert_eq!(response.header("content-length"), None);
        assert_eq!(response.header("accept-ranges"), None);
        assert_eq!(response.header("etag"), Some("W/\"v1\""));
        let vary: Vec<_> = response.headers.iter().filter(|(name, _)| name == "vary").collect();
        assert_eq!(vary.len(), 2);
        assert!(response.body.len() * 4 < body.len(), "{encoding}: {}", response.body.len());
        assert_eq!(decoded(&response), body);
        // What a HEAD says is what a GET would have said.
        let head = ask(&mut client, "HEAD", accepts);
        for name in ["content-encoding", "content-length", "accept-ranges", "etag"] {
            assert_eq!(head.header(name), response.header(name), "{name}");
        }
    }
    let response = ask(&mut client, "GET", "deflate");
    assert_eq!((response.header("content-encoding"), response.header("etag")), (None, Some("\"v1\"")));
    assert!(response.headers.iter().any(|(name, value)| name == "vary" && value == "accept-encoding"));
    assert_eq!(response.header("content-length"), Some(&*body.len().to_string()));
    assert_eq!(response.text(), body);
}

#[test]
fn what_must_not_or_need_not_be_compressed_is_left_alone() {
    for (why, fields, body) in [
        ("encoded already", "Content-Type: text/plain\r\nContent-Encoding: br\r\n", text(100)),
        (
            "not to be transformed",
            "Content-Type: text/plain\r\nCache-Control: public, No-Transform\r\n",
            text(100),
        ),
        ("a digest vouches for it", "Content-Type: text/plain\r\nRepr-Digest: sha-256=:YQ==:\r\n", text(100)),
        ("of another type", "Content-Type: image/png\r\n", text(100)),
        ("of no type", "", text(100)),
        ("small", "Content-Type: text/plain\r\n", text(1)),
        ("empty", "Content-Type: text/plain\r\n", String::new()),
    ] {
        let length = body.len();
        let origin = origin(fields, body.clone());
        let gateway = through(&origin, COMPRESS);
        let response = ask(&mut gateway.connect(), "GET", "gzip, br, zstd");
        let encoding = fields.contains("Encoding").then_some("br");
        assert_eq!(response.header("content-encoding"), encoding, "{why}");
        assert_eq!(response.header("content-length"), Some(&*length.to_string()), "{why}");
        assert_eq!((response.header("vary"), response.text()), (None, &*body), "{why}");
    }
}

#[test]
fn statuses_without_a_whole_body_are_left_alone() {
    for (status, response) in [
        (
            206,
            "HTTP/1.1 206 Partial Content\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-199/900\r\n\
             Content-Length: 200\r\n\r\n",
        ),
        (204, "HTTP/1.1 204 No Content\r\nContent-Type: text/plain\r\n\r\n"),
        (304, "HTTP/1.1 304 Not Modified\r\nETag: \"v1\"\r\n\r\n"),
    ] {
        let origin = Origin::start(move |connection| {
            while connection.request()?.is_some() {
                connection.write(response)?;
                connection.write("x".repeat(if status == 206 { 200 } else { 0 }))?;
            }
            Ok(())
        });
        let gateway = through(&origin, COMPRESS);
        let mut client = gateway.connect();
        for _ in 0..2 {
            let response = ask(&mut client, "GET", "gzip");
            assert_eq!((response.status, response.header("content-encoding")), (status, None));
            // The tag of the response that it stands for.
            assert_eq!(response.header("etag"), (status == 304).then_some("W/\"v1\""));
        }
    }
}

#[test]
fn events_arrive_as_they_are_written() {
    let (next, written) = mpsc::channel::<()>();
    let written = std::sync::Mutex::new(written);
    let origin = Origin::start(move |connection| {
        connection.request()?;
        connection.write(
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
        )?;
        for n in 0..3 {
            let event = format!("data: {n}\n\n");
            connection.write(format!("{:x}\r\n{event}\r\n", event.len()))?;
            // The next event comes when the client has this one.
            let seen = written.lock().expect("a lock").recv_timeout(Duration::from_secs(10));
            seen.map_err(std::io::Error::other)?;
        }
        connection.write("0\r\n\r\n")
    });
    let gateway = through(&origin, COMPRESS);
    for encoding in ["gzip"] {
        let mut client = gateway.connect();
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: {encoding}\r\n\r\n"));
        let mut stream = client.chunks();
        assert!(stream.head.contains("content-encoding: gzip"), "{}", stream.head);
        let mut decoder = flate2::write::GzDecoder::new(Vec::new());
        for n in 0..3 {
            while !decoder.get_ref().ends_with(format!("data: {n}\n\n").as_bytes()) {
                let chunk = stream.next().expect("a chunk");
                std::io::Write::write_all(&mut decoder, &chunk).expect("gzip");
                std::io::Write::flush(&mut decoder).expect("gzip");
            }
            next.send(()).expect("the origin waits");
        }
        while let Some(chunk) = stream.next() {
            std::io::Write::write_all(&mut decoder, &chunk).expect("gzip");
        }
        assert_eq!(decoder.finish().expect("the whole"), b"data: 0\n\ndata: 1\n\ndata: 2\n\n");
    }
}

#[test]
fn a_body_that_breaks_off_does_not_look_complete() {
    let origin = Origin::start(|connection| {
        connection.request()?;
        connection.write(format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 100000\r\n\r\n{}",
            text(100)
        ))
    });
    let gateway = through(&origin, COMPRESS);
    let mut client = gateway.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n");
    assert!(client.try_response(false).is_err(), "the last chunk must not come");
}

#[test]
fn a_large_body_goes_through_and_the_gateway_serves_others_meanwhile() {
    let body = text(200_000);
    let origin = origin("Content-Type: application/problem+json\r\n", body.clone());
    let gateway = through(&origin, "      - {plugin: Compress, payload: {encodings: [br], levels: {br: 1}}}");
    let response = ask(&mut gateway.connect(), "GET", "br");
    assert_eq!(response.header("content-encoding"), Some("br"));
    assert!(decoded(&response) == body);
}

#[test]
fn what_the_service_is_told_does_not_change_what_the_client_gets() {
    let origin = origin("Content-Type: text/plain\r\n", text(100));
    let gateway: Gateway = through(
        &origin,
        "      - {plugin: Compress}
      - {plugin: RequestHeaderModifier, payload: {remove: [accept-encoding]}}",
    );
    let response = ask(&mut gateway.connect(), "GET", "gzip");
    assert_eq!(response.header("content-encoding"), Some("gzip"));
    assert!(origin.seen(|seen| !seen.requests[0].contains("accept-encoding")));
}
