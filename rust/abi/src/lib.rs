//! Nylon's C ABI as Rust types: the layout of a message and the numbers of phases and methods.
//!
//! Shared libraries built for this ABI exist, so nothing here may change its value or its place; numbers are only
//! added. The crate depends on nothing, so that a plugin written in Rust can use it too. The contract around these
//! numbers is docs/native-abi.md.

/// Headers as they travel.
pub mod fields;

/// The newest version of the ABI, which a library may return from `nylon_abi_version`. One without that symbol is of
/// version 1; a gateway takes both.
pub const VERSION: u32 = 2;

/// One message between gateway and library, either way.
///
/// The bytes behind `ptr` belong to whoever made the message and are valid only until the call that carries it
/// returns: the receiver copies what it keeps. Integers are in the machine's byte order.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct FfiBuffer {
    /// The session.
    pub sid: u32,
    /// The phase that starts; in a call of the library that of its handler, or 0.
    pub phase: u8,
    /// What is asked or answered: see [`method`].
    pub method: u32,
    /// The payload; null where `len` is 0.
    pub ptr: *const u8,
    /// Bytes behind `ptr`.
    pub len: u64,
}

/// Phase numbers.
pub mod phase {
    /// No phase: an answer or an event.
    pub const NONE: u8 = 0;
    /// `request_filter`.
    pub const REQUEST_FILTER: u8 = 1;
    /// `response_filter`.
    pub const RESPONSE_FILTER: u8 = 2;
    /// `response_body_filter`.
    pub const RESPONSE_BODY_FILTER: u8 = 3;
    /// `logging`.
    pub const LOGGING: u8 = 4;
}

/// Method numbers.
pub mod method {
    /// Go on.
    pub const NEXT: u32 = 1;
    /// Stop here and send the response.
    pub const END: u32 = 2;
    /// Ask for the middleware's payload.
    pub const GET_PAYLOAD: u32 = 3;
    /// The handler failed; the payload is the text for the log. Since version 2.
    pub const FAIL: u32 = 4;

    /// Set a response header.
    pub const SET_RESPONSE_HEADER: u32 = 100;
    /// Remove a response header.
    pub const REMOVE_RESPONSE_HEADER: u32 = 101;
    /// Set the response's status: a big-endian `u16`.
    pub const SET_RESPONSE_STATUS: u32 = 102;
    /// Set the response's body.
    pub const SET_RESPONSE_FULL_BODY: u32 = 103;
    /// One piece of a streamed response body.
    pub const SET_RESPONSE_STREAM_DATA: u32 = 104;
    /// The end of a streamed response body.
    pub const SET_RESPONSE_STREAM_END: u32 = 105;
    /// Send the head: a stream follows.
    pub const SET_RESPONSE_STREAM_HEADER: u32 = 106;
    /// Ask for the response's body.
    pub const READ_RESPONSE_FULL_BODY: u32 = 107;
    /// Ask for the response's status.
    pub const READ_RESPONSE_STATUS: u32 = 108;
    /// Ask for the bytes sent.
    pub const READ_RESPONSE_BYTES: u32 = 109;
    /// Ask for the response's headers.
    pub const READ_RESPONSE_HEADERS: u32 = 110;
    /// Ask how long the exchange took.
    pub const READ_RESPONSE_DURATION: u32 = 111;
    /// Ask why the exchange failed.
    pub const READ_RESPONSE_ERROR: u32 = 112;
    /// Add a value to a response header. Since version 2.
    pub const ADD_RESPONSE_HEADER: u32 = 113;
    /// Ask for one response header. Since version 2.
    pub const READ_RESPONSE_HEADER: u32 = 114;
    /// Ask for the chunk that a streaming `response_body_filter` is called for. Since version 2.
    pub const READ_RESPONSE_CHUNK: u32 = 115;
    /// Replace that chunk. Since version 2.
    pub const SET_RESPONSE_CHUNK: u32 = 116;

