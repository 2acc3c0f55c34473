/* Writes its responses bit by bit; of version 1. */
#include "plugin.h"

static char part[64 * 1024];

static void begin(uint32_t sid) {
    tell_status(sid, 202);
    tell_field(sid, NYLON_METHOD_SET_RESPONSE_HEADER, "transfer-encoding", "chunked");
    tell(sid, NYLON_METHOD_REMOVE_RESPONSE_HEADER, "content-length");
    tell(sid, NYLON_METHOD_SET_RESPONSE_STREAM_HEADER, "");
}

static void finish(uint32_t sid) { tell(sid, NYLON_METHOD_SET_RESPONSE_STREAM_END, ""); }

static void short_one(uint32_t sid) {
    begin(sid);
    /* What was asked for is still there to be read. */
    tell(sid, NYLON_METHOD_SET_RESPONSE_STREAM_DATA, ask(sid, NYLON_METHOD_READ_REQUEST_PATH, ""));
    tell(sid, NYLON_METHOD_SET_RESPONSE_STREAM_DATA, " and more");
    finish(sid);
}

/* Asks all the while that the pipeline takes the stream from the session. */
static void asking(uint32_t sid) {
    int unanswered = 0;
    begin(sid);
    for (int i = 0; i < 2000; i++) unanswered += ask(sid, NYLON_METHOD_READ_REQUEST_PATH, "")[0] != '/';
    tell(sid, NYLON_METHOD_SET_RESPONSE_STREAM_DATA, unanswered ? "some are unanswered" : "all are answered");
    finish(sid);
}

/* 16 MiB, and says in a file how far it has come. */
static void large(uint32_t sid) {
    begin(sid);
    memset(part, 'x', sizeof part);
    for (int i = 0; i < 256; i++) {
        send_to(sid, NYLON_METHOD_SET_RESPONSE_STREAM_DATA, part, sizeof part);
        FILE *log = fopen(given, "w");
        if (log) {
            fprintf(log, "%d", i + 1);
            fclose(log);
        }
    }
    finish(sid);
}

static void stalls(uint32_t sid) {
    begin(sid);
    tell(sid, NYLON_METHOD_SET_RESPONSE_STREAM_DATA, "half");
}

static void fails(uint32_t sid) {
    stalls(sid);
    tell(sid, NYLON_METHOD_FAIL, "the source is gone");
}

static void handle(uint32_t sid, const char *entry, uint8_t phase) {
    if (phase != NYLON_PHASE_REQUEST_FILTER) {
        next(sid);
    } else if (strcmp(entry, "inline") == 0) {
        short_one(sid);
    } else if (strcmp(entry, "inline_large") == 0) {
        large(sid);
    } else if (strcmp(entry, "inline_fails") == 0) {
        fails(sid);
    } else if (strcmp(entry, "headless") == 0) {
        tell(sid, NYLON_METHOD_SET_RESPONSE_STREAM_DATA, "x");
        finish(sid);
    } else {
        in_thread(strcmp(entry, "short") == 0    ? short_one
                  : strcmp(entry, "asking") == 0 ? asking
                  : strcmp(entry, "large") == 0  ? large
                  : strcmp(entry, "stalls") == 0 ? stalls
                                                 : fails,
                  sid);
    }
}
