//! `IpFilter`.

use super::through;
use crate::Gateway;
use crate::origin::Origin;

fn statuses(gateway: &Gateway, forwarded: &[&str]) -> Vec<u16> {
    let mut client = gateway.connect();
    let status = |from: &&str| {
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {from}\r\n\r\n")).response().status
    };
    forwarded.iter().map(status).collect()
}

#[test]
fn deny_wins_and_with_an_allow_list_everybody_else_is_refused() {
    let origin = Origin::echo();
    let gateway = through(
        &origin,
        "      - plugin: IpFilter
        payload:
          allow: [127.0.0.0/8, '::ffff:10.0.0.0/104', '2001:db8::/32']
          deny: [10.6.6.0/24, '2001:db8:bad::/48']
trusted_proxies: [127.0.0.1]",
    );
    let from = [
        "127.0.0.1",
        "10.0.0.1",
        "10.6.6.6",
        "::ffff:10.6.6.6",
        "11.0.0.1",
        "2001:db8::1",
        "2001:db8:bad::1",
    ];
    assert_eq!(statuses(&gateway, &from), [200, 200, 403, 403, 403, 200, 403]);
    assert_eq!(origin.requests(), 3, "who is refused does not get there");
}

#[test]
fn nobody_gets_in_by_an_address_that_they_only_claim_to_have() {
    let origin = Origin::echo();
    let gateway = through(&origin, "      - {plugin: IpFilter, payload: {allow: 10.0.0.1}}");
    assert_eq!(statuses(&gateway, &["10.0.0.1"]), [403]);
    let gateway = through(&origin, "      - {plugin: IpFilter, payload: {deny: 127.0.0.1}}");
    assert_eq!(statuses(&gateway, &["10.0.0.1"]), [403]);
    let response = gateway.connect().get("/");
    assert_eq!(response.header("content-type"), Some("application/json"));
    assert!(response.text().contains("\"error\":\"forbidden\"") && !response.text().contains("127.0.0.1"));
}
