/* A gateway that is a few hundred lines of C: it drives the helper of sdk/c as the real one does, remembers what it was told,
 * and can do on purpose what the real one does only sometimes. So the helper runs under sanitizers and valgrind, fast. */
#ifndef GATEWAY_H
#define GATEWAY_H

#include "nylon.h"

#include <stdio.h>
#include <stdlib.h>

#define CHECK(condition)                                                                                                \
    do {                                                                                                                \
        if (!(condition)) {                                                                                             \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                                     \
            abort();                                                                                                    \
        }                                                                                                               \
    } while (0)

/* Opens a session for an entry; 0 where the library has none. */
uint32_t gateway_open(const char *entry);

/* Starts a phase, and returns when the library has. */
void gateway_start(uint32_t sid, uint8_t phase);

/* Waits for the phase's end and returns all that the library did in it, one line for each call without an answer, such as
 * "set_request_header x-a=1"; the caller frees it. The last line is the end. */
char *gateway_await(uint32_t sid);

/* Both, for a phase whose text is expected. */
void gateway_expect(uint32_t sid, uint8_t phase, const char *expected);

void gateway_close(uint32_t sid);

/* What a read is answered with until it is set again; null: it is not answered. */
void gateway_answers(uint32_t method, const void *bytes, size_t len);
void gateway_answers_text(uint32_t method, const char *text);

/* Answers a read of the body that came and was not answered. */
void gateway_supply(uint32_t sid, const char *body);

/* Whether a read of the body waits for its answer. */
bool gateway_is_asked(uint32_t sid);

/* A list of headers as the gateway sends it; returns its length. */
size_t gateway_headers(uint8_t *buffer, size_t room, const char *const (*pairs)[2], size_t count);

#endif
