//! Which route a host belongs to: an exact name, else the longest suffix, else whatever is for every host.

use super::names::Names;
use std::borrow::Cow;
use std::net::Ipv6Addr;

/// Exact names are in a table of their own, and so are suffixes.
const SPACE: u32 = 0;

/// A route for each host. Looking one up costs the same however many there are.
#[derive(Debug)]
pub(super) struct Hosts<T> {
    exact: Names<T>,
    /// By what a host ends in, with its first dot: `.example.com`.
    suffixes: Names<T>,
    /// Dots in the suffix that has most of them: no more of a host's ends are looked up.
    dots: usize,
    any: Option<T>,
}

impl<T> Default for Hosts<T> {
    fn default() -> Hosts<T> {
        Hosts { exact: Names::default(), suffixes: Names::default(), dots: 0, any: None }
    }
}

impl<T: Copy + Default> Hosts<T> {
    pub(super) fn insert_exact(&mut self, name: &str, route: T) {
        self.exact.insert(SPACE, name, route);
    }

    pub(super) fn insert_suffix(&mut self, suffix: &str, route: T) {
        self.dots = self.dots.max(suffix.matches('.').count());
        self.suffixes.insert(SPACE, suffix, route);
    }

    pub(super) fn insert_any(&mut self, route: T) {
        self.any = Some(route);
    }

    /// The route for a request's host, which has no port.
    pub(super) fn find(&self, host: &str) -> Option<T> {
        let host = canonical(host);
        self.exact.get(SPACE, &host).or_else(|| self.by_suffix(&host)).or(self.any)
    }

    fn by_suffix(&self, host: &str) -> Option<T> {
        let ends = host.rmatch_indices('.').take(self.dots).map(|(at, _)| at);
        // From the shortest to the longest. What is all suffix is no host under it.
        ends.filter(|at| *at > 0).filter_map(|at| self.suffixes.get(SPACE, &host[at..])).last()
    }
}

/// A host in the form that the plan has: lower case, no dot at its end, an IPv6 address in its shortest form.
fn canonical(host: &str) -> Cow<'_, str> {
    let host = host.strip_suffix('.').unwrap_or(host);
    if let Some(address) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'))
        && let Ok(address) = address.parse::<Ipv6Addr>()
    {
        return Cow::Owned(format!("[{address}]"));
    }
    match host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => Cow::Owned(host.to_ascii_lowercase()),
        false => Cow::Borrowed(host),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts() -> Hosts<&'static str> {
        let mut hosts = Hosts::default();
        hosts.insert_exact("a.com", "a");
        hosts.insert_exact("x.a.com", "x.a");
        hosts.insert_exact("[::1]", "six");
        hosts.insert_exact("127.0.0.1", "four");
        hosts.insert_suffix(".a.com", "*.a");
        hosts.insert_suffix(".b.a.com", "*.b.a");
        hosts
    }

    #[test]
    fn an_exact_host_wins_over_a_suffix_and_a_longer_suffix_over_a_shorter() {
        for (host, found) in [
            ("a.com", Some("a")),
            ("x.a.com", Some("x.a")),
            ("y.a.com", Some("*.a")),
            ("z.y.a.com", Some("*.a")),
            ("b.a.com", Some("*.a")),
            ("z.b.a.com", Some("*.b.a")),
            ("q.z.b.a.com", Some("*.b.a")),
            ("nota.com", None),
            (".a.com", None),
            ("com", None),
            ("", None),
        ] {
            assert_eq!(hosts().find(host), found, "{host}");
            let mut all = hosts();
            all.insert_any("any");
            assert_eq!(all.find(host), found.or(Some("any")), "{host}");
        }
    }

    #[test]
    fn a_host_has_many_spellings() {
        for (host, found) in [
            ("X.A.com", Some("x.a")),
            ("x.a.com.", Some("x.a")),
            ("Y.a.COM.", Some("*.a")),
            ("x.a.com..", None),
            ("[::1]", Some("six")),
            ("[0:0::0001]", Some("six")),
            ("[::2]", None),
            ("127.0.0.1", Some("four")),
        ] {
            assert_eq!(hosts().find(host), found, "{host}");
        }
    }
}
