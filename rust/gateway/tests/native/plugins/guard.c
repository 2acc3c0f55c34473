/* Lets requests with a key through, and refuses the others; of version 1. */
#define HAS_ENTRY(name) (strcmp(name, "guard") == 0 || strcmp(name, "later") == 0)
#include "plugin.h"

static void check(uint32_t sid) {
    char path[128] = {0};
    strncpy(path, ask(sid, NYLON_METHOD_READ_REQUEST_PATH, ""), sizeof path - 1);
    if (strcmp(ask(sid, NYLON_METHOD_READ_REQUEST_HEADER, "X-Key"), "secret") != 0) {
        tell_status(sid, 401);
        tell_field(sid, NYLON_METHOD_SET_RESPONSE_HEADER, "www-authenticate", "ApiKey");
        /* As existing plugins do it. */
        tell(sid, NYLON_METHOD_REMOVE_RESPONSE_HEADER, "content-length");
        tell_field(sid, NYLON_METHOD_SET_RESPONSE_HEADER, "transfer-encoding", "chunked");
        tell(sid, NYLON_METHOD_SET_RESPONSE_FULL_BODY, path);
        end(sid);
        return;
    }
    tell_field(sid, NYLON_METHOD_SET_REQUEST_HEADER, "x-user", "42");
    next(sid);
}

static void check_later(uint32_t sid) {
    pause_ms(20);
    check(sid);
}

static void handle(uint32_t sid, const char *entry, uint8_t phase) {
    if (phase != NYLON_PHASE_REQUEST_FILTER) {
        next(sid);
    } else if (strcmp(entry, "later") == 0) {
        in_thread(check_later, sid);
    } else {
        check(sid);
    }
}
