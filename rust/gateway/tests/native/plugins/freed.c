/* Hands payloads over for good: built for `callback_memory: host`. */
#define GATEWAY_FREES
static unsigned handed;
#include "plugin.h"

static void handle(uint32_t sid, const char *entry, uint8_t phase) {
    (void)entry;
    if (phase == NYLON_PHASE_REQUEST_FILTER) {
        ask(sid, NYLON_METHOD_READ_REQUEST_HEADER, "host");
        handed++;
        tell_field(sid, NYLON_METHOD_SET_REQUEST_HEADER, "x-a", "1");
        handed++;
    } else if (phase == NYLON_PHASE_RESPONSE_FILTER) {
        tell_field(sid, NYLON_METHOD_SET_RESPONSE_HEADER, "x-freed-as-allocated", freed == handed ? "yes" : "no");
        handed++;
    }
    next(sid);
}
