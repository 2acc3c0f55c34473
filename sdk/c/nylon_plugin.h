/* Writing a Nylon plugin in C: entries with handlers, and what a handler may ask and change.
 *
 * A plugin is a table of entries behind the macro NYLON_PLUGIN. Compile it together with the helper:
 *
 *     cc -std=c11 -O2 -fPIC -shared -fvisibility=hidden -pthread -Iinclude -Isdk/c my.c sdk/c/[a-z]*.c -o my.so
 *
 * A handler gets a context and must use it only until it returns (or, after nylon_defer, until nylon_done). What it reads
 * is valid for just as long. Texts end with a NUL; what is not there reads as an empty text, never as a null pointer. What it
 * changes counts when it has decided and returned: nylon_fail discards all of it, whatever was decided before.
 *
 * Functions that return bool return false when they were refused: the phase was given up meanwhile (its time is over, the
 * client left), the decision has been made already, or it makes no sense here; nylon_refusal says why. What the gateway
 * finds invalid (a header with a line break, a change that the phase does not allow) makes the phase fail.
 *
 * A context belongs to one thread at a time. Different contexts never wait for each other.
 */
#ifndef NYLON_PLUGIN_H
#define NYLON_PLUGIN_H

#ifndef NYLON_NO_PROTOTYPES
#define NYLON_NO_PROTOTYPES
#include "nylon.h"
#undef NYLON_NO_PROTOTYPES
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* One phase of one session. */
typedef struct nylon_ctx nylon_ctx;

/* Handles one phase. In request_filter it must decide, with nylon_next, nylon_end or a stream; in the other phases a plain
 * return goes on. */
typedef void nylon_handler(nylon_ctx *ctx);

/* A named set of handlers. */
typedef struct nylon_entry {
    const char *name;
    nylon_handler *request_filter;
    nylon_handler *response_filter;
    nylon_handler *response_body_filter;
    nylon_handler *logging;
    bool body;           /* read the request body before request_filter */
    bool stream;         /* call response_body_filter by chunk */
    size_t session_size; /* bytes that each session keeps from phase to phase, zero at first: nylon_session */
    bool (*open)(void *session);  /* called when a session begins; false makes its request fail */
    void (*close)(void *session); /* called when it is over, also when `open` returned false */
} nylon_entry;

/* Entries that are written in one place. */
typedef struct nylon_table {
    const nylon_entry *entries;
    size_t count;
} nylon_table;

/* What a library is. */
typedef struct nylon_plugin {
    const nylon_table *tables;
    size_t count;
    /* Gets the plugin's `config` as JSON, "" where there is none; again when a reload changes it and the library
     * stays. False: the plugin cannot work, and the gateway does not start with it. */
    bool (*initialize)(const char *config);
    /* No session is open and none will be opened: end your threads and wait for them. */
    void (*shutdown)(void);
} nylon_plugin;

/* Makes a library of arrays of entries: NYLON_PLUGIN(initialize, shutdown, NYLON_TABLE(entries)), with NULL for a function
 * that is not needed, and more tables behind the first. */
#define NYLON_PLUGIN(initialize, shutdown, ...)                                                                         \
    static const nylon_table nylon_these_tables[] = {__VA_ARGS__};                                                      \
    const nylon_plugin nylon_this_plugin = {                                                                            \
        nylon_these_tables, sizeof(nylon_these_tables) / sizeof(nylon_these_tables[0]), initialize, shutdown}
#define NYLON_TABLE(array) {array, sizeof(array) / sizeof((array)[0])}

extern const nylon_plugin nylon_this_plugin;

/* -- Deciding -- */

bool nylon_next(nylon_ctx *ctx); /* go on; a response drafted in request_filter is dropped */
bool nylon_end(nylon_ctx *ctx);  /* stop here and send the response */

