/* The symbols of the ABI. They are C, so that the answer of a read, which comes on the thread that asks, is copied without
 * entering Go once more: that is most of what a read would cost. */

#include "exports.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "_cgo_export.h"

/* The read that this thread is waiting for. */
struct question {
    uint32_t sid;
    uint32_t method;
    uint8_t *room;
    uint64_t room_len;
    nylon_answer answer;
};

static __thread struct question *asked;
static volatile bool initialized;

void nylon_do(nylon_callback callback, uint32_t sid, uint32_t method, const uint8_t *ptr, uint64_t len) {
    FfiBuffer message = {sid, 0, method, len ? ptr : NULL, len};
    callback(&message);
}

nylon_answer nylon_ask(nylon_callback callback, uint32_t sid, uint32_t method, const uint8_t *ptr, uint64_t len,
                       uint8_t *room, uint64_t room_len) {
    struct question question = {sid, method, room, room_len, {false, 0, NULL}};
    struct question *outer = asked;
    asked = &question;
    nylon_do(callback, sid, method, ptr, len);
    asked = outer;
    return question.answer;
}

static bool answers(struct question *question, const FfiBuffer *event) {
    return question != NULL && !question->answer.answered && event->phase == 0 && event->sid == question->sid &&
           event->method == question->method;
}

void event_stream(const FfiBuffer *event) {
    struct question *question = asked;
    if (event == NULL) return;
    if (!answers(question, event)) {
        nylonGoEvent(event->sid, event->phase, event->method, (void *)event->ptr, event->len);
        return;
    }
    question->answer.answered = true;
    question->answer.len = event->len;
    if (event->len == 0) return;
    uint8_t *target = question->room;
    if (event->len > question->room_len) {
        target = question->answer.spilled = malloc(event->len);
        if (target == NULL) {
            fputs("nylon: out of memory\n", stderr);
            abort();
        }
    }
    memcpy(target, event->ptr, event->len);
}

void initialize(const char *config, int len) {
    initialized = true;
    nylonGoInitialize((void *)config, len);
}

bool register_session_stream(uint32_t sid, const char *entry, uint32_t len, nylon_callback callback) {
    return nylonGoOpen(sid, (void *)entry, len, callback);
}

void close_session_stream(uint32_t sid) { nylonGoClose(sid); }

/* What is handed over belongs to Go, which frees it by itself: so a gateway with `callback_memory: host` does no harm. */
void plugin_free(const uint8_t *memory) { (void)memory; }

uint32_t nylon_abi_version(void) { return 2; }

const char *nylon_entries(void) { return nylonGoEntries(); }

/* In a program this name covers that of the C library, whose callers want a socket shut down; there is no gateway then. In a
 * library the gateway has called initialize before, and passes no arguments. */
int shutdown(int socket, int how) {
    if (!initialized) return (int)syscall(SYS_shutdown, socket, how);
    nylonGoShutdown();
    return 0;
}
