/* Entries that show what a handler can read: ../entries/reading.py. */
#define _POSIX_C_SOURCE 200809L
#include "entries.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* A part of a query, decoded. */
static const char *decoded(nylon_ctx *ctx, const char *from, size_t len) {
    char *text = nylon_allocate(ctx, len + 1);
    if (!text) return "";
    char *out = text;
    for (size_t i = 0; i < len; i++) {
        char hex[3] = {0};
        if (from[i] == '%' && i + 2 < len && isxdigit((unsigned char)from[i + 1]) && isxdigit((unsigned char)from[i + 2])) {
            memcpy(hex, from + i + 1, 2);
            *out++ = (char)strtol(hex, NULL, 16);
            i += 2;
        } else {
            *out++ = from[i] == '+' ? ' ' : from[i];
        }
    }
    return text;
}

struct pair {
    const char *name;
    const char *value;
};

/* The pairs of a text like a=1&b=2. */
static size_t pairs_of(nylon_ctx *ctx, const char *text, const char *between, struct pair *pairs, size_t room) {
    size_t count = 0;
    while (*text && count < room) {
        text += strspn(text, between);
        size_t len = strcspn(text, between), name = strcspn(text, "=");
        if (name > len) name = len;
        pairs[count].name = decoded(ctx, text, name);
        pairs[count++].value = name < len ? decoded(ctx, text + name + 1, len - name - 1) : "";
        text += len;
    }
    return count;
}

static void put_query(FILE *out, nylon_ctx *ctx, const char *query) {
    struct pair pairs[16];
    size_t count = pairs_of(ctx, query, "&", pairs, 16);
    fputc('{', out);
    for (size_t i = 0; i < count; i++) {
        size_t first = 0;
        while (strcmp(pairs[first].name, pairs[i].name) != 0) first++;
        if (first < i) continue;
        if (i) fputc(',', out);
        put_json(out, pairs[i].name);
        fputs(":[", out);
        for (size_t j = i; j < count; j++) {
            if (strcmp(pairs[j].name, pairs[i].name) != 0) continue;
            if (j > i) fputc(',', out);
            put_json(out, pairs[j].value);
        }
        fputc(']', out);
    }
    fputc('}', out);
}

static void put_cookies(FILE *out, nylon_ctx *ctx) {
    struct pair pairs[16];
    size_t count = pairs_of(ctx, nylon_request_header(ctx, "cookie"), "; ", pairs, 16);
    fputc('{', out);
    for (size_t i = 0; i < count; i++) {
        if (i) fputc(',', out);
        put_json(out, pairs[i].name);
        fputc(':', out);
        put_json(out, pairs[i].value);
    }
    fputc('}', out);
}

static void put_field(FILE *out, const char *name, const char *value) {
    fprintf(out, "\"%s\":", name);
    put_json(out, value);
    fputc(',', out);
}

static void read_request(nylon_ctx *ctx) {
    memory json;
    if (!memory_open(&json)) return;
    FILE *out = json.out;
    fputc('{', out);
    put_field(out, "method", nylon_method(ctx));
    put_field(out, "url", nylon_url(ctx));
    put_field(out, "path", nylon_path(ctx));
    put_field(out, "query", nylon_query(ctx));
    put_field(out, "host", nylon_host(ctx));
    put_field(out, "scheme", nylon_scheme(ctx));
    put_field(out, "http_version", nylon_http_version(ctx));
    put_field(out, "client_ip", nylon_client_ip(ctx));
    put_field(out, "request_id", nylon_request_id(ctx));
    fputs("\"query_params\":", out);
    put_query(out, ctx, nylon_query(ctx));
    fputs(",\"cookies\":", out);
    put_cookies(out, ctx);
    fprintf(out, ",\"params\":%s,\"route_params\":%s", nylon_params(ctx), nylon_params(ctx));
    fprintf(out, ",\"bytes\":%llu", (unsigned long long)nylon_request_bytes(ctx));
    fprintf(out, ",\"timestamp\":%.3f", (double)nylon_timestamp(ctx) / 1000);
    fputs(",\"body\":", out);
    nylon_bytes body = nylon_request_body(ctx);
    put_json_bytes(out, body.ptr, body.len);
    fprintf(out, ",\"payload\":%s", nylon_payload(ctx));
    fputs(",\"state\":{}", out); /* the ABI has no state that travels, so there is none either */
    fprintf(out, ",\"attempt\":%u,\"status\":%u,\"initialized\":", nylon_attempt(ctx), nylon_response_status(ctx));
    put_initialized(out);
    fputc('}', out);
    nylon_set_json(ctx, memory_close(ctx, &json));
    nylon_end(ctx);
}

static int in_order(const void *left, const void *right) {
    return strcmp(((const nylon_header *)left)->name, ((const nylon_header *)right)->name);
}

static void put_or_null(FILE *out, const char *name, const char *value) {
    fprintf(out, "\"%s\":", name);
    if (value) {
        put_json(out, value);
    } else {
        fputs("null", out);
    }
    fputc(',', out);
}

