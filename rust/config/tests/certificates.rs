//! `https`, `tls` and `tls` of a route: what becomes of them, and what is wrong with them.

use certificate_files::CertificateFiles;
use nylon_config::{
    ConfigErrors, Loaded,
    plan::{CertificateSource, HttpsTarget, PlainRequests},
};

/// The files that `tls` names.
mod certificate_files;

const FITTING: &str = "cert: a.pem, key: a-key.pem, domains: [a.test]";

fn files() -> CertificateFiles {
    let files = CertificateFiles::new();
    files.issue("a", &["a.test", "*.b.test"], |_| {});
    files.issue("c", &["c.test"], |_| {});
    files
}

fn parse(files: &CertificateFiles, text: &str) -> Result<Loaded, ConfigErrors> {
    nylon_config::parse_str("nylon.yaml", text, files.path(), &|_| None)
}

/// An HTTPS address, and a certificate with `rest` in its braces.
fn load(files: &CertificateFiles, rest: &str) -> Result<Loaded, ConfigErrors> {
    parse(files, &format!("https: [127.0.0.1:0]\ntls:\n  - {{{rest}}}\n"))
}

#[test]
fn a_certificate_comes_from_its_files() {
    let files = files();
    files.write("chain.pem", &std::fs::read_to_string(files.path().join("c.pem")).expect("a chain"));
    let loaded = load(
        &files,
        "type: custom, cert: a.pem, key: a-key.pem, chain: chain.pem, domains: [A.test, '*.B.test', x.b.test]",
    );
    let loaded = loaded.unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(loaded.warnings, []);
    assert_eq!((loaded.plan.http.len(), loaded.plan.https.len()), (0, 1));
    let [certificate] = &loaded.plan.certificates[..] else { panic!("one certificate") };
    assert_eq!(certificate.domains, ["a.test", "*.b.test", "x.b.test"]);
    let CertificateSource::Custom(found) = &certificate.source else { panic!("from files") };
    let served = nylon_config::certificates::load(found).expect("a certificate");
    assert_eq!((served.certified.cert.len(), served.about.names.len()), (2, 2));
    // Without `type`, and with a chain that holds the certificate itself.
    let again =
        load(&files, "cert: a.pem, key: a-key.pem, chain: [a.pem], domains: [a.test]").expect("valid");
    let CertificateSource::Custom(found) = &again.plan.certificates[0].source else { panic!("from files") };
    assert_eq!(nylon_config::certificates::load(found).expect("a certificate").certified.cert.len(), 1);
}

#[test]
fn what_cannot_be_served_is_an_error_with_its_place() {
    let files = files();
    files.write("empty.pem", "");
    files.write("broken.pem", "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n");
    files.write("noise.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    files.write("noise-key.pem", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    for (rest, text, reason) in [
        ("cert: no.pem, key: a-key.pem, domains: [a.test]", "no.pem", "no such file"),
        ("cert: a.pem, key: no.pem, domains: [a.test]", "no.pem", "no such file"),
        ("cert: a.pem, key: a-key.pem, chain: [no.pem], domains: [a.test]", "no.pem", "no such file"),
        ("cert: empty.pem, key: a-key.pem, domains: [a.test]", "empty.pem", "holds no certificate"),
        ("cert: broken.pem, key: a-key.pem, domains: [a.test]", "broken.pem", "no base64"),
        ("cert: noise.pem, key: a-key.pem, domains: [a.test]", "noise.pem", "a malformed certificate"),
        ("cert: a-key.pem, key: a-key.pem, domains: [a.test]", "a-key.pem", "holds no certificate"),
        ("cert: a.pem, key: a.pem, domains: [a.test]", "a.pem", "holds no private key"),
        ("cert: a.pem, key: noise-key.pem, domains: [a.test]", "noise-key.pem", "TLS has no use for"),
        ("cert: a.pem, key: c-key.pem, domains: [a.test]", "c-key.pem", "the key of another certificate"),
        ("cert: a.pem, domains: [a.test]", "cert", "needs the key `key`"),
        ("type: custom, key: a-key.pem, domains: [a.test]", "type", "needs the key `cert`"),
        ("cert: a.pem, key: a-key.pem", "cert", "needs the key `domains`"),
        ("cert: a.pem, key: a-key.pem, domains: ['a test']", "'a test'", "is no domain"),
        ("cert: a.pem, key: a-key.pem, domains: ['a.*.test']", "'a.*.test'", "is no domain"),
        ("cert: a.pem, key: a-key.pem, domains: ['*']", "'*'", "is no domain"),
        (
            "cert: a.pem, key: a-key.pem, domains: [a.test, A.TEST]",
            "A.TEST",
            "has a certificate already, see",
        ),
    ] {
        let errors = load(&files, rest).expect_err(rest).errors;
        let [error] = &errors[..] else { panic!("{rest}: {errors:?}") };
        assert_eq!((error.text(), error.location.line), (text, 3), "{rest}: {error}");
        assert!(error.reason.contains(reason), "{rest}: {error}");
    }
}

