//! Finds the rule for a request: header selector, then host, then path pattern, then method.
//!
//! Hosts, header values and paths without parameters are hash look-ups; of the other paths it is what they begin with, and a
//! small matchit tree takes the rest. So a request costs much the same with ten routes and with a hundred thousand, but for the
//! memory of its route, which is one or two lines of the cache for each look-up. Routes whose patterns and methods are the
//! same (the tenants of one platform) share theirs, which name rules by their place in the route. They are asked with the
//! very path that will be forwarded, so routing and forwarding cannot see two different paths.

/// Which route a host belongs to.
mod hosts;
/// A hash table for many names.
mod names;
/// Which rules a path belongs to.
mod patterns;

use foldhash::HashMap;
use hosts::Hosts;
use http::{HeaderMap, HeaderName, Method, header};
use names::Names;
use nylon_config::Plan;
use nylon_config::plan::{Builtin, Handler, HostPattern, Matcher, PathRule};
use patterns::{Captured, Patterns, Rests, Table, Target};

/// Where a request goes.
#[derive(Debug, PartialEq)]
pub enum Routed<'p> {
    /// To this rule.
    Rule(RuleMatch<'p>),
    /// No route or no path of it matches.
    NoRoute,
    /// The path matches, for these methods only (RFC 9110, 15.5.6: they go into `Allow`).
    OtherMethods(String),
}

/// The rule of a request.
#[derive(Debug, PartialEq)]
pub struct RuleMatch<'p> {
    /// Its number, over all routes in the order written.
    pub rule: usize,
    /// Which of the rule's patterns matched.
    pub pattern: usize,
    /// What the pattern captured, as the client wrote it.
    pub params: Captured<'p>,
}

/// What makes the patterns of two routes alike: of each rule the patterns, the methods, and whether it takes preflights.
type Shape<'p> = Vec<(&'p [String], &'p [Method], bool)>;

/// The paths of one route.
#[derive(Clone, Copy, Debug, Default)]
struct Paths {
    table: Table,
    first_rule: u32,
}

/// There is one header that selects.
const HEADER: u32 = 0;

/// All routes of a plan.
#[derive(Debug, Default)]
pub struct Router {
    selector: Option<HeaderName>,
    by_header: Names<Paths>,
    hosts: Hosts<Paths>,
    patterns: Patterns,
}

impl Router {
    /// Builds the router. Rules are numbered over all routes in the order written.
    ///
    /// # Errors
    /// A pattern that the path tree refuses; validation reports these before, so it is a defect of ours.
    pub fn new(plan: &Plan) -> Result<Router, String> {
        let mut router = Router { selector: plan.header_selector.clone(), ..Router::default() };
        let mut known: HashMap<Shape<'_>, Table> = HashMap::default();
        let mut rests = Rests::default();
        let mut first_rule = 0;
        for route in &plan.routes {
            let rules = route.paths.iter();
            let shape: Shape<'_> =
                rules.map(|path| (&path.patterns[..], &path.methods[..], preflights(path))).collect();
            let table = match known.get(&shape) {
                Some(table) => *table,
                None => {
                    let table = router.patterns.add(&route.paths, &mut rests)?;
                    known.insert(shape, table);
                    table
                }
            };
            let first = u32::try_from(first_rule).map_err(|_| "too many rules".to_owned())?;
            let paths = Paths { table, first_rule: first };
            first_rule += route.paths.len();
            match &route.matcher {
                Matcher::Header(values) => {
                    values.iter().for_each(|value| router.by_header.insert(HEADER, value, paths));
                }
                Matcher::Host(patterns) => patterns.iter().for_each(|pattern| match pattern {
                    HostPattern::Exact(name) => router.hosts.insert_exact(name, paths),
                    HostPattern::Suffix(suffix) => router.hosts.insert_suffix(suffix, paths),
                    HostPattern::Any => router.hosts.insert_any(paths),
                }),
            }
        }
        Ok(router)
    }

