/* A host for tests: it loads a plugin, takes one session of an entry through its phases, and prints what the plugin does.
 *
 *     host LIBRARY ENTRY PHASE...        each phase is a number; the phase's calls are printed, one a line
 *     host LIBRARY ENTRY bench COUNT N   sessions with one phase each, N at once; prints the CPU time of one, in nanoseconds
 *
 * A read is answered on the thread that asks, but for the request body (200), which another thread answers later. */

#include <dlfcn.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "../exports.h"

static void (*initialize)(const char *, int);
static bool (*open_session)(uint32_t, const char *, uint32_t, nylon_callback);
static void (*event)(const FfiBuffer *);
static void (*close_session)(uint32_t);
static void (*shut_down)(void);
static uint32_t (*abi_version)(void);
static const char *(*entries)(void);

static sem_t decided, asked;
static bool quiet;
static char large[1 << 20];

static void print(const FfiBuffer *message) {
    if (quiet) return;
    printf("%u", message->method);
    if (message->len > 0) putchar(' ');
    for (uint64_t i = 0; i < message->len; i++) {
        uint8_t byte = message->ptr[i];
        if (byte >= 0x20 && byte < 0x7f && byte != '\\') putchar(byte);
        else printf("\\x%02x", byte);
    }
    putchar('\n');
    fflush(stdout);
}

static void answer(uint32_t sid, uint32_t method, const void *data, uint64_t len) {
    FfiBuffer message = {sid, 0, method, len ? data : NULL, len};
    event(&message);
}

static void *answer_later(void *nothing) {
    (void)nothing;
    for (;;) {
        sem_wait(&asked);
        usleep(20000);
        answer(1, 200, "the request's body", 18);
    }
    return NULL;
}

static void callback(const FfiBuffer *message) {
    uint32_t method = message->method;
    print(message);
    if (method == 1 || method == 2 || method == 4 || method == 105) sem_post(&decided);
    else if (method == 200) sem_post(&asked);
    else if (method == 201 && message->len == 3) answer(message->sid, method, "one", 3);
    else if (method == 204) answer(message->sid, method, "/path", 5);
    else if (method == 107) answer(message->sid, method, large, sizeof large);
    else if (method == 3 || (method >= 107 && method <= 115) || (method >= 200 && method <= 215)) answer(message->sid, method, NULL, 0);
}

static void phase(uint32_t sid, uint8_t number) {
    FfiBuffer start = {sid, number, 0, NULL, 0};
    event(&start);
    while (sem_wait(&decided) != 0) {}
}

static double cpu_seconds(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_utime.tv_sec + usage.ru_stime.tv_sec + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static int bench(const char *entry, long count, long at_once) {
    quiet = true;
    double before = 0;
    uint32_t sid = 1;
    for (long i = -count / 10 / at_once; i < count / at_once; i++) {
        if (i == 0) before = cpu_seconds();
        for (long k = 0; k < at_once; k++) {
            FfiBuffer start = {sid + k, 1, 0, NULL, 0};
            if (!open_session(sid + k, entry, strlen(entry), callback)) return 1;
            event(&start);
        }
        for (long k = 0; k < at_once; k++)
            while (sem_wait(&decided) != 0) {}
        for (long k = 0; k < at_once; k++) close_session(sid++);
    }
    printf("%.0f\n", (cpu_seconds() - before) * 1e9 / count);
    return 0;
}

static void *symbol(void *library, const char *name) {
    void *found = dlsym(library, name);
    if (found == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        exit(2);
    }
    return found;
}

int main(int count, char **arguments) {
    if (count < 4) return 2;
    void *library = dlopen(arguments[1], RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        return 2;
    }
    initialize = symbol(library, "initialize");
    open_session = symbol(library, "register_session_stream");
    event = symbol(library, "event_stream");
    close_session = symbol(library, "close_session_stream");
    symbol(library, "plugin_free");
    shut_down = symbol(library, "shutdown");
    abi_version = symbol(library, "nylon_abi_version");
    entries = symbol(library, "nylon_entries");
    memset(large, 'x', sizeof large);
    sem_init(&decided, 0, 0);
    sem_init(&asked, 0, 0);
    const char *config = getenv("PLUGIN_CONFIG");
    initialize(config, config ? (int)strlen(config) : 0);
    const char *entry = arguments[2];
    if (strcmp(arguments[3], "bench") == 0) return bench(entry, atol(arguments[4]), atol(arguments[5]));
    const char *list = entries();
    printf("version %u, entries %s\n", abi_version(), list ? list : "null");
    pthread_t later;
    pthread_create(&later, NULL, answer_later, NULL);
    if (!open_session(1, entry, strlen(entry), callback)) {
        printf("no such entry\n");
        return 0;
    }
    for (int i = 3; i < count; i++) phase(1, atoi(arguments[i]));
    close_session(1);
    FfiBuffer late = {1, 1, 0, NULL, 0};
    event(&late); /* a session that is closed: nothing happens */
    event(NULL);
    shut_down();
    return 0;
}
