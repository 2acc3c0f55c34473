#define _POSIX_C_SOURCE 200809L
#include "gateway.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

enum { SESSIONS = 1 << 16, METHODS = 400, PATIENCE = 60 };

/* Each session has a lock of its own: one for all would order the library's calls, and hide its races from the sanitizer. */
static struct session {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    char *told; /* what the library did in the phase that runs */
    bool over, asked, open;
} sessions[SESSIONS];

static struct {
    void *bytes;
    size_t len;
} answers[METHODS];

static pthread_rwlock_t answers_lock = PTHREAD_RWLOCK_INITIALIZER;
static atomic_uint last_sid;

static uint32_t u32_at(const uint8_t *p) { return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24; }

/* The name or the value of a HeaderKeyValue whose writer is known. */
static const char *part(const nylon_message *message, size_t number) {
    const uint8_t *table = message->ptr + u32_at(message->ptr);
    const uint8_t *at = table + 4 + 4 * number;
    const uint8_t *string = at + u32_at(at);
    CHECK(u32_at(table) == 8 && message->ptr[4] == 8 && message->ptr[6] == 12);
    CHECK(string + 4 + u32_at(string) < message->ptr + message->len && string[4 + u32_at(string)] == 0);
    CHECK((string - message->ptr) % 4 == 0);
    return (const char *)string + 4;
}

static void note(FILE *out, const nylon_message *message) {
    const char *text = (const char *)message->ptr;
    int len = (int)message->len;
    switch (message->method) {
    case NYLON_METHOD_NEXT:
        fputs("next", out);
        return;
    case NYLON_METHOD_END:
        fputs("end", out);
        return;
    case NYLON_METHOD_FAIL:
        fprintf(out, "fail %.*s", len, text);
        return;
    case NYLON_METHOD_SET_RESPONSE_STREAM_END:
        fputs("stream_end", out);
        return;
    case NYLON_METHOD_SET_RESPONSE_STATUS:
        CHECK(len == 2);
        fprintf(out, "status %d\n", message->ptr[0] << 8 | message->ptr[1]);
        return;
    case NYLON_METHOD_SET_RESPONSE_HEADER:
    case NYLON_METHOD_ADD_RESPONSE_HEADER:
    case NYLON_METHOD_SET_REQUEST_HEADER:
    case NYLON_METHOD_ADD_REQUEST_HEADER:
        fprintf(out, "%u %s=%s\n", message->method, part(message, 0), part(message, 1));
        return;
    default:
        fprintf(out, "%u %.*s\n", message->method, len, text ? text : "");
    }
}

static bool ends(uint32_t method) {
    return method <= NYLON_METHOD_END || method == NYLON_METHOD_FAIL || method == NYLON_METHOD_SET_RESPONSE_STREAM_END;
}

static bool reads(uint32_t method) {
    return method == NYLON_METHOD_GET_PAYLOAD ||
           (method >= NYLON_METHOD_READ_RESPONSE_FULL_BODY && method <= NYLON_METHOD_READ_RESPONSE_ERROR) ||
           method == NYLON_METHOD_READ_RESPONSE_HEADER || method == NYLON_METHOD_READ_RESPONSE_CHUNK ||
           (method >= NYLON_METHOD_READ_REQUEST_FULL_BODY && method <= NYLON_METHOD_READ_ATTEMPT);
}

static void callback(const nylon_message *message) {
    CHECK(message->method < METHODS && message->phase <= NYLON_PHASE_LOGGING && (message->ptr || !message->len));
    struct session *session = &sessions[message->sid];
    if (reads(message->method)) {
        pthread_rwlock_rdlock(&answers_lock);
        size_t len = answers[message->method].len;
        uint8_t *copy = answers[message->method].bytes ? malloc(len + 1) : NULL;
        if (copy) memcpy(copy, answers[message->method].bytes, len);
        pthread_rwlock_unlock(&answers_lock);
        if (copy) {
            nylon_message answer = {message->sid, 0, message->method, len ? copy : NULL, len};
            event_stream(&answer);
            free(copy);
            return;
        }
        pthread_mutex_lock(&session->lock);
        session->asked = true;
        pthread_mutex_unlock(&session->lock);
        return;
    }
    pthread_mutex_lock(&session->lock);
    if (session->open) { /* what comes later is refused, and harmless */
        char *text = NULL;
        size_t len = 0;
        FILE *out = open_memstream(&text, &len);
        CHECK(out && !session->over);
        fputs(session->told ? session->told : "", out);
        note(out, message);
        fclose(out);
        free(session->told);
        session->told = text;
        session->over = ends(message->method);
        pthread_cond_broadcast(&session->changed);
    }
    pthread_mutex_unlock(&session->lock);
}

