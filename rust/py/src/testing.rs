//! A plugin without a gateway and without a socket, for `nylon.testing.PluginClient`.
//!
//! It is the gateway's own host that runs the handlers, with its pool, its loop and its time-outs; only the
//! exchange is made by hand. What passes here passes there.

use crate::context::{Context, Labels, Lease, Manner, Outlet, Owner};
use crate::errors::{ErrorClass, refused};
use crate::python_host::{PythonHost, Settings};
use crate::text;
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, Version};
use nylon_config::plan::{Execution, OnError, PhasePolicy, Retry};
use nylon_core::{
    Call, Chunk, Exchange, Failure, Finished, Op, Outcome, Params, Phase, RequestBody, RequestFacts,
    RequestHead, RequestId, ResponseBody, Scheme,
};
use nylon_gateway::plugin::{
    BodySource, BodyUse, Pending, PhaseCall, PluginEntry, PluginHost, ResponseStream, Session,
};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn invalid(py: Python<'_>, what: &str) -> PyErr {
    ErrorClass::InvalidValueError.error(py, what)
}

fn header_map(fields: &Bound<'_, PyList>) -> PyResult<HeaderMap> {
    let py = fields.py();
    let mut headers = HeaderMap::new();
    for field in fields {
        let (name, value): (Bound<'_, PyString>, Bound<'_, PyString>) = field.extract()?;
        let name = Op::header_name(&text::to_bytes(&name)?).map_err(|error| refused(py, error))?;
        let value = Op::header_value(text::to_bytes(&value)?).map_err(|error| refused(py, error))?;
        headers.append(name, value);
    }
    Ok(headers)
}

/// One exchange, made by hand.
#[pyclass(frozen, module = "nylon._core")]
pub(crate) struct TestExchange {
    /// Missing only while a phase has it.
    exchange: Mutex<Option<Box<Exchange>>>,
    /// What the client sends, whether or not anybody reads it.
    body: Bytes,
}

impl TestExchange {
    fn take(&self, py: Python<'_>) -> PyResult<Box<Exchange>> {
        locked(&self.exchange)
            .take()
            .ok_or_else(|| ErrorClass::GatewayError.error(py, "a phase of this exchange runs already"))
    }

    fn change(&self, py: Python<'_>, change: impl FnOnce(&mut Exchange)) -> PyResult<()> {
        let mut exchange = self.take(py)?;
        change(&mut exchange);
        *locked(&self.exchange) = Some(exchange);
        Ok(())
    }
}

#[pymethods]
impl TestExchange {
    #[new]
    #[allow(clippy::too_many_arguments)]
    #[pyo3(signature = (method, path, query, headers, body, *, host, scheme, client_ip, http_version, params, request_id))]
    fn new(
        py: Python<'_>,
        method: &str,
        path: &str,
        query: &str,
        headers: &Bound<'_, PyList>,
        body: &Bound<'_, PyBytes>,
        host: &str,
        scheme: &str,
        client_ip: &str,
        http_version: &str,
        params: Vec<(String, String)>,
        request_id: [u8; 16],
    ) -> PyResult<TestExchange> {
        let facts = RequestFacts {
            id: RequestId(request_id),
            scheme: if scheme == "https" { Scheme::Https } else { Scheme::Http },
            host: host.parse().map_err(|_| invalid(py, "the host is not HOST or HOST:PORT"))?,
            client_ip: client_ip
                .parse()
                .map_err(|_| invalid(py, "the client's address is not an IP address"))?,
            received_at: SystemTime::now(),
            params: Params::new(params),
        };
        let request = RequestHead {
            method: Method::GET,
            path: nylon_core::TargetPart::root(),
            query: None,
            version: match http_version {
                "1.0" => Version::HTTP_10,
                "2" => Version::HTTP_2,
                _ => Version::HTTP_11,
            },
            headers: header_map(headers)?,
        };
        let mut exchange = Box::new(Exchange::new(facts, request));
        for op in [Op::method(method), Op::path(path), Op::query(query)] {
            op.map_err(|error| refused(py, error))?.apply(&mut exchange);
        }
        let body = Bytes::copy_from_slice(body.as_bytes());
        Ok(TestExchange { exchange: Mutex::new(Some(exchange)), body })
    }

    /// The service's answer; its body streams until a phase wants it.
    fn answer(&self, py: Python<'_>, status: u16, headers: &Bound<'_, PyList>) -> PyResult<()> {
        let headers = header_map(headers)?;
        let status = StatusCode::from_u16(status).map_err(|_| invalid(py, "that is no status"))?;
        self.change(py, |exchange| {
            exchange.response.status = status;
            exchange.response.headers = headers;
            exchange.response_body = ResponseBody::Streaming;
        })
    }

