/* The suite's plugin in C. */
#define _POSIX_C_SOURCE 200809L
#include "entries.h"

#include <stdlib.h>
#include <string.h>

static struct {
    unsigned times;
    char *config;
} initialized;

static bool initialize(const char *config) {
    free(initialized.config);
    initialized.times++;
    initialized.config = strdup(*config ? config : "null");
    return initialized.config != NULL;
}

void put_initialized(FILE *out) {
    fprintf(out, "{\"times\":%u,\"config\":%s}", initialized.times, initialized.config);
}

static void shut_down(void) {
    await_threads();
    free(initialized.config);
    initialized.config = NULL;
}

NYLON_PLUGIN(initialize, shut_down, NYLON_TABLE(bodies), NYLON_TABLE(deciding), NYLON_TABLE(failing),
             NYLON_TABLE(reading), NYLON_TABLE(sessions), NYLON_TABLE(streaming), NYLON_TABLE(writing));
