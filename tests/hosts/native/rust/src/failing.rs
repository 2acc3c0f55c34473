//! Entries that fail, hang, or come back when it is too late.

use crate::origin::{aside, hang, text};
use nylon_plugin::{Context, Phase, Plugin, Response, Result, json};
use serde_json::Value;
use std::panic;
use std::sync::atomic::{AtomicBool, Ordering};

const SECRET: &str = "s3cret-in-a-traceback";

pub(crate) fn register(plugin: Plugin) -> Plugin {
    let loaded = AtomicBool::new(false);
    hang_in(raise_in(plugin))
        .request_filter("raise-awaited", |ctx| {
            aside(ctx, |ctx, _| {
                ctx.request().set_header("x-changed", "1")?;
                ctx.next()?;
                panic!("{SECRET}")
            })
        })
        // A panic without a text, and one that no hook hears of.
        .request_filter("raise-exit", |_| -> Result { panic::panic_any(3_i32) })
        .request_filter("raise-cancelled", |_| -> Result { panic::resume_unwind(Box::new(SECRET)) })
        .entry("raise-in-setup", move |session| {
            // Runs well when the plugin is loaded, and never again.
            session.request_filter(|ctx| ctx.next());
            assert!(!loaded.swap(true, Ordering::SeqCst), "{SECRET}");
        })
        .request_filter("block", block)
        .request_filter("block-awaited", block)
        .request_filter("late", late)
        .request_filter("late-next", |ctx| {
            // Lets a request pass whose time is over.
            aside(ctx, |ctx, spot| {
                spot.wait_at_gate()?;
                let late = ctx.next();
                spot.tell(&"done".into())?;
                late
            })
        })
        .request_filter("fine", |ctx| ctx.next())
        .request_filter("fine-awaited", |ctx| aside(ctx, |ctx, _| ctx.next()))
}

fn block(ctx: &mut Context) -> Result {
    aside(ctx, |ctx, spot| {
        spot.wait_at_gate()?;
        ctx.next()
    })
}

/// The state of `raise-in`, which must not outlive its failures.
#[derive(Clone, Default)]
struct Changed(bool);

/// In the phase that the payload names, changes what it can and panics; elsewhere it only says that it ran.
fn raise_in(plugin: Plugin) -> Plugin {
    fn raises(ctx: &mut Context) -> Result<bool> {
        let here = text(ctx, "raise")? == ctx.phase().name();
        ctx.state::<Changed>().0 |= here && ctx.phase() != Phase::Logging;
        Ok(here)
    }
    fn spoil(response: Response<'_>) -> Result {
        response.set_status(299)?.set_header("x-changed", "1")?.body_text("changed")?;
        panic!("{SECRET}")
    }
    plugin
        .request_filter("raise-in", |ctx| {
            if raises(ctx)? {
                let request =
                    ctx.request().set_method("DELETE")?.set_path("/changed")?.set_query("changed")?;
                request.set_header("x-changed", "1")?.set_body("changed")?;
                spoil(ctx.response())?;
            }
            ctx.next()
        })
        .response_filter("raise-in", |ctx| {
            if raises(ctx)? {
                spoil(ctx.response())?;
            }
            ctx.response().add_header("x-order", "r")?;
            Ok(())
        })
        .response_body_filter("raise-in", |ctx| {
            if raises(ctx)? {
                spoil(ctx.response())?;
            }
            ctx.response().add_header("x-order", "b")?;
            Ok(())
        })
        .logging("raise-in", |ctx| {
            let state = if ctx.state::<Changed>().0 { json!({"changed": true}) } else { json!({}) };
            let response = ctx.response();
            let told = json!({
                "status": response.status()?.as_u16(),
                "error": response.error()?,
                "state": state,
            });
            aside(ctx, move |ctx, spot| {
                spot.tell(&told)?;
                assert!(!raises(ctx)?, "{SECRET}");
                Ok(())
            })
        })
}

/// Changes what it can, then waits for ever in the phase that the payload names.
fn hang_in(plugin: Plugin) -> Plugin {
    fn hangs(ctx: &mut Context, change: impl FnOnce(&Context) -> Result + Send + 'static) -> Result {
        if text(ctx, "hang")? != ctx.phase().name() {
            return ctx.next();
        }
        aside(ctx, move |ctx, _| {
            ctx.next()?;
            change(ctx)?;
            hang(ctx);
            Ok(())
        })
    }
    plugin
        .request_filter("hang-in", |ctx| {
            hangs(ctx, |ctx| ctx.request().set_header("x-changed", "1").map(drop))
        })
        .response_filter("hang-in", |ctx| {
            hangs(ctx, |ctx| ctx.response().set_header("x-changed", "1").map(drop))
        })
        .response_body_filter("hang-in", |ctx| {
            hangs(ctx, |ctx| ctx.response().set_header("x-changed", "1")?.body_text("changed").map(drop))
        })
}

/// Goes on after its time-out, until its context is closed; then nothing of it can be used any more.
fn late(ctx: &mut Context) -> Result {
    aside(ctx, |ctx, spot| {
        spot.wait_at_gate()?;
        while ctx.request().set_header("x-late", "1").is_ok() {
            std::thread::yield_now();
        }
        let uses = [
            ctx.next(),
            ctx.end(),
            ctx.request().path().map(drop),
            ctx.response().status().map(drop),
            ctx.payload::<Value>().map(drop),
            ctx.attempt().map(drop),
            ctx.request_id().map(drop),
        ];
        let closed = |done: &Result| match done {
            Err(error) if error.kind() == nylon_plugin::ErrorKind::Closed => "closed",
            _ => "open",
        };
        spot.tell(&uses.iter().map(closed).collect())
    })
}
