//! A plugin's own process: what its gateway asks for is run by the host that would run the plugin in the gateway.
//!
//! One thread reads, runs what runs inline, and writes; a host's own threads write their results over it. The process
//! lives no longer than its gateway: the end of the socket ends it, and a watchdog sees to that where a handler keeps
//! the thread from noticing.

/// One call, from its frame to its reply.
mod call;
/// What is sent back.
mod answer;
/// A request body, fetched when a handler asks for it.
mod source;
/// The end of the gateway, noticed in any case.
mod orphan;

use super::outbox::{Manner, Outbox};
use super::socket::{Came, Stream, framed};
use crate::plugin::{BodyUse, PluginEntry, PluginHost, Session};
use bytes::Bytes;
use nylon_core::Failure;
use nylon_wire::limits::{MAX_FRAME, WINDOW};
use nylon_wire::{
    BodyFrame, CallFrame, CallId, Close, CreditFrame, EntryInfo, EntryShape, Envelope, Info, Kind, Refusal,
    SessionId, Start, Stop, Text, Which, WireError,
};
use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream as StdStream;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// The time for a plugin's `shutdown` when the gateway is gone without a word.
const ORPHANED: Duration = Duration::from_secs(1);

/// The socket to the gateway, before the plugin runs.
pub struct Line {
    socket: StdStream,
}

/// What is served, and as what.
pub struct Served {
    /// Runs the plugin.
    pub host: Arc<dyn PluginHost>,
    /// Its name in the configuration.
    pub plugin: String,
    /// The names of its entries.
    pub entries: Vec<String>,
    /// The plan's limit for a body that is held in memory.
    pub max_body_bytes: usize,
}

impl Line {
    /// The process's end of `socket`, which blocks. From here on the process ends when its gateway does.
    ///
    /// # Errors
    /// When the system refuses what is needed for that.
    pub fn new(socket: StdStream) -> io::Result<Line> {
        orphan::watch(&socket)?;
        Ok(Line { socket })
    }

    /// Waits for what to run: a JSON text.
    ///
    /// # Errors
    /// When something else comes.
    pub fn recipe(&mut self) -> io::Result<Bytes> {
        let mut prefix = [0; 4];
        self.socket.read_exact(&mut prefix)?;
        let length = u32::from_be_bytes(prefix) as usize;
        if length > MAX_FRAME {
            return Err(senseless(&WireError::TooLarge { what: "a frame", limit: MAX_FRAME }));
        }
        let mut frame = vec![0; length];
        self.socket.read_exact(&mut frame)?;
        Start::decode(&frame.into()).map(|start| start.recipe).map_err(|why| senseless(&why))
    }

    /// Says that the plugin cannot run.
    ///
    /// # Errors
    /// When it cannot be said.
    pub fn refuse(mut self, why: String) -> io::Result<()> {
        let mut frame = Vec::new();
        Refusal { why }.encode(&mut frame).map_err(|why| senseless(&why))?;
        let length = u32::try_from(frame.len()).expect("a frame has at most MAX_FRAME bytes");
        self.socket.write_all(&length.to_be_bytes())?;
        self.socket.write_all(&frame)
    }

    /// Says that the plugin runs, and runs what the gateway asks for until that ends. Then the plugin is ended.
    ///
    /// # Errors
    /// When the system refuses what is needed.
    pub fn serve(self, served: Served) -> io::Result<()> {
        let host = served.host.clone();
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default());
        let left = runtime.and_then(|runtime| runtime.block_on(work(self.socket, served)));
        host.shutdown(*left.as_ref().unwrap_or(&ORPHANED));
        left.map(drop)
    }
}

fn senseless(why: &WireError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_string())
}

/// Serves until the gateway ends. The time that there is for the end.
async fn work(socket: StdStream, served: Served) -> io::Result<Duration> {
    let (mut stream, outbox) = Stream::over(socket, Manner::ByTurn)?;
    let desk = Rc::new(Desk::new(served, outbox));
    desk.announce();
    let mut left = ORPHANED;
    loop {
        match stream.next(&desk.outbox).await {
            Ok(Came::Ended) => return Ok(left),
            Ok(Came::Frame(frame)) => match desk.receive(frame) {
                Ok(None) => {}
                Ok(Some(stop)) => left = stop.remaining,
                Err(why) => return Err(senseless(&why)),
            },
            Err(why) => return Err(senseless(&why)),
        }
    }
}

/// What the calls of this process share, on its one thread.
struct Desk {
    plugin: Text,
    worker: Text,
    outbox: Outbox,
    entries: HashMap<String, Arc<dyn PluginEntry>>,
    max_body_bytes: usize,
    calls: RefCell<HashMap<CallId, Taps>>,
    /// Sessions with something of theirs in them; none while a call has it.
    sessions: RefCell<HashMap<SessionId, Option<Session>>>,
}

