//! The gateway of a test: it opens a session, starts its phases, answers reads and takes decisions.

use super::exchange::Exchange;
use super::{Answer, Upstream};
use crate::library::Library;
use crate::phase::Phase;
use http::StatusCode;
use nylon_abi::{FfiBuffer, method, phase};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// The open sessions of all tests: a callback brings nothing but a sid.
static OPEN: LazyLock<Mutex<HashMap<u32, Arc<Run>>>> = LazyLock::new(Mutex::default);
static NEXT_SID: AtomicU32 = AtomicU32::new(1);

/// How a phase ended.
enum Ended {
    Next,
    End,
    Failed(String),
}

/// One exchange on its way through the phases of one entry.
pub(crate) struct Run {
    sid: u32,
    library: Arc<Library>,
    timeout: Duration,
    /// The handlers of the entry have the request's body before they are called.
    prefetched: bool,
    phases: Vec<Phase>,
    by_chunk: bool,
    state: Mutex<State>,
    ended: Condvar,
}

struct State {
    exchange: Exchange,
    /// Why the phase fails whatever is decided.
    refused: Option<String>,
    ended: Option<Ended>,
}

impl Run {
    pub(crate) fn new(library: Arc<Library>, exchange: Exchange, timeout: Duration, entry: &str) -> Arc<Run> {
        let sid = NEXT_SID.fetch_add(1, Ordering::Relaxed);
        let wants = library.wants(entry);
        let (phases, prefetched, by_chunk) =
            wants.unwrap_or_else(|known| panic!("the plugin has no entry {entry:?}; it has {known:?}"));
        let state = Mutex::new(State { exchange, refused: None, ended: None });
        let run = Run { sid, library, timeout, prefetched, phases, by_chunk, state, ended: Condvar::new() };
        let run = Arc::new(run);
        lock(&OPEN).insert(sid, run.clone());
        let length = u32::try_from(entry.len()).expect("a name of less than 4 GiB");
        // SAFETY: the name is there until this returns, and the callback is our own.
        let opened = unsafe { run.library.register(sid, entry.as_ptr().cast(), length, callback) };
        assert!(opened, "the entry {entry:?} was there a moment ago");
        run
    }

    /// Runs the phases that the entry has, with the service in the middle.
    pub(crate) fn through(&self, upstream: Upstream) -> Answer {
        let mut failures = BTreeMap::new();
        let mut forwarded = None;
        let ended = self.phase(Phase::RequestFilter).unwrap_or(Ended::Next);
        match ended {
            Ended::Next => {
                let mut state = lock(&self.state);
                forwarded = Some(state.exchange.request.clone());
                let response = &mut state.exchange.response;
                response.status = upstream.status;
                response.headers = upstream.headers;
                response.body = upstream.body;
            }
            Ended::End => {}
            Ended::Failed(why) => self.note(Phase::RequestFilter, why, &mut failures),
        }
        if failures.is_empty()
            && let Some(Ended::Failed(why)) = self.phase(Phase::ResponseFilter)
        {
            self.note(Phase::ResponseFilter, why, &mut failures);
        }
        if failures.is_empty()
            && self.phases.contains(&Phase::ResponseBodyFilter)
            && let Err(why) = self.body_filter(upstream.chunk)
        {
            self.note(Phase::ResponseBodyFilter, why, &mut failures);
        }
        if let Some(Ended::Failed(why)) = self.phase(Phase::Logging) {
            failures.insert(Phase::Logging.name(), why);
        }
        self.close();
        let response = lock(&self.state).exchange.response.clone();
        Answer {
            status: response.status,
            headers: response.headers,
            body: response.body,
            forwarded,
            failures,
        }
    }

    fn note(&self, phase: Phase, why: String, failures: &mut BTreeMap<&'static str, String>) {
        let exchange = &mut lock(&self.state).exchange;
        exchange.response = super::exchange::Reply {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            body: br#"{"error":"plugin error","status":500}"#.to_vec(),
            ..Default::default()
        };
        exchange.error = Some(why.clone());
        failures.insert(phase.name(), why);
    }

