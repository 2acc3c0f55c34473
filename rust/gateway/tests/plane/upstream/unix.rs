//! Services at a Unix socket.

use super::gateway_to;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;

#[test]
fn a_service_at_a_unix_socket_gets_the_clients_host() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("app.sock");
    let listener = UnixListener::bind(&path).expect("bind");
    let serving = std::thread::spawn(move || {
        let (stream, _) = listener.accept().expect("accept");
        let mut reader = BufReader::new(stream);
        for _ in 0..2 {
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                reader.read_line(&mut head).expect("a line");
            }
            let head = head.to_ascii_lowercase();
            write!(reader.get_mut(), "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{head}", head.len())
                .expect("write");
        }
    });
    let gateway = gateway_to(&format!("unix: '{}'", path.display()), "", "");
    let mut client = gateway.connect();
    for _ in 0..2 {
        let response = client.send("GET /x HTTP/1.1\r\nHost: app.example:8080\r\n\r\n").response();
        assert_eq!(response.status, 200);
        assert!(response.text().contains("\r\nhost: app.example:8080\r\n"), "{}", response.text());
    }
    serving.join().expect("one connection for both");
}

#[test]
fn a_socket_that_is_not_there_is_a_bad_gateway() {
    let gateway = gateway_to("unix: /nowhere/app.sock", "", "");
    let response = gateway.connect().get("/");
    assert_eq!(response.status, 502);
    assert!(!response.text().contains("nowhere"), "{}", response.text());
}
