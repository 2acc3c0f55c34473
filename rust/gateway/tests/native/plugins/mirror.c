/* Answers with what it reads, and does what its entry is named after; of version 2. */
#include "plugin.h"

uint32_t nylon_abi_version(void) { return 2; }

const char *nylon_entries(void) {
    return "[{\"name\": \"reads\", \"phases\": [\"request_filter\", \"response_filter\", \"logging\"]},"
           "{\"name\": \"never\", \"phases\": [\"request_filter\"]},"
           "{\"name\": \"list\", \"phases\": [\"request_filter\"]},"
           "{\"name\": \"request\", \"phases\": [\"request_filter\"]},"
           "{\"name\": \"response\", \"phases\": [\"response_filter\"]},"
           "{\"name\": \"fails\", \"phases\": [\"request_filter\"]},"
           "{\"name\": \"invalid\", \"phases\": [\"request_filter\"]},"
           "{\"name\": \"garbage\", \"phases\": [\"request_filter\"]},"
           "{\"name\": \"too_late\", \"phases\": [\"response_filter\"]},"
           "{\"name\": \"twice\", \"phases\": [\"request_filter\"]},"
           "{\"name\": \"unknown\", \"phases\": [\"request_filter\"]},"
           "{\"name\": \"upgrade\", \"phases\": [\"request_filter\"]},"
           "{\"name\": \"body\", \"phases\": [\"request_filter\"], \"body\": true},"
           "{\"name\": \"whole\", \"phases\": [\"response_body_filter\"]},"
           "{\"name\": \"chunks\", \"phases\": [\"response_body_filter\"], \"stream\": true}]";
}

/* The answers to all questions of a phase, a line each. */
static void line(char *out, size_t room, uint32_t sid, uint32_t method, const char *what) {
    size_t length = 0, used = strlen(out);
    const char *answer = ask_for(sid, method, what, &length);
    snprintf(out + used, room - used, "%u=%.*s\n", method, (int)length, answer);
}

static const uint32_t request_texts[] = {203, 204, 205, 206, 207, 208, 209, 210, 211, 212, 213, 214, 215};
static const uint32_t response_texts[] = {108, 109, 111, 112};

static void reads(uint32_t sid, uint8_t phase) {
    char out[4096] = {0};
    line(out, sizeof out, sid, NYLON_METHOD_GET_PAYLOAD, "");
    line(out, sizeof out, sid, NYLON_METHOD_READ_REQUEST_HEADER, "X-Two");
    line(out, sizeof out, sid, NYLON_METHOD_READ_REQUEST_HEADER, "x-none");
    line(out, sizeof out, sid, NYLON_METHOD_READ_RESPONSE_HEADER, "x-origin");
    for (size_t i = 0; i < sizeof request_texts / 4; i++) line(out, sizeof out, sid, request_texts[i], "");
    for (size_t i = 0; i < sizeof response_texts / 4; i++) line(out, sizeof out, sid, response_texts[i], "");
    if (phase == NYLON_PHASE_LOGGING) {
        FILE *log = fopen(given, "w");
        if (log) {
            fputs(out, log);
            fclose(log);
        }
    } else if (phase == NYLON_PHASE_RESPONSE_FILTER) {
        tell(sid, NYLON_METHOD_SET_RESPONSE_FULL_BODY, out);
    }
    next(sid);
}

