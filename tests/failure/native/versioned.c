/* A plugin that says which version it is (-DVERSION), and writes down what happens to it in the file that the environment
 * names. */
#include "nylon_plugin.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static atomic_int said;
static char configured[256];

static void note(const char *what) {
    const char *path = getenv("VERSIONED_RECORD");
    FILE *record = path == NULL ? NULL : fopen(path, "a");
    if (record == NULL)
        return;
    fprintf(record, "%s %s%s%s\n", what, VERSION, configured[0] ? " " : "", configured);
    fclose(record);
}

static bool start(const char *config) {
    snprintf(configured, sizeof configured, "%s", config);
    note("initialize");
    return strcmp(config, "{\"refuse\":true}") != 0;
}

static void finish(void) {
    note("shutdown");
}

static void say(nylon_ctx *ctx) {
    char text[64];
    snprintf(text, sizeof text, "%s %d", VERSION, atomic_fetch_add(&said, 1));
    nylon_set_text(ctx, text);
    nylon_end(ctx);
}

static void go_on(nylon_ctx *ctx) {
    nylon_next(ctx);
}

static void stamp(nylon_ctx *ctx) {
    nylon_set_response_header(ctx, "x-version", VERSION);
    nylon_set_response_header(ctx, "x-config", configured);
}

static const nylon_entry entries[] = {
    {.name = "say", .request_filter = say},
    {.name = "stamp", .request_filter = go_on, .response_filter = stamp},
};

NYLON_PLUGIN(start, finish, NYLON_TABLE(entries));
