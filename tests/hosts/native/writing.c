/* Entries that change requests and responses: ../entries/writing.py. */
#include "entries.h"

#include <stdlib.h>
#include <string.h>

static void write_method(nylon_ctx *ctx) {
    nylon_set_method(ctx, "PUT");
    nylon_next(ctx);
}

static void write_path(nylon_ctx *ctx) {
    nylon_set_path(ctx, "/elsewhere/a%20b");
    nylon_next(ctx);
}

static void write_query(nylon_ctx *ctx) {
    nylon_set_query(ctx, "a=1&b=%20");
    nylon_next(ctx);
}

static void remove_query(nylon_ctx *ctx) {
    nylon_set_query(ctx, "");
    nylon_next(ctx);
}

static void write_headers(nylon_ctx *ctx) {
    nylon_set_request_header(ctx, "X-Set", "new");
    nylon_add_request_header(ctx, "x-added", "second");
    nylon_remove_request_header(ctx, "x-removed");
    const char *popped = nylon_request_header(ctx, "x-popped");
    nylon_remove_request_header(ctx, "x-popped");
    nylon_set_request_header(ctx, "x-popped-was", popped);
    nylon_set_request_header(ctx, "x-updated", "1");
    nylon_set_request_header(ctx, "x-latin", "caf\xc3\xa9");
    /* A handler reads its own writes. */
    bool removed = !nylon_find_header(nylon_request_headers(ctx), "x-removed");
    const char *own = text_of(ctx, "%s,%s,%s", nylon_request_header(ctx, "x-set"), nylon_request_header(ctx, "x-added"),
                              removed ? "False" : "True");
    nylon_set_request_header(ctx, "x-own-writes", own);
    nylon_next(ctx);
}

static void write_body(nylon_ctx *ctx) {
    nylon_set_request_body(ctx, "\0new\xff", 5);
    nylon_next(ctx);
}

static void write_body_text(nylon_ctx *ctx) {
    nylon_set_request_body(ctx, "caf\xc3\xa9", 5);
    nylon_next(ctx);
}

static void empty_body(nylon_ctx *ctx) {
    nylon_set_request_body(ctx, "", 0);
    nylon_next(ctx);
}

static void replace_read_body(nylon_ctx *ctx) {
    nylon_bytes body = nylon_request_body(ctx);
    uint8_t *reversed = nylon_allocate(ctx, body.len + 1);
    if (!reversed) return;
    for (size_t i = 0; i < body.len; i++) reversed[i] = body.ptr[body.len - 1 - i];
    nylon_set_request_body(ctx, reversed, body.len);
    nylon_set_request_header(ctx, "x-now", (const char *)nylon_request_body(ctx).ptr);
    nylon_next(ctx);
}

static void write_framing(nylon_ctx *ctx) {
    nylon_set_request_header(ctx, "content-length", "1000");
    nylon_set_request_header(ctx, "transfer-encoding", "chunked");
    nylon_set_request_header(ctx, "connection", "upgrade");
    nylon_set_request_body(ctx, "four", 4);
    nylon_next(ctx);
}

static void answer(nylon_ctx *ctx) {
    nylon_set_status(ctx, 201);
    nylon_set_response_header(ctx, "x-a", "1");
    nylon_add_response_header(ctx, "x-a", "2");
    nylon_set_response_header(ctx, "x-b", "1");
    nylon_remove_response_header(ctx, "x-b");
    const char *form = nylon_query(ctx);
    if (strcmp(form, "raw") == 0) {
        nylon_set_response_body(ctx, "\0\xff", 2);
    } else if (strcmp(form, "text") == 0) {
        nylon_set_text(ctx, "caf\xc3\xa9");
    } else if (strcmp(form, "html") == 0) {
        nylon_set_html(ctx, "<p>caf\xc3\xa9");
    } else if (strcmp(form, "json") == 0) {
        nylon_set_json(ctx, "{\"a\":[1,null,\"caf\xc3\xa9\"]}");
    } else if (strcmp(form, "own-type") == 0) {
        nylon_set_response_header(ctx, "content-type", "application/problem+json");
        nylon_set_json(ctx, "{}");
    } else if (strcmp(form, "framing") == 0) {
        nylon_set_response_header(ctx, "transfer-encoding", "chunked");
        nylon_set_response_header(ctx, "content-length", "9");
        nylon_set_text(ctx, "four");
    }
    nylon_end(ctx);
}

static void redirect(nylon_ctx *ctx) {
    const char *code = nylon_query(ctx);
    if (*code) {
        nylon_redirect(ctx, "https://example.com/caf\xc3\xa9?a=b", (unsigned)atoi(code));
    } else {
        nylon_redirect(ctx, "/there", 302);
    }
    nylon_end(ctx);
}

static void write_response(nylon_ctx *ctx) {
    nylon_set_status(ctx, 418);
    nylon_set_response_header(ctx, "x-set", "new");
    nylon_add_response_header(ctx, "x-added", "second");
    nylon_remove_response_header(ctx, "x-removed");
    const char *item = text_of(ctx, "%u,%s", nylon_response_status(ctx), nylon_response_header(ctx, "x-set"));
    nylon_set_response_header(ctx, "x-item", item);
}

static void replace_response_body(nylon_ctx *ctx) { nylon_set_text(ctx, "replaced"); }

const nylon_entry writing[] = {
    {.name = "write-method", .request_filter = write_method},
    {.name = "write-path", .request_filter = write_path},
    {.name = "write-query", .request_filter = write_query},
    {.name = "remove-query", .request_filter = remove_query},
    {.name = "write-headers", .request_filter = write_headers},
    {.name = "write-body", .request_filter = write_body},
    {.name = "write-body-text", .request_filter = write_body_text},
    {.name = "empty-body", .request_filter = empty_body},
    {.name = "replace-read-body", .request_filter = replace_read_body, .body = true},
    {.name = "write-framing", .request_filter = write_framing},
    {.name = "answer", .request_filter = answer},
    {.name = "redirect", .request_filter = redirect},
    {.name = "write-response", .response_filter = write_response},
    {.name = "replace-response-body", .response_filter = replace_response_body},
};
