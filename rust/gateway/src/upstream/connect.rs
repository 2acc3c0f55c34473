//! From an address to a connection that speaks HTTP.

use super::balance::{Address, Target};
use super::error::ForwardError;
use super::pool::{Connection, Pool};
use super::watch::Watch;
use crate::socket::{Socket, connection_of};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::io;
use std::rc::Rc;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

/// Bytes of a response head; a longer one is no valid response.
const MAX_RESPONSE_HEAD: usize = 128 * 1024;

/// What carries HTTP to an endpoint.
pub(super) enum Stream {
    Tcp(Socket<TcpStream>),
    Unix(Socket<UnixStream>),
    /// In a box: it is forty times as large as the others.
    Tls(Box<TlsStream<Stream>>),
}

connection_of!(Stream { Tcp, Unix, Tls });

/// Opens a connection for HTTP/1.1 to `address`, within its time.
///
/// # Errors
/// [`ForwardError`]; nothing was sent then.
pub(super) async fn connect(pool: &Rc<Pool>, address: &Address) -> Result<Connection, ForwardError> {
    let stream = stream(address).await?;
    let (sender, driver) = http1::Builder::new()
        .max_header_size(MAX_RESPONSE_HEAD)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|source| ForwardError::Broken { address: address.to_string(), source })?;
    let watch = Rc::new(Watch::new(address.clone()));
    let (driven, pool) = (watch.clone(), pool.clone());
    tokio::task::spawn_local(async move {
        // It ends with its connection; its errors reach whoever waits for a response on it.
        driven.drive(driver.with_upgrades()).await;
        pool.forget(driven.address());
    });
    Ok(Connection { sender, watch })
}

/// What carries HTTP to `address`, within its time.
///
/// # Errors
/// [`ForwardError`].
pub(super) async fn stream(address: &Address) -> Result<Stream, ForwardError> {
    timeout(address.limits().connect_timeout, open(address))
        .await
        .map_err(|_| too_slow(address))?
        .map_err(|source| ForwardError::Connect { address: address.to_string(), source })
}

/// There is no connection to `address` in its time.
pub(super) fn too_slow(address: &Address) -> ForwardError {
    let millis = address.limits().connect_timeout.as_millis();
    ForwardError::ConnectTimeout { address: address.to_string(), millis }
}

async fn open(address: &Address) -> io::Result<Stream> {
    let stream = reach(address.target()).await?;
    match address.tls() {
        None => Ok(stream),
        Some(tls) => Ok(Stream::Tls(Box::new(Box::pin(tls.connect(stream)).await?))),
    }
}

async fn reach(target: &Target) -> io::Result<Stream> {
    match target {
        Target::Tcp(target) => {
            let stream = TcpStream::connect(target).await?;
            // Without it a small request can wait for an acknowledgement; failing to set it loses nothing else.
            let _ = stream.set_nodelay(true);
            Ok(Stream::Tcp(Socket(stream)))
        }
        Target::Unix(path) => Ok(Stream::Unix(Socket(UnixStream::connect(path).await?))),
    }
}