    /// The service's body, read whole.
    fn read_response(&self, py: Python<'_>, body: &Bound<'_, PyBytes>) -> PyResult<()> {
        let body = Bytes::copy_from_slice(body.as_bytes());
        self.change(py, |exchange| {
            if exchange.response_body == ResponseBody::Streaming {
                exchange.response_body = ResponseBody::Read(body);
            }
        })
    }

    /// A part of the body for a handler with `stream=True`; `None` ends that.
    #[pyo3(signature = (data, end_of_stream=false))]
    fn set_chunk(
        &self,
        py: Python<'_>,
        data: Option<&Bound<'_, PyBytes>>,
        end_of_stream: bool,
    ) -> PyResult<()> {
        let data = data.map(|data| Bytes::copy_from_slice(data.as_bytes()));
        self.change(py, |exchange| exchange.chunk = data.map(|data| Chunk { data, end_of_stream }))
    }

    /// What the client got, for `logging`.
    #[pyo3(signature = (bytes, duration, error=None))]
    fn sent(&self, py: Python<'_>, bytes: u64, duration: f64, error: Option<String>) -> PyResult<()> {
        let duration =
            Duration::try_from_secs_f64(duration).map_err(|_| invalid(py, "that is no duration"))?;
        self.change(py, |exchange| {
            exchange.sent.bytes = bytes;
            exchange.sent.duration = Some(duration);
            exchange.sent.error = error.map(Into::into);
        })
    }

    /// The chunk as the last handler left it.
    fn chunk<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let exchange = self.take(py)?;
        let chunk = exchange.chunk.as_ref().map(|chunk| PyBytes::new(py, &chunk.data));
        *locked(&self.exchange) = Some(exchange);
        Ok(chunk)
    }

    /// The response's body where it is known, else `None`.
    fn response_body<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let exchange = self.take(py)?;
        let body = exchange.response_body.bytes().map(|bytes| PyBytes::new(py, bytes));
        *locked(&self.exchange) = Some(exchange);
        Ok(body)
    }

    /// The request's body as it would be forwarded.
    fn request_body<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let exchange = self.take(py)?;
        let body = PyBytes::new(py, exchange.request_body.bytes().unwrap_or(&self.body));
        *locked(&self.exchange) = Some(exchange);
        Ok(body)
    }

    /// A context over a copy of the exchange that stays open, for reading.
    fn view(&self, py: Python<'_>) -> PyResult<Context> {
        let exchange = self.take(py)?;
        let copy = exchange.clone();
        *locked(&self.exchange) = Some(exchange);
        let call = Call { phase: Phase::Logging, payload: Bytes::new(), state: Bytes::new(), attempt: 1 };
        let labels = Arc::new(Labels { plugin: "testing".to_owned(), entry: "result".to_owned() });
        let context = nylon_core::Context::local(copy, call);
        Ok(Context::new(Lease::new(context, labels, Instant::now(), Nobody)))
    }
}

/// Nobody waits for a context that is only looked at.
struct Nobody;

impl Owner for Nobody {
    fn finished(&self, _finished: Finished) {}

    fn body_wanted(&self) -> Result<(), &'static str> {
        Err("this request is only looked at")
    }

    fn stream_begun(&self, _finished: Finished) -> (Arc<dyn Outlet>, Manner) {
        unreachable!("a context for logging begins no stream")
    }

    fn stream_over(&self) {}
}

/// One session of one entry.
#[pyclass(frozen, module = "nylon._core")]
pub(crate) struct TestSession {
    session: Mutex<Session>,
}

#[pymethods]
impl TestSession {
    #[new]
    fn new() -> TestSession {
        TestSession { session: Mutex::default() }
    }

    /// A copy of `ctx.state` as the last handler left it.
    fn state<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let state = locked(&self.session).state.clone();
        text::from_msgpack(py, if state.is_empty() { b"\x80" } else { &state })
    }
}

struct Given(Bytes);

impl BodySource for Given {
    fn read(&mut self) -> Pin<Box<dyn Future<Output = Result<Bytes, Failure>> + '_>> {
        let body = self.0.clone();
        Box::pin(async move { Ok(body) })
    }

    fn limit(&self) -> usize {
        usize::MAX
    }
}

