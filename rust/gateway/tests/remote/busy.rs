//! Workers without room.

use crate::attempts::{ending, entries};
use crate::broker::Broker;
use crate::gateway::{Gateway, eventually, exchange, failure, messaging, policy};
use crate::worker::{Answer, Worker, reply};
use futures_util::future::join_all;
use nylon_config::plan::Overflow;
use nylon_core::{FailureKind, Finished, Outcome, Phase};
use nylon_gateway::plugin::Session;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

async fn request(gateway: &Gateway, timeout_ms: u64) -> Finished {
    let (mut session, policy) = (Session::default(), policy(timeout_ms, 0));
    gateway.call_with("stamp", Phase::RequestFilter, &mut session, exchange(), &policy).await
}

async fn queueing(url: &str, workers: usize) -> Gateway {
    let mut messaging = messaging(url);
    messaging.overflow = Overflow::Queue;
    let gateway = Gateway::start(&messaging);
    eventually("the workers are known", || gateway.host.workers() == workers).await;
    gateway
}

#[tokio::test]
async fn a_busy_workers_call_goes_to_another_one_without_an_attempt() {
    let broker = Broker::start(&[]);
    let url = broker.url();
    let full = Worker::start(&url, "w1", &entries(), |_| Answer::Busy).await;
    let free = Worker::start(&url, "w2", &entries(), ending("w2")).await;
    let gateway = Gateway::with_workers(&url, 2).await;
    for _ in 0..20 {
        assert_eq!(request(&gateway, 20_000).await.outcome, Outcome::End);
    }
    assert!(free.calls().iter().all(|seen| seen.call.attempt == 1));
    assert!(full.calls().len() < 10, "the full one is asked less often: {}", full.calls().len());
}

#[tokio::test]
async fn with_overflow_policy_reject_a_call_that_finds_everybody_busy_fails_at_once() {
    let broker = Broker::start(&[]);
    let url = broker.url();
    let workers = [
        Worker::start(&url, "w1", &entries(), |_| Answer::Busy).await,
        Worker::start(&url, "w2", &entries(), |_| Answer::Busy).await,
    ];
    let gateway = Gateway::with_workers(&url, 2).await;
    let asked = Instant::now();
    assert_eq!(failure(&request(&gateway, 60_000).await), FailureKind::Overloaded);
    assert!(asked.elapsed() < Duration::from_secs(30), "it did not wait for its time-out");
    assert_eq!(workers.map(|worker| worker.calls().len()), [1, 1], "each was asked once");
}

#[tokio::test]
async fn with_overflow_policy_queue_a_call_waits_for_room_within_its_time() {
    let broker = Broker::start(&[]);
    let full = Arc::new(AtomicBool::new(true));
    let state = full.clone();
    let worker =
        Worker::start(&broker.url(), "w1", &entries(), move |call| match state.load(Ordering::Relaxed) {
            true => Answer::Busy,
            false => Answer::Reply(reply(call, "w1", Outcome::End)),
        })
        .await;
    let gateway = queueing(&broker.url(), 1).await;
    assert_eq!(failure(&request(&gateway, 200).await), FailureKind::Overloaded);
    let (done, ()) = tokio::join!(request(&gateway, 20_000), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        full.store(false, Ordering::Relaxed);
    });
    assert_eq!(done.outcome, Outcome::End);
    let calls = worker.calls().len();
    assert!(calls < 40, "a busy worker is not flooded: {calls}");
}

#[tokio::test]
async fn more_calls_than_there_is_room_for_all_run_in_the_end() {
    let broker = Broker::start(&[]);
    let url = broker.url();
    let mut workers = Vec::new();
    for id in ["w1", "w2"] {
        let running = Arc::new(AtomicUsize::new(0));
        let handler = move |call: &nylon_wire::CallFrame| {
            if running.load(Ordering::Relaxed) == 2 {
                return Answer::Busy;
            }
            running.fetch_add(1, Ordering::Relaxed);
            let running = running.clone();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(10)).await;
                running.fetch_sub(1, Ordering::Relaxed);
            });
            Answer::After(Duration::from_millis(15), reply(call, id, Outcome::End))
        };
        workers.push(Worker::with_concurrency(&url, id, 2, &entries(), handler).await);
    }
    let gateway = queueing(&url, 2).await;
    let all = join_all((0..60).map(|_| request(&gateway, 20_000))).await;
    assert!(all.iter().all(|done| done.outcome == Outcome::End));
    assert!(gateway.connection.counts().waits > 0);
    let sent: usize = workers.iter().map(|worker| worker.calls().len()).sum();
    assert!(sent < 240, "those that wait do not ask all the time: {sent}");
}

#[tokio::test]
async fn a_slow_worker_among_three_gets_fewer_calls() {
    let broker = Broker::start(&[]);
    let url = broker.url();
    let mut workers = Vec::new();
    for (id, ms) in [("w1", 10), ("w2", 10), ("w3", 50)] {
        let handler = move |call: &nylon_wire::CallFrame| {
            Answer::After(Duration::from_millis(ms), reply(call, id, Outcome::End))
        };
        workers.push(Worker::with_concurrency(&url, id, 4, &entries(), handler).await);
    }
    let gateway = queueing(&url, 3).await;
    let client = async |_| {
        for _ in 0..30 {
            assert_eq!(request(&gateway, 20_000).await.outcome, Outcome::End);
        }
    };
    join_all((0..12).map(client)).await;
    let [one, two, slow] = [0, 1, 2].map(|index: usize| workers[index].calls().len());
    assert!(slow * 2 < one.min(two), "{one} {two} {slow}");
}
