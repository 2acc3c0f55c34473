//! Idle connections of one thread, the most recently used first, so that the others can grow old and close.

use super::balance::Address;
use super::body::SendBody;
use hyper::client::conn::http1::SendRequest;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// How long a connection may take to be ready for its next request; after a response it is, within a poll.
const READY_TIME: Duration = Duration::from_millis(100);

/// A connection that nobody uses.
struct Idle {
    connection: SendRequest<SendBody>,
    since: Instant,
}

/// Idle upstream connections.
pub struct Pool {
    idle: RefCell<HashMap<Address, VecDeque<Idle>>>,
    count: Cell<usize>,
    size: usize,
}

impl Pool {
    /// Keeps at most `size` idle connections, over all addresses.
    pub fn new(size: usize) -> Pool {
        Pool { idle: RefCell::default(), count: Cell::new(0), size }
    }

    /// An idle connection that is ready, if there is one.
    pub(super) async fn take(&self, address: &Address, idle_time: Duration) -> Option<SendRequest<SendBody>> {
        loop {
            let Idle { mut connection, since } = self.pop(address)?;
            if connection.is_closed() || since.elapsed() >= idle_time {
                continue;
            }
            if connection.is_ready() || matches!(timeout(READY_TIME, connection.ready()).await, Ok(Ok(()))) {
                return Some(connection);
            }
        }
    }

    fn pop(&self, address: &Address) -> Option<Idle> {
        let idle = self.idle.borrow_mut().get_mut(address)?.pop_back()?;
        self.count.set(self.count.get() - 1);
        Some(idle)
    }

    /// Keeps a connection for later, if it is still open and there is room.
    pub(super) fn put(&self, address: &Address, connection: SendRequest<SendBody>) {
        if connection.is_closed() || self.size == 0 {
            return;
        }
        if self.count.get() >= self.size {
            self.evict();
        }
        let idle = Idle { connection, since: Instant::now() };
        let mut map = self.idle.borrow_mut();
        match map.get_mut(address) {
            Some(list) => list.push_back(idle),
            None => drop(map.insert(address.clone(), VecDeque::from([idle]))),
        }
        self.count.set(self.count.get() + 1);
    }

    /// Closes the connection that has been idle the longest.
    fn evict(&self) {
        let mut map = self.idle.borrow_mut();
        let oldest = map.values_mut().filter(|list| !list.is_empty()).min_by_key(|list| list[0].since);
        if oldest.and_then(VecDeque::pop_front).is_some() {
            self.count.set(self.count.get() - 1);
        }
    }

    /// Closes what is closed already or has been idle for longer than `idle_time`, and forgets empty addresses.
    pub fn sweep(&self, idle_time: Duration) {
        let mut map = self.idle.borrow_mut();
        map.retain(|_, list| {
            list.retain(|idle| !idle.connection.is_closed() && idle.since.elapsed() < idle_time);
            !list.is_empty()
        });
        self.count.set(map.values().map(VecDeque::len).sum());
    }
}
