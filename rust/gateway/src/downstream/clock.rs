//! One timer for the deadlines of one task.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::time::{Instant, Sleep, sleep_until};

/// A timer that is armed again only when it fires: a deadline that moves on costs it nothing.
pub(super) struct Clock(Pin<Box<Sleep>>);

impl Clock {
    /// `first` is when there will be something to look at for the first time.
    pub(super) fn new(first: Instant) -> Clock {
        Clock(Box::pin(sleep_until(first)))
    }

    /// Whether `deadline` has passed; if not, the task is woken when the timer has something to look at again.
    pub(super) fn is_late(&mut self, deadline: Instant, cx: &mut Context<'_>) -> bool {
        if self.0.deadline() > deadline {
            self.0.as_mut().reset(deadline);
        }
        while matches!(self.0.as_mut().poll(cx), Poll::Ready(())) {
            if Instant::now() >= deadline {
                return true;
            }
            self.0.as_mut().reset(deadline);
        }
        false
    }
}
