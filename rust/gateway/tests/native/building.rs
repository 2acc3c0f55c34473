//! Libraries built for a test, with the system's C compiler.

use std::path::{Path, PathBuf};
use std::process::Command;

/// What each plugin exports, doing nothing.
pub(crate) const PLUGIN: &str = "
#include <stdbool.h>
#include <stdint.h>
typedef struct { uint32_t sid; uint8_t phase; uint32_t method; const uint8_t *ptr; uint64_t len; } FfiBuffer;
int configured;
void initialize(const char *config, int len) { (void)config; configured += len; }
bool register_session_stream(uint32_t sid, const char *entry, uint32_t len, void (*cb)(const FfiBuffer *)) {
    FfiBuffer answer = {sid, 0, (uint32_t)configured, 0, 0};
    cb(&answer);
    return len == 4 && entry[0] == 'a';
}
void event_stream(const FfiBuffer *message) { (void)message; }
void close_session_stream(uint32_t sid) { (void)sid; }
void plugin_free(const uint8_t *payload) { (void)payload; }
void shutdown(void) { configured = 0; }
";

/// A directory for what a test builds.
pub(crate) struct Workshop(tempfile::TempDir);

impl Workshop {
    pub(crate) fn new() -> Workshop {
        Workshop(tempfile::tempdir().expect("a directory"))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Compiles `source` into `name`.
    pub(crate) fn build(&self, name: &str, source: &str, flags: &[&str]) -> PathBuf {
        let text = self.path(&format!("{name}.c"));
        std::fs::write(&text, source).expect("a file");
        // As linkers do: a new file, with the name of the old.
        let (built, path) = (self.path(&format!("{name}.new")), self.path(name));
        cc(&[&["-shared", "-fPIC", "-o"], &*vec![shown(&built), shown(&text)], flags].concat());
        std::fs::rename(&built, &path).expect("rename a file");
        path
    }

    /// A plugin with the six symbols, and `more`.
    pub(crate) fn plugin(&self, name: &str, more: &str) -> PathBuf {
        self.build(name, &format!("{PLUGIN}{more}"), &[])
    }
}

pub(crate) fn shown(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

pub(crate) fn cc(arguments: &[&str]) {
    let built = Command::new("cc").args(arguments).output();
    let built = built.expect("the tests of native plugins need a C compiler, `cc`");
    assert!(built.status.success(), "cc {arguments:?}\n{}", String::from_utf8_lossy(&built.stderr));
}
