//! A worker that does exactly what a test says, written on the frames alone.

use async_nats::{Client, Message};
use bytes::Bytes;
use futures_util::StreamExt;
use nylon_core::{Outcome, Phase};
use nylon_wire::{
    Ack, BodyFrame, Busy, CallFrame, CallId, Claim, Close, EntryInfo, EntryShape, Envelope, Grant,
    GroupSubjects, Info, Kind, Leave, Probe, ReadFrame, Reply, SessionId, Unknown, Which,
};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;

/// What the worker does with a call.
pub(crate) enum Answer {
    Reply(Reply),
    /// Says that it has the call, and nothing more.
    AckOnly,
    /// Takes its time.
    After(Duration, Reply),
    /// Runs the call, but its reply is lost on the way.
    Lost(Reply),
    /// The call itself is lost.
    Swallowed,
    /// Asks whether it may run the call, and replies if so.
    Claim(Reply),
    Busy,
    Raw(Bytes),
    Twice(Bytes),
    /// Asks for the request body and replies with what the function makes of it.
    Read(MakeReply),
}

type MakeReply = Box<dyn FnOnce(BodyFrame) -> Reply + Send>;
/// A call that waits for its body: where its reply goes, and what makes it.
type Reading = (async_nats::Subject, MakeReply);

/// A call as it came in.
#[derive(Clone)]
pub(crate) struct Seen {
    pub(crate) call: CallFrame,
    /// It came to the worker's own subject, not the group's.
    pub(crate) own: bool,
}

#[derive(Default)]
pub(crate) struct Log {
    pub(crate) calls: Vec<Seen>,
    pub(crate) closed: Vec<SessionId>,
    /// Questions after a call.
    pub(crate) probes: usize,
    pub(crate) grants: Vec<bool>,
    /// The calls that it has, with the reply of those that are done.
    has: HashMap<CallId, Option<Bytes>>,
}

impl Log {
    /// It knows nothing of the call any more.
    pub(crate) fn forget(&mut self) {
        self.has.clear();
    }
}

type Handler = dyn Fn(&CallFrame) -> Answer + Send + Sync;

pub(crate) struct Worker {
    pub(crate) id: String,
    pub(crate) log: Arc<Mutex<Log>>,
    client: Client,
    subjects: GroupSubjects,
    info: Info,
    frozen: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

pub(crate) fn reply(call: &CallFrame, worker: &str, outcome: Outcome) -> Reply {
    Reply::new(call.id, worker.into(), outcome)
}

pub(crate) fn shape(phases: &[Phase], session: bool) -> EntryShape {
    EntryShape { phases: phases.iter().copied().collect(), session, ..EntryShape::default() }
}

impl Worker {
    pub(crate) async fn start(
        url: &str,
        id: &str,
        entries: &[(&str, EntryShape)],
        handler: impl Fn(&CallFrame) -> Answer + Send + Sync + 'static,
    ) -> Worker {
        Worker::with_concurrency(url, id, 9, entries, handler).await
    }

    pub(crate) async fn with_concurrency(
        url: &str,
        id: &str,
        concurrency: u32,
        entries: &[(&str, EntryShape)],
        handler: impl Fn(&CallFrame) -> Answer + Send + Sync + 'static,
    ) -> Worker {
        let subjects = GroupSubjects::new("nylon", "g").expect("names");
        let client = async_nats::ConnectOptions::new()
            .retry_on_initial_connect()
            .reconnect_delay_callback(|_| std::time::Duration::from_millis(10))
            .connect(url)
            .await
            .expect("connect the worker");
        let shared = client.queue_subscribe(subjects.call.clone(), "g".into()).await.expect("subscribe");
        let own = client.subscribe(subjects.worker(id).expect("id")).await.expect("subscribe");
        let asked = client.subscribe(subjects.info()).await.expect("subscribe");
        let entries =
            entries.iter().map(|&(name, shape)| EntryInfo { name: name.to_owned(), shape }).collect();
        let info =
            Info { worker: id.into(), group: "g".into(), software: "test".into(), concurrency, entries };
        let (frozen, thawed) = watch::channel(false);
        let log: Arc<Mutex<Log>> = Arc::default();
        let task = tokio::spawn(serve(Serving {
            id: id.to_owned(),
            client: client.clone(),
            log: log.clone(),
            handler: Arc::new(handler),
            metadata: micro_info(&info),
            thawed,
            streams: (shared, own, asked),
        }));
        let worker = Worker { id: id.to_owned(), log, client, subjects, info, frozen, task };
        worker.announce().await;
        worker
    }

