//! One request to a service, and its response.

use super::balance::HttpService;
use super::pool::{Address, Pool};
use crate::downstream::{ClientBody, ClientBodyError};
use crate::worker::Worker;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, Version, header};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use nylon_core::{RequestFacts, RequestHead, ResponseHead};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// What goes to the service.
pub struct Outgoing<'a> {
    /// The head, hop-by-hop fields removed.
    pub head: RequestHead,
    /// Who asked.
    pub facts: &'a RequestFacts,
    /// The body.
    pub body: ForwardBody,
    /// The way to take the client's connection over.
    pub upgrade: Option<OnUpgrade>,
}

/// A request body on its way to the service.
pub enum ForwardBody {
    /// None.
    Empty,
    /// In memory.
    Bytes(Bytes),
    /// Still on the client's connection.
    Client(ClientBody),
}

/// What came back.
pub struct Forwarded {
    /// The head, hop-by-hop fields removed.
    pub head: ResponseHead,
    /// The body, streaming.
    pub body: UpstreamBody,
}

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// No connection.
    #[error("cannot connect to {0}:{1}: {2}")]
    Connect(String, u16, #[source] std::io::Error),
    /// No connection in time.
    #[error("no connection to {0}:{1} in time")]
    ConnectTimeout(String, u16),
    /// The service broke off before its head was complete.
    #[error("the upstream broke off: {0}")]
    Reset(#[source] hyper::Error),
    /// No response head in time.
    #[error("no response from the upstream in time")]
    ResponseHeadTimeout,
    /// The request cannot be written.
    #[error("the request cannot be forwarded: {0}")]
    Request(#[from] http::Error),
}

impl ForwardError {
    /// Status and text for the client.
    pub fn answer(&self) -> (StatusCode, &'static str) {
        match self {
            ForwardError::Connect(..) => (StatusCode::BAD_GATEWAY, "the upstream refused the connection"),
            ForwardError::ConnectTimeout(..) => {
                (StatusCode::GATEWAY_TIMEOUT, "the upstream cannot be reached")
            }
            ForwardError::Reset(_) => (StatusCode::BAD_GATEWAY, "the upstream broke off"),
            ForwardError::ResponseHeadTimeout => (StatusCode::GATEWAY_TIMEOUT, "the upstream is too slow"),
            ForwardError::Request(_) => {
                (StatusCode::INTERNAL_SERVER_ERROR, "the request cannot be forwarded")
            }
        }
    }
}

/// The body as hyper's client sends it.
pub(super) enum SendBody {
    Empty,
    Bytes(Option<Bytes>),
    Client(ClientBody),
}

impl Body for SendBody {
    type Data = Bytes;
    type Error = ClientBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ClientBodyError>>> {
        match &mut *self {
            SendBody::Empty => Poll::Ready(None),
            SendBody::Bytes(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            SendBody::Client(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            SendBody::Empty | SendBody::Bytes(None) => true,
            SendBody::Bytes(Some(_)) => false,
            SendBody::Client(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            SendBody::Empty | SendBody::Bytes(None) => SizeHint::with_exact(0),
            SendBody::Bytes(Some(bytes)) => SizeHint::with_exact(bytes.len() as u64),
            SendBody::Client(body) => body.size_hint(),
        }
    }
}

/// A response body that gives its connection back when it is read whole.
pub struct UpstreamBody {
    inner: Incoming,
    back: Option<(SendRequest<SendBody>, Rc<Pool>, Address)>,
}

impl UpstreamBody {
    fn done(&mut self) {
        if let Some((connection, pool, address)) = self.back.take() {
            pool.put(&address, connection);
        }
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        match &polled {
            Poll::Ready(None) => self.done(),
            Poll::Ready(Some(Ok(_))) if self.inner.is_end_stream() => self.done(),
            Poll::Ready(Some(Err(_))) => self.back = None,
            _ => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Sends a request to the service's next endpoint.
///
/// # Errors
/// [`ForwardError`].
pub async fn forward(
    worker: &Rc<Worker>,
    service: &HttpService,
    out: Outgoing<'_>,
) -> Result<Forwarded, ForwardError> {
    let endpoint = service.next();
    let address = (endpoint.host.clone(), endpoint.port);
    let copy = matches!(out.body, ForwardBody::Empty)
        .then(|| matches!(out.head.method, Method::GET | Method::HEAD | Method::OPTIONS))
        .unwrap_or_default()
        .then(|| (out.head.clone(), out.facts));
    let mut request = build(out.head, out.facts, out.body)?;
    let mut reused = worker.pool.take(&address, service.limits.idle_timeout);
    let mut copy = copy;
    let (connection, response) = loop {
        let fresh = reused.is_none();
        let mut connection = match reused.take() {
            Some(connection) => connection,
            None => connect(service, &address).await?,
        };
        let sent = timeout(service.limits.response_head_timeout, connection.try_send_request(request));
        match sent.await.map_err(|_| ForwardError::ResponseHeadTimeout)? {
            Ok(response) => break (connection, response),
            Err(mut error) => match (error.take_message(), copy.take()) {
                (Some(message), kept) if !fresh => (request, copy) = (message, kept),
                (None, Some((head, facts))) if !fresh => request = build(head, facts, ForwardBody::Empty)?,
                _ => return Err(ForwardError::Reset(error.into_error())),
            },
        }
    };
    let (mut parts, inner) = response.into_parts();
    crate::downstream::strip_hop_by_hop(&mut parts.headers);
    let mut body = UpstreamBody { inner, back: Some((connection, worker.pool.clone(), address)) };
    if body.inner.is_end_stream() {
        body.done();
    }
    Ok(Forwarded { head: ResponseHead { status: parts.status, headers: parts.headers }, body })
}

fn build(
    head: RequestHead,
    facts: &RequestFacts,
    body: ForwardBody,
) -> Result<Request<SendBody>, http::Error> {
    let (body, length) = match body {
        ForwardBody::Empty => (SendBody::Empty, None),
        ForwardBody::Bytes(bytes) => (SendBody::Bytes(Some(bytes.clone())), Some(bytes.len())),
        ForwardBody::Client(body) => (SendBody::Client(body), None),
    };
    let mut request = Request::new(body);
    *request.uri_mut() = head.target().into();
    *request.method_mut() = head.method;
    *request.version_mut() = Version::HTTP_11;
    *request.headers_mut() = head.headers;
    let headers = request.headers_mut();
    if let Some(length) = length {
        headers.insert(header::CONTENT_LENGTH, length.into());
    }
    headers.insert("x-forwarded-for", HeaderValue::try_from(facts.client_ip.to_string())?);
    headers.insert("x-forwarded-proto", HeaderValue::from_static(facts.scheme.name()));
    headers.insert("x-forwarded-host", HeaderValue::try_from(facts.host.as_str())?);
    headers.append(header::VIA, HeaderValue::from_static("1.1 nylon"));
    Ok(request)
}

async fn connect(service: &HttpService, address: &Address) -> Result<SendRequest<SendBody>, ForwardError> {
    let (host, port) = address;
    let stream = timeout(service.limits.connect_timeout, TcpStream::connect((host.as_str(), *port)))
        .await
        .map_err(|_| ForwardError::ConnectTimeout(host.clone(), *port))?
        .map_err(|error| ForwardError::Connect(host.clone(), *port, error))?;
    // Without it a small request can wait for an acknowledgement; failing to set it loses nothing else.
    let _ = stream.set_nodelay(true);
    let (connection, driver) = handshake(TokioIo::new(stream)).await.map_err(ForwardError::Reset)?;
    tokio::task::spawn_local(async move {
        // Its errors reach whoever waits for a response on it.
        let _ = driver.with_upgrades().await;
    });
    Ok(connection)
}
