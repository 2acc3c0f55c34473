//! A connection as the data plane writes to it.
//!
//! An HTTP message is mostly a head and a short body, which hyper offers as two slices. Gathering them in the kernel
//! costs more than copying a few hundred bytes here and sending one: about a twentieth of a small request.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// What is joined here; longer messages are left to the kernel.
const JOINED: usize = 2048;

/// A connection that joins short writes.
pub(crate) struct Socket<S = TcpStream>(pub(crate) S);

impl<S: AsyncRead + Unpin> AsyncRead for Socket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Socket<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let stream = Pin::new(&mut self.0);
        if let [only] = slices {
            return stream.poll_write(cx, only);
        }
        let mut joined = [0; JOINED];
        let mut length = 0;
        for slice in slices {
            let Some(room) = joined.get_mut(length..length + slice.len()) else {
                return stream.poll_write_vectored(cx, slices);
            };
            room.copy_from_slice(slice);
            length += slice.len();
        }
        stream.poll_write(cx, &joined[..length])
    }
}

/// Lets an enum of connections be one: each call goes to the variant that is there. All of them take slices in one
/// piece, as [`Socket`] does and a TLS record too.
macro_rules! connection_of {
    ($name:ident { $($variant:ident),+ }) => {
        impl tokio::io::AsyncRead for $name {
            fn poll_read(
                mut self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                buffer: &mut tokio::io::ReadBuf<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                match &mut *self {
                    $($name::$variant(stream) => std::pin::Pin::new(stream).poll_read(cx, buffer),)+
                }
            }
        }

        impl tokio::io::AsyncWrite for $name {
            fn poll_write(
                mut self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                bytes: &[u8],
            ) -> std::task::Poll<std::io::Result<usize>> {
                match &mut *self {
                    $($name::$variant(stream) => std::pin::Pin::new(stream).poll_write(cx, bytes),)+
                }
            }

            fn poll_flush(
                mut self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                match &mut *self {
                    $($name::$variant(stream) => std::pin::Pin::new(stream).poll_flush(cx),)+
                }
            }

            fn poll_shutdown(
                mut self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                match &mut *self {
                    $($name::$variant(stream) => std::pin::Pin::new(stream).poll_shutdown(cx),)+
                }
            }

            fn is_write_vectored(&self) -> bool {
                true
            }

            fn poll_write_vectored(
                mut self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                slices: &[std::io::IoSlice<'_>],
            ) -> std::task::Poll<std::io::Result<usize>> {
                match &mut *self {
                    $($name::$variant(stream) => std::pin::Pin::new(stream).poll_write_vectored(cx, slices),)+
                }
            }
        }
    };
}

pub(crate) use connection_of;

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn slices_of_all_lengths_arrive_whole_and_in_order() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (writer, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (mut writer, mut reader) = (Socket(writer.expect("connected")), accepted.expect("accepted").0);
        for lengths in [&[0][..], &[5], &[200, 100], &[JOINED - 1, 1], &[JOINED, 1], &[0, 7, 0, 9], &[5000]] {
            let pieces: Vec<Vec<u8>> =
                lengths.iter().enumerate().map(|(at, length)| vec![b'a' + at as u8; *length]).collect();
            let slices: Vec<_> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
            let sent = writer.write_vectored(&slices).await;
            let whole = pieces.concat();
            assert_eq!(sent.expect("sent"), whole.len(), "{lengths:?}");
            let mut got = vec![0; whole.len()];
            reader.read_exact(&mut got).await.expect("received");
            assert_eq!(got, whole, "{lengths:?}");
        }
    }
}
