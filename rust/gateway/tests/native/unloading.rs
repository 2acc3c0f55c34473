//! What goes when a library is unloaded, and what has to stay.

use crate::building::{PLUGIN, Workshop, shown};
use crate::gateway::eventually;
use nylon_abi::FfiBuffer;
use nylon_config::plan::CallbackMemory;
use nylon_gateway::plugin::PluginHost;
use nylon_gateway::plugin::native::{Library, NativeHost, NativeSettings};
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// A thread that calls back from the first session on.
const CALLING: &str = "
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>
static void (*callback)(const FfiBuffer *);
static atomic_int ended;
static pthread_t caller;
static void *call_on(void *unused) {
    FfiBuffer message = {1, 0, 201, 0, 0};
    while (!ended) {
        callback(&message);
        usleep(1000);
    }
    return unused;
}
static void begin(void (*cb)(const FfiBuffer *)) {
    if (!callback) {
        callback = cb;
        pthread_create(&caller, 0, call_on, 0);
    }
}
";

/// The same plugin for version `version`, whose thread calls back and ends with the plugin if it `joins`.
fn calling(shop: &Workshop, name: &str, version: u32, joins: bool) -> std::path::PathBuf {
    let end = if joins { "ended = 1; pthread_join(caller, 0);" } else { "" };
    let (types, functions) = PLUGIN.split_at(PLUGIN.find("int configured;").expect("the first function"));
    let functions = functions
        .replace(
            "FfiBuffer answer = {sid, 0, (uint32_t)configured, 0, 0};\n    cb(&answer);",
            "(void)sid; begin(cb);",
        )
        .replace("void shutdown(void) { configured = 0; }", &format!("void shutdown(void) {{ {end} }}"));
    let version = format!("uint32_t nylon_abi_version(void) {{ return {version}; }}");
    shop.build(name, &format!("{types}{CALLING}{functions}{version}"), &["-pthread"])
}

fn settings() -> NativeSettings {
    NativeSettings { name: "x".to_owned(), config: String::new(), callback_memory: CallbackMemory::Plugin }
}

fn load(file: &Path) -> NativeHost {
    NativeHost::load(file, settings(), None).expect("it loads")
}

/// Runs a plugin until its thread has called, and ends it.
fn run(file: &Path) {
    let host = load(file);
    assert!(host.entry("auth").is_ok());
    let refused = || host.figures()["refused_calls"]["unknown_session"].as_u64();
    eventually("the thread calls", || refused().unwrap_or(0) > 0);
    host.shutdown(Duration::from_secs(5));
}

/// The copies of a library that are in memory, and the files that are open for them.
fn left_of(name: &str) -> (usize, usize) {
    let named = |entry: std::io::Result<std::fs::DirEntry>| std::fs::read_link(entry.ok()?.path()).ok();
    let files = std::fs::read_dir("/proc/self/fd").expect("a directory").filter_map(named);
    let files = files.filter(|file| file.to_string_lossy().contains(name)).count();
    let maps = std::fs::read_to_string("/proc/self/maps").expect("the maps");
    let inode = |line: &str| line.split_whitespace().nth(4).map(str::to_owned);
    let inodes: std::collections::BTreeSet<_> =
        maps.lines().filter(|line| line.contains(name)).filter_map(inode).collect();
    (inodes.len(), files)
}

#[test]
fn what_is_unloaded_leaves_nothing_behind() {
    let shop = Workshop::new();
    let path = shop.plugin("leaving-nothing.so", "");
    for _ in 0..50 {
        let library = Library::open(&path).expect("it loads");
        assert_eq!(left_of("leaving-nothing"), (1, 1));
        library.shutdown();
    }
    assert_eq!(left_of("leaving-nothing"), (0, 0));
}

#[test]
fn shutdown_that_never_returns_is_not_waited_for() {
    let shop = Workshop::new();
    let source = PLUGIN.replace("{ configured = 0; }", "{ for (;;) pause(); }");
    let version = "uint32_t nylon_abi_version(void) { return 2; }";
    let path = shop.build("stuck.so", &format!("#include <unistd.h>\n{source}{version}"), &[]);
    load(&path).shutdown(Duration::ZERO);
    // Its code has a thread in it, so it stays, and is not used again.
    assert_eq!(left_of("stuck"), (1, 1));
    load(&path).shutdown(Duration::ZERO);
    assert_eq!(left_of("stuck"), (2, 2));
}

