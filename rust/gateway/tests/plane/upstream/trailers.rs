//! Trailers, from a service to a client and from a client to a service.

use super::peer::Peer;
use super::{at, gateway_to};
use crate::client::Client;

/// A response's chunks and what stands behind them, as they came.
fn raw_end(client: &mut Client) -> String {
    let bytes = client.rest().expect("the connection ends");
    String::from_utf8(bytes).expect("text")
}

#[test]
fn a_services_trailers_reach_a_client_that_takes_any() {
    for (http2, service) in [(false, ""), (true, ", protocol: http2")] {
        let peer = Peer::start(http2, None);
        let gateway = gateway_to(&at(peer.port), service, "");
        let ask = |more: &str| {
            let mut client = gateway.connect();
            client.send(format!("GET /trailers HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{more}\r\n"));
            raw_end(&mut client)
        };
        let with = ask("TE: trailers\r\n");
        assert!(with.contains("te: trailers\n"), "the service is told: {with}");
        let end = &with[with.rfind("\r\n0\r\n").unwrap_or_else(|| panic!("no last chunk in {with}"))..];
        // HTTP/1.1 asks for the names in the head, which a service over HTTP/2 need not give.
        assert_eq!(end, if http2 { "\r\n0\r\n\r\n" } else { "\r\n0\r\nx-sum: 42\r\n\r\n" });
        let without = ask("");
        assert!(without.ends_with("\r\n0\r\n\r\n") && !without.contains("te: trailers\n"), "{without}");
    }
}

#[test]
fn a_clients_trailers_reach_the_service_without_those_that_could_deceive() {
    for (http2, service) in [(false, ""), (true, ", protocol: http2")] {
        let peer = Peer::start(http2, None);
        let gateway = gateway_to(&at(peer.port), service, "");
        let mut client = gateway.connect();
        client.send(
            "POST / HTTP/1.1\r\nHost: h\r\nTrailer: x-sum, authorization, x-forwarded-for\r\n\
             Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 42\r\nAuthorization: Basic eA==\r\n\
             X-Forwarded-For: 9.9.9.9\r\nContent-Length: 99\r\n\r\n",
        );
        let text = client.response().text().to_owned();
        assert!(text.contains("\ntrailer x-sum: 42\n") && text.ends_with("3 bytes"), "{text}");
        assert_eq!(text.matches("\ntrailer ").count(), 1, "{text}");
        assert!(!text.contains("9.9.9.9") && !text.contains("Basic"), "{text}");
        // The connection is in order.
        assert_eq!(client.get("/").status, 200);
    }
}
