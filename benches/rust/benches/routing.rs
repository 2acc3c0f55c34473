//! What it takes to find the rule of a request, with few routes and with many: by host, by the end of a host, by path.
//!
//! Two ways to ask: the same 64 rows, spread over all, again and again (what is in use is in the cache, and the difference is the
//! search itself), and each time another row of a shuffled list (the difference is memory that has to be fetched). The thread's CPU
//! time is measured, which other work of the machine changes less than it changes the clock's.
//!
//! `cargo bench -p nylon-benches --bench routing`

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use http::{HeaderMap, Method};
use nylon_config::plan::Plan;
use nylon_gateway::pipeline::{Routed, Router};
use rustix::time::{ClockId, clock_gettime};
use std::fmt::Write as _;
use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

const SIZES: [usize; 3] = [10, 1_000, 100_000];

/// How the rows of a table differ.
#[derive(Clone, Copy)]
enum Kind {
    /// A route for each host, all with the same paths.
    Hosts,
    /// A route for each host, each with paths of its own.
    HostsAndPaths,
    /// A route for all hosts below another one.
    Wildcards,
    /// One route with many paths.
    Paths,
    /// The same with a parameter in each.
    Parameters,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Hosts => "hosts",
            Kind::HostsAndPaths => "hosts with paths of their own",
            Kind::Wildcards => "wildcard hosts",
            Kind::Paths => "paths",
            Kind::Parameters => "paths with a parameter",
        }
    }

    fn yaml(self, rows: usize) -> String {
        let mut yaml = String::from(
            "http: ['127.0.0.1:0']\nservices: [{name: s, service_type: http, endpoints: [{ip: 127.0.0.1, port: 9}]}]\nroutes:\n",
        );
        if let Kind::Paths | Kind::Parameters = self {
            yaml.push_str("  - name: all\n    route: {type: host, value: '*'}\n    paths:\n");
        }
        for row in 0..rows {
            let (host, own) = match self {
                Kind::Hosts => (format!("tenant-{row}.example.com"), String::new()),
                Kind::HostsAndPaths => (format!("tenant-{row}.example.com"), format!("/own-{row}")),
                Kind::Wildcards => (format!("'*.tenant-{row}.example.com'"), String::new()),
                Kind::Paths => {
                    writeln!(yaml, "      - {{path: /api/v1/group-{row}/items, service: {{name: s}}}}")
                        .expect("text");
                    continue;
                }
                Kind::Parameters => {
                    writeln!(yaml, "      - {{path: '/api/v1/group-{row}/{{id}}', service: {{name: s}}}}")
                        .expect("text");
                    continue;
                }
            };
            writeln!(
                yaml,
                "  - {{name: r{row}, route: {{type: host, value: {host}}}, paths: [{{path: '{own}/api/{{id}}', service: {{name: s}}}}, \
                 {{path: '/{{*rest}}', service: {{name: s}}}}]}}"
            )
            .expect("text");
        }
        yaml
    }

    /// Host and path of a request for a row.
    fn request(self, row: usize) -> (String, String) {
        match self {
            Kind::Hosts => (format!("tenant-{row}.example.com"), "/api/7".to_owned()),
            Kind::HostsAndPaths => (format!("tenant-{row}.example.com"), format!("/own-{row}/api/7")),
            Kind::Wildcards => (format!("shop.tenant-{row}.example.com"), "/api/7".to_owned()),
            Kind::Paths => ("example.com".to_owned(), format!("/api/v1/group-{row}/items")),
            Kind::Parameters => ("example.com".to_owned(), format!("/api/v1/group-{row}/7")),
        }
    }
}

fn plan(yaml: &str) -> Plan {
    nylon_config::parse_str("bench.yaml", yaml, Path::new("."), &|_| None)
        .unwrap_or_else(|errors| panic!("{errors}"))
        .plan
}

fn routing(criterion: &mut Criterion) {
    for kind in [Kind::Hosts, Kind::HostsAndPaths, Kind::Wildcards, Kind::Paths, Kind::Parameters] {
        let mut group = criterion.benchmark_group(kind.name());
        for rows in SIZES {
            let yaml = kind.yaml(rows);
            let began = cpu_time();
            let plan = plan(&yaml);
            let checked = cpu_time() - began;
            let began = cpu_time();
            let router = Router::new(&plan).expect("valid patterns");
            eprintln!(
                "{}: {rows} rows, {} kB: checked in {checked:.1?}, router built in {:.1?}",
                kind.name(),
                yaml.len() / 1000,
                cpu_time() - began
            );
            let mut any: Vec<usize> = (0..rows).collect();
            shuffle(&mut any);
            let same: Vec<usize> = any.iter().copied().take(64).collect();
            for (way, order) in [("same", same), ("any", any)] {
                let mut order = order.into_iter().cycle();
                group.bench_function(BenchmarkId::new(way, rows), |bencher| {
                    bencher.iter_custom(|lookups| look_up(&router, kind, &mut order, lookups));
                });
            }
        }
        group.finish();
    }
}

/// The time for so many look-ups.
fn look_up(router: &Router, kind: Kind, order: &mut impl Iterator<Item = usize>, lookups: u64) -> Duration {
    let headers = HeaderMap::new();
    let mut spent = Duration::ZERO;
    let mut left = usize::try_from(lookups).expect("a number of look-ups");
    while left > 0 {
        // Written just before, as a request's head is: the cache has it.
        let requests: Vec<_> = order.take(left.min(64)).map(|row| kind.request(row)).collect();
        let began = cpu_time();
        for (host, path) in &requests {
            let found = router.find(&headers, black_box(host), &Method::GET, path);
            assert!(matches!(black_box(found), Routed::Rule(_)));
        }
        spent += cpu_time() - began;
        left -= requests.len();
    }
    spent
}

/// What the thread has computed so far.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.try_into().expect("less than a second"))
}

/// The same order each time.
fn shuffle<T>(items: &mut [T]) {
    let mut state = 1_u64;
    for at in (1..items.len()).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        items.swap(at, (state >> 33) as usize % (at + 1));
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(2));
    targets = routing
}
criterion_main!(benches);