/// Where frames go that are about a call under way.
struct Taps {
    requests: mpsc::Sender<BodyFrame>,
    responses: mpsc::Sender<BodyFrame>,
    credits: mpsc::Sender<CreditFrame>,
    /// Nobody wants the result any more.
    cancel: Option<oneshot::Sender<Failure>>,
}

/// The other ends.
struct Inlets {
    requests: mpsc::Receiver<BodyFrame>,
    responses: mpsc::Receiver<BodyFrame>,
    credits: mpsc::Receiver<CreditFrame>,
    cancelled: oneshot::Receiver<Failure>,
}

impl Desk {
    fn new(served: Served, outbox: Outbox) -> Desk {
        let Served { host, plugin, entries, max_body_bytes } = served;
        let entries = entries.into_iter().filter_map(|name| {
            let entry = host.entry(&name).ok()?;
            Some((name, entry))
        });
        Desk {
            plugin: Text::from(plugin.as_str()),
            worker: Text::from(format!("process-{}", std::process::id()).as_str()),
            outbox,
            entries: entries.collect(),
            max_body_bytes,
            calls: RefCell::default(),
            sessions: RefCell::default(),
        }
    }

    fn announce(&self) {
        let mut entries: Vec<EntryInfo> = self
            .entries
            .iter()
            .map(|(name, entry)| {
                let traits = entry.traits();
                let shape = EntryShape {
                    phases: traits.phases,
                    request_body: traits.request_body,
                    stream: traits.response_body == BodyUse::ByChunk,
                    on_demand: traits.response_body == BodyUse::OnDemand,
                    session: entry.keeps_sessions(),
                };
                EntryInfo { name: name.clone(), shape }
            })
            .collect();
        entries.sort_by(|one, other| one.name.cmp(&other.name));
        let info = Info {
            worker: self.worker.clone(),
            group: self.plugin.clone(),
            software: Text::from(env!("CARGO_PKG_VERSION")),
            concurrency: 0,
            entries,
        };
        if let Err(why) = framed(|out| info.encode(out)).map(|frame| self.outbox.send(frame)) {
            let refusal = Refusal { why: format!("it cannot be announced: {why}") };
            // If not even that can be said, the end of this process says it.
            let _ = framed(|out| refusal.encode(out)).map(|frame| self.outbox.send(frame));
        }
    }

    /// Takes a frame of the gateway.
    fn receive(self: &Rc<Self>, frame: Bytes) -> Result<Option<Stop>, WireError> {
        match Envelope::peek(&frame)?.kind {
            Kind::Call => self.begin(CallFrame::decode(&frame)?),
            Kind::Body => {
                let body = BodyFrame::decode(&frame)?;
                if let Some(taps) = self.calls.borrow_mut().get_mut(&body.id) {
                    let tap = if body.which == Which::Request { &taps.requests } else { &taps.responses };
                    if tap.try_send(body).is_err() {
                        taps.overrun();
                    }
                }
            }
            Kind::Credit => {
                let credit = CreditFrame::decode(&frame)?;
                if let Some(taps) = self.calls.borrow_mut().get_mut(&credit.id) {
                    match credit.up_to {
                        Err(failure) => taps.cancel(failure),
                        Ok(_) if taps.credits.try_send(credit).is_err() => taps.overrun(),
                        Ok(_) => {}
                    }
                }
            }
            Kind::Close => {
                let closed = self.sessions.borrow_mut().remove(&Close::decode(&frame)?.session);
                drop(closed);
            }
            Kind::Stop => return Stop::decode(&frame).map(Some),
            kind => return Err(WireError::Kind { found: kind.name().to_owned() }),
        }
        Ok(None)
    }

    fn begin(self: &Rc<Self>, frame: CallFrame) {
        let room = 2 * WINDOW as usize;
        let (requests, requests_in) = mpsc::channel(room);
        let (responses, responses_in) = mpsc::channel(room);
        let (credits, credits_in) = mpsc::channel(room);
        let (cancel, cancelled) = oneshot::channel();
        let taps = Taps { requests, responses, credits, cancel: Some(cancel) };
        self.calls.borrow_mut().insert(frame.id, taps);
        let inlets =
            Inlets { requests: requests_in, responses: responses_in, credits: credits_in, cancelled };
        tokio::task::spawn_local(call::run(self.clone(), frame, inlets));
    }
}

impl Taps {
    fn cancel(&mut self, failure: Failure) {
        if let Some(cancel) = self.cancel.take() {
            // A call that has just ended needs no telling.
            let _ = cancel.send(failure);
        }
    }

    /// More came than there was room given for.
    fn overrun(&mut self) {
        const WHY: &str = "the gateway sent more than there was room for: this is a defect of Nylon";
        self.cancel(Failure::new(nylon_core::FailureKind::Protocol, WHY));
    }
}
