//! What a phase of a native plugin costs in the gateway: the dispatch to a compiled C plugin and back, with what it
//! reads. `cargo bench -p nylon-benches --bench dispatch` (needs a C compiler)

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use futures_util::future::LocalBoxFuture;
use nylon_benches::exchange;
use nylon_config::plan::{CallbackMemory, OnError, PhasePolicy, Retry};
use nylon_core::{Call, Exchange, Failure, Outcome, Phase};
use nylon_gateway::plugin::native::{Library, NativeHost, NativeSettings};
use nylon_gateway::plugin::{BodySource, Pending, PhaseCall, PluginEntry, PluginHost, Session};
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

struct NoBody;

impl BodySource for NoBody {
    fn read(&mut self) -> LocalBoxFuture<'_, Result<Bytes, Failure>> {
        Box::pin(async { Ok(Bytes::new()) })
    }

    fn limit(&self) -> usize {
        10 << 20
    }
}

fn library() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("dispatch.so");
    let built = Command::new("cc")
        .args(["-std=c11", "-O2", "-shared", "-fPIC", "-I"])
        .arg(here.join("../../include"))
        .arg("-o")
        .arg(&out)
        .arg(here.join("plugins/dispatch.c"))
        .status();
    assert!(built.is_ok_and(|status| status.success()), "the bench needs a C compiler (cc)");
    out
}

/// One phase; the exchange comes back.
fn phase(
    entry: &dyn PluginEntry,
    session: &mut Session,
    exchange: Box<Exchange>,
    policy: &PhasePolicy,
) -> Box<Exchange> {
    let call = PhaseCall {
        exchange,
        call: Call {
            phase: Phase::RequestFilter,
            payload: Bytes::from_static(b"\x81\xa1a\x01"),
            state: Bytes::new(),
            attempt: 1,
        },
        policy,
        deadline: Instant::now() + policy.timeout,
        session,
        body: &mut NoBody,
        response_body: None,
        stream: &mut None,
        recording: false,
    };
    match entry.call(call) {
        Pending::Ready(finished) if finished.outcome == Outcome::Next => finished.exchange,
        _ => panic!("the plugin goes on at once"),
    }
}

fn dispatch(criterion: &mut Criterion) {
    let settings = NativeSettings {
        name: "dispatch".to_owned(),
        config: String::new(),
        callback_memory: CallbackMemory::Plugin,
    };
    let library = Library::open(&library()).expect("the library is sound");
    let host = NativeHost::start(library, settings).expect("the library starts");
    let pause = Duration::ZERO;
    let policy = PhasePolicy {
        timeout: Duration::from_secs(5),
        on_error: OnError::Fail,
        retry: Retry { max: 0, backoff_initial: pause, backoff_max: pause },
        idempotent: true,
    };
    let mut group = criterion.benchmark_group("native");
    for name in ["nothing", "lean", "chatty", "headers"] {
        let entry = host.entry(name).expect("any name is taken");
        let mut session = Session::default();
        let mut lent = Some(Box::new(exchange("inline")));
        group.bench_function(format!("{name}: a phase"), |bencher| {
            bencher.iter(|| {
                let exchange = lent.take().expect("it comes back");
                lent = Some(phase(black_box(&*entry), &mut session, exchange, &policy));
            });
        });
        group.bench_function(format!("{name}: a session of one phase"), |bencher| {
            bencher.iter(|| {
                let exchange = lent.take().expect("it comes back");
                lent = Some(phase(black_box(&*entry), &mut Session::default(), exchange, &policy));
            });
        });
    }
    group.finish();
    host.shutdown(Duration::from_secs(1));
}

criterion_group!(benches, dispatch);
criterion_main!(benches);