    pub(crate) async fn announce(&self) {
        let mut frame = Vec::new();
        self.info.encode(&mut frame).expect("encode");
        self.client.publish(self.subjects.workers.clone(), frame.into()).await.expect("publish");
        self.client.flush().await.expect("flush");
    }

    /// Says farewell and goes.
    pub(crate) async fn leave(self) {
        let mut frame = Vec::new();
        let leave = Leave { worker: self.id.as_str().into(), group: "g".into() };
        leave.encode(&mut frame).expect("encode");
        self.client.publish(self.subjects.workers.clone(), frame.into()).await.expect("publish");
        self.die().await;
    }

    /// Does nothing any more, or again, though it is connected and in the queue group. What comes meanwhile waits.
    pub(crate) fn freeze(&self, frozen: bool) {
        self.frozen.send_replace(frozen);
    }

    /// Says something that nobody asked for.
    pub(crate) async fn say(&self, subject: String, frame: Bytes) {
        self.client.publish(subject, frame).await.expect("publish");
    }

    pub(crate) fn log(&self) -> std::sync::MutexGuard<'_, Log> {
        self.log.lock().expect("log")
    }

    /// Is gone without a word.
    pub(crate) async fn die(self) {
        self.task.abort();
        self.client.drain().await.expect("drain");
        while self.client.connection_state() == async_nats::connection::State::Connected
            && self.client.flush().await.is_ok()
        {}
    }

    pub(crate) fn calls(&self) -> Vec<Seen> {
        self.log.lock().expect("log").calls.clone()
    }
}

fn micro_info(info: &Info) -> Bytes {
    let metadata: serde_json::Map<_, _> =
        info.metadata().into_iter().map(|(key, value)| (key, value.into())).collect();
    serde_json::json!({"type": "io.nats.micro.v1.info_response", "name": "nylon-g", "metadata": metadata})
        .to_string()
        .into()
}

struct Serving {
    id: String,
    client: Client,
    log: Arc<Mutex<Log>>,
    handler: Arc<Handler>,
    metadata: Bytes,
    thawed: watch::Receiver<bool>,
    streams: (async_nats::Subscriber, async_nats::Subscriber, async_nats::Subscriber),
}

async fn serve(mut serving: Serving) {
    let mut reading: Option<Reading> = None;
    let mut claimed: HashMap<CallId, (async_nats::Subject, Reply)> = HashMap::new();
    loop {
        let (message, own) = tokio::select! {
            Some(message) = serving.streams.0.next() => (message, Some(false)),
            Some(message) = serving.streams.1.next() => (message, Some(true)),
            Some(message) = serving.streams.2.next() => (message, None),
            else => return,
        };
        if serving.thawed.wait_for(|frozen| !frozen).await.is_err() {
            return;
        }
        let Some(own) = own else {
            let to = message.reply.expect("a question has a reply subject");
            serving.client.publish(to, serving.metadata.clone()).await.expect("publish");
            continue;
        };
        match Envelope::peek(&message.payload).expect("frame").kind {
            Kind::Call => reading = serving.call(message, own, &mut claimed).await.or(reading),
            Kind::Probe => serving.probe(message).await,
            Kind::Grant => {
                let grant = Grant::decode(&message.payload).expect("grant");
                serving.log.lock().expect("log").grants.push(grant.granted);
                if let Some((to, reply)) = claimed.remove(&grant.id).filter(|_| grant.granted) {
                    serving.reply(to, reply).await;
                }
            }
            Kind::Close => {
                let close = Close::decode(&message.payload).expect("close");
                serving.log.lock().expect("log").closed.push(close.session);
            }
            Kind::Body => {
                let body = BodyFrame::decode(&message.payload).expect("body");
                let (to, make) = reading.take().expect("a body was asked for");
                serving.send(to, |out| make(body).encode(out)).await;
            }
            kind => panic!("a worker got {kind:?}"),
        }
    }
}

