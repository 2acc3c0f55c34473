/* Nylon's C ABI: what a shared library exports, and what it may ask of the gateway that loaded it.
 *
 * docs/native-abi.md is the contract: who owns which memory, which thread runs what, what may be called when. This
 * header has its types and numbers, for C11 and for C++11 and later. It needs nothing else; with the helper in sdk/c one
 * seldom needs it directly. A test holds it against the gateway's own source, number by number and offset by offset.
 */
#ifndef NYLON_H
#define NYLON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The newest version of the ABI, for `nylon_abi_version`. */
#define NYLON_ABI_VERSION 2

/* One message between gateway and library, either way. The payload belongs to whoever made the message and is valid only
 * until the call that carries it returns. */
typedef struct nylon_message {
    uint32_t sid;       /* the session */
    uint8_t phase;      /* the phase that starts, or (in a call, optional) that of the handler: enum nylon_phase_number */
    uint32_t method;    /* what is asked, answered or done: enum nylon_method_number */
    const uint8_t *ptr; /* the payload, null where len is 0 */
    uint64_t len;       /* bytes behind ptr */
} nylon_message;

/* How a library speaks to the gateway: one function for all its sessions, from any thread. */
typedef void (*nylon_callback)(const nylon_message *message);

enum nylon_phase_number {
    NYLON_PHASE_NONE = 0, /* an answer or an event */
    NYLON_PHASE_REQUEST_FILTER = 1,
    NYLON_PHASE_RESPONSE_FILTER = 2,
    NYLON_PHASE_RESPONSE_BODY_FILTER = 3,
    NYLON_PHASE_LOGGING = 4
};

/* What a message asks, answers or does. The comment says what the payload of the call is, and after an arrow the answer.
 * Numbers in payloads are decimal text unless said otherwise; (2) marks what came with version 2. */
enum nylon_method_number {
    NYLON_METHOD_NEXT = 1,        /* go on */
    NYLON_METHOD_END = 2,         /* stop here and send the response */
    NYLON_METHOD_GET_PAYLOAD = 3, /* -> the middleware's payload as JSON */
    NYLON_METHOD_FAIL = 4,        /* text for the log: the handler failed (2) */

    NYLON_METHOD_SET_RESPONSE_HEADER = 100,        /* HeaderKeyValue */
    NYLON_METHOD_REMOVE_RESPONSE_HEADER = 101,     /* name */
    NYLON_METHOD_SET_RESPONSE_STATUS = 102,        /* two bytes, the high one first */
    NYLON_METHOD_SET_RESPONSE_FULL_BODY = 103,     /* body */
    NYLON_METHOD_SET_RESPONSE_STREAM_DATA = 104,   /* part of the body */
    NYLON_METHOD_SET_RESPONSE_STREAM_END = 105,    /* the body is complete; ends the phase */
    NYLON_METHOD_SET_RESPONSE_STREAM_HEADER = 106, /* send the head: a body follows */
    NYLON_METHOD_READ_RESPONSE_FULL_BODY = 107,    /* -> body */
    NYLON_METHOD_READ_RESPONSE_STATUS = 108,       /* -> number */
    NYLON_METHOD_READ_RESPONSE_BYTES = 109,        /* -> number */
    NYLON_METHOD_READ_RESPONSE_HEADERS = 110,      /* -> NylonHttpHeaders */
    NYLON_METHOD_READ_RESPONSE_DURATION = 111,     /* -> milliseconds */
    NYLON_METHOD_READ_RESPONSE_ERROR = 112,        /* -> text */
    NYLON_METHOD_ADD_RESPONSE_HEADER = 113,        /* HeaderKeyValue (2) */
    NYLON_METHOD_READ_RESPONSE_HEADER = 114,       /* name -> value (2) */
    NYLON_METHOD_READ_RESPONSE_CHUNK = 115,        /* -> one byte, 1 for the last chunk, then its bytes (2) */
    NYLON_METHOD_SET_RESPONSE_CHUNK = 116,         /* bytes (2) */

    NYLON_METHOD_READ_REQUEST_FULL_BODY = 200,    /* -> body */
    NYLON_METHOD_READ_REQUEST_HEADER = 201,       /* name -> value */
    NYLON_METHOD_READ_REQUEST_HEADERS = 202,      /* -> NylonHttpHeaders */
    NYLON_METHOD_READ_REQUEST_URL = 203,          /* -> scheme, host, path and query */
    NYLON_METHOD_READ_REQUEST_PATH = 204,         /* -> text */
    NYLON_METHOD_READ_REQUEST_QUERY = 205,        /* -> text */
    NYLON_METHOD_READ_REQUEST_PARAMS = 206,       /* -> JSON object */
    NYLON_METHOD_READ_REQUEST_HOST = 207,         /* -> text */
    NYLON_METHOD_READ_REQUEST_CLIENT_IP = 208,    /* -> text */
    NYLON_METHOD_READ_REQUEST_METHOD = 209,       /* -> text */
    NYLON_METHOD_READ_REQUEST_BYTES = 210,        /* -> number */
    NYLON_METHOD_READ_REQUEST_TIMESTAMP = 211,    /* -> milliseconds since 1970 */
    NYLON_METHOD_READ_REQUEST_ID = 212,           /* -> hexadecimal (2) */
    NYLON_METHOD_READ_REQUEST_SCHEME = 213,       /* -> http or https (2) */
    NYLON_METHOD_READ_REQUEST_HTTP_VERSION = 214, /* -> such as 1.1 (2) */
    NYLON_METHOD_READ_ATTEMPT = 215,              /* -> number, from 1 (2) */
    NYLON_METHOD_SET_REQUEST_METHOD = 220,        /* text (2) */
    NYLON_METHOD_SET_REQUEST_PATH = 221,          /* text (2) */
    NYLON_METHOD_SET_REQUEST_QUERY = 222,         /* text; empty removes it (2) */
    NYLON_METHOD_SET_REQUEST_HEADER = 223,        /* HeaderKeyValue (2) */
    NYLON_METHOD_ADD_REQUEST_HEADER = 224,        /* HeaderKeyValue (2) */
    NYLON_METHOD_REMOVE_REQUEST_HEADER = 225,     /* name (2) */
    NYLON_METHOD_SET_REQUEST_BODY = 226,          /* body (2) */

