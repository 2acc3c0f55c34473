/* The decision of the rows with a handler, in C: the path and one header. `chatty` asks for everything first, one thing
 * after the other, as plugins of an earlier Go SDK do. */
#include "nylon_plugin.h"

#include <string.h>

static void decide(nylon_ctx *ctx) {
    if (strcmp(nylon_path(ctx), "/open") != 0 && strcmp(nylon_request_header(ctx, "x-api-key"), "k123") != 0) {
        nylon_set_status(ctx, 401);
        nylon_end(ctx);
        return;
    }
    nylon_next(ctx);
}

static void chatty(nylon_ctx *ctx) {
    (void)nylon_payload(ctx);
    (void)nylon_method(ctx);
    (void)nylon_url(ctx);
    (void)nylon_query(ctx);
    (void)nylon_params(ctx);
    (void)nylon_host(ctx);
    (void)nylon_client_ip(ctx);
    (void)nylon_request_bytes(ctx);
    (void)nylon_timestamp(ctx);
    (void)nylon_request_headers(ctx);
    decide(ctx);
}

static const nylon_entry entries[] = {
    {.name = "check", .request_filter = decide},
    {.name = "chatty", .request_filter = chatty},
};
NYLON_PLUGIN(NULL, NULL, NYLON_TABLE(entries));