impl Serving {
    async fn send(
        &self,
        to: async_nats::Subject,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), nylon_wire::WireError>,
    ) {
        let mut frame = Vec::new();
        encode(&mut frame).expect("encode");
        self.client.publish(to, frame.into()).await.expect("publish");
    }

    async fn probe(&self, message: Message) {
        let id = Probe::decode(&message.payload).expect("probe").id;
        let to = message.reply.expect("a question has a reply subject");
        let worker = self.id.as_str();
        let known = {
            let mut log = self.log.lock().expect("log");
            log.probes += 1;
            log.has.get(&id).cloned()
        };
        match known {
            Some(Some(reply)) => self.client.publish(to, reply).await.expect("publish"),
            Some(None) => self.send(to, |out| Ack { id, worker: worker.into() }.encode(out)).await,
            None => self.send(to, |out| Unknown { id, worker: worker.into() }.encode(out)).await,
        }
    }

    /// Remembers the reply and gives its bytes.
    fn done(&self, reply: &Reply) -> Bytes {
        let mut frame = Vec::new();
        reply.encode(&mut frame).expect("encode");
        let frame = Bytes::from(frame);
        self.log.lock().expect("log").has.insert(reply.id, Some(frame.clone()));
        frame
    }

    async fn reply(&self, to: async_nats::Subject, reply: Reply) {
        let frame = self.done(&reply);
        self.client.publish(to, frame).await.expect("publish");
    }

    async fn call(
        &self,
        message: Message,
        own: bool,
        claimed: &mut HashMap<CallId, (async_nats::Subject, Reply)>,
    ) -> Option<Reading> {
        let to = message.reply.expect("a call has a reply subject");
        let call = CallFrame::decode(&message.payload).expect("call");
        let (id, worker) = (call.id, self.id.as_str());
        let known = self.log.lock().expect("log").has.get(&id).cloned();
        self.log.lock().expect("log").calls.push(Seen { call: call.clone(), own });
        match known {
            Some(Some(reply)) => {
                self.client.publish(to, reply).await.expect("publish");
                return None;
            }
            Some(None) => {
                self.send(to, |out| Ack { id, worker: worker.into() }.encode(out)).await;
                return None;
            }
            None => {}
        }
        let answer = (self.handler)(&call);
        if !matches!(answer, Answer::Busy | Answer::Swallowed) {
            self.log.lock().expect("log").has.insert(id, None);
            self.send(to.clone(), |out| Ack { id, worker: worker.into() }.encode(out)).await;
        }
        match answer {
            Answer::Reply(reply) => self.reply(to, reply).await,
            Answer::AckOnly | Answer::Swallowed => {}
            Answer::After(pause, reply) => {
                let (client, log) = (self.client.clone(), self.log.clone());
                tokio::spawn(async move {
                    tokio::time::sleep(pause).await;
                    let mut frame = Vec::new();
                    reply.encode(&mut frame).expect("encode");
                    log.lock().expect("log").has.insert(id, Some(frame.clone().into()));
                    client.publish(to, frame.into()).await.expect("publish");
                });
            }
            Answer::Lost(reply) => drop(self.done(&reply)),
            Answer::Claim(reply) => {
                self.send(to.clone(), |out| Claim { id, worker: worker.into() }.encode(out)).await;
                claimed.insert(id, (to, reply));
            }
            Answer::Busy => self.send(to, |out| Busy { id, worker: worker.into() }.encode(out)).await,
            Answer::Twice(raw) => {
                for _ in 0..2 {
                    self.client.publish(to.clone(), raw.clone()).await.expect("publish");
                }
            }
            Answer::Raw(raw) => self.client.publish(to, raw).await.expect("publish"),
            Answer::Read(make) => {
                let read = ReadFrame { id, worker: worker.into(), which: Which::Request, up_to: None };
                self.send(to.clone(), |out| read.encode(out)).await;
                return Some((to, make));
            }
        }
        None
    }
}
