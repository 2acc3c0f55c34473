//! Entries that change requests and responses.

use crate::origin;
use nylon_plugin::{Context, ErrorKind, Plugin, Result, json};

pub(crate) fn register(plugin: Plugin) -> Plugin {
    plugin
        .request_filter("write-method", |ctx| {
            ctx.request().set_method("PUT")?;
            ctx.next()
        })
        .request_filter("write-path", |ctx| {
            ctx.request().set_path("/elsewhere/a%20b")?;
            ctx.next()
        })
        .request_filter("write-query", |ctx| {
            ctx.request().set_query("a=1&b=%20")?;
            ctx.next()
        })
        .request_filter("remove-query", |ctx| {
            ctx.request().set_query("")?;
            ctx.next()
        })
        .request_filter("write-headers", write_headers)
        .request_filter("write-body", |ctx| {
            ctx.request().set_body(b"\x00new\xff")?;
            ctx.next()
        })
        .request_filter("write-body-text", |ctx| {
            ctx.request().set_body("caf\u{e9}")?;
            ctx.next()
        })
        .request_filter("empty-body", |ctx| {
            ctx.request().set_body("")?;
            ctx.next()
        })
        .request_filter_with_body("replace-read-body", |ctx| {
            let mut body = ctx.request().body()?;
            body.reverse();
            ctx.request().set_body(body)?.set_header("x-now", ctx.request().body()?)?;
            ctx.next()
        })
        .request_filter("write-framing", |ctx| {
            let request = ctx.request().set_header("content-length", "1000")?;
            request.set_header("transfer-encoding", "chunked")?.set_header("connection", "upgrade")?;
            request.set_body("four")?;
            ctx.next()
        })
        .request_filter("refused-writes", refused_writes)
        .request_filter("answer", answer)
        .request_filter("redirect", |ctx| {
            match ctx.request().query()?.as_str() {
                "" => ctx.response().redirect("/there")?,
                code => ctx.response().redirect_with("https://example.com/caf\u{e9}?a=b", code.parse()?)?,
            };
            ctx.end()
        })
        .response_filter("write-response", |ctx| {
            let response = ctx.response().set_status(418)?.set_header("x-set", "new")?;
            response.add_header("x-added", "second")?.remove_header("x-removed")?;
            let set = response.header("x-set")?.ok_or("it was set")?;
            response.set_header("x-item", format!("{},{}", response.status()?.as_u16(), set.to_str()?))?;
            Ok(())
        })
        .response_filter("replace-response-body", |ctx| {
            ctx.response().body_text("replaced")?;
            Ok(())
        })
        .response_filter("write-too-late", |ctx| {
            let request = ctx.request();
            let refused = [
                request.add_header("x-a", "1").map(drop),
                request.set_body("").map(drop),
                request.set_path("/").map(drop),
                ctx.set_chunk(""),
            ];
            ctx.response().set_header("x-refused", refusals(refused).join(","))?;
            Ok(())
        })
        .logging("write-too-late", |ctx| {
            let refused =
                [ctx.response().set_status(500).map(drop), ctx.request().remove_header("host").map(drop)];
            origin::tell(ctx, json!(refusals(refused)))
        })
}

/// A "yes" for each change that came too late.
fn refusals<const N: usize>(changes: [Result; N]) -> Vec<&'static str> {
    let refused = |change: &Result| change.as_ref().is_err_and(|error| error.kind() == ErrorKind::Phase);
    changes.iter().filter(|change| refused(change)).map(|_| "yes").collect()
}

fn write_headers(ctx: &mut Context) -> Result {
    let request = ctx.request();
    let text = |name: &str| -> Result<String> {
        Ok(request
            .header(name)?
            .map(|value| value.to_str().map(str::to_owned))
            .transpose()?
            .unwrap_or_default())
    };
    request.set_header("X-Set", "new")?.add_header("x-added", "second")?.remove_header("x-removed")?;
    let popped = text("x-popped")?;
    request.remove_header("x-popped")?.set_header("x-popped-was", popped)?.set_header("x-updated", "1")?;
    if request.header("x-set")?.is_none() {
        request.set_header("x-set", "not this")?;
    }
    request.set_header("x-latin", "caf\u{e9}")?;
    // A handler reads its own writes.
    let removed = if request.header("x-removed")?.is_some() { "True" } else { "False" };
    request.set_header("x-own-writes", format!("{},{},{removed}", text("x-set")?, text("x-added")?))?;
    ctx.next()
}

/// Tries everything that is not legal HTTP, and goes on with nothing changed.
fn refused_writes(ctx: &mut Context) -> Result {
    let (request, response) = (ctx.request(), ctx.response());
    let attempts = [
        ("method", request.set_method("GET /x HTTP/1.1\r\nx").map(drop)),
        ("connect", request.set_method("CONNECT").map(drop)),
        ("path", request.set_path("/x HTTP/1.1\r\nx-injected: 1\r\n").map(drop)),
        ("relative_path", request.set_path("x").map(drop)),
        ("query", request.set_query("a\r\nx-injected: 1").map(drop)),
        ("value", request.set_header("x-a", "a\r\nx-injected: 1").map(drop)),
        ("name", request.set_header("x-a\r\nx-injected", "1").map(drop)),
        ("added", request.add_header("x-a", "a\nb").map(drop)),
        ("response value", response.set_header("x-a", "a\r\nb").map(drop)),
        ("response added", response.add_header("x-a", "a\0b").map(drop)),
        ("response name", response.set_header("x a", "b").map(drop)),
        ("status 99", response.set_status(99).map(drop)),
        ("status 101", response.set_status(101).map(drop)),
        ("status 600", response.set_status(600).map(drop)),
        ("redirect", response.redirect_with("/x", 200).map(drop)),
    ];
    let refused = |done: &Result| done.as_ref().is_err_and(|error| error.kind() == ErrorKind::Invalid);
    let passed: Vec<_> = attempts.iter().filter(|(_, done)| !refused(done)).map(|(name, _)| *name).collect();
    request.set_header("x-passed", passed.join(","))?;
    ctx.next()
}

/// The body in each of its forms, as the request's query says.
fn answer(ctx: &mut Context) -> Result {
    let response = ctx.response().set_status(201)?.set_header("x-a", "1")?.add_header("x-a", "2")?;
    response.set_header("x-b", "1")?.remove_header("x-b")?;
    match ctx.request().query()?.as_str() {
        "raw" => response.body_raw(b"\x00\xff")?,
        "text" => response.body_text("caf\u{e9}")?,
        "html" => response.body_html("<p>caf\u{e9}")?,
        "json" => response.body_json(&json!({"a": [1, null, "caf\u{e9}"]}))?,
        "own-type" => {
            response.set_header("content-type", "application/problem+json")?.body_json(&json!({}))?
        }
        "framing" => {
            let framed =
                response.set_header("transfer-encoding", "chunked")?.set_header("content-length", "9")?;
            framed.body_text("four")?
        }
        _ => response,
    };
    ctx.end()
}
