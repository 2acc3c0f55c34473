//! Entries that keep something from phase to phase.

use crate::origin::{self, tell};
use crate::reading::hex;
use nylon_plugin::{Plugin, Result, json};
use serde_json::Value;
use std::sync::{Arc, Mutex, PoisonError};

pub(crate) fn register(plugin: Plugin) -> Plugin {
    plugin
        .entry("closure", |session| {
            // What a session's closures hold is its own, through all phases.
            let seen = Seen::default();
            let here = seen.clone();
            session.request_filter(move |ctx| {
                let who = ctx.request().header("x-who")?;
                here.add(format!("request {}", who.as_ref().map_or(Ok("None"), |who| who.to_str())?));
                ctx.next()
            });
            let here = seen.clone();
            session.response_filter(move |_| drop(here.add("response".to_owned())));
            let here = seen.clone();
            session.response_body_filter(move |ctx| {
                ctx.response().body_json(&here.add("body".to_owned())).map(drop)
            });
            session.logging(move |ctx| tell(ctx, json!(seen.all())));
        })
        .request_filter("state", |ctx| {
            *ctx.state::<State>() = State {
                log: vec!["request"],
                bytes: vec![0x00, 0xff],
                kinds: json!({"none": null, "int": 1_u64 << 40, "float": 0.5, "text": "caf\u{e9}"}),
            };
            ctx.next()
        })
        .response_filter("state", |ctx| ctx.state::<State>().log.push("response"))
        .response_body_filter("state", |ctx| {
            let state = ctx.state::<State>();
            state.log.push("body");
            state.kinds["bytes"] = hex(&state.bytes).into();
            let (log, kinds) = (state.log.clone(), state.kinds.clone());
            ctx.response().body_json(&json!({"log": log, "kinds": kinds})).map(drop)
        })
        .logging("state", |ctx| {
            let log = ctx.state::<State>().log.clone();
            tell(ctx, json!(log))
        })
        .entry("state-in-setup", |session| {
            session.request_filter(|ctx| {
                *ctx.state::<i32>() = 1;
                ctx.next()
            });
            session.response_filter(|ctx| -> Result {
                let state = format!("{{'n': {}}}", ctx.state::<i32>());
                ctx.response().set_header("x-state", state).map(drop)
            });
        })
        .logging("log-facts", |ctx| {
            let (request, response) = (ctx.request(), ctx.response());
            let header = response.header("x-origin")?;
            let facts = json!({
                "status": response.status()?.as_u16(),
                "bytes": response.bytes()?,
                "duration": response.duration()?.map(|duration| duration.as_secs_f64()),
                "error": response.error()?,
                "method": request.method()?.as_str(),
                "path": request.path()?,
                "header": header.as_ref().map(|value| value.to_str()).transpose()?,
                "request_id": ctx.request_id()?,
            });
            tell(ctx, facts)
        })
        .logging("slow-log", |ctx| {
            origin::aside(ctx, |_, spot| {
                spot.wait_at_gate()?;
                spot.tell(&"logged".into())
            })
        })
}

/// What the closures of one session share.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<String>>>);

impl Seen {
    /// Adds one, and gives all.
    fn add(&self, what: String) -> Vec<String> {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.push(what);
        seen.clone()
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What the short form keeps.
#[derive(Clone, Default)]
struct State {
    log: Vec<&'static str>,
    bytes: Vec<u8>,
    kinds: Value,
}
