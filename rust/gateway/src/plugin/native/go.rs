//! Libraries written in Go.
//!
//! Each brings a runtime of its own: threads, a garbage collector, signal handlers. It cannot be unloaded, and Go does
//! not promise that two of them get on with each other in one process.

/// What to say of a plugin whose library would be the second one in Go in this process, beside that of `other`.
pub fn two_go_libraries(plugin: &str, other: &str) -> String {
    format!(
        "plugin `{plugin}` is written in Go, as `{other}` is: two Go runtimes in one process are not safe; give one of \
         the two `isolation: process`"
    )
}

/// What to say of a plugin in Go beside a library of `other` that nobody uses any more, or not for long: the plugin's own
/// earlier one, or that of a plugin that is gone.
pub(super) fn earlier_go_library(plugin: &str, other: &str) -> String {
    let whose = if plugin == other { "its earlier library".to_owned() } else { format!("that of `{other}`") };
    format!(
        "plugin `{plugin}` is written in Go, and {whose} cannot be unloaded, so it stays in memory with a runtime of its \
         own: that is not safe for long; give the plugin `isolation: process`, or start the gateway again"
    )
}
