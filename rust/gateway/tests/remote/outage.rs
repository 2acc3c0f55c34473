//! The connection itself: a broker that is late, goes, comes back, refuses; and its end.

use crate::broker::Broker;
use crate::gateway::{Gateway, eventually, exchange, failure, messaging, policy};
use crate::next;
use crate::worker::{Answer, Worker, reply, shape};
use nylon_config::plan::{BrokerAuth, Secret};
use nylon_core::{FailureKind, Outcome, Phase};
use nylon_gateway::plugin::{PluginHost, Session};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

#[tokio::test]
async fn a_broker_that_comes_late_is_waited_for_and_calls_fail_at_once_until_then() {
    let mut broker = Broker::stopped();
    let gateway = Gateway::start(&messaging(&broker.url()));
    let asked = Instant::now();
    let done = gateway
        .call_with("auth", Phase::RequestFilter, &mut Session::default(), exchange(), &policy(60_000, 0))
        .await;
    assert_eq!(failure(&done), FailureKind::Unavailable);
    assert!(asked.elapsed() < Duration::from_secs(30), "it did not wait for its time-out");
    let short = policy(50, 99);
    let done =
        gateway.call_with("auth", Phase::RequestFilter, &mut Session::default(), exchange(), &short).await;
    assert_eq!(
        failure(&done),
        FailureKind::Unavailable,
        "waiting for the broker is not the handler's time-out"
    );
    assert!(gateway.host.ready().expect_err("no broker").contains("not connected to nats://127.0.0.1:"));
    broker.restart();
    let _worker = Worker::start(&broker.url(), "w1", &[], next).await;
    eventually("connected, with a worker", || gateway.host.ready().is_ok()).await;
    let done = gateway.call("auth", Phase::RequestFilter, &mut Session::default()).await;
    assert_eq!(done.outcome, Outcome::Next);
}

#[tokio::test]
async fn a_call_given_up_in_an_outage_never_runs_and_the_next_one_does() {
    let mut broker = Broker::start(&[]);
    let worker = Worker::start(&broker.url(), "w1", &[], next).await;
    let gateway = Gateway::with_workers(&broker.url(), 1).await;
    broker.kill();
    // Some are refused because the connection is known to be down, the first may run into its time-out.
    for _ in 0..50 {
        let mut session = Session::default();
        let done =
            gateway.call_with("auth", Phase::RequestFilter, &mut session, exchange(), &policy(50, 9)).await;
        assert!(matches!(failure(&done), FailureKind::Unavailable | FailureKind::TimedOut));
    }
    broker.restart();
    eventually("the gateway is back", || gateway.connection.ready().is_ok()).await;
    let mut session = Session::default();
    let patient = policy(20_000, 1_000);
    let done = gateway.call_with("auth", Phase::RequestFilter, &mut session, exchange(), &patient).await;
    assert_eq!(done.outcome, Outcome::Next);
    assert_eq!(worker.calls().len(), 1, "none of the fifty was sent later");
}

#[tokio::test]
async fn a_password_is_sent_and_a_wrong_one_is_named_as_the_trouble() {
    let broker = Broker::start(&["--user", "nylon", "--pass", "secret"]);
    let mut wrong = messaging(&broker.url());
    wrong.auth = BrokerAuth::Password { user: "nylon".into(), password: Secret::new("guess".into()) };
    let refused = Gateway::start(&wrong);
    let trouble = || refused.connection.ready().expect_err("refused");
    eventually("the refusal is named", || trouble().contains("authorization violation")).await;
    assert!(!trouble().contains("guess"));
    let mut right = messaging(&broker.url());
    right.auth = BrokerAuth::Password { user: "nylon".into(), password: Secret::new("secret".into()) };
    let accepted = Gateway::start(&right);
    eventually("connected", || accepted.connection.ready().is_ok()).await;
}