#[test]
fn a_certificate_that_clients_will_refuse_is_a_warning() {
    let files = files();
    files.issue("old", &["a.test"], |params| params.not_after = rcgen::date_time_ymd(2020, 1, 1));
    files.issue("new", &["a.test"], |params| params.not_before = rcgen::date_time_ymd(3000, 1, 1));
    files.issue("nameless", &[], |_| {});
    for (rest, text, reason) in [
        ("cert: old.pem, key: old-key.pem, domains: [a.test]", "old.pem", "has expired"),
        ("cert: new.pem, key: new-key.pem, domains: [a.test]", "new.pem", "is not valid yet"),
        ("cert: a.pem, key: a-key.pem, domains: [a.test, d.test]", "d.test", "it is for a.test, *.b.test"),
        ("cert: a.pem, key: a-key.pem, domains: ['*.a.test']", "'*.a.test'", "does not cover `*.a.test`"),
        ("cert: a.pem, key: a-key.pem, domains: [x.y.b.test]", "x.y.b.test", "does not cover `x.y.b.test`"),
        ("cert: nameless.pem, key: nameless-key.pem, domains: [a.test]", "a.test", "no names at all"),
        (
            "cert: a.pem, key: a-key.pem, domains: [a.test, 127.0.0.1]",
            "127.0.0.1",
            "gets the first certificate",
        ),
    ] {
        let warnings = load(&files, rest).unwrap_or_else(|errors| panic!("{rest}: {errors}")).warnings;
        let [warning] = &warnings[..] else { panic!("{rest}: {warnings:?}") };
        assert_eq!((warning.text(), warning.location.line), (text, 3), "{rest}: {warning}");
        assert!(warning.reason.contains(reason), "{rest}: {warning}");
    }
}

#[cfg(unix)]
#[test]
fn a_key_that_everybody_can_read_is_a_warning() {
    use std::os::unix::fs::PermissionsExt;
    let files = files();
    let key = files.path().join("a-key.pem");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).expect("changed");
    let warnings = load(&files, FITTING).expect("valid").warnings;
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].text() == "a-key.pem" && warnings[0].reason.contains("chmod 600"), "{}", warnings[0]);
}

#[test]
fn addresses_and_certificates_belong_together() {
    let files = files();
    let without = parse(&files, "https: [127.0.0.1:8443]\n").expect_err("no certificate").errors;
    assert_eq!((without.len(), without[0].text()), (1, "127.0.0.1:8443"));
    assert_eq!(without[0].reason, "an `https` address needs a certificate");
    let unused =
        parse(&files, &format!("http: [127.0.0.1:0]\ntls: [{{{FITTING}}}]\n")).expect("valid").warnings;
    assert_eq!((unused.len(), unused[0].text()), (1, "cert"));
    let text = format!("http: [127.0.0.1:8443]\nhttps: [127.0.0.1:8443]\ntls: [{{{FITTING}}}]\n");
    let twice = parse(&files, &text).expect_err("one address").errors;
    assert_eq!((twice.len(), twice[0].location.line), (1, 2));
    assert!(twice[0].reason.contains("already listened on, see nylon.yaml:1:"), "{}", twice[0]);
    // Port 0 is another one each time.
    let text = format!("http: [127.0.0.1:0]\nhttps: [127.0.0.1:0]\ntls: [{{{FITTING}}}]\n");
    assert_eq!(parse(&files, &text).expect("valid").plan.https.len(), 1);
}

