/* JSON of known shape, content, the origin over plain sockets, threads. */
#define _POSIX_C_SOURCE 200809L
#include "entries.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

const char secret[] = "s3cret-in-a-traceback";

uint8_t *content(nylon_ctx *ctx, size_t size) {
    uint8_t *bytes = nylon_allocate(ctx, size);
    for (size_t i = 0; bytes && i < size; i++) {
        size_t j = size + i;
        bytes[i] = (uint8_t)((j % 251) ^ (j % 241) ^ (j % 239));
    }
    return bytes;
}

const char *text_of(nylon_ctx *ctx, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int len = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    char *text = nylon_allocate(ctx, (size_t)len + 1);
    if (!text) return "";
    va_start(arguments, format);
    vsnprintf(text, (size_t)len + 1, format, arguments);
    va_end(arguments);
    return text;
}

/* -- JSON -- */

static const char *json_value(const char *object, const char *name) {
    size_t len = strlen(name);
    for (const char *at = object; (at = strchr(at, '"')); at++) {
        if (strncmp(at + 1, name, len) != 0 || at[len + 1] != '"') continue;
        at += len + 2;
        while (*at == ' ') at++;
        if (*at != ':') continue;
        at++;
        while (*at == ' ') at++;
        return at;
    }
    return NULL;
}

const char *json_text(nylon_ctx *ctx, const char *object, const char *name) {
    const char *value = json_value(object, name);
    if (!value || *value != '"') return "";
    const char *end = strchr(value + 1, '"');
    return end ? text_of(ctx, "%.*s", (int)(end - value - 1), value + 1) : "";
}

bool json_true(const char *object, const char *name) {
    const char *value = json_value(object, name);
    return value && strncmp(value, "true", 4) == 0;
}

static void put_json_character(FILE *out, unsigned char c, bool latin) {
    if (c == '"' || c == '\\') {
        fprintf(out, "\\%c", c);
    } else if (c < ' ' || (latin && c > '~')) {
        fprintf(out, "\\u%04x", c);
    } else {
        fputc(c, out);
    }
}

void put_json(FILE *out, const char *text) {
    fputc('"', out);
    for (; *text; text++) put_json_character(out, (unsigned char)*text, false);
    fputc('"', out);
}

/* Each byte as the character of its number. */
void put_json_bytes(FILE *out, const void *bytes, size_t len) {
    fputc('"', out);
    for (size_t i = 0; i < len; i++) put_json_character(out, ((const unsigned char *)bytes)[i], true);
    fputc('"', out);
}

bool memory_open(memory *memory) {
    memory->text = NULL;
    memory->out = open_memstream(&memory->text, &memory->len);
    return memory->out != NULL;
}

const char *memory_close(nylon_ctx *ctx, memory *memory) {
    fclose(memory->out);
    const char *text = text_of(ctx, "%s", memory->text ? memory->text : "");
    free(memory->text);
    return text;
}

/* -- The origin -- */

struct origin origin_of(nylon_ctx *ctx) {
    return (struct origin){json_text(ctx, nylon_payload(ctx), "origin"), json_text(ctx, nylon_params(ctx), "rest")};
}

static int ask(struct origin origin, const char *head, const char *body) {
    const char *colon = strrchr(origin.address, ':');
    struct sockaddr_in address = {.sin_family = AF_INET};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons((uint16_t)(colon ? atoi(colon + 1) : 0));
    int sock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (sock < 0) return -1;
    struct timeval limit = {.tv_sec = 20};
    setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    FILE *out = connect(sock, (struct sockaddr *)&address, sizeof address) == 0 ? fdopen(dup(sock), "w") : NULL;
    if (!out) {
        close(sock);
        return -1;
    }
    fprintf(out, "%s/%s HTTP/1.1\r\nhost: origin\r\ncontent-length: %zu\r\n\r\n%s", head, origin.key, strlen(body), body);
    if (fclose(out) != 0) perror("the origin");
    return sock;
}

/* Reads the head of an answer that has no body, and closes. */
void enter(int sock) {
    char got[4] = "";
    while (sock >= 0 && memcmp(got, "\r\n\r\n", 4) != 0) {
        memmove(got, got + 1, 3);
        if (recv(sock, got + 3, 1, 0) != 1) break;
    }
    if (sock >= 0) close(sock);
}

int knock(struct origin origin) { return ask(origin, "GET /_gate", ""); }

void tell_origin(struct origin origin, const char *json) { enter(ask(origin, "POST /_journal", json)); }

void tell(nylon_ctx *ctx, const char *json) { tell_origin(origin_of(ctx), json); }

void tell_text(nylon_ctx *ctx, const char *text) {
    memory json;
    if (!memory_open(&json)) return;
    put_json(json.out, text);
    tell(ctx, memory_close(ctx, &json));
}

void wait_at_gate(nylon_ctx *ctx) { enter(knock(origin_of(ctx))); }

/* -- Threads -- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t ended = PTHREAD_COND_INITIALIZER;
static unsigned threads;

struct work {
    nylon_ctx *ctx;
    nylon_handler *handler;
};

static void count(int change) {
    pthread_mutex_lock(&lock);
    threads += (unsigned)change;
    pthread_cond_broadcast(&ended);
    pthread_mutex_unlock(&lock);
}

static void *work(void *argument) {
    struct work work = *(struct work *)argument;
    free(argument);
    work.handler(work.ctx);
    nylon_done(work.ctx);
    count(-1);
    return NULL;
}

void aside(nylon_ctx *ctx, nylon_handler *handler) {
    struct work *argument = malloc(sizeof *argument);
    pthread_t thread;
    if (!argument) {
        nylon_fail(ctx, "there is no memory");
        return;
    }
    *argument = (struct work){ctx, handler};
    count(1);
    nylon_defer(ctx);
    if (pthread_create(&thread, NULL, work, argument) == 0) {
        pthread_detach(thread);
        return;
    }
    count(-1);
    free(argument);
    nylon_fail(ctx, "there is no thread");
    nylon_done(ctx);
}

void await_threads(void) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 20;
    pthread_mutex_lock(&lock);
    while (threads && pthread_cond_timedwait(&ended, &lock, &until) == 0) continue;
    pthread_mutex_unlock(&lock);
}

void sleep_until_given_up(nylon_ctx *ctx) {
    const struct timespec pause = {0, 5000000};
    while (!nylon_given_up(ctx)) nanosleep(&pause, NULL);
}

void pass(nylon_ctx *ctx) { nylon_next(ctx); }
