//! Connections of HTTP/2: each carries many requests.
//!
//! A thread keeps few of them to an endpoint, mostly one, and opens another only when the others carry as many requests
//! as the endpoint takes.

use super::balance::{Address, Hashed};
use super::body::SendBody;
use super::connect::{self, Stream};
use super::error::ForwardError;
use super::pool::Pool;
use super::watch::Watch;
use hyper::client::conn::http2::{Builder, Connection, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::hash::BuildHasherDefault;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Bytes of a response head; a longer one is no valid response.
const MAX_RESPONSE_HEAD: u32 = 128 * 1024;
/// Requests on one connection at most, whatever the endpoint would take.
const MAX_STREAMS: usize = 100;
/// Connections of one thread to one endpoint at most; beyond them requests wait their turn.
const MAX_LINES: usize = 8;
/// Bytes that wait here for a client that takes a response slowly,
const STREAM_WINDOW: u32 = 256 * 1024;
/// so that no number of them holds up the others.
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * MAX_STREAMS as u32;
/// Bytes of a request's body that wait here for the endpoint.
const SEND_BUFFER: usize = 128 * 1024;
/// The longest silence of a connection in use before the endpoint is asked whether it is there,
const PING_AFTER: Duration = Duration::from_secs(30);
/// and how long it may take to say so.
const PING_TIME: Duration = Duration::from_secs(10);

/// The connections of one thread.
#[derive(Default)]
pub(super) struct Lines {
    endpoints: RefCell<HashMap<Address, Rc<Endpoint>, BuildHasherDefault<Hashed>>>,
}

/// The connections to one endpoint.
struct Endpoint {
    lines: RefCell<Vec<Rc<Line>>>,
    /// One is opened at a time: those who wait for it mostly find room on it.
    opening: Semaphore,
}

/// One connection.
struct Line {
    sender: SendRequest<SendBody>,
    /// None once it has ended.
    connection: RefCell<Option<Pin<Box<Driver>>>>,
    streams: Cell<usize>,
    /// The endpoint takes no more requests on it.
    leaving: Cell<bool>,
    /// Its clock while nothing is on it.
    watch: Watch,
}

type Driver = Connection<TokioIo<Stream>, SendBody, Local>;

/// Runs what a connection needs on its own thread.
#[derive(Clone, Copy)]
struct Local;

impl<F: Future + 'static> hyper::rt::Executor<F> for Local
where
    F::Output: 'static,
{
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

/// A request's place on a connection, until its response is read.
pub(super) struct Place {
    line: Rc<Line>,
    was_open: bool,
}

impl Place {
    /// What sends a request.
    pub(super) fn sender(&self) -> SendRequest<SendBody> {
        self.line.sender.clone()
    }

    /// Whether the connection was there before, and may have ended unnoticed.
    pub(super) fn was_open(&self) -> bool {
        self.was_open
    }

    /// Whether the connection has ended.
    pub(super) fn is_closed(&self) -> bool {
        self.line.sender.is_closed()
    }

    /// No further request goes to this connection.
    pub(super) fn avoid(&self) {
        self.line.leaving.set(true);
    }

    fn on(line: Rc<Line>, was_open: bool) -> Place {
        line.streams.set(line.streams.get() + 1);
        line.watch.relax();
        Place { line, was_open }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let left = self.line.streams.get() - 1;
        self.line.streams.set(left);
        if left == 0 {
            self.line.watch.expect(self.line.watch.limits().idle_timeout);
        }
    }
}

impl Line {
    fn is_open(&self) -> bool {
        !self.leaving.get() && !self.sender.is_closed()
    }

    fn has_room(&self) -> bool {
        let connection = self.connection.borrow();
        let taken = connection.as_ref().map_or(0, |connection| connection.current_max_send_streams());
        self.is_open() && self.streams.get() < taken.min(MAX_STREAMS)
    }
}

impl Endpoint {
    fn with_room(&self) -> Option<Place> {
        let lines = self.lines.borrow();
        lines.iter().find(|line| line.has_room()).map(|line| Place::on(line.clone(), true))
    }

    /// Where the fewest others wait.
    fn least_busy(&self) -> Option<Place> {
        let lines = self.lines.borrow();
        let open = lines.iter().filter(|line| line.is_open());
        open.min_by_key(|line| line.streams.get()).map(|line| Place::on(line.clone(), true))
    }

    fn is_full(&self) -> bool {
        self.lines.borrow().iter().filter(|line| line.is_open()).count() >= MAX_LINES
    }
}

impl Lines {
    fn to(&self, address: &Address) -> Rc<Endpoint> {
        let mut endpoints = self.endpoints.borrow_mut();
        if let Some(endpoint) = endpoints.get(address) {
            return endpoint.clone();
        }
        let endpoint = Rc::new(Endpoint { lines: RefCell::default(), opening: Semaphore::new(1) });
        endpoints.insert(address.clone(), endpoint.clone());
        endpoint
    }

    /// Forgets a connection that has ended.
    fn forget(&self, address: &Address, line: &Rc<Line>) {
        if let Some(endpoint) = self.endpoints.borrow().get(address) {
            endpoint.lines.borrow_mut().retain(|known| !Rc::ptr_eq(known, line));
        }
        self.tidy(address);
    }

    /// Forgets an endpoint without connections.
    fn tidy(&self, address: &Address) {
        let mut endpoints = self.endpoints.borrow_mut();
        // Whoever opens a connection holds on to its endpoint.
        let is_unused = |e: &Rc<Endpoint>| Rc::strong_count(e) == 1 && e.lines.borrow().is_empty();
        if endpoints.get(address).is_some_and(is_unused) {
            endpoints.remove(address);
        }
    }
}

/// A place for one request, on a new connection where there is none else.
///
/// # Errors
/// [`ForwardError`]: there is no connection.
pub(super) async fn place(pool: &Rc<Pool>, address: &Address) -> Result<Place, ForwardError> {
    let endpoint = pool.lines.to(address);
    if let Some(place) = endpoint.with_room() {
        return Ok(place);
    }
    let limit = address.limits().connect_timeout;
    let opened = timeout(limit, async {
        let _turn = endpoint.opening.acquire().await;
        if let Some(place) = endpoint.with_room() {
            return Ok(place);
        }
        match endpoint.least_busy() {
            Some(place) if endpoint.is_full() => Ok(place),
            busy => match open(pool, address, &endpoint).await {
                Ok(line) => Ok(Place::on(line, false)),
                Err(error) => busy.ok_or(error),
            },
        }
    });
    let opened = opened.await.unwrap_or_else(|_| Err(connect::too_slow(address)));
    drop(endpoint);
    if opened.is_err() {
        pool.lines.tidy(address);
    }
    opened
}

async fn open(pool: &Rc<Pool>, address: &Address, endpoint: &Rc<Endpoint>) -> Result<Rc<Line>, ForwardError> {
    let stream = connect::stream(address).await?;
    let silence = address.limits().read_timeout;
    let (sender, connection) = Builder::new(Local)
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(MAX_RESPONSE_HEAD)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(PING_AFTER.min(silence))
        .keep_alive_timeout(PING_TIME)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|source| ForwardError::Broken { address: address.to_string(), source })?;
    let line = Rc::new(Line {
        sender,
        connection: RefCell::new(Some(Box::pin(connection))),
        streams: Cell::new(0),
        leaving: Cell::new(false),
        watch: Watch::new(address.clone()),
    });
    endpoint.lines.borrow_mut().push(line.clone());
    let (driven, pool) = (line.clone(), pool.clone());
    tokio::task::spawn_local(async move {
        let connection = poll_fn(|cx| match &mut *driven.connection.borrow_mut() {
            Some(connection) => connection.as_mut().poll(cx),
            None => std::task::Poll::Ready(Ok(())),
        });
        // Its errors reach whoever waits for a response on it.
        driven.watch.drive(connection).await;
        driven.leaving.set(true);
        let ended = driven.connection.borrow_mut().take();
        drop(ended);
        pool.lines.forget(driven.watch.address(), &driven);
    });
    Ok(line)
}
