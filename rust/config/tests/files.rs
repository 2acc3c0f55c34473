//! One configuration out of several files.

use std::{fs, path::Path};

use nylon_config::{ConfigErrors, Loaded};
use tempfile::TempDir;

fn tree(files: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    for (name, text) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(path, text).expect("a file");
    }
    dir
}

fn load(dir: &TempDir) -> Result<Loaded, ConfigErrors> {
    nylon_config::load(&dir.path().join("nylon.yaml"), &|_| None)
}

fn shown(errors: &ConfigErrors, dir: &TempDir) -> Vec<String> {
    let dir = format!("{}/", dir.path().display());
    let first = |text: String| text.replace(&dir, "").lines().next().unwrap_or_default().to_owned();
    errors.errors.iter().map(|error| first(error.to_string())).collect()
}

const SERVICE: &str = "services: [{name: s, service_type: http, endpoints: [{ip: h, port: 1}]}]";
const ROUTE: &str =
    "routes: [{route: {type: host, value: a.test}, name: r, paths: [{path: /, service: {name: s}}]}]";

#[test]
fn the_files_of_a_directory_are_merged_in_the_order_of_their_names() {
    let dir = tree(&[
        ("nylon.yaml", "http: [127.0.0.1:0]\nconfig_dir: conf.d\nlimits: {max_headers: 7}"),
        (
            "conf.d/b.yml",
            "services: [{name: two, service_type: http, endpoints: [{ip: h, port: 2}]}]\nlimits: {write_timeout_ms: 5}",
        ),
        (
            "conf.d/a.yaml",
            "services: [{name: one, service_type: http, endpoints: [{ip: h, port: 1}]}]\nheader_selector: x-a",
        ),
        ("conf.d/c.yaml", "header_selector: x-a\nlimits: {max_headers: 7}"),
        ("conf.d/empty.yaml", "# nothing yet\n"),
        ("conf.d/notes.txt", "not: [read"),
        ("conf.d/.hidden.yaml", "not: [read"),
    ]);
    let loaded = load(&dir).unwrap_or_else(|errors| panic!("{errors}"));
    let names: Vec<_> = loaded.plan.services.iter().map(|service| service.name.as_str()).collect();
    assert_eq!(names, ["one", "two"]);
    assert_eq!(loaded.plan.limits.max_headers, 7);
    assert_eq!(loaded.plan.limits.write_timeout.as_millis(), 5);
    let files: Vec<_> = loaded.files.iter().filter_map(|path| path.file_name()).collect();
    assert_eq!(files, ["nylon.yaml", "a.yaml", "b.yml", "c.yaml", "empty.yaml"]);
}

#[test]
fn what_stands_in_two_files_is_an_error_that_names_both() {
    let dir = tree(&[
        ("nylon.yaml", "http: [127.0.0.1:0]\nconfig_dir: conf.d\nheader_selector: x-a"),
        ("conf.d/a.yaml", &format!("{SERVICE}\n{ROUTE}\nmiddleware_groups: {{g: []}}")),
        ("conf.d/b.yaml", &format!("{SERVICE}\n{ROUTE}\nmiddleware_groups: {{g: []}}\nheader_selector: x-b")),
    ]);
    let errors = load(&dir).expect_err("names stand twice");
    assert_eq!(
        shown(&errors, &dir),
        [
            "conf.d/b.yaml:1:19: the service `s` is already defined at conf.d/a.yaml:1:19",
            "conf.d/b.yaml:2:38: the host `a.test` has a route already, see conf.d/a.yaml:2:38",
            "conf.d/b.yaml:2:53: the route `r` is already defined at conf.d/a.yaml:2:53",
            "conf.d/b.yaml:3:21: `g` is already set at conf.d/a.yaml:3:21",
            "conf.d/b.yaml:4:1: `header_selector` is already set at nylon.yaml:3:1",
        ]
    );
}

#[test]
fn a_broken_file_is_told_without_errors_that_follow_from_it() {
    let dir = tree(&[
        ("nylon.yaml", "http: [127.0.0.1:0]\nconfig_dir: conf.d\nlimits: {max_headers: many}"),
        ("conf.d/a.yaml", "services: [{name: s\n"),
        ("conf.d/b.yaml", ROUTE),
    ]);
    let errors = shown(&load(&dir).expect_err("a file is broken"), &dir);
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert!(errors[0].starts_with("nylon.yaml:3:23: expected a whole number"), "{errors:?}");
    assert!(errors[1].starts_with("conf.d/a.yaml:") && errors[1].contains("not valid YAML"), "{errors:?}");
}

#[test]
fn files_that_are_missing_or_no_text_are_named() {
    let dir = tree(&[("nylon.yaml", "http: [127.0.0.1:0]\nconfig_dir: conf.d")]);
    let errors = shown(&load(&dir).expect_err("no directory"), &dir);
    assert_eq!(errors, ["nylon.yaml:2:13: no such directory: `conf.d`"]);

    fs::create_dir(dir.path().join("conf.d")).expect("a directory");
    assert_eq!(load(&dir).expect("an empty directory is no error").warnings.len(), 1);
    fs::write(dir.path().join("conf.d/a.yaml"), b"a: 1\nb: \xff\n").expect("a file");
    let errors = shown(&load(&dir).expect_err("no text"), &dir);
    assert_eq!(errors, ["conf.d/a.yaml:1:1: the file is not UTF-8 text, from line 2 on"]);

    let missing = nylon_config::load(Path::new("no/such.yaml"), &|_| None).expect_err("no file");
    assert!(
        missing.to_string().starts_with("no/such.yaml:1:1: cannot read the file: No such file"),
        "{missing}"
    );
}

#[test]
fn relative_paths_start_from_the_file_that_names_them() {
    let plugin = "plugins: [{name: p, file: code/p.py}]";
    let dir = tree(&[
        ("nylon.yaml", "http: [127.0.0.1:0]\nconfig_dir: conf.d"),
        ("conf.d/a.yaml", plugin),
        ("conf.d/code/p.py", ""),
    ]);
    assert!(load(&dir).is_ok());
    fs::remove_file(dir.path().join("conf.d/code/p.py")).expect("the file was there");
    let errors = load(&dir).expect_err("no plugin");
    assert!(
        errors.errors[0].reason.contains("no such file") && errors.errors[0].text() == "code/p.py",
        "{errors}"
    );
}
