//! What a client speaks on a connection that settled nothing before.
//!
//! HTTP/2 with prior knowledge begins with 24 bytes that no HTTP/1 request begins with (RFC 9113, 3.3 and 3.4). They
//! are read ahead, never taken away: whoever speaks with the client reads them again.

use super::socket::ClientSocket;
use memchr::memchr;
use std::future::poll_fn;
use std::io;
use std::task::Poll;
use tokio::time::Instant;

const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Whether the client begins with the preface of HTTP/2. Whatever is not that is HTTP/1, the beginning of a preface
/// that nothing follows by `deadline` too: there it is answered like any head that took too long.
///
/// # Errors
/// Nothing came by `deadline` or at all, or what came is of another protocol.
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
            if is_another_protocol(ahead) {
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            }
            if !PREFACE.starts_with(ahead) || ahead.len() == length {
                return Poll::Ready(Ok(false));
            }
            length = ahead.len();
        }
    })
    .await
}

/// Whether a connection begins with a line like that of a request, but with another protocol's name in it. It is closed
/// without a word: an answer in HTTP/1 would only be read as something else there.
fn is_another_protocol(ahead: &[u8]) -> bool {
    let Some(end) = memchr(b'\n', ahead) else { return false };
    let mut words = ahead[..end].trim_ascii_end().splitn(3, |byte| *byte == b' ');
    let is_http = |version: &[u8]| version.get(..5).is_some_and(|name| name.eq_ignore_ascii_case(b"HTTP/"));
    words.nth(2).is_some_and(|version| !is_http(version) && !version.contains(&b' '))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_protocol_is_told_by_the_name_in_its_first_line() {
        for line in [
            "INVALID CONNECTION PREFACE\r\n\r\n",
            "OPTIONS sip:a SIP/2.0\r\n",
            "DESCRIBE rtsp://a RTSP/1.0\n",
        ] {
            assert!(is_another_protocol(line.as_bytes()), "{line}");
        }
        for line in [
            "GET / HTTP/1.1\r\n",
            "GET / HTTP/9\r\n",
            "GET / http/1.1\r\n",
            "GET /\r\n",
            "GET / a HTTP/1.1\r\n",
            "\r\nGET / X\r\n",
            "GET / X",
            "\n",
        ] {
            assert!(!is_another_protocol(line.as_bytes()), "{line}");
        }
    }
}
