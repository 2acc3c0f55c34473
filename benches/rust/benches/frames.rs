//! What a frame costs: encoding and decoding the sample call and the sample reply. `cargo bench -p nylon-benches`

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use nylon_benches::{CALL_SIZE, ID, REPLY_SIZE, call, exchange, meta, plain_call, reply};
use nylon_core::Phase;
use nylon_wire::{Ack, CallFrame, Envelope, Reply, encode_call};
use std::hint::black_box;

const ENTRY: &str = "inline";

fn calls(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("call");
    group.throughput(Throughput::Bytes(CALL_SIZE as u64));
    let (exchange, plain, mut out) = (exchange(ENTRY), plain_call(), Vec::with_capacity(2 * CALL_SIZE));
    group.bench_function("encode", |bencher| {
        bencher.iter(|| {
            out.clear();
            encode_call(&mut out, &meta(ENTRY), black_box(&plain), black_box(&exchange)).expect("encodes");
            black_box(out.len())
        });
    });
    let frame = Bytes::from(call(ENTRY));
    group
        .bench_function("peek", |bencher| bencher.iter(|| Envelope::peek(black_box(&frame)).expect("peeks")));
    group.bench_function("decode the envelope", |bencher| {
        bencher.iter(|| CallFrame::decode(black_box(&frame)).expect("decodes"));
    });
    group.bench_function("decode all of it", |bencher| {
        bencher.iter(|| {
            let decoded = CallFrame::decode(black_box(&frame)).expect("decodes");
            decoded.into_context().expect("has a context")
        });
    });
    group.finish();
}

fn replies(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("reply");
    group.throughput(Throughput::Bytes(REPLY_SIZE as u64));
    let (reply, mut out) = (reply(), Vec::with_capacity(2 * REPLY_SIZE));
    group.bench_function("encode", |bencher| {
        bencher.iter(|| {
            out.clear();
            black_box(&reply).encode(&mut out).expect("encodes");
            black_box(out.len())
        });
    });
    let frame = Bytes::copy_from_slice(&out);
    group.bench_function("decode", |bencher| {
        bencher.iter(|| Reply::decode(black_box(&frame), Phase::RequestFilter, false).expect("decodes"));
    });
    group.finish();
}

fn signs(criterion: &mut Criterion) {
    let (ack, mut out) = (Ack { id: ID, worker: "0123456789abcdef".into() }, Vec::with_capacity(128));
    criterion.bench_function("ack/encode", |bencher| {
        bencher.iter(|| {
            out.clear();
            black_box(&ack).encode(&mut out).expect("encodes");
            black_box(out.len())
        });
    });
    let frame = Bytes::copy_from_slice(&out);
    criterion.bench_function("ack/decode", |bencher| {
        bencher.iter(|| Ack::decode(black_box(&frame)).expect("decodes"))
    });
}

criterion_group!(frames, calls, replies, signs);
criterion_main!(frames);
