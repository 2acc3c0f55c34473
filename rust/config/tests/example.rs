//! A configuration that says everything there is to say: what this version cannot do is an error with its place,
//! what has no effect a warning, and nothing else is wrong with it.

use std::{fs, path::Path};

fn private_file(path: &Path, text: &str) {
    fs::write(path, text).expect("written");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("kept to the owner");
    }
}

/// A copy of the example, with the certificate that it names.
fn example() -> tempfile::TempDir {
    let copy = tempfile::tempdir().expect("a directory");
    for directory in ["", "conf.d"] {
        fs::create_dir_all(copy.path().join(directory)).expect("a directory");
        for entry in fs::read_dir(Path::new("tests/data/example").join(directory)).expect("the example") {
            let path = entry.expect("an entry").path();
            if path.is_file() {
                let name = path.file_name().expect("a name");
                fs::copy(&path, copy.path().join(directory).join(name)).expect("copied");
            }
        }
    }
    let own = rcgen::generate_simple_self_signed(["a.com".to_owned()]).expect("a certificate");
    let other = rcgen::generate_simple_self_signed(["authority".to_owned()]).expect("a certificate");
    let write = |name: &str, text: &str| private_file(&copy.path().join("conf.d").join(name), text);
    write("a.crt", &own.cert.pem());
    write("a.key", &own.signing_key.serialize_pem());
    write("chain.pem", &other.cert.pem());
    copy
}

#[test]
fn exactly_the_unavailable_features_are_errors() {
    let directory = example();
    let errors = nylon_config::load(&directory.path().join("nylon.yaml"), &|_| None)
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
            ("nylon.yaml", 4, "metrics", "`metrics`"),
            ("nylon.yaml", 7, "websocket", "`websocket`"),
            ("nylon.yaml", 15, "pid_file", "`pid_file` of `runtime`"),
            ("nylon.yaml", 16, "user", "`user` of `runtime`"),
            ("nylon.yaml", 17, "group", "`group` of `runtime`"),
            ("nylon.yaml", 22, "upgrade_sock", "`upgrade_sock` of `runtime`"),
            ("20-routes.yml", 9, "static", "service_type `static`"),
        ]
    );
    let warnings: Vec<_> =
        errors.warnings.iter().map(|warning| (warning.location.line, warning.text())).collect();
    assert_eq!(warnings, [(20, "work_stealing"), (21, "error_log"), (31, "true")]);
}
