//! Finds the rule for a request: header selector, then host, then path pattern, then method.
//!
//! Hosts are a hash look-up for exact names and a short list, longest first, for the others; paths are one
//! matchit tree per route. The tree is asked with the very path that will be forwarded, so routing and
//! forwarding cannot see two different paths.

use http::{HeaderMap, HeaderName, Method};
use nylon_config::Plan;
use nylon_config::plan::{HostPattern, Matcher};
use std::borrow::Cow;
use std::collections::HashMap;

/// Where a request goes.
#[derive(Debug, PartialEq)]
pub(crate) enum Routed<'p> {
    /// To this rule.
    Rule(RuleMatch<'p>),
    /// No route or no path of it matches.
    NoRoute,
    /// The path matches, for these methods only (RFC 9110, 15.5.6: they go into `Allow`).
    OtherMethods(String),
}

/// The rule of a request.
#[derive(Debug, PartialEq)]
pub(crate) struct RuleMatch<'p> {
    /// The place of the rule in [`super::live::LivePlan::rules`].
    pub rule: usize,
    /// Which of the rule's patterns matched.
    pub pattern: usize,
    /// What the pattern captured, as the client wrote it.
    pub params: Vec<(&'p str, &'p str)>,
}

/// One rule behind a pattern.
#[derive(Debug)]
struct Target {
    methods: Vec<Method>,
    rule: usize,
    pattern: usize,
}

/// All routes of a plan.
#[derive(Debug, Default)]
pub(crate) struct Router {
    selector: Option<HeaderName>,
    by_header: HashMap<String, usize>,
    exact: HashMap<String, usize>,
    suffixes: Vec<(String, usize)>,
    any: Option<usize>,
    paths: Vec<matchit::Router<Vec<Target>>>,
}

impl Router {
    /// Builds the router. Rules are numbered over all routes in the order written.
    ///
    /// # Errors
    /// A pattern that the path tree refuses; validation reports these before, so it is a defect of ours.
    pub(crate) fn new(plan: &Plan) -> Result<Router, String> {
        let mut router = Router { selector: plan.header_selector.clone(), ..Router::default() };
        let mut rule = 0;
        for (index, route) in plan.routes.iter().enumerate() {
            match &route.matcher {
                Matcher::Header(values) => {
                    router.by_header.extend(values.iter().map(|value| (value.clone(), index)));
                }
                Matcher::Host(patterns) => patterns.iter().for_each(|pattern| match pattern {
                    HostPattern::Exact(name) => drop(router.exact.insert(name.clone(), index)),
                    HostPattern::Suffix(suffix) => router.suffixes.push((suffix.clone(), index)),
                    HostPattern::Any => router.any = Some(index),
                }),
            }
            let mut targets: Vec<(&str, Vec<Target>)> = Vec::new();
            for path in &route.paths {
                for (pattern, text) in path.patterns.iter().enumerate() {
                    let target = Target { methods: path.methods.clone(), rule, pattern };
                    match targets.iter_mut().find(|(known, _)| known == text) {
                        Some((_, list)) => list.push(target),
                        None => targets.push((text, vec![target])),
                    }
                }
                rule += 1;
            }
            let mut tree = matchit::Router::new();
            for (pattern, list) in targets {
                tree.insert(pattern, list).map_err(|error| format!("{pattern}: {error}"))?;
            }
            router.paths.push(tree);
        }
        router.suffixes.sort_by_key(|(suffix, _)| std::cmp::Reverse(suffix.len()));
        Ok(router)
    }

