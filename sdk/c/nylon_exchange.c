/* What a handler asks and changes. A read is one callback, which the gateway answers before it returns by calling
 * event_stream on this very thread: the answer finds its way through a thread-local slot. Header lists travel as
 * FlatBuffers of two small tables, which are read and written here by hand: each offset is checked against the length, so
 * that nothing outside the buffer is ever touched. */
#define _POSIX_C_SOURCE 200809L
#include "nylon_private.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* -- Reading -- */

static nylon_bytes read_with(nylon_ctx *ctx, uint32_t method, const void *payload, size_t len) {
    struct nylon_answer answer = {ctx, method, false, nylon_copy(ctx, NULL, 0)};
    struct nylon_answer *outer = nylon_awaited;
    nylon_awaited = &answer;
    bool sent = nylon_send(ctx, method, payload, len);
    nylon_awaited = outer;
    if (sent && !answer.arrived) nylon_refuse(ctx, "the gateway has not answered");
    return answer.bytes;
}

static const char *read_text(nylon_ctx *ctx, uint32_t method) {
    return (const char *)read_with(ctx, method, NULL, 0).ptr;
}

static uint64_t read_number(nylon_ctx *ctx, uint32_t method) { return strtoull(read_text(ctx, method), NULL, 10); }

const char *nylon_payload(nylon_ctx *ctx) { return read_text(ctx, NYLON_METHOD_GET_PAYLOAD); }

unsigned nylon_attempt(nylon_ctx *ctx) { return (unsigned)read_number(ctx, NYLON_METHOD_READ_ATTEMPT); }

const char *nylon_request_id(nylon_ctx *ctx) { return read_text(ctx, NYLON_METHOD_READ_REQUEST_ID); }

const char *nylon_method(nylon_ctx *ctx) { return read_text(ctx, NYLON_METHOD_READ_REQUEST_METHOD); }

const char *nylon_url(nylon_ctx *ctx) { return read_text(ctx, NYLON_METHOD_READ_REQUEST_URL); }

const char *nylon_path(nylon_ctx *ctx) { return read_text(ctx, NYLON_METHOD_READ_REQUEST_PATH); }

const char *nylon_query(nylon_ctx *ctx) { return read_text(ctx, NYLON_METHOD_READ_REQUEST_QUERY); }

const char *nylon_params(nylon_ctx *ctx) { return read_text(ctx, NYLON_METHOD_READ_REQUEST_PARAMS); }

const char *nylon_host(nylon_ctx *ctx) { return read_text(ctx, NYLON_METHOD_READ_REQUEST_HOST); }

const char *nylon_scheme(nylon_ctx *ctx) { return read_text(ctx, NYLON_METHOD_READ_REQUEST_SCHEME); }

const char *nylon_http_version(nylon_ctx *ctx) { return read_text(ctx, NYLON_METHOD_READ_REQUEST_HTTP_VERSION); }

const char *nylon_client_ip(nylon_ctx *ctx) { return read_text(ctx, NYLON_METHOD_READ_REQUEST_CLIENT_IP); }

uint64_t nylon_request_bytes(nylon_ctx *ctx) { return read_number(ctx, NYLON_METHOD_READ_REQUEST_BYTES); }

uint64_t nylon_timestamp(nylon_ctx *ctx) { return read_number(ctx, NYLON_METHOD_READ_REQUEST_TIMESTAMP); }

nylon_bytes nylon_request_body(nylon_ctx *ctx) {
    if (ctx->body.ptr) return ctx->body;
    if (ctx->phase == NYLON_PHASE_REQUEST_FILTER && !ctx->session->entry->body && !ctx->has_body) {
        nylon_refuse(ctx, "the request body has not been read: declare the entry with .body = true, or call "
                          "nylon_await_body");
        return nylon_copy(ctx, NULL, 0);
    }
    return read_with(ctx, NYLON_METHOD_READ_REQUEST_FULL_BODY, NULL, 0);
}

unsigned nylon_response_status(nylon_ctx *ctx) { return (unsigned)read_number(ctx, NYLON_METHOD_READ_RESPONSE_STATUS); }

uint64_t nylon_response_bytes(nylon_ctx *ctx) { return read_number(ctx, NYLON_METHOD_READ_RESPONSE_BYTES); }

