//! Panics end a handler, never the gateway: they are caught inside the library, since one that crosses the C ABI aborts
//! the process. Message and place go into the gateway's log with the request, and not to the standard error as well.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::sync::Once;

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
    static CAUGHT: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Inside of [`caught`], on its thread: what runs there may be caught once more without asking the thread again.
#[derive(Clone, Copy)]
pub(crate) struct Guard(PhantomData<*const ()>);

impl Guard {
    /// As [`caught`].
    pub(crate) fn caught<T>(self, action: impl FnOnce() -> T) -> Result<T, String> {
        panic::catch_unwind(AssertUnwindSafe(action))
            .map_err(|payload| CAUGHT.take().unwrap_or_else(|| format!("panicked: {}", message(&*payload))))
    }
}

/// Runs `action`; a panic in it is an error with its message and place, and its backtrace where RUST_BACKTRACE asks for
/// one.
pub(crate) fn caught<T>(action: impl FnOnce(Guard) -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        // The library has a standard library of its own, so this hook is not the gateway's or another plugin's.
        let others = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if GUARDED.get() {
                CAUGHT.set(Some(described(info)));
            } else {
                others(info);
            }
        }));
    });
    GUARDED.with(|guarded| {
        let outer = guarded.replace(true);
        let guard = Guard(PhantomData);
        let done = guard.caught(|| action(guard));
        guarded.set(outer);
        done
    })
}

/// Drops what holds values of the plugin's author, whose `drop` may panic.
pub(crate) fn dropped<T>(value: T) {
    if let Err(panic) = caught(|_| drop(value)) {
        eprintln!("nylon-plugin: while something was dropped: {panic}");
    }
}

fn described(info: &PanicHookInfo<'_>) -> String {
    let place = info.location().map(|place| format!(" at {place}")).unwrap_or_default();
    let text = format!("panicked{place}: {}", message(info.payload()));
    let trace = Backtrace::capture();
    if trace.status() == BacktraceStatus::Captured { format!("{text}\n{trace}") } else { text }
}

fn message(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("(no message)")
}