    /// The rule for a request. `host` has no port.
    ///
    /// `HEAD` goes where `GET` goes, unless a rule names it (RFC 9110, 9.3.2). A preflight goes where the request goes that
    /// it asks about, unless a rule names `OPTIONS`, if `Cors` is there to answer it.
    pub fn find<'p>(&'p self, headers: &HeaderMap, host: &str, method: &Method, path: &'p str) -> Routed<'p> {
        let Some(paths) = self.paths(headers, host) else { return Routed::NoRoute };
        let Some((targets, params)) = self.patterns.at(paths.table, path) else { return Routed::NoRoute };
        let target = taking(targets, method).or_else(|| {
            let asked = asked_by_preflight(method, headers)?;
            taking(targets, &asked).filter(|target| target.preflights)
        });
        match target {
            Some(target) => Routed::Rule(RuleMatch {
                rule: paths.first_rule as usize + target.rule,
                pattern: target.pattern,
                params,
            }),
            None => Routed::OtherMethods(allowed(targets)),
        }
    }

    fn paths(&self, headers: &HeaderMap, host: &str) -> Option<Paths> {
        let value = self.selector.as_ref().and_then(|name| headers.get(name));
        let by_header = value.and_then(|value| self.by_header.get(HEADER, value.to_str().ok()?));
        by_header.or_else(|| self.hosts.find(host))
    }
}

fn taking<'t>(targets: &'t [Target], method: &Method) -> Option<&'t Target> {
    let find = |method: &Method| targets.iter().find(|target| target.accepts(method));
    find(method).or_else(|| (*method == Method::HEAD).then(|| find(&Method::GET)).flatten())
}

/// The method that a preflight asks about (the Fetch standard, 3.2.2).
fn asked_by_preflight(method: &Method, headers: &HeaderMap) -> Option<Method> {
    if *method != Method::OPTIONS || !headers.contains_key(header::ORIGIN) {
        return None;
    }
    Method::from_bytes(headers.get(header::ACCESS_CONTROL_REQUEST_METHOD)?.as_bytes()).ok()
}

/// Whether the rule's middleware answers every preflight, so that none reaches a service which was not to get `OPTIONS`.
fn preflights(rule: &PathRule) -> bool {
    let answers = |handler: &Handler| matches!(handler, Handler::Builtin(Builtin::Cors(_)));
    rule.middleware.iter().any(|middleware| answers(&middleware.handler) && middleware.when.is_empty())
}

