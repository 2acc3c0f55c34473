//! Loads the workers of a group as a gateway would, and tells what came of it as one line of JSON.
//!
//! `nats-load HOST:PORT GROUP ENTRY CONCURRENCY SECONDS`
//!
//! It keeps CONCURRENCY calls in flight over one plain socket: one thread, one read, one write for whatever the read
//! completed. That costs less than any client library, so that on two cores the worker is what is measured. Every
//! reply is decoded and has to be of the call in that slot and to say `next`.

use memchr::memchr;
use nylon_benches::{ID, SESSION, call};
use nylon_core::{Outcome, Phase};
use nylon_wire::{CallId, Envelope, Kind, Reply};
use std::error::Error;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

type Failed = Box<dyn Error>;

const INBOX: &str = "_INBOX.natsload";
/// Longest silence before the run is given up.
const SILENCE: Duration = Duration::from_secs(10);

/// One call in flight.
#[derive(Clone, Copy)]
struct Slot {
    number: u64,
    sent: Instant,
}

#[derive(Default)]
struct Seen {
    replies: u64,
    acks: u64,
    busy: u64,
    errors: u64,
    reply_bytes: u64,
    micros: Vec<u32>,
}

struct Load {
    socket: TcpStream,
    subject: String,
    /// The call, and where its ids are in it.
    frame: Vec<u8>,
    ids: [usize; 2],
    slots: Vec<Slot>,
    numbers: u64,
    out: Vec<u8>,
    /// What was read and not taken yet.
    data: Vec<u8>,
    filled: usize,
    seen: Seen,
    ends: Instant,
    in_flight: usize,
    /// Until then a worker may be on its way.
    worker_by: Instant,
}

fn find(frame: &[u8], id: &[u8; 16]) -> Result<usize, Failed> {
    frame.windows(16).position(|part| part == id).ok_or_else(|| "the sample has no id".into())
}

/// An id that no other call has, also none of another run: a worker answers those that it knows from memory.
fn call_id(slot: usize, number: u64) -> [u8; 16] {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&number.to_be_bytes());
    id[8..12].copy_from_slice(&(slot as u32).to_be_bytes());
    id[12..].copy_from_slice(&std::process::id().to_be_bytes());
    id
}

impl Load {
    fn send(&mut self, slot: usize) {
        self.numbers += 1;
        self.slots[slot] = Slot { number: self.numbers, sent: Instant::now() };
        let id = call_id(slot, self.numbers);
        for at in self.ids {
            self.frame[at..at + 16].copy_from_slice(&id);
        }
        let head = format!("PUB {} {INBOX}.{slot:x} {}\r\n", self.subject, self.frame.len());
        self.out.extend_from_slice(head.as_bytes());
        self.out.extend_from_slice(&self.frame);
        self.out.extend_from_slice(b"\r\n");
    }

    fn again_or_done(&mut self, slot: usize) {
        if Instant::now() < self.ends {
            self.send(slot);
        } else {
            self.in_flight -= 1;
        }
    }

    /// What came for a slot.
    fn take(&mut self, slot: usize, payload: &[u8]) -> Result<(), Failed> {
        let frame = bytes::Bytes::copy_from_slice(payload);
        let Slot { number, sent } = *self.slots.get(slot).ok_or("an answer to a slot that there is not")?;
        let envelope = Envelope::peek(&frame)?;
        if envelope.id != Some(CallId(call_id(slot, number))) {
            self.seen.errors += 1;
            return Ok(());
        }
        match envelope.kind {
            Kind::Ack => self.seen.acks += 1,
            Kind::Busy => {
                self.seen.busy += 1;
                self.again_or_done(slot);
            }
            Kind::Reply => {
                let reply = Reply::decode(&frame, Phase::RequestFilter, false)?;
                self.seen.replies += 1;
                self.seen.reply_bytes += payload.len() as u64;
                self.seen.errors += u64::from(reply.outcome != Outcome::Next);
                self.seen.micros.push(sent.elapsed().as_micros().try_into().unwrap_or(u32::MAX));
                self.again_or_done(slot);
            }
            kind => return Err(format!("a worker answered with a {} frame", kind.name()).into()),
        }
        Ok(())
    }

