/* A plugin that dies in every way a library can, for a process of its own. */
#define _POSIX_C_SOURCE 200809L
#include "nylon_plugin.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void die(const char *how) {
    if (strcmp(how, "signal") == 0) raise(SIGSEGV);
    if (strcmp(how, "null") == 0) *(volatile int *)NULL = 1;
    if (strcmp(how, "abort") == 0) abort();
    if (strcmp(how, "exit") == 0) _exit(7);
}

/* The config is the way to die as a JSON string. */
static bool initialize(const char *config) {
    char how[16] = "";
    if (sscanf(config, "\"%15[a-z]\"", how) == 1) die(how);
    return strcmp(how, "refuse") != 0;
}

static void answer(nylon_ctx *ctx) {
    char text[64];
    snprintf(text, sizeof text, "{\"pid\": %ld, \"attempt\": %u}", (long)getpid(), nylon_attempt(ctx));
    nylon_set_json(ctx, text);
    nylon_end(ctx);
}

/* Dies as a header says, on its first attempt. */
static void deadly(nylon_ctx *ctx) {
    if (nylon_attempt(ctx) == 1) die(nylon_request_header(ctx, "x-how"));
    answer(ctx);
}

/* Reads past a bound that is not there. */
static void next_to_it(nylon_ctx *ctx) {
    if (nylon_attempt(ctx) == 1) {
        volatile char *nowhere = (volatile char *)(uintptr_t)16;
        if (*nowhere == 'x') nylon_next(ctx);
    }
    answer(ctx);
}

static const nylon_entry entries[] = {
    {.name = "deadly", .request_filter = deadly},
    {.name = "stray", .request_filter = next_to_it},
    {.name = "answer", .request_filter = answer},
};

NYLON_PLUGIN(initialize, NULL, NYLON_TABLE(entries));
