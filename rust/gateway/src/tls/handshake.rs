//! From a connection to a TLS connection, in the connection's own task and within its time.

use super::{Tls, store};
use std::io;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

/// The first byte of a TLS connection: the type of a record that holds a handshake (RFC 8446, 5.1).
const HANDSHAKE: u8 = 22;
/// What a client reads that speaks HTTP without TLS.
const PLAIN_HTTP: &str = "This address speaks HTTPS: write https:// in the URL\n";

/// Shakes hands with a client. `None`: the connection is of no further use, and everybody who should know is told.
pub(crate) async fn shake_hands(
    tls: &Tls,
    stream: TcpStream,
    limit: Duration,
) -> Option<TlsStream<TcpStream>> {
    let peer = stream.peer_addr().ok()?.ip();
    match timeout(limit, handshake(tls, stream)).await {
        Ok(Ok(done)) => done,
        Ok(Err(why)) => {
            tracing::debug!(client = %peer, "TLS handshake failed: {why}");
            None
        }
        Err(_) => {
            tracing::debug!(client = %peer, "TLS handshake took longer than {} ms", limit.as_millis());
            None
        }
    }
}

async fn handshake(tls: &Tls, mut stream: TcpStream) -> io::Result<Option<TlsStream<TcpStream>>> {
    let mut first = [0];
    // Bytes that are no TLS would be answered with an alert, which nobody understands who does not speak it.
    if stream.peek(&mut first).await? == 1 && first[0] != HANDSHAKE {
        let answer = format!(
            "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{PLAIN_HTTP}",
            PLAIN_HTTP.len()
        );
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await?;
        // Closing with bytes unread would reset the connection, and perhaps take the answer away with it. More than a
        // head need not be read for that.
        let mut dropped = [0; 16_384];
        let _ = stream.try_read(&mut dropped);
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the client does not speak TLS"));
    }
    let started = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream).await?;
    if store::is_challenge(&started.client_hello()) {
        let mut shown = started.into_stream(tls.challenge.clone()).await?;
        shown.shutdown().await?;
        return Ok(None);
    }
    started.into_stream(tls.http.clone()).await.map(Some)
}
