//! Workers that do not keep to the protocol.

use crate::attempts::{ending, entries};
use crate::broker::Broker;
use crate::gateway::{Gateway, eventually, exchange, failure, policy};
use crate::worker::{Answer, Worker, reply};
use bytes::Bytes;
use nylon_core::{FailureKind, Outcome, Phase};
use nylon_gateway::plugin::Session;
use std::time::Duration;

#[tokio::test]
async fn garbage_for_one_call_fails_that_call_only() {
    let broker = Broker::start(&[]);
    let _worker = Worker::start(&broker.url(), "w1", &entries(), |call| match call.entry.as_str() {
        "auth" => Answer::Raw(Bytes::from_static(b"\xc1garbage")),
        _ => Answer::After(Duration::from_millis(200), reply(call, "w1", Outcome::End)),
    })
    .await;
    let gateway = Gateway::with_workers(&broker.url(), 1).await;
    let (mut first, mut second) = (Session::default(), Session::default());
    let patient = policy(20_000, 3);
    let (good, bad) = tokio::join!(
        gateway.call_with("stamp", Phase::RequestFilter, &mut first, exchange(), &patient),
        gateway.call_with("auth", Phase::RequestFilter, &mut second, exchange(), &patient),
    );
    assert_eq!((good.outcome, failure(&bad)), (Outcome::End, FailureKind::Protocol));
}

#[tokio::test]
async fn another_version_that_never_was_is_refused_and_a_later_one_is_read() {
    let broker = Broker::start(&[]);
    let frame = |version: u8| {
        move |call: &nylon_wire::CallFrame| {
            let mut frame = Vec::new();
            reply(call, "w1", Outcome::End).encode(&mut frame).expect("encode");
            let key = frame.windows(3).position(|bytes| bytes == b"\xa1v\x01").expect("the version");
            frame[key + 2] = version;
            Answer::Raw(frame.into())
        }
    };
    for (version, good) in [(0, false), (2, true)] {
        let worker = Worker::start(&broker.url(), "w1", &entries(), frame(version)).await;
        let gateway = Gateway::with_workers(&broker.url(), 1).await;
        let done = gateway.call("stamp", Phase::RequestFilter, &mut Session::default()).await;
        match good {
            true => assert_eq!(done.outcome, Outcome::End),
            false => assert_eq!(failure(&done), FailureKind::Protocol),
        }
        worker.leave().await;
    }
}

#[tokio::test]
async fn a_frame_of_a_kind_that_is_not_known_is_ignored() {
    let broker = Broker::start(&[]);
    let worker = Worker::start(&broker.url(), "w1", &entries(), |call| match call.attempt {
        1 => Answer::Raw(Bytes::from_static(b"\x82\xa1t\xa6future\xa1v\x02")),
        _ => Answer::Reply(reply(call, "w1", Outcome::End)),
    })
    .await;
    let gateway = Gateway::with_workers(&broker.url(), 1).await;
    let short = policy(300, 0);
    let done =
        gateway.call_with("stamp", Phase::RequestFilter, &mut Session::default(), exchange(), &short).await;
    assert_eq!(failure(&done), FailureKind::TimedOut, "it waits on for an answer");
    assert_eq!((worker.calls().len(), gateway.connection.counts().misbehaviour), (1, 1));
}

#[tokio::test]
async fn a_reply_that_comes_twice_counts_once() {
    let broker = Broker::start(&[]);
    let worker = Worker::start(&broker.url(), "w1", &entries(), |call| {
        let mut frame = Vec::new();
        reply(call, "w1", Outcome::End).encode(&mut frame).expect("encode");
        Answer::Twice(frame.into())
    })
    .await;
    let gateway = Gateway::with_workers(&broker.url(), 1).await;
    for _ in 0..10 {
        let done = gateway.call("stamp", Phase::RequestFilter, &mut Session::default()).await;
        assert_eq!(done.outcome, Outcome::End);
    }
    eventually("the copies are counted", || gateway.connection.counts().late == 10).await;
    assert_eq!(worker.calls().len(), 10);
}

#[tokio::test]
async fn a_flood_of_frames_is_bounded_and_other_calls_go_on() {
    let broker = Broker::start(&[]);
    let worker = Worker::start(&broker.url(), "w1", &entries(), ending("w1")).await;
    let gateway = Gateway::with_workers(&broker.url(), 1).await;
    let inbox = gateway.connection.inbox().to_owned();
    for number in 0..5000 {
        let token = if number % 2 == 0 { "0-ffff-1" } else { "nonsense" };
        worker.say(format!("{inbox}{token}"), Bytes::from_static(b"\xc1")).await;
    }
    for _ in 0..20 {
        let done = gateway.call("stamp", Phase::RequestFilter, &mut Session::default()).await;
        assert_eq!(done.outcome, Outcome::End);
    }
    let counts = || gateway.connection.counts();
    eventually("all of it is counted", || counts().late + counts().misbehaviour >= 4900).await;
}

/// The number of calls is a million with `NYLON_FULL_LOAD=1`.
#[tokio::test]
async fn calls_that_time_out_leave_nothing_behind() {
    let broker = Broker::start(&[]);
    let worker = Worker::start(&broker.url(), "w1", &entries(), |_| Answer::Swallowed).await;
    let gateway = Gateway::with_workers(&broker.url(), 1).await;
    let full = std::env::var("NYLON_FULL_LOAD").is_ok_and(|value| value == "1");
    let rounds = if full { 10_000 } else { 50 };
    let short = policy(1, 0);
    let mut sizes = Vec::new();
    for round in 0..rounds {
        let calls = (0..100).map(|_| async {
            let mut session = Session::default();
            let done =
                gateway.call_with("stamp", Phase::RequestFilter, &mut session, exchange(), &short).await;
            assert_eq!(failure(&done), FailureKind::TimedOut);
        });
        futures_util::future::join_all(calls).await;
        if round % (rounds / 10) == 0 {
            sizes.push((gateway.connection.slots(), resident()));
            worker.log().calls.clear();
        }
    }
    let (open, slots) = gateway.connection.slots();
    assert_eq!(open, 0);
    assert!(slots <= 100, "as many as there were calls at once: {slots}");
    let (early, late) = (sizes[2].1, sizes.last().expect("sizes").1);
    assert!(late < early + (8 << 20), "memory grows: {sizes:?}");
    if full {
        println!("calls: {}, (slots in use, slots), resident bytes over time: {sizes:?}", rounds * 100);
    }
}

/// Bytes of this process in memory.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("statm");
    let pages: usize = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("pages");
    pages * 4096
}
