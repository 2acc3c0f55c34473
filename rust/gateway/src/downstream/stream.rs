//! A client's connection, plain or over TLS.

use crate::socket::{Socket, connection_of};
use nylon_core::Scheme;
use std::io;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// HTTP/2 as it is called in handshakes (RFC 9113, 3.2).
pub(crate) const HTTP2: &[u8] = b"h2";

/// A client's connection.
pub(crate) enum ClientStream {
    /// Bytes as they are.
    Plain(Socket),
    /// Bytes in TLS records, after the handshake.
    Tls(Box<TlsStream<TcpStream>>),
}

connection_of!(ClientStream { Plain, Tls });

impl ClientStream {
    /// The connection below.
    pub(crate) fn tcp(&self) -> &TcpStream {
        match self {
            ClientStream::Plain(socket) => &socket.0,
            ClientStream::Tls(stream) => stream.get_ref().0,
        }
    }

    pub(crate) fn scheme(&self) -> Scheme {
        match self {
            ClientStream::Plain(_) => Scheme::Http,
            ClientStream::Tls(_) => Scheme::Https,
        }
    }

    /// Whether both sides agreed on HTTP/2, where they could agree on something: the handshake says what comes next.
    pub(crate) fn is_http2(&self) -> Option<bool> {
        match self {
            ClientStream::Plain(_) => None,
            ClientStream::Tls(stream) => Some(stream.get_ref().1.alpn_protocol() == Some(HTTP2)),
        }
    }

    /// Tells a TLS client that no more will come (RFC 8446, 6.1), as far as the kernel takes it at once: without it an
    /// end could be anybody's work. Does nothing where that has been said.
    pub(crate) fn notify_close(&mut self) {
        let ClientStream::Tls(stream) = self else { return };
        let (tcp, session) = stream.get_mut();
        session.send_close_notify();
        while session.wants_write() {
            match session.write_tls(&mut Now(tcp)) {
                Ok(length) if length > 0 => {}
                _ => return,
            }
        }
    }
}

/// Writes what the kernel takes at once.
struct Now<'s>(&'s TcpStream);

impl io::Write for Now<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
