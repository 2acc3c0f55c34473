/* Entries that keep something from phase to phase: ../entries/sessions.py; and `mixed` of ../entries/asynchronous.py. */
#define _POSIX_C_SOURCE 200809L
#include "entries.h"

#include <stdlib.h>
#include <string.h>

struct seen {
    char *list; /* the inside of a JSON list */
};

static void forget_seen(void *session) { free(((struct seen *)session)->list); }

static void note(nylon_ctx *ctx, const char *text) {
    struct seen *seen = nylon_session(ctx);
    memory json;
    if (!memory_open(&json)) return;
    if (seen->list) fprintf(json.out, "%s,", seen->list);
    put_json(json.out, text);
    fclose(json.out);
    free(seen->list);
    seen->list = json.text;
}

static const char *all_seen(nylon_ctx *ctx) { return text_of(ctx, "[%s]", ((struct seen *)nylon_session(ctx))->list); }

static void closure_request(nylon_ctx *ctx) {
    note(ctx, text_of(ctx, "request %s", nylon_request_header(ctx, "x-who")));
    nylon_next(ctx);
}

static void closure_response(nylon_ctx *ctx) { note(ctx, "response"); }

static void closure_body(nylon_ctx *ctx) {
    note(ctx, "body");
    nylon_set_json(ctx, all_seen(ctx));
}

static void tell_seen(nylon_ctx *ctx) { tell(ctx, all_seen(ctx)); }

static void closure_log(nylon_ctx *ctx) { aside(ctx, tell_seen); }

static void tell_facts(nylon_ctx *ctx) {
    memory json;
    if (!memory_open(&json)) return;
    FILE *out = json.out;
    uint64_t duration;
    fprintf(out, "{\"status\":%u,\"bytes\":%llu", nylon_response_status(ctx),
            (unsigned long long)nylon_response_bytes(ctx));
    if (nylon_response_duration(ctx, &duration)) fprintf(out, ",\"duration\":%.3f", (double)duration / 1000);
    const char *error = nylon_response_error(ctx);
    fputs(",\"error\":", out);
    if (*error) {
        put_json(out, error);
    } else {
        fputs("null", out);
    }
    const struct {
        const char *name, *value;
    } texts[] = {
        {"method", nylon_method(ctx)},
        {"path", nylon_path(ctx)},
        {"header", nylon_response_header(ctx, "x-origin")},
        {"request_id", nylon_request_id(ctx)},
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        fprintf(out, ",\"%s\":", texts[i].name);
        put_json(out, texts[i].value);
    }
    fputc('}', out);
    tell(ctx, memory_close(ctx, &json));
}

static void log_facts(nylon_ctx *ctx) { aside(ctx, tell_facts); }

static void tell_logged(nylon_ctx *ctx) {
    wait_at_gate(ctx);
    tell_text(ctx, "logged");
}

static void slow_log(nylon_ctx *ctx) { aside(ctx, tell_logged); }

static void mixed_aside(nylon_ctx *ctx) {
    note(ctx, "async");
    nylon_next(ctx);
}

static void mixed_request(nylon_ctx *ctx) { aside(ctx, mixed_aside); }

static void mixed_response(nylon_ctx *ctx) {
    note(ctx, "def");
    const char *list = ((struct seen *)nylon_session(ctx))->list;
    nylon_set_response_header(ctx, "x-seen", strcmp(list, "\"async\",\"def\"") == 0 ? "async,def" : list);
}

static void knock_twice(nylon_ctx *ctx) {
    struct origin origin = origin_of(ctx);
    int first = knock(origin), second = knock(origin);
    enter(first);
    enter(second);
    nylon_next(ctx);
}

static void gather_at_gate(nylon_ctx *ctx) { aside(ctx, knock_twice); }

const nylon_entry sessions[] = {
    {.name = "closure",
     .request_filter = closure_request,
     .response_filter = closure_response,
     .response_body_filter = closure_body,
     .logging = closure_log,
     .session_size = sizeof(struct seen),
     .close = forget_seen},
    {.name = "log-facts", .logging = log_facts},
    {.name = "slow-log", .logging = slow_log},
    {.name = "mixed",
     .request_filter = mixed_request,
     .response_filter = mixed_response,
     .session_size = sizeof(struct seen),
     .close = forget_seen},
    {.name = "gather-at-gate", .request_filter = gather_at_gate},
};
