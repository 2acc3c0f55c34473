/* The suite's entries in C: what each of them does is what the entry of its name in ../entries does. Here is what the
 * files of entries share: JSON of known shape, hashes, the origin of the tests, and threads. */
#ifndef ENTRIES_H
#define ENTRIES_H

#include "nylon_plugin.h"

#include <stdio.h>

extern const char secret[];

/* Bodies of a size whose bytes are nowhere like their neighbours; null where there is no memory, which fails the phase. */
uint8_t *content(nylon_ctx *ctx, size_t size);

void sha256_hex(const void *bytes, size_t len, char hex[65]);

/* A text made with printf that lasts as long as the context. */
const char *text_of(nylon_ctx *ctx, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A string field of a JSON object of known shape, "" where it is missing; and whether it is true. */
const char *json_text(nylon_ctx *ctx, const char *object, const char *name);
bool json_true(const char *object, const char *name);

/* Writes a JSON string; bytes that are not UTF-8 are not its business. */
void put_json(FILE *out, const char *text);
void put_json_bytes(FILE *out, const void *bytes, size_t len);

/* A stream in memory: everything written to it lasts as long as the context. */
typedef struct memory {
    FILE *out;
    char *text;
    size_t len;
} memory;

bool memory_open(memory *memory);
const char *memory_close(nylon_ctx *ctx, memory *memory);

/* Puts JSON into the origin's journal, under the request's key. Waits for the origin: only aside from a handler. */
void tell(nylon_ctx *ctx, const char *json);
void tell_text(nylon_ctx *ctx, const char *text);

/* Waits until the test opens the gate named like the request's key. */
void wait_at_gate(nylon_ctx *ctx);

/* The same for what was read while the context was good. */
struct origin {
    const char *address;
    const char *key;
};

struct origin origin_of(nylon_ctx *ctx);
void tell_origin(struct origin origin, const char *json);
int knock(struct origin origin); /* a socket that waits at the gate, for `enter` */
void enter(int socket);

/* Lets a handler go on in a thread of its own, which ends with it. */
void aside(nylon_ctx *ctx, nylon_handler *handler);
void await_threads(void);

/* Sleeps until the phase was given up. */
void sleep_until_given_up(nylon_ctx *ctx);

/* Decisions as handlers. */
void pass(nylon_ctx *ctx);

/* How often `initialize` came, and its config. */
void put_initialized(FILE *out);

/* The tables of the files. */
extern const nylon_entry bodies[14];
extern const nylon_entry deciding[11];
extern const nylon_entry failing[10];
extern const nylon_entry reading[9];
extern const nylon_entry sessions[5];
extern const nylon_entry streaming[15];
extern const nylon_entry writing[14];

#endif
