//! A phase that is finished later, from another thread.

use crate::context::Context;
use crate::error::{Error, Outcome, Result};
use crate::open::run_caught;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

/// The rest of a phase, for a thread or a runtime of the plugin's own.
///
/// It is the handler's [`Context`], and it may wait: for a request's body that nobody declared, for a client that
/// takes a streamed response slowly.
///
/// ```
/// use nylon_plugin::Plugin;
///
/// let plugin = Plugin::new().request_filter("slow", |ctx| {
///     let deferred = ctx.defer()?;
///     std::thread::spawn(move || {
///         deferred.run(|ctx| {
///             let size = ctx.request().body()?.len();
///             ctx.request().set_header("x-size", size.to_string())?;
///             ctx.next()
///         });
///     });
///     Ok(())
/// });
/// ```
///
/// [`Deferred::run`] is a handler like any other. Where that does not fit (in an `async` block, say), use the context
/// and finish with [`Deferred::next`], [`Deferred::end`] or [`Deferred::fail`]. Dropping it is a plain return: next, but
/// a failure in `request_filter` and where its thread panics.
#[derive(Debug)]
pub struct Deferred {
    /// Taken when the phase is finished.
    context: Option<Context>,
    handoff: Arc<Handoff>,
}

impl Deferred {
    pub(crate) fn new(context: Context, handoff: Arc<Handoff>) -> Deferred {
        Deferred { context: Some(context), handoff }
    }

    /// Runs the rest of the handler here and finishes the phase with what it decides. Errors and panics fail the phase.
    pub fn run<R: Outcome>(mut self, handler: impl FnOnce(&mut Context) -> R) {
        if let Some(mut context) = self.context.take() {
            let done = run_caught(|| handler(&mut context).into_result());
            self.handoff.finished(context, done);
        }
    }

    /// Finishes the phase: go on.
    ///
    /// # Errors
    /// Those of [`Context::next`]; the phase has failed then.
    pub fn next(self) -> Result {
        self.decide(Context::next)
    }

    /// Finishes the phase: stop, and send the response.
    ///
    /// # Errors
    /// Those of [`Context::end`]; the phase has failed then.
    pub fn end(self) -> Result {
        self.decide(Context::end)
    }

    /// Finishes the phase: it has failed.
    pub fn fail(mut self, error: impl Into<Error>) {
        self.finish(Err(error.into()));
    }

    fn decide(mut self, decide: impl FnOnce(&Context) -> Result) -> Result {
        let done = decide(&self);
        // The error is for both: the caller, and the gateway's log.
        let told = done.as_ref().copied().map_err(|error| Error::from(error.to_string()));
        self.finish(told);
        done
    }

    fn finish(&mut self, done: Result) {
        if let Some(context) = self.context.take() {
            self.handoff.finished(context, done);
        }
    }
}

impl Drop for Deferred {
    fn drop(&mut self) {
        let panicking = std::thread::panicking();
        self.finish(if panicking {
            Err("the thread that it was deferred to panicked".into())
        } else {
            Ok(())
        });
    }
}

const UNFINISHED: &str = "a Deferred has its context until it is consumed";

impl Deref for Deferred {
    type Target = Context;
    fn deref(&self) -> &Context {
        self.context.as_ref().expect(UNFINISHED)
    }
}

impl DerefMut for Deferred {
    fn deref_mut(&mut self) -> &mut Context {
        self.context.as_mut().expect(UNFINISHED)
    }
}

/// Between a handler that deferred its phase and the thread that finishes it: the second of both sends the result, so
/// that a phase never ends while its handler still runs.
#[derive(Debug, Default)]
pub(crate) struct Handoff(Mutex<Progress>);

#[derive(Debug, Default)]
enum Progress {
    #[default]
    Running,
    /// The handler has returned.
    Returned,
    /// The deferred part was finished first.
    Finished(Box<(Context, Result)>),
    /// The handler failed after it had deferred: that is the result.
    Failed,
}

impl Handoff {
    pub(crate) fn returned(&self, context: Context, done: Result) {
        let next = if done.is_ok() { Progress::Returned } else { Progress::Failed };
        let before = std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), next);
        match (done, before) {
            (Err(error), _) => context.finish(Err(error)),
            (Ok(()), Progress::Finished(finished)) => finished.0.finish(finished.1),
            (Ok(()), _) => {}
        }
    }

    fn finished(&self, context: Context, done: Result) {
        let mut progress = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match *progress {
            Progress::Running => *progress = Progress::Finished(Box::new((context, done))),
            Progress::Returned => {
                drop(progress);
                context.finish(done);
            }
            Progress::Finished(_) | Progress::Failed => {}
        }
    }
}
