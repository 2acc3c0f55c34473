/* A plugin that says which version it is (-DVERSION), and writes down what happens to it in the file that the environment
 * names. */
#include "nylon_plugin.h"

#include <pthread.h>
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

/* Threads of `later` that run. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t fewer = PTHREAD_COND_INITIALIZER;
static int running;

static void finish(void) {
    pthread_mutex_lock(&lock);
    while (running > 0)
        pthread_cond_wait(&fewer, &lock);
    pthread_mutex_unlock(&lock);
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

static void *decide(void *argument) {
    nylon_ctx *ctx = argument;
    nylon_next(ctx);
    nylon_done(ctx);
    pthread_mutex_lock(&lock);
    running -= 1;
    pthread_cond_signal(&fewer);
    pthread_mutex_unlock(&lock);
    return NULL;
}

/* Decides in a thread of its own. */
static void later(nylon_ctx *ctx) {
    pthread_t thread;
    pthread_mutex_lock(&lock);
    running += 1;
    pthread_mutex_unlock(&lock);
    nylon_defer(ctx);
    if (pthread_create(&thread, NULL, decide, ctx) == 0)
        pthread_detach(thread);
    else
        decide(ctx);
}

static void stamp(nylon_ctx *ctx) {
    nylon_set_response_header(ctx, "x-version", VERSION);
    nylon_set_response_header(ctx, "x-config", configured);
}

static const nylon_entry entries[] = {
    {.name = "say", .request_filter = say},
    {.name = "stamp", .request_filter = go_on, .response_filter = stamp},
    {.name = "later", .request_filter = later, .response_filter = stamp},
};

NYLON_PLUGIN(start, finish, NYLON_TABLE(entries));