#[test]
fn library_that_is_bound_to_its_place_is_initialized_again_there_and_unloaded_in_the_end() {
    let shop = Workshop::new();
    let needed = shop.build("libbeside.so", "int needed(void) { return 1; }", &["-Wl,-soname,libbeside.so"]);
    let more = "int needed(void); uint32_t nylon_abi_version(void) { return needed() + 1; }";
    let flags = [shown(&needed), "-Wl,-rpath,$ORIGIN"];
    let path = shop.build("in-its-place.so", &format!("{PLUGIN}{more}"), &flags);
    let first = load(&path);
    let second = NativeHost::load(&path, settings(), Some(&first)).expect("it is initialized again");
    first.shutdown(Duration::from_secs(5));
    assert_eq!(left_of("in-its-place").0, 1);
    assert!(second.entry("auth").is_ok());
    second.shutdown(Duration::from_secs(5));
    assert_eq!(left_of("in-its-place").0, 0);
}

#[test]
fn library_whose_threads_have_ended_is_unloaded() {
    let shop = Workshop::new();
    let path = calling(&shop, "joining.so", 2, true);
    for _ in 0..3 {
        run(&path);
        assert_eq!(left_of("joining"), (0, 0));
    }
}

#[test]
fn library_with_a_thread_that_goes_on_stays_and_is_used_again() {
    let shop = Workshop::new();
    let path = calling(&shop, "running-on.so", 2, false);
    run(&path);
    assert_eq!(left_of("running-on"), (1, 1));
    // Its thread still calls, and is refused.
    run(&path);
    assert_eq!(left_of("running-on"), (1, 1));
}

#[test]
fn library_for_version_1_promises_nothing_so_it_stays_and_is_used_again() {
    let shop = Workshop::new();
    let path = shop.plugin("of-version-1.so", "");
    for _ in 0..3 {
        load(&path).shutdown(Duration::from_secs(5));
        assert_eq!(left_of("of-version-1"), (1, 1));
    }
    // Two at the same time are two.
    let (one, two) = (load(&path), load(&path));
    assert_eq!(left_of("of-version-1"), (2, 2));
    one.shutdown(Duration::from_secs(5));
    two.shutdown(Duration::from_secs(5));
    assert_eq!(left_of("of-version-1"), (2, 2));
}

#[test]
fn library_stays_until_threads_have_run_its_destructors() {
    let shop = Workshop::new();
    let keeping = "
        extern int __cxa_thread_atexit_impl(void (*)(void *), void *, void *);
        extern void *__dso_handle;
        static int kept;
        static void destruct(void *value) { *(int *)value += 1; }
        void event_stream(const FfiBuffer *message) {
            (void)message;
            __cxa_thread_atexit_impl(destruct, &kept, &__dso_handle);
        }";
    let source = PLUGIN.replace("void event_stream(const FfiBuffer *message) { (void)message; }", keeping);
    let library = Arc::new(Library::open(&shop.build("destructing.so", &source, &[])).expect("it loads"));
    let ((told, done), (end, ending)) = (mpsc::channel(), mpsc::channel::<()>());
    let lent = library.clone();
    let thread = std::thread::spawn(move || {
        lent.event(&FfiBuffer { sid: 1, phase: 1, method: 0, ptr: std::ptr::null(), len: 0 });
        drop(lent);
        told.send(()).expect("the test waits");
        ending.recv().expect("the test lives");
    });
    done.recv().expect("the thread lives");
    drop(library);
    assert_eq!(left_of("destructing"), (1, 1));
    end.send(()).expect("the thread lives");
    thread.join().expect("its destructors are there");
    // What lingers is looked for when the next one is unloaded.
    drop(Library::open(&shop.plugin("next.so", "")).expect("it loads"));
    assert_eq!(left_of("destructing"), (0, 0));
}
