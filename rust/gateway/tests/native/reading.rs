//! What libraries read.

use crate::gateway::{Gateway, eventually, host_with};
use crate::origin::Origin;
use nylon_config::plan::CallbackMemory;
use std::collections::HashMap;

const ORIGIN: &str = "HTTP/1.1 200 OK\r\nX-Origin: here\r\nContent-Length: 5\r\n\r\nhello";
const REQUEST: &str =
    "GET /a%20b?c=d HTTP/1.1\r\nHost: shop.example:81\r\nX-Two: 1\r\nX-Two: caf\u{e9}\r\n\r\n";

fn answers(text: &str) -> HashMap<u32, Vec<&str>> {
    let mut found: HashMap<u32, Vec<&str>> = HashMap::new();
    for (number, answer) in text.lines().filter_map(|line| line.split_once('=')) {
        found.entry(number.parse().expect("a number")).or_default().push(answer);
    }
    found
}

#[test]
fn every_question_has_its_answer_and_absent_things_are_empty() {
    let log = tempfile::NamedTempFile::new().expect("a file");
    let origin = Origin::answering(ORIGIN);
    let middleware = "[{plugin: x, entry: reads, payload: {a: [1, -2, 1.5, null, true, \"\u{e9}\\\"\"]}}]";
    let path = log.path().to_str().expect("text");
    let library = host_with("mirror", CallbackMemory::Plugin, path);
    let gateway = Gateway::start(library, origin.port, middleware, "");
    let response = gateway.connect().send(REQUEST).response();
    let found = answers(response.text());
    let one = |number: u32| found[&number][0];
    assert_eq!(one(3), "{\"a\":[1,-2,1.5,null,true,\"\u{e9}\\\"\"]}");
    assert_eq!(found[&201], ["1, caf\u{e9}", ""], "joined, by any spelling of the name; absent is empty");
    assert_eq!((one(114), one(203)), ("here", "http://shop.example:81/a%20b?c=d"));
    assert_eq!(
        (one(204), one(205), one(206), one(207)),
        ("/a%20b", "c=d", "{\"rest\":\"a b\"}", "shop.example:81")
    );
    assert_eq!((one(208), one(209), one(210)), ("127.0.0.1", "GET", "0"));
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock").as_millis();
    let asked: u128 = one(211).parse().expect("milliseconds");
    assert!(asked <= now && now - asked < 60_000, "{asked}");
    assert_eq!((one(212).len(), one(213), one(214), one(215)), (32, "http", "1.1", "1"));
    assert_eq!((one(108), one(109), one(111), one(112)), ("200", "5", "", ""));
    eventually("the logging has run", || {
        std::fs::read_to_string(log.path()).is_ok_and(|log| log.contains("112="))
    });
    let log = std::fs::read_to_string(log.path()).expect("text");
    let logged = answers(&log);
    assert_eq!(logged[&109][0], response.body.len().to_string());
    let took: u64 = logged[&111][0].parse().expect("milliseconds");
    assert!(took < 60_000);
}

#[test]
fn all_fields_come_in_one_list_joined_and_as_they_are() {
    let origin = Origin::answering(ORIGIN);
    let gateway = Gateway::with("mirror", "list", origin.port);
    let head =
        b"GET / HTTP/1.1\r\nHost: test\r\nCookie: a=1\r\nCookie: b=2\r\nX-Two: 1\r\nX-Two: caf\xe9\r\n\r\n";
    let list = gateway.connect().send(head).response().body;
    let fields = nylon_abi::fields::decode_fields(&list).expect("a list of fields");
    let value = |name: &[u8]| {
        let mut found = fields.iter().filter(|(known, _)| *known == name);
        let value = found.next().map(|(_, value)| *value);
        assert!(found.next().is_none());
        value
    };
    assert_eq!(value(b"cookie"), Some(&b"a=1; b=2"[..]));
    assert_eq!(value(b"x-two"), Some(&b"1, caf\xe9"[..]));
    assert_eq!(value(b"host"), Some(&b"test"[..]));
}

#[test]
fn what_a_library_announces_is_what_it_gets() {
    let origin = Origin::answering(ORIGIN);
    let post = "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\n\r\nabc";
    let with = |entry: &str| Gateway::with("mirror", entry, origin.port);
    assert_eq!(with("body").connect().send(post).response().text(), "abc");
    assert_eq!(with("whole").connect().get("/").text(), "<hello>");
    assert_eq!(with("chunks").connect().get("/").text(), "heLLo!");
}