    /// The rule for a request.
    pub(crate) fn find<'p>(
        &'p self,
        headers: &HeaderMap,
        host: &str,
        method: &Method,
        path: &'p str,
    ) -> Routed<'p> {
        let Some(route) = self.route(headers, host) else { return Routed::NoRoute };
        let Ok(found) = self.paths[route].at(path) else { return Routed::NoRoute };
        let accepts = |target: &&Target| target.methods.is_empty() || target.methods.contains(method);
        match found.value.iter().find(accepts) {
            Some(target) => Routed::Rule(RuleMatch {
                rule: target.rule,
                pattern: target.pattern,
                params: found.params.iter().collect(),
            }),
            None => {
                let methods = found.value.iter().flat_map(|target| &target.methods).map(Method::as_str);
                Routed::OtherMethods(methods.collect::<Vec<_>>().join(", "))
            }
        }
    }

    fn route(&self, headers: &HeaderMap, host: &str) -> Option<usize> {
        if let Some(value) = self.selector.as_ref().and_then(|name| headers.get(name))
            && let Some(route) = value.to_str().ok().and_then(|value| self.by_header.get(value))
        {
            return Some(*route);
        }
        let host = host.strip_suffix('.').unwrap_or(host);
        let host = if host.bytes().any(|b| b.is_ascii_uppercase()) {
            Cow::Owned(host.to_ascii_lowercase())
        } else {
            Cow::Borrowed(host)
        };
        let by_suffix = || {
            let longer = |suffix: &str| host.len() > suffix.len() && host.ends_with(suffix);
            self.suffixes.iter().find(|(suffix, _)| longer(suffix)).map(|(_, route)| *route)
        };
        self.exact.get(host.as_ref()).copied().or_else(by_suffix).or(self.any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn router(yaml: &str) -> Router {
        let text = format!(
            "http: ['127.0.0.1:0']\nservices: [{{name: s, service_type: http, endpoints: [{{ip: 127.0.0.1, port: 9}}]}}]\n{yaml}"
        );
        let loaded = nylon_config::parse_str("test.yaml", &text, Path::new("."), &|_| None);
        let plan = loaded.unwrap_or_else(|errors| panic!("{errors}")).plan;
        Router::new(&plan).expect("valid patterns")
    }

    fn find<'r>(router: &'r Router, host: &str, method: &str, path: &'r str) -> Routed<'r> {
        router.find(&HeaderMap::new(), host, &method.parse().expect("method"), path)
    }

    fn rule(routed: Routed<'_>) -> Option<usize> {
        match routed {
            Routed::Rule(found) => Some(found.rule),
            _ => None,
        }
    }

    #[test]
    fn an_exact_host_wins_over_a_suffix_and_a_suffix_over_any() {
        let router = router(
            "routes:
  - {name: any, route: {type: host, value: '*'}, paths: [{path: '/{*p}', service: {name: s}}]}
  - {name: sub, route: {type: host, value: '*.a.com'}, paths: [{path: '/{*p}', service: {name: s}}]}
  - {name: deep, route: {type: host, value: '*.b.a.com'}, paths: [{path: '/{*p}', service: {name: s}}]}
  - {name: exact, route: {type: host, value: 'a.com|x.a.com'}, paths: [{path: '/{*p}', service: {name: s}}]}",
        );
        let of = |host| rule(find(&router, host, "GET", "/q"));
        assert_eq!(of("x.a.com"), Some(3));
        assert_eq!(of("X.A.com."), Some(3));
        assert_eq!(of("y.a.com"), Some(1));
        assert_eq!(of("z.b.a.com"), Some(2));
        assert_eq!(of("nota.com"), Some(0));
        assert_eq!(of(".a.com"), Some(0));
    }

    #[test]
    fn rules_of_one_pattern_are_told_apart_by_method() {
        let router = router(
            "routes:
  - name: r
    route: {type: host, value: '*'}
    paths:
      - {path: '/x/{id}', methods: [GET], service: {name: s}}
      - {path: '/x/{id}', methods: [POST, PUT], service: {name: s}}",
        );
        assert_eq!(rule(find(&router, "h", "POST", "/x/7")), Some(1));
        assert_eq!(find(&router, "h", "DELETE", "/x/7"), Routed::OtherMethods("GET, POST, PUT".to_owned()));
        assert_eq!(find(&router, "h", "GET", "/y"), Routed::NoRoute);
        let Routed::Rule(found) = find(&router, "h", "GET", "/x/a%20b") else { panic!("no rule") };
        assert_eq!(found.params, [("id", "a%20b")]);
    }

    #[test]
    fn the_selector_header_wins_over_the_host() {
        let router = router(
            "header_selector: x-proxy
routes:
  - {name: host, route: {type: host, value: 'a.com'}, paths: [{path: '/', service: {name: s}}]}
  - {name: header, route: {type: header, value: 'blue'}, paths: [{path: '/', service: {name: s}}]}",
        );
        let mut headers = HeaderMap::new();
        headers.insert("x-proxy", "blue".parse().expect("value"));
        assert_eq!(rule(router.find(&headers, "a.com", &Method::GET, "/")), Some(1));
        headers.insert("x-proxy", "green".parse().expect("value"));
        assert_eq!(rule(router.find(&headers, "a.com", &Method::GET, "/")), Some(0));
        assert_eq!(router.find(&headers, "b.com", &Method::GET, "/"), Routed::NoRoute);
    }
}
