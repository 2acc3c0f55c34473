//! The connections of one thread: idle ones, the most recently used first, so that the others can grow old and close;
//! and those that are shared.

use super::balance::{Address, Hashed};
use super::body::SendBody;
use super::lines::Lines;
use super::watch::Watch;
use hyper::client::conn::http1::SendRequest;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasherDefault;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::timeout;

/// How long a connection may take to be ready for its next request; after a response it is, within a poll.
const READY_TIME: Duration = Duration::from_millis(100);

/// A connection to a service.
pub(super) struct Connection {
    pub(super) sender: SendRequest<SendBody>,
    pub(super) watch: Rc<Watch>,
}

async fn is_soon_ready(connection: &mut Connection) -> bool {
    // In a box, since it is hardly ever needed: the futures of all requests would have to have room for it.
    !connection.sender.is_closed()
        && matches!(Box::pin(timeout(READY_TIME, connection.sender.ready())).await, Ok(Ok(())))
}

/// A connection that nobody uses.
struct Idle {
    connection: Connection,
    /// How many had come back before it: the smallest has been idle the longest.
    turn: u64,
}

/// Upstream connections.
pub struct Pool {
    idle: RefCell<HashMap<Address, VecDeque<Idle>, BuildHasherDefault<Hashed>>>,
    count: Cell<usize>,
    /// Connections that came back so far.
    turns: Cell<u64>,
    size: usize,
    /// Those that carry several requests at once.
    pub(super) lines: Lines,
}

impl Pool {
    /// Keeps at most `size` idle connections, over all addresses.
    pub fn new(size: usize) -> Pool {
        Pool {
            idle: RefCell::default(),
            count: Cell::new(0),
            turns: Cell::new(0),
            size,
            lines: Lines::default(),
        }
    }

    /// An idle connection that is ready, if there is one.
    pub(super) async fn take(&self, address: &Address) -> Option<Connection> {
        loop {
            let mut connection = self.pop(address)?;
            connection.watch.relax();
            if connection.sender.is_ready() || is_soon_ready(&mut connection).await {
                return Some(connection);
            }
        }
    }

    fn pop(&self, address: &Address) -> Option<Connection> {
        let idle = self.idle.borrow_mut().get_mut(address)?.pop_back()?;
        self.count.set(self.count.get() - 1);
        Some(idle.connection)
    }

    /// Keeps a connection for later, if it is still open and there is room.
    pub(super) fn put(&self, connection: Connection) {
        if connection.sender.is_closed() || self.size == 0 {
            return;
        }
        if self.count.get() >= self.size {
            self.evict();
        }
        let watch = connection.watch.clone();
        watch.expect(watch.limits().idle_timeout);
        let turn = self.turns.get();
        self.turns.set(turn + 1);
        let idle = Idle { connection, turn };
        let mut map = self.idle.borrow_mut();
        match map.get_mut(watch.address()) {
            Some(list) => list.push_back(idle),
            None => drop(map.insert(watch.address().clone(), VecDeque::from([idle]))),
        }
        self.count.set(self.count.get() + 1);
    }

    /// Closes the connection that has been idle the longest.
    fn evict(&self) {
        let mut map = self.idle.borrow_mut();
        let oldest = map.values_mut().filter(|list| !list.is_empty()).min_by_key(|list| list[0].turn);
        if oldest.and_then(VecDeque::pop_front).is_some() {
            self.count.set(self.count.get() - 1);
        }
    }

    /// Forgets a connection that has ended, and an address without connections.
    pub(super) fn forget(&self, address: &Address) {
        let mut map = self.idle.borrow_mut();
        let Some(list) = map.get_mut(address) else { return };
        let before = list.len();
        list.retain(|idle| !idle.connection.sender.is_closed());
        self.count.set(self.count.get() - (before - list.len()));
        if list.is_empty() {
            map.remove(address);
        }
    }
}
