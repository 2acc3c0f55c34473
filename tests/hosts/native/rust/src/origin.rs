//! How handlers speak to the origin of the tests: see tests/hosts/entries/origin.py.

use nylon_plugin::{Context, Result};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

/// Where the origin is, and the key under which a test is told things.
#[derive(Clone)]
pub(crate) struct Spot {
    origin: String,
    pub(crate) key: String,
}

impl Spot {
    pub(crate) fn of(ctx: &Context) -> Result<Spot> {
        let origin = text(ctx, "origin")?;
        let key = ctx.request().params()?.remove("rest").ok_or("the route has no rest")?;
        Ok(Spot { origin, key })
    }

    /// Puts `what` into the origin's journal.
    pub(crate) fn tell(&self, what: &Value) -> Result {
        self.ask("POST", "_journal", what.to_string().as_bytes())
    }

    /// Blocks until the test opens the gate.
    pub(crate) fn wait_at_gate(&self) -> Result {
        self.ask("GET", "_gate", b"")
    }

    fn ask(&self, method: &str, place: &str, body: &[u8]) -> Result {
        let mut line = TcpStream::connect(&self.origin)?;
        line.set_read_timeout(Some(Duration::from_secs(20)))?;
        let (origin, key, length) = (&self.origin, &self.key, body.len());
        write!(
            line,
            "{method} /{place}/{key} HTTP/1.1\r\nhost: {origin}\r\ncontent-length: {length}\r\n\r\n"
        )?;
        line.write_all(body)?;
        // The answer is 204: a head, and no body.
        for field in BufReader::new(line).lines() {
            if field?.is_empty() {
                return Ok(());
            }
        }
        Err("the origin's answer broke off".into())
    }
}

/// A text of the payload, empty where there is none.
pub(crate) fn text(ctx: &Context, name: &str) -> Result<String> {
    Ok(ctx.payload::<Value>()?[name].as_str().unwrap_or_default().to_owned())
}

/// Does the rest of a handler on a thread of its own, where it may block.
pub(crate) fn aside(
    ctx: &mut Context,
    rest: impl FnOnce(&mut Context, &Spot) -> Result + Send + 'static,
) -> Result {
    let spot = Spot::of(ctx)?;
    let deferred = ctx.defer()?;
    thread::spawn(move || deferred.run(|ctx| rest(ctx, &spot)));
    Ok(())
}

/// Tells the origin, and goes on.
pub(crate) fn tell(ctx: &mut Context, what: Value) -> Result {
    aside(ctx, move |ctx, spot| {
        spot.tell(&what)?;
        ctx.next()
    })
}

/// Waits until nobody waits for this handler any more.
pub(crate) fn hang(ctx: &Context) {
    while !ctx.is_closed() {
        thread::sleep(Duration::from_millis(2));
    }
}
