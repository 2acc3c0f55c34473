//! A well-behaved server of HTTP/1.1 or HTTP/2, plain or over TLS.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

/// A server that answers with what it was asked, one line for each part of it.
pub(super) struct Peer {
    pub(super) port: u16,
    connections: Arc<AtomicUsize>,
    resumed: Arc<AtomicUsize>,
    /// Its runtime ends when this is dropped.
    _alive: tokio::sync::oneshot::Sender<()>,
}

impl Peer {
    /// Speaks HTTP/2 if `http2`, else HTTP/1.1.
    pub(super) fn start(http2: bool, tls: Option<ServerConfig>) -> Peer {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        listener.set_nonblocking(true).expect("non-blocking");
        let port = listener.local_addr().expect("address").port();
        let (alive, ended) = tokio::sync::oneshot::channel();
        let (connections, resumed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (opened, again) = (connections.clone(), resumed.clone());
        let acceptor = tls.map(|config| TlsAcceptor::from(Arc::new(config)));
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
                let accept = async {
                    while let Ok((stream, _)) = listener.accept().await {
                        opened.fetch_add(1, Ordering::Relaxed);
                        let (acceptor, again) = (acceptor.clone(), again.clone());
                        tokio::spawn(async move {
                            let Some(acceptor) = acceptor else { return serve(stream, http2).await };
                            // A client that does not like what it sees is what some tests are about.
                            let Ok(stream) = acceptor.accept(stream).await else { return };
                            let kind = stream.get_ref().1.handshake_kind();
                            if kind == Some(tokio_rustls::rustls::HandshakeKind::Resumed) {
                                again.fetch_add(1, Ordering::Relaxed);
                            }
                            serve(stream, http2).await;
                        });
                    }
                };
                tokio::select! { () = accept => {}, _ = ended => {} }
            });
        });
        Peer { port, connections, resumed, _alive: alive }
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Connections that took up an earlier TLS session.
    pub(super) fn resumed(&self) -> usize {
        self.resumed.load(Ordering::Relaxed)
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, http2: bool) {
    let io = TokioIo::new(stream);
    let service = service_fn(answer);
    // How a connection ends is up to the gateway.
    if http2 {
        let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(io, service)
            .await;
    } else {
        let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service).await;
    }
}

type Body = StreamBody<futures_util::stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, Infallible>>>>;

/// `/trailers` has trailers of its own; the rest tells the request.
async fn answer(request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let (parts, body) = request.into_parts();
    let Ok(body) = body.collect().await else { return Ok(Response::new(frames(Vec::new()))) };
    let mut text = format!("{} {} {:?}\n", parts.method, parts.uri, parts.version);
    for (name, value) in &parts.headers {
        text += &format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes()));
    }
    for (name, value) in body.trailers().into_iter().flatten() {
        text += &format!("trailer {name}: {}\n", String::from_utf8_lossy(value.as_bytes()));
    }
    text += &format!("{} bytes", body.to_bytes().len());
    if !parts.uri.path().starts_with("/trailers") {
        return Ok(Response::new(frames(vec![Frame::data(Bytes::from(text))])));
    }
    let mut trailers = HeaderMap::new();
    for (name, value) in [("x-sum", "42"), ("content-length", "7"), ("set-cookie", "a=b")] {
        trailers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    let (begin, end) = text.split_at(text.len() / 2);
    let data = [begin, end].map(|part| Frame::data(Bytes::copy_from_slice(part.as_bytes())));
    let mut response = Response::new(frames(data.into_iter().chain([Frame::trailers(trailers)]).collect()));
    if parts.version < http::Version::HTTP_2 {
        response
            .headers_mut()
            .insert("trailer", HeaderValue::from_static("x-sum, content-length, set-cookie"));
    }
    Ok(response)
}

fn frames(frames: Vec<Frame<Bytes>>) -> Body {
    let frames: Vec<_> = frames.into_iter().map(Ok).collect();
    StreamBody::new(futures_util::stream::iter(frames))
}