/* The handler failed: the phase's policy decides, the text goes to the log, the client sees nothing of it. */
void nylon_fail(nylon_ctx *ctx, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Goes on after the handler has returned: the context is the caller's until nylon_done, from whichever thread. */
void nylon_defer(nylon_ctx *ctx);
void nylon_done(nylon_ctx *ctx);

/* Calls `then` once the request body is there, in request_filter of an entry that does not declare it; the handler's
 * other work is done when it returns. `then` decides in its place. */
bool nylon_await_body(nylon_ctx *ctx, nylon_handler *then);

/* Why a function returned false last, "" where none did. */
const char *nylon_refusal(const nylon_ctx *ctx);

/* Whether the phase was given up, so that nothing that happens here counts any more. */
bool nylon_given_up(const nylon_ctx *ctx);

/* What the session keeps from phase to phase, null where the entry's session_size is 0. */
void *nylon_session(const nylon_ctx *ctx);

/* Memory that lasts as long as the context. It is zero; null where there is none. */
void *nylon_allocate(nylon_ctx *ctx, size_t size);

/* -- Reading -- */

typedef struct nylon_bytes {
    const uint8_t *ptr; /* never null; a NUL follows the last byte */
    size_t len;
} nylon_bytes;

typedef struct nylon_header {
    const char *name;
    const char *value;
} nylon_header;

/* Names are in lower case. Of a name that occurs more than once there is one header with the values joined, except
 * set-cookie. */
typedef struct nylon_headers {
    const nylon_header *list;
    size_t count;
} nylon_headers;

const char *nylon_payload(nylon_ctx *ctx); /* JSON */
unsigned nylon_attempt(nylon_ctx *ctx);    /* 1 for the first try */
const char *nylon_request_id(nylon_ctx *ctx);
const char *nylon_method(nylon_ctx *ctx);
const char *nylon_url(nylon_ctx *ctx);
const char *nylon_path(nylon_ctx *ctx);  /* percent-encoded */
const char *nylon_query(nylon_ctx *ctx); /* without its question mark */
const char *nylon_params(nylon_ctx *ctx); /* of the route's path, a JSON object */
const char *nylon_host(nylon_ctx *ctx);
const char *nylon_scheme(nylon_ctx *ctx);
const char *nylon_http_version(nylon_ctx *ctx);
const char *nylon_client_ip(nylon_ctx *ctx);
uint64_t nylon_request_bytes(nylon_ctx *ctx);
uint64_t nylon_timestamp(nylon_ctx *ctx); /* milliseconds since 1970 */

/* A header's value, "" where it is missing; where that must be told from an empty one, look it up in the list. */
const char *nylon_request_header(nylon_ctx *ctx, const char *name);
nylon_headers nylon_request_headers(nylon_ctx *ctx);

/* In request_filter the entry has to declare `.body = true` (or to use nylon_await_body): else it is empty and refused. */
nylon_bytes nylon_request_body(nylon_ctx *ctx);

unsigned nylon_response_status(nylon_ctx *ctx);
uint64_t nylon_response_bytes(nylon_ctx *ctx);
bool nylon_response_duration(nylon_ctx *ctx, uint64_t *milliseconds); /* false before logging */
const char *nylon_response_error(nylon_ctx *ctx);                     /* why the exchange failed, else "" */
const char *nylon_response_header(nylon_ctx *ctx, const char *name);
nylon_headers nylon_response_headers(nylon_ctx *ctx);
nylon_bytes nylon_response_body(nylon_ctx *ctx); /* whole, in response_body_filter */

/* The chunk that a response_body_filter with `.stream = true` is called for, and whether it is the last one. */
nylon_bytes nylon_chunk(nylon_ctx *ctx, bool *last);

/* A header of a list, null where it is missing. */
const char *nylon_find_header(nylon_headers headers, const char *name);

/* -- Changing the request, in request_filter -- */

bool nylon_set_method(nylon_ctx *ctx, const char *method);
bool nylon_set_path(nylon_ctx *ctx, const char *path);
bool nylon_set_query(nylon_ctx *ctx, const char *query); /* "" removes it */
bool nylon_set_request_header(nylon_ctx *ctx, const char *name, const char *value);
bool nylon_add_request_header(nylon_ctx *ctx, const char *name, const char *value);
bool nylon_remove_request_header(nylon_ctx *ctx, const char *name);
bool nylon_set_request_body(nylon_ctx *ctx, const void *body, size_t len);

/* -- Changing the response: what request_filter ends with, later the service's -- */

bool nylon_set_status(nylon_ctx *ctx, unsigned status);
bool nylon_set_response_header(nylon_ctx *ctx, const char *name, const char *value);
bool nylon_add_response_header(nylon_ctx *ctx, const char *name, const char *value);
bool nylon_remove_response_header(nylon_ctx *ctx, const char *name);
bool nylon_set_response_body(nylon_ctx *ctx, const void *body, size_t len);

/* The same with the content type that belongs to it, unless the handler has chosen one. */
bool nylon_set_text(nylon_ctx *ctx, const char *text);
bool nylon_set_html(nylon_ctx *ctx, const char *html);
bool nylon_set_json(nylon_ctx *ctx, const char *json);

/* location and status; what a URL cannot have is percent-encoded. Codes are 301, 302, 303, 307 and 308. */
bool nylon_redirect(nylon_ctx *ctx, const char *url, unsigned code);

/* Replaces the chunk. */
bool nylon_set_chunk(nylon_ctx *ctx, const void *bytes, size_t len);

/* -- Streaming a response from request_filter -- */

/* Sends the head as it is now: this is an end, and what is written follows. */
bool nylon_stream(nylon_ctx *ctx);

/* Writes a part of the body. It waits while the client does not take more, so use it after nylon_defer, in a thread of
 * your own. Within a handler it never waits and may keep as much as limits.max_body_bytes allows. False: nobody reads any more. */
bool nylon_write(nylon_ctx *ctx, const void *bytes, size_t len);

/* The body is complete. A handler that is done without saying so has its response broken off. */
bool nylon_finish(nylon_ctx *ctx);

#ifdef __cplusplus
}
#endif

#endif