bool nylon_response_duration(nylon_ctx *ctx, uint64_t *milliseconds) {
    const char *text = read_text(ctx, NYLON_METHOD_READ_RESPONSE_DURATION);
    *milliseconds = strtoull(text, NULL, 10);
    return *text || nylon_refuse(ctx, "how long the exchange took is known in logging");
}

const char *nylon_response_error(nylon_ctx *ctx) { return read_text(ctx, NYLON_METHOD_READ_RESPONSE_ERROR); }

nylon_bytes nylon_response_body(nylon_ctx *ctx) {
    return read_with(ctx, NYLON_METHOD_READ_RESPONSE_FULL_BODY, NULL, 0);
}

nylon_bytes nylon_chunk(nylon_ctx *ctx, bool *last) {
    nylon_bytes answer = read_with(ctx, NYLON_METHOD_READ_RESPONSE_CHUNK, NULL, 0);
    *last = answer.len && answer.ptr[0] == 1;
    return answer.len ? (nylon_bytes){answer.ptr + 1, answer.len - 1} : answer;
}

/* -- Header lists -- */

/* A buffer that is read at places which it names itself. */
struct buffer {
    const uint8_t *ptr;
    size_t len;
};

static bool u16_at(struct buffer buffer, size_t at, size_t *value) {
    if (buffer.len < 2 || at > buffer.len - 2) return false;
    *value = (size_t)buffer.ptr[at] | (size_t)buffer.ptr[at + 1] << 8;
    return true;
}

static bool u32_at(struct buffer buffer, size_t at, size_t *value) {
    if (buffer.len < 4 || at > buffer.len - 4) return false;
    const uint8_t *p = buffer.ptr + at;
    *value = (size_t)p[0] | (size_t)p[1] << 8 | (size_t)p[2] << 16 | (size_t)p[3] << 24;
    return true;
}

/* What the offset at `at` leads to. Sums of two numbers of 32 bits do not wrap in a size_t of 64. */
static bool follow(struct buffer buffer, size_t at, size_t *target) {
    size_t offset;
    if (!u32_at(buffer, at, &offset) || offset == 0) return false;
    *target = at + offset;
    return true;
}

/* Where a field of a table stands; 0 in `at` where the table leaves it out. */
static bool field_at(struct buffer buffer, size_t table, size_t number, size_t *at) {
    size_t distance, vtable_len, entry;
    if (!u32_at(buffer, table, &distance)) return false;
    int64_t vtable = (int64_t)table - (int32_t)(uint32_t)distance;
    if (vtable < 0 || !u16_at(buffer, (size_t)vtable, &vtable_len)) return false;
    *at = 0;
    if (4 + 2 * number + 2 > vtable_len) return true;
    if (!u16_at(buffer, (size_t)vtable + 4 + 2 * number, &entry)) return false;
    if (entry) *at = table + entry;
    return true;
}

/* A string of a table. It is followed by a NUL, so it serves as C's. */
static const char *string_of(struct buffer buffer, size_t table, size_t number) {
    size_t at, string, len;
    if (!field_at(buffer, table, number, &at) || !at || !follow(buffer, at, &string)) return NULL;
    if (!u32_at(buffer, string, &len) || len >= buffer.len - string - 4) return NULL;
    return buffer.ptr[string + 4 + len] == 0 ? (const char *)buffer.ptr + string + 4 : NULL;
}

static bool read_list(nylon_ctx *ctx, struct buffer buffer, nylon_headers *headers) {
    size_t root, at, vector, count;
    if (!follow(buffer, 0, &root) || !field_at(buffer, root, 0, &at)) return false;
    if (!at) return true;
    if (!follow(buffer, at, &vector) || !u32_at(buffer, vector, &count)) return false;
    if (count > (buffer.len - vector - 4) / 4) return false;
    nylon_header *list = count ? nylon_allocate(ctx, count * sizeof *list) : NULL;
    if (!list) return count == 0;
    for (size_t i = 0; i < count; i++) {
        size_t table;
        if (!follow(buffer, vector + 4 + 4 * i, &table)) return false;
        list[i] = (nylon_header){string_of(buffer, table, 0), string_of(buffer, table, 1)};
        if (!list[i].name || !list[i].value) return false;
    }
    *headers = (nylon_headers){list, count};
    return true;
}

