//! Calls whose worker dies, freezes, forgets them, or just takes its time.

use crate::broker::Broker;
use crate::gateway::{Gateway, eventually, exchange, failure, policy};
use crate::worker::{Answer, Worker, reply, shape};
use nylon_core::{FailureKind, Finished, Outcome, Phase};
use nylon_gateway::plugin::Session;
use nylon_wire::{CallFrame, EntryShape};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Two entries: one that may run anywhere, and one that keeps sessions.
pub(crate) fn entries() -> [(&'static str, EntryShape); 2] {
    [("stamp", shape(&Phase::ALL, false)), ("auth", shape(&Phase::ALL, true))]
}

pub(crate) fn ending(id: &'static str) -> impl Fn(&CallFrame) -> Answer + Send + Sync {
    move |call| Answer::Reply(reply(call, id, Outcome::End))
}

async fn request(gateway: &Gateway, entry: &str, session: &mut Session) -> Finished {
    gateway.call_with(entry, Phase::RequestFilter, session, exchange(), &policy(20_000, 3)).await
}

#[tokio::test]
async fn a_call_that_is_answered_soon_is_woken_once_for_its_reply() {
    let broker = Broker::start(&[]);
    let _worker = Worker::start(&broker.url(), "w1", &entries(), ending("w1")).await;
    let gateway = Gateway::with_workers(&broker.url(), 1).await;
    let mut polls = Vec::new();
    for _ in 0..51 {
        let (mut session, mut polled) = (Session::default(), 0);
        let mut call = pin!(request(&gateway, "stamp", &mut session));
        let done = poll_fn(|context| {
            polled += 1;
            call.as_mut().poll(context)
        })
        .await;
        assert_eq!(done.outcome, Outcome::End);
        polls.push(polled);
    }
    // Once to send it and once for the reply; the ack, which came between, woke nobody. (A machine that stops for a
    // while may make a few calls look slow.)
    polls.sort_unstable();
    assert_eq!(polls[25], 2, "{polls:?}");
}

#[tokio::test]
async fn a_dead_workers_call_is_run_by_another_one_with_its_attempt_raised() {
    let broker = Broker::start(&[]);
    let url = broker.url();
    let one = Worker::start(&url, "w1", &entries(), |_| Answer::AckOnly).await;
    let gateway = Gateway::with_workers(&url, 1).await;
    let (mut session, asked) = (Session::default(), Instant::now());
    let (done, two) = tokio::join!(request(&gateway, "stamp", &mut session), async {
        eventually("the call is taken", || !one.calls().is_empty()).await;
        let first = one.calls()[0].call.clone();
        one.die().await;
        (first, Worker::start(&url, "w2", &entries(), ending("w2")).await)
    });
    let (first, two) = two;
    assert_eq!(done.outcome, Outcome::End);
    let second = two.calls()[0].call.clone();
    assert_eq!((first.attempt, second.attempt, first.id == second.id), (1, 2, true));
    assert!(asked.elapsed() < Duration::from_secs(10), "it did not wait for its time-out");
    assert_eq!(gateway.connection.counts().deaths, 1);
    assert_eq!(gateway.host.workers(), 1, "the dead one is not counted on any more");
}

#[tokio::test]
async fn a_dead_workers_call_fails_as_such_when_no_retry_is_left() {
    let broker = Broker::start(&[]);
    let one = Worker::start(&broker.url(), "w1", &entries(), |_| Answer::AckOnly).await;
    let gateway = Gateway::with_workers(&broker.url(), 1).await;
    let (mut session, none) = (Session::default(), policy(60_000, 0));
    let asked = Instant::now();
    let (done, ()) = tokio::join!(
        gateway.call_with("stamp", Phase::RequestFilter, &mut session, exchange(), &none),
        async {
            eventually("the call is taken", || !one.calls().is_empty()).await;
            one.die().await;
        }
    );
    assert_eq!(failure(&done), FailureKind::WorkerDied);
    assert!(asked.elapsed() < Duration::from_secs(30), "it did not wait for its time-out");
}

#[tokio::test]
async fn a_frozen_workers_call_is_run_by_another_one_and_so_are_those_that_follow() {
    let broker = Broker::start(&[]);
    let url = broker.url();
    let one = Worker::start(&url, "w1", &entries(), |_| Answer::AckOnly).await;
    let gateway = Gateway::with_workers(&url, 1).await;
    let mut session = Session::default();
    let (done, two) = tokio::join!(request(&gateway, "stamp", &mut session), async {
        eventually("the call is taken", || !one.calls().is_empty()).await;
        one.freeze(true);
        Worker::start(&url, "w2", &entries(), ending("w2")).await
    });
    assert_eq!(done.outcome, Outcome::End);
    assert_eq!(gateway.connection.counts().suspects, 1);
    // The queue group still has the frozen one.
    for _ in 0..20 {
        assert_eq!(request(&gateway, "stamp", &mut Session::default()).await.outcome, Outcome::End);
    }
    assert!(two.calls().iter().all(|seen| seen.own), "first calls go straight to a worker that answers");
    assert_eq!(gateway.connection.counts().retries, 1, "none of them met the frozen one");
    one.freeze(false);
    // What had come to it before is answered, and so it is heard again.
    let shared = || two.calls().iter().any(|seen| !seen.own);
    for _ in 0..2000 {
        request(&gateway, "stamp", &mut Session::default()).await;
        if shared() || one.calls().len() > 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(shared() || one.calls().len() > 1, "the queue group is trusted again");
}

#[tokio::test]
async fn a_call_that_a_frozen_worker_got_is_sent_to_one_that_answers() {
    let broker = Broker::start(&[]);
    let url = broker.url();
    let frozen = Worker::start(&url, "w1", &entries(), ending("w1")).await;
    let two = Worker::start(&url, "w2", &entries(), ending("w2")).await;
    let gateway = Gateway::with_workers(&url, 2).await;
    frozen.freeze(true);
    let asked = Instant::now();
    for _ in 0..30 {
        assert_eq!(request(&gateway, "stamp", &mut Session::default()).await.outcome, Outcome::End);
    }
    assert!(asked.elapsed() < Duration::from_secs(15), "one or two calls waited for an ack, not all");
    assert!(gateway.connection.counts().retries <= 2, "{:?}", gateway.connection.counts());
    assert!(two.calls().iter().any(|seen| seen.call.attempt == 2));
    let ran = two.calls().len();
    frozen.freeze(false);
    eventually("the frozen one goes on", || !frozen.calls().is_empty()).await;
    eventually("its answers find nobody", || gateway.connection.counts().late > 0).await;
    assert_eq!(two.calls().len(), ran);
}

#[tokio::test]
async fn a_reply_that_was_lost_is_fetched_from_the_worker_and_nothing_runs_twice() {
    let broker = Broker::start(&[]);
    let worker =
        Worker::start(&broker.url(), "w1", &entries(), |call| Answer::Lost(reply(call, "w1", Outcome::End)))
            .await;
    let gateway = Gateway::with_workers(&broker.url(), 1).await;
    assert_eq!(request(&gateway, "stamp", &mut Session::default()).await.outcome, Outcome::End);
    assert_eq!((worker.calls().len(), worker.log().probes), (1, 1));
}

#[tokio::test]
async fn a_call_that_its_worker_does_not_know_any_more_is_sent_again() {
    let broker = Broker::start(&[]);
    let calls = AtomicUsize::new(0);
    let worker = Worker::start(&broker.url(), "w1", &entries(), move |call| {
        match calls.fetch_add(1, Ordering::Relaxed) {
            0 => Answer::AckOnly,
            _ => Answer::Reply(reply(call, "w1", Outcome::End)),
        }
    })
    .await;
    let gateway = Gateway::with_workers(&broker.url(), 1).await;
    let mut session = Session::default();
    let (done, ()) = tokio::join!(request(&gateway, "stamp", &mut session), async {
        eventually("the call is taken", || !worker.calls().is_empty()).await;
        worker.log().forget();
    });
    assert_eq!(done.outcome, Outcome::End);
    let attempts: Vec<_> = worker.calls().iter().map(|seen| seen.call.attempt).collect();
    assert_eq!(attempts, [1, 2]);
}

#[tokio::test]
async fn a_handler_that_takes_its_time_is_asked_after_but_neither_flooded_nor_run_again() {
    let broker = Broker::start(&[]);
    let worker = Worker::start(&broker.url(), "w1", &entries(), |call| {
        Answer::After(Duration::from_millis(1500), reply(call, "w1", Outcome::End))
    })
    .await;
    let gateway = Gateway::with_workers(&broker.url(), 1).await;
    assert_eq!(request(&gateway, "stamp", &mut Session::default()).await.outcome, Outcome::End);
    let probes = worker.log().probes;
    assert!((1..=5).contains(&probes), "{probes}");
    assert_eq!((worker.calls().len(), gateway.connection.counts().retries), (1, 0));
}

#[tokio::test]
async fn a_worker_that_freezes_without_another_one_may_still_answer_in_time() {
    let broker = Broker::start(&[]);
    let worker = Worker::start(&broker.url(), "w1", &entries(), ending("w1")).await;
    let gateway = Gateway::with_workers(&broker.url(), 1).await;
    worker.freeze(true);
    let (mut session, once) = (Session::default(), policy(20_000, 0));
    let (done, ()) = tokio::join!(
        gateway.call_with("stamp", Phase::RequestFilter, &mut session, exchange(), &once),
        async {
            tokio::time::sleep(Duration::from_millis(600)).await;
            worker.freeze(false);
        }
    );
    assert_eq!(done.outcome, Outcome::End);
    assert_eq!(worker.calls().len(), 1);
}

#[tokio::test]
async fn a_later_phase_of_a_session_fails_at_once_when_its_worker_freezes() {
    let broker = Broker::start(&[]);
    let one = Worker::start(&broker.url(), "w1", &entries(), |call| {
        Answer::Reply(reply(call, "w1", Outcome::Next))
    })
    .await;
    let gateway = Gateway::with_workers(&broker.url(), 1).await;
    let mut session = Session::default();
    request(&gateway, "auth", &mut session).await;
    one.freeze(true);
    let two = Worker::start(&broker.url(), "w2", &entries(), ending("w2")).await;
    let (asked, patient) = (Instant::now(), policy(60_000, 9));
    for _ in 0..2 {
        let done = gateway.call_with("auth", Phase::ResponseFilter, &mut session, exchange(), &patient).await;
        assert_eq!(failure(&done), FailureKind::WorkerDied);
    }
    assert!(asked.elapsed() < Duration::from_secs(20), "it did not wait for its time-out");
    assert!(two.calls().is_empty(), "a session never moves");
}

#[tokio::test]
async fn the_first_phase_of_a_session_moves_and_both_workers_are_told_its_end() {
    let broker = Broker::start(&[]);
    let url = broker.url();
    let one = Worker::start(&url, "w1", &entries(), |_| Answer::AckOnly).await;
    let gateway = Gateway::with_workers(&url, 1).await;
    let mut session = Session::default();
    let (done, two) = tokio::join!(request(&gateway, "auth", &mut session), async {
        eventually("the call is taken", || !one.calls().is_empty()).await;
        one.freeze(true);
        Worker::start(&url, "w2", &entries(), ending("w2")).await
    });
    assert_eq!(done.outcome, Outcome::End);
    drop(session);
    one.freeze(false);
    for worker in [&one, &two] {
        eventually("the end is told", || worker.log().closed.len() == 1).await;
    }
}

#[tokio::test]
async fn a_worker_that_has_run_the_call_before_and_forgotten_its_reply_is_not_waited_for() {
    let broker = Broker::start(&[]);
    let forgot = |call: &CallFrame| {
        let mut frame = Vec::new();
        let unknown = nylon_wire::Unknown { id: call.id, worker: "w1".into() };
        unknown.encode(&mut frame).expect("encode");
        Answer::Raw(frame.into())
    };
    let _worker = Worker::start(&broker.url(), "w1", &entries(), forgot).await;
    let gateway = Gateway::with_workers(&broker.url(), 1).await;
    let (mut session, policy) = (Session::default(), policy(60_000, 0));
    let done = gateway.call_with("stamp", Phase::RequestFilter, &mut session, exchange(), &policy).await;
    assert_eq!(failure(&done), FailureKind::WorkerDied);
}

#[tokio::test]
async fn a_worker_that_takes_a_call_when_its_client_has_left_is_told_the_end_of_the_session() {
    let broker = Broker::start(&[]);
    let worker = Worker::start(&broker.url(), "w1", &entries(), ending("w1")).await;
    let gateway = Gateway::with_workers(&broker.url(), 1).await;
    worker.freeze(true);
    let mut session = Session::default();
    {
        let mut call = pin!(request(&gateway, "auth", &mut session));
        let sent = poll_fn(|context| {
            assert!(call.as_mut().poll(context).is_pending());
            std::task::Poll::Ready(())
        });
        sent.await;
    }
    drop(session);
    worker.freeze(false);
    eventually("the late call is taken", || worker.calls().len() == 1).await;
    let session = worker.calls()[0].call.session;
    eventually("the end is told", || worker.log().closed == [session]).await;
}

#[tokio::test]
async fn a_worker_that_takes_a_call_when_another_one_has_answered_it_is_told_the_end_of_the_session() {
    let broker = Broker::start(&[]);
    let url = broker.url();
    let one = Worker::start(&url, "w1", &entries(), ending("w1")).await;
    let gateway = Gateway::with_workers(&url, 1).await;
    one.freeze(true);
    let mut session = Session::default();
    let (done, two) = tokio::join!(request(&gateway, "auth", &mut session), async {
        Worker::start(&url, "w2", &entries(), ending("w2")).await
    });
    assert_eq!(done.outcome, Outcome::End);
    assert_eq!(two.calls().len(), 1);
    one.freeze(false);
    eventually("its copy of the session ends", || one.log().closed.len() == 1).await;
    assert!(two.log().closed.is_empty(), "the session goes on where it is at home");
    drop(session);
    eventually("the session ends", || two.log().closed.len() == 1).await;
}
