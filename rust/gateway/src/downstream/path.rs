//! One spelling per path.
//!
//! A route that guards `/admin` must also see `/%61dmin`, `//admin` and `/x/../admin`, since the service behind may
//! read them as `/admin`. So a path is brought into one form (RFC 3986, 6.2.2) before anything looks at it, and that
//! form is both routed and forwarded: unreserved characters are decoded, hex digits are upper case, dot segments
//! and empty segments are gone. `%2F` stays what it is, a slash that separates nothing; but a path that had dot
//! segments if it, `%5C` or `;` did separate is refused, since there are services that read it so.
//!
//! Browsers send a few characters bare that the grammar wants encoded: here they are.

use bytes::Bytes;
use nylon_core::TargetPart;

/// The path in its one spelling; none if it is not a valid path (RFC 3986, 3.3), or holds an encoded NUL.
pub(crate) fn normalise_path(path: &str) -> Option<TargetPart> {
    let bytes = path.as_bytes();
    if bytes.first() != Some(&b'/') {
        return None;
    }
    let plain = |pair: &[u8]| !matches!(pair, [b'%', _] | [b'/', b'/' | b'.']);
    if bytes.last() != Some(&b'%')
        && bytes.windows(2).all(plain)
        && let Some(path) = TargetPart::path(Bytes::copy_from_slice(bytes))
    {
        return Some(path);
    }
    let decoded = decode_unreserved(bytes)?;
    if decoded.split(|byte| *byte == b'/').any(hides_dots) {
        return None;
    }
    TargetPart::path(encode(remove_segments(&decoded), b"\"<>^`{|}").into())
}

/// The query with what has to be encoded encoded; none if it cannot be a query (RFC 3986, 3.4).
pub(super) fn normalise_query(query: &str) -> Option<TargetPart> {
    let bytes = Bytes::copy_from_slice(query.as_bytes());
    TargetPart::query(bytes)
        .or_else(|| TargetPart::query(encode(query.as_bytes().to_vec(), b"\"<>\\^`{|}").into()))
}

/// Whether a segment has a dot segment in it for a service that also separates by an encoded slash or backslash, or
/// takes what follows a semicolon for parameters.
fn hides_dots(segment: &[u8]) -> bool {
    if !segment.iter().any(|byte| matches!(byte, b'%' | b';')) {
        return false;
    }
    let mut rest = segment;
    let mut piece = 0;
    let is_dots = |piece: &[u8]| matches!(piece.split(|byte| *byte == b';').next(), Some(b"." | b".."));
    while piece < rest.len() {
        if matches!(&rest[piece..], [b'%', b'2', b'F', ..] | [b'%', b'5', b'C', ..]) {
            if is_dots(&rest[..piece]) {
                return true;
            }
            rest = &rest[piece + 3..];
            piece = 0;
        } else {
            piece += 1;
        }
    }
    // A plain dot segment hides nothing: it is removed.
    is_dots(rest) && !matches!(segment, b"." | b"..")
}

fn encode(text: Vec<u8>, which: &[u8]) -> Vec<u8> {
    if !text.iter().any(|byte| which.contains(byte)) {
        return text;
    }
    let hex = |digit: u8| b"0123456789ABCDEF"[usize::from(digit)];
    text.into_iter()
        .flat_map(|byte| match which.contains(&byte) {
            true => [Some(b'%'), Some(hex(byte >> 4)), Some(hex(byte & 15))],
            false => [Some(byte), None, None],
        })
        .flatten()
        .collect()
}

fn decode_unreserved(path: &[u8]) -> Option<Vec<u8>> {
    let hex = |digit: u8| char::from(digit).to_digit(16).map(|value| value as u8);
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            decoded.push(*first);
            continue;
        }
        let [high, low, tail @ ..] = tail else { return None };
        rest = tail;
        match hex(*high)? << 4 | hex(*low)? {
            0 => return None,
            byte if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => decoded.push(byte),
            _ => decoded.extend([b'%', high.to_ascii_uppercase(), low.to_ascii_uppercase()]),
        }
    }
    Some(decoded)
}

fn remove_segments(path: &[u8]) -> Vec<u8> {
    let mut kept: Vec<&[u8]> = Vec::new();
    let mut directory = true;
    for segment in path.split(|byte| *byte == b'/') {
        directory = matches!(segment, b"" | b"." | b"..");
        match segment {
            b"" | b"." => {}
            b".." => drop(kept.pop()),
            segment => kept.push(segment),
        }
    }
    let mut out = Vec::with_capacity(path.len());
    for segment in &kept {
        out.push(b'/');
        out.extend_from_slice(segment);
    }
    if directory {
        out.push(b'/');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{normalise_path, normalise_query};
    use proptest::prelude::*;

    fn of(path: &str) -> Option<String> {
        normalise_path(path).map(|part| part.as_str().to_owned())
    }

    #[test]
    fn spellings_of_one_path_become_one() {
        for path in
            ["/admin", "/%61dmin", "//admin", "/./admin", "/x/../admin", "/x/%2e%2E/admin", "/../../admin"]
        {
            assert_eq!(of(path).as_deref(), Some("/admin"), "{path}");
        }
        assert_eq!(of("/a/b/..").as_deref(), Some("/a/"));
        assert_eq!(of("/a/.").as_deref(), Some("/a/"));
        assert_eq!(of("/a//").as_deref(), Some("/a/"));
        assert_eq!(of("/a%2fb%3f").as_deref(), Some("/a%2Fb%3F"));
        assert_eq!(of("/.well-known/x").as_deref(), Some("/.well-known/x"));
        assert_eq!(of("/a;v=1.2/...;").as_deref(), Some("/a;v=1.2/...;"));
        assert_eq!(of("/{a}|").as_deref(), Some("/%7Ba%7D%7C"));
    }

    #[test]
    fn dot_segments_that_others_may_see_are_refused() {
        for path in
            ["/a/..%2fb", "/a%2F..%2fb", "/a%2f..", "/a/..;/b", "/..;x=1", "/.%5c", "/a%5c%2e%2e/b", "/.;"]
        {
            assert_eq!(of(path), None, "{path}");
        }
    }

    #[test]
    fn a_query_keeps_its_text_but_for_what_must_be_encoded() {
        let query = |text| normalise_query(text).map(|part| part.as_str().to_owned());
        assert_eq!(query("a=%zz&b=?/../..//").as_deref(), Some("a=%zz&b=?/../..//"));
        assert_eq!(query("f={\"a\":1}|\\").as_deref(), Some("f=%7B%22a%22:1%7D%7C%5C"));
        assert_eq!(query("a b"), None);
        assert_eq!(query("ü"), None);
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for path in ["", "a", "*", "/%", "/%4", "/%zz", "/%00", "/a b", "/a\\b", "/ü", "/a#b"] {
            assert_eq!(of(path), None, "{path}");
        }
    }

    proptest! {
        #[test]
        fn the_form_is_stable_and_has_no_dot_segments(path in "/([a-c.%/]|%2[eEfF]|%4[1-9]){0,24}") {
            if let Some(once) = of(&path) {
                prop_assert_eq!(of(&once), Some(once.clone()));
                prop_assert!(once.starts_with('/') && !once.contains("//"));
                prop_assert!(once.split('/').all(|segment| segment != "." && segment != ".."));
            }
        }
    }
}