static nylon_headers read_headers(nylon_ctx *ctx, uint32_t method) {
    nylon_bytes answer = read_with(ctx, method, NULL, 0);
    nylon_headers headers = {NULL, 0};
    if (answer.len && !read_list(ctx, (struct buffer){answer.ptr, answer.len}, &headers))
        nylon_fail(ctx, "the gateway's list of headers makes no sense");
    return headers;
}

nylon_headers nylon_request_headers(nylon_ctx *ctx) { return read_headers(ctx, NYLON_METHOD_READ_REQUEST_HEADERS); }

nylon_headers nylon_response_headers(nylon_ctx *ctx) { return read_headers(ctx, NYLON_METHOD_READ_RESPONSE_HEADERS); }

const char *nylon_request_header(nylon_ctx *ctx, const char *name) {
    return (const char *)read_with(ctx, NYLON_METHOD_READ_REQUEST_HEADER, name, strlen(name)).ptr;
}

const char *nylon_response_header(nylon_ctx *ctx, const char *name) {
    return (const char *)read_with(ctx, NYLON_METHOD_READ_RESPONSE_HEADER, name, strlen(name)).ptr;
}

const char *nylon_find_header(nylon_headers headers, const char *name) {
    for (size_t i = 0; i < headers.count; i++)
        if (strcasecmp(headers.list[i].name, name) == 0) return headers.list[i].value;
    return NULL;
}

/* -- Changing -- */

static bool change(nylon_ctx *ctx, uint32_t method, const void *payload, size_t len) {
    if (ctx->decision == NYLON_DECIDED_STREAM)
        return nylon_refuse(ctx, "the response is streamed: its head is sent, and nothing can be changed any more");
    return nylon_send(ctx, method, payload, len);
}

static bool change_text(nylon_ctx *ctx, uint32_t method, const char *text) {
    return change(ctx, method, text, strlen(text));
}

static void put_u32(uint8_t *at, size_t value) {
    for (int i = 0; i < 4; i++) at[i] = (uint8_t)(value >> 8 * i);
}

/* HeaderKeyValue: where the table is, its vtable (two fields, at 4 and 8), the table, and both strings. */
static bool change_header(nylon_ctx *ctx, uint32_t method, const char *name, const char *value) {
    enum { TABLE = 12, STRINGS = 24 };
    static const uint8_t head[TABLE] = {TABLE, 0, 0, 0, 8, 0, 12, 0, 4, 0, 8, 0};
    size_t name_len = strlen(name), value_len = strlen(value);
    if (name_len > INT32_MAX / 2 || value_len > INT32_MAX / 2) return nylon_refuse(ctx, "a header has at most 1 GiB");
    size_t second = STRINGS + 4 + (name_len + 4) / 4 * 4;
    size_t len = second + 4 + (value_len + 4) / 4 * 4;
    uint8_t small[512];
    uint8_t *table = len <= sizeof small ? memset(small, 0, len) : calloc(1, len);
    if (!table) {
        nylon_fail(ctx, "there is no memory for a header of %zu bytes", len);
        return nylon_refuse(ctx, "there is no memory");
    }
    memcpy(table, head, sizeof head);
    put_u32(table + TABLE, TABLE - 4);
    put_u32(table + TABLE + 4, STRINGS - (TABLE + 4));
    put_u32(table + TABLE + 8, second - (TABLE + 8));
    put_u32(table + STRINGS, name_len);
    memcpy(table + STRINGS + 4, name, name_len);
    put_u32(table + second, value_len);
    memcpy(table + second + 4, value, value_len);
    bool done = change(ctx, method, table, len);
    if (table != small) free(table);
    return done;
}

bool nylon_set_method(nylon_ctx *ctx, const char *method) {
    return change_text(ctx, NYLON_METHOD_SET_REQUEST_METHOD, method);
}

bool nylon_set_path(nylon_ctx *ctx, const char *path) { return change_text(ctx, NYLON_METHOD_SET_REQUEST_PATH, path); }

bool nylon_set_query(nylon_ctx *ctx, const char *query) {
    return change_text(ctx, NYLON_METHOD_SET_REQUEST_QUERY, query);
}

