//! `JwtAuth`.

use super::{through, values};
use crate::Gateway;
use crate::client::{Client, Response};
use crate::eventually;
use crate::origin::Origin;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn in_seconds(seconds: i64) -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a time").as_secs() as i64 + seconds
}

fn token(header: Value, claims: Value, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(header), part(claims));
    let signature = sign(message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn by_secret(claims: Value) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    token(json!({ "alg": "HS256" }), claims, |message| hmac::sign(&key, message).as_ref().to_vec())
}

/// Somebody who signs, with a key of that name.
struct Issuer {
    id: &'static str,
    pair: Ed25519KeyPair,
}

impl Issuer {
    fn new(id: &'static str) -> Issuer {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key");
        Issuer { id, pair: Ed25519KeyPair::from_pkcs8(document.as_ref()).expect("a key") }
    }

    fn jwk(&self) -> Value {
        let x = URL_SAFE_NO_PAD.encode(self.pair.public_key().as_ref());
        json!({ "kty": "OKP", "crv": "Ed25519", "kid": self.id, "x": x })
    }

    fn token(&self) -> String {
        let header = json!({ "alg": "EdDSA", "kid": self.id });
        token(header, json!({ "sub": "a", "exp": in_seconds(60) }), |message| {
            self.pair.sign(message).as_ref().to_vec()
        })
    }
}

fn with(client: &mut Client, target: &str, fields: &str) -> Response {
    client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).response()
}

fn bearing(client: &mut Client, token: &str) -> Response {
    with(client, "/", &format!("Authorization: Bearer {token}\r\nX-User: root\r\nX-Roles: admin\r\n"))
}

#[test]
fn a_token_says_who_it_is_and_what_is_wrong_with_it() {
    let origin = Origin::echo();
    let gateway = through(
        &origin,
        &format!(
            "      - plugin: JwtAuth
        payload:
          secret: {SECRET}
          issuer: https://idp
          audience: [api]
          realm: shop
          scopes: [read, write]
          headers: {{x-user: sub, x-roles: realm.roles}}"
        ),
    );
    let mut client = gateway.connect();
    let claims = |changes: Value| {
        let mut claims = json!({
            "iss": "https://idp", "aud": "api", "sub": "alice", "exp": in_seconds(60), "scope": "read write",
        });
        changes.as_object().expect("an object").iter().for_each(|(name, value)| claims[name] = value.clone());
        by_secret(claims)
    };
    let let_in = bearing(&mut client, &claims(json!({ "realm": { "roles": ["ops", "dev"] } })));
    assert_eq!(let_in.status, 200, "{}", let_in.text());
    assert_eq!(
        (values(let_in.text(), "x-user"), values(let_in.text(), "x-roles")),
        (vec!["alice"], vec!["ops,dev"])
    );
    assert_eq!(values(let_in.text(), "authorization").len(), 1);
    let let_in = bearing(&mut client, &claims(json!({})));
    assert_eq!(values(let_in.text(), "x-roles"), [""; 0], "what the client claims is gone");

    let none = client.get("/");
    assert_eq!((none.status, none.header("www-authenticate")), (401, Some("Bearer realm=\"shop\"")));
    for (token, status, said) in [
        (
            claims(json!({ "exp": in_seconds(-31) })),
            401,
            "error=\"invalid_token\", error_description=\"the token has expired\"",
        ),
        (claims(json!({ "nbf": in_seconds(60) })), 401, "not valid yet"),
        (claims(json!({ "aud": "web" })), 401, "another audience"),
        (claims(json!({ "iss": "https://evil" })), 401, "another issuer"),
        (claims(json!({ "sub": "a\r\nx-admin: 1" })), 401, "cannot stand in a header"),
        (format!("{}x", claims(json!({}))), 401, "invalid_token"),
        (claims(json!({ "scope": "read" })), 403, "error=\"insufficient_scope\""),
    ] {
        let refused = bearing(&mut client, &token);
        let challenge = refused.header("www-authenticate").expect("a challenge");
        assert_eq!(refused.status, status, "{challenge}");
        assert!(challenge.contains(said), "{challenge}");
        assert_eq!(challenge.contains("scope=\"read write\""), status == 403);
    }
    let two = with(&mut client, "/", "Authorization: Bearer a.b.c\r\nAuthorization: Bearer a.b.c\r\n");
    assert_eq!(two.status, 400);
    assert_eq!(origin.requests(), 2);
}

