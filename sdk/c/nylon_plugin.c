/* Sessions, and the life of a context: the exports of the library around the plugin's table of entries.
 *
 * A handler's decision is kept until it returns and sent then, as its last message: so a failure after a decision still
 * discards everything, as on every other host. Each phase has a context of its own on the heap, since a deferred one lives
 * on in another thread, and while a response is streamed its other phases run beside it. Sessions are found in a hash table
 * whose parts have locks of their own, held for a few instructions and never while a handler or the gateway runs. */
#define _POSIX_C_SOURCE 200809L
#include "nylon_private.h"
#include "nylon.h" /* the prototypes of the exports */

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SHARDS = 64, CHAINS = 64 };

static struct shard {
    pthread_mutex_t lock;
    nylon_session_state *chains[CHAINS];
} shards[SHARDS];

static pthread_once_t prepared = PTHREAD_ONCE_INIT;
static char *announcement;
static bool initialized;

_Thread_local struct nylon_answer *nylon_awaited;

/* -- The table of sessions -- */

static void prepare(void) {
    for (int i = 0; i < SHARDS; i++) pthread_mutex_init(&shards[i].lock, NULL);
}

static nylon_session_state **chain_of(uint32_t sid, struct shard **shard) {
    uint32_t hash = sid * UINT32_C(2654435769) >> 20;
    *shard = &shards[hash / CHAINS];
    return &(*shard)->chains[hash % CHAINS];
}

static void release(nylon_session_state *session) {
    if (atomic_fetch_sub(&session->owners, 1) != 1) return;
    if (session->entry->close) session->entry->close(session->data);
    free(session->data);
    free(session);
}

/* The session with this sid, owned by the caller too. */
static nylon_session_state *find(uint32_t sid) {
    struct shard *shard;
    nylon_session_state **chain = chain_of(sid, &shard);
    pthread_mutex_lock(&shard->lock);
    nylon_session_state *session = *chain;
    while (session && session->sid != sid) session = session->next;
    if (session) atomic_fetch_add(&session->owners, 1);
    pthread_mutex_unlock(&shard->lock);
    return session;
}

static void insert(nylon_session_state *session) {
    struct shard *shard;
    nylon_session_state **chain = chain_of(session->sid, &shard);
    pthread_mutex_lock(&shard->lock);
    session->next = *chain;
    *chain = session;
    pthread_mutex_unlock(&shard->lock);
}

/* Takes the session out of the table; its owner is the caller then. */
static nylon_session_state *take_out(uint32_t sid) {
    struct shard *shard;
    nylon_session_state **link = chain_of(sid, &shard);
    pthread_mutex_lock(&shard->lock);
    while (*link && (*link)->sid != sid) link = &(*link)->next;
    nylon_session_state *session = *link;
    if (session) *link = session->next;
    pthread_mutex_unlock(&shard->lock);
    return session;
}

/* -- Contexts -- */

bool nylon_refuse(nylon_ctx *ctx, const char *why) {
    ctx->refusal = why;
    return false;
}

const char *nylon_refusal(const nylon_ctx *ctx) { return ctx->refusal; }

bool nylon_given_up(const nylon_ctx *ctx) { return atomic_load(&ctx->session->closed); }

void *nylon_session(const nylon_ctx *ctx) { return ctx->session->data; }

void *nylon_allocate(nylon_ctx *ctx, size_t size) {
    size_t rounded = (size + sizeof(max_align_t) - 1) / sizeof(max_align_t) * sizeof(max_align_t);
    if (rounded >= size && rounded <= NYLON_ROOM - ctx->used) {
        void *memory = ctx->room + ctx->used;
        ctx->used += rounded;
        return memset(memory, 0, size);
    }
    size_t header = sizeof(max_align_t);
    struct nylon_block *block = size <= SIZE_MAX - header ? calloc(1, header + size) : NULL;
    if (!block) {
        nylon_fail(ctx, "there is no memory for %zu bytes", size);
        return NULL;
    }
    block->next = ctx->blocks;
    ctx->blocks = block;
    return (unsigned char *)block + header;
}

nylon_bytes nylon_copy(nylon_ctx *ctx, const void *bytes, size_t len) {
    static const uint8_t nothing[1] = {0};
    uint8_t *copy = len && len < SIZE_MAX ? nylon_allocate(ctx, len + 1) : NULL;
    if (!copy) return (nylon_bytes){nothing, 0};
    memcpy(copy, bytes, len);
    return (nylon_bytes){copy, len};
}

