//! Certificates by ACME: what is asked of whom, by which proof, and what is wrong with it.

use std::path::{Path, PathBuf};

use nylon_config::plan::{Acme, CertificateSource, Challenge, Plan};
use nylon_config::{ConfigErrors, Loaded};

fn load(text: &str) -> Result<Loaded, ConfigErrors> {
    let env = |name: &str| match name {
        "EAB_KEY" => Some("c2VjcmV0".to_owned()),
        "STORE" => Some("/var/lib/nylon".to_owned()),
        _ => None,
    };
    nylon_config::parse_str("nylon.yaml", text, Path::new("/etc/nylon"), &env)
}

/// A gateway with these listeners and this one certificate.
fn written(listeners: &str, certificate: &str) -> String {
    format!("{listeners}\nacme: ./acme\ntls:\n  - {certificate}\n")
}

const BOTH: &str = "http: [127.0.0.1:0]\nhttps: [127.0.0.1:0]";

fn acme_of(plan: &Plan) -> &Acme {
    match &plan.certificates[0].source {
        CertificateSource::Acme(acme) => acme,
        CertificateSource::Custom(_) => panic!("it is obtained"),
    }
}

fn acme(text: &str) -> Acme {
    let loaded = load(text).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(loaded.warnings, [], "{text}");
    acme_of(&loaded.plan).clone()
}

/// The one error about `certificate`: its text, its reason and its help.
fn refused(listeners: &str, certificate: &str) -> (String, String, String) {
    let text = written(listeners, certificate);
    let errors = load(&text).expect_err(&text).errors;
    let [error] = errors.as_slice() else {
        panic!("{text} gives {}", ConfigErrors { errors, warnings: Vec::new() });
    };
    (error.text().to_owned(), error.reason.clone(), error.suggestion.clone().unwrap_or_default())
}

#[test]
fn little_needs_to_be_written() {
    let loaded = load(&written(BOTH, "{domains: [A.example, b.example]}")).expect("valid");
    let acme = acme_of(&loaded.plan);
    assert_eq!(loaded.plan.certificates[0].domains, ["a.example", "b.example"]);
    assert_eq!(acme.storage, PathBuf::from("/etc/nylon/./acme"));
    assert_eq!(acme.authority.directory_url, "https://acme-v02.api.letsencrypt.org/directory");
    assert_eq!((&acme.authority.ca_file, &acme.email, &acme.external_account), (&None, &None, &None));
}

#[test]
fn keys_stand_in_the_section_or_beside_it() {
    let keys = "email: 'mailto:me@a.example', directory_url: 'https://ca.example/dir', challenge: tls-alpn-01, eab_kid: me, eab_hmac_key: '${EAB_KEY}'";
    let inside = acme(&written(BOTH, &format!("{{type: acme, domains: [a.example], acme: {{{keys}}}}}")));
    let beside = acme(&written(BOTH, &format!("{{type: acme, domains: [a.example], {keys}}}")));
    assert_eq!(inside, beside);
    assert_eq!(inside.email.as_deref(), Some("me@a.example"));
    assert_eq!(inside.authority.directory_url, "https://ca.example/dir");
    assert_eq!(inside.challenge, Challenge::TlsAlpn01);
    let account = inside.external_account.expect("an account");
    assert_eq!((account.key_id.as_str(), account.hmac_key.reveal()), ("me", "c2VjcmV0"));
    let (text, reason, _) =
        refused(BOTH, "{domains: [a.example], email: a@b.example, acme: {email: c@d.example}}");
    assert_eq!(
        (text.as_str(), reason.as_str()),
        ("*@d.example", "`email` is already set at nylon.yaml:5:35")
    );
}

#[test]
fn the_directory_may_come_from_the_environment() {
    let text = written(BOTH, "{domains: [a.example]}").replace("./acme", "'${STORE}'");
    assert_eq!(acme(&text).storage, PathBuf::from("/var/lib/nylon"));
}

#[test]
fn staging_and_provider_choose_the_directory() {
    let url = |keys: &str| {
        acme(&written(BOTH, &format!("{{domains: [a.example], {keys}}}"))).authority.directory_url
    };
    let account = "eab_kid: me, eab_hmac_key: c2VjcmV0";
    assert_eq!(url("staging: true"), "https://acme-staging-v02.api.letsencrypt.org/directory");
    assert_eq!(
        url("provider: letsencrypt, staging: false"),
        "https://acme-v02.api.letsencrypt.org/directory"
    );
    assert_eq!(url(&format!("provider: zerossl, {account}")), "https://acme.zerossl.com/v2/DV90");
    assert_eq!(
        url(&format!("provider: google, acme: {{staging: true, {account}}}")),
        "https://dv.acme-v02.test-api.pki.goog/directory"
    );
    let both = "{domains: [a.example], staging: true, directory_url: 'https://ca.example/'}";
    let loaded = load(&written(BOTH, both)).expect("valid");
    assert_eq!(acme_of(&loaded.plan).authority.directory_url, "https://ca.example/");
    assert_eq!(loaded.warnings[0].reason, "`staging` has no effect beside `directory_url`");
}

