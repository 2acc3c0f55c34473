//! Tells the tasks of one listener on one thread to come to an end.
//!
//! Every connection waits for this beside its requests, each time it is woken. Within one thread a flag and a list of
//! wakers do, where a channel would take a lock for each look.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// The signal.
#[derive(Default)]
pub(crate) struct Stop {
    told: Cell<bool>,
    /// Who waits, by place; empty places are listed in `free`.
    waiting: RefCell<Vec<Option<Waker>>>,
    free: RefCell<Vec<usize>>,
}

impl Stop {
    /// Tells all who wait, and all who will.
    pub(crate) fn tell(&self) {
        self.told.set(true);
        self.waiting.borrow_mut().iter_mut().filter_map(Option::take).for_each(Waker::wake);
    }

    /// Ends once the thread is told to stop.
    pub(crate) fn told(&self) -> Told<'_> {
        Told { stop: self, place: None }
    }
}

/// Waits for a [`Stop`].
pub(crate) struct Told<'a> {
    stop: &'a Stop,
    place: Option<usize>,
}

impl Future for Told<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.stop.told.get() {
            return Poll::Ready(());
        }
        let stop = self.stop;
        let mut waiting = stop.waiting.borrow_mut();
        let place = *self.place.get_or_insert_with(|| {
            stop.free.borrow_mut().pop().unwrap_or_else(|| {
                waiting.push(None);
                waiting.len() - 1
            })
        });
        match &mut waiting[place] {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            waker => *waker = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.stop.waiting.borrow_mut()[place] = None;
            self.stop.free.borrow_mut().push(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[tokio::test]
    async fn all_who_wait_are_told_and_places_are_used_again() {
        let stop = Stop::default();
        for _ in 0..100 {
            assert!(stop.told().now_or_never().is_none());
        }
        assert_eq!(stop.waiting.borrow().len(), 1);
        let both = async { tokio::join!(stop.told(), stop.told()) };
        tokio::join!(both, async { stop.tell() });
        assert!(stop.told().now_or_never().is_some());
    }
}
