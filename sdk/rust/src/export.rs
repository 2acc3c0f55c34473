//! From a plugin to a library.

pub use crate::library::{Library, construct};
pub use crate::loaded::{Construct, Constructed};
pub use nylon_abi::{FfiBuffer, VERSION};

/// Exports a plugin: the symbols that the gateway looks for in a library.
///
/// It takes the function that makes the plugin. The gateway calls it when it loads the library, and again where a reload
/// changes the plugin's `config`: sessions that are open keep the plugin that they began with. The function may take the
/// config, as any type that serde can make of it, and may fail:
///
/// ```no_run
/// use nylon_plugin::{Plugin, Result, export_plugin};
///
/// #[derive(serde::Deserialize)]
/// struct Config {
///     key: String,
/// }
///
/// fn plugin(config: Config) -> Result<Plugin> {
///     if config.key.is_empty() {
///         return Err("the key is empty".into());
///     }
///     Ok(Plugin::new().request_filter("auth", move |ctx| {
///         if ctx.request().header("x-api-key")?.is_none_or(|key| key != config.key) {
///             ctx.response().set_status(401)?;
///             return ctx.end();
///         }
///         ctx.next()
///     }))
/// }
///
/// export_plugin!(plugin);
/// # fn main() {}
/// ```
///
/// Without a config, `fn plugin() -> Plugin` is enough. Use it once, in a crate whose `crate-type` is `cdylib`. In the
/// crate's own tests it exports nothing, since a test program has a `shutdown` already: that of its sockets.
#[macro_export]
macro_rules! export_plugin {
    ($plugin:expr) => {
        const _: () = {
            #[cfg(panic = "abort")]
            compile_error!("a plugin must be built with panic = \"unwind\": a panic would end the gateway");

            fn build(config: &[u8]) -> $crate::Result<$crate::Plugin> {
                $crate::export::construct($plugin, config)
            }

            #[cfg_attr(test, expect(dead_code, reason = "tests export nothing"))]
            static LIBRARY: $crate::export::Library = $crate::export::Library::new(build);

            $crate::__exported_functions!();
        };
    };
}

/// The exported functions, beside a static `LIBRARY`.
#[doc(hidden)]
#[macro_export]
macro_rules! __exported_functions {
    () => {
        #[cfg(not(test))]
        #[unsafe(no_mangle)]
        extern "C" fn nylon_abi_version() -> u32 {
            $crate::export::VERSION
        }

        #[cfg(not(test))]
        #[unsafe(no_mangle)]
        extern "C" fn nylon_entries() -> *const ::std::ffi::c_char {
            LIBRARY.entries()
        }

        #[cfg(not(test))]
        #[unsafe(no_mangle)]
        unsafe extern "C" fn initialize(config: *const ::std::ffi::c_char, len: ::std::ffi::c_int) {
            // SAFETY: the gateway passes as many bytes as it says.
            unsafe { LIBRARY.initialize(config, len) }
        }

        #[cfg(not(test))]
        #[unsafe(no_mangle)]
        unsafe extern "C" fn register_session_stream(
            sid: u32,
            entry: *const ::std::ffi::c_char,
            len: u32,
            callback: unsafe extern "C" fn(*const $crate::export::FfiBuffer),
        ) -> bool {
            // SAFETY: the gateway passes as many bytes as it says, and its own callback.
            unsafe { LIBRARY.register(sid, entry, len, callback) }
        }

        #[cfg(not(test))]
        #[unsafe(no_mangle)]
        unsafe extern "C" fn event_stream(message: *const $crate::export::FfiBuffer) {
            // SAFETY: the gateway passes a message whose payload is there until this returns.
            unsafe { LIBRARY.event(message) }
        }

        #[cfg(not(test))]
        #[unsafe(no_mangle)]
        extern "C" fn close_session_stream(sid: u32) {
            LIBRARY.close(sid)
        }

        /// Nothing: what goes to the callback is the plugin's own and freed by it, whatever `callback_memory` in the
        /// configuration says.
        #[cfg(not(test))]
        #[unsafe(no_mangle)]
        extern "C" fn plugin_free(_memory: *const u8) {}

        #[cfg(not(test))]
        #[unsafe(no_mangle)]
        extern "C" fn shutdown() {
            LIBRARY.shutdown()
        }
    };
}