bool nylon_set_request_header(nylon_ctx *ctx, const char *name, const char *value) {
    return change_header(ctx, NYLON_METHOD_SET_REQUEST_HEADER, name, value);
}

bool nylon_add_request_header(nylon_ctx *ctx, const char *name, const char *value) {
    return change_header(ctx, NYLON_METHOD_ADD_REQUEST_HEADER, name, value);
}

bool nylon_remove_request_header(nylon_ctx *ctx, const char *name) {
    return change_text(ctx, NYLON_METHOD_REMOVE_REQUEST_HEADER, name);
}

bool nylon_set_request_body(nylon_ctx *ctx, const void *body, size_t len) {
    ctx->body.ptr = NULL; /* the gateway has the new one */
    return change(ctx, NYLON_METHOD_SET_REQUEST_BODY, body, len);
}

bool nylon_set_status(nylon_ctx *ctx, unsigned status) {
    if (status > UINT16_MAX) return nylon_refuse(ctx, "a status has three digits");
    const uint8_t bytes[2] = {(uint8_t)(status >> 8), (uint8_t)status};
    return change(ctx, NYLON_METHOD_SET_RESPONSE_STATUS, bytes, sizeof bytes);
}

static void note_content_type(nylon_ctx *ctx, const char *name) {
    if (strcasecmp(name, "content-type") == 0) ctx->has_content_type = true;
}

bool nylon_set_response_header(nylon_ctx *ctx, const char *name, const char *value) {
    note_content_type(ctx, name);
    return change_header(ctx, NYLON_METHOD_SET_RESPONSE_HEADER, name, value);
}

bool nylon_add_response_header(nylon_ctx *ctx, const char *name, const char *value) {
    note_content_type(ctx, name);
    return change_header(ctx, NYLON_METHOD_ADD_RESPONSE_HEADER, name, value);
}

bool nylon_remove_response_header(nylon_ctx *ctx, const char *name) {
    note_content_type(ctx, name);
    return change_text(ctx, NYLON_METHOD_REMOVE_RESPONSE_HEADER, name);
}

bool nylon_set_response_body(nylon_ctx *ctx, const void *body, size_t len) {
    return change(ctx, NYLON_METHOD_SET_RESPONSE_FULL_BODY, body, len);
}

static bool set_typed(nylon_ctx *ctx, const char *body, const char *type) {
    if (!change_text(ctx, NYLON_METHOD_SET_RESPONSE_FULL_BODY, body)) return false;
    return ctx->has_content_type || change_header(ctx, NYLON_METHOD_SET_RESPONSE_HEADER, "content-type", type);
}

bool nylon_set_text(nylon_ctx *ctx, const char *text) { return set_typed(ctx, text, "text/plain; charset=utf-8"); }

bool nylon_set_html(nylon_ctx *ctx, const char *html) { return set_typed(ctx, html, "text/html; charset=utf-8"); }

bool nylon_set_json(nylon_ctx *ctx, const char *json) { return set_typed(ctx, json, "application/json"); }

bool nylon_redirect(nylon_ctx *ctx, const char *url, unsigned code) {
    if (code != 301 && code != 302 && code != 303 && code != 307 && code != 308)
        return nylon_refuse(ctx, "a redirect has the code 301, 302, 303, 307 or 308");
    static const char digits[] = "0123456789ABCDEF";
    char *quoted = nylon_allocate(ctx, 3 * strlen(url) + 1);
    if (!quoted) return nylon_refuse(ctx, "there is no memory");
    char *out = quoted;
    for (const unsigned char *c = (const unsigned char *)url; *c; c++) {
        if (*c > ' ' && *c < 0x7f) {
            *out++ = (char)*c;
        } else {
            *out++ = '%';
            *out++ = digits[*c >> 4];
            *out++ = digits[*c & 15];
        }
    }
    return change_header(ctx, NYLON_METHOD_SET_RESPONSE_HEADER, "location", quoted) && nylon_set_status(ctx, code);
}

bool nylon_set_chunk(nylon_ctx *ctx, const void *bytes, size_t len) {
    return change(ctx, NYLON_METHOD_SET_RESPONSE_CHUNK, bytes, len);
}
