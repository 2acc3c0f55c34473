//! Requests that a middleware is for.

use http::{HeaderMap, HeaderName, Method, header};
use nylon_core::RequestHead;

use super::MediaPattern;

/// What `when:` says of a request. All of its parts have to hold, and of each part's alternatives one.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Condition {
    /// The methods; empty means all. `GET` is `HEAD` too.
    pub methods: Vec<Method>,
    /// Each of them holds.
    pub headers: Vec<HeaderCondition>,
    /// The paths, if they matter.
    pub paths: Option<PathSet>,
    /// The media types of the request's body; empty means any and none.
    pub content_types: Vec<MediaPattern>,
    /// What must not hold as a whole.
    pub not: Option<Box<Condition>>,
}

/// What a header field is like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderCondition {
    /// The field.
    pub name: HeaderName,
    /// What one of its lines is like.
    pub value: ValueCondition,
}

/// What a value is like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValueCondition {
    /// It is there.
    Present,
    /// It is one of these.
    Exact(Vec<String>),
    /// It begins with one of these.
    Prefix(Vec<String>),
}

/// Path patterns, of which one matches.
#[derive(Debug, Clone)]
pub struct PathSet {
    patterns: Vec<String>,
    tree: matchit::Router<()>,
}

impl Condition {
    /// Whether it holds for a request.
    pub fn holds(&self, request: &RequestHead) -> bool {
        (self.methods.is_empty() || self.methods.iter().any(|method| is_method(method, &request.method)))
            && self.headers.iter().all(|header| header.holds(&request.headers))
            && self.paths.as_ref().is_none_or(|paths| paths.holds(request.path.as_str()))
            && (self.content_types.is_empty() || self.has_type(&request.headers))
            && !self.not.as_ref().is_some_and(|condition| condition.holds(request))
    }

    fn has_type(&self, headers: &HeaderMap) -> bool {
        headers.get(header::CONTENT_TYPE).is_some_and(|value| MediaPattern::any(&self.content_types, value))
    }
}

fn is_method(wanted: &Method, found: &Method) -> bool {
    wanted == found || (*wanted == Method::GET && *found == Method::HEAD)
}

impl HeaderCondition {
    fn holds(&self, headers: &HeaderMap) -> bool {
        headers.get_all(&self.name).iter().map(http::HeaderValue::as_bytes).any(|line| match &self.value {
            ValueCondition::Present => true,
            ValueCondition::Exact(values) => values.iter().any(|value| value.as_bytes() == line),
            ValueCondition::Prefix(values) => values.iter().any(|value| line.starts_with(value.as_bytes())),
        })
    }
}

impl PathSet {
    /// The set of these patterns, each of which was checked before. `None`: two of them conflict.
    pub(crate) fn new(patterns: Vec<String>) -> Option<PathSet> {
        let mut tree = matchit::Router::new();
        for pattern in &patterns {
            tree.insert(pattern, ()).ok()?;
        }
        Some(PathSet { patterns, tree })
    }

    /// The patterns as written.
    pub fn patterns(&self) -> &[String] {
        &self.patterns
    }

    fn holds(&self, path: &str) -> bool {
        self.tree.at(path).is_ok()
    }
}

impl PartialEq for PathSet {
    fn eq(&self, other: &Self) -> bool {
        self.patterns == other.patterns
    }
}