static nylon_ctx *begin(nylon_session_state *session, uint8_t phase) {
    nylon_ctx *ctx = malloc(sizeof *ctx);
    if (!ctx) return NULL;
    memset(ctx, 0, offsetof(nylon_ctx, room));
    ctx->session = session;
    ctx->phase = phase;
    ctx->refusal = "";
    return ctx;
}

static void discard(nylon_ctx *ctx) {
    while (ctx->blocks) {
        struct nylon_block *block = ctx->blocks;
        ctx->blocks = block->next;
        free(block);
    }
    free(ctx->failure);
    nylon_session_state *session = ctx->session;
    free(ctx);
    release(session);
}

bool nylon_send(nylon_ctx *ctx, uint32_t method, const void *payload, size_t len) {
    if (nylon_given_up(ctx)) return nylon_refuse(ctx, "the phase was given up: its time is over, or the client left");
    nylon_message message = {ctx->session->sid, ctx->phase, method, len ? payload : NULL, len};
    ctx->session->callback(&message);
    return true;
}

/* The handler is done: what it came to is its last message. */
static void conclude(nylon_ctx *ctx) {
    if (!ctx->failed && ctx->decision == NYLON_DECIDED_STREAM && !ctx->stream_complete)
        nylon_fail(ctx, "the handler was done without nylon_finish: its response is broken off");
    if (!ctx->failed && ctx->decision == NYLON_UNDECIDED && ctx->phase == NYLON_PHASE_REQUEST_FILTER)
        nylon_fail(ctx, "the handler was done without nylon_next or nylon_end");
    if (ctx->failed) {
        const char *text = ctx->failure ? ctx->failure : "there is no memory";
        nylon_send(ctx, NYLON_METHOD_FAIL, text, strlen(text));
    } else if (ctx->decision == NYLON_DECIDED_STREAM) {
        nylon_send(ctx, NYLON_METHOD_SET_RESPONSE_STREAM_END, NULL, 0);
    } else {
        bool end = ctx->decision == NYLON_DECIDED_END;
        nylon_send(ctx, end ? NYLON_METHOD_END : NYLON_METHOD_NEXT, NULL, 0);
    }
    discard(ctx);
}

/* Runs a handler; the context is gone afterwards, or somebody else's. */
static void run(nylon_ctx *ctx, nylon_handler *handler) {
    struct nylon_frame frame = {false};
    ctx->frame = &frame;
    handler(ctx);
    if (frame.left) return;
    ctx->frame = NULL;
    conclude(ctx);
}

static void leave(nylon_ctx *ctx) {
    if (ctx->frame) ctx->frame->left = true;
    ctx->frame = NULL;
}

void nylon_defer(nylon_ctx *ctx) { leave(ctx); }

void nylon_done(nylon_ctx *ctx) {
    /* Within its handler a context that was not deferred ends with the handler. */
    if (!ctx->frame) conclude(ctx);
}

static bool decide(nylon_ctx *ctx, enum nylon_decision decision) {
    if (nylon_given_up(ctx)) return nylon_refuse(ctx, "the phase was given up: its time is over, or the client left");
    switch (ctx->decision) {
    case NYLON_UNDECIDED:
        ctx->decision = decision;
        return true;
    case NYLON_DECIDED_NEXT:
        return nylon_refuse(ctx, "the handler has already decided Next: the first decision wins");
    case NYLON_DECIDED_END:
        return nylon_refuse(ctx, "the handler has already decided End: the first decision wins");
    case NYLON_DECIDED_STREAM:
        break;
    }
    return nylon_refuse(ctx, "the handler streams its response, which is an End: the first decision wins");
}

bool nylon_next(nylon_ctx *ctx) { return decide(ctx, NYLON_DECIDED_NEXT); }

bool nylon_end(nylon_ctx *ctx) { return decide(ctx, NYLON_DECIDED_END); }

bool nylon_stream(nylon_ctx *ctx) {
    if (ctx->phase != NYLON_PHASE_REQUEST_FILTER)
        return nylon_refuse(ctx, "a response is streamed from request_filter: the service has answered already");
    return decide(ctx, NYLON_DECIDED_STREAM) && nylon_send(ctx, NYLON_METHOD_SET_RESPONSE_STREAM_HEADER, NULL, 0);
}

