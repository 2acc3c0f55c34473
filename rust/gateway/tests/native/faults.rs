//! What can be wrong with a library: each text names the file, what is wrong, and what to do.

use crate::building::{PLUGIN, Workshop, cc, shown};
use nylon_core::{Phase, PhaseMask};
use nylon_gateway::plugin::native::{AnnouncedEntry, Library};
use std::path::Path;

/// The text of the error that opening `path` gives, without the file, which it has to begin with.
fn fault(path: &Path) -> String {
    let error = Library::open(path).err().expect("the library cannot be loaded").to_string();
    let file = format!("cannot load `{}`: ", path.display());
    error.strip_prefix(&file).unwrap_or_else(|| panic!("{error} does not name the file")).to_owned()
}

/// The same, where nothing of the library has to run for it.
fn fault_of_the_file(path: &Path) -> String {
    let checked = Library::check(path).expect_err("the file is wrong").to_string();
    let text = fault(path);
    assert!(checked.ends_with(&text), "{checked} / {text}");
    text
}

#[test]
fn a_file_that_is_not_there_or_cannot_be_read_is_named() {
    let shop = Workshop::new();
    let none = shop.path("none.so");
    assert_eq!(fault_of_the_file(&none), "there is no such file: build the library, or mend `file`");
    std::fs::create_dir(shop.path("dir.so")).expect("a directory");
    assert_eq!(fault_of_the_file(&shop.path("dir.so")), "it is no shared library, but no regular file");
    let made = std::process::Command::new("mkfifo").arg(shop.path("pipe.so")).status();
    assert!(made.is_ok_and(|status| status.success()));
    assert_eq!(fault_of_the_file(&shop.path("pipe.so")), "it is no shared library, but no regular file");
    let huge = std::fs::File::create(shop.path("huge.so")).expect("a file");
    huge.set_len(1 << 40).expect("a file with a hole");
    assert_eq!(
        fault_of_the_file(&shop.path("huge.so")),
        "it is no shared library, but a file of 1099511627776 bytes"
    );
}

#[test]
fn what_is_no_library_is_called_what_it_is() {
    let shop = Workshop::new();
    let path = shop.path("x.so");
    let files: [(&[u8], &str); 7] = [
        (b"", "an empty file"),
        (b"#!/bin/sh\n", "a script"),
        (b"!<arch>\n", "an archive (a static library): link it with `-shared`"),
        (b"MZ\x90\0", "a program or library for Windows"),
        (b"\xcf\xfa\xed\xfe\x07\0\0\x01", "a program or library for macOS"),
        (b"\x7fELF\x02\x01", "a part of one"),
        (b"words", "something else (it does not begin like an ELF file)"),
    ];
    for (bytes, what) in files {
        std::fs::write(&path, bytes).expect("a file");
        assert_eq!(fault_of_the_file(&path), format!("it is no shared library, but {what}"));
    }
    let source = shop.path("object.c");
    std::fs::write(&source, PLUGIN).expect("a file");
    cc(&["-c", "-fPIC", "-o", shown(&path), shown(&source)]);
    assert_eq!(
        fault_of_the_file(&path),
        "it is no shared library, but a program or an object file: link it with `-shared`"
    );
}

#[test]
fn a_library_for_another_machine_says_for_which() {
    let shop = Workshop::new();
    let path = shop.plugin("x.so", "");
    let mut bytes = std::fs::read(&path).expect("a file");
    let own = std::env::consts::ARCH;
    let other: (u16, &str) =
        if own == "aarch64" { (62, "x86-64 (64 bits)") } else { (183, "ARM64 (64 bits)") };
    bytes[18..20].copy_from_slice(&other.0.to_le_bytes());
    std::fs::write(&path, &bytes).expect("a file");
    let text = fault_of_the_file(&path);
    assert!(text.starts_with(&format!("it is built for {}, and this gateway runs on ", other.1)), "{text}");
    // A file of 32 bits.
    bytes[4] = 1;
    std::fs::write(&path, &bytes).expect("a file");
    assert!(fault_of_the_file(&path).contains("(32 bits)"));
}

#[test]
fn a_library_that_is_damaged_is_an_error_and_nothing_else() {
    let shop = Workshop::new();
    let path = shop.plugin("x.so", "");
    let whole = std::fs::read(&path).expect("a file");
    for length in (1..whole.len()).step_by(whole.len() / 150 + 1) {
        std::fs::write(&path, &whole[..length]).expect("a file");
        // What is cut off after all that matters may still load.
        let _ = Library::check(&path);
    }
    // The table of sections stands last and is not needed; without it a part is told by its segments.
    let mut stripped = whole[..whole.len() / 2].to_vec();
    for at in [40..48, 58..64] {
        stripped[at].fill(0);
    }
    std::fs::write(&path, &stripped).expect("a file");
    assert_eq!(fault_of_the_file(&path), "it is no shared library, but a part of one");
    for at in (0..whole.len()).step_by(31) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0xff;
        std::fs::write(&path, &bytes).expect("a file");
        let _ = Library::check(&path);
    }
}

