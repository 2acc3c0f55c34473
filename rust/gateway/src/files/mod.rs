//! Services that are directories of files.
//!
//! What HTTP wants of a file (ranges, preconditions, validators) is `http-serve`'s business; here is which file a path
//! means, and how its bytes come into the data plane without a wait. Most files that are asked for are in the system's page
//! cache, so they are opened and read on the data-plane thread by calls that refuse to wait; only where one refuses does a
//! blocking thread do the work.

/// Which encoding a client wants of those that lie there.
mod encoding;
/// A file as http-serve wants it, and as a body.
mod entity;
/// From a path to an open file below a root, and never above.
mod open;
/// From a request's path to names below a root.
mod path;

pub use entity::{FileBody, FileError};

use crate::respond::{self, ErrorAnswer};
use encoding::Encoding;
use entity::FileEntity;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use nylon_config::plan::StaticFiles;
use nylon_core::{RequestHead, RequestId, ResponseHead};
use open::{Found, Opened};
use std::io;
use std::sync::Arc;

/// A directory whose files are served.
pub struct Files {
    name: String,
    settings: Arc<StaticFiles>,
}

/// Why there is no file.
#[derive(Debug, thiserror::Error)]
enum NoFile {
    /// None is there, or none that may be served.
    #[error("no such file")]
    NotFound,
    /// The system refuses it.
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl Files {
    /// The files of the service `name`.
    pub fn new(name: &str, settings: &StaticFiles) -> Files {
        Files { name: name.to_owned(), settings: Arc::new(settings.clone()) }
    }

    /// The response to a request: the file, a part of it, a redirect to a directory, or that a method is not allowed.
    ///
    /// # Errors
    /// What the client gets where there is no file.
    pub async fn serve(
        &self,
        head: &RequestHead,
        id: RequestId,
    ) -> Result<(ResponseHead, FileBody), ErrorAnswer> {
        self.find(head).await.map_err(|why| match why {
            NoFile::NotFound => respond::NO_FILE,
            NoFile::Io(error) => {
                tracing::warn!(request_id = %id, service = %self.name, "a file cannot be opened: {error}");
                respond::FILE_BROKE
            }
        })
    }

    async fn find(&self, head: &RequestHead) -> Result<(ResponseHead, FileBody), NoFile> {
        if head.method != Method::GET && head.method != Method::HEAD {
            return Ok(only_reads());
        }
        let path = head.path.as_str();
        let mut names = path::names(path, self.settings.hidden).ok_or(NoFile::NotFound)?;
        let is_directory = path.ends_with('/');
        if is_directory {
            names.push(self.settings.index.clone().into());
        }
        let (names, opened) = match self.open(&names).await {
            Ok(Found::File(opened)) => (names, opened),
            Ok(Found::Directory) if !is_directory => return Ok(redirect(head)),
            Ok(Found::Directory) => return Err(NoFile::NotFound),
            Err(NoFile::NotFound) if self.falls_back(head) => {
                let index = vec![self.settings.index.clone().into()];
                match self.open(&index).await? {
                    Found::File(opened) => (index, opened),
                    Found::Directory => return Err(NoFile::NotFound),
                }
            }
            Err(other) => return Err(other),
        };
        let content_type = content_type(&names);
        let (opened, encoding) = self.smallest(names, opened, &head.headers).await;
        Ok(self.respond(head, FileEntity::new(opened, content_type, encoding)))
    }

    async fn open(&self, names: &[path::Name]) -> Result<Found, NoFile> {
        open::open(&self.settings, names).await
    }

    /// Whether an application in the browser is to make something of a path that is no file.
    fn falls_back(&self, head: &RequestHead) -> bool {
        // What such a page itself asks for, a script or an image that is missing, is no page.
        self.settings.spa && encoding::accepts_html(&head.headers, head.path.as_str())
    }

    /// The file beside this one that is the same in an encoding which the client likes better, or the file itself.
    async fn smallest(
        &self,
        names: Vec<path::Name>,
        opened: Opened,
        headers: &HeaderMap,
    ) -> (Opened, Option<Encoding>) {
        if self.settings.precompressed {
            for encoding in encoding::wanted(headers) {
                let beside = encoding.beside(&names);
                if let Ok(Found::File(encoded)) = self.open(&beside).await {
                    return (encoded, Some(encoding));
                }
            }
        }
        (opened, None)
    }

    fn respond(&self, head: &RequestHead, entity: FileEntity) -> (ResponseHead, FileBody) {
        let mut request = Request::new(());
        *request.method_mut() = head.method.clone();
        for name in CONDITIONS {
            for value in head.headers.get_all(&name) {
                request.headers_mut().append(name.clone(), value.clone());
            }
        }
        let (mut parts, body) = http_serve::serve(entity, &request).into_parts();
        if self.settings.precompressed {
            parts.headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
        }
        (ResponseHead { status: parts.status, headers: parts.headers }, FileBody::new(body))
    }
}

/// The fields that say which part of a file is wanted, and when (RFC 9110, 13.1 and 14.2).
const CONDITIONS: [http::HeaderName; 6] = [
    header::IF_MATCH,
    header::IF_NONE_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_UNMODIFIED_SINCE,
    header::IF_RANGE,
    header::RANGE,
];

fn head_only(status: StatusCode, name: http::HeaderName, value: HeaderValue) -> (ResponseHead, FileBody) {
    let mut headers = HeaderMap::new();
    headers.insert(name, value);
    headers.insert(header::CONTENT_LENGTH, 0.into());
    (ResponseHead { status, headers }, FileBody::new(Response::new(http_serve::Body::empty()).into_body()))
}

fn only_reads() -> (ResponseHead, FileBody) {
    head_only(StatusCode::METHOD_NOT_ALLOWED, header::ALLOW, HeaderValue::from_static("GET, HEAD"))
}

/// To the same path with a slash at its end, so that the links of the index are relative to it.
fn redirect(head: &RequestHead) -> (ResponseHead, FileBody) {
    let query = head.query.as_ref().map_or(String::new(), |query| format!("?{}", query.as_str()));
    // A path that begins with two slashes would name another host.
    let target = format!("/{}/{query}", head.path.as_str().trim_matches('/'));
    let target = HeaderValue::try_from(target).expect("a path is normalised: it has no control characters");
    head_only(StatusCode::MOVED_PERMANENTLY, header::LOCATION, target)
}

/// By the name, as browsers must not guess.
fn content_type(names: &[path::Name]) -> HeaderValue {
    let guess = names.last().and_then(|name| mime_guess::from_path(name).first_raw());
    HeaderValue::from_static(match guess {
        Some("text/html") => "text/html; charset=utf-8",
        Some("text/css") => "text/css; charset=utf-8",
        Some("text/plain") => "text/plain; charset=utf-8",
        Some("text/javascript" | "application/javascript") => "text/javascript; charset=utf-8",
        Some(other) => other,
        None => "application/octet-stream",
    })
}
