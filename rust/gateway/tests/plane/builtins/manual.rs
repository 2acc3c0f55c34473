//! The examples of `docs/built-ins.md`, as they stand.
//!
//! A `yaml` block is the middleware of a route. An `http request` that follows is sent through it; what stands in `http
//! service` and `http response` must be among the lines that the service and the client got, `...` is any value, and what
//! stands behind a `!` must not be there.

use super::through;
use crate::Gateway;
use crate::client::Client;
use crate::origin::Origin;

const MANUAL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/built-ins.md");

/// The text of each fenced block, with the word behind its fence.
fn blocks(text: &str) -> Vec<(&str, &str)> {
    let fenced = text.split("\n```").skip(1).step_by(2);
    fenced.filter_map(|part| part.split_once('\n')).collect()
}

/// Whether `line` of the manual is among those that came: the first one as it is, fields by name and value.
fn is_there(line: &str, came: &[String]) -> bool {
    match line.strip_suffix(": ...") {
        Some(name) => came.iter().any(|known| {
            known.split_once(": ").is_some_and(|(known, value)| known == name && !value.is_empty())
        }),
        None => came.iter().any(|known| known == line || known.split(": ").next() == Some(line)),
    }
}

fn check(expected: &str, came: &[String]) {
    for line in expected.lines() {
        let (wanted, line) = match line.strip_prefix('!') {
            Some(line) => (false, line),
            None => (true, line),
        };
        assert_eq!(is_there(line, came), wanted, "`{line}` in\n{expected}\ncame:\n{}", came.join("\n"));
    }
}

/// A service that has an answer for each example.
fn service() -> Origin {
    Origin::start(|connection| {
        let body = "a line of a report that is long enough\n".repeat(100);
        while connection.request()?.is_some() {
            connection.write(format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nETag: \"v1\"\r\nServer: origin\r\n\
                 Content-Length: {}\r\n\r\n{body}",
                body.len()
            ))?;
        }
        Ok(())
    })
}

#[test]
fn the_examples_of_the_manual_do_what_it_says() {
    let manual = std::fs::read_to_string(MANUAL).expect("the manual");
    let origin = service();
    let mut gateway: Option<Gateway> = None;
    let mut client: Option<Client> = None;
    let mut response = Vec::new();
    let mut checked = 0;
    for (kind, text) in blocks(&manual) {
        match kind {
            "yaml" => {
                let items = text.strip_prefix("middleware:\n").expect("the middleware of a route");
                let indented: String = items.lines().map(|line| format!("    {line}\n")).collect();
                let started = gateway.insert(through(&origin, &indented));
                client = Some(started.connect());
            }
            "http request" => {
                let client = client.as_mut().expect("a yaml block before");
                let request = text.trim_end().replace('\n', "\r\n") + "\r\n\r\n";
                let came = client.send(request).response();
                let fields = came.headers.iter().map(|(name, value)| format!("{name}: {value}"));
                response = std::iter::once(came.first.clone()).chain(fields).collect();
            }
            "http service" => {
                let seen = origin.seen(|seen| seen.requests.last().cloned()).expect("a request");
                check(text, &seen.lines().map(str::to_owned).collect::<Vec<_>>());
                checked += 1;
            }
            "http response" => {
                check(text, &response);
                checked += 1;
            }
            other => panic!("nobody tries a block of `{other}`"),
        }
    }
    assert!(checked >= 9, "{checked}");
}
