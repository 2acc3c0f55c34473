//! A configuration that says everything there is to say: what this version cannot do is an error with its place,
//! what has no effect a warning, and nothing else is wrong with it.

use std::{fs, path::Path};

use certificate_files::CertificateFiles;

/// The files that `tls` names.
mod certificate_files;

/// A copy of the example, with the certificate and the directory that it names.
fn example() -> CertificateFiles {
    let copy = CertificateFiles::new();
    let conf_d = copy.path().join("conf.d");
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
    fs::create_dir(conf_d.join("static")).expect("a directory");
    copy.write("conf.d/static/index.html", "");
    copy.issue("a", &["a.com"], |_| {});
    copy.issue("chain", &["authority"], |_| {});
    for (from, to) in [("a.pem", "a.crt"), ("a-key.pem", "a.key"), ("chain.pem", "chain.pem")] {
        fs::rename(copy.path().join(from), conf_d.join(to)).expect("moved");
    }
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
        ]
    );
    let warnings: Vec<_> =
        errors.warnings.iter().map(|warning| (warning.location.line, warning.text())).collect();
    assert_eq!(warnings, [(20, "work_stealing"), (21, "error_log"), (31, "true")]);
}