bool nylon_write(nylon_ctx *ctx, const void *bytes, size_t len) {
    if (ctx->decision != NYLON_DECIDED_STREAM) return nylon_refuse(ctx, "nylon_stream comes before nylon_write");
    if (ctx->stream_complete) return nylon_refuse(ctx, "the response is complete: nothing follows nylon_finish");
    if (nylon_given_up(ctx)) return nylon_refuse(ctx, "nobody reads the response any more");
    if (len && !nylon_send(ctx, NYLON_METHOD_SET_RESPONSE_STREAM_DATA, bytes, len)) return false;
    return !nylon_given_up(ctx) || nylon_refuse(ctx, "nobody reads the response any more");
}

bool nylon_finish(nylon_ctx *ctx) {
    if (ctx->decision != NYLON_DECIDED_STREAM) return nylon_refuse(ctx, "nylon_stream comes before nylon_finish");
    ctx->stream_complete = true;
    return !nylon_given_up(ctx) || nylon_refuse(ctx, "nobody reads the response any more");
}

void nylon_fail(nylon_ctx *ctx, const char *format, ...) {
    if (ctx->failed) return; /* the first reason is the one that matters */
    ctx->failed = true;
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    ctx->failure = length >= 0 ? malloc((size_t)length + 1) : NULL;
    if (!ctx->failure) return;
    va_start(arguments, format);
    vsnprintf(ctx->failure, (size_t)length + 1, format, arguments);
    va_end(arguments);
}

bool nylon_await_body(nylon_ctx *ctx, nylon_handler *then) {
    nylon_session_state *session = ctx->session;
    if (ctx->phase != NYLON_PHASE_REQUEST_FILTER)
        return nylon_refuse(ctx, "a request body is awaited in request_filter");
    if (nylon_given_up(ctx)) return nylon_refuse(ctx, "the phase was given up: its time is over, or the client left");
    ctx->then = then;
    leave(ctx);
    /* From here on the context belongs to whoever takes it out of `waiting`: the answer, or the closing. */
    atomic_fetch_add(&session->owners, 1);
    atomic_store(&session->waiting, ctx);
    nylon_message message = {session->sid, NYLON_PHASE_NONE, NYLON_METHOD_READ_REQUEST_FULL_BODY, NULL, 0};
    session->callback(&message);
    if (atomic_load(&session->closed)) {
        /* It was closed before `waiting` was set, so the closing could not see it. */
        nylon_ctx *left = atomic_exchange(&session->waiting, NULL);
        if (left) discard(left);
    }
    release(session);
    return true;
}

/* -- What the gateway calls -- */

static void answered(const nylon_message *message) {
    struct nylon_answer *awaited = nylon_awaited;
    if (awaited && !awaited->arrived && awaited->ctx->session->sid == message->sid &&
        awaited->method == message->method) {
        awaited->arrived = true;
        awaited->bytes = nylon_copy(awaited->ctx, message->ptr, message->len);
        return;
    }
    if (message->method != NYLON_METHOD_READ_REQUEST_FULL_BODY) return;
    nylon_session_state *session = find(message->sid);
    if (!session) return;
    nylon_ctx *ctx = atomic_exchange(&session->waiting, NULL);
    if (ctx) {
        ctx->has_body = true;
        ctx->body = nylon_copy(ctx, message->ptr, message->len);
        run(ctx, ctx->then);
    }
    release(session);
}

static nylon_handler *handler_of(const nylon_entry *entry, uint8_t phase) {
    switch (phase) {
    case NYLON_PHASE_REQUEST_FILTER:
        return entry->request_filter;
    case NYLON_PHASE_RESPONSE_FILTER:
        return entry->response_filter;
    case NYLON_PHASE_RESPONSE_BODY_FILTER:
        return entry->response_body_filter;
    case NYLON_PHASE_LOGGING:
        return entry->logging;
    default:
        return NULL;
    }
}

void event_stream(const nylon_message *message) {
    if (message->phase == NYLON_PHASE_NONE) {
        answered(message);
        return;
    }
    nylon_session_state *session = find(message->sid);
    if (!session) return;
    nylon_handler *handler = handler_of(session->entry, message->phase);
    nylon_ctx *ctx = handler ? begin(session, message->phase) : NULL;
    if (ctx) {
        run(ctx, handler);
        return;
    }
    static const char why[] = "there is no memory";
    nylon_message reply = {message->sid, NYLON_PHASE_NONE, NYLON_METHOD_NEXT, NULL, 0};
    if (handler) {
        reply.method = NYLON_METHOD_FAIL;
        reply.ptr = (const uint8_t *)why;
        reply.len = sizeof why - 1;
    }
    session->callback(&reply);
    release(session);
}

