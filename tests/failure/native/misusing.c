/* A library that breaks the contract of docs/native-abi.md, one way for each entry; then it goes on as if nothing had been.
 *
 * It uses the bare ABI. What it finds out is in the request's header x-found, which the origin sees. */
#define _GNU_SOURCE
#include "nylon.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SLOTS = 1 << 18 };

typedef void behaviour(uint32_t sid);

static struct slot {
    atomic_uint sid;
    behaviour *does;
    atomic_bool responding;
} slots[SLOTS];

static nylon_callback callback;
static atomic_uint closed_sid, answers;

/* The answer that came on this thread last. */
static _Thread_local struct {
    unsigned count;
    uint64_t len;
    char text[256];
} answer;

static struct slot *slot_of(uint32_t sid) { return &slots[sid % SLOTS]; }

static void say(uint32_t sid, uint32_t method, const void *ptr, uint64_t len) {
    nylon_message message = {sid, 0, method, ptr, len};
    callback(&message);
}

static void next(uint32_t sid) { say(sid, NYLON_METHOD_NEXT, NULL, 0); }

static const char *ask(uint32_t sid, uint32_t method, const void *ptr, uint64_t len) {
    answer.count = 0;
    answer.len = 0;
    answer.text[0] = 0;
    say(sid, method, ptr, len);
    return answer.text;
}

/* Sets the request's header x-found, by hand. */
static void found(uint32_t sid, const char *text) {
    uint8_t table[96] = {12, 0, 0, 0, 8, 0, 12, 0, 4, 0, 8, 0, 8, 0, 0, 0, 8, 0, 0, 0, 16, 0, 0, 0};
    table[24] = 7;
    memcpy(table + 28, "x-found", 8);
    table[36] = (uint8_t)strlen(text);
    memcpy(table + 40, text, strlen(text));
    say(sid, NYLON_METHOD_SET_REQUEST_HEADER, table, sizeof table);
}

static void found_number(uint32_t sid, unsigned number) {
    char text[16];
    snprintf(text, sizeof text, "%u", number);
    found(sid, text);
}

static void in_thread(void *(*work)(void *), uint32_t sid) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, work, (void *)(uintptr_t)sid) == 0) pthread_detach(thread);
}

static void nap(void) { nanosleep(&(struct timespec){0, 1000000}, NULL); }

/* -- Sessions that are not one's own -- */

static void stale(uint32_t sid) {
    uint32_t old = atomic_load(&closed_sid);
    next(old);
    ask(old, NYLON_METHOD_READ_REQUEST_PATH, NULL, 0);
    found_number(sid, answer.count);
    next(sid);
}

static void unknown(uint32_t sid) {
    const uint32_t never[] = {0, INT32_MAX, UINT32_C(0x80000000) | sid, UINT32_MAX};
    for (size_t i = 0; i < sizeof never / sizeof *never; i++) {
        next(never[i]);
        ask(never[i], NYLON_METHOD_READ_REQUEST_PATH, NULL, 0);
    }
    next(sid);
}

/* Tells its number to whoever stands behind it. */
static void tells(uint32_t sid) {
    found_number(sid, sid);
    next(sid);
}

/* Ends the session of another library whose number it was told. */
static void foreign(uint32_t sid) {
    uint32_t other = (uint32_t)atol(ask(sid, NYLON_METHOD_READ_REQUEST_HEADER, "x-found", 7));
    say(other, NYLON_METHOD_END, NULL, 0);
    ask(other, NYLON_METHOD_READ_REQUEST_PATH, NULL, 0);
    found_number(sid, answer.count);
    next(sid);
}

/* -- Messages that make no sense -- */

static void null_message(uint32_t sid) {
    callback(NULL);
    next(sid);
}

static void null_payload(uint32_t sid) {
    say(sid, NYLON_METHOD_SET_REQUEST_HEADER, NULL, 100);
    ask(sid, NYLON_METHOD_READ_REQUEST_HEADER, NULL, 100);
    found_number(sid, answer.count + (unsigned)answer.len);
    next(sid);
}

static void huge(uint32_t sid) {
    say(sid, NYLON_METHOD_SET_REQUEST_BODY, "x", UINT64_C(1) << 40);
    say(sid, NYLON_METHOD_SET_REQUEST_PATH, "x", UINT64_MAX);
    ask(sid, NYLON_METHOD_READ_REQUEST_HEADER, "x", UINT64_C(1) << 40);
    found_number(sid, answer.count + (unsigned)answer.len);
    next(sid);
}

static void unknown_method(uint32_t sid) {
    unsigned count = 0;
    const uint32_t numbers[] = {0, 5, 99, 117, 216, 227, 304, 999, UINT32_MAX};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        ask(sid, numbers[i], "x", 1);
        count += answer.count;
    }
    found_number(sid, count);
    next(sid);
}

