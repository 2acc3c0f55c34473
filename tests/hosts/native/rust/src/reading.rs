//! Entries that show what a handler can read.

use crate::Initialized;
use nylon_plugin::http::HeaderValue;
use nylon_plugin::{Context, Plugin, Result, json};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::time::SystemTime;

pub(crate) fn register(plugin: Plugin, initialized: Initialized) -> Plugin {
    plugin
        .request_filter_with_body("read-request", move |ctx| read_request(ctx, &initialized))
        .request_filter("read-headers", read_headers)
        .request_filter("read-bytes", |ctx| {
            let value = ctx.request().header("x-raw")?.ok_or("no x-raw")?;
            ctx.request().set_header("x-raw-copy", &value)?.set_header("x-raw-hex", hex(value.as_bytes()))?;
            ctx.next()
        })
        .request_filter_with_body("read-json", |ctx| {
            let body: Value = ctx.request().json()?;
            let numbers = body["numbers"].as_array().ok_or("no numbers")?;
            let sum: i64 = numbers.iter().filter_map(Value::as_i64).sum();
            ctx.response().body_json(&json!({"sum": sum}))?;
            ctx.end()
        })
        .request_filter_with_body("read-body", |ctx| {
            ctx.request().set_header("x-seen", digest(&ctx.request().body()?))?;
            ctx.next()
        })
        .request_filter("read-body-awaited", |ctx| {
            crate::origin::aside(ctx, |ctx, _| {
                let (first, second) = (ctx.request().body()?, ctx.request().body()?);
                assert_eq!(first, second);
                ctx.request().set_header("x-seen", digest(&first))?;
                ctx.next()
            })
        })
        .request_filter("read-body-undeclared", |ctx| {
            if let Err(error) = ctx.request().body() {
                ctx.response().body_text(error.to_string())?;
            }
            ctx.end()
        })
        .response_filter("read-response", read_response)
        .response_body_filter("read-response-body", |ctx| {
            let (body, bytes) = (ctx.response().body()?, ctx.response().bytes()?);
            ctx.response().set_header("x-seen", format!("{} {} {bytes}", body.len(), digest(&body)))?;
            Ok(())
        })
}

fn read_request(ctx: &mut Context, initialized: &Initialized) -> Result {
    let request = ctx.request();
    let mut query = Map::new();
    for (name, value) in request.query_params()? {
        let values = query.entry(name).or_insert_with(|| json!([]));
        values.as_array_mut().ok_or("a list")?.push(value.into());
    }
    // One character for each byte.
    let body: String = request.body()?.into_iter().map(char::from).collect();
    ctx.response().body_json(&json!({
        "method": request.method()?.as_str(),
        "url": request.url()?,
        "path": request.path()?,
        "query": request.query()?,
        "query_params": query,
        "route_params": request.params()?,
        "host": request.host()?,
        "scheme": request.scheme()?,
        "http_version": request.http_version()?,
        "client_ip": request.client_ip()?.to_string(),
        "cookies": request.cookies()?,
        "bytes": request.bytes()?,
        "timestamp": request.timestamp()?.duration_since(SystemTime::UNIX_EPOCH)?.as_secs_f64(),
        "body": body,
        "payload": ctx.payload::<Value>()?,
        "params": request.params()?,
        "state": {},
        "request_id": ctx.request_id()?,
        "attempt": ctx.attempt()?,
        "status": ctx.response().status()?.as_u16(),
        "initialized": {"times": initialized.times, "config": *initialized.config},
    }))?;
    ctx.end()
}

fn read_headers(ctx: &mut Context) -> Result {
    let request = ctx.request();
    let get =
        |name: &str| -> Result<Option<String>> { Ok(request.header(name)?.map(|value| latin1(&value))) };
    let headers = request.headers()?;
    let own = || headers.iter().filter(|(name, _)| name.as_str().starts_with("x-"));
    let mut items: Vec<_> = own().map(|(name, value)| (name.as_str(), latin1(value))).collect();
    items.sort();
    ctx.response().body_json(&json!({
        "got": get("X-One")?,
        "item": latin1(&headers["x-ONE"]),
        "missing": get("x-missing")?,
        "default": get("x-missing")?.unwrap_or("none".to_owned()),
        "missing_item": headers.get("x-missing").map_or("no x-missing", |_| "there"),
        "in": [headers.contains_key("X-One"), headers.contains_key("x-missing")],
        "joined": get("x-many")?,
        "names": own().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
        "items": items,
        "length_fits": headers.len() == headers.iter().count(),
        "empty": get("x-empty")?,
    }))?;
    ctx.end()
}

fn read_response(ctx: &mut Context) -> Result {
    let (response, request) = (ctx.response(), ctx.request());
    let headers = response.headers()?;
    let seen = json!([
        response.status()?.as_u16(),
        hex(response.header("x-origin")?.ok_or("no x-origin")?.as_bytes()),
        headers.get_all("set-cookie").iter().map(latin1).collect::<Vec<_>>(),
        response.header("x-missing")?.as_ref().map(latin1),
        response.bytes()?,
        response.duration()?,
        response.error()?,
        request.method()?.as_str(),
        request.path()?,
    ]);
    response.set_header("x-seen", seen.to_string())?;
    Ok(())
}

fn latin1(value: &HeaderValue) -> String {
    value.as_bytes().iter().copied().map(char::from).collect()
}

pub(crate) fn digest(data: &[u8]) -> String {
    hex(&Sha256::digest(data))
}

pub(crate) fn hex(data: &[u8]) -> String {
    data.iter().map(|byte| format!("{byte:02x}")).collect()
}
