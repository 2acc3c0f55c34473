//! What of a request's head is HTTP/2's own. What is left is a head like any other, and is normalised as such.
//!
//! h2 has refused what is malformed for the protocol itself: fields that are for one connection only, names in upper
//! case, pseudo-header fields that are unknown, repeated, missing or late (RFC 9113, 8.2 and 8.3).

use crate::respond::ErrorAnswer;
use http::header::{self, HeaderMap, HeaderValue};
use http::{StatusCode, Uri};

const fn bad(text: &'static str) -> ErrorAnswer {
    ErrorAnswer { status: StatusCode::BAD_REQUEST, text }
}

/// Checks the fields of a request for `target`, of which there may be `most`.
///
/// # Errors
/// The answer for a request that is refused.
pub(super) fn check(headers: &mut HeaderMap, target: &Uri, most: usize) -> Result<(), ErrorAnswer> {
    // Whoever reads such a value as HTTP/1 takes its blanks away, and reads another one (8.2.1).
    let is_blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    if headers
        .values()
        .map(HeaderValue::as_bytes)
        .any(|value| is_blank(value.first()) || is_blank(value.last()))
    {
        return Err(bad("a field begins or ends with a blank"));
    }
    join_cookies(headers);
    if headers.len() > most {
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        return Err(ErrorAnswer { status, text: "too many fields" });
    }
    if let (Some(authority), Some(host)) = (target.authority(), headers.get(header::HOST))
        && !authority.as_str().as_bytes().eq_ignore_ascii_case(host.as_bytes())
    {
        // Someone behind us may go by either (8.3.1).
        return Err(bad("host and :authority differ"));
    }
    Ok(())
}

/// A client may send each cookie in a field of its own, so that they compress better; elsewhere there is one (8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(header::COOKIE).iter().nth(1).is_none() {
        return;
    }
    let cookies: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    // Joined valid values are valid.
    if let Ok(joined) = HeaderValue::from_bytes(&cookies.join(&b"; "[..])) {
        headers.insert(header::COOKIE, joined);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(fields: &[(&'static str, &'static str)], most: usize) -> Result<HeaderMap, &'static str> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        let target = Uri::from_static("https://a.example/");
        check(&mut headers, &target, most).map(|()| headers).map_err(|answer| answer.text)
    }

    #[test]
    fn cookies_are_joined_and_count_as_one_field() {
        let headers = checked(&[("cookie", "a=1"), ("x", "y"), ("cookie", "b=2"), ("cookie", "c=3")], 2);
        assert_eq!(headers.expect("few enough")["cookie"], "a=1; b=2; c=3");
        assert_eq!(checked(&[("a", "1"), ("b", "1"), ("b", "2")], 2), Err("too many fields"));
    }

    #[test]
    fn a_host_that_differs_is_refused() {
        assert!(checked(&[("host", "A.example")], 9).is_ok());
        for host in ["b.example", "a.example:443", "", "a.example."] {
            assert_eq!(checked(&[("host", host)], 9), Err("host and :authority differ"), "{host}");
        }
        assert!(
            checked(&[("host", "a.example"), ("host", "a.example")], 9).is_ok(),
            "normalising refuses it"
        );
    }

    #[test]
    fn a_value_between_blanks_is_refused() {
        for value in [" a", "a ", "\ta", " "] {
            assert_eq!(checked(&[("x", value)], 9), Err("a field begins or ends with a blank"), "{value:?}");
        }
        assert!(checked(&[("x", "a b"), ("y", "")], 9).is_ok());
    }
}
