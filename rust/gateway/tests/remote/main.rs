//! The remote host against a real nats-server and a worker made of frames.

mod attempts;
mod broker;
mod busy;
mod claims;
mod gateway;
mod misbehaviour;
mod outage;
mod worker;

use broker::Broker;
use bytes::Bytes;
use gateway::{Gateway, SlowBody, call, eventually, exchange, failure, messaging, policy};
use http::{HeaderName, HeaderValue};
use nylon_core::{Chunk, Failure, FailureKind, Op, Outcome, Phase, PhaseMask, RequestBody, ResponseBody};
use nylon_gateway::plugin::{PluginHost, Session};
use nylon_wire::{CallFrame, Reply};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use worker::{Answer, Worker, reply, shape};

pub(crate) fn next(call: &CallFrame) -> Answer {
    Answer::Reply(reply(call, "w1", Outcome::Next))
}

fn set_header(name: &'static str) -> Op {
    Op::SetRequestHeader(HeaderName::from_static(name), HeaderValue::from_static("1"))
}

#[tokio::test]
async fn mutations_and_state_of_a_reply_are_applied() {
    let broker = Broker::start(&[]);
    let _worker = Worker::start(&broker.url(), "w1", &[], |call| {
        let seen = call.clone().into_context().expect("sections");
        assert_eq!(seen.exchange().request.headers["x-key"].as_bytes(), b"caf\xe9");
        let ops = vec![set_header("x-user"), Op::status(403).expect("status")];
        let outcome = if call.phase == Phase::RequestFilter { Outcome::Next } else { Outcome::End };
        let ops =
            if call.phase == Phase::RequestFilter { ops } else { vec![Op::status(418).expect("status")] };
        let state = Some([b"\x81\xa1n", call.state.len().to_string().as_bytes()].concat().into());
        Answer::Reply(Reply { ops, state, ..reply(call, "w1", outcome) })
    })
    .await;
    let gateway = Gateway::with_workers(&broker.url(), 1).await;
    let mut session = Session::default();
    let done = gateway.call("auth", Phase::RequestFilter, &mut session).await;
    assert_eq!(done.outcome, Outcome::Next);
    assert_eq!(done.exchange.request.headers["x-user"], "1");
    assert_eq!(done.exchange.response.status, 200, "a response drafted before next is dropped");
    assert_eq!(session.state, b"\x81\xa1n0"[..]);
    let done = gateway.call("auth", Phase::ResponseFilter, &mut session).await;
    assert_eq!((done.outcome, done.exchange.response.status.as_u16()), (Outcome::End, 418));
    assert_eq!(session.state, b"\x81\xa1n4"[..]);
}

#[tokio::test]
async fn later_phases_of_a_session_go_to_its_worker_and_its_end_is_told() {
    let broker = Broker::start(&[]);
    let all = [("auth", shape(&Phase::ALL, true)), ("stamp", shape(&Phase::ALL, false))];
    let entries = all;
    let handler = |id: &'static str| {
        move |call: &CallFrame| {
            let shape =
                entries.iter().find(|(name, _)| *name == call.entry.as_str()).map(|(_, shape)| *shape);
            Answer::Reply(Reply { shape, ..reply(call, id, Outcome::Next) })
        }
    };
    let one = Worker::start(&broker.url(), "w1", &all, handler("w1")).await;
    let two = Worker::start(&broker.url(), "w2", &all, handler("w2")).await;
    let gateway = Gateway::with_workers(&broker.url(), 2).await;
    for _ in 0..10 {
        let mut session = Session::default();
        for phase in Phase::ALL {
            assert_eq!(gateway.call("auth", phase, &mut session).await.outcome, Outcome::Next);
        }
    }
    let calls = || [one.calls(), two.calls()];
    for calls in calls() {
        assert!(calls.iter().all(|seen| seen.own == (seen.call.phase != Phase::RequestFilter)));
        let opened = calls.iter().filter(|seen| !seen.own).map(|seen| seen.call.session);
        for session in opened {
            assert_eq!(calls.iter().filter(|seen| seen.call.session == session).count(), 4);
        }
    }
    let closed = || [&one, &two].map(|worker| worker.log.lock().expect("log").closed.len());
    eventually("each session's end is told", || closed().iter().sum::<usize>() == 10).await;
}

