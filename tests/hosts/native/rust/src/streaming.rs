//! Entries that write their response while it is on its way.
//!
//! `?size` is what they write, in pieces of 10,000 bytes.

use crate::bodies::{content, size};
use crate::origin::{aside, hang};
use nylon_plugin::{Context, Error, ErrorKind, Plugin, ResponseStream, Result, json};
use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

const PIECE: usize = 10_000;

/// How much the handlers that never end have written, by key.
static WRITTEN: LazyLock<Mutex<HashMap<String, usize>>> = LazyLock::new(Mutex::default);

pub(crate) fn register(plugin: Plugin) -> Plugin {
    plugin
        .request_filter("stream-blocking", |ctx| in_mode(ctx, "blocking"))
        .request_filter("stream-awaited", |ctx| in_mode(ctx, "awaited"))
        .request_filter("stream-at-once", |ctx| {
            aside(ctx, |ctx, _| {
                let body = content(size(ctx)?);
                let mut stream = ctx.response().stream()?;
                stream.write(body)?;
                stream.end()
            })
        })
        .request_filter("stream-small", |ctx| {
            ctx.response()
                .set_header("content-length", "1")?
                .body_text("what the stream takes the place of")?;
            let mut stream = ctx.response().stream()?;
            stream.write("caf\u{e9} ")?;
            stream.write(b"au lait")?;
            stream.end()
        })
        .request_filter("stream-inline-large", |ctx| {
            let mut stream = ctx.response().stream()?;
            for _ in 0..300 {
                stream.write([0; PIECE])?;
            }
            stream.end()
        })
        .request_filter("stream-at-gate", |ctx| {
            aside(ctx, |ctx, spot| {
                let mut stream = ctx.response().stream()?;
                stream.write("before")?;
                spot.wait_at_gate()?;
                stream.write("after")?;
                stream.end()
            })
        })
        .request_filter("stream-raise", |ctx| {
            aside(ctx, |ctx, spot| {
                ctx.response().stream()?.write("good")?;
                spot.wait_at_gate()?;
                panic!("in the middle")
            })
        })
        .request_filter("stream-raise-at-once", |ctx| -> Result {
            let _stream = ctx.response().stream()?;
            panic!("before the first byte")
        })
        .request_filter("stream-unended", |ctx| ctx.response().stream()?.write("all that there is"))
        .request_filter("stream-idle", |ctx| {
            aside(ctx, |ctx, _| {
                ctx.response().stream()?.write("good")?;
                hang(ctx);
                Ok(())
            })
        })
        .request_filter("stream-facts", |ctx| {
            *ctx.state::<From>() = From("request_filter");
            aside(ctx, |ctx, _| write_pieces(ctx, ctx.response().stream()?))
        })
        .response_filter("stream-facts", |ctx| {
            let from = ctx.state::<From>().0;
            ctx.response().set_header("x-state", from).map(drop)
        })
        .logging("stream-facts", |ctx| {
            let from = ctx.state::<From>().0;
            let response = ctx.response();
            let facts = json!([response.status()?.as_u16(), response.bytes()?, response.error()?, from]);
            crate::origin::tell(ctx, facts)
        })
        .request_filter("stream-empty", |ctx| {
            // Where no body may follow: the first writes say so.
            aside(ctx, |ctx, spot| {
                if !ctx.request().query()?.is_empty() {
                    ctx.response().set_status(u16::try_from(size(ctx)?)?)?;
                }
                let error = write_for_ever(ctx.response().stream()?, || ());
                spot.tell(&error.to_string().into())
            })
        })
        .request_filter("stream-for-ever", for_ever)
        .request_filter("stream-for-ever-awaited", for_ever)
        .request_filter("stream-progress", |ctx| {
            let key = ctx.request().params()?.remove("rest").ok_or("the route has no rest")?;
            ctx.response().body_json(&written().get(&key).copied().unwrap_or(0))?;
            ctx.end()
        })
}

#[derive(Clone, Default)]
struct From(&'static str);

fn written() -> MutexGuard<'static, HashMap<String, usize>> {
    WRITTEN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn in_mode(ctx: &mut Context, mode: &'static str) -> Result {
    aside(ctx, move |ctx, _| {
        write_pieces(ctx, ctx.response().set_status(201)?.set_header("x-mode", mode)?.stream()?)
    })
}

fn write_pieces(ctx: &Context, mut stream: ResponseStream<'_>) -> Result {
    for piece in content(size(ctx)?).chunks(PIECE) {
        stream.write(piece)?;
    }
    stream.end()
}

/// Writes until it can no more, and gives the reason.
fn write_for_ever(mut stream: ResponseStream<'_>, mut count: impl FnMut()) -> Error {
    loop {
        count();
        if let Err(error) = stream.write([0; PIECE]) {
            return error;
        }
    }
}

fn for_ever(ctx: &mut Context) -> Result {
    aside(ctx, |ctx, spot| {
        let count = || *written().entry(spot.key.clone()).or_default() += PIECE;
        let error = write_for_ever(ctx.response().stream()?, count);
        let written = written().remove(&spot.key);
        assert_eq!(error.kind(), ErrorKind::StreamClosed);
        spot.tell(&json!(["StreamClosed", written]))
    })
}