static void handle(uint32_t sid, const char *entry, uint8_t phase) {
    if (strcmp(entry, "never") == 0) {
        return;
    } else if (strcmp(entry, "reads") == 0) {
        reads(sid, phase);
    } else if (strcmp(entry, "list") == 0) {
        size_t length = 0;
        const char *fields = ask_for(sid, NYLON_METHOD_READ_REQUEST_HEADERS, "", &length);
        send_to(sid, NYLON_METHOD_SET_RESPONSE_FULL_BODY, fields, length);
        end(sid);
    } else if (strcmp(entry, "request") == 0) {
        tell(sid, NYLON_METHOD_SET_REQUEST_METHOD, "PATCH");
        tell(sid, NYLON_METHOD_SET_REQUEST_PATH, "/other%20path");
        tell(sid, NYLON_METHOD_SET_REQUEST_QUERY, "q=1");
        tell_field(sid, NYLON_METHOD_SET_REQUEST_HEADER, "x-set", "plain");
        tell_field(sid, NYLON_METHOD_ADD_REQUEST_HEADER, "x-set", "more");
        tell(sid, NYLON_METHOD_REMOVE_REQUEST_HEADER, "X-Two");
        tell_field(sid, NYLON_METHOD_SET_REQUEST_HEADER, "content-length", "99");
        tell_field(sid, NYLON_METHOD_SET_REQUEST_HEADER, "transfer-encoding", "chunked");
        tell(sid, NYLON_METHOD_SET_REQUEST_BODY, "made here");
        next(sid);
    } else if (strcmp(entry, "response") == 0) {
        tell_status(sid, 201);
        tell_field(sid, NYLON_METHOD_SET_RESPONSE_HEADER, "x-a", "1");
        tell_field(sid, NYLON_METHOD_ADD_RESPONSE_HEADER, "x-a", "2");
        tell(sid, NYLON_METHOD_REMOVE_RESPONSE_HEADER, "x-origin");
        tell_field(sid, NYLON_METHOD_SET_RESPONSE_HEADER, "content-length", "1");
        tell_field(sid, NYLON_METHOD_SET_RESPONSE_HEADER, "transfer-encoding", "chunked");
        end(sid);
    } else if (strcmp(entry, "fails") == 0) {
        tell_field(sid, NYLON_METHOD_SET_REQUEST_HEADER, "x-set", "1");
        tell(sid, NYLON_METHOD_FAIL, "this went wrong");
        next(sid);
    } else if (strcmp(entry, "invalid") == 0) {
        tell_field(sid, NYLON_METHOD_SET_REQUEST_HEADER, "x-set", "a\r\nb: c");
        next(sid);
    } else if (strcmp(entry, "garbage") == 0) {
        send_to(sid, NYLON_METHOD_SET_REQUEST_HEADER, "\xff\xff\xff\x7f not a table", 16);
        next(sid);
    } else if (strcmp(entry, "too_late") == 0) {
        tell(sid, NYLON_METHOD_SET_REQUEST_METHOD, "PUT");
        next(sid);
    } else if (strcmp(entry, "twice") == 0) {
        tell_status(sid, 403);
        end(sid);
        next(sid);
        tell_status(sid, 200);
    } else if (strcmp(entry, "unknown") == 0) {
        size_t length = 1;
        ask_for(sid, 999, "what?", &length);
        ask_for(sid, NYLON_METHOD_WEBSOCKET_ON_OPEN, "", &length);
        tell(sid, NYLON_METHOD_WEBSOCKET_SEND_TEXT, "hello");
        next(sid);
    } else if (strcmp(entry, "upgrade") == 0) {
        tell(sid, NYLON_METHOD_WEBSOCKET_UPGRADE, "");
    } else if (strcmp(entry, "body") == 0) {
        size_t length = 0;
        const char *body = ask_for(sid, NYLON_METHOD_READ_REQUEST_FULL_BODY, "", &length);
        send_to(sid, NYLON_METHOD_SET_RESPONSE_FULL_BODY, body, length);
        end(sid);
    } else if (strcmp(entry, "whole") == 0) {
        size_t length = 0;
        char copy[64] = {0};
        const char *body = ask_for(sid, NYLON_METHOD_READ_RESPONSE_FULL_BODY, "", &length);
        snprintf(copy, sizeof copy, "<%.*s>", (int)length, body);
        tell(sid, NYLON_METHOD_SET_RESPONSE_FULL_BODY, copy);
        next(sid);
    } else {
        size_t length = 0;
        const char *chunk = ask_for(sid, NYLON_METHOD_READ_RESPONSE_CHUNK, "", &length);
        char *copy = malloc(length + 1);
        size_t used = 0;
        for (size_t i = 1; i < length; i++) copy[used++] = chunk[i] == 'l' ? 'L' : chunk[i];
        if (chunk[0]) copy[used++] = '!';
        send_to(sid, NYLON_METHOD_SET_RESPONSE_CHUNK, copy, used);
        free(copy);
        next(sid);
    }
}
