/* What entries do with bodies; of version 1, so that the gateway knows nothing of them beforehand. */
#include "plugin.h"

static void set_body(uint32_t sid, const char *text) { tell(sid, NYLON_METHOD_SET_RESPONSE_FULL_BODY, text); }

/* The body in brackets. */
static void bracket(uint32_t sid, uint32_t method, uint32_t reply) {
    size_t length = 0;
    const char *body = ask_for(sid, method, "", &length);
    char *text = malloc(length + 3);
    text[0] = '[';
    memcpy(text + 1, body, length);
    text[length + 1] = ']';
    send_to(sid, reply, text, length + 2);
    free(text);
}

static void upload(uint32_t sid) {
    bracket(sid, NYLON_METHOD_READ_REQUEST_FULL_BODY, NYLON_METHOD_SET_REQUEST_BODY);
    next(sid);
}

static void look_at_upload(uint32_t sid) {
    ask(sid, NYLON_METHOD_READ_REQUEST_FULL_BODY, "");
    next(sid);
}

static void download(uint32_t sid) {
    bracket(sid, NYLON_METHOD_READ_RESPONSE_FULL_BODY, NYLON_METHOD_SET_RESPONSE_FULL_BODY);
    next(sid);
}

static void look_at_download(uint32_t sid) {
    ask(sid, NYLON_METHOD_READ_RESPONSE_FULL_BODY, "");
    tell_field(sid, NYLON_METHOD_SET_RESPONSE_HEADER, "x-read", "1");
    next(sid);
}

/* Asks twice and decides without waiting for any answer. */
static void hasty(uint32_t sid) {
    tell(sid, NYLON_METHOD_READ_REQUEST_FULL_BODY, "");
    tell(sid, NYLON_METHOD_READ_REQUEST_FULL_BODY, "");
    next(sid);
}

/* Asks from a thread, and decides while the body is still on its way. */
static void impatient(uint32_t sid) {
    tell(sid, NYLON_METHOD_READ_REQUEST_FULL_BODY, "");
    pause_ms(50);
    next(sid);
}

static void impatient_download(uint32_t sid) {
    tell(sid, NYLON_METHOD_READ_RESPONSE_FULL_BODY, "");
    pause_ms(50);
    next(sid);
}

static void handle(uint32_t sid, const char *entry, uint8_t phase) {
    bool request = phase == NYLON_PHASE_REQUEST_FILTER, body = phase == NYLON_PHASE_RESPONSE_BODY_FILTER;
    if (request && strcmp(entry, "upload") == 0) {
        in_thread(upload, sid);
    } else if (request && strcmp(entry, "look_at_upload") == 0) {
        in_thread(look_at_upload, sid);
    } else if (request && strcmp(entry, "hasty") == 0) {
        hasty(sid);
    } else if (request && strcmp(entry, "impatient") == 0) {
        in_thread(impatient, sid);
    } else if (body && strcmp(entry, "impatient_download") == 0) {
        in_thread(impatient_download, sid);
    } else if (body && strcmp(entry, "download") == 0) {
        in_thread(download, sid);
    } else if (body && strcmp(entry, "look_at_download") == 0) {
        in_thread(look_at_download, sid);
    } else if (body && strcmp(entry, "replace") == 0) {
        set_body(sid, "replaced");
        next(sid);
    } else if (body && strcmp(entry, "head_only") == 0) {
        tell_field(sid, NYLON_METHOD_SET_RESPONSE_HEADER, "x-seen", "1");
        next(sid);
    } else if (phase == NYLON_PHASE_RESPONSE_FILTER && strcmp(entry, "early") == 0) {
        size_t length = 1;
        ask_for(sid, NYLON_METHOD_READ_RESPONSE_FULL_BODY, "", &length);
        tell_field(sid, NYLON_METHOD_SET_RESPONSE_HEADER, "x-length", length == 0 ? "0" : "some");
        next(sid);
    } else {
        next(sid);
    }
}
