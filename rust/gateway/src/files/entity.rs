//! A file as http-serve wants it, and as a body.

use super::encoding::Encoding;
use super::open::{Opened, PATIENCE};
use bytes::Bytes;
use futures_util::Stream;
use http::{HeaderMap, HeaderValue, header};
use http_body::{Body, Frame, SizeHint};
use http_serve::{BoxError, Entity};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::task::JoinHandle;
use tokio::time::Timeout;

/// Bytes that are read at once.
const CHUNK: u64 = 128 * 1024;

/// Why a file broke off.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system could not read it.
    #[error("a file could not be read: {0}")]
    Io(#[from] io::Error),
    /// What makes the response of it has found something wrong.
    #[error("a file could not be sent: {0}")]
    Sending(BoxError),
}

impl From<BoxError> for FileError {
    fn from(error: BoxError) -> FileError {
        FileError::Sending(error)
    }
}

/// A file that is to be served.
pub(super) struct FileEntity {
    opened: Opened,
    content_type: HeaderValue,
    encoding: Option<Encoding>,
}

impl FileEntity {
    pub(super) fn new(opened: Opened, content_type: HeaderValue, encoding: Option<Encoding>) -> FileEntity {
        FileEntity { opened, content_type, encoding }
    }
}

impl Entity for FileEntity {
    type Error = FileError;
    type Data = Bytes;

    fn len(&self) -> u64 {
        self.opened.size
    }

    fn get_range(
        &self,
        range: Range<u64>,
    ) -> Pin<Box<dyn Stream<Item = Result<Bytes, FileError>> + Send + Sync>> {
        Box::pin(Reading { file: self.opened.file.clone(), range, waiting: None })
    }

    fn add_headers(&self, headers: &mut HeaderMap) {
        headers.insert(header::CONTENT_TYPE, self.content_type.clone());
        if let Some(encoding) = self.encoding {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding.token()));
        }
    }

    /// A strong one: a file that is replaced, as deployments do, has another time, size or both. One that is written to in
    /// place within a tick of the file system's clock does not, which no server of files notices.
    fn etag(&self) -> Option<HeaderValue> {
        let since = self.opened.modified?.duration_since(UNIX_EPOCH).ok()?;
        let encoding = self.encoding.map_or("", Encoding::token);
        HeaderValue::try_from(format!("\"{:x}-{:x}{encoding}\"", since.as_nanos(), self.opened.size)).ok()
    }

    /// In whole seconds, as clients can say them: with more of it a file would be newer than itself.
    fn last_modified(&self) -> Option<SystemTime> {
        let since = self.opened.modified?.duration_since(UNIX_EPOCH).ok()?;
        Some(UNIX_EPOCH + Duration::from_secs(since.as_secs()))
    }
}

/// A read on a thread that may block, with its deadline.
type Elsewhere = Pin<Box<Timeout<JoinHandle<io::Result<Bytes>>>>>;

/// A part of a file that is being read. It is pulled, so the client's pace holds it back.
struct Reading {
    file: Arc<File>,
    range: Range<u64>,
    /// A read that had to go to a thread that may block.
    waiting: Option<Elsewhere>,
}

impl Stream for Reading {
    type Item = Result<Bytes, FileError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let length = (self.range.end - self.range.start).min(CHUNK);
        if length == 0 {
            return Poll::Ready(None);
        }
        let this = &mut *self;
        if this.waiting.is_none()
            && let Some(read) = cached(&this.file, this.range.start, length as usize)
        {
            return Poll::Ready(Some(this.took(read)));
        }
        let waiting = this.waiting.get_or_insert_with(|| {
            let (file, start) = (this.file.clone(), this.range.start);
            let reading = tokio::task::spawn_blocking(move || read(&file, start, length as usize));
            Box::pin(tokio::time::timeout(PATIENCE, reading))
        });
        let read = match ready!(waiting.as_mut().poll(cx)) {
            Ok(Ok(read)) => read,
            Ok(Err(failed)) => Err(io::Error::other(failed)),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        this.waiting = None;
        Poll::Ready(Some(this.took(read)))
    }
}

impl Reading {
    fn took(&mut self, read: io::Result<Bytes>) -> Result<Bytes, FileError> {
        let bytes = read?;
        if bytes.is_empty() {
            // It has become shorter meanwhile.
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        self.range.start += bytes.len() as u64;
        Ok(bytes)
    }
}

/// What the system can give of a file without waiting for a disk.
#[cfg(target_os = "linux")]
fn cached(file: &File, start: u64, length: usize) -> Option<io::Result<Bytes>> {
    use rustix::io::{Errno, ReadWriteFlags, preadv2};
    let mut buffer = vec![0; length];
    match preadv2(file, &mut [io::IoSliceMut::new(&mut buffer)], start, ReadWriteFlags::NOWAIT) {
        Ok(count) => Some(Ok(shortened(buffer, count))),
        // Not there yet, or a file system that cannot tell.
        Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::INTR | Errno::NOSYS) => None,
        Err(error) => Some(Err(error.into())),
    }
}

#[cfg(not(target_os = "linux"))]
fn cached(_: &File, _: u64, _: usize) -> Option<io::Result<Bytes>> {
    None
}

fn read(file: &File, start: u64, length: usize) -> io::Result<Bytes> {
    let mut buffer = vec![0; length];
    let count = loop {
        match file.read_at(&mut buffer, start) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => break other?,
        }
    };
    Ok(shortened(buffer, count))
}

fn shortened(mut buffer: Vec<u8>, count: usize) -> Bytes {
    buffer.truncate(count);
    Bytes::from(buffer)
}

/// A file, or parts of one, as the body of a response.
pub struct FileBody(http_serve::Body<Bytes, FileError>);

impl FileBody {
    pub(super) fn new(body: http_serve::Body<Bytes, FileError>) -> FileBody {
        FileBody(body)
    }
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = FileError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, FileError>>> {
        Pin::new(&mut self.0).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}