#[tokio::test]
async fn the_short_form_may_run_anywhere_and_its_end_is_nobodys_business() {
    let broker = Broker::start(&[]);
    let entries = [("auth", shape(&Phase::ALL, true)), ("stamp", shape(&Phase::ALL, false))];
    let worker = Worker::start(&broker.url(), "w1", &entries, move |call| {
        let shape = entries.iter().find(|(name, _)| *name == call.entry.as_str()).map(|(_, shape)| *shape);
        Answer::Reply(Reply { shape, ..reply(call, "w1", Outcome::Next) })
    })
    .await;
    let gateway = Gateway::with_workers(&broker.url(), 1).await;
    for entry in ["stamp", "auth"] {
        let mut session = Session::default();
        gateway.call(entry, Phase::RequestFilter, &mut session).await;
        gateway.call(entry, Phase::Logging, &mut session).await;
    }
    eventually("an end is told", || !worker.log.lock().expect("log").closed.is_empty()).await;
    let calls = worker.calls();
    assert_eq!(calls.iter().map(|seen| seen.own).collect::<Vec<_>>(), [false, false, false, true]);
    assert_eq!(worker.log.lock().expect("log").closed, [calls[3].call.session]);
}

#[tokio::test]
async fn a_session_whose_worker_is_gone_fails_at_once() {
    let broker = Broker::start(&[]);
    let entries = [("auth", shape(&Phase::ALL, true))];
    let one = Worker::start(&broker.url(), "w1", &entries, next).await;
    let gateway = Gateway::with_workers(&broker.url(), 1).await;
    let mut session = Session::default();
    gateway.call("auth", Phase::RequestFilter, &mut session).await;
    one.die().await;
    let _two = Worker::start(&broker.url(), "w2", &entries, next).await;
    let done =
        gateway.call_with("auth", Phase::ResponseFilter, &mut session, exchange(), &policy(60_000, 9)).await;
    assert_eq!(failure(&done), FailureKind::WorkerDied);
}

#[tokio::test]
async fn a_call_that_nobody_received_is_sent_again_within_its_retries() {
    let broker = Broker::start(&[]);
    let gateway = Gateway::start(&messaging(&broker.url()));
    eventually("connected", || gateway.connection.ready().is_ok()).await;
    let asked = Instant::now();
    let twice = policy(60_000, 2);
    let done =
        gateway.call_with("auth", Phase::RequestFilter, &mut Session::default(), exchange(), &twice).await;
    assert_eq!(failure(&done), FailureKind::Unavailable);
    assert!(asked.elapsed() < Duration::from_secs(30), "it did not wait for its time-out");
    let url = broker.url();
    let mut session = Session::default();
    let patient = policy(30_000, 1_000);
    let (done, worker) = tokio::join!(
        gateway.call_with("auth", Phase::RequestFilter, &mut session, exchange(), &patient),
        async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            Worker::start(&url, "w1", &[], next).await
        }
    );
    assert_eq!(done.outcome, Outcome::Next);
    assert_eq!(worker.calls().len(), 1);
    assert_eq!(worker.calls()[0].call.attempt, 1, "what nobody received was no attempt");
}

#[tokio::test]
async fn a_call_without_a_reply_times_out_and_its_late_reply_is_ignored() {
    let broker = Broker::start(&[]);
    let calls = AtomicUsize::new(0);
    let worker =
        Worker::start(&broker.url(), "w1", &[], move |call| match calls.fetch_add(1, Ordering::Relaxed) {
            0 => Answer::AckOnly,
            _ => next(call),
        })
        .await;
    let gateway = Gateway::with_workers(&broker.url(), 1).await;
    let short = policy(100, 9);
    let done =
        gateway.call_with("auth", Phase::RequestFilter, &mut Session::default(), exchange(), &short).await;
    assert_eq!(failure(&done), FailureKind::TimedOut);
    assert_eq!(worker.calls().len(), 1, "a time-out is never sent again");
    let done = gateway.call("auth", Phase::RequestFilter, &mut Session::default()).await;
    assert_eq!(done.outcome, Outcome::Next);
}

