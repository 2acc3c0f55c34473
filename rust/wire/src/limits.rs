//! The limits of a frame and its parts. Encoder and decoder apply the same ones, so a peer never sends what the
//! other refuses.

/// Bytes of a whole frame: the largest `max_payload` that a NATS server takes.
pub const MAX_FRAME: usize = 64 * 1024 * 1024;
/// Bytes of a body that travel with a call that may not need it; a larger one is sent when it is asked for.
pub const INLINE_BODY: usize = 256 * 1024;
/// Bytes of one part of a body that travels in parts.
pub const MAX_PART: usize = 128 * 1024;
/// Parts of one body that are on their way at once: 1 MiB.
pub const WINDOW: u64 = 8;
/// Bytes of `ctx.state`.
pub const MAX_STATE: usize = 64 * 1024;
/// Bytes of a middleware's payload.
pub const MAX_PAYLOAD: usize = 1024 * 1024;
/// Fields in a head.
pub const MAX_HEADERS: usize = 4096;
/// Captures of a path pattern.
pub const MAX_PARAMS: usize = 256;
/// Mutations in a reply.
pub const MAX_OPS: usize = 4096;
/// Entries that a worker announces.
pub const MAX_ENTRIES: usize = 1024;
/// Bytes of a plugin's, entry's, worker's or group's name.
pub const MAX_NAME: usize = 256;
/// Bytes of an error's text; a longer one is cut when it is sent.
pub const MAX_MESSAGE: usize = 16 * 1024;
/// Bytes of a `traceparent`.
pub const MAX_TRACEPARENT: usize = 512;
