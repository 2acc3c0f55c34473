/* The ABI's types, for the C and the Go half of this package. */
#ifndef NYLON_GO_EXPORTS_H
#define NYLON_GO_EXPORTS_H

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    uint32_t sid;
    uint8_t phase;
    uint32_t method;
    const uint8_t *ptr;
    uint64_t len;
} FfiBuffer;

typedef void (*nylon_callback)(const FfiBuffer *);

/* What the gateway answered to a read: in the room that was given, or in memory of its own where that was too small. */
typedef struct {
    bool answered;
    uint64_t len;
    uint8_t *spilled;
} nylon_answer;

void nylon_do(nylon_callback callback, uint32_t sid, uint32_t method, const uint8_t *ptr, uint64_t len);
nylon_answer nylon_ask(nylon_callback callback, uint32_t sid, uint32_t method, const uint8_t *ptr, uint64_t len,
                       uint8_t *room, uint64_t room_len);

#endif