/// All that a handler writes.
async fn collect(mut stream: Box<dyn ResponseStream>) -> Result<Bytes, Failure> {
    let mut whole = Vec::new();
    while let Some(data) = poll_fn(|cx| stream.poll_next(cx)).await {
        whole.extend_from_slice(&data?);
    }
    Ok(whole.into())
}

/// The gateway's host of one plugin.
#[pyclass(frozen, module = "nylon._core")]
pub(crate) struct TestHost {
    host: PythonHost,
}

#[pymethods]
impl TestHost {
    #[new]
    fn new(plugin: &Bound<'_, PyAny>, config: &Bound<'_, PyAny>) -> PyResult<TestHost> {
        let settings = Settings { name: "plugin".to_owned(), execution: Execution::Thread, threads: 4 };
        Ok(TestHost { host: PythonHost::start(plugin, config, settings)? })
    }

    /// The phases of an entry, and whether it wants the request body and the response by chunk.
    fn entry(&self, py: Python<'_>, name: &str) -> PyResult<(Vec<&'static str>, bool, bool)> {
        let traits = self.find(py, name)?.traits();
        let phases = Phase::ALL.into_iter().filter(|phase| traits.phases.contains(*phase));
        Ok((phases.map(Phase::name).collect(), traits.request_body, traits.response_body == BodyUse::ByChunk))
    }

    /// Runs one phase: `("next" | "end", None, None)`, or `("error", kind, message)`.
    #[allow(clippy::too_many_arguments)]
    fn run<'py>(
        &self,
        py: Python<'py>,
        entry: &str,
        phase: &str,
        exchange: &Bound<'py, TestExchange>,
        session: &Bound<'py, TestSession>,
        payload: &Bound<'py, PyAny>,
        timeout: f64,
    ) -> PyResult<Bound<'py, PyTuple>> {
        let entry = self.find(py, entry)?;
        let phase = Phase::from_name(phase).ok_or_else(|| invalid(py, "there is no such phase"))?;
        let timeout = Duration::try_from_secs_f64(timeout).map_err(|_| invalid(py, "that is no time-out"))?;
        let payload = if payload.is_none() { Bytes::new() } else { text::to_msgpack(payload)? };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let test = exchange.get();
        let body = test.body.clone();
        let mut lent = test.take(py)?;
        if phase == Phase::RequestFilter && entry.traits().request_body {
            lent.request_body = RequestBody::Read(body.clone());
        }
        let session = &session.get().session;
        let finished = py.detach(move || {
            let mut session = locked(session);
            let call = Call { phase, payload, state: session.state.clone(), attempt: 1 };
            let policy = PhasePolicy {
                timeout,
                on_error: OnError::Fail,
                retry: Retry { max: 0, backoff_initial: Duration::ZERO, backoff_max: Duration::ZERO },
                idempotent: true,
            };
            let deadline = Instant::now() + timeout;
            let finished = runtime.block_on(async {
                let mut body = Given(body);
                let mut stream = None;
                let call = PhaseCall {
                    exchange: lent,
                    call,
                    policy: &policy,
                    deadline,
                    session: &mut session,
                    body: &mut body,
                    response_body: None,
                    stream: &mut stream,
                    recording: false,
                };
                let mut finished = match entry.call(call) {
                    Pending::Ready(finished) => finished,
                    Pending::Later(result) => result.await,
                };
                if let Some(stream) = stream {
                    match collect(stream).await {
                        Ok(body) => finished.exchange.response_body = ResponseBody::Replaced(body),
                        Err(failure) => finished.outcome = Outcome::Failed(failure),
                    }
                }
                finished
            });
            if let Some(state) = &finished.state {
                session.state = state.clone();
            }
            finished
        });
        *locked(&test.exchange) = Some(finished.exchange);
        match finished.outcome {
            Outcome::Next => ("next", py.None(), py.None()).into_pyobject(py),
            Outcome::End => ("end", py.None(), py.None()).into_pyobject(py),
            Outcome::Failed(failure) => ("error", failure.kind.name(), failure.message).into_pyobject(py),
        }
    }

    /// Runs `shutdown` and ends the plugin's threads.
    fn close(&self, py: Python<'_>) {
        py.detach(|| self.host.shutdown(Duration::from_secs(5)));
    }
}

impl TestHost {
    fn find(&self, py: Python<'_>, name: &str) -> PyResult<Arc<dyn PluginEntry>> {
        self.host.entry(name).map_err(|unknown| ErrorClass::PluginError.error(py, unknown.to_string()))
    }
}