/// The methods that these rules take, each once.
fn allowed(targets: &[Target]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for method in targets.iter().flat_map(|target| &target.methods) {
        let head = (*method == Method::GET).then_some("HEAD");
        for name in [method.as_str()].into_iter().chain(head) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    names.join(", ")
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
        assert_eq!(of("y.a.com"), Some(1));
        assert_eq!(of("z.b.a.com"), Some(2));
        assert_eq!(of("nota.com"), Some(0));
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
        assert_eq!(
            find(&router, "h", "DELETE", "/x/7"),
            Routed::OtherMethods("GET, HEAD, POST, PUT".to_owned())
        );
        assert_eq!(find(&router, "h", "GET", "/y"), Routed::NoRoute);
        let Routed::Rule(found) = find(&router, "h", "GET", "/x/a%20b") else { panic!("no rule") };
        assert_eq!(found.params, [("id", "a%20b")]);
    }

    #[test]
    fn head_goes_where_get_goes_unless_a_rule_names_it() {
        let router = router(
            "routes:
  - name: r
    route: {type: host, value: '*'}
    paths:
      - {path: [/both, /get], methods: [POST, GET], service: {name: s}}
      - {path: /both, methods: [HEAD], service: {name: s}}
      - {path: /post, methods: [POST], service: {name: s}}",
        );
        assert_eq!(rule(find(&router, "h", "HEAD", "/get")), Some(0));
        assert_eq!(rule(find(&router, "h", "HEAD", "/both")), Some(1));
        assert_eq!(find(&router, "h", "HEAD", "/post"), Routed::OtherMethods("POST".to_owned()));
        assert_eq!(find(&router, "h", "PUT", "/both"), Routed::OtherMethods("POST, GET, HEAD".to_owned()));
    }

    #[test]
    fn a_preflight_goes_where_its_request_goes_if_cors_answers_there() {
        let cors = "{plugin: Cors, payload: {allow_origins: ['https://a.test']}}";
        let sometimes = "{plugin: Cors, payload: {allow_origins: ['https://a.test']}, when: {path: /some}}";
        let router = router(&format!(
            "routes:
  - name: r
    route: {{type: host, value: '*'}}
    paths:
      - {{path: /x, methods: [POST], service: {{name: s}}}}
      - {{path: /x, methods: [GET], service: {{name: s}}, middleware: [{cors}]}}
      - {{path: /some, methods: [GET], service: {{name: s}}, middleware: [{sometimes}]}}
      - {{path: /named, methods: [GET], service: {{name: s}}, middleware: [{cors}]}}
      - {{path: /named, methods: [OPTIONS], service: {{name: s}}}}"
        ));
        let preflight = |path, method: &'static str| {
            let fields = [("origin", "https://a.test"), ("access-control-request-method", method)];
            let fields = fields.into_iter().filter(|(_, value)| !value.is_empty());
            let headers = fields
                .map(|(name, value)| (HeaderName::from_static(name), value.parse().expect("value")))
                .collect();
            rule(router.find(&headers, "h", &Method::OPTIONS, path))
        };
        assert_eq!(preflight("/x", "GET"), Some(1));
        assert_eq!(preflight("/x", "HEAD"), Some(1));
        assert_eq!(preflight("/x", "POST"), None, "nobody answers it there");
        assert_eq!(preflight("/x", "PUT"), None);
        assert_eq!(preflight("/x", ""), None, "no preflight");
        assert_eq!(preflight("/some", "GET"), None, "its Cors might not be called");
        assert_eq!(preflight("/named", "GET"), Some(4));
        assert_eq!(rule(find(&router, "h", "OPTIONS", "/x")), None);
    }

    #[test]
    fn the_most_specific_path_wins_whatever_the_order() {
        let router = router(
            "routes:
  - name: r
    route: {type: host, value: '*'}
    paths:
      - {path: '/{*rest}', service: {name: s}}
      - {path: '/x/{id}', service: {name: s}}
      - {path: '/x/me', service: {name: s}}
      - {path: '/x/{id}/y', service: {name: s}}",
        );
        for (path, of) in [
            ("/x/me", 2),
            ("/x/7", 1),
            ("/x/a%2Fb", 1),
            ("/x/me/y", 3),
            ("/x/7/z", 0),
            ("/q", 0),
            ("/X/me", 0),
        ] {
            assert_eq!(rule(find(&router, "h", "GET", path)), Some(of), "{path}");
        }
        assert_eq!(find(&router, "h", "GET", "/"), Routed::NoRoute, "nothing is no rest");
    }

    #[test]
    fn routes_of_one_shape_share_a_tree_and_keep_their_rules() {
        let router = router(
            "routes:
  - name: a
    route: {type: host, value: a}
    paths: [{path: /x, methods: [GET], service: {name: s}}, {path: '/y/{id}', service: {name: s}}]
  - name: b
    route: {type: host, value: b}
    paths: [{path: /x, methods: [GET], service: {name: s}}, {path: '/y/{id}', service: {name: s}}]
  - name: c
    route: {type: host, value: c}
    paths: [{path: /x, methods: [POST], service: {name: s}}, {path: '/y/{id}', service: {name: s}}]",
        );
        assert_eq!(router.patterns.trees(), 1);
        assert_eq!(["a", "b", "c"].map(|host| rule(find(&router, host, "GET", "/y/1"))), [1, 3, 5].map(Some));
        assert_eq!(rule(find(&router, "b", "GET", "/x")), Some(2));
        assert_eq!(find(&router, "c", "GET", "/x"), Routed::OtherMethods("POST".to_owned()));
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
