//! `logging` runs after the last byte and never delays a client.
//!
//! What is owed waits in a bounded queue per data-plane thread, whose one task works through it. A finished
//! body only puts its flow into the queue, which is safe even where a body is dropped while the thread stops.

use super::flow::Flow;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use nylon_core::Phase;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use tokio::sync::Notify;

/// Exchanges that may wait for their logging; more are dropped and counted.
const MAX_QUEUED: usize = 8192;
/// Exchanges whose logging runs at once, per thread.
const MAX_RUNNING: usize = 256;

/// An exchange whose last byte is sent.
pub(super) enum Owed {
    /// The exchange.
    Flow(Box<Flow>),
    /// The client left while a handler had the exchange; it comes back within that handler's time.
    Pending(LocalBoxFuture<'static, Box<Flow>>),
}

/// The logging owed on one data-plane thread.
#[derive(Default)]
pub struct LogQueue {
    queue: RefCell<VecDeque<Owed>>,
    work: Notify,
    running: Cell<usize>,
    dropped: Cell<u64>,
}

impl LogQueue {
    pub(super) fn push(&self, owed: Owed) {
        let mut queue = self.queue.borrow_mut();
        if queue.len() < MAX_QUEUED {
            queue.push_back(owed);
            drop(queue);
            self.work.notify_one();
            return;
        }
        drop(queue);
        let dropped = self.dropped.get() + 1;
        self.dropped.set(dropped);
        if dropped.is_power_of_two() {
            tracing::warn!(
                dropped,
                "logging is slower than the traffic: calls of the logging phase are dropped"
            );
        }
    }

    /// Whether nothing waits or runs.
    pub fn is_idle(&self) -> bool {
        self.queue.borrow().is_empty() && self.running.get() == 0
    }

    /// Calls of `logging` that were dropped because the queue was full.
    pub fn dropped(&self) -> u64 {
        self.dropped.get()
    }

    /// Works through the queue for as long as it is polled. The thread that owns the queue runs it once.
    pub async fn run(self: Rc<LogQueue>) {
        let mut running = FuturesUnordered::new();
        loop {
            while running.len() < MAX_RUNNING {
                let Some(owed) = self.queue.borrow_mut().pop_front() else { break };
                running.push(log(owed));
            }
            self.running.set(running.len());
            tokio::select! {
                Some(()) = running.next() => {}
                () = self.work.notified(), if running.len() < MAX_RUNNING => {}
            }
        }
    }
}

async fn log(owed: Owed) {
    let mut flow = match owed {
        Owed::Flow(flow) => flow,
        Owed::Pending(flow) => flow.await,
    };
    for index in flow.owed(Phase::Logging) {
        // The verdict is of no use here: nothing is left to stop, and a failure is in the log already.
        let _ = flow.call(index, Phase::Logging).await;
    }
}
