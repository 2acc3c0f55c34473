//! Which encoding a client wants of those that lie there: `app.js.br` and `app.js.gz` beside `app.js`.

use super::path::Name;
use crate::likes::{codings, weight};
use http::{HeaderMap, header};

/// An encoding in which a file may lie beside itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Brotli,
    Gzip,
}

impl Encoding {
    /// The smaller one first, where a client likes both the same.
    const ALL: [Encoding; 2] = [Encoding::Brotli, Encoding::Gzip];

    /// The name in `content-encoding`.
    pub(super) fn token(self) -> &'static str {
        match self {
            Encoding::Brotli => "br",
            Encoding::Gzip => "gzip",
        }
    }

    fn extension(self) -> &'static str {
        match self {
            Encoding::Brotli => ".br",
            Encoding::Gzip => ".gz",
        }
    }

    /// The file that is the same in this encoding.
    pub(super) fn beside(self, names: &[Name]) -> Vec<Name> {
        let mut names = names.to_vec();
        if let Some(last) = names.last_mut() {
            last.push(self.extension());
        }
        names
    }
}

/// What the client accepts beside the file as it is, best first.
pub(super) fn wanted(headers: &HeaderMap) -> Vec<Encoding> {
    codings(headers, Encoding::ALL.map(|encoding| (encoding.token(), encoding)))
}

/// Whether a request is for a page: it says so, or accepts anything and its path does not look like a file's.
pub(super) fn accepts_html(headers: &HeaderMap, path: &str) -> bool {
    let accepts = |kind: &str| weight(headers, &header::ACCEPT, kind).is_some_and(|weight| weight > 0);
    let is_like_a_file = path.rsplit('/').next().is_some_and(|name| name.contains('.'));
    accepts("text/html") || (!headers.contains_key(header::ACCEPT) || accepts("*/*")) && !is_like_a_file
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn headers(name: header::HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
    }

    #[test]
    fn the_smaller_one_comes_first_where_both_are_liked_the_same() {
        use Encoding::{Brotli, Gzip};
        let accept = |value| headers(header::ACCEPT_ENCODING, value);
        assert_eq!(wanted(&accept("gzip, br")), [Brotli, Gzip]);
        assert_eq!(wanted(&accept("gzip, br;q=0.5")), [Gzip, Brotli]);
        assert_eq!(wanted(&HeaderMap::new()), []);
    }

    #[test]
    fn a_page_is_what_a_browser_goes_to() {
        let accept = |value| headers(header::ACCEPT, value);
        assert!(accepts_html(&accept("text/html,application/xhtml+xml,*/*;q=0.8"), "/users/john.doe"));
        assert!(accepts_html(&accept("*/*"), "/users/7"));
        assert!(accepts_html(&HeaderMap::new(), "/users"));
        assert!(!accepts_html(&accept("*/*"), "/app.js"));
        assert!(!accepts_html(&accept("image/avif,image/webp"), "/users/7"));
        assert!(!accepts_html(&accept("application/json"), "/users/7"));
        assert!(accepts_html(&accept("Text/HTML;charset=utf-8;q=0.1"), "/app.js"));
        assert!(!accepts_html(&accept("text/html;q=0"), "/users/7"));
    }
}
