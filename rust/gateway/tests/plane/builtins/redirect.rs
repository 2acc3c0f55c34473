//! `Redirect`: where clients are sent, and where nobody can make them be sent.

use super::through;
use crate::Gateway;
use crate::origin::Origin;

/// A gateway that redirects with this payload, and the status and location for a request's target.
fn redirecting(payload: &str) -> (Gateway, impl Fn(&str) -> (u16, String)) {
    let origin = Origin::echo();
    let gateway = through(&origin, &format!("      - {{plugin: Redirect, payload: {payload}}}"));
    let address = gateway.address();
    (gateway, move |target| {
        let mut client = crate::client::Client::connect(address);
        let response =
            client.send(format!("GET {target} HTTP/1.1\r\nHost: old.example:81\r\n\r\n")).response();
        (response.status, response.header("location").unwrap_or_default().to_owned())
    })
}

#[test]
fn parts_of_the_url_change_and_the_rest_stays() {
    for (payload, target, location) in [
        ("{scheme: https}", "/a/b?c=d", "https://old.example/a/b?c=d"),
        ("{scheme: https, port: 8443}", "/a", "https://old.example:8443/a"),
        ("{host: new.example}", "/a?b", "http://new.example/a?b"),
        ("{host: 'new.example:82'}", "/a", "http://new.example:82/a"),
        ("{port: 82}", "/a", "http://old.example:82/a"),
        ("{path: '/new${request(path)}'}", "/a%20b?c", "http://old.example:81/new/a%20b?c"),
        ("{path: '/${param(tenant)}/x'}", "/of/t1", "http://old.example:81/t1/x"),
        ("{path: /new, keep_query: false}", "/a?b=c", "http://old.example:81/new"),
        ("{path: '/new?x=1#top'}", "/a?b=c", "http://old.example:81/new?x=1#top"),
        ("{path: '/new#top'}", "/a?b=c", "http://old.example:81/new?b=c#top"),
        ("{host: '${param(tenant)}.example'}", "/of/t1", "http://t1.example/of/t1"),
    ] {
        let (_gateway, to) = redirecting(payload);
        assert_eq!(to(target), (302, location.to_owned()), "{payload}");
    }
}

#[test]
fn the_whole_target_is_written_with_its_status() {
    for (payload, target, location) in [
        ("{to: https://new.example/, status: 301}", "/a?b", (301, "https://new.example/?b")),
        (
            "{to: 'https://new.example${request(path)}', status: 308}",
            "/a/b?c",
            (308, "https://new.example/a/b?c"),
        ),
        ("{to: '/start?from=${request(path)}', status: 303}", "/a?b", (303, "/start?from=/a")),
    ] {
        let (_gateway, to) = redirecting(payload);
        assert_eq!(to(target), (location.0, location.1.to_owned()), "{payload}");
    }
}

#[test]
fn no_request_chooses_the_site_or_brings_a_field() {
    let (_gateway, to) = redirecting("{to: '/${param(tenant)}', keep_query: false}");
    for (target, location) in [
        ("/of/%2Fevil.example", "/evil.example"),
        ("/of/%5Cevil.example", "/evil.example"),
        ("/of/%09%2Fevil.example", "/%09/evil.example"),
        ("/of/a%0d%0aset-cookie:%20x=1", "/a%0D%0Aset-cookie:%20x=1"),
        ("/of/%C3%A4", "/%C3%A4"),
    ] {
        assert_eq!(to(target), (302, location.to_owned()), "{target}");
    }
    let (_gateway, to) = redirecting("{host: '${param(tenant)}', path: '${query(p)}'}");
    assert_eq!(to("/of/x?p=//evil.example").1, "http://x/evil.example?p=//evil.example");
    for target in ["/of/a%20b", "/of/user@evil.example", "/of/evil.example%2Fx", "/of/a%0d%0ab"] {
        assert_eq!(to(target).0, 500, "{target}");
    }
}

#[test]
fn a_request_that_is_there_already_passes() {
    let (_gateway, to) = redirecting("{host: 'old.example:81', path: /here}");
    assert_eq!(to("/there"), (302, "http://old.example:81/here".to_owned()));
    assert_eq!(to("/here?q"), (200, String::new()));
    let (_gateway, to) = redirecting("{to: /here}");
    assert_eq!(to("/here?q=1"), (200, String::new()));
    let (_gateway, to) = redirecting("{scheme: http, port: 81}");
    assert_eq!(to("/any"), (200, String::new()));
}
