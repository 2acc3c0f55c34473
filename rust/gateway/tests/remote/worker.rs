//! A worker that does exactly what a test says, written on the frames alone.

use async_nats::{Client, Message};
use bytes::Bytes;
use futures_util::StreamExt;
use nylon_core::{Outcome, Phase};
use nylon_wire::{
    Ack, BodyFrame, Busy, CallFrame, Close, EntryInfo, EntryShape, Envelope, GroupSubjects, Info, Kind,
    Leave, ReadFrame, Reply, SessionId, Which,
};
use std::sync::{Arc, Mutex};

/// What the worker does with a call.
pub(crate) enum Answer {
    Reply(Reply),
    /// Says that it has the call, and nothing more.
    AckOnly,
    Busy,
    Raw(Bytes),
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
}

type Handler = dyn Fn(&CallFrame) -> Answer + Send + Sync;

pub(crate) struct Worker {
    pub(crate) id: String,
    pub(crate) log: Arc<Mutex<Log>>,
    client: Client,
    subjects: GroupSubjects,
    info: Info,
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
            Info { worker: id.into(), group: "g".into(), software: "test".into(), concurrency: 9, entries };
        let log: Arc<Mutex<Log>> = Arc::default();
        let task = tokio::spawn(serve(Serving {
            id: id.to_owned(),
            client: client.clone(),
            log: log.clone(),
            handler: Arc::new(handler),
            metadata: micro_info(&info),
            streams: (shared, own, asked),
        }));
        let worker = Worker { id: id.to_owned(), log, client, subjects, info, task };
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
    streams: (async_nats::Subscriber, async_nats::Subscriber, async_nats::Subscriber),
}

async fn serve(mut serving: Serving) {
    let mut reading: Option<Reading> = None;
    loop {
        let (message, own) = tokio::select! {
            Some(message) = serving.streams.0.next() => (message, false),
            Some(message) = serving.streams.1.next() => (message, true),
            Some(message) = serving.streams.2.next() => {
                let to = message.reply.expect("a question has a reply subject");
                serving.client.publish(to, serving.metadata.clone()).await.expect("publish");
                continue;
            }
            else => return,
        };
        match Envelope::peek(&message.payload).expect("frame").kind {
            Kind::Call => reading = serving.call(message, own).await.or(reading),
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

    async fn call(&self, message: Message, own: bool) -> Option<Reading> {
        let to = message.reply.expect("a call has a reply subject");
        let call = CallFrame::decode(&message.payload).expect("call");
        let answer = (self.handler)(&call);
        let (id, worker) = (call.id, self.id.as_str());
        if !matches!(answer, Answer::Busy) {
            self.send(to.clone(), |out| Ack { id, worker: worker.into() }.encode(out)).await;
        }
        self.log.lock().expect("log").calls.push(Seen { call, own });
        match answer {
            Answer::Reply(reply) => self.send(to, |out| reply.encode(out)).await,
            Answer::AckOnly => {}
            Answer::Busy => self.send(to, |out| Busy { id, worker: worker.into() }.encode(out)).await,
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
