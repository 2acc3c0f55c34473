//! Entries that decide, late, twice or not at all.

use crate::origin::{self, text};
use nylon_plugin::{Context, ErrorKind, Plugin, Result, json};
use serde_json::Value;

pub(crate) fn register(plugin: Plugin) -> Plugin {
    onion(onion(plugin, "pass"), "stop-in")
        .request_filter("undecided", |ctx| {
            ctx.request().set_header("x-undecided", "1")?;
            Ok(())
        })
        .request_filter("undecided-awaited", |ctx| {
            origin::aside(ctx, |ctx, _| {
                ctx.request().set_header("x-undecided", "1")?;
                Ok(())
            })
        })
        .request_filter("end-then-next", |ctx| {
            // The forgotten return: what `end` refused must not pass.
            ctx.response().set_status(403)?;
            ctx.end()?;
            ctx.next()
        })
        .request_filter("end-then-next-caught", |ctx| {
            ctx.response().set_status(403)?.body_text("refused")?;
            ctx.end()?;
            if let Err(error) = ctx.next() {
                assert_eq!(error.kind(), ErrorKind::Decided);
                ctx.response().set_header("x-error", error.to_string())?;
            }
            Ok(())
        })
        .request_filter("next-twice-caught", |ctx| {
            ctx.next()?;
            if ctx.end().is_err_and(|error| error.kind() == ErrorKind::Decided) {
                ctx.request().set_header("x-refused", "yes")?;
            }
            Ok(())
        })
        .request_filter("next-then-raise", |ctx| {
            ctx.next()?;
            Err("after the decision".into())
        })
        .request_filter("write-after-next", |ctx| {
            ctx.next()?;
            ctx.request().set_header("x-after", "1")?;
            Ok(())
        })
        .request_filter("draft-then-next", |ctx| {
            ctx.response().set_status(500)?.set_header("x-draft", "1")?.body_text("draft")?;
            ctx.next()
        })
        .response_filter("response-undecided", |ctx| {
            ctx.response().set_header("x-response", "1")?;
            Ok(())
        })
        .response_body_filter("response-undecided", |ctx| {
            ctx.response().set_header("x-body", "1")?;
            Ok(())
        })
        .request_filter("serve", |ctx| {
            let payload: Value = ctx.payload()?;
            if payload["pass"] == true {
                return ctx.next();
            }
            let answer = json!({"path": ctx.request().path()?, "payload": payload["name"]});
            ctx.response().set_status(299)?.body_json(&answer)?;
            ctx.end()
        })
}

/// Every phase says that it ran, and goes on; the one that the payload of `stop-in` names ends.
fn onion(plugin: Plugin, entry: &str) -> Plugin {
    plugin
        .request_filter(entry, |ctx| {
            if ctx.entry() == "stop-in" {
                ctx.response().set_status(403)?.body_text("stopped")?;
            } else {
                ctx.request().add_header("x-order", text(ctx, "name")?)?;
            }
            decide(ctx)
        })
        .response_filter(entry, |ctx| {
            ctx.response().add_header("x-order", text(ctx, "name")?)?;
            decide(ctx)
        })
        .response_body_filter(entry, |ctx| {
            let mut body = ctx.response().body()?;
            body.extend(format!(" {}", text(ctx, "name")?).bytes());
            ctx.response().body_raw(body)?;
            decide(ctx)
        })
        .logging(entry, |ctx| {
            origin::aside(ctx, |ctx, spot| {
                spot.tell(&text(ctx, "name")?.into())?;
                decide(ctx)
            })
        })
}

fn decide(ctx: &Context) -> Result {
    if text(ctx, "stop")? == ctx.phase().name() { ctx.end() } else { ctx.next() }
}
