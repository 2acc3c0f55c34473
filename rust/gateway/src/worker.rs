//! What belongs to one data-plane thread.
//!
//! A [`Worker`] is shared by reference count among the tasks of its thread and never leaves it, so its parts need
//! no locks. Only the live plan comes from outside, swapped whole.

use crate::acme::HttpAnswers;
use crate::pipeline::{LivePlan, LogQueue};
use crate::tls::Tls;
use crate::upstream::Pool;
use arc_swap::{ArcSwap, Cache};
use nylon_config::Plan;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

/// One data-plane thread's own.
pub struct Worker {
    live: RefCell<Cache<Arc<ArcSwap<LivePlan>>, Arc<LivePlan>>>,
    /// The logging owed on this thread.
    pub logs: Rc<LogQueue>,
    /// The idle upstream connections of this thread.
    pub pool: Rc<Pool>,
    /// What handshakes need.
    pub(crate) tls: Arc<Tls>,
    /// What proves to an authority whose domains these are.
    pub(crate) answers: Arc<HttpAnswers>,
    connections: Cell<usize>,
}

impl Worker {
    /// A worker over what all threads share: the live plan, the certificates, the answers to an authority.
    pub(crate) fn new(live: Arc<ArcSwap<LivePlan>>, tls: Arc<Tls>, answers: Arc<HttpAnswers>) -> Rc<Worker> {
        let limits = &live.load().plan.runtime;
        let pool = Rc::new(Pool::new(limits.upstream_keepalive_pool_size));
        let live = RefCell::new(Cache::new(live));
        Rc::new(Worker { live, logs: Rc::default(), pool, tls, answers, connections: Cell::new(0) })
    }

    /// The plan that a new exchange runs under.
    pub fn live(&self) -> Arc<LivePlan> {
        self.live.borrow_mut().load().clone()
    }

    /// Holds on to no plan but the live one: the cache would keep the one before until the next request.
    pub(crate) fn let_go(&self) {
        self.live.borrow_mut().load();
    }

    /// A look at the plan that is live now.
    pub(crate) fn with_plan<T>(&self, look: impl FnOnce(&Plan) -> T) -> T {
        look(&self.live.borrow_mut().load().plan)
    }

    /// Client connections open on this thread.
    pub fn connections(&self) -> usize {
        self.connections.get()
    }

    /// Counts a connection until the guard is dropped.
    pub fn connection(self: &Rc<Worker>) -> ConnectionGuard {
        self.connections.set(self.connections.get() + 1);
        ConnectionGuard(self.clone())
    }
}

/// Counts one connection.
pub struct ConnectionGuard(Rc<Worker>);

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.0.connections.set(self.0.connections.get() - 1);
    }
}