/// A route with `tls` and what else stands at the top.
fn route(files: &CertificateFiles, tls: &str, top: &str) -> Result<Loaded, ConfigErrors> {
    parse(
        files,
        &format!(
            "http: [127.0.0.1:0]
{top}
services: [{{name: s, service_type: http, endpoints: [{{ip: 127.0.0.1, port: 1}}]}}]
routes:
  - {{name: r, route: {{type: host, value: '*'}}, tls: {tls}, paths: [{{path: /, service: {{name: s}}}}]}}
"
        ),
    )
}

#[test]
fn a_route_says_what_becomes_of_plain_requests() {
    let files = files();
    let top = format!("https: [127.0.0.1:0]\ntls: [{{{FITTING}}}]");
    let plain = |tls: &str| {
        let loaded = route(&files, tls, &top).unwrap_or_else(|errors| panic!("{tls}: {errors}"));
        assert_eq!(loaded.warnings, []);
        loaded.plan.routes[0].plain.clone()
    };
    let target = |authority: &[&str], path: Option<&str>| {
        let authority = authority.iter().map(|part| (*part).to_owned()).collect();
        Some(PlainRequests::Redirected(HttpsTarget { authority, path: path.map(str::to_owned) }))
    };
    assert_eq!(plain("{enabled: false, redirect: 'https://a.test'}"), None);
    assert_eq!(plain("{enabled: true}"), Some(PlainRequests::Refused));
    assert_eq!(plain("{redirect: false}"), Some(PlainRequests::Refused));
    assert_eq!(plain("{redirect: true}"), target(&["", ""], None));
    assert_eq!(plain("{redirect: a.test}"), target(&["a.test"], None));
    assert_eq!(plain("{redirect: 'https://a.test/'}"), target(&["a.test"], None));
    assert_eq!(plain("{redirect: 'http://${host}:8443'}"), target(&["", ":8443"], None));
    assert_eq!(plain("{redirect: 'a.test/b?c=d'}"), target(&["a.test"], Some("/b?c=d")));
    for wrong in ["'https://'", "'a b'", "'u@a.test'", "'${host'", "'a.test:x'", "'a.test/ b'", "'${path}'"] {
        let errors = route(&files, &format!("{{redirect: {wrong}}}"), &top).expect_err(wrong).errors;
        assert_eq!((errors.len(), errors[0].text()), (1, wrong.replace("u@", "*@").as_str()));
        assert_eq!(errors[0].reason, "this is no host to redirect to");
    }
}

#[test]
fn a_route_that_nobody_can_reach_is_a_warning() {
    let files = files();
    let warnings = route(&files, "{enabled: true}", "").expect("valid").warnings;
    assert_eq!((warnings.len(), warnings[0].text()), (1, "enabled"));
    assert!(warnings[0].reason.contains("nobody can come over TLS"), "{}", warnings[0]);
    // A trusted proxy may speak TLS for us.
    assert_eq!(route(&files, "{enabled: true}", "trusted_proxies: [10.0.0.1]").expect("valid").warnings, []);
}

#[test]
fn the_examples_of_the_manual_are_valid() {
    let manual = std::fs::read_to_string("../../docs/tls.md").expect("the manual");
    let (chapter, _) = manual.split_once("## Certificates by ACME").expect("a chapter");
    let files = CertificateFiles::new();
    files.issue("example", &["example.com", "*.example.com"], |_| {});
    files.issue("other", &["other.test"], |_| {});
    files.issue("chain", &["authority"], |_| {});
    let examples: Vec<_> =
        chapter.split("```yaml\n").skip(1).filter_map(|block| block.split("```").next()).collect();
    assert!(!examples.is_empty());
    for text in examples {
        let loaded = parse(&files, text).unwrap_or_else(|errors| panic!("{errors}\nin\n{text}"));
        assert_eq!(loaded.warnings, [], "{text}");
    }
    // The ways to redirect that its table shows.
    let rows: Vec<_> = chapter.lines().filter(|line| line.starts_with("| `{")).collect();
    let top =
        "https: [127.0.0.1:0]\ntls: [{cert: example.pem, key: example-key.pem, domains: [example.com]}]";
    let mut tried = 0;
    for tls in rows.iter().flat_map(|row| row.split('`').filter(|part| part.starts_with('{'))) {
        route(&files, tls, top).unwrap_or_else(|errors| panic!("{tls}: {errors}"));
        tried += 1;
    }
    assert!(tried >= 6, "{tried}");
}