#[tokio::test]
async fn an_answer_that_is_not_valid_changes_nothing() {
    let broker = Broker::start(&[]);
    let _worker = Worker::start(&broker.url(), "w1", &[], |call| match call.entry.as_str() {
        "late" => {
            let ops = vec![Op::status(404).expect("status"), set_header("x-late")];
            Answer::Reply(Reply { ops, ..reply(call, "w1", Outcome::Next) })
        }
        "garbage" => Answer::Raw(Bytes::from_static(b"\xc1garbage")),
        _ => Answer::Raw(Bytes::from_static(b"\x82\xa1t\xa5reply\xa1v\x01")),
    })
    .await;
    let gateway = Gateway::with_workers(&broker.url(), 1).await;
    for entry in ["late", "garbage", "empty"] {
        let done = gateway.call(entry, Phase::ResponseFilter, &mut Session::default()).await;
        assert_eq!(failure(&done), FailureKind::Protocol, "{entry}");
        assert_eq!(done.exchange.response.status, 200);
    }
}

#[tokio::test]
async fn a_raise_keeps_its_kind_and_is_never_sent_again() {
    let broker = Broker::start(&[]);
    let worker = Worker::start(&broker.url(), "w1", &[], |call| {
        let raised = Failure::new(FailureKind::Raised, "ValueError: boom");
        Answer::Reply(reply(call, "w1", Outcome::Failed(raised)))
    })
    .await;
    let gateway = Gateway::with_workers(&broker.url(), 1).await;
    let done = gateway
        .call_with("auth", Phase::RequestFilter, &mut Session::default(), exchange(), &policy(2000, 9))
        .await;
    assert_eq!(done.outcome, Outcome::Failed(Failure::new(FailureKind::Raised, "ValueError: boom")));
    assert_eq!(worker.calls().len(), 1);
}

#[tokio::test]
async fn a_call_that_finds_everybody_busy_fails_as_overloaded() {
    let broker = Broker::start(&[]);
    let worker = Worker::start(&broker.url(), "w1", &[], |_| Answer::Busy).await;
    let gateway = Gateway::with_workers(&broker.url(), 1).await;
    let done = gateway.call("auth", Phase::RequestFilter, &mut Session::default()).await;
    assert_eq!(failure(&done), FailureKind::Overloaded);
    assert_eq!(worker.calls().len(), 4, "three hops, then the answer");
}

#[tokio::test]
async fn a_worker_gets_the_body_it_asks_for_and_the_wait_does_not_count() {
    let broker = Broker::start(&[]);
    let _worker = Worker::start(&broker.url(), "w1", &[], |call| {
        assert_eq!(call.request_body, nylon_wire::BodyPart::Absent);
        let (id, call) = (call.id, call.clone());
        Answer::Read(Box::new(move |body| {
            assert_eq!(body.id, id);
            match body.body {
                Ok(part) => {
                    assert!(part.is_whole());
                    let ops = vec![Op::SetRequestBody(part.data)];
                    Reply { ops, ..reply(&call, "w1", Outcome::Next) }
                }
                Err(failure) => reply(&call, "w1", Outcome::Failed(failure)),
            }
        }))
    })
    .await;
    let gateway = Gateway::with_workers(&broker.url(), 1).await;
    // The client takes 400 ms, the handler has 300.
    let short = policy(300, 0);
    let done =
        gateway.call_with("auth", Phase::RequestFilter, &mut Session::default(), exchange(), &short).await;
    assert_eq!(done.outcome, Outcome::Next);
    assert_eq!(done.exchange.request_body, RequestBody::Replaced(Bytes::from_static(b"the body")));
    let refused = Failure::new(FailureKind::BodyUnreadable, "the client sent half of it");
    let mut source = SlowBody(Duration::ZERO, Err(refused.clone()));
    let entry = gateway.entry("auth");
    let done =
        call(&*entry, Phase::RequestFilter, &mut Session::default(), exchange(), &short, &mut source).await;
    assert_eq!(done.outcome, Outcome::Failed(refused));
}

#[tokio::test]
async fn a_body_that_does_not_travel_along_is_announced_with_its_size() {
    let broker = Broker::start(&[]);
    let worker = Worker::start(&broker.url(), "w1", &[], next).await;
    let gateway = Gateway::with_workers(&broker.url(), 1).await;
    let mut large = exchange();
    large.response_body = ResponseBody::Read(Bytes::from(vec![1; 2 << 20]));
    let mut session = Session::default();
    let done =
        gateway.call_with("auth", Phase::ResponseBodyFilter, &mut session, large, &policy(2000, 0)).await;
    assert_eq!(done.outcome, Outcome::Next, "a handler that does not ask for it does without");
    assert_eq!(worker.calls()[0].call.response_body, nylon_wire::BodyPart::Held { size: 2 << 20 });
}

