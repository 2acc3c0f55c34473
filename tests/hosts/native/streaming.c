/* Entries that write their response while it is on its way: ../entries/streaming.py. */
#define _POSIX_C_SOURCE 200809L
#include "entries.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { PIECE = 10000, KEYS = 64 };

static const char zeros[PIECE];

static bool write_text(nylon_ctx *ctx, const char *text) { return nylon_write(ctx, text, strlen(text)); }

static size_t asked_size(nylon_ctx *ctx) { return strtoull(nylon_query(ctx), NULL, 10); }

static void write_pieces(nylon_ctx *ctx) {
    size_t size = asked_size(ctx);
    const uint8_t *body = content(ctx, size);
    nylon_stream(ctx);
    for (size_t at = 0; body && at < size; at += PIECE)
        if (!nylon_write(ctx, body + at, size - at < PIECE ? size - at : PIECE)) break;
    nylon_finish(ctx);
}

static void stream_blocking(nylon_ctx *ctx) {
    nylon_set_status(ctx, 201);
    nylon_set_response_header(ctx, "x-mode", "blocking");
    aside(ctx, write_pieces);
}

static void stream_awaited(nylon_ctx *ctx) {
    nylon_set_status(ctx, 201);
    nylon_set_response_header(ctx, "x-mode", "awaited");
    aside(ctx, write_pieces);
}

static void write_at_once(nylon_ctx *ctx) {
    size_t size = asked_size(ctx);
    const uint8_t *body = content(ctx, size);
    nylon_stream(ctx);
    if (body) nylon_write(ctx, body, size);
    nylon_finish(ctx);
}

static void stream_at_once(nylon_ctx *ctx) { aside(ctx, write_at_once); }

static void stream_small(nylon_ctx *ctx) {
    nylon_set_response_header(ctx, "content-length", "1");
    nylon_set_text(ctx, "what the stream takes the place of");
    nylon_stream(ctx);
    write_text(ctx, "caf\xc3\xa9 ");
    write_text(ctx, "au lait");
    nylon_finish(ctx);
}

static void stream_inline_large(nylon_ctx *ctx) {
    nylon_stream(ctx);
    for (int i = 0; i < 300; i++) nylon_write(ctx, zeros, PIECE);
    nylon_finish(ctx);
}

static void write_at_gate(nylon_ctx *ctx) {
    nylon_stream(ctx);
    write_text(ctx, "before");
    wait_at_gate(ctx);
    write_text(ctx, "after");
    nylon_finish(ctx);
}

static void stream_at_gate(nylon_ctx *ctx) { aside(ctx, write_at_gate); }

static void write_and_raise(nylon_ctx *ctx) {
    nylon_stream(ctx);
    write_text(ctx, "good");
    wait_at_gate(ctx);
    nylon_fail(ctx, "in the middle");
}

static void stream_raise(nylon_ctx *ctx) { aside(ctx, write_and_raise); }

static void raise_before_writing(nylon_ctx *ctx) {
    nylon_stream(ctx);
    nylon_fail(ctx, "before the first byte");
}

static void stream_raise_at_once(nylon_ctx *ctx) { aside(ctx, raise_before_writing); }

static void write_without_end(nylon_ctx *ctx) {
    nylon_stream(ctx);
    write_text(ctx, "all that there is");
}

static void stream_unended(nylon_ctx *ctx) { aside(ctx, write_without_end); }

static void write_and_idle(nylon_ctx *ctx) {
    nylon_stream(ctx);
    write_text(ctx, "good");
    sleep_until_given_up(ctx);
}

static void stream_idle(nylon_ctx *ctx) { aside(ctx, write_and_idle); }

struct facts {
    const char *from;
};

static void facts_request(nylon_ctx *ctx) {
    ((struct facts *)nylon_session(ctx))->from = "request_filter";
    aside(ctx, write_pieces);
}

static void facts_head(nylon_ctx *ctx) {
    nylon_set_response_header(ctx, "x-state", ((struct facts *)nylon_session(ctx))->from);
}

