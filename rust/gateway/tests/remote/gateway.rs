//! The gateway's side of a test: a connection, a host, and the exchange that is called with.

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use http::{HeaderMap, HeaderValue, Method, Version};
use nylon_config::Location;
use nylon_config::plan::{Broker, BrokerAuth, Messaging, OnError, Overflow, PhasePolicy, Retry, Workers};
use nylon_core::{
    Call, Exchange, Failure, FailureKind, Finished, Outcome, Params, Phase, RequestFacts, RequestHead,
    RequestId, Scheme, TargetPart,
};
use nylon_gateway::plugin::remote::{Connection, RemoteHost};
use nylon_gateway::plugin::{BodySource, Pending, PhaseCall, PluginEntry, PluginHost, Session};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

pub(crate) fn messaging(url: &str) -> Messaging {
    Messaging {
        name: "main".into(),
        broker: Broker::Servers(vec![url.to_owned()]),
        subject_prefix: "nylon".into(),
        connections: None,
        max_inflight: 100,
        overflow: Overflow::Reject,
        auth: BrokerAuth::Anonymous,
        tls: None,
        location: Location { file: "".into(), line: 1, column: 1, width: 1, source: "".into() },
    }
}

pub(crate) fn policy(timeout_ms: u64, retries: u32) -> PhasePolicy {
    let pause = Duration::from_millis(20);
    PhasePolicy {
        timeout: Duration::from_millis(timeout_ms),
        on_error: OnError::Fail,
        retry: Retry { max: retries, backoff_initial: pause, backoff_max: pause },
        idempotent: true,
    }
}

pub(crate) fn exchange() -> Box<Exchange> {
    let facts = RequestFacts {
        id: RequestId([7; 16]),
        scheme: Scheme::Http,
        host: "example.com".parse().expect("authority"),
        client_ip: [127, 0, 0, 1].into(),
        received_at: SystemTime::now(),
        params: Params::default(),
    };
    let mut headers = HeaderMap::new();
    headers.insert("x-key", HeaderValue::from_bytes(b"caf\xe9").expect("value"));
    let path = TargetPart::path("/a%20b".into()).expect("path");
    let head = RequestHead { method: Method::GET, path, query: None, version: Version::HTTP_11, headers };
    Box::new(Exchange::new(facts, head))
}

/// A client that takes its time to send a body.
pub(crate) struct SlowBody(pub(crate) Duration, pub(crate) Result<Bytes, Failure>);

impl BodySource for SlowBody {
    fn read(&mut self) -> LocalBoxFuture<'_, Result<Bytes, Failure>> {
        Box::pin(async {
            tokio::time::sleep(self.0).await;
            self.1.clone()
        })
    }

    fn limit(&self) -> usize {
        10 << 20
    }
}

pub(crate) struct Gateway {
    pub(crate) connection: Arc<Connection>,
    pub(crate) host: RemoteHost,
}

impl Gateway {
    pub(crate) fn start(messaging: &Messaging) -> Gateway {
        let Broker::Servers(servers) = &messaging.broker else { panic!("the tests have servers") };
        let connection = Connection::start(messaging, servers.clone()).expect("start");
        let host = RemoteHost::new(connection.clone(), "nylon", "auth", &Workers::of("g")).expect("names");
        Gateway { connection, host }
    }

    /// Started, connected, and `workers` of them known.
    pub(crate) async fn with_workers(url: &str, workers: usize) -> Gateway {
        let gateway = Gateway::start(&messaging(url));
        eventually("the workers are known", || gateway.host.workers() == workers).await;
        gateway
    }

    pub(crate) fn entry(&self, name: &str) -> Arc<dyn PluginEntry> {
        self.host.entry(name).expect("any name is taken")
    }

    pub(crate) async fn call(&self, entry: &str, phase: Phase, session: &mut Session) -> Finished {
        self.call_with(entry, phase, session, exchange(), &policy(2000, 0)).await
    }

    pub(crate) async fn call_with(
        &self,
        entry: &str,
        phase: Phase,
        session: &mut Session,
        exchange: Box<Exchange>,
        policy: &PhasePolicy,
    ) -> Finished {
        let mut body = SlowBody(Duration::from_millis(400), Ok(Bytes::from_static(b"the body")));
        call(&*self.entry(entry), phase, session, exchange, policy, &mut body).await
    }
}

pub(crate) async fn call(
    entry: &dyn PluginEntry,
    phase: Phase,
    session: &mut Session,
    exchange: Box<Exchange>,
    policy: &PhasePolicy,
    body: &mut dyn BodySource,
) -> Finished {
    let state = session.state.clone();
    let call = Call { phase, payload: Bytes::from_static(b"\x80"), state, attempt: 1 };
    let deadline = Instant::now() + policy.timeout;
    let stream = &mut None;
    let recording = false;
    let call =
        PhaseCall { exchange, call, policy, deadline, session, body, response_body: None, stream, recording };
    let finished = match entry.call(call) {
        Pending::Ready(finished) => finished,
        Pending::Later(later) => later.await,
    };
    if let Some(state) = &finished.state {
        session.state = state.clone();
    }
    finished
}

pub(crate) fn failure(finished: &Finished) -> FailureKind {
    match &finished.outcome {
        Outcome::Failed(failure) => failure.kind,
        outcome => panic!("not a failure: {outcome:?}"),
    }
}

/// Waits for a condition, for ten seconds at most.
pub(crate) async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < end, "never came true: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.host.shutdown(Duration::from_secs(5));
    }
}