    /// Ask for the request's body.
    pub const READ_REQUEST_FULL_BODY: u32 = 200;
    /// Ask for one request header.
    pub const READ_REQUEST_HEADER: u32 = 201;
    /// Ask for all request headers.
    pub const READ_REQUEST_HEADERS: u32 = 202;
    /// Ask for the URL.
    pub const READ_REQUEST_URL: u32 = 203;
    /// Ask for the path.
    pub const READ_REQUEST_PATH: u32 = 204;
    /// Ask for the query.
    pub const READ_REQUEST_QUERY: u32 = 205;
    /// Ask for the path's parameters, as JSON.
    pub const READ_REQUEST_PARAMS: u32 = 206;
    /// Ask for the host.
    pub const READ_REQUEST_HOST: u32 = 207;
    /// Ask for the client's address.
    pub const READ_REQUEST_CLIENT_IP: u32 = 208;
    /// Ask for the method.
    pub const READ_REQUEST_METHOD: u32 = 209;
    /// Ask for the bytes received.
    pub const READ_REQUEST_BYTES: u32 = 210;
    /// Ask when the request came.
    pub const READ_REQUEST_TIMESTAMP: u32 = 211;
    /// Ask for the request id, in hexadecimal. Since version 2.
    pub const READ_REQUEST_ID: u32 = 212;
    /// Ask for the scheme, `http` or `https`. Since version 2.
    pub const READ_REQUEST_SCHEME: u32 = 213;
    /// Ask for the version of HTTP, such as `1.1`. Since version 2.
    pub const READ_REQUEST_HTTP_VERSION: u32 = 214;
    /// Ask how often this call has been tried, from 1. Since version 2.
    pub const READ_ATTEMPT: u32 = 215;
    /// Replace the request's method. Since version 2.
    pub const SET_REQUEST_METHOD: u32 = 220;
    /// Replace the request's path. Since version 2.
    pub const SET_REQUEST_PATH: u32 = 221;
    /// Replace the request's query; empty removes it. Since version 2.
    pub const SET_REQUEST_QUERY: u32 = 222;
    /// Set a request header. Since version 2.
    pub const SET_REQUEST_HEADER: u32 = 223;
    /// Add a value to a request header. Since version 2.
    pub const ADD_REQUEST_HEADER: u32 = 224;
    /// Remove a request header. Since version 2.
    pub const REMOVE_REQUEST_HEADER: u32 = 225;
    /// Replace the request's body. Since version 2.
    pub const SET_REQUEST_BODY: u32 = 226;

    /// Upgrade the exchange to a WebSocket.
    pub const WEBSOCKET_UPGRADE: u32 = 300;
    /// Send a text message.
    pub const WEBSOCKET_SEND_TEXT: u32 = 301;
    /// Send a binary message.
    pub const WEBSOCKET_SEND_BINARY: u32 = 302;
    /// Close the WebSocket.
    pub const WEBSOCKET_CLOSE: u32 = 303;
    /// Join a room.
    pub const WEBSOCKET_JOIN_ROOM: u32 = 310;
    /// Leave a room.
    pub const WEBSOCKET_LEAVE_ROOM: u32 = 311;
    /// Send text to a room: `room\0payload`.
    pub const WEBSOCKET_BROADCAST_TEXT: u32 = 312;
    /// Send binary to a room: `room\0payload`.
    pub const WEBSOCKET_BROADCAST_BINARY: u32 = 313;
    /// Event: the WebSocket is open.
    pub const WEBSOCKET_ON_OPEN: u32 = 350;
    /// Event: a text message.
    pub const WEBSOCKET_ON_TEXT: u32 = 351;
    /// Event: a binary message.
    pub const WEBSOCKET_ON_BINARY: u32 = 352;
    /// Event: the WebSocket is closed.
    pub const WEBSOCKET_ON_CLOSE: u32 = 353;
    /// Event: the WebSocket failed.
    pub const WEBSOCKET_ON_ERROR: u32 = 354;
}

#[cfg(test)]
mod tests {
    use super::FfiBuffer;
    use std::mem::{align_of, offset_of, size_of};

    #[test]
    fn the_message_has_the_layout_that_existing_libraries_expect() {
        assert_eq!((size_of::<FfiBuffer>(), align_of::<FfiBuffer>()), (32, 8));
        assert_eq!(offset_of!(FfiBuffer, sid), 0);
        assert_eq!(offset_of!(FfiBuffer, phase), 4);
        assert_eq!(offset_of!(FfiBuffer, method), 8);
        assert_eq!(offset_of!(FfiBuffer, ptr), 16);
        assert_eq!(offset_of!(FfiBuffer, len), 24);
    }
}
