/* Never decides in time; calls back when its session is over. */
#include "plugin.h"

static void late(uint32_t sid) {
    pause_ms(400);
    next(sid);
    ask(sid, NYLON_METHOD_READ_REQUEST_PATH, "");
    tell_status(sid, 200);
}

static void handle(uint32_t sid, const char *entry, uint8_t phase) {
    if (phase != NYLON_PHASE_REQUEST_FILTER) {
        next(sid);
    } else if (strcmp(entry, "slow") == 0) {
        in_thread(late, sid);
    } else if (strcmp(entry, "blocks") == 0) {
        pause_ms(300);
        next(sid);
    }
}