#[tokio::test]
async fn a_chunk_is_sent_and_replaced() {
    let broker = Broker::start(&[]);
    let _worker = Worker::start(&broker.url(), "w1", &[], |call| {
        let seen = call.clone().into_context().expect("sections");
        let chunk = seen.exchange().chunk.clone().expect("chunk");
        let ops = vec![Op::SetChunk([&chunk.data[..], b"!"].concat().into())];
        Answer::Reply(Reply { ops, ..reply(call, "w1", Outcome::Next) })
    })
    .await;
    let gateway = Gateway::with_workers(&broker.url(), 1).await;
    let mut by_chunk = exchange();
    by_chunk.chunk = Some(Chunk { data: Bytes::from_static(b"part"), end_of_stream: true });
    let mut session = Session::default();
    let done =
        gateway.call_with("auth", Phase::ResponseBodyFilter, &mut session, by_chunk, &policy(2000, 0)).await;
    assert_eq!(done.exchange.chunk.expect("chunk").data, "part!");
}

#[tokio::test]
async fn a_phase_that_every_worker_lacks_is_known_from_announcement_and_question() {
    let broker = Broker::start(&[]);
    let url = broker.url();
    let early = Worker::start(&url, "w1", &[("auth", shape(&[Phase::RequestFilter], false))], next).await;
    let gateway = Gateway::with_workers(&url, 1).await;
    let entry = gateway.entry("auth");
    assert_eq!(entry.traits().phases, PhaseMask::from_iter([Phase::RequestFilter]), "asked at connect");
    let late = Worker::start(&url, "w2", &[("auth", shape(&[Phase::Logging], false))], next).await;
    eventually("the announcement counts", || entry.traits().phases.contains(Phase::Logging)).await;
    late.leave().await;
    eventually("the farewell counts", || !entry.traits().phases.contains(Phase::Logging)).await;
    early.leave().await;
    eventually("nobody is left", || entry.traits().phases == PhaseMask::ALL).await;
    assert!(gateway.host.ready().expect_err("no worker").contains("no worker of group \"g\""));
}

#[tokio::test]
async fn an_entry_that_one_worker_lacks_is_called_on_another_that_has_it() {
    let broker = Broker::start(&[]);
    let unknown = |id: &'static str| {
        move |call: &CallFrame| match id {
            "w1" => {
                let failure = Failure::new(FailureKind::UnknownEntry, "no such entry");
                Answer::Reply(reply(call, id, Outcome::Failed(failure)))
            }
            _ => Answer::Reply(reply(call, id, Outcome::Next)),
        }
    };
    let _old = Worker::start(&broker.url(), "w1", &[], unknown("w1")).await;
    let _new =
        Worker::start(&broker.url(), "w2", &[("auth", shape(&Phase::ALL, false))], unknown("w2")).await;
    let gateway = Gateway::with_workers(&broker.url(), 2).await;
    for _ in 0..20 {
        let done = gateway.call("auth", Phase::RequestFilter, &mut Session::default()).await;
        assert_eq!(done.outcome, Outcome::Next);
    }
    let done = loop {
        // Nobody has announced this one; only w1 says so.
        let done = gateway.call("other", Phase::RequestFilter, &mut Session::default()).await;
        if done.outcome != Outcome::Next {
            break done;
        }
    };
    assert_eq!(failure(&done), FailureKind::UnknownEntry);
}

#[tokio::test]
async fn calls_beyond_max_inflight_are_refused() {
    let broker = Broker::start(&[]);
    let worker = Worker::start(&broker.url(), "w1", &[], |_| Answer::AckOnly).await;
    let mut narrow = messaging(&broker.url());
    narrow.max_inflight = 1;
    let gateway = Gateway::start(&narrow);
    eventually("connected", || gateway.host.ready().is_ok()).await;
    let (mut first, mut second) = (Session::default(), Session::default());
    let (slow, short) = (policy(500, 0), policy(5000, 0));
    let (held, refused) = tokio::join!(
        gateway.call_with("auth", Phase::RequestFilter, &mut first, exchange(), &slow),
        gateway.call_with("auth", Phase::RequestFilter, &mut second, exchange(), &short),
    );
    assert_eq!((failure(&held), failure(&refused)), (FailureKind::TimedOut, FailureKind::Overloaded));
    assert_eq!(worker.calls().len(), 1);
}
