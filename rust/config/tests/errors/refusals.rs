//! `RateLimit`, `IpFilter`, `BasicAuth` and `JwtAuth`: what is wrong in their payloads.

use crate::{VALID, case, check};

const WHERE: &str = "{plugin: far, entry: e, payload: {k: v}}";

/// One error about `text` in the payload of `plugin`.
fn wrong(plugin: &str, payload: &str, text: &str, reason: &str, help: Option<&str>) {
    case(WHERE, &format!("{{plugin: {plugin}, payload: {payload}}}"), text, reason, help);
}

fn right(plugin: &str, payload: &str) {
    let changed = VALID.replace(WHERE, &format!("{{plugin: {plugin}, payload: {payload}}}"));
    if let Err(errors) = check(&changed) {
        panic!("{errors}");
    }
}

#[test]
fn a_rate_has_a_number_and_a_time() {
    const HELP: &str =
        "write a number from 1 to 1000000 and a time, such as `100/s`, `1000/m`, `20/h` or `5/d`";
    for rate in ["100", "100/w", "/s", "-1/s", "0/s", "1000001/s", "1.5/s", "1/ s", "100 / s"] {
        wrong(
            "RateLimit",
            &format!("{{rate: '{rate}'}}"),
            &format!("'{rate}'"),
            &format!("`{rate}` is no rate"),
            Some(HELP),
        );
    }
    wrong("RateLimit", "{}", "{", "the payload of `RateLimit` needs the key `rate`", None);
    let reason = "with this `burst`, an empty bucket needs more than 31 days to fill";
    wrong("RateLimit", "{rate: 1/d, burst: 32}", "1/d", reason, None);
    right(
        "RateLimit",
        "{rate: 1/d, burst: 31, key: '${header(x-key)}', name: a, max_keys: 10, headers: always}",
    );
}

#[test]
fn a_shared_limit_has_a_name_and_its_own_stores_settings() {
    let payload = "{rate: 1/s, store: redis, redis: {host: h}}";
    let help = Some("all gateways that count together write the same one");
    wrong("RateLimit", payload, "rate", "with `store: redis` a limit needs a `name`", help);
    let payload = "{rate: 1/s, name: n, store: redis}";
    wrong("RateLimit", payload, "rate", "`store: redis` needs `redis` with its address", None);
    let payload = "{rate: 1/s, redis: {host: h}}";
    wrong("RateLimit", payload, "rate", "`redis` belongs to `store: redis`, and the store is `local`", None);
    wrong(
        "RateLimit",
        "{rate: 1/s, name: n, store: nats, nats: {messaging: brokr}}",
        "brokr",
        "unknown messaging connection: `brokr`",
        Some("did you mean `broker`?"),
    );
    let quoted = "{rate: 1/s, name: 'a\"b'}";
    let reason = "a limit's name is ASCII text without spaces and quotes: clients are told it";
    wrong("RateLimit", quoted, "'a\"b'", reason, None);
    right("RateLimit", "{rate: 1/s, name: n, store: nats, nats: {messaging: broker}, on_store_error: local}");
    right(
        "RateLimit",
        "{rate: 1/s, name: n, store: redis, redis: {url: 'rediss://u:p@h:1/2', key_prefix: x}}",
    );
}

#[test]
fn an_address_of_redis_is_told_without_its_password() {
    let help = Some("write `redis://[user:password@]host[:port][/db]`, or `rediss://` for TLS");
    for url in ["http://u:s3cret@h", "redis://u:s3cret@", "redis://u:s3cret@h:x"] {
        let payload = format!("{{rate: 1/s, name: n, store: redis, redis: {{url: '{url}'}}}}");
        let errors = check(&VALID.replace(WHERE, &format!("{{plugin: RateLimit, payload: {payload}}}")));
        let errors = errors.expect_err(url);
        assert!(!errors.to_string().contains("s3cret"), "{errors}");
        let [error] = errors.errors.as_slice() else { panic!("{errors}") };
        let said = (error.reason.as_str(), error.suggestion.as_deref());
        assert_eq!(said, ("this is no address of a Redis server", help));
    }
    let payload = "{rate: 1/s, name: n, store: redis, redis: {url: 'redis://h', db: 1}}";
    wrong("RateLimit", payload, "'redis://h'", "either a `url` or a `db`, not both", None);
}

