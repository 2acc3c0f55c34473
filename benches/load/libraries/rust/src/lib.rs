//! The decision of the rows with a handler, in Rust: the path and one header. `chatty` asks for everything first, one thing
//! after the other, as plugins of an earlier Go SDK do.

use nylon_plugin::{Context, Plugin, Result, export_plugin};

fn plugin() -> Plugin {
    Plugin::new().request_filter("check", check).request_filter("chatty", |ctx| {
        let request = ctx.request();
        ctx.payload::<Option<bool>>()?;
        request.method()?;
        request.url()?;
        request.query()?;
        request.params()?;
        request.host()?;
        request.client_ip()?;
        request.bytes()?;
        request.timestamp()?;
        request.headers()?;
        check(ctx)
    })
}

fn check(ctx: &mut Context) -> Result {
    let request = ctx.request();
    if request.path()? != "/open" && request.header("x-api-key")?.is_none_or(|key| key != "k123") {
        ctx.response().set_status(401)?;
        return ctx.end();
    }
    ctx.next()
}

export_plugin!(plugin);
