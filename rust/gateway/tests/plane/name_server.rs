//! A name server on loopback that answers as a test wants.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What it knows.
#[derive(Default)]
struct Zone {
    names: HashMap<String, Vec<Ipv4Addr>>,
    /// Nothing is answered.
    silent: bool,
    asked: usize,
}

/// Answers for as long as the test runs.
pub(crate) struct NameServer {
    pub(crate) address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
}

impl NameServer {
    pub(crate) fn start() -> NameServer {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("bind");
        let address = socket.local_addr().expect("address");
        let zone: Arc<Mutex<Zone>> = Arc::default();
        let shared = zone.clone();
        std::thread::spawn(move || {
            let mut packet = [0; 1500];
            while let Ok((length, peer)) = socket.recv_from(&mut packet) {
                let answer = {
                    let mut zone = shared.lock().unwrap_or_else(PoisonError::into_inner);
                    zone.asked += 1;
                    if zone.silent { None } else { answer(&packet[..length], &zone) }
                };
                if let Some(answer) = answer {
                    let _ = socket.send_to(&answer, peer);
                }
            }
        });
        NameServer { address, zone }
    }

    fn zone(&self) -> std::sync::MutexGuard<'_, Zone> {
        self.zone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The name leads to 127.0.0.`host` for each of `hosts`; to nothing, where there are none.
    pub(crate) fn set(&self, name: &str, hosts: &[u8]) {
        let addresses = hosts.iter().map(|host| Ipv4Addr::new(127, 0, 0, *host)).collect();
        self.zone().names.insert(name.to_owned(), addresses);
    }

    pub(crate) fn silence(&self, silent: bool) {
        self.zone().silent = silent;
    }

    pub(crate) fn asked(&self) -> usize {
        self.zone().asked
    }

    /// How a configuration names it; answers are good for a second.
    pub(crate) fn config(&self) -> String {
        format!("dns: {{servers: ['{}'], timeout: 300ms, max_ttl: 1s}}", self.address)
    }
}

/// A name in a question, and what follows it.
fn question(packet: &[u8]) -> Option<(String, &[u8])> {
    let mut labels = Vec::new();
    let mut rest = packet.get(12..)?;
    loop {
        let (length, after) = rest.split_first()?;
        if *length == 0 {
            return Some((labels.join("."), after));
        }
        let (label, after) = after.split_at_checked(usize::from(*length))?;
        labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
        rest = after;
    }
}

/// The answer to a query (RFC 1035, 4.1).
fn answer(query: &[u8], zone: &Zone) -> Option<Vec<u8>> {
    const A: u16 = 1;
    let (name, after) = question(query)?;
    let kind = u16::from_be_bytes(after.get(..2)?.try_into().ok()?);
    let end = query.len() - after.len() + 4;
    let known = zone.names.get(&name).filter(|addresses| !addresses.is_empty());
    let found = known.filter(|_| kind == A).map_or(&[][..], Vec::as_slice);
    // A response to a recursive query; the name does not exist where nothing is known of it.
    let flags: u16 = if known.is_some() { 0x8580 } else { 0x8583 };
    let mut packet = query.get(..2)?.to_vec();
    for number in [flags, 1, u16::try_from(found.len()).ok()?, 0, 0] {
        packet.extend(number.to_be_bytes());
    }
    packet.extend(query.get(12..end)?);
    for address in found {
        // The question's name, A, IN, one second, four bytes.
        packet.extend([0xc0, 12, 0, 1, 0, 1]);
        packet.extend(u32::try_from(Duration::from_secs(1).as_secs()).ok()?.to_be_bytes());
        packet.extend([0, 4]);
        packet.extend(address.octets());
    }
    Some(packet)
}