#[test]
fn the_proof_is_shown_where_an_authority_looks() {
    let chosen = |listeners: &str| acme(&written(listeners, "{domains: [a.example]}")).challenge;
    for (listeners, challenge) in [
        ("http: [0.0.0.0:80]\nhttps: [0.0.0.0:443]", Challenge::Http01),
        ("http: [127.0.0.1:8080]\nhttps: [0.0.0.0:443]", Challenge::TlsAlpn01),
        ("http: [127.0.0.1:8080]\nhttps: [127.0.0.1:8443]", Challenge::Http01),
        ("https: [127.0.0.1:8443]", Challenge::TlsAlpn01),
    ] {
        assert_eq!(chosen(listeners), challenge, "{listeners}");
    }
}

#[test]
fn what_cannot_be_obtained_is_told() {
    for (listeners, certificate, text, reason, help) in [
        (
            BOTH,
            "{domains: [a.example, '*.a.example']}",
            "'*.a.example'",
            "`*.a.example` cannot be obtained by ACME: authorities want a proof in DNS for a wildcard",
            "name the hosts one by one, or use a certificate of type `custom`",
        ),
        (BOTH, "{domains: []}", "domains", "a certificate by ACME needs a domain", ""),
        (
            "https: [127.0.0.1:0]",
            "{domains: [a.example], challenge: http-01}",
            "http-01",
            "`http-01` needs an `http` address",
            "",
        ),
        (
            BOTH,
            "{domains: [a.example], challenge: dns-01}",
            "dns-01",
            "unknown challenge: `dns-01`",
            "known: `http-01`, `tls-alpn-01`",
        ),
        (
            BOTH,
            "{domains: [a.example], directory_url: 'http://ca.example/'}",
            "'http://ca.example/'",
            "`http://ca.example/` is no URL of an ACME directory",
            "write one such as `https://acme.example.com/directory`: the protocol wants `https`",
        ),
        (
            BOTH,
            "{domains: [a.example], eab_kid: me}",
            "me",
            "`eab_kid` and `eab_hmac_key` belong together",
            "",
        ),
        (
            BOTH,
            "{domains: [a.example], eab_kid: me, eab_hmac_key: 'a b'}",
            "'***'",
            "`eab_hmac_key` is no base64url, as which authorities give it",
            "",
        ),
        (
            BOTH,
            "{domains: [a.example], provider: zerossl}",
            "zerossl",
            "this provider issues only to accounts that it knows",
            "make one there, and set `eab_kid` and `eab_hmac_key`",
        ),
        (
            BOTH,
            "{domains: [a.example], provider: zerossl, staging: true, eab_kid: me, eab_hmac_key: c2VjcmV0}",
            "true",
            "this provider has no service for tests",
            "",
        ),
        (BOTH, "{domains: [a.example], email: me}", "me", "`me` is no e-mail address", ""),
    ] {
        let told = refused(listeners, certificate);
        assert_eq!(
            (told.0.as_str(), told.1.as_str(), told.2.as_str()),
            (text, reason, help),
            "{certificate}"
        );
    }
}

#[test]
fn a_certificate_needs_a_place() {
    let text = written(BOTH, "{type: acme, domains: [a.example]}").replace("acme: ./acme\n", "");
    let errors = load(&text).expect_err("no place").errors;
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].reason, "a certificate by ACME needs a directory where it is kept");
    assert_eq!(errors[0].suggestion.as_deref(), Some("write `acme: ./acme` at the top level"));
}

#[test]
fn the_examples_of_the_manual_are_valid() {
    let manual = std::fs::read_to_string("../../docs/tls.md").expect("the manual");
    let (_, chapter) = manual.split_once("## Certificates by ACME").expect("a chapter");
    let directory = tempfile::tempdir().expect("a directory");
    let ca = rcgen::generate_simple_self_signed(["ca.internal".to_owned()]).expect("a certificate");
    std::fs::write(directory.path().join("ca.pem"), ca.cert.pem()).expect("a file");
    let env = |name: &str| (name == "EAB_HMAC_KEY").then(|| "c2VjcmV0".to_owned());
    let examples = chapter.split("```yaml\n").skip(1).filter_map(|block| block.split("```").next());
    let mut tried = 0;
    for text in examples {
        if let Err(errors) = nylon_config::parse_str("tls.md", text, directory.path(), &env) {
            panic!("{errors}\nin\n{text}");
        }
        tried += 1;
    }
    assert!(tried >= 3, "{tried}");
}