uint32_t gateway_open(const char *entry) {
    uint32_t sid = atomic_fetch_add_explicit(&last_sid, 1, memory_order_relaxed) + 1;
    CHECK(sid < SESSIONS);
    CHECK(pthread_mutex_init(&sessions[sid].lock, NULL) == 0 && pthread_cond_init(&sessions[sid].changed, NULL) == 0);
    sessions[sid].open = true;
    return register_session_stream(sid, entry, (uint32_t)strlen(entry), callback) ? sid : 0;
}

void gateway_start(uint32_t sid, uint8_t phase) {
    nylon_message message = {sid, phase, 0, NULL, 0};
    event_stream(&message);
}

char *gateway_await(uint32_t sid) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += PATIENCE;
    struct session *session = &sessions[sid];
    pthread_mutex_lock(&session->lock);
    while (!session->over) CHECK(pthread_cond_timedwait(&session->changed, &session->lock, &until) == 0);
    char *told = session->told;
    session->told = NULL;
    session->over = false;
    pthread_mutex_unlock(&session->lock);
    return told;
}

void gateway_expect(uint32_t sid, uint8_t phase, const char *expected) {
    gateway_start(sid, phase);
    char *told = gateway_await(sid);
    if (strcmp(told, expected) != 0) fprintf(stderr, "expected:\n%s\ngot:\n%s\n", expected, told);
    CHECK(strcmp(told, expected) == 0);
    free(told);
}

void gateway_close(uint32_t sid) {
    pthread_mutex_lock(&sessions[sid].lock);
    sessions[sid].open = false;
    free(sessions[sid].told);
    sessions[sid].told = NULL;
    pthread_mutex_unlock(&sessions[sid].lock);
    close_session_stream(sid);
}

void gateway_answers(uint32_t method, const void *bytes, size_t len) {
    pthread_rwlock_wrlock(&answers_lock);
    free(answers[method].bytes);
    answers[method].bytes = bytes ? malloc(len + 1) : NULL;
    if (bytes) memcpy(answers[method].bytes, bytes, len);
    answers[method].len = len;
    pthread_rwlock_unlock(&answers_lock);
}

void gateway_answers_text(uint32_t method, const char *text) { gateway_answers(method, text, strlen(text)); }

void gateway_supply(uint32_t sid, const char *body) {
    pthread_mutex_lock(&sessions[sid].lock);
    CHECK(sessions[sid].asked);
    sessions[sid].asked = false;
    pthread_mutex_unlock(&sessions[sid].lock);
    nylon_message answer = {sid, 0, NYLON_METHOD_READ_REQUEST_FULL_BODY, (const uint8_t *)body, strlen(body)};
    event_stream(&answer);
}

bool gateway_is_asked(uint32_t sid) {
    pthread_mutex_lock(&sessions[sid].lock);
    bool asked = sessions[sid].asked;
    pthread_mutex_unlock(&sessions[sid].lock);
    return asked;
}

static void put_u32(uint8_t *at, size_t value) {
    for (int i = 0; i < 4; i++) at[i] = (uint8_t)(value >> 8 * i);
}

static size_t put_string(uint8_t *buffer, size_t at, const char *text) {
    size_t len = strlen(text);
    put_u32(buffer + at, len);
    memcpy(buffer + at + 4, text, len + 1);
    return at + 4 + (len + 4) / 4 * 4;
}

/* One vtable for the root (one field, at 4), one for all headers (at 4 and 8), then the vector, the tables, the strings. */
size_t gateway_headers(uint8_t *buffer, size_t room, const char *const (*pairs)[2], size_t count) {
    static const uint8_t head[] = {12, 0, 0, 0, 6, 0, 8, 0, 4, 0, 0, 0, 8, 0, 0, 0, 12, 0, 0, 0, 8, 0, 12, 0, 4, 0, 8, 0};
    enum { HEADER_VTABLE = 20, VECTOR = 28 };
    memset(buffer, 0, room);
    memcpy(buffer, head, sizeof head);
    put_u32(buffer + 16, VECTOR - 16);
    put_u32(buffer + VECTOR, count);
    size_t table = VECTOR + 4 + 4 * count, at = table + 12 * count;
    for (size_t i = 0; i < count; i++, table += 12) {
        put_u32(buffer + VECTOR + 4 + 4 * i, table - (VECTOR + 4 + 4 * i));
        put_u32(buffer + table, table - HEADER_VTABLE);
        for (size_t part = 0; part < 2; part++) {
            put_u32(buffer + table + 4 + 4 * part, at - (table + 4 + 4 * part));
            CHECK(at + 8 + strlen(pairs[i][part]) < room);
            at = put_string(buffer, at, pairs[i][part]);
        }
    }
    return at;
}