static void websocket(uint32_t sid) {
    say(sid, NYLON_METHOD_WEBSOCKET_SEND_TEXT, "x", 1);
    next(sid);
}

static void upgrade(uint32_t sid) { say(sid, NYLON_METHOD_WEBSOCKET_UPGRADE, NULL, 0); }

static void damaged_header(uint32_t sid) {
    say(sid, NYLON_METHOD_SET_REQUEST_HEADER, "\xff\xff\xff\x7f not a table", 16);
    next(sid);
}

static void short_status(uint32_t sid) {
    say(sid, NYLON_METHOD_SET_RESPONSE_STATUS, "x", 1);
    say(sid, NYLON_METHOD_END, NULL, 0);
}

/* -- Decisions -- */

static void next_twice(uint32_t sid) {
    next(sid);
    next(sid);
}

static void end_then_next(uint32_t sid) {
    say(sid, NYLON_METHOD_SET_RESPONSE_STATUS, "\x01\x93", 2); /* 403 */
    say(sid, NYLON_METHOD_END, NULL, 0);
    next(sid);
}

static void never(uint32_t sid) { (void)sid; }

static void *decide_after_close(void *argument) {
    uint32_t sid = (uint32_t)(uintptr_t)argument;
    while (atomic_load(&slot_of(sid)->sid) == sid) nap();
    next(sid);
    ask(sid, NYLON_METHOD_READ_REQUEST_PATH, NULL, 0);
    if (answer.count == 1 && answer.len == 0) atomic_fetch_add(&answers, 1);
    return NULL;
}

static void late(uint32_t sid) { in_thread(decide_after_close, sid); }

static void late_answers(uint32_t sid) {
    found_number(sid, atomic_load(&answers));
    next(sid);
}

/* -- Threads -- */

static void *read_many(void *argument) {
    uint32_t sid = (uint32_t)(uintptr_t)argument;
    uintptr_t right = 0;
    for (int i = 0; i < 300; i++) {
        right += ask(sid, NYLON_METHOD_READ_REQUEST_METHOD, NULL, 0)[0] == 'G' && answer.count == 1;
        right += ask(sid, NYLON_METHOD_READ_REQUEST_PATH, NULL, 0)[0] == '/' && answer.count == 1;
    }
    return (void *)right;
}

static void *read_from_several(void *argument) {
    uint32_t sid = (uint32_t)(uintptr_t)argument;
    pthread_t threads[4];
    unsigned right = 0;
    for (int i = 0; i < 4; i++)
        if (pthread_create(&threads[i], NULL, read_many, argument) != 0) abort();
    for (int i = 0; i < 4; i++) {
        void *result;
        pthread_join(threads[i], &result);
        right += (unsigned)(uintptr_t)result;
    }
    found_number(sid, right);
    next(sid);
    return NULL;
}

static void several_threads(uint32_t sid) { in_thread(read_from_several, sid); }

/* Decides from two threads at once: one of them wins. */
static void *end_at_once(void *argument) {
    say((uint32_t)(uintptr_t)argument, NYLON_METHOD_END, NULL, 0);
    return NULL;
}

static void race(uint32_t sid) {
    in_thread(end_at_once, sid);
    in_thread(end_at_once, sid);
}

/* Streams, and fails once its own response_filter has begun, which is over only then. */
static void *fail_beside(void *argument) {
    uint32_t sid = (uint32_t)(uintptr_t)argument;
    say(sid, NYLON_METHOD_SET_RESPONSE_STREAM_HEADER, NULL, 0);
    while (!atomic_load(&slot_of(sid)->responding) && atomic_load(&slot_of(sid)->sid) == sid) nap();
    nylon_message message = {sid, NYLON_PHASE_REQUEST_FILTER, NYLON_METHOD_FAIL, (const uint8_t *)"beside", 6};
    callback(&message);
    next(sid);
    return NULL;
}

static void fails_beside(uint32_t sid) { in_thread(fail_beside, sid); }

static atomic_bool calling, ended;

/* Calls for ever, through and beyond the library's shutdown. */
static void *call_for_ever(void *argument) {
    uint32_t sid = (uint32_t)(uintptr_t)argument;
    unsigned long calls = 0;
    while (!atomic_load(&ended) || calls++ < 1000) {
        ask(sid, NYLON_METHOD_READ_REQUEST_PATH, NULL, 0);
        next(sid);
    }
    return NULL;
}

static void for_ever(uint32_t sid) {
    if (!atomic_exchange(&calling, true)) in_thread(call_for_ever, sid);
    next(sid);
}