static const nylon_entry *entry_named(const char *name, size_t len) {
    for (size_t i = 0; i < nylon_this_plugin.count; i++) {
        const nylon_table *table = &nylon_this_plugin.tables[i];
        for (size_t j = 0; j < table->count; j++) {
            const nylon_entry *entry = &table->entries[j];
            if (strlen(entry->name) == len && memcmp(entry->name, name, len) == 0) return entry;
        }
    }
    return NULL;
}

bool register_session_stream(uint32_t sid, const char *name, uint32_t len, nylon_callback callback) {
    const nylon_entry *entry = entry_named(name, len);
    /* Not by calloc, which in glibc passes by what this thread has freed last. */
    nylon_session_state *session = entry ? malloc(sizeof *session) : NULL;
    if (!session) return false;
    memset(session, 0, sizeof *session);
    session->sid = sid;
    session->callback = callback;
    session->entry = entry;
    atomic_init(&session->owners, 1);
    atomic_init(&session->closed, false);
    atomic_init(&session->waiting, NULL);
    bool opened = true;
    if (entry->session_size) opened = (session->data = calloc(1, entry->session_size)) != NULL;
    if (opened && entry->open) opened = entry->open(session->data);
    if (opened) {
        insert(session);
    } else {
        release(session);
    }
    return opened;
}

void close_session_stream(uint32_t sid) {
    nylon_session_state *session = take_out(sid);
    if (!session) return;
    atomic_store(&session->closed, true);
    nylon_ctx *waiting = atomic_exchange(&session->waiting, NULL);
    if (waiting) discard(waiting);
    release(session);
}

/* Whatever a context sends is freed by the context, so that both values of `callback_memory` are right. */
void plugin_free(const uint8_t *ptr) { (void)ptr; }

uint32_t nylon_abi_version(void) { return NYLON_ABI_VERSION; }

static void describe_entry(FILE *out, const nylon_entry *entry) {
    static const char *const names[] = {"request_filter", "response_filter", "response_body_filter", "logging"};
    fputs("{\"name\":\"", out);
    for (const char *c = entry->name; *c; c++) {
        bool plain = (unsigned char)*c >= ' ' && *c != '"' && *c != '\\';
        fprintf(out, plain ? "%c" : "\\u%04x", *c);
    }
    fputs("\",\"phases\":[", out);
    bool first = true;
    for (uint8_t phase = NYLON_PHASE_REQUEST_FILTER; phase <= NYLON_PHASE_LOGGING; phase++) {
        if (!handler_of(entry, phase)) continue;
        fprintf(out, "%s\"%s\"", first ? "" : ",", names[phase - 1]);
        first = false;
    }
    fprintf(out, "],\"body\":%s,\"stream\":%s}", entry->body ? "true" : "false", entry->stream ? "true" : "false");
}

static char *describe(void) {
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    if (!out) return NULL;
    char between = '[';
    for (size_t i = 0; i < nylon_this_plugin.count; i++) {
        const nylon_table *table = &nylon_this_plugin.tables[i];
        for (size_t j = 0; j < table->count; j++) {
            fputc(between, out);
            describe_entry(out, &table->entries[j]);
            between = ',';
        }
    }
    fputs(between == '[' ? "[]" : "]", out);
    bool bad = ferror(out) != 0;
    if (fclose(out) == 0 && !bad) return text;
    free(text);
    return NULL;
}

const char *nylon_entries(void) { return initialized ? announcement : NULL; }

void initialize(const char *config, int len) {
    pthread_once(&prepared, prepare);
    if (!announcement) announcement = describe();
    size_t length = len > 0 ? (size_t)len : 0;
    char *text = calloc(1, length + 1);
    initialized = false;
    if (!text) return;
    if (length) memcpy(text, config, length);
    initialized = !nylon_this_plugin.initialize || nylon_this_plugin.initialize(text);
    free(text);
}

void nylon_shutdown(void) {
    if (nylon_this_plugin.shutdown) nylon_this_plugin.shutdown();
    free(announcement);
    announcement = NULL;
}