#[test]
fn a_filter_of_addresses_has_addresses() {
    wrong(
        "IpFilter",
        "{allow: [10.0.0.0/8, 10.0.0.256]}",
        "10.0.0.256",
        "`10.0.0.256` is no address or network",
        Some("write an address such as `10.0.0.7` or a network such as `10.0.0.0/8`"),
    );
    let help = Some("write `allow: [10.0.0.0/8]` or `deny: [192.0.2.7]`");
    wrong("IpFilter", "{}", "{", "an `IpFilter` without `allow` and `deny` filters nothing", help);
    right("IpFilter", "{allow: ::1, deny: [::ffff:10.0.0.0/104]}");
}

#[test]
fn a_password_is_a_bcrypt_hash_and_is_not_shown() {
    let payload = "{users: [{name: alice, password: pl4in}]}";
    let errors = check(&VALID.replace(WHERE, &format!("{{plugin: BasicAuth, payload: {payload}}}")));
    let errors = errors.expect_err("plain text").to_string();
    assert!(
        errors.contains("the password of `alice` is no bcrypt hash (`$2y$...`), and plain text is not taken"),
        "{errors}"
    );
    assert!(errors.contains("htpasswd -nB NAME") && !errors.contains("pl4in"), "{errors}");
    wrong(
        "BasicAuth",
        "{users: [{name: 'a:b', password: '$2y$04$MCrSYeoKcyTBEYmMdRGgq.r4sJT.2VSNENLDQA9BMKi2yC6ivAzXK'}]}",
        "'a:b'",
        "the name of a user holds no `:` and no control character",
        None,
    );
    let help = Some("make a file with `htpasswd -cB users.htpasswd NAME`");
    wrong("BasicAuth", "{}", "{", "a `BasicAuth` needs `users` or a `file`", help);
}

#[test]
fn a_token_has_one_kind_of_keys_and_algorithms_that_go_with_it() {
    let secret = "0123456789abcdef0123456789abcdef";
    let help = "write `jwks: {url: https://...}` with the address that the issuer publishes its keys at";
    let reason = "a `JwtAuth` needs keys: either `jwks`, or a `public_key`, or a `secret`";
    wrong("JwtAuth", "{}", "{", reason, Some(help));
    let both = format!("{{secret: {secret}, jwks: {{url: 'https://h/k'}}}}");
    let reason = "there is one kind of keys: either `jwks`, or a `public_key`, or a `secret`";
    wrong("JwtAuth", &both, "secret", reason, None);
    let confused = "{jwks: {url: 'https://h/k'}, algorithms: [RS256, HS256]}";
    wrong("JwtAuth", confused, "HS256", "HS256 does not go with public keys", None);
    let confused = format!("{{secret: {secret}, algorithms: RS256}}");
    wrong("JwtAuth", &confused, "RS256", "RS256 does not go with a `secret`", None);
    let none = "{jwks: {url: 'https://h/k'}, algorithms: none}";
    let known = "known: `HS256`, `HS384`, `HS512`, `RS256`, `RS384`, `RS512`, `PS256`, `PS384`, `PS512`, `ES256`, \
                 `ES384`, `EdDSA`";
    wrong("JwtAuth", none, "none", "unknown algorithm of a token: `none`", Some(known));
    for url in ["ftp://h/k", "https://", "https://u:p@h/k", "/k"] {
        let payload = format!("{{jwks: {{url: '{url}'}}}}");
        // What stands before an `@` may be a password.
        let text = format!("'{}'", url.replace("u:p", "***"));
        wrong(
            "JwtAuth",
            &payload,
            &text,
            "this is no address of a key set",
            Some("write `https://host/path`"),
        );
    }
    right("JwtAuth", "{jwks: {url: 'https://h/k'}, issuer: i, audience: a, headers: {x-user: sub}}");
}

#[test]
fn a_short_secret_is_refused_and_not_shown() {
    let payload = "{secret: sh0rt}";
    let errors = check(&VALID.replace(WHERE, &format!("{{plugin: JwtAuth, payload: {payload}}}")));
    let errors = errors.expect_err("too short").to_string();
    assert!(errors.contains("the secret has 5 bytes, and these algorithms need 32 at least"), "{errors}");
    assert!(!errors.contains("sh0rt"), "{errors}");
}
