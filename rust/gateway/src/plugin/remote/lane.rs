//! A lane: the way of calls to the broker and of their answers back.
//!
//! Each data-plane thread has a lane of its own for each broker, whose client runs among the thread's other tasks. So
//! a call and its answer never pass from one thread to another, which is what costs most of a call where threads
//! share cores: two wake-ups, and a switch for each (docs/performance.md). The connection's own lane, on a thread of its
//! own, is there for what belongs to no request (who is there, ends of sessions, kept `logging`), and for calls as long
//! as the thread's lane is not connected.

use super::connection::Connection;
use super::correlation::Slots;
use super::counters::Counters;
use super::life::{self, Life};
use arc_swap::ArcSwapOption;
use bytes::Bytes;
use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout_at;

/// One client's inbox, the calls that wait at it, and the client itself while it is connected.
pub(super) struct Lane {
    /// Where answers come in, with the final dot.
    pub(super) inbox: String,
    pub(super) slots: Arc<Slots>,
    life: ArcSwapOption<Life>,
    /// Changes whenever there is a new life.
    came: watch::Sender<u64>,
    /// Tells those that wait for a life that the connection ends.
    stop: watch::Receiver<bool>,
}

impl Lane {
    pub(super) fn new(
        counters: Arc<Counters>,
        behind: mpsc::Sender<(String, Bytes)>,
        stop: watch::Receiver<bool>,
    ) -> Arc<Lane> {
        let random = super::connection::random;
        Arc::new(Lane {
            inbox: format!("_INBOX.{:016x}{:016x}.", random(), random()),
            slots: Slots::new(counters, behind),
            life: ArcSwapOption::empty(),
            came: watch::Sender::new(0),
            stop,
        })
    }

    /// The connection, if there is one now.
    pub(super) fn life(&self) -> Option<Arc<Life>> {
        self.life.load_full()
    }

    /// Becomes true when the connection is to end.
    pub(super) fn stop(&self) -> watch::Receiver<bool> {
        self.stop.clone()
    }

    /// Whether there is a connection now.
    pub(super) fn is_connected(&self) -> bool {
        self.life.load().is_some()
    }

    /// A message could not be sent on this life: it is over, and that is told a moment later.
    pub(super) fn ended(&self, life: &Life) {
        let current = self.life.load();
        if current.as_ref().is_some_and(|now| std::ptr::eq(&**now, life)) {
            let before = self.life.compare_and_swap(&current, None);
            if before.as_ref().is_some_and(|now| std::ptr::eq(&**now, life)) {
                self.slots.lost();
            }
        }
    }

    /// The connection, once there is one; none if there is none by the deadline, or the gateway stops.
    pub(super) async fn life_by(&self, deadline: Instant) -> Option<Arc<Life>> {
        let (mut came, mut stop) = (self.came.subscribe(), self.stop.clone());
        let back = async {
            loop {
                came.borrow_and_update();
                if let Some(life) = self.life() {
                    return Some(life);
                }
                came.changed().await.ok()?;
            }
        };
        tokio::select! {
            life = timeout_at(deadline.into(), back) => life.ok().flatten(),
            () = life::stopped(&mut stop) => None,
        }
    }

    /// A new life begins.
    pub(super) fn came(&self, life: &Arc<Life>) {
        self.life.store(Some(life.clone()));
        self.came.send_modify(|lives| *lives += 1);
    }

    /// Lives so far.
    pub(super) fn lives(&self) -> u64 {
        *self.came.borrow()
    }

    /// The life is over. Whether there was one.
    pub(super) fn lost(&self) -> bool {
        // In this order: a call that finds a life and opens its slot later is told by the next one to be lost.
        let was_there = self.life.swap(None).is_some();
        if was_there {
            self.slots.lost();
        }
        was_there
    }
}

/// A thread's lanes, each with its connection.
type Hosted = Vec<(Weak<Connection>, Arc<Lane>)>;

thread_local! {
    /// This thread's lanes, where it is one that hosts any.
    static HOSTED: RefCell<Option<Hosted>> = const { RefCell::new(None) };
    /// Which of a connection's own lanes this thread uses.
    static NUMBER: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Makes this thread, whose tasks may stay on it, one that hosts lanes, until the value is dropped.
pub(crate) fn host_lanes() -> impl Drop {
    struct Hosting;
    impl Drop for Hosting {
        fn drop(&mut self) {
            drop(HOSTED.take());
        }
    }
    HOSTED.set(Some(Vec::new()));
    Hosting
}

/// The lane of this thread, if it hosts any; made at its first call.
pub(super) fn of_thread(connection: &Arc<Connection>) -> Option<Arc<Lane>> {
    HOSTED.with_borrow_mut(|hosted| {
        let lanes = hosted.as_mut()?;
        if let Some((_, lane)) =
            lanes.iter().find(|(of, _)| std::ptr::eq(of.as_ptr(), Arc::as_ptr(connection)))
        {
            return Some(lane.clone());
        }
        lanes.retain(|(of, _)| of.strong_count() > 0);
        let lane = connection.new_lane();
        lanes.push((Arc::downgrade(connection), lane.clone()));
        // Owned by the thread's runtime, and ended by the connection's end.
        tokio::task::spawn_local(life::stay(Arc::downgrade(connection), lane.clone()));
        Some(lane)
    })
}

/// Spreads threads over `count` lanes: the place of this one's.
pub(super) fn place_of_thread(count: usize) -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    let number = NUMBER.get().unwrap_or_else(|| {
        let number = THREADS.fetch_add(1, Ordering::Relaxed);
        NUMBER.set(Some(number));
        number
    });
    number % count
}