#[test]
fn a_token_may_stand_in_a_cookie_or_the_query_and_stay_here() {
    let origin = Origin::echo();
    let gateway = through(
        &origin,
        &format!(
            "      - plugin: JwtAuth
        payload: {{secret: {SECRET}, cookie: session, query: access_token, forward_token: false}}"
        ),
    );
    let mut client = gateway.connect();
    let token = by_secret(json!({ "exp": in_seconds(60) }));
    let seen = with(&mut client, "/?a=1&access_token=x", &format!("Cookie: a=1; session={token}; b=2\r\n"));
    assert_eq!(values(seen.text(), "cookie"), ["a=1; b=2"]);
    assert!(seen.text().starts_with("GET /?a=1 "), "{}", seen.text());
    let seen = with(&mut client, &format!("/?access_token={token}"), "Cookie: other=1\r\n");
    assert!(seen.text().starts_with("GET / ") && !seen.text().contains(&token), "{}", seen.text());
    let seen = with(&mut client, "/", &format!("Authorization: bearer {token}\r\n"));
    assert_eq!((seen.status, seen.text().contains(&token)), (200, false));
    assert_eq!(with(&mut client, "/", "Authorization: Basic YTpi\r\n").status, 401);
    assert_eq!(with(&mut client, "/", &format!("Cookie: session={token}; session=x\r\n")).status, 400);
}

#[test]
fn keys_are_fetched_rotated_and_kept() {
    let (first, second, stranger) = (Issuer::new("1"), Issuer::new("2"), Issuer::new("3"));
    let answer = Arc::new(Mutex::new(Some(json!({ "keys": [first.jwk()] }).to_string())));
    let fetches = Arc::new(AtomicUsize::new(0));
    let (shared, counted) = (answer.clone(), fetches.clone());
    let keys = Origin::start(move |connection| {
        while connection.request()?.is_some() {
            counted.fetch_add(1, Ordering::SeqCst);
            let body = shared.lock().expect("no panic").clone();
            connection.write(match body {
                Some(body) => format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()),
                None => "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".to_owned(),
            })?;
        }
        Ok(())
    });
    let origin = Origin::echo();
    let gateway = through(
        &origin,
        &format!(
            "      - plugin: JwtAuth
        payload: {{jwks: {{url: 'http://127.0.0.1:{}/keys', min_refresh_seconds: 1}}}}",
            keys.port
        ),
    );
    let mut client = gateway.connect();
    // The first request waits for the first fetch.
    assert_eq!(bearing(&mut client, &first.token()).status, 200);
    assert_eq!(fetches.load(Ordering::SeqCst), 1);
    *answer.lock().expect("no panic") = Some(json!({ "keys": [second.jwk()] }).to_string());
    eventually("the rotated key", || bearing(&mut client, &second.token()).status == 200);
    assert_eq!(bearing(&mut client, &first.token()).status, 401, "the old one is gone");

    // A flood of keys that nobody knows costs a fetch a second and no more.
    let before = (fetches.load(Ordering::SeqCst), std::time::Instant::now());
    for _ in 0..100 {
        assert_eq!(bearing(&mut client, &stranger.token()).status, 401);
    }
    let spent = before.1.elapsed().as_secs() as usize;
    assert!(fetches.load(Ordering::SeqCst) - before.0 <= spent + 2);

    // Neither an error nor nonsense takes away what is there.
    for nonsense in [None, Some("<html>".to_owned()), Some("{\"keys\":[]}".to_owned())] {
        *answer.lock().expect("no panic") = nonsense;
        let seen = fetches.load(Ordering::SeqCst);
        eventually("another fetch", || {
            bearing(&mut client, &stranger.token());
            fetches.load(Ordering::SeqCst) > seen
        });
        assert_eq!(bearing(&mut client, &second.token()).status, 200);
    }
}

#[test]
fn without_keys_nobody_gets_in() {
    let origin = Origin::echo();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("bind").local_addr().expect("an address");
    let gateway = through(
        &origin,
        &format!("      - {{plugin: JwtAuth, payload: {{jwks: {{url: 'http://{closed}/keys'}}}}}}"),
    );
    let mut client = gateway.connect();
    assert_eq!(bearing(&mut client, &Issuer::new("1").token()).status, 503);
    assert_eq!(origin.requests(), 0);
}

#[test]
fn a_file_of_keys_counts_as_it_is_now() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("keys.json");
    let (first, second) = (Issuer::new("1"), Issuer::new("2"));
    std::fs::write(&file, json!({ "keys": [first.jwk()] }).to_string()).expect("write");
    let origin = Origin::echo();
    let config = format!("      - {{plugin: JwtAuth, payload: {{jwks: {{file: '{}'}}}}}}", file.display());
    let gateway: Gateway = through(&origin, &config);
    let mut client = gateway.connect();
    assert_eq!(bearing(&mut client, &first.token()).status, 200);
    assert_eq!(bearing(&mut client, &second.token()).status, 401);
    std::fs::write(&file, json!({ "keys": [second.jwk()] }).to_string()).expect("write");
    eventually("the new key", || bearing(&mut client, &second.token()).status == 200);
    assert_eq!(bearing(&mut client, &first.token()).status, 401);
}
