//! A plugin as the gateway sees it: through the functions that `export_plugin!` exports.

use nylon_abi::{FfiBuffer, method, phase};
use nylon_plugin::export::{Library, construct};
use nylon_plugin::{Plugin, Result};
use std::collections::BTreeMap;
use std::ffi::CStr;
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A number and its payload.
type Message = (u32, Vec<u8>);

/// What plugins said, by session: the callback brings nothing else.
static SAID: Mutex<BTreeMap<u32, Vec<Message>>> = Mutex::new(BTreeMap::new());

fn said(sid: u32) -> Vec<Message> {
    locked().remove(&sid).unwrap_or_default()
}

fn locked() -> MutexGuard<'static, BTreeMap<u32, Vec<Message>>> {
    SAID.lock().unwrap_or_else(PoisonError::into_inner)
}

unsafe extern "C" fn listen(message: *const FfiBuffer) {
    // SAFETY: a message of the SDK, with its payload.
    let (message, payload) = unsafe {
        let message = &*message;
        let payload = match message.len {
            0 => &[][..],
            len => std::slice::from_raw_parts(message.ptr, usize::try_from(len).expect("64 bits")),
        };
        (message, payload)
    };
    assert_eq!(message.ptr.is_null(), message.len == 0, "null stands for no bytes, and for nothing else");
    locked().entry(message.sid).or_default().push((message.method, payload.to_vec()));
}

fn initialize(library: &Library, config: &str) {
    let length = i32::try_from(config.len()).expect("short");
    // SAFETY: the text is there until this returns.
    unsafe { library.initialize(config.as_ptr().cast(), length) }
}

fn register(library: &Library, sid: u32, entry: &[u8]) -> bool {
    let length = u32::try_from(entry.len()).expect("short");
    // SAFETY: the text is there until this returns.
    unsafe { library.register(sid, entry.as_ptr().cast(), length, listen) }
}

fn event(library: &Library, sid: u32, phase: u8, method: u32, payload: &[u8]) {
    let message = FfiBuffer { sid, phase, method, ptr: payload.as_ptr(), len: payload.len() as u64 };
    // SAFETY: message and payload are there until this returns.
    unsafe { library.event(&raw const message) }
}

fn entries(library: &Library) -> Option<String> {
    let text = library.entries();
    // SAFETY: null, or a text that stays until `shutdown`.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_str().expect("JSON").to_owned())
}

#[derive(serde::Deserialize)]
struct Config {
    status: u16,
}

/// The status of the plugin whose end is counted.
const REPLACED: u16 = 404;

/// Ends with the status of its config.
fn plugin(config: Config) -> Result<Plugin> {
    static ENDED: AtomicU32 = AtomicU32::new(0);
    if config.status == 0 {
        return Err("a status of 0".into());
    }
    assert_ne!(config.status, 1, "a plugin that panics");
    Ok(Plugin::new()
        .request_filter_with_body("end", move |ctx| {
            ctx.response().set_status(config.status)?;
            ctx.end()
        })
        .logging("end", |_| ())
        .response_body_filter_by_chunk("chunks", |_| ())
        .request_filter("ended", |ctx| {
            ctx.request().set_header("x-ended", ENDED.load(Ordering::SeqCst).to_string())?;
            ctx.next()
        })
        .shutdown(move || {
            ENDED.fetch_add(u32::from(config.status == REPLACED), Ordering::SeqCst);
        }))
}

fn library() -> Library {
    Library::new(|config| construct(plugin, config))
}

const STATUS_404: (u32, &[u8]) = (method::SET_RESPONSE_STATUS, &[0x01, 0x94]);
const STATUS_410: (u32, &[u8]) = (method::SET_RESPONSE_STATUS, &[0x01, 0x9a]);
const END: (u32, &[u8]) = (method::END, b"");

fn owned(messages: &[(u32, &[u8])]) -> Vec<Message> {
    messages.iter().map(|(method, payload)| (*method, payload.to_vec())).collect()
}

