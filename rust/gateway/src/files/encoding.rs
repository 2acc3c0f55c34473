//! Which encoding a client wants of those that lie there: `app.js.br` and `app.js.gz` beside `app.js`.

use super::path::Name;
use http::{HeaderMap, HeaderValue, header};

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

/// What the client accepts beside the file as it is, best first (RFC 9110, 12.5.3).
pub(super) fn wanted(headers: &HeaderMap) -> Vec<Encoding> {
    let lists = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let listed: Vec<(&str, u16)> = lists.flat_map(|list| list.split(',')).filter_map(weighed).collect();
    let weight =
        |token: &str| listed.iter().find(|(known, _)| known.eq_ignore_ascii_case(token)).map(|(_, q)| *q);
    let of = |encoding: Encoding| weight(encoding.token()).or_else(|| weight("*")).unwrap_or(0);
    let mut wanted: Vec<Encoding> = Encoding::ALL.into_iter().filter(|encoding| of(*encoding) > 0).collect();
    wanted.sort_by_key(|encoding| std::cmp::Reverse(of(*encoding)));
    wanted
}

/// A member of such a list and its weight in thousandths; what is no weight is none.
fn weighed(member: &str) -> Option<(&str, u16)> {
    let mut parts = member.split(';').map(str::trim);
    let token = parts.next().filter(|token| !token.is_empty())?;
    let Some(weight) = parts.next() else { return Some((token, 1000)) };
    let value: f32 = weight.strip_prefix("q=").or_else(|| weight.strip_prefix("Q="))?.parse().ok()?;
    (0.0..=1.0).contains(&value).then_some((token, (value * 1000.0) as u16))
}

/// Whether a request is for a page: it says so, or accepts anything and its path does not look like a file's.
pub(super) fn accepts_html(headers: &HeaderMap, path: &str) -> bool {
    let accepts = |wanted: &str| {
        let values =
            headers.get_all(header::ACCEPT).iter().filter_map(|value: &HeaderValue| value.to_str().ok());
        values.flat_map(|list| list.split(',')).filter_map(weighed).any(|(kind, q)| q > 0 && kind == wanted)
    };
    let is_like_a_file = path.rsplit('/').next().is_some_and(|name| name.contains('.'));
    accepts("text/html") || (!headers.contains_key(header::ACCEPT) || accepts("*/*")) && !is_like_a_file
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: header::HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
    }

    #[test]
    fn the_clients_weights_decide_and_then_the_size() {
        use Encoding::{Brotli, Gzip};
        for (list, encodings) in [
            ("", &[][..]),
            ("gzip, deflate, br", &[Brotli, Gzip]),
            ("gzip;q=1.0, br;q=0.5", &[Gzip, Brotli]),
            ("br;q=0, gzip", &[Gzip]),
            ("*", &[Brotli, Gzip]),
            ("*;q=0.1, gzip;q=0", &[Brotli]),
            ("identity", &[]),
            ("GZIP ; q=0.8", &[Gzip]),
            ("br;q=2, gzip;level=1", &[]),
        ] {
            assert_eq!(wanted(&headers(header::ACCEPT_ENCODING, list)), encodings, "{list}");
        }
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
        assert!(!accepts_html(&accept("text/html;q=0"), "/users/7"));
    }
}
