//! Rust's counterparts of what Python's handlers do with asyncio.

use crate::origin::aside;
use nylon_plugin::{Plugin, Result};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

pub(crate) fn register(plugin: Plugin) -> Plugin {
    plugin
        .request_filter("task-group", |ctx| {
            aside(ctx, |ctx, _| {
                let results: Vec<_> = thread::scope(|scope| {
                    let tasks: Vec<_> = (0..5).map(|number| scope.spawn(move || number)).collect();
                    tasks.into_iter().filter_map(|task| task.join().ok()).collect()
                });
                ctx.response().body_json(&results)?;
                ctx.end()
            })
        })
        .request_filter("gather-at-gate", |ctx| {
            // Two waits at once, each of which holds a connection to the gate.
            aside(ctx, |ctx, spot| {
                thread::scope(|scope| {
                    let other = scope.spawn(|| spot.wait_at_gate());
                    spot.wait_at_gate()?;
                    other.join().unwrap_or_else(|_| Err("the other wait panicked".into()))
                })?;
                ctx.next()
            })
        })
        .entry("mixed", |session| {
            // Deferred and at once, in one session.
            let seen = Arc::new(Mutex::new(Vec::new()));
            let here = seen.clone();
            session.request_filter(move |ctx| {
                let here = here.clone();
                aside(ctx, move |ctx, _| {
                    here.lock().unwrap_or_else(PoisonError::into_inner).push("async");
                    ctx.next()
                })
            });
            session.response_filter(move |ctx| -> Result {
                let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                seen.push("def");
                ctx.response().set_header("x-seen", seen.join(",")).map(drop)
            });
        })
}
