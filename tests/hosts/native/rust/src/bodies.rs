//! Entries that filter bodies.

use crate::origin;
use crate::reading::digest;
use nylon_plugin::{Context, Plugin, Result, json};

pub(crate) fn register(plugin: Plugin) -> Plugin {
    plugin
        .response_body_filter("whole", |ctx| {
            let mut body = ctx.response().body()?.to_ascii_uppercase();
            body.push(b'!');
            ctx.response().body_raw(body)?.set_header("x-whole", "1")?;
            Ok(())
        })
        .response_body_filter("whole-untouched", |ctx| ctx.response().body().map(drop))
        .response_body_filter("whole-emptied", |ctx| ctx.response().body_raw("").map(drop))
        .response_body_filter_by_chunk("by-chunk", |ctx| {
            let chunk = ctx.chunk()?;
            let mut data = chunk.data.to_ascii_uppercase();
            if chunk.end_of_stream {
                data.push(b'!');
            }
            ctx.set_chunk(data)
        })
        .entry("by-chunk-counting", |session| {
            let mut chunks = Vec::new();
            session.response_body_filter_by_chunk(move |ctx| -> Result {
                let chunk = ctx.chunk()?;
                chunks.push(chunk.data.len());
                if chunk.end_of_stream { origin::tell(ctx, json!(chunks)) } else { Ok(()) }
            });
        })
        .response_body_filter_by_chunk("by-chunk-raise", |ctx| {
            assert!(!ctx.chunk()?.data.windows(3).any(|word| word == b"bad"), "a bad chunk");
            Ok(())
        })
        .response_body_filter_by_chunk("by-chunk-swallow", |ctx| ctx.set_chunk(""))
        .response_filter("touch", |ctx| ctx.response().set_header("x-touched", "1").map(drop))
        .request_filter_with_body("mirror-body", mirror)
        .request_filter("mirror-body-awaited", |ctx| origin::aside(ctx, |ctx, _| mirror(ctx)))
        .request_filter("answer-content", |ctx| {
            ctx.response().body_raw(content(size(ctx)?))?;
            ctx.end()
        })
        .response_filter("digest-answer", |ctx| {
            ctx.response().set_header("x-seen", digest(&ctx.response().body()?)).map(drop)
        })
        .response_body_filter("mirror-answer", |ctx| {
            let mut body = ctx.response().body()?;
            body.reverse();
            ctx.response().body_raw(body).map(drop)
        })
        .response_body_filter_by_chunk("last-chunk-content", |ctx| {
            ctx.set_chunk(if ctx.chunk()?.end_of_stream { content(size(ctx)?) } else { Vec::new() })
        })
}

fn mirror(ctx: &mut Context) -> Result {
    let mut body = ctx.request().body()?;
    body.reverse();
    ctx.request().set_body(body)?;
    ctx.next()
}

/// The size that the request's query asks for.
pub(crate) fn size(ctx: &Context) -> Result<usize> {
    Ok(ctx.request().query()?.parse()?)
}

/// Bytes that are nowhere like their neighbours: as in tests/hosts/entries/bodies.py.
pub(crate) fn content(size: usize) -> Vec<u8> {
    (size..2 * size).map(|j| ((j % 251) ^ (j % 241) ^ (j % 239)).to_le_bytes()[0]).collect()
}
