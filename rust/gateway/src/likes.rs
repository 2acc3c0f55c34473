//! What a client likes, and how much: the weighed lists of `accept` and `accept-encoding`.
//!
//! Whoever chooses for a client, a service of files or `Compress`, reads them here, so that one client is understood in one
//! way (RFC 9110, 12.4.2 and 12.5.3). A weight that is none counts as 0: nobody is sent what he may not be able to read.

use http::{HeaderMap, HeaderName, header};

/// The items of a field that is a list, over all of its lines.
pub(crate) fn items<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim)
}

/// How much the client likes `token`, in thousandths; `None` where it does not say.
pub(crate) fn weight(headers: &HeaderMap, name: &HeaderName, token: &str) -> Option<u16> {
    items(headers, name).find_map(|item| {
        let mut parts = item.split(';').map(str::trim);
        if !parts.next()?.eq_ignore_ascii_case(token) {
            return None;
        }
        let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        Some(weight.map_or(1000, thousandths))
    })
}

fn thousandths(weight: &str) -> u16 {
    let weight = weight.trim().parse::<f32>().ok().filter(|weight| (0.0..=1.0).contains(weight));
    weight.map_or(0, |weight| (weight * 1000.0).round() as u16)
}

/// Those of the codings `offered`, by their names, that the client likes no less than none at all. The best one comes
/// first; among those that it likes the same, the order stays.
pub(crate) fn codings<T>(
    headers: &HeaderMap,
    offered: impl IntoIterator<Item = (&'static str, T)>,
) -> Vec<T> {
    let weight = |token| weight(headers, &header::ACCEPT_ENCODING, token);
    let any = weight("*");
    let least = weight("identity").unwrap_or(0).max(1);
    let weighed = offered.into_iter().map(|(token, coding)| {
        let older = || (token == "gzip").then(|| weight("x-gzip")).flatten();
        (weight(token).or_else(older).or(any).unwrap_or(0), coding)
    });
    let mut liked: Vec<(u16, T)> = weighed.filter(|(weight, _)| *weight >= least).collect();
    liked.sort_by_key(|(weight, _)| std::cmp::Reverse(*weight));
    liked.into_iter().map(|(_, coding)| coding).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clients_weights_decide_and_then_the_order() {
        for (lines, expected) in [
            (&[][..], &[][..]),
            (&[""], &[]),
            (&["gzip, deflate, br"], &["br", "gzip"]),
            (&["gzip", "br"], &["br", "gzip"]),
            (&["gzip;q=1.0, br;q=0.5"], &["gzip", "br"]),
            (&["GZIP ; Q=0.5 , br;q=0.4"], &["gzip", "br"]),
            (&["x-gzip"], &["gzip"]),
            (&["x-gzip, gzip;q=0"], &[]),
            (&["br;q=0, gzip"], &["gzip"]),
            (&["gzip;q=0.000"], &[]),
            (&["*"], &["br", "gzip"]),
            (&["*;q=0.1, gzip;q=0"], &["br"]),
            (&["*;q=0, gzip"], &["gzip"]),
            (&["identity"], &[]),
            (&["gzip;q=0.5, identity"], &[]),
            (&["gzip, br;q=0.4, identity;q=0.5"], &["gzip"]),
            (&["gzip;q=high, br;q=2"], &[]),
            (&["br;q=-1, gzip;q=NaN"], &[]),
            (&["*, br;q=high"], &["gzip"]),
            (&["gzipped, compress"], &[]),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(header::ACCEPT_ENCODING, line.parse().expect("a value"));
            }
            assert_eq!(codings(&headers, ["br", "gzip"].map(|token| (token, token))), expected, "{lines:?}");
        }
    }
}
