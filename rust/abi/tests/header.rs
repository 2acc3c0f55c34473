//! `include/nylon.h` says in C what this crate says in Rust: a C compiler prints the header's numbers and the layout of a
//! message, and whatever stands on one side alone, or differs, fails here. So does the table of docs/native-abi.md.

use nylon_abi::FfiBuffer;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::mem::{align_of, offset_of, size_of};
use std::path::{Path, PathBuf};
use std::process::Command;

const HEADER: &str = include_str!("../../../include/nylon.h");
const PAGE: &str = include_str!("../../../docs/native-abi.md");
const SOURCE: &str = include_str!("../src/lib.rs");

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The names of the constants in this crate's source, as the header spells them, with their numbers.
fn numbers_in_rust() -> BTreeMap<String, u64> {
    let mut module = "";
    let mut numbers = BTreeMap::new();
    for line in SOURCE.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("pub mod ") {
            module = match name.trim_end_matches([' ', '{', ';']) {
                "phase" => "PHASE",
                "method" => "METHOD",
                _ => "",
            };
        }
        let constant = line.strip_prefix("pub const ").filter(|_| !module.is_empty());
        let Some((name, rest)) = constant.and_then(|rest| rest.split_once(": ")) else { continue };
        let number = rest.split_once("= ").and_then(|(_, number)| number.trim_end_matches(';').parse().ok());
        numbers.insert(format!("NYLON_{module}_{name}"), number.expect("a constant is a plain number"));
    }
    assert!(numbers.len() > 60, "the source is read wrongly: {numbers:?}");
    numbers
}

/// The names of the header's enumerators.
fn names_in_c() -> Vec<&'static str> {
    let names = HEADER.lines().map(str::trim).filter_map(|line| line.split_once(" = ").map(|(name, _)| name));
    names.filter(|name| name.starts_with("NYLON_")).collect()
}

/// What a C program prints that includes the header: a name and a number on each line.
fn printed(compiler: &str, flags: &[&str], suffix: &str, body: &str) -> BTreeMap<String, u64> {
    let directory = tempfile::tempdir().expect("a directory");
    let source = directory.path().join(format!("print.{suffix}"));
    let program = directory.path().join("print");
    let text =
        format!("#include \"nylon.h\"\n#include <stdio.h>\nint main(void) {{\n{body}\nreturn 0;\n}}\n");
    std::fs::File::create(&source).expect("a file").write_all(text.as_bytes()).expect("writing");
    let compiled = Command::new(compiler)
        .args(flags)
        .args(["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-I"])
        .arg(root().join("include"))
        .arg(&source)
        .arg("-o")
        .arg(&program)
        .output()
        .unwrap_or_else(|error| {
            panic!("this test needs {compiler} (on Debian: apt-get install gcc g++): {error}")
        });
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    let ran = Command::new(&program).output().expect("the program runs");
    let lines = String::from_utf8(ran.stdout).expect("text");
    let pairs = lines.lines().map(|line| line.split_once(' ').expect("name and number"));
    pairs.map(|(name, number)| (name.to_owned(), number.parse().expect("a number"))).collect()
}

fn line(name: &str, expression: &str) -> String {
    format!("printf(\"{name} %llu\\n\", (unsigned long long)({expression}));")
}

#[test]
fn every_number_is_the_same_in_c_and_in_rust() {
    let rust = numbers_in_rust();
    let in_c: Vec<String> = names_in_c().into_iter().map(|name| line(name, name)).collect();
    assert_eq!(printed("cc", &["-std=c11"], "c", &in_c.join("\n")), rust);
}

#[test]
fn the_version_is_the_same_in_c_and_in_rust() {
    let printed = printed("cc", &["-std=c11"], "c", &line("version", "NYLON_ABI_VERSION"));
    assert_eq!(printed["version"], u64::from(nylon_abi::VERSION));
}

fn layout_in_rust() -> BTreeMap<String, u64> {
    let facts = [
        ("size", size_of::<FfiBuffer>()),
        ("alignment", align_of::<FfiBuffer>()),
        ("sid", offset_of!(FfiBuffer, sid)),
        ("phase", offset_of!(FfiBuffer, phase)),
        ("method", offset_of!(FfiBuffer, method)),
        ("ptr", offset_of!(FfiBuffer, ptr)),
        ("len", offset_of!(FfiBuffer, len)),
        ("width_of_sid", size_of::<u32>()),
        ("width_of_phase", size_of::<u8>()),
        ("width_of_method", size_of::<u32>()),
        ("width_of_ptr", size_of::<*const u8>()),
        ("width_of_len", size_of::<u64>()),
    ];
    facts.into_iter().map(|(name, value)| (name.to_owned(), value as u64)).collect()
}

fn layout_in(compiler: &str, standard: &str, suffix: &str, align: &str) -> BTreeMap<String, u64> {
    let mut lines = vec![
        "nylon_message m; (void)m;".to_owned(),
        line("size", "sizeof(nylon_message)"),
        line("alignment", &format!("{align}(nylon_message)")),
    ];
    for field in ["sid", "phase", "method", "ptr", "len"] {
        lines.push(line(field, &format!("offsetof(nylon_message, {field})")));
        lines.push(line(&format!("width_of_{field}"), &format!("sizeof m.{field}")));
    }
    printed(compiler, &[standard], suffix, &lines.join("\n"))
}

#[test]
fn a_message_has_the_same_layout_in_c_and_in_rust() {
    assert_eq!(layout_in("cc", "-std=c11", "c", "_Alignof"), layout_in_rust());
}

#[test]
fn a_message_has_the_same_layout_in_cpp_and_in_rust() {
    assert_eq!(layout_in("c++", "-std=c++11", "cpp", "alignof"), layout_in_rust());
}

/// The numbers of the page's table, with their names as the header spells them; `(2)` marks are no part of a name.
fn numbers_on_the_page() -> BTreeMap<String, u64> {
    let rows = PAGE.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" | "));
    let numbers = rows.filter_map(|(number, rest)| Some((number.parse().ok()?, rest.split(" | ").next()?)));
    let name = |text: &str| text.trim_end_matches(" (2)").to_ascii_uppercase();
    numbers.map(|(number, text)| (format!("NYLON_METHOD_{}", name(text)), number)).collect()
}

#[test]
fn every_number_is_the_same_on_the_page_and_in_rust() {
    let mut rust = numbers_in_rust();
    // The page has those of WebSocket as ranges.
    rust.retain(|name, _| name.starts_with("NYLON_METHOD_") && !name.contains("WEBSOCKET"));
    assert_eq!(numbers_on_the_page(), rust);
}
