/* What the two halves of the helper share: sessions and contexts (nylon_plugin.c), and what a handler asks and changes
 * through them (nylon_exchange.c). Not for plugins. */
#ifndef NYLON_PRIVATE_H
#define NYLON_PRIVATE_H

#include "nylon_plugin.h"

#include <stdatomic.h>

/* One exchange x one middleware. Its owners are the table, until the gateway closes it, and every context: a deferred one
 * may outlive the closing. */
typedef struct nylon_session_state {
    uint32_t sid;
    atomic_uint owners;
    atomic_bool closed;
    nylon_callback callback;
    const nylon_entry *entry;
    void *data;                     /* of the plugin */
    _Atomic(nylon_ctx *) waiting;   /* for the request body */
    struct nylon_session_state *next; /* in the table's chain */
} nylon_session_state;

/* Memory of a context; ends with it. */
struct nylon_block {
    struct nylon_block *next;
};

enum { NYLON_ROOM = 640 };

/* Where a running handler stands: whether it returned leaving its context to somebody else. */
struct nylon_frame {
    bool left;
};

enum nylon_decision { NYLON_UNDECIDED, NYLON_DECIDED_NEXT, NYLON_DECIDED_END, NYLON_DECIDED_STREAM };

struct nylon_ctx {
    nylon_session_state *session;
    struct nylon_frame *frame; /* null once the context was left to somebody else */
    nylon_handler *then;       /* runs when the request body comes */
    enum nylon_decision decision;
    uint8_t phase;
    bool failed;
    bool stream_complete;
    bool has_body;         /* the request body came because it was awaited */
    bool has_content_type; /* the handler has chosen one */
    char *failure;         /* null also where there was no memory for the text */
    const char *refusal;
    nylon_bytes body; /* that was awaited, until it is replaced */
    struct nylon_block *blocks;
    size_t used;
    _Alignas(max_align_t) unsigned char room[NYLON_ROOM];
};

/* An answer that this thread waits for while the gateway runs its callback. */
struct nylon_answer {
    nylon_ctx *ctx;
    uint32_t method;
    bool arrived;
    nylon_bytes bytes;
};

extern _Thread_local struct nylon_answer *nylon_awaited;

/* Remembers why something was refused; always false. */
bool nylon_refuse(nylon_ctx *ctx, const char *why);

/* Sends one message of a context; refused once the phase was given up. */
bool nylon_send(nylon_ctx *ctx, uint32_t method, const void *payload, size_t len);

/* A copy with a NUL behind it that lasts as long as the context; empty where there is no memory, which fails the phase. */
nylon_bytes nylon_copy(nylon_ctx *ctx, const void *bytes, size_t len);

#endif
