/* Entries that decide, late, twice or not at all: ../entries/deciding.py. */
#include "entries.h"

#include <string.h>

static const char *own_name(nylon_ctx *ctx) { return json_text(ctx, nylon_payload(ctx), "name"); }

static void append_name(nylon_ctx *ctx) {
    nylon_bytes body = nylon_response_body(ctx);
    const char *name = own_name(ctx);
    size_t len = body.len + 1 + strlen(name);
    uint8_t *longer = nylon_allocate(ctx, len);
    if (!longer) return;
    memcpy(longer, body.ptr, body.len);
    longer[body.len] = ' ';
    memcpy(longer + body.len + 1, name, strlen(name));
    nylon_set_response_body(ctx, longer, len);
}

static void tell_name(nylon_ctx *ctx) { tell_text(ctx, own_name(ctx)); }

/* `pass` and `stop-in`: every phase says that it ran, and the one that the payload names ends. */

static void decide(nylon_ctx *ctx, const char *here) {
    if (strcmp(json_text(ctx, nylon_payload(ctx), "stop"), here) == 0) {
        nylon_end(ctx);
    } else {
        nylon_next(ctx);
    }
}

static void pass_request(nylon_ctx *ctx) {
    nylon_add_request_header(ctx, "x-order", own_name(ctx));
    nylon_next(ctx);
}

static void stop_request(nylon_ctx *ctx) {
    nylon_set_status(ctx, 403);
    nylon_set_text(ctx, "stopped");
    decide(ctx, "request_filter");
}

static void order_response(nylon_ctx *ctx) {
    nylon_add_response_header(ctx, "x-order", own_name(ctx));
    decide(ctx, "response_filter");
}

static void order_body(nylon_ctx *ctx) {
    append_name(ctx);
    decide(ctx, "response_body_filter");
}

static void tell_and_decide(nylon_ctx *ctx) {
    tell_name(ctx);
    decide(ctx, "logging");
}

static void order_log(nylon_ctx *ctx) { aside(ctx, tell_and_decide); }

static void undecided(nylon_ctx *ctx) { nylon_set_request_header(ctx, "x-undecided", "1"); }

static void undecided_awaited(nylon_ctx *ctx) { aside(ctx, undecided); }

static void end_then_next_caught(nylon_ctx *ctx) {
    nylon_set_status(ctx, 403);
    nylon_set_text(ctx, "refused");
    nylon_end(ctx);
    if (!nylon_next(ctx)) nylon_set_response_header(ctx, "x-error", nylon_refusal(ctx));
}

static void next_twice_caught(nylon_ctx *ctx) {
    nylon_next(ctx);
    if (!nylon_end(ctx)) nylon_set_request_header(ctx, "x-refused", "yes");
}

static void next_then_raise(nylon_ctx *ctx) {
    nylon_next(ctx);
    nylon_fail(ctx, "after the decision");
}

static void write_after_next(nylon_ctx *ctx) {
    nylon_next(ctx);
    nylon_set_request_header(ctx, "x-after", "1");
}

static void draft_then_next(nylon_ctx *ctx) {
    nylon_set_status(ctx, 500);
    nylon_set_response_header(ctx, "x-draft", "1");
    nylon_set_text(ctx, "draft");
    nylon_next(ctx);
}

static void mark_response(nylon_ctx *ctx) { nylon_set_response_header(ctx, "x-response", "1"); }

static void mark_body(nylon_ctx *ctx) { nylon_set_response_header(ctx, "x-body", "1"); }

static void serve(nylon_ctx *ctx) {
    const char *payload = nylon_payload(ctx);
    if (json_true(payload, "pass")) {
        nylon_next(ctx);
        return;
    }
    nylon_set_status(ctx, 299);
    memory json;
    if (!memory_open(&json)) return;
    fputs("{\"path\":", json.out);
    put_json(json.out, nylon_path(ctx));
    fputs(",\"payload\":", json.out);
    put_json(json.out, own_name(ctx));
    fputc('}', json.out);
    nylon_set_json(ctx, memory_close(ctx, &json));
    nylon_end(ctx);
}

const nylon_entry deciding[] = {
    {.name = "pass",
     .request_filter = pass_request,
     .response_filter = order_response,
     .response_body_filter = order_body,
     .logging = order_log},
    {.name = "stop-in",
     .request_filter = stop_request,
     .response_filter = order_response,
     .response_body_filter = order_body,
     .logging = order_log},
    {.name = "undecided", .request_filter = undecided},
    {.name = "undecided-awaited", .request_filter = undecided_awaited},
    {.name = "end-then-next-caught", .request_filter = end_then_next_caught},
    {.name = "next-twice-caught", .request_filter = next_twice_caught},
    {.name = "next-then-raise", .request_filter = next_then_raise},
    {.name = "write-after-next", .request_filter = write_after_next},
    {.name = "draft-then-next", .request_filter = draft_then_next},
    {.name = "response-undecided", .response_filter = mark_response, .response_body_filter = mark_body},
    {.name = "serve", .request_filter = serve},
};
