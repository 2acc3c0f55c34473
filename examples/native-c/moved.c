/* A native plugin in C: it sends visitors of moved pages to where they are now, and tells how long the rest took.
 *
 * Which pages have moved is in a file that the plugin's config names, read once when the gateway starts. */
#define _POSIX_C_SOURCE 200809L
#include "nylon_plugin.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static struct move {
    char from[256], to[256];
} *moves;
static size_t count;

static const char *moved_to(const char *path) {
    for (size_t i = 0; i < count; i++)
        if (strcmp(moves[i].from, path) == 0) return moves[i].to;
    return NULL;
}

/* Runs before any request: false, and the gateway does not start. `config` is JSON, here a string: "moved.txt". */
static bool read_moves(const char *config) {
    char name[256];
    FILE *file = sscanf(config, "\"%255[^\"]\"", name) == 1 ? fopen(name, "r") : NULL;
    if (!file) {
        fprintf(stderr, "moved: the config %s names no file that can be read\n", *config ? config : "(none)");
        return false;
    }
    char line[600];
    count = 0;
    while (fgets(line, sizeof line, file)) {
        struct move move, *more = realloc(moves, (count + 1) * sizeof *moves);
        if (!more) break;
        moves = more;
        if (*line != '#' && sscanf(line, "%255s %255s", move.from, move.to) == 2) moves[count++] = move;
    }
    bool whole = feof(file);
    fclose(file);
    return whole;
}

static void forget_moves(void) {
    free(moves);
    moves = NULL;
}

static void redirect(nylon_ctx *ctx) {
    const char *to = moved_to(nylon_path(ctx));
    if (!to) {
        nylon_next(ctx);
        return;
    }
    nylon_redirect(ctx, to, 308);
    nylon_end(ctx);
}

/* What a session keeps from the request to its response; each request has one of its own. */
struct stopwatch {
    struct timespec started;
};

static void start_watch(nylon_ctx *ctx) {
    struct stopwatch *watch = nylon_session(ctx);
    clock_gettime(CLOCK_MONOTONIC, &watch->started);
    nylon_next(ctx);
}

static void stop_watch(nylon_ctx *ctx) {
    const struct stopwatch *watch = nylon_session(ctx);
    struct timespec now;
    char text[64];
    clock_gettime(CLOCK_MONOTONIC, &now);
    double milliseconds = (double)(now.tv_sec - watch->started.tv_sec) * 1e3;
    milliseconds += (double)(now.tv_nsec - watch->started.tv_nsec) / 1e6;
    snprintf(text, sizeof text, "origin;dur=%.3f", milliseconds);
    nylon_add_response_header(ctx, "server-timing", text);
}

static const nylon_entry entries[] = {
    {.name = "moved", .request_filter = redirect},
    {.name = "timing",
     .request_filter = start_watch,
     .response_filter = stop_watch,
     .session_size = sizeof(struct stopwatch)},
};

NYLON_PLUGIN(read_moves, forget_moves, NYLON_TABLE(entries));