/* Two sessions that need each other: each stays inside event_stream until both are there. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static unsigned inside, met;

static bool await_number(const unsigned *number, unsigned least) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 15;
    int failed = 0;
    while (*number < least && !failed) failed = pthread_cond_timedwait(&changed, &lock, &until);
    return !failed;
}

static void meet(uint32_t sid) {
    pthread_mutex_lock(&lock);
    inside++;
    if (inside >= 2) met = 1;
    pthread_cond_broadcast(&changed);
    bool there = await_number(&met, 1);
    inside--;
    pthread_mutex_unlock(&lock);
    found(sid, there ? "met" : "alone");
    next(sid);
}

/* One session reads from a thread while another one stays inside event_stream. */
static unsigned held, read_meanwhile;

static void *read_while_held(void *argument) {
    uint32_t sid = (uint32_t)(uintptr_t)argument;
    pthread_mutex_lock(&lock);
    bool there = await_number(&held, 1);
    pthread_mutex_unlock(&lock);
    const char *path = ask(sid, NYLON_METHOD_READ_REQUEST_PATH, NULL, 0);
    found(sid, there && path[0] == '/' ? "read" : "not read");
    next(sid);
    pthread_mutex_lock(&lock);
    read_meanwhile++;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
    return NULL;
}

static void reader(uint32_t sid) { in_thread(read_while_held, sid); }

static void holder(uint32_t sid) {
    pthread_mutex_lock(&lock);
    held++;
    pthread_cond_broadcast(&changed);
    bool there = await_number(&read_meanwhile, 1);
    pthread_mutex_unlock(&lock);
    found(sid, there ? "held" : "blocked");
    next(sid);
}

/* Stays inside event_stream, long after its time, until it is told of. */
static void stuck(uint32_t sid) {
    const struct timespec pause = {2, 500000000};
    nanosleep(&pause, NULL);
    next(sid);
}

static const struct {
    const char *name;
    behaviour *does;
} entries[] = {
    {"fine", next},
    {"stale", stale},
    {"unknown", unknown},
    {"tells", tells},
    {"foreign", foreign},
    {"null-message", null_message},
    {"null-payload", null_payload},
    {"huge", huge},
    {"unknown-method", unknown_method},
    {"websocket", websocket},
    {"upgrade", upgrade},
    {"damaged-header", damaged_header},
    {"short-status", short_status},
    {"next-twice", next_twice},
    {"end-then-next", end_then_next},
    {"never", never},
    {"late", late},
    {"late-answers", late_answers},
    {"several-threads", several_threads},
    {"race", race},
    {"stuck", stuck},
    {"fails-beside", fails_beside},
    {"for-ever", for_ever},
    {"meet", meet},
    {"reader", reader},
    {"holder", holder},
};

enum { ENTRIES = sizeof entries / sizeof *entries };

/* -- What the gateway calls -- */

void initialize(const char *config, int len) {
    (void)config;
    (void)len;
}

bool register_session_stream(uint32_t sid, const char *entry, uint32_t len, nylon_callback given) {
    for (size_t i = 0; i < ENTRIES; i++) {
        if (strlen(entries[i].name) != len || memcmp(entries[i].name, entry, len) != 0) continue;
        callback = given;
        slot_of(sid)->does = entries[i].does;
        atomic_store(&slot_of(sid)->responding, false);
        atomic_store(&slot_of(sid)->sid, sid);
        return true;
    }
    return false;
}

void event_stream(const nylon_message *message) {
    if (message->phase == NYLON_PHASE_REQUEST_FILTER) {
        slot_of(message->sid)->does(message->sid);
    } else if (message->phase == NYLON_PHASE_RESPONSE_FILTER) {
        atomic_store(&slot_of(message->sid)->responding, true);
    } else if (message->phase == NYLON_PHASE_NONE) {
        answer.count++;
        answer.len = message->len;
        size_t len = message->len < sizeof answer.text ? message->len : sizeof answer.text - 1;
        if (len) memcpy(answer.text, message->ptr, len);
        answer.text[len] = 0;
    }
}

/* Also calls back when all is over. */
void close_session_stream(uint32_t sid) {
    next(sid);
    ask(sid, NYLON_METHOD_READ_REQUEST_PATH, NULL, 0);
    atomic_store(&closed_sid, sid);
    atomic_store(&slot_of(sid)->sid, 0);
}

void plugin_free(const uint8_t *ptr) { (void)ptr; }

void nylon_shutdown(void) { atomic_store(&ended, true); }

uint32_t nylon_abi_version(void) { return NYLON_ABI_VERSION; }

const char *nylon_entries(void) {
    static char text[ENTRIES * 96];
    size_t len = 0;
    for (size_t i = 0; i < ENTRIES; i++)
        len += (size_t)snprintf(text + len, sizeof text - len, "%c{\"name\":\"%s\",\"phases\":[\"request_filter\"%s]}",
                                i ? ',' : '[', entries[i].name,
                                entries[i].does == fails_beside ? ",\"response_filter\"" : "");
    snprintf(text + len, sizeof text - len, "]");
    return text;
}
