//! Calls that must not run twice.

use crate::attempts::entries;
use crate::broker::Broker;
use crate::gateway::{Gateway, eventually, exchange, failure, policy};
use crate::worker::{Answer, Worker, reply};
use nylon_config::plan::PhasePolicy;
use nylon_core::{FailureKind, Outcome, Phase};
use nylon_gateway::plugin::Session;
use nylon_wire::CallFrame;
use std::time::{Duration, Instant};

fn once(retries: u32) -> PhasePolicy {
    PhasePolicy { idempotent: false, ..policy(20_000, retries) }
}

fn claiming(id: &'static str) -> impl Fn(&CallFrame) -> Answer + Send + Sync {
    move |call| Answer::Claim(reply(call, id, Outcome::End))
}

#[tokio::test]
async fn a_call_that_must_not_run_twice_is_claimed_before_it_runs() {
    let broker = Broker::start(&[]);
    let worker = Worker::start(&broker.url(), "w1", &entries(), claiming("w1")).await;
    let gateway = Gateway::with_workers(&broker.url(), 1).await;
    let mut session = Session::default();
    let done = gateway.call_with("stamp", Phase::RequestFilter, &mut session, exchange(), &once(3)).await;
    assert_eq!(done.outcome, Outcome::End);
    assert!(worker.calls()[0].call.claim);
    assert_eq!(worker.log().grants, [true]);
}

#[tokio::test]
async fn of_two_workers_that_got_the_call_one_runs_it() {
    let broker = Broker::start(&[]);
    let url = broker.url();
    let frozen = Worker::start(&url, "w1", &entries(), claiming("w1")).await;
    let gateway = Gateway::with_workers(&url, 1).await;
    frozen.freeze(true);
    let mut session = Session::default();
    let policy = once(3);
    let call = gateway.call_with("stamp", Phase::RequestFilter, &mut session, exchange(), &policy);
    // Held up at the second worker, so that the first one comes back while the call is open.
    let (done, two) = tokio::join!(call, async {
        let two = Worker::start(&url, "w2", &entries(), |_| Answer::AckOnly).await;
        eventually("the second one has it", || !two.calls().is_empty()).await;
        frozen.freeze(false);
        two
    });
    // Whoever claims first: it is the one that says so, not the one that acknowledged.
    assert_eq!(done.outcome, Outcome::End);
    assert_eq!(frozen.log().grants, [true]);
    assert_eq!(two.calls()[0].call.attempt, 2);
}

#[tokio::test]
async fn a_worker_that_was_stopped_is_refused_what_another_one_has() {
    let broker = Broker::start(&[]);
    let url = broker.url();
    // It claims what it had received before its stop, though the call does not ask for that.
    let frozen = Worker::start(&url, "w1", &entries(), claiming("w1")).await;
    let gateway = Gateway::with_workers(&url, 1).await;
    frozen.freeze(true);
    let mut session = Session::default();
    let policy = policy(20_000, 3);
    let call = gateway.call_with("stamp", Phase::RequestFilter, &mut session, exchange(), &policy);
    let (done, ()) = tokio::join!(call, async {
        let two = Worker::start(&url, "w2", &entries(), |call| {
            Answer::After(Duration::from_millis(700), reply(call, "w2", Outcome::Next))
        })
        .await;
        eventually("the second one has it", || !two.calls().is_empty()).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        frozen.freeze(false);
        eventually("the first one is answered", || !frozen.log().grants.is_empty()).await;
    });
    assert_eq!(done.outcome, Outcome::Next, "the second one's reply counts");
    assert_eq!(frozen.log().grants, [false]);
    assert_eq!(gateway.connection.counts().refusals, 1);
}

#[tokio::test]
async fn a_call_that_must_not_run_twice_dies_with_its_worker() {
    let broker = Broker::start(&[]);
    let url = broker.url();
    let one = Worker::start(&url, "w1", &entries(), |_| Answer::AckOnly).await;
    let gateway = Gateway::with_workers(&url, 1).await;
    let (mut session, asked) = (Session::default(), Instant::now());
    let policy = once(9);
    let (done, two) = tokio::join!(
        gateway.call_with("stamp", Phase::RequestFilter, &mut session, exchange(), &policy),
        async {
            eventually("the call is taken", || !one.calls().is_empty()).await;
            one.die().await;
            Worker::start(&url, "w2", &entries(), claiming("w2")).await
        }
    );
    assert_eq!(failure(&done), FailureKind::WorkerDied);
    assert!(asked.elapsed() < Duration::from_secs(15), "it did not wait for its time-out");
    assert!(two.calls().is_empty());
}