#[test]
fn a_library_announces_what_it_has_once_it_is_initialized() {
    let library = library();
    assert_eq!(entries(&library), None);
    assert!(!register(&library, 1_000, b"end"));
    initialize(&library, r#"{"status": 200}"#);
    let announced: serde_json::Value =
        serde_json::from_str(&entries(&library).expect("entries")).expect("JSON");
    let expected = serde_json::json!([
        {"name": "chunks", "phases": ["response_body_filter"], "body": false, "stream": true},
        {"name": "end", "phases": ["request_filter", "logging"], "body": true, "stream": false},
        {"name": "ended", "phases": ["request_filter"], "body": false, "stream": false},
    ]);
    assert_eq!(announced, expected);
    library.shutdown();
    assert_eq!(entries(&library), None);
    assert!(!register(&library, 1_000, b"end"));
}

#[test]
fn a_library_that_cannot_be_initialized_has_no_entries() {
    for config in ["", "{", "[]", "{}", r#"{"status": 0}"#, r#"{"status": 1}"#] {
        let library = library();
        initialize(&library, config);
        assert_eq!(entries(&library), None, "{config}");
        assert!(!register(&library, 1_100, b"end"), "{config}");
    }
}

#[test]
fn an_entry_that_is_not_there_has_no_session() {
    let library = library();
    initialize(&library, r#"{"status": 200}"#);
    for entry in [b"nobody".as_slice(), b"", b"\xff"] {
        assert!(!register(&library, 1_200, entry));
    }
}

#[test]
fn open_sessions_keep_the_plugin_that_they_began_with() {
    let library = library();
    initialize(&library, r#"{"status": 404}"#);
    assert!(register(&library, 2_000, b"end"));
    initialize(&library, r#"{"status": 410}"#);
    assert!(register(&library, 2_001, b"end"));
    event(&library, 2_000, phase::REQUEST_FILTER, 0, b"");
    event(&library, 2_001, phase::REQUEST_FILTER, 0, b"");
    assert_eq!(said(2_000), owned(&[STATUS_404, END]));
    assert_eq!(said(2_001), owned(&[STATUS_410, END]));
    let ended = |sid: u32| {
        assert!(register(&library, sid, b"ended"));
        event(&library, sid, phase::REQUEST_FILTER, 0, b"");
        library.close(sid);
        let (_, header) = said(sid).swap_remove(0);
        let (_, value) = nylon_abi::fields::decode_field(&header).expect("a header");
        String::from_utf8(value.to_vec()).expect("text").parse::<u32>().expect("a number")
    };
    assert_eq!(ended(2_002), 0);
    library.close(2_000);
    assert_eq!(ended(2_003), 1, "the replaced plugin has ended with its last session");
    // A configuration that is refused changes nothing for those who are there.
    initialize(&library, r#"{"status": 0}"#);
    assert_eq!(entries(&library), None);
    event(&library, 2_001, phase::REQUEST_FILTER, 0, b"");
    assert_eq!(said(2_001), owned(&[STATUS_410, END]));
}

#[test]
fn messages_that_make_no_sense_do_nothing() {
    let library = library();
    initialize(&library, r#"{"status": 200}"#);
    assert!(register(&library, 3_000, b"end"));
    // SAFETY: null is allowed for.
    unsafe { library.event(ptr::null()) };
    event(&library, 3_999, phase::REQUEST_FILTER, 0, b"");
    event(&library, 3_999, phase::NONE, method::READ_REQUEST_PATH, b"/");
    event(&library, 3_000, phase::NONE, method::WEBSOCKET_ON_OPEN, b"");
    event(&library, 3_000, 9, 0, b"");
    library.close(3_999);
    assert_eq!(said(3_000), []);
    // A phase that nobody handles is passed, not kept waiting.
    event(&library, 3_000, phase::RESPONSE_FILTER, 0, b"");
    assert_eq!(said(3_000), owned(&[(method::NEXT, b"")]));
    library.close(3_000);
    event(&library, 3_000, phase::REQUEST_FILTER, 0, b"");
    assert_eq!(said(3_000), []);
}

#[test]
fn a_read_that_nobody_answers_is_an_error_where_nothing_may_wait() {
    let library = Library::new(|config| {
        construct(|| Plugin::new().request_filter("read", |ctx| ctx.request().path().map(drop)), config)
    });
    initialize(&library, "");
    assert!(register(&library, 4_000, b"read"));
    event(&library, 4_000, phase::REQUEST_FILTER, 0, b"");
    let said = said(4_000);
    assert_eq!(
        said.iter().map(|(method, _)| *method).collect::<Vec<_>>(),
        [method::READ_REQUEST_PATH, method::FAIL]
    );
}
