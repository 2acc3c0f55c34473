//! `auth` and `tls` of a messaging connection: what is read, from where, and what is wrong with it.

use std::path::Path;

use broker_files::BrokerFiles;
use nylon_config::{
    ConfigErrors, Loaded,
    plan::{Broker, BrokerAuth, ClientTls, Messaging, Secret},
};

/// The files that `auth` and `tls` name.
mod broker_files;

/// One connection, with `rest` in its braces.
fn load(directory: &Path, rest: &str) -> Result<Loaded, ConfigErrors> {
    let env = |name: &str| match name {
        "NATS_SERVERS" => Some("nats://ann:p%40ss@one:4222, tls://ann:p%40ss@two".to_owned()),
        "NATS_PASSWORD" => Some("from_env".to_owned()),
        "CREDS" => Some("broker/user.creds".to_owned()),
        _ => None,
    };
    let text = format!("http: [127.0.0.1:0]\nmessaging:\n  - {{name: m, {rest}}}\n");
    nylon_config::parse_str("nylon.yaml", &text, directory, &env)
}

fn messaging(directory: &Path, rest: &str) -> Messaging {
    let loaded = load(directory, rest).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(loaded.warnings, []);
    loaded.plan.messaging.into_iter().next().expect("one connection")
}

fn password(user: &str, password: &str) -> BrokerAuth {
    BrokerAuth::Password { user: user.to_owned(), password: Secret::new(password.to_owned()) }
}

#[test]
fn a_broker_is_told_who_the_gateway_is_in_one_of_four_ways() {
    let files = BrokerFiles::new();
    let auth = |rest: &str| messaging(files.path(), &format!("servers: h, auth: {{{rest}}}")).auth;
    assert_eq!(auth("user: ann, password: '${NATS_PASSWORD}'"), password("ann", "from_env"));
    assert_eq!(auth("token: t"), BrokerAuth::Token(Secret::new("t".to_owned())));
    assert_eq!(auth("nkey: broker/user.nk"), BrokerAuth::Nkey(files.path().join("broker/user.nk")));
    assert_eq!(auth("creds: '${CREDS}'"), BrokerAuth::Creds(files.path().join("broker/user.creds")));
}

#[test]
fn a_user_in_the_addresses_is_taken_out_of_them() {
    let files = BrokerFiles::new();
    let from_env = messaging(files.path(), "servers: '${NATS_SERVERS}'");
    assert_eq!(from_env.broker, Broker::Servers(vec!["nats://one:4222".to_owned(), "tls://two".to_owned()]));
    assert_eq!(from_env.auth, password("ann", "p@ss"));
    let token = messaging(files.path(), "servers: ['nats://t0ken@h']");
    assert_eq!(token.auth, BrokerAuth::Token(Secret::new("t0ken".to_owned())));
    assert!(!format!("{token:?}{from_env:?}").contains("t0ken"));
}

#[test]
fn tls_is_asked_for_by_an_address_a_flag_or_a_section() {
    let files = BrokerFiles::new();
    let tls = |rest: &str| messaging(files.path(), rest).tls;
    assert_eq!(tls("servers: h"), None);
    assert_eq!(tls("servers: h, tls: false"), None);
    assert_eq!(tls("servers: h, tls: {enabled: false}"), None);
    assert_eq!(tls("servers: h, tls: true"), Some(ClientTls::default()));
    assert_eq!(tls("servers: [h, 'tls://i']"), Some(ClientTls::default()));
    assert_eq!(
        tls(
            "servers: h, tls: {ca_file: broker/ca.pem, cert: broker/cert.pem, key: broker/key.pem, hostname: n.test}"
        ),
        Some(ClientTls {
            ca_file: Some(files.path().join("broker/ca.pem")),
            identity: Some((files.path().join("broker/cert.pem"), files.path().join("broker/key.pem"))),
            hostname: Some("n.test".to_owned()),
        })
    );
}