    /* WebSocket: not available yet. */
    NYLON_METHOD_WEBSOCKET_UPGRADE = 300,
    NYLON_METHOD_WEBSOCKET_SEND_TEXT = 301,
    NYLON_METHOD_WEBSOCKET_SEND_BINARY = 302,
    NYLON_METHOD_WEBSOCKET_CLOSE = 303,
    NYLON_METHOD_WEBSOCKET_JOIN_ROOM = 310,
    NYLON_METHOD_WEBSOCKET_LEAVE_ROOM = 311,
    NYLON_METHOD_WEBSOCKET_BROADCAST_TEXT = 312,
    NYLON_METHOD_WEBSOCKET_BROADCAST_BINARY = 313,
    NYLON_METHOD_WEBSOCKET_ON_OPEN = 350,
    NYLON_METHOD_WEBSOCKET_ON_TEXT = 351,
    NYLON_METHOD_WEBSOCKET_ON_BINARY = 352,
    NYLON_METHOD_WEBSOCKET_ON_CLOSE = 353,
    NYLON_METHOD_WEBSOCKET_ON_ERROR = 354
};

/* Puts a function where the gateway finds it, also with -fvisibility=hidden. */
#define NYLON_EXPORT __attribute__((visibility("default")))

/* The symbol of a function that has another name in C. */
#define NYLON_SYMBOL(name) __asm__(NYLON_TEXT_OF(__USER_LABEL_PREFIX__) name)
#define NYLON_TEXT_OF(token) NYLON_TEXT(token)
#define NYLON_TEXT(token) #token

#ifdef __cplusplus
#define NYLON_STATIC_ASSERT static_assert
#else
#define NYLON_STATIC_ASSERT _Static_assert
#endif

/* The layout that existing libraries have. */
NYLON_STATIC_ASSERT(sizeof(void *) == 8, "Nylon's C ABI is for 64-bit machines");
NYLON_STATIC_ASSERT(sizeof(nylon_message) == 32, "a message has 32 bytes");
NYLON_STATIC_ASSERT(offsetof(nylon_message, method) == 8, "the method stands at 8");
NYLON_STATIC_ASSERT(offsetof(nylon_message, ptr) == 16, "the pointer stands at 16");
NYLON_STATIC_ASSERT(offsetof(nylon_message, len) == 24, "the length stands at 24");

#endif

/* What a library exports. With NYLON_NO_PROTOTYPES defined they are left out, as the helper does for those who write
 * handlers and may call a function of their own `initialize`. */
#if !defined(NYLON_NO_PROTOTYPES) && !defined(NYLON_PROTOTYPES)
#define NYLON_PROTOTYPES

#ifdef __cplusplus
extern "C" {
#endif

/* Once after the library was loaded; again when a reload changes the `config` of a library that stays: JSON of `len`
 * bytes without a NUL, none where the configuration gives none. */
NYLON_EXPORT void initialize(const char *config, int len);

/* Opens a session for an entry, whose name has `len` bytes and no NUL. False: there is no such entry. */
NYLON_EXPORT bool register_session_stream(uint32_t sid, const char *entry, uint32_t len, nylon_callback callback);

/* A phase starts, or a read is answered. */
NYLON_EXPORT void event_stream(const nylon_message *message);

/* The session is over. */
NYLON_EXPORT void close_session_stream(uint32_t sid);

/* Frees what the library handed over, where `callback_memory: host` says that the gateway does. */
NYLON_EXPORT void plugin_free(const uint8_t *ptr);

/* The plugin stops: no session is open, none will be opened. The symbol is `shutdown`; it has another name here because
 * <sys/socket.h> declares that one. A library that exports it cannot call the socket function of that name. */
NYLON_EXPORT void nylon_shutdown(void) NYLON_SYMBOL("shutdown");

/* The version that the library is built for (2, optional). */
NYLON_EXPORT uint32_t nylon_abi_version(void);

/* What the library has, as JSON with a NUL at its end; null where it could not initialize (2, optional). */
NYLON_EXPORT const char *nylon_entries(void);

#ifdef __cplusplus
}
#endif

#endif
