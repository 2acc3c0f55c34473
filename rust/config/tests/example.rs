//! A configuration that says everything there is to say: what this version cannot do is an error with its place,
//! what has no effect a warning, and nothing else is wrong with it.

use std::path::Path;

#[test]
fn exactly_the_unavailable_features_are_errors() {
    let errors = nylon_config::load(Path::new("tests/data/example/nylon.yaml"), &|_| None)
        .expect_err("not all is available");
    let found: Vec<_> = errors
        .errors
        .iter()
        .map(|error| {
            let reason = error.reason.strip_suffix(" is not available in this version");
            let file = Path::new(&*error.location.file)
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            (file, error.location.line, error.text(), reason.unwrap_or(&error.reason))
        })
        .collect();
    assert_eq!(
        found,
        [
            ("nylon.yaml", 3, "https", "`https`"),
            ("nylon.yaml", 4, "metrics", "`metrics`"),
            ("nylon.yaml", 6, "acme", "`acme`"),
            ("nylon.yaml", 7, "websocket", "`websocket`"),
            ("nylon.yaml", 15, "pid_file", "`pid_file` of `runtime`"),
            ("nylon.yaml", 16, "user", "`user` of `runtime`"),
            ("nylon.yaml", 17, "group", "`group` of `runtime`"),
            ("nylon.yaml", 22, "upgrade_sock", "`upgrade_sock` of `runtime`"),
            ("20-routes.yml", 5, "weighted", "algorithm `weighted`"),
            ("20-routes.yml", 7, "health_check", "`health_check` of a service"),
            ("20-routes.yml", 9, "static", "service_type `static`"),
            ("20-routes.yml", 17, "tls", "`tls` of a route"),
            ("20-routes.yml", 29, "tls", "`tls`"),
        ]
    );
    let warnings: Vec<_> =
        errors.warnings.iter().map(|warning| (warning.location.line, warning.text())).collect();
    assert_eq!(warnings, [(20, "work_stealing"), (21, "error_log")]);
}
