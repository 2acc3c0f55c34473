/* Entries that filter bodies: ../entries/bodies.py. */
#define _GNU_SOURCE /* memmem */
#include "entries.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* The bytes in capitals, and a mark behind them. */
static nylon_bytes louder(nylon_ctx *ctx, nylon_bytes bytes, bool mark) {
    uint8_t *copy = nylon_allocate(ctx, bytes.len + 1);
    if (!copy) return bytes;
    for (size_t i = 0; i < bytes.len; i++) copy[i] = (uint8_t)toupper(bytes.ptr[i]);
    if (mark) copy[bytes.len] = '!';
    return (nylon_bytes){copy, bytes.len + mark};
}

static uint8_t *reversed(nylon_ctx *ctx, nylon_bytes bytes) {
    uint8_t *copy = nylon_allocate(ctx, bytes.len + 1);
    for (size_t i = 0; copy && i < bytes.len; i++) copy[i] = bytes.ptr[bytes.len - 1 - i];
    return copy;
}

static void whole(nylon_ctx *ctx) {
    nylon_bytes body = louder(ctx, nylon_response_body(ctx), true);
    nylon_set_response_body(ctx, body.ptr, body.len);
    nylon_set_response_header(ctx, "x-whole", "1");
}

static void whole_untouched(nylon_ctx *ctx) { nylon_response_body(ctx); }

static void whole_emptied(nylon_ctx *ctx) { nylon_set_response_body(ctx, "", 0); }

static void by_chunk(nylon_ctx *ctx) {
    bool last;
    nylon_bytes chunk = nylon_chunk(ctx, &last);
    chunk = louder(ctx, chunk, last);
    nylon_set_chunk(ctx, chunk.ptr, chunk.len);
}

struct counted {
    size_t *sizes;
    size_t count;
};

static void forget_sizes(void *session) { free(((struct counted *)session)->sizes); }

static void tell_sizes(nylon_ctx *ctx) {
    struct counted *counted = nylon_session(ctx);
    memory json;
    if (!memory_open(&json)) return;
    for (size_t i = 0; i < counted->count; i++) fprintf(json.out, "%c%zu", i ? ',' : '[', counted->sizes[i]);
    fputc(']', json.out);
    tell(ctx, memory_close(ctx, &json));
}

static void count_chunk(nylon_ctx *ctx) {
    struct counted *counted = nylon_session(ctx);
    size_t *sizes = realloc(counted->sizes, (counted->count + 1) * sizeof *sizes);
    if (!sizes) {
        nylon_fail(ctx, "there is no memory");
        return;
    }
    bool last;
    counted->sizes = sizes;
    sizes[counted->count++] = nylon_chunk(ctx, &last).len;
    if (last) aside(ctx, tell_sizes);
}

static void raise_on_bad(nylon_ctx *ctx) {
    bool last;
    nylon_bytes chunk = nylon_chunk(ctx, &last);
    if (memmem(chunk.ptr, chunk.len, "bad", 3)) nylon_fail(ctx, "a bad chunk");
}

static void swallow(nylon_ctx *ctx) { nylon_set_chunk(ctx, "", 0); }

static void touch(nylon_ctx *ctx) { nylon_set_response_header(ctx, "x-touched", "1"); }

static void mirror_body(nylon_ctx *ctx) {
    nylon_bytes body = nylon_request_body(ctx);
    const uint8_t *mirrored = reversed(ctx, body);
    if (mirrored) nylon_set_request_body(ctx, mirrored, body.len);
    nylon_next(ctx);
}

static void mirror_body_awaited(nylon_ctx *ctx) { nylon_await_body(ctx, mirror_body); }

static void answer_content(nylon_ctx *ctx) {
    size_t size = strtoull(nylon_query(ctx), NULL, 10);
    nylon_set_response_body(ctx, content(ctx, size), size);
    nylon_end(ctx);
}

static void digest_answer(nylon_ctx *ctx) {
    nylon_bytes body = nylon_response_body(ctx);
    char hex[65];
    sha256_hex(body.ptr, body.len, hex);
    nylon_set_response_header(ctx, "x-seen", hex);
}

static void mirror_answer(nylon_ctx *ctx) {
    nylon_bytes body = nylon_response_body(ctx);
    const uint8_t *mirrored = reversed(ctx, body);
    if (mirrored) nylon_set_response_body(ctx, mirrored, body.len);
}

static void last_chunk_content(nylon_ctx *ctx) {
    bool last;
    nylon_chunk(ctx, &last);
    size_t size = last ? strtoull(nylon_query(ctx), NULL, 10) : 0;
    nylon_set_chunk(ctx, content(ctx, size), size);
}

const nylon_entry bodies[] = {
    {.name = "whole", .response_body_filter = whole},
    {.name = "whole-untouched", .response_body_filter = whole_untouched},
    {.name = "whole-emptied", .response_body_filter = whole_emptied},
    {.name = "by-chunk", .response_body_filter = by_chunk, .stream = true},
    {.name = "by-chunk-counting",
     .response_body_filter = count_chunk,
     .stream = true,
     .session_size = sizeof(struct counted),
     .close = forget_sizes},
    {.name = "by-chunk-raise", .response_body_filter = raise_on_bad, .stream = true},
    {.name = "by-chunk-swallow", .response_body_filter = swallow, .stream = true},
    {.name = "touch", .response_filter = touch},
    {.name = "mirror-body", .request_filter = mirror_body, .body = true},
    {.name = "mirror-body-awaited", .request_filter = mirror_body_awaited},
    {.name = "answer-content", .request_filter = answer_content},
    {.name = "digest-answer", .response_filter = digest_answer},
    {.name = "mirror-answer", .response_body_filter = mirror_answer},
    {.name = "last-chunk-content", .response_body_filter = last_chunk_content, .stream = true},
};
