//! What a client speaks on a connection that settled nothing before.
//!
//! HTTP/2 with prior knowledge begins with 24 bytes that no HTTP/1 request begins with (RFC 9113, 3.3 and 3.4). They
//! are read ahead, never taken away: whoever speaks with the client reads them again.

use super::socket::ClientSocket;
use std::future::poll_fn;
use std::io;
use std::task::Poll;
use tokio::time::Instant;

const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Whether the client begins with the preface of HTTP/2. Whatever is not that is HTTP/1, the beginning of a preface
/// that nothing follows by `deadline` too: there it is answered like any head that took too long.
///
/// # Errors
/// Nothing came by `deadline` or at all.
pub(super) async fn is_http2(socket: &mut ClientSocket, deadline: Instant) -> io::Result<bool> {
    let mut length = 0;
    poll_fn(|cx| {
        loop {
            let Poll::Ready(ahead) = socket.poll_ahead(cx) else {
                return match socket.is_late(deadline, cx) {
                    true if length == 0 => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
                    true => Poll::Ready(Ok(false)),
                    false => Poll::Pending,
                };
            };
            let ahead = ahead?;
            if ahead.starts_with(PREFACE) {
                return Poll::Ready(Ok(true));
            }
            if ahead.is_empty() {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            if !PREFACE.starts_with(ahead) || ahead.len() == length {
                return Poll::Ready(Ok(false));
            }
            length = ahead.len();
        }
    })
    .await
}