#[tokio::test]
async fn a_connection_starts_and_stops_without_leaving_its_thread() {
    let broker = Broker::start(&[]);
    let threads = || {
        let names = std::fs::read_dir("/proc/self/task").expect("threads");
        names
            .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok())
            .filter(|name| name.trim() == "nats-stopping")
            .count()
    };
    for round in 0..20 {
        let mut named = messaging(&broker.url());
        named.name = "stopping".into();
        let gateway = Gateway::start(&named);
        if round % 2 == 0 {
            eventually("connected", || gateway.connection.ready().is_ok()).await;
            assert_eq!(threads(), 1);
        }
        let weak = Arc::downgrade(&gateway.connection);
        drop(gateway);
        assert_eq!(threads(), 0);
        assert!(weak.upgrade().is_none());
    }
}

/// Kills the broker, and starts it again after a while.
async fn outage(broker: &mut Broker) {
    broker.kill();
    tokio::time::sleep(Duration::from_millis(300)).await;
    broker.restart();
}

#[tokio::test]
async fn a_call_made_in_an_outage_waits_for_the_broker_within_its_time() {
    let mut broker = Broker::start(&[]);
    let worker = Worker::start(&broker.url(), "w1", &[], next).await;
    let gateway = Gateway::with_workers(&broker.url(), 1).await;
    broker.kill();
    eventually("the loss is noticed", || gateway.connection.ready().is_err()).await;
    let (mut session, patient) = (Session::default(), policy(20_000, 1));
    let (done, ()) = tokio::join!(
        gateway.call_with("auth", Phase::RequestFilter, &mut session, exchange(), &patient),
        outage(&mut broker),
    );
    assert_eq!(done.outcome, Outcome::Next);
    assert_eq!(worker.calls()[0].call.attempt, 1, "waiting is no attempt");
}

#[tokio::test]
async fn a_call_that_an_outage_cut_off_is_fetched_from_the_worker_that_has_it() {
    let mut broker = Broker::start(&[]);
    let entries = [("auth", shape(&Phase::ALL, false))];
    // The handler is done while the broker is away, and its reply goes nowhere.
    let one =
        Worker::start(&broker.url(), "w1", &entries, |call| Answer::Lost(reply(call, "w1", Outcome::End)))
            .await;
    let gateway = Gateway::with_workers(&broker.url(), 1).await;
    let mut once = policy(20_000, 1);
    once.idempotent = false;
    let mut session = Session::default();
    let (done, ()) = tokio::join!(
        gateway.call_with("auth", Phase::RequestFilter, &mut session, exchange(), &once),
        async {
            eventually("the call is taken", || !one.calls().is_empty()).await;
            outage(&mut broker).await;
        },
    );
    assert_eq!(done.outcome, Outcome::End);
    assert_eq!(one.calls().len(), 1, "it did not run again");
}

#[tokio::test]
async fn a_session_goes_on_with_its_worker_after_an_outage() {
    let mut broker = Broker::start(&[]);
    let worker = Worker::start(&broker.url(), "w1", &[("auth", shape(&Phase::ALL, true))], next).await;
    let gateway = Gateway::with_workers(&broker.url(), 1).await;
    let (mut session, patient) = (Session::default(), policy(20_000, 1));
    gateway.call("auth", Phase::RequestFilter, &mut session).await;
    broker.kill();
    eventually("the loss is noticed", || gateway.connection.ready().is_err()).await;
    let (done, ()) = tokio::join!(
        gateway.call_with("auth", Phase::ResponseFilter, &mut session, exchange(), &patient),
        outage(&mut broker),
    );
    assert_eq!(done.outcome, Outcome::Next);
    assert!(worker.calls()[1].own);
}

