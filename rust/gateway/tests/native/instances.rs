//! Several libraries in one process, and what is left of them.

use crate::building::{PLUGIN, Workshop, shown};
use nylon_abi::FfiBuffer;
use nylon_gateway::plugin::native::Library;
use std::cell::Cell;

thread_local! {
    static ANSWERED: Cell<u32> = const { Cell::new(0) };
}

extern "C" fn answered(message: *const FfiBuffer) {
    // SAFETY: the plugin passes a message of its own.
    ANSWERED.set(unsafe { (*message).method });
}

/// What the plugin's own variable holds.
fn variable(library: &Library) -> u32 {
    assert!(library.register(1, "auth", answered));
    ANSWERED.get()
}

#[test]
fn one_file_loaded_twice_is_two_libraries_with_data_of_their_own() {
    let shop = Workshop::new();
    let path = shop.plugin("x.so", "");
    let (one, two) = (Library::open(&path).expect("it loads"), Library::open(&path).expect("it loads again"));
    one.initialize("12").expect("it is short");
    two.initialize("12345").expect("it is short");
    one.initialize("").expect("it is short");
    assert_eq!((variable(&one), variable(&two)), (2, 5));
    two.shutdown();
    drop(two);
    assert_eq!(variable(&one), 2);
    assert!(!one.register(1, "none", answered), "the entry is unknown");
}

#[test]
fn a_file_that_is_written_over_changes_nothing_of_what_runs() {
    let shop = Workshop::new();
    let path = shop.plugin("x.so", "");
    let library = Library::open(&path).expect("it loads");
    let before = library.fingerprint();
    // As `cp` does: the same inode, other bytes.
    std::fs::write(&path, vec![0; 100_000]).expect("a file");
    library.initialize("123").expect("it is short");
    assert_eq!(variable(&library), 3);
    let other = shop.plugin("x.so", "int other = 1;");
    let beside = Library::open(&other).expect("it loads");
    assert_eq!((variable(&library), variable(&beside)), (3, 0));
    assert_ne!(before, beside.fingerprint());
    library.shutdown();
}

#[test]
fn a_library_with_neighbours_is_loaded_from_its_place() {
    let shop = Workshop::new();
    let needed = shop.build("libneeded.so", "int needed(void) { return 1; }", &["-Wl,-soname,libneeded.so"]);
    let source = format!("{PLUGIN}int needed(void); int use(void) {{ return needed(); }}");
    let flags = [shown(&needed), "-Wl,-rpath,$ORIGIN"];
    let path = shop.build("x.so", &source, &flags);
    let library = Library::open(&path).expect("it finds its neighbour");
    library.initialize("1234").expect("it is short");
    let again = Library::open(&path).err().expect("the process has it").to_string();
    assert!(again.contains("it is loaded already") && again.contains("isolation: process"), "{again}");
    assert_eq!(variable(&library), 4);
    // A new file of the same name is another library.
    let beside = Library::open(&shop.build("x.so", &source, &flags)).expect("it loads beside the old one");
    assert_eq!((variable(&library), variable(&beside)), (4, 0));
    drop(library);
    assert_eq!(variable(&beside), 0);
}
