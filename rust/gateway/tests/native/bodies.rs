//! Bodies of requests and responses, for libraries that say nothing of what they want.

use crate::gateway::{Gateway, eventually, host};
use crate::origin::Origin;
use nylon_config::plan::CallbackMemory;

const HELLO: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

fn post(gateway: &Gateway, body: &str) -> crate::client::Response {
    let head = format!("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n", body.len());
    gateway.connect().send(head).send(body).response()
}

fn limited(entry: &str, port: u16) -> Gateway {
    let middleware = format!("[{{plugin: x, entry: {entry}}}]");
    Gateway::start(
        host("bodies", CallbackMemory::Plugin),
        port,
        &middleware,
        "limits: {max_body_bytes: 1000}",
    )
}

#[test]
fn a_request_body_is_read_when_it_is_asked_for_and_can_be_replaced() {
    let origin = Origin::echo();
    let replaced = post(&Gateway::with("bodies", "upload", origin.port), "hello");
    assert!(replaced.text().ends_with("\r\n\r\n[hello]"), "{}", replaced.text());
    assert!(replaced.text().contains("content-length: 7\r\n"));
    let passed = post(&Gateway::with("bodies", "look_at_upload", origin.port), "hello");
    assert!(passed.text().ends_with("\r\n\r\nhello"));
    let empty = Gateway::with("bodies", "upload", origin.port).connect().get("/");
    assert!(empty.text().ends_with("\r\n\r\n[]"));
}

#[test]
fn a_request_body_that_arrives_slowly_does_not_count_as_the_librarys_time() {
    let origin = Origin::echo();
    let middleware = "[{plugin: x, entry: upload, per_phase: {request_filter: {timeout_ms: 150}}}]";
    let gateway = Gateway::start(host("bodies", CallbackMemory::Plugin), origin.port, middleware, "");
    let mut client = gateway.connect();
    client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\n\r\na");
    std::thread::sleep(std::time::Duration::from_millis(400));
    let response = client.send("b").response();
    assert!(response.text().ends_with("\r\n\r\n[ab]"), "{response:?}");
}

#[test]
fn a_request_body_over_the_limit_fails_and_its_reader_is_answered() {
    let origin = Origin::echo();
    let gateway = limited("upload", origin.port);
    assert_eq!(post(&gateway, &"x".repeat(1001)).status, 413);
    assert_eq!(origin.requests(), 0);
    // Its thread would wait for ever, and the session with it.
    eventually("the session is closed", || gateway.open() == 0);
    assert_eq!(post(&gateway, "ok").status, 200);
}

#[test]
fn a_decision_while_a_body_is_awaited_counts_and_the_body_goes_on_whole() {
    let origin = Origin::echo();
    let gateway = Gateway::with("bodies", "hasty", origin.port);
    for _ in 0..20 {
        assert!(post(&gateway, "hello").text().ends_with("\r\n\r\nhello"));
    }
}

#[test]
fn a_body_that_was_half_read_when_its_phase_ended_goes_on_whole() {
    let origin = Origin::echo();
    let gateway = Gateway::with("bodies", "impatient", origin.port);
    let mut client = gateway.connect();
    client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\nfirst");
    std::thread::sleep(std::time::Duration::from_millis(300));
    let response = client.send("later").response();
    assert!(response.text().ends_with("\r\n\r\nfirstlater"), "{response:?}");
}

#[test]
fn a_response_body_that_was_half_read_goes_on_whole() {
    let origin = Origin::start(|connection| {
        connection.request()?;
        connection.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst")?;
        std::thread::sleep(std::time::Duration::from_millis(300));
        connection.write("later")
    });
    let gateway = Gateway::with("bodies", "impatient_download", origin.port);
    let response = gateway.connect().get("/");
    assert_eq!((response.status, response.text()), (200, "firstlater"));
}

#[test]
fn a_response_body_is_read_when_it_is_asked_for_and_can_be_replaced() {
    let origin = Origin::answering(HELLO);
    let replaced = Gateway::with("bodies", "download", origin.port).connect().get("/");
    assert_eq!((replaced.text(), replaced.header("content-length")), ("[hello]", Some("7")));
    let read = Gateway::with("bodies", "look_at_download", origin.port).connect().get("/");
    assert_eq!((read.text(), read.header("x-read")), ("hello", Some("1")));
}

#[test]
fn a_response_body_can_be_replaced_unread() {
    let origin = Origin::answering(HELLO);
    let gateway = Gateway::with("bodies", "replace", origin.port);
    let replaced = gateway.connect().get("/");
    assert_eq!((replaced.text(), replaced.header("content-length")), ("replaced", Some("8")));
}

#[test]
fn a_response_body_that_nobody_asks_for_streams_past() {
    // Its second half follows once the client has the first: had anybody waited for the whole, it would never come.
    let (told, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let origin = Origin::start(move |connection| {
        connection.request()?;
        connection.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst")?;
        wait.lock().expect("one request").recv().expect("the client has it");
        connection.write("later")
    });
    let gateway = Gateway::with("bodies", "head_only", origin.port);
    let mut client = gateway.connect();
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    let mut seen = String::new();
    while !seen.ends_with("first") {
        let mut buffer = [0; 1024];
        let length = client.read(&mut buffer).expect("bytes");
        assert!(length > 0, "{seen}");
        seen += std::str::from_utf8(&buffer[..length]).expect("text");
    }
    assert!(seen.contains("x-seen: 1\r\n") && seen.contains("content-length: 10\r\n"), "{seen}");
    told.send(()).expect("the origin waits");
    let mut rest = [0; 5];
    let mut length = 0;
    while length < 5 {
        length += client.read(&mut rest[length..]).expect("bytes");
    }
    assert_eq!(&rest, b"later");
}

#[test]
fn a_response_body_over_the_limit_fails_for_who_reads_it_and_streams_past_others() {
    let origin = Origin::start(|connection| {
        while connection.request()?.is_some() {
            connection
                .write(format!("HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n{}", "x".repeat(5000)))?;
        }
        Ok(())
    });
    assert_eq!(limited("look_at_download", origin.port).connect().get("/").status, 502);
    let passed = limited("head_only", origin.port).connect().get("/");
    assert_eq!((passed.status, passed.body.len()), (200, 5000));
    let middleware =
        "[{plugin: x, entry: download, per_phase: {response_body_filter: {on_error: continue}}}]";
    let library = host("bodies", CallbackMemory::Plugin);
    let lenient = Gateway::start(library, origin.port, middleware, "limits: {max_body_bytes: 1000}");
    let passed = lenient.connect().get("/");
    assert_eq!((passed.status, passed.body.len()), (200, 5000));
}

#[test]
fn a_response_body_that_breaks_off_while_it_is_read_is_a_bad_gateway() {
    let origin = Origin::start(|connection| {
        connection.request()?;
        connection.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
    });
    let gateway = Gateway::with("bodies", "look_at_download", origin.port);
    assert_eq!(gateway.connect().get("/").status, 502);
    eventually("the session is closed", || gateway.open() == 0);
}

#[test]
fn a_response_filter_has_no_body_to_read() {
    let origin = Origin::answering(HELLO);
    let response = Gateway::with("bodies", "early", origin.port).connect().get("/");
    assert_eq!((response.header("x-length"), response.text()), (Some("0"), "hello"));
}