#[test]
fn every_missing_symbol_is_named_at_once() {
    let shop = Workshop::new();
    let source = PLUGIN.replace("void event_stream", "static void event_stream").replace("shutdown", "stop");
    assert_eq!(
        fault_of_the_file(&shop.build("two.so", &source, &[])),
        "it lacks the symbols `event_stream`, `shutdown`: it is not complete (the symbols that a plugin exports are in \
         docs/native-abi.md)"
    );
    let text = fault_of_the_file(&shop.build("none.so", "int nothing;", &[]));
    assert!(text.starts_with("it lacks the symbols `initialize`, `register_session_stream`, "), "{text}");
    assert!(text.contains(": it is no native plugin of Nylon, or exports nothing ("), "{text}");
    // Declared, and left to somebody else to define.
    let source = PLUGIN
        .replace("void shutdown(void) { configured = 0; }", "void shutdown(void); void *used = shutdown;");
    let text = fault_of_the_file(&shop.build("undefined.so", &source, &[]));
    assert!(text.starts_with("it lacks the symbol `shutdown`: "), "{text}");
}

#[test]
fn only_known_versions_of_the_abi_are_taken() {
    let shop = Workshop::new();
    let version = |number| format!("uint32_t nylon_abi_version(void) {{ return {number}; }}");
    let open = |path: &Path| Library::open(path).expect("it loads").version();
    assert_eq!(open(&shop.plugin("none.so", "")), 1);
    assert_eq!(open(&shop.plugin("two.so", &version(2))), 2);
    for number in [0, 3, 4_000_000_000_u32] {
        assert_eq!(
            fault(&shop.plugin("x.so", &version(number))),
            format!(
                "`nylon_abi_version` says {number}, and this gateway knows the versions 1 to 2: build it for one of \
                 them, or use a newer gateway"
            )
        );
    }
}

#[test]
fn a_library_that_needs_what_is_not_there_says_what() {
    let shop = Workshop::new();
    let needed =
        shop.build("libneeded.so", "int needed(void) { return 1; }", &["-Wl,-soname,libneeded.so.7"]);
    let source = format!("{PLUGIN}int needed(void); int use(void) {{ return needed(); }}");
    let path = shop.build("x.so", &source, &[shown(&needed)]);
    assert_eq!(
        fault(&path),
        "a library that it needs is missing: libneeded.so.7 (install it, or link it into the plugin; `ldd` lists what \
         is needed)"
    );
    let path = shop.build("y.so", &source, &[]);
    assert_eq!(
        fault(&path),
        "it uses the symbol `needed`, which nothing defines: link it with what does (`-Wl,-z,defs` finds such symbols \
         when it is built)"
    );
    // Built against a version of its neighbour that the one that is there does not have.
    let script = shop.path("versions");
    let versions = format!("-Wl,--version-script={}", shown(&script));
    std::fs::write(&script, "NEEDED_2 { global: needed; };").expect("a file");
    let flags = ["-Wl,-soname,libneeded.so", &versions];
    let needed = shop.build("libneeded.so", "int needed(void) { return 1; }", &flags);
    let path = shop.build("z.so", &source, &[shown(&needed), "-Wl,-rpath,$ORIGIN"]);
    std::fs::write(&script, "NEEDED_1 { global: needed; };").expect("a file");
    shop.build("libneeded.so", "int needed(void) { return 1; }", &flags);
    assert_eq!(
        fault(&path),
        "it needs newer libraries than this system has (NEEDED_2): build it on a system that is not newer than this one"
    );
}

#[test]
fn entries_are_announced_in_json() {
    let shop = Workshop::new();
    let entries = |json: &str| {
        let answer = if json.is_empty() { "0".to_owned() } else { format!("{json:?}") };
        let path = shop.plugin("x.so", &format!("const char *nylon_entries(void) {{ return {answer}; }}"));
        let library = Library::open(&path).expect("it loads");
        library.initialize("").expect("it is short");
        library.entries().map_err(|error| error.to_string())
    };
    let listed = entries(
        r#"[{"name": "auth", "phases": ["request_filter", "logging"], "body": true},
            {"name": "stamp", "phases": ["response_body_filter"], "stream": true}]"#,
    );
    let entry = |name: &str, phases: &[Phase], request_body, stream| AnnouncedEntry {
        name: name.to_owned(),
        phases: phases.iter().copied().collect::<PhaseMask>(),
        request_body,
        stream,
    };
    assert_eq!(
        listed.expect("a list"),
        Some(vec![
            entry("auth", &[Phase::RequestFilter, Phase::Logging], true, false),
            entry("stamp", &[Phase::ResponseBodyFilter], false, true),
        ])
    );
    let silent = Library::open(&shop.plugin("silent.so", "")).expect("it loads");
    assert_eq!(silent.entries().expect("nothing is announced"), None);
    for (json, why) in [
        ("", "it could not initialize (`nylon_entries` returned null)"),
        ("[", "it is no JSON (EOF while parsing a list at line 1 column 1)"),
        ("{}", "expected a list, found {}"),
        ("[7]", "entry 1: expected an object, found 7"),
        (r#"[{"phases": []}]"#, "entry 1: expected a `name`, found null"),
        (r#"[{"name": ""}]"#, "entry 1: expected a `name`, found \"\""),
        (r#"[{"name": "a"}]"#, "entry 1: `phases` of `a` is no list"),
        (r#"[{"name": "a", "phases": ["request"]}]"#, "entry 1: \"request\" is no phase"),
        (r#"[{"name": "a", "phases": [], "body": 1}]"#, "entry 1: `body` is neither true nor false, but 1"),
        (
            r#"[{"name": "a", "phase": []}]"#,
            "entry 1: unknown key `phase` (known: `name`, `phases`, `body`, `stream`)",
        ),
        (
            r#"[{"name": "a", "phases": []}, {"name": "a", "phases": []}]"#,
            "entry 2: the name `a` comes twice",
        ),
    ] {
        let error = entries(json).expect_err(json);
        assert!(error.contains("x.so`: ") && error.contains(why), "{json}: {error}");
    }
}
