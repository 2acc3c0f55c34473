/* Entries that fail, hang, or come back when it is too late: ../entries/failing.py. */
#define _POSIX_C_SOURCE 200809L
#include "entries.h"

#include <string.h>
#include <time.h>

/* Whether the payload names this phase to fail, or to hang, in. */
static bool named(nylon_ctx *ctx, const char *what, const char *here) {
    return strcmp(json_text(ctx, nylon_payload(ctx), what), here) == 0;
}

static void change_response(nylon_ctx *ctx) {
    nylon_set_status(ctx, 299);
    nylon_set_response_header(ctx, "x-changed", "1");
    nylon_set_text(ctx, "changed");
}

static void raise_in_request(nylon_ctx *ctx) {
    nylon_next(ctx);
    if (!named(ctx, "raise", "request_filter")) return;
    nylon_set_method(ctx, "DELETE");
    nylon_set_path(ctx, "/changed");
    nylon_set_query(ctx, "changed");
    nylon_set_request_header(ctx, "x-changed", "1");
    nylon_set_request_body(ctx, "changed", 7);
    change_response(ctx);
    nylon_fail(ctx, "%s", secret);
}

static void raise_in_response(nylon_ctx *ctx) {
    if (named(ctx, "raise", "response_filter")) {
        change_response(ctx);
        nylon_fail(ctx, "%s", secret);
    } else {
        nylon_add_response_header(ctx, "x-order", "r");
    }
}

static void raise_in_body(nylon_ctx *ctx) {
    if (named(ctx, "raise", "response_body_filter")) {
        change_response(ctx);
        nylon_fail(ctx, "%s", secret);
    } else {
        nylon_add_response_header(ctx, "x-order", "b");
    }
}

static void tell_how_it_went(nylon_ctx *ctx) {
    memory json;
    if (!memory_open(&json)) return;
    fprintf(json.out, "{\"status\":%u,\"error\":", nylon_response_status(ctx));
    const char *error = nylon_response_error(ctx);
    if (*error) {
        put_json(json.out, error);
    } else {
        fputs("null", json.out);
    }
    fputs(",\"state\":{}}", json.out); /* the ABI has no state that a failure could leave behind */
    tell(ctx, memory_close(ctx, &json));
    if (named(ctx, "raise", "logging")) nylon_fail(ctx, "%s", secret);
}

static void raise_in_logging(nylon_ctx *ctx) { aside(ctx, tell_how_it_went); }

static void raise_awaited_aside(nylon_ctx *ctx) {
    nylon_set_request_header(ctx, "x-changed", "1");
    nylon_next(ctx);
    nylon_fail(ctx, "%s", secret);
}

static void raise_awaited(nylon_ctx *ctx) { aside(ctx, raise_awaited_aside); }

static bool refuse_to_open(void *session) {
    (void)session;
    return false;
}

static void hang_in_request(nylon_ctx *ctx) {
    nylon_next(ctx);
    if (!named(ctx, "hang", "request_filter")) return;
    nylon_set_request_header(ctx, "x-changed", "1");
    aside(ctx, sleep_until_given_up);
}

static void hang_in_response(nylon_ctx *ctx) {
    if (!named(ctx, "hang", "response_filter")) return;
    nylon_set_response_header(ctx, "x-changed", "1");
    aside(ctx, sleep_until_given_up);
}

static void hang_in_body(nylon_ctx *ctx) {
    if (!named(ctx, "hang", "response_body_filter")) return;
    nylon_set_response_header(ctx, "x-changed", "1");
    nylon_set_text(ctx, "changed");
    aside(ctx, sleep_until_given_up);
}

static void wait_and_pass(nylon_ctx *ctx) {
    wait_at_gate(ctx);
    nylon_next(ctx);
}

static void block(nylon_ctx *ctx) { aside(ctx, wait_and_pass); }

static void be_late(nylon_ctx *ctx) {
    struct origin origin = origin_of(ctx);
    enter(knock(origin));
    const struct timespec pause = {0, 5000000};
    for (int i = 0; i < 2000 && nylon_set_request_header(ctx, "x-late", "1"); i++) nanosleep(&pause, NULL);
    const bool passed[] = {
        nylon_next(ctx),
        nylon_end(ctx),
        nylon_set_path(ctx, "/late"),
        nylon_set_request_body(ctx, "late", 4),
        nylon_set_status(ctx, 200),
        nylon_stream(ctx),
        !nylon_given_up(ctx) || *nylon_path(ctx) || *nylon_payload(ctx) || *nylon_request_id(ctx),
    };
    memory json;
    if (!memory_open(&json)) return;
    for (size_t i = 0; i < sizeof passed; i++) fprintf(json.out, "%s\"%s\"", i ? "," : "[", passed[i] ? "open" : "closed");
    fputc(']', json.out);
    tell_origin(origin, memory_close(ctx, &json));
}

static void late(nylon_ctx *ctx) { aside(ctx, be_late); }

static void decide_late(nylon_ctx *ctx) {
    struct origin origin = origin_of(ctx);
    enter(knock(origin));
    nylon_next(ctx);
    tell_origin(origin, "\"done\"");
}

static void late_next(nylon_ctx *ctx) { aside(ctx, decide_late); }

static void fine_awaited(nylon_ctx *ctx) { aside(ctx, pass); }

const nylon_entry failing[] = {
    {.name = "raise-in",
     .request_filter = raise_in_request,
     .response_filter = raise_in_response,
     .response_body_filter = raise_in_body,
     .logging = raise_in_logging},
    {.name = "raise-awaited", .request_filter = raise_awaited},
    {.name = "raise-in-setup", .request_filter = pass, .open = refuse_to_open},
    {.name = "hang-in",
     .request_filter = hang_in_request,
     .response_filter = hang_in_response,
     .response_body_filter = hang_in_body},
    {.name = "block", .request_filter = block},
    {.name = "block-awaited", .request_filter = block},
    {.name = "late", .request_filter = late},
    {.name = "late-next", .request_filter = late_next},
    {.name = "fine", .request_filter = pass},
    {.name = "fine-awaited", .request_filter = fine_awaited},
};
