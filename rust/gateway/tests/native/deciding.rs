//! Reads, mutations, `next` and `end`, from within the call and from a thread of the library's.

use crate::gateway::Gateway;
use crate::origin::Origin;

#[test]
fn a_request_filter_reads_the_head_and_lets_through_or_answers() {
    let origin = Origin::echo();
    for entry in ["guard", "later"] {
        let gateway = Gateway::with("guard", entry, origin.port);
        let mut client = gateway.connect();
        let refused = client.get("/a%20b?c=d");
        assert_eq!((refused.status, refused.text()), (401, "/a%20b"), "{entry}");
        assert_eq!(refused.header("www-authenticate"), Some("ApiKey"));
        assert_eq!(refused.header("content-length"), Some("6"));
        assert_eq!(refused.header("transfer-encoding"), None);
        let allowed = client.send("GET /x HTTP/1.1\r\nHost: test\r\nX-Key: secret\r\n\r\n").response();
        assert_eq!(allowed.status, 200);
        assert!(allowed.text().contains("\r\nx-user: 42\r\n"), "{}", allowed.text());
    }
}
