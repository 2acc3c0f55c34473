//! `BasicAuth`.

use super::{through, values};
use crate::client::{Client, Response};
use crate::eventually;
use crate::origin::Origin;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

fn hash(password: &str) -> String {
    bcrypt::hash(password, 4).expect("a hash")
}

fn login(client: &mut Client, pair: &str) -> Response {
    let token = STANDARD.encode(pair);
    client
        .send(format!(
            "GET / HTTP/1.1\r\nHost: a\r\nX-Authenticated-User: root\r\nAuthorization: Basic {token}\r\n\r\n"
        ))
        .response()
}

#[test]
fn a_user_with_the_right_password_gets_through_and_nobody_else() {
    let origin = Origin::echo();
    let gateway = through(
        &origin,
        &format!(
            "      - plugin: BasicAuth
        payload: {{realm: 'The \"back\" office', users: [{{name: alice, password: '{}'}}, {{name: bob, password: '{}'}}]}}",
            hash("open:sesame"),
            hash("pässword"),
        ),
    );
    let mut client = gateway.connect();
    let refused = client.get("/");
    assert_eq!(refused.status, 401);
    let challenge = "Basic realm=\"The \\\"back\\\" office\", charset=\"UTF-8\"";
    assert_eq!(refused.header("www-authenticate"), Some(challenge));
    for pair in
        ["alice:open", "alice:", "bob:open:sesame", "carol:open:sesame", ":", "alice", "ALICE:open:sesame"]
    {
        assert_eq!(login(&mut client, pair).status, 401, "{pair}");
    }
    assert_eq!(origin.requests(), 0);
    // The first time it is proven, then known.
    for _ in 0..3 {
        let let_in = login(&mut client, "alice:open:sesame");
        assert_eq!(let_in.status, 200);
        assert_eq!(
            values(let_in.text(), "x-authenticated-user"),
            ["alice"],
            "and not what the client claims"
        );
        assert_eq!(values(let_in.text(), "authorization"), [""; 0], "the password stays here");
    }
    assert_eq!(login(&mut client, "bob:pässword").status, 200);
    assert_eq!(login(&mut client, "alice:open:sesame2").status, 401, "who is known is still asked");
}

#[test]
fn a_file_of_users_counts_as_it_is_now() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("users");
    std::fs::write(&file, format!("alice:{}\n", hash("one"))).expect("write");
    let origin = Origin::echo();
    let gateway = through(
        &origin,
        &format!(
            "      - {{plugin: BasicAuth, payload: {{file: '{}', user_header: x-who, forward_authorization: true}}}}",
            file.display()
        ),
    );
    let mut client = gateway.connect();
    let let_in = login(&mut client, "alice:one");
    assert_eq!(values(let_in.text(), "x-who"), ["alice"]);
    assert_eq!(values(let_in.text(), "authorization").len(), 1);
    std::fs::write(&file, format!("alice:{}\nbob:{}\n", hash("two"), hash("b"))).expect("write");
    eventually("the new password", || login(&mut client, "alice:two").status == 200);
    assert_eq!(login(&mut client, "alice:one").status, 401, "a proof of the old one is none");
    assert_eq!(login(&mut client, "bob:b").status, 200);
    std::fs::write(&file, "alice:plain\n").expect("write");
    std::thread::sleep(std::time::Duration::from_millis(1500));
    assert_eq!(login(&mut client, "alice:two").status, 200, "a broken file changes nothing");
}

#[test]
fn passwords_that_find_no_place_are_refused_and_other_requests_go_on() {
    let origin = Origin::echo();
    // A cost at which they pile up.
    let slow = bcrypt::hash("x", 10).expect("a hash");
    let gateway = through(
        &origin,
        &format!(
            "      - plugin: BasicAuth
        payload: {{users: [{{name: slow, password: '{slow}'}}, {{name: quick, password: '{}'}}]}}",
            hash("q")
        ),
    );
    let mut known = gateway.connect();
    assert_eq!(login(&mut known, "quick:q").status, 200);
    let mut waiting: Vec<Client> = (0..100).map(|_| gateway.connect()).collect();
    let token = STANDARD.encode("slow:wrong");
    for client in &mut waiting {
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Basic {token}\r\n\r\n"));
    }
    assert_eq!(login(&mut known, "quick:q").status, 200, "who is known waits for nobody");
    let statuses: Vec<u16> = waiting.iter_mut().map(|client| client.response().status).collect();
    assert!(statuses.contains(&503), "{statuses:?}");
    assert!(statuses.contains(&401) || statuses.contains(&504), "{statuses:?}");
    assert!(!statuses.contains(&200), "{statuses:?}");
}