static void tell_stream_facts(nylon_ctx *ctx) {
    memory json;
    if (!memory_open(&json)) return;
    fprintf(json.out, "[%u,%llu,", nylon_response_status(ctx), (unsigned long long)nylon_response_bytes(ctx));
    const char *error = nylon_response_error(ctx);
    if (*error) {
        put_json(json.out, error);
    } else {
        fputs("null", json.out);
    }
    fputc(',', json.out);
    put_json(json.out, ((struct facts *)nylon_session(ctx))->from);
    fputc(']', json.out);
    tell(ctx, memory_close(ctx, &json));
}

static void facts_log(nylon_ctx *ctx) { aside(ctx, tell_stream_facts); }

static void write_to_nobody(nylon_ctx *ctx) {
    struct origin origin = origin_of(ctx);
    nylon_stream(ctx);
    while (nylon_write(ctx, zeros, PIECE)) continue;
    memory json;
    if (!memory_open(&json)) return;
    put_json(json.out, nylon_refusal(ctx));
    tell_origin(origin, memory_close(ctx, &json));
}

static void stream_empty(nylon_ctx *ctx) {
    const char *status = nylon_query(ctx);
    nylon_set_status(ctx, *status ? (unsigned)atoi(status) : 200);
    aside(ctx, write_to_nobody);
}

/* How much the handlers that never end have written, by key. */
static struct {
    char key[128];
    size_t written;
} running[KEYS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* The place of a key, or of no key: one that is free; `KEYS` where there is none. */
static size_t place_of(const char *key) {
    size_t at = 0;
    while (at < KEYS && strcmp(running[at].key, key) != 0) at++;
    return at;
}

static size_t progress(const char *key) {
    pthread_mutex_lock(&lock);
    size_t at = place_of(key), written = at < KEYS ? running[at].written : 0;
    pthread_mutex_unlock(&lock);
    return written;
}

static void note_written(const char *key, size_t more) {
    pthread_mutex_lock(&lock);
    size_t at = place_of(key);
    if (at == KEYS && (at = place_of("")) < KEYS) snprintf(running[at].key, sizeof running[at].key, "%s", key);
    if (at < KEYS) running[at].written += more;
    pthread_mutex_unlock(&lock);
}

static void forget_written(const char *key) {
    pthread_mutex_lock(&lock);
    size_t at = place_of(key);
    if (at < KEYS) memset(&running[at], 0, sizeof running[at]);
    pthread_mutex_unlock(&lock);
}

static void write_for_ever(nylon_ctx *ctx) {
    struct origin origin = origin_of(ctx);
    nylon_stream(ctx);
    do note_written(origin.key, PIECE);
    while (nylon_write(ctx, zeros, PIECE));
    tell_origin(origin, text_of(ctx, "[\"StreamClosed\",%zu]", progress(origin.key)));
    forget_written(origin.key);
}

static void stream_for_ever(nylon_ctx *ctx) { aside(ctx, write_for_ever); }

static void stream_progress(nylon_ctx *ctx) {
    const char *key = json_text(ctx, nylon_params(ctx), "rest");
    nylon_set_json(ctx, text_of(ctx, "%zu", progress(key)));
    nylon_end(ctx);
}

const nylon_entry streaming[] = {
    {.name = "stream-blocking", .request_filter = stream_blocking},
    {.name = "stream-awaited", .request_filter = stream_awaited},
    {.name = "stream-at-once", .request_filter = stream_at_once},
    {.name = "stream-small", .request_filter = stream_small},
    {.name = "stream-inline-large", .request_filter = stream_inline_large},
    {.name = "stream-at-gate", .request_filter = stream_at_gate},
    {.name = "stream-raise", .request_filter = stream_raise},
    {.name = "stream-raise-at-once", .request_filter = stream_raise_at_once},
    {.name = "stream-unended", .request_filter = stream_unended},
    {.name = "stream-idle", .request_filter = stream_idle},
    {.name = "stream-facts",
     .request_filter = facts_request,
     .response_filter = facts_head,
     .logging = facts_log,
     .session_size = sizeof(struct facts)},
    {.name = "stream-empty", .request_filter = stream_empty},
    {.name = "stream-for-ever", .request_filter = stream_for_ever},
    {.name = "stream-for-ever-awaited", .request_filter = stream_for_ever},
    {.name = "stream-progress", .request_filter = stream_progress},
};