    fn body_filter(&self, chunk: usize) -> Result<(), String> {
        let result = |ended| match ended {
            Some(Ended::Failed(why)) => Err(why),
            _ => Ok(()),
        };
        if !self.by_chunk {
            return result(self.phase(Phase::ResponseBodyFilter));
        }
        let body = std::mem::take(&mut lock(&self.state).exchange.response.body);
        let mut filtered = Vec::new();
        let mut left = body.as_slice();
        loop {
            let (data, rest) = left.split_at(chunk.min(left.len()));
            left = rest;
            lock(&self.state).exchange.response.chunk = Some((data.to_vec(), left.is_empty()));
            result(self.phase(Phase::ResponseBodyFilter))?;
            if let Some((data, _)) = lock(&self.state).exchange.response.chunk.take() {
                filtered.extend(data);
            }
            if left.is_empty() {
                lock(&self.state).exchange.response.body = filtered;
                return Ok(());
            }
        }
    }

    /// Runs one phase; `None` where the entry does not have it. A failure takes back what was changed.
    fn phase(&self, phase: Phase) -> Option<Ended> {
        if !self.phases.contains(&phase) {
            return None;
        }
        let before = {
            let mut state = lock(&self.state);
            state.exchange.phase = Some(phase);
            (state.refused, state.ended) = (None, None);
            state.exchange.clone()
        };
        self.send(phase.number(), 0, &[]);
        let state = lock(&self.state);
        let wait = self.ended.wait_timeout_while(state, self.timeout, |state| state.ended.is_none());
        let (mut state, _) = wait.unwrap_or_else(PoisonError::into_inner);
        let ended = match (state.refused.take(), state.ended.take()) {
            (_, Some(Ended::Failed(why))) | (Some(why), Some(_)) => Ended::Failed(why),
            (None, Some(ended)) => ended,
            (_, None) => {
                drop(state);
                self.close();
                state = lock(&self.state);
                Ended::Failed(format!("no decision within {:?}", self.timeout))
            }
        };
        match ended {
            Ended::Failed(_) => state.exchange = before,
            Ended::Next if phase == Phase::RequestFilter => state.exchange.response = before.response,
            _ => {}
        }
        Some(ended)
    }

    fn close(&self) {
        lock(&OPEN).remove(&self.sid);
        self.library.close(self.sid);
    }

    fn send(&self, phase: u8, method: u32, payload: &[u8]) {
        let message =
            FfiBuffer { sid: self.sid, phase, method, ptr: payload.as_ptr(), len: payload.len() as u64 };
        // SAFETY: message and payload are there until this returns.
        unsafe { self.library.event(&raw const message) }
    }

    fn called(self: Arc<Self>, number: u32, payload: &[u8]) {
        let answer = lock(&self.state).exchange.read(number, payload);
        match answer {
            // As in a gateway, a body that nobody declared comes when it comes.
            Some(body) if number == method::READ_REQUEST_FULL_BODY && !self.prefetched => {
                thread::spawn(move || self.send(phase::NONE, number, &body));
            }
            Some(answer) => self.send(phase::NONE, number, &answer),
            None => self.take(number, payload),
        }
    }

    fn take(&self, number: u32, payload: &[u8]) {
        let mut state = lock(&self.state);
        let ended = match number {
            method::NEXT => Ended::Next,
            method::END | method::SET_RESPONSE_STREAM_END => Ended::End,
            method::FAIL => Ended::Failed(String::from_utf8_lossy(payload).into_owned()),
            _ => {
                if let Err(why) = state.exchange.change(number, payload) {
                    state.refused.get_or_insert(why);
                }
                return;
            }
        };
        // The first decision wins.
        state.ended.get_or_insert(ended);
        self.ended.notify_all();
    }
}

/// What the plugin calls.
unsafe extern "C" fn callback(message: *const FfiBuffer) {
    // SAFETY: the plugin passes a message whose payload is there until this returns.
    let (message, payload) = unsafe {
        let message = &*message;
        let payload: &[u8] = match message.len {
            0 => &[],
            len => std::slice::from_raw_parts(message.ptr, usize::try_from(len).expect("64 bits")),
        };
        (message, payload)
    };
    let run = lock(&OPEN).get(&message.sid).cloned();
    if let Some(run) = run {
        run.called(message.method, payload);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
