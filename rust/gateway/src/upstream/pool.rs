//! Idle connections of one thread, the most recently used first.

use super::forward::SendBody;
use hyper::client::conn::http1::SendRequest;
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// An address as the config names it.
pub(super) type Address = (String, u16);

/// Idle upstream connections.
pub struct Pool {
    idle: RefCell<HashMap<Address, VecDeque<(SendRequest<SendBody>, Instant)>>>,
    size: usize,
}

impl Pool {
    /// Keeps at most `size` idle connections per address.
    pub fn new(size: usize) -> Pool {
        Pool { idle: RefCell::default(), size }
    }

    pub(super) fn take(&self, address: &Address, idle_timeout: Duration) -> Option<SendRequest<SendBody>> {
        let mut idle = self.idle.borrow_mut();
        let list = idle.get_mut(address)?;
        while let Some((connection, since)) = list.pop_back() {
            if since.elapsed() > idle_timeout {
                list.clear();
                return None;
            }
            if !connection.is_closed() {
                return Some(connection);
            }
        }
        None
    }

    pub(super) fn put(&self, address: &Address, connection: SendRequest<SendBody>) {
        if connection.is_closed() {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        if let Some(list) = idle.get_mut(address) {
            if list.len() >= self.size {
                list.pop_front();
            }
            list.push_back((connection, Instant::now()));
        } else {
            idle.insert(address.clone(), VecDeque::from([(connection, Instant::now())]));
        }
    }
}