#[tokio::test]
async fn a_call_that_nobody_took_before_the_outage_is_sent_again_after_it() {
    let mut broker = Broker::start(&[]);
    let calls = AtomicUsize::new(0);
    let worker =
        Worker::start(&broker.url(), "w1", &[], move |call| match calls.fetch_add(1, Ordering::Relaxed) {
            0 => Answer::Swallowed,
            _ => next(call),
        })
        .await;
    let gateway = Gateway::with_workers(&broker.url(), 1).await;
    let (mut session, patient) = (Session::default(), policy(20_000, 1));
    let (done, ()) = tokio::join!(
        gateway.call_with("auth", Phase::RequestFilter, &mut session, exchange(), &patient),
        async {
            eventually("the call is there", || !worker.calls().is_empty()).await;
            outage(&mut broker).await;
        },
    );
    assert_eq!(done.outcome, Outcome::Next);
    let calls = worker.calls();
    assert_eq!(calls[0].call.id, calls[1].call.id);
    assert!(calls[1].call.attempt > 1);
}

#[tokio::test]
async fn a_call_without_retry_fails_at_once_when_the_broker_goes() {
    let mut broker = Broker::start(&[]);
    let worker = Worker::start(&broker.url(), "w1", &[], |_| Answer::AckOnly).await;
    let gateway = Gateway::with_workers(&broker.url(), 1).await;
    let (mut session, single) = (Session::default(), policy(60_000, 0));
    let asked = Instant::now();
    let (done, ()) = tokio::join!(
        gateway.call_with("auth", Phase::RequestFilter, &mut session, exchange(), &single),
        async {
            eventually("the call is taken", || !worker.calls().is_empty()).await;
            broker.kill();
        },
    );
    assert_eq!(failure(&done), FailureKind::Unavailable);
    assert!(asked.elapsed() < Duration::from_secs(30), "it did not wait for its time-out");
}

#[tokio::test]
async fn logging_waits_for_the_broker_in_a_bounded_buffer() {
    const DUE: usize = 4200;
    let mut broker = Broker::start(&[]);
    let worker = Worker::start(&broker.url(), "w1", &[("auth", shape(&Phase::ALL, true))], next).await;
    let gateway = Gateway::with_workers(&broker.url(), 1).await;
    let mut open = Session::default();
    gateway.call("auth", Phase::RequestFilter, &mut open).await;
    broker.kill();
    eventually("the loss is noticed", || gateway.connection.ready().is_err()).await;
    let once = policy(3_000, 0);
    let done = gateway.call_with("auth", Phase::Logging, &mut open, exchange(), &once).await;
    assert_eq!(done.outcome, Outcome::Next, "nobody waits for it");
    drop(open);
    let mut dropped = 0;
    for _ in 1..DUE {
        let done =
            gateway.call_with("stamp", Phase::Logging, &mut Session::default(), exchange(), &once).await;
        dropped += usize::from(done.outcome != Outcome::Next);
    }
    let counts = gateway.connection.counts();
    assert_eq!((counts.logging_kept as usize, dropped), (4096, DUE - 4096));
    assert_eq!(counts.logging_dropped as usize, dropped);
    broker.restart();
    eventually("what was kept is delivered", || worker.calls().len() == 1 + 4096).await;
    eventually("the session's end comes behind its last call", || worker.log().closed.len() == 1).await;
    let calls = worker.calls();
    let last = calls.iter().rfind(|seen| seen.call.entry.as_str() == "auth").expect("it was delivered");
    assert!(last.own && last.call.phase == Phase::Logging);
    assert_eq!(gateway.connection.counts().logging_dropped as usize, dropped);
}

#[tokio::test]
async fn the_gateway_is_back_soon_after_a_long_outage() {
    let mut broker = Broker::start(&[]);
    let gateway = Gateway::start(&messaging(&broker.url()));
    eventually("connected", || gateway.connection.ready().is_ok()).await;
    broker.kill();
    eventually("the loss is noticed", || gateway.connection.ready().is_err()).await;
    // Long enough for the pauses between attempts to have grown to their longest.
    tokio::time::sleep(Duration::from_secs(3)).await;
    broker.restart();
    let back = Instant::now();
    eventually("the gateway is back", || gateway.connection.ready().is_ok()).await;
    assert!(back.elapsed() < Duration::from_secs(3), "{:?}", back.elapsed());
}
