//! One client connection: who is at its other end, what it speaks, and a name for each of its requests.

use super::preface::is_http2;
use super::socket::ClientSocket;
use super::{Client, ClientStream, Ends, http1, http2};
use crate::stop::Stop;
use crate::worker::Worker;
use bytes::Bytes;
use http::HeaderValue;
use nylon_core::RequestId;
use std::cell::{Cell, RefCell};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::{Instant, sleep};

/// How long a stop waits for a connection's first request.
pub(super) const FRESH: Duration = Duration::from_millis(50);

/// Serves `stream` until the client, a limit or `stop` ends it.
pub(crate) async fn serve_connection(worker: Rc<Worker>, stop: &Stop, stream: ClientStream, ends: Ends) {
    let mut local = ends.local;
    if local.ip().is_unspecified() {
        // The connection is gone already if it has no address.
        let Ok(own) = stream.tcp().local_addr() else { return };
        local = own;
    }
    let ip = ends.peer.ip().to_canonical();
    let ip_value = address_value(ip);
    let client = Rc::new(Client { ip, ip_value, local, scheme: stream.scheme(), host: RefCell::new(None) });
    let start = Instant::now();
    let (head_time, write_time) =
        worker.with_plan(|plan| (plan.limits.header_read_timeout, plan.limits.write_timeout));
    let agreed = stream.is_http2();
    let mut socket = ClientSocket::new(stream, write_time, start + head_time);
    let is_http2 = match agreed {
        Some(is_http2) => Ok(is_http2),
        None => tokio::select! {
            biased;
            spoken = is_http2(&mut socket, start + head_time) => spoken,
            // Its first request is on its way, most likely.
            () = async { stop.told().await; sleep(FRESH).await } => return,
        },
    };
    // A plan must not be held for as long as the connection lasts.
    match is_http2 {
        Ok(false) => {
            let shared = worker.clone();
            worker.with_plan(|plan| http1::serve(shared, stop, socket, client, &plan.limits, start)).await;
        }
        Ok(true) => {
            let shared = worker.clone();
            worker
                .with_plan(|plan| Box::pin(http2::serve(shared, stop, socket, client, &plan.limits, start)))
                .await;
        }
        Err(why) => tracing::debug!(client = %client.ip, "no request came: {why}"),
    }
}

/// An address as a field value. Most are IPv4, for which the general way is ten times as long.
fn address_value(ip: IpAddr) -> HeaderValue {
    let IpAddr::V4(ip) = ip else {
        return HeaderValue::try_from(ip.to_string()).expect("an address is text");
    };
    let mut text = Vec::with_capacity(15);
    for (place, octet) in ip.octets().into_iter().enumerate() {
        if place > 0 {
            text.push(b'.');
        }
        text.extend_from_slice(itoa::Buffer::new().format(octet).as_bytes());
    }
    HeaderValue::from_maybe_shared(Bytes::from(text)).expect("digits and dots are text")
}

/// A name for a request, of the form of a UUID version 7 (RFC 9562, 5.7): milliseconds, then bits that differ. They
/// come from a generator (splitmix64) with a random start per thread: a name is no secret.
pub(super) fn request_id(now: SystemTime) -> RequestId {
    thread_local! {
        static STATE: Cell<u64> = Cell::new(RandomState::new().hash_one(0));
    }
    let random = || {
        let state = STATE.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        STATE.set(state);
        let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    };
    let millis = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    let first = millis << 16 | 7 << 12 | random() & 0x0fff;
    let second = 0b10 << 62 | random() >> 2;
    RequestId((u128::from(first) << 64 | u128::from(second)).to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_usual() {
        for ip in ["1.2.3.4", "255.0.10.100", "::1", "2001:db8::7"] {
            assert_eq!(address_value(ip.parse().expect("an address")), ip);
        }
    }

    #[test]
    fn request_ids_are_of_version_7_and_differ() {
        let ids: std::collections::HashSet<String> =
            (0..1000).map(|_| request_id(SystemTime::now()).to_string()).collect();
        assert_eq!(ids.len(), 1000);
        assert!(
            ids.iter().all(|id| id.len() == 32
                && id.as_bytes()[12] == b'7'
                && b"89ab".contains(&id.as_bytes()[16]))
        );
    }
}
