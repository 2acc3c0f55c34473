/* What the plugins of these tests begin with: the symbols, a table of sessions, reads that wait for their answer. */
#ifndef PLUGIN_H
#define PLUGIN_H

#include <nylon.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SESSIONS 4096

struct session {
    uint32_t sid;
    char entry[64];
    /* The last answer, and how many there were. */
    uint8_t *answer;
    size_t length;
    unsigned answers;
};

/* Each plugin has its own. */
static void handle(uint32_t sid, const char *entry, uint8_t phase);
#ifndef HAS_ENTRY
#define HAS_ENTRY(name) true
#endif

/* The configuration, which the tests give as a bare text. */
static char given[256];
static nylon_callback callback;
static struct session sessions[SESSIONS];
static pthread_mutex_t table = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t answered = PTHREAD_COND_INITIALIZER;
static atomic_uint opened, closed, shutdowns, freed;

static struct session *find(uint32_t sid) {
    for (int i = 0; i < SESSIONS; i++)
        if (sessions[i].sid == sid) return &sessions[i];
    return NULL;
}

static void send_to(uint32_t sid, uint32_t method, const void *bytes, size_t length) {
    uint8_t *copy = NULL;
    if (length > 0) {
        copy = malloc(length);
        memcpy(copy, bytes, length);
    }
    nylon_message message = {sid, 0, method, copy, length};
    callback(&message);
#ifndef GATEWAY_FREES
    free(copy);
#endif
}

static void tell(uint32_t sid, uint32_t method, const char *text) { send_to(sid, method, text, strlen(text)); }

/* Asks, and waits for the answer, which ends with a NUL and is good until the next question of the session. */
static const char *ask_for(uint32_t sid, uint32_t method, const char *what, size_t *length) {
    pthread_mutex_lock(&table);
    struct session *session = find(sid);
    unsigned before = session ? session->answers : 0;
    pthread_mutex_unlock(&table);
    if (!session) return "";
    tell(sid, method, what);
    pthread_mutex_lock(&table);
    while (session->sid == sid && session->answers == before) pthread_cond_wait(&answered, &table);
    const char *answer = session->sid == sid ? (const char *)session->answer : "";
    if (length) *length = session->length;
    pthread_mutex_unlock(&table);
    return answer;
}

static inline const char *ask(uint32_t sid, uint32_t method, const char *what) {
    return ask_for(sid, method, what, NULL);
}

/* A HeaderKeyValue: vtable, table, and the two strings behind it. */
static inline void tell_field(uint32_t sid, uint32_t method, const char *name, const char *value) {
    uint8_t bytes[1024] = {0};
    uint32_t name_at = 24, value_at = (uint32_t)(name_at + 4 + strlen(name) + 4) & ~3u;
    const uint16_t vtable[4] = {8, 12, 4, 8};
    const uint32_t root = 12;
    memcpy(bytes, &root, 4);
    memcpy(bytes + 4, vtable, 8);
    const int32_t to_vtable = 8;
    memcpy(bytes + 12, &to_vtable, 4);
    const uint32_t to_name = name_at - 16, to_value = value_at - 20;
    memcpy(bytes + 16, &to_name, 4);
    memcpy(bytes + 20, &to_value, 4);
    const uint32_t name_length = (uint32_t)strlen(name), value_length = (uint32_t)strlen(value);
    memcpy(bytes + name_at, &name_length, 4);
    memcpy(bytes + name_at + 4, name, name_length);
    memcpy(bytes + value_at, &value_length, 4);
    memcpy(bytes + value_at + 4, value, value_length);
    send_to(sid, method, bytes, value_at + 4 + value_length + 1);
}

static inline void tell_status(uint32_t sid, uint16_t status) {
    const uint8_t bytes[2] = {(uint8_t)(status >> 8), (uint8_t)status};
    send_to(sid, NYLON_METHOD_SET_RESPONSE_STATUS, bytes, 2);
}

static inline void next(uint32_t sid) { tell(sid, NYLON_METHOD_NEXT, ""); }
static inline void end(uint32_t sid) { tell(sid, NYLON_METHOD_END, ""); }

static inline void pause_ms(long milliseconds) {
    struct timespec time = {milliseconds / 1000, milliseconds % 1000 * 1000000};
    nanosleep(&time, NULL);
}

/* Goes on in a thread of its own. */
struct job {
    void (*run)(uint32_t sid);
    uint32_t sid;
};

static inline void *job_run(void *argument) {
    struct job job = *(struct job *)argument;
    free(argument);
    job.run(job.sid);
    return NULL;
}

static inline void in_thread(void (*run)(uint32_t sid), uint32_t sid) {
    struct job *job = malloc(sizeof *job);
    *job = (struct job){run, sid};
    pthread_t thread;
    pthread_create(&thread, NULL, job_run, job);
    pthread_detach(thread);
}

void initialize(const char *config, int length) {
    memset(given, 0, sizeof given);
    memcpy(given, config, length < 255 ? (size_t)length : 255);
}

bool register_session_stream(uint32_t sid, const char *entry, uint32_t length, nylon_callback call) {
    char name[64] = {0};
    memcpy(name, entry, length < 63 ? length : 63);
    if (!HAS_ENTRY(name)) return false;
    callback = call;
    pthread_mutex_lock(&table);
    struct session *session = find(0);
    if (session) {
        session->sid = sid;
        session->answers = 0;
        memcpy(session->entry, name, sizeof name);
        opened++;
    }
    pthread_mutex_unlock(&table);
    return session != NULL;
}

void event_stream(const nylon_message *message) {
    char entry[64] = {0};
    pthread_mutex_lock(&table);
    struct session *session = find(message->sid);
    if (session && message->phase == 0) {
        free(session->answer);
        session->answer = malloc(message->len + 1);
        if (message->len > 0) memcpy(session->answer, message->ptr, message->len);
        session->answer[message->len] = 0;
        session->length = message->len;
        session->answers++;
        pthread_cond_broadcast(&answered);
    }
    if (session) memcpy(entry, session->entry, sizeof entry);
    pthread_mutex_unlock(&table);
    if (session && message->phase != 0) handle(message->sid, entry, message->phase);
}

void close_session_stream(uint32_t sid) {
    pthread_mutex_lock(&table);
    struct session *session = find(sid);
    if (session) {
        free(session->answer);
        memset(session, 0, sizeof *session);
        closed++;
        pthread_cond_broadcast(&answered);
    }
    pthread_mutex_unlock(&table);
}

void plugin_free(const uint8_t *bytes) {
    freed++;
    free((void *)bytes);
}

void nylon_shutdown(void) { shutdowns++; }

#endif