static void read_headers(nylon_ctx *ctx) {
    nylon_headers headers = nylon_request_headers(ctx);
    nylon_header *sorted = nylon_allocate(ctx, headers.count * sizeof *sorted);
    memory json;
    if (!sorted || !memory_open(&json)) return;
    FILE *out = json.out;
    fputc('{', out);
    put_or_null(out, "got", nylon_find_header(headers, "X-One"));
    put_or_null(out, "item", nylon_request_header(ctx, "x-ONE"));
    put_or_null(out, "missing", nylon_find_header(headers, "x-missing"));
    const char *missing = nylon_find_header(headers, "x-missing");
    put_or_null(out, "default", missing ? missing : "none");
    put_or_null(out, "missing_item", *nylon_request_header(ctx, "x-missing") ? "there" : "no x-missing");
    put_or_null(out, "joined", nylon_request_header(ctx, "x-many"));
    put_or_null(out, "empty", nylon_find_header(headers, "x-empty"));
    fprintf(out, "\"in\":[%s,%s],\"names\":[", nylon_find_header(headers, "X-One") ? "true" : "false",
            missing ? "true" : "false");
    size_t seen = 0, ours = 0;
    for (; seen < headers.count; seen++) {
        const nylon_header *header = &headers.list[seen];
        if (strncmp(header->name, "x-", 2) != 0) continue;
        if (ours) fputc(',', out);
        put_json(out, header->name);
        sorted[ours++] = *header;
    }
    qsort(sorted, ours, sizeof *sorted, in_order);
    fputs("],\"items\":[", out);
    for (size_t i = 0; i < ours; i++) {
        fputs(i ? ",[" : "[", out);
        put_json(out, sorted[i].name);
        fputc(',', out);
        put_json(out, sorted[i].value);
        fputc(']', out);
    }
    fprintf(out, "],\"length_fits\":%s}", seen == headers.count ? "true" : "false");
    nylon_set_json(ctx, memory_close(ctx, &json));
    nylon_end(ctx);
}

static const char *hex_of(nylon_ctx *ctx, const char *text) {
    size_t len = strlen(text);
    char *hex = nylon_allocate(ctx, 2 * len + 1);
    for (size_t i = 0; hex && i < len; i++) snprintf(hex + 2 * i, 3, "%02x", (unsigned char)text[i]);
    return hex ? hex : "";
}

static void read_bytes(nylon_ctx *ctx) {
    const char *value = nylon_request_header(ctx, "x-raw");
    nylon_set_request_header(ctx, "x-raw-copy", value);
    nylon_set_request_header(ctx, "x-raw-hex", hex_of(ctx, value));
    nylon_next(ctx);
}

static void read_json(nylon_ctx *ctx) {
    const char *at = strstr((const char *)nylon_request_body(ctx).ptr, "\"numbers\": [");
    long sum = 0;
    if (!at || !strchr(at, ']')) {
        nylon_fail(ctx, "the body is not the JSON that was expected");
        return;
    }
    for (at = strchr(at, '['); *at != ']';) {
        char *end;
        sum += strtol(at + 1, &end, 10);
        at = end;
    }
    nylon_set_json(ctx, text_of(ctx, "{\"sum\":%ld}", sum));
    nylon_end(ctx);
}

static void read_body(nylon_ctx *ctx) {
    nylon_bytes body = nylon_request_body(ctx);
    char hex[65];
    sha256_hex(body.ptr, body.len, hex);
    nylon_set_request_header(ctx, "x-seen", hex);
    nylon_next(ctx);
}

static void read_body_awaited(nylon_ctx *ctx) { nylon_await_body(ctx, read_body); }

static void read_body_undeclared(nylon_ctx *ctx) {
    nylon_request_body(ctx);
    nylon_set_text(ctx, nylon_refusal(ctx));
    nylon_end(ctx);
}

static void put_null_or(FILE *out, const char *text) {
    fputc(',', out);
    if (*text) {
        put_json(out, text);
    } else {
        fputs("null", out);
    }
}

static void read_response(nylon_ctx *ctx) {
    memory json;
    if (!memory_open(&json)) return;
    FILE *out = json.out;
    fprintf(out, "[%u,\"%s\",[", nylon_response_status(ctx), hex_of(ctx, nylon_response_header(ctx, "x-origin")));
    nylon_headers headers = nylon_response_headers(ctx);
    bool first = true;
    for (size_t i = 0; i < headers.count; i++) {
        if (strcmp(headers.list[i].name, "set-cookie") != 0) continue;
        if (!first) fputc(',', out);
        put_json(out, headers.list[i].value);
        first = false;
    }
    const char *missing = nylon_find_header(headers, "x-missing");
    fputc(']', out);
    put_null_or(out, missing ? missing : "");
    fprintf(out, ",%llu", (unsigned long long)nylon_response_bytes(ctx));
    uint64_t duration;
    if (nylon_response_duration(ctx, &duration)) {
        fprintf(out, ",%llu", (unsigned long long)duration);
    } else {
        fputs(",null", out);
    }
    put_null_or(out, nylon_response_error(ctx));
    put_null_or(out, nylon_method(ctx));
    put_null_or(out, nylon_path(ctx));
    fputc(']', out);
    nylon_set_response_header(ctx, "x-seen", memory_close(ctx, &json));
}

static void read_response_body(nylon_ctx *ctx) {
    nylon_bytes body = nylon_response_body(ctx);
    char hex[65];
    sha256_hex(body.ptr, body.len, hex);
    const char *seen = text_of(ctx, "%zu %s %llu", body.len, hex, (unsigned long long)nylon_response_bytes(ctx));
    nylon_set_response_header(ctx, "x-seen", seen);
}

const nylon_entry reading[] = {
    {.name = "read-request", .request_filter = read_request, .body = true},
    {.name = "read-headers", .request_filter = read_headers},
    {.name = "read-bytes", .request_filter = read_bytes},
    {.name = "read-json", .request_filter = read_json, .body = true},
    {.name = "read-body", .request_filter = read_body, .body = true},
    {.name = "read-body-awaited", .request_filter = read_body_awaited},
    {.name = "read-body-undeclared", .request_filter = read_body_undeclared},
    {.name = "read-response", .response_filter = read_response},
    {.name = "read-response-body", .response_body_filter = read_response_body},
};
