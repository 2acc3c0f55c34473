//! One data-plane thread: its listeners, its connections, what it is told.

use super::accept::accept;
use super::listeners::Speaks;
use crate::acme::HttpAnswers;
use crate::pipeline::LivePlan;
use crate::plugin::remote;
use crate::stop::Stop;
use crate::tls::Tls;
use crate::worker::Worker;
use arc_swap::ArcSwap;
use std::collections::HashMap;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;

/// How often a stop looks whether all is done.
const STOP_STEP: Duration = Duration::from_millis(2);

/// What a thread is told.
pub(super) enum Command {
    /// The live plan was swapped: listen on more, on less, and let go of the plan before.
    Switch {
        /// New listeners by their ids, and what is spoken there.
        added: Vec<(u64, TcpListener, Speaks)>,
        /// Listeners to be closed; their connections finish what they are at.
        removed: Vec<u64>,
    },
    /// Finish within the time given, and end.
    Stop(Duration),
}

/// A listener of this thread, and the signal for all that came through it.
struct Accepting {
    task: JoinHandle<()>,
    stop: Rc<Stop>,
}

/// Runs a data-plane thread until it is told to stop, or whoever could tell it is gone.
pub(super) fn run(
    live: Arc<ArcSwap<LivePlan>>,
    tls: Arc<Tls>,
    answers: Arc<HttpAnswers>,
    room: Arc<Semaphore>,
    mut commands: mpsc::UnboundedReceiver<Command>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default());
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return tracing::error!("cannot start a data-plane runtime: {error}"),
    };
    let _lanes = remote::host_lanes();
    runtime.block_on(async move {
        let worker = Worker::new(live, tls, answers);
        let logging = tokio::task::spawn_local(worker.logs.clone().run());
        let mut accepting: HashMap<u64, Accepting> = HashMap::new();
        // Listeners that were removed; connections that came through them are counted by the worker.
        let mut ending: Vec<JoinHandle<()>> = Vec::new();
        let grace = loop {
            match commands.recv().await {
                Some(Command::Switch { added, removed }) => {
                    worker.let_go();
                    ending.retain(|task| !task.is_finished());
                    for listening in removed.iter().filter_map(|id| accepting.remove(id)) {
                        listening.stop.tell();
                        ending.push(listening.task);
                    }
                    for (id, listener, speaks) in added {
                        let stop = Rc::new(Stop::default());
                        let accepts = accept(worker.clone(), listener, speaks, stop.clone(), room.clone());
                        let task = tokio::task::spawn_local(accepts);
                        accepting.insert(id, Accepting { task, stop });
                    }
                }
                Some(Command::Stop(grace)) => break grace,
                None => break Duration::ZERO,
            }
        };
        for listening in accepting.into_values() {
            listening.stop.tell();
            ending.push(listening.task);
        }
        let until = Instant::now() + grace;
        while Instant::now() < until && (ending.iter().any(|a| !a.is_finished()) || worker.connections() > 0)
        {
            tokio::time::sleep(STOP_STEP).await;
        }
        ending.iter().for_each(JoinHandle::abort);
        // Dropping the runtime cuts what is left. Logging has its own time, if there is any at all.
        let more = worker.live().plan.runtime.graceful_shutdown_timeout;
        let until = if grace.is_zero() { Instant::now() } else { Instant::now() + more };
        while Instant::now() < until && !worker.logs.is_idle() {
            tokio::time::sleep(STOP_STEP).await;
        }
        logging.abort();
    });
}
