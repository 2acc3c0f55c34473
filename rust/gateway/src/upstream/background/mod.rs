//! What goes on beside requests: names are resolved, endpoints are checked.
//!
//! It has one thread for the whole gateway, since an endpoint needs no check for each data-plane thread, and a
//! data-plane thread has no time for files like `/etc/hosts`. The thread starts with the first plan that needs it, is
//! told of each further plan, and ends with the server.

/// Endpoints are asked whether they are well.
mod check;
/// Names become addresses.
mod resolve;

use super::balance::HttpService;
use super::pool::Pool;
use nylon_config::plan::Dns;
use std::io;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;

/// The thread, while there is one.
#[derive(Default)]
pub(crate) struct Background(Mutex<Option<Thread>>);

struct Thread {
    /// Unbounded, since a sender never waits: one message per reload, and reloads wait for each other.
    orders: UnboundedSender<Order>,
    handle: JoinHandle<()>,
}

/// The services of the plan that is live from now on.
struct Order {
    services: Vec<Arc<HttpService>>,
    dns: Arc<Dns>,
    /// Dropped once each name was tried.
    tried: Sender<()>,
}

/// Whether each name was tried once.
pub(crate) struct FirstAnswers(Receiver<()>);

impl FirstAnswers {
    /// Waits until each name has been tried once, and no longer than `time`.
    pub(crate) fn wait(self, time: Duration) {
        if let Err(RecvTimeoutError::Timeout) = self.0.recv_timeout(time) {
            tracing::debug!("names are still being resolved after {time:?}");
        }
    }
}

impl Background {
    /// Looks after these services, and after no others any more.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(crate) fn tend(&self, services: &[Arc<HttpService>], dns: &Dns) -> io::Result<FirstAnswers> {
        let (tried, answers) = channel();
        let mut thread = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let services: Vec<_> = services.iter().filter(|service| needs_it(service)).cloned().collect();
        if thread.is_none() && services.is_empty() {
            return Ok(FirstAnswers(answers));
        }
        let running = match &*thread {
            Some(running) => running,
            None => {
                let (orders, receiver) = unbounded_channel();
                let builder = std::thread::Builder::new().name("nylon-upstreams".to_owned());
                thread.insert(Thread { orders, handle: builder.spawn(move || run(receiver))? })
            }
        };
        if running.orders.send(Order { services, dns: Arc::new(dns.clone()), tried }).is_err() {
            return Err(io::Error::other("it has ended by itself"));
        }
        Ok(FirstAnswers(answers))
    }

    /// Ends the thread.
    pub(crate) fn stop(&self) {
        let thread = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Thread { orders, handle }) = thread {
            drop(orders);
            if handle.join().is_err() {
                tracing::error!("the thread that looks after endpoints panicked");
            }
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Whether a service has names or checks.
fn needs_it(service: &HttpService) -> bool {
    service.balancing().health_check.is_some()
        || service.origins().iter().any(|origin| origin.name().is_some())
}

fn run(mut orders: UnboundedReceiver<Order>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default());
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return tracing::error!("cannot start a runtime to look after endpoints: {error}"),
    };
    runtime.block_on(async move {
        // A check has a connection of its own, so that it shows whether one can be had.
        let pool = Rc::new(Pool::new(0));
        let mut tasks = JoinSet::new();
        while let Some(Order { services, dns, tried }) = orders.recv().await {
            // Dropping ends those of the plan before.
            tasks = JoinSet::new();
            for service in services {
                for (number, origin) in service.origins().iter().enumerate() {
                    if origin.name().is_some() {
                        let follow = resolve::follow(service.clone(), number, dns.clone(), tried.clone());
                        tasks.spawn_local(follow);
                    }
                }
                if let Some(check) = service.balancing().health_check.clone() {
                    tasks.spawn_local(check::watch(service, check, pool.clone()));
                }
            }
        }
        drop(tasks);
    });
}
