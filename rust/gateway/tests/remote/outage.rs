//! The connection itself: a broker that is late, goes, comes back, refuses; and its end.

use crate::broker::Broker;
use crate::gateway::{Gateway, eventually, exchange, failure, messaging, policy};
use crate::next;
use crate::worker::Worker;
use nylon_config::plan::{BrokerAuth, Secret};
use nylon_core::{FailureKind, Outcome, Phase};
use nylon_gateway::plugin::{PluginHost, Session};
use std::sync::Arc;
use std::time::{Duration, Instant};

#[tokio::test]
async fn a_broker_that_comes_late_is_waited_for_and_calls_fail_at_once_until_then() {
    let mut broker = Broker::stopped();
    let gateway = Gateway::start(&messaging(&broker.url()));
    let asked = Instant::now();
    let done = gateway
        .call_with("auth", Phase::RequestFilter, &mut Session::default(), exchange(), &policy(60_000, 99))
        .await;
    assert_eq!(failure(&done), FailureKind::Unavailable);
    assert!(asked.elapsed() < Duration::from_secs(30), "it did not wait for its time-out");
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