    /// One message or line of the server; how many bytes of `data` it took, none if it is not whole.
    fn step(&mut self, data: &[u8]) -> Result<usize, Failed> {
        let Some(end) = memchr(b'\n', data) else { return Ok(0) };
        let line = std::str::from_utf8(&data[..end])?.trim_end();
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            Some(kind @ ("MSG" | "HMSG")) => {
                let slot = words.next().and_then(|subject| subject.rsplit('.').next()).unwrap_or_default();
                let slot = usize::from_str_radix(slot, 16)?;
                let size: usize = words.next_back().ok_or("a message without a size")?.parse()?;
                let Some(payload) = data.get(end + 1..end + 1 + size + 2) else { return Ok(0) };
                if kind == "MSG" {
                    self.take(slot, &payload[..size])?;
                } else if Instant::now() < self.worker_by {
                    std::thread::sleep(Duration::from_millis(20));
                    self.send(slot);
                } else {
                    return Err(format!("nobody listens on {}", self.subject).into());
                }
                Ok(end + 1 + size + 2)
            }
            Some("-ERR") => Err(line.to_owned().into()),
            Some("PING") => {
                self.out.extend_from_slice(b"PONG\r\n");
                Ok(end + 1)
            }
            _ => Ok(end + 1),
        }
    }

    fn flush(&mut self) -> Result<(), Failed> {
        self.socket.write_all(&self.out)?;
        self.out.clear();
        Ok(())
    }

    /// Says hello, and waits until one call is answered.
    fn start(&mut self) -> Result<(), Failed> {
        let hello = "CONNECT {\"verbose\":false,\"headers\":true,\"no_responders\":true,\"protocol\":1}\r\n";
        self.out.extend_from_slice(format!("{hello}SUB {INBOX}.* 1\r\n").as_bytes());
        self.in_flight = 1;
        self.send(0);
        self.turn()?;
        self.worker_by = Instant::now();
        self.seen = Seen::default();
        Ok(())
    }

    /// Keeps all slots busy; how many seconds it took.
    fn run(&mut self, seconds: f64) -> Result<f64, Failed> {
        let started = Instant::now();
        self.ends = started + Duration::from_secs_f64(seconds);
        self.in_flight = self.slots.len();
        (0..self.slots.len()).for_each(|slot| self.send(slot));
        self.turn()?;
        Ok(started.elapsed().as_secs_f64())
    }

    /// Reads and writes until nothing is in flight.
    fn turn(&mut self) -> Result<(), Failed> {
        self.flush()?;
        while self.in_flight > 0 {
            let count = self.socket.read(&mut self.data[self.filled..]);
            let count = count.map_err(|why| format!("no answer came: {why}"))?;
            if count == 0 {
                return Err("the server closed the connection".into());
            }
            self.filled += count;
            let data = std::mem::take(&mut self.data);
            let mut taken = 0;
            loop {
                let step = self.step(&data[taken..self.filled])?;
                if step == 0 {
                    break;
                }
                taken += step;
            }
            self.data = data;
            self.data.copy_within(taken..self.filled, 0);
            self.filled -= taken;
            self.flush()?;
        }
        Ok(())
    }
}

fn load() -> Result<String, Failed> {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let [address, group, entry, concurrency, seconds] = given.as_slice() else {
        return Err("usage: nats-load HOST:PORT GROUP ENTRY CONCURRENCY SECONDS".into());
    };
    let socket = TcpStream::connect(address)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(SILENCE))?;
    let frame = call(entry);
    let now = Instant::now();
    let mut load = Load {
        socket,
        subject: format!("nylon.{group}.call"),
        ids: [find(&frame, &ID.0)?, find(&frame, &SESSION.0)?],
        frame,
        slots: vec![Slot { number: 0, sent: now }; concurrency.parse()?],
        numbers: 0,
        out: Vec::new(),
        data: vec![0; 1 << 20],
        filled: 0,
        seen: Seen::default(),
        ends: now,
        in_flight: 0,
        worker_by: now + SILENCE,
    };
    load.start()?;
    let elapsed = load.run(seconds.parse()?)?;
    let Seen { replies, acks, busy, errors, reply_bytes, mut micros } = load.seen;
    micros.sort_unstable();
    let percentile = |part: usize| micros.get(micros.len() * part / 100).copied().unwrap_or(0);
    Ok(serde_json::json!({
        "calls": replies,
        "per_second": replies as f64 / elapsed,
        "acks": acks,
        "busy": busy,
        "errors": errors,
        "reply_bytes": reply_bytes as f64 / replies.max(1) as f64,
        "p50_us": percentile(50),
        "p99_us": percentile(99),
    })
    .to_string())
}

fn main() -> std::process::ExitCode {
    match load() {
        Ok(line) => {
            // Its only output, for the program that started it.
            std::io::stdout().write_all(format!("{line}\n").as_bytes()).map_or(1, |()| 0).into()
        }
        Err(why) => {
            let _ = writeln!(std::io::stderr(), "nats-load: {why}");
            1.into()
        }
    }
}
