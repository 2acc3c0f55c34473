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