/// One mistake: about which text, and why.
#[test]
fn what_cannot_work_is_told_with_its_place() {
    let files = BrokerFiles::new();
    files.write("empty.pem", "");
    for (rest, text, reason) in [
        ("servers: h, auth: {nkey: no.nk}", "no.nk", "no such file"),
        ("servers: h, auth: {nkey: broker/ca.pem}", "broker/ca.pem", "not an nkey seed"),
        ("servers: h, auth: {nkey: broker/user.creds}", "broker/user.creds", "is a `.creds` file"),
        ("servers: h, auth: {creds: broker/user.nk}", "broker/user.nk", "no user JWT"),
        ("servers: h, auth: {creds: broker/user.creds, nkey: broker/user.nk}", "creds", "either `user`"),
        ("servers: h, auth: {}", "{", "`auth` says nothing"),
        ("servers: 'nats://u:p@h', auth: {nkey: broker/user.nk}", "'nats://***@h'", "not both"),
        ("servers: ['nats://u:p@h', 'nats://v:p@i']", "'nats://***@i'", "different users"),
        ("servers: ['nats://%ff@h']", "'nats://***@h'", "not UTF-8"),
        ("servers: h, tls: {ca_file: empty.pem}", "empty.pem", "holds no certificate"),
        ("servers: h, tls: {cert: broker/cert.pem}", "broker/cert.pem", "belong together"),
        ("servers: h, tls: {key: broker/key.pem}", "broker/key.pem", "belong together"),
        (
            "servers: h, tls: {cert: broker/cert.pem, key: broker/cert.pem}",
            "broker/cert.pem",
            "holds no private key",
        ),
        ("servers: h, tls: {ca_file: '${NOPE}'}", "'${NOPE}'", "is not set"),
        ("servers: h, tls: {hostname: 'a b'}", "'a b'", "is no host's name"),
        ("servers: h, tls: always", "always", "expected true, false or a mapping, found text"),
        ("embedded: true, tls: true", "m", "speaks no TLS"),
    ] {
        let errors = load(files.path(), rest).expect_err(rest).errors;
        assert_eq!(errors.len(), 1, "{rest}: {errors:?}");
        assert!(errors[0].reason.contains(reason), "{rest}: {}", errors[0]);
        assert!(errors[0].text().contains(text), "{rest}: {}", errors[0]);
        assert_eq!(errors[0].location.line, 3);
    }
}

#[cfg(unix)]
#[test]
fn a_secret_that_everybody_can_read_is_a_warning() {
    use std::os::unix::fs::PermissionsExt;
    let files = BrokerFiles::new();
    let open = |name: &str| {
        let path = files.path().join(name);
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).expect("open it");
    };
    for (file, rest) in [
        ("broker/user.nk", "auth: {nkey: broker/user.nk}"),
        ("broker/user.creds", "auth: {creds: broker/user.creds}"),
        ("broker/key.pem", "tls: {cert: broker/cert.pem, key: broker/key.pem}"),
    ] {
        open(file);
        let warnings = load(files.path(), &format!("servers: h, {rest}")).expect("valid").warnings;
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].reason.contains("chmod 600"), "{}", warnings[0]);
        assert_eq!(warnings[0].text(), file);
    }
}

#[test]
fn no_error_shows_a_password() {
    let files = BrokerFiles::new();
    for rest in [
        "servers: 'nats://u:s3cret@h:port'",
        "servers: 'http://u:s3cret@h'",
        "servers: 's3cret@h://'",
        "servers: h, auth: {user: u, passwrd: s3cret}",
        "servers: h, auth: {token: s3cret, user: u}",
        "servers: h, auth: {token: s3cret",
        "servers: h, auth: {password: 's3cret'}, zzz: 1",
    ] {
        let errors = load(files.path(), rest).expect_err(rest);
        assert!(!format!("{errors}{errors:?}").contains("s3cret"), "{errors}");
    }
}
