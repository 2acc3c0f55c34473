/* What the helper of sdk/c promises, case by case: `cases` runs all of them, `cases NAME` one. */
#define _POSIX_C_SOURCE 200809L
#include "gateway.h"
#include "nylon_plugin.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

enum { RF = NYLON_PHASE_REQUEST_FILTER, RESPONSE = NYLON_PHASE_RESPONSE_FILTER, BODY = NYLON_PHASE_RESPONSE_BODY_FILTER,
       LOGGING = NYLON_PHASE_LOGGING };

static bool works = true;
static char config_seen[64];
static atomic_int opened, closed;
static nylon_handler *handler; /* of the entry `any`, in whichever phase; one case at a time */

static void any(nylon_ctx *ctx) { handler(ctx); }

/* Orders nothing, so that it hides no race. */
static void count(atomic_int *number) { atomic_fetch_add_explicit(number, 1, memory_order_relaxed); }

static bool open_counted(void *session) {
    count(&opened);
    *(int *)session = 42;
    return true;
}

static void close_counted(void *session) {
    CHECK(*(int *)session >= 42);
    count(&closed);
}

static bool open_refused(void *session) {
    count(&opened);
    *(int *)session = 43;
    return false;
}

static void pass(nylon_ctx *ctx) { nylon_next(ctx); }

static void *after_a_while(void *argument) {
    nylon_ctx *ctx = argument;
    (*(int *)nylon_session(ctx))++;
    CHECK(strcmp(nylon_path(ctx), "/x") == 0 || nylon_given_up(ctx));
    nylon_set_request_header(ctx, "x-thread", "1");
    nylon_next(ctx);
    nylon_done(ctx);
    return NULL;
}

static void in_thread(nylon_ctx *ctx) {
    pthread_t thread;
    nylon_defer(ctx);
    CHECK(pthread_create(&thread, NULL, after_a_while, ctx) == 0);
    pthread_detach(thread);
}

static void echo_body(nylon_ctx *ctx) {
    nylon_bytes body = nylon_request_body(ctx);
    nylon_set_request_body(ctx, body.ptr, body.len);
    nylon_next(ctx);
}

static void replace_awaited(nylon_ctx *ctx) {
    CHECK(nylon_request_body(ctx).len > 0 && nylon_set_request_body(ctx, "new", 3));
    gateway_answers_text(NYLON_METHOD_READ_REQUEST_FULL_BODY, "new");
    CHECK(strcmp((const char *)nylon_request_body(ctx).ptr, "new") == 0); /* its own write */
    nylon_next(ctx);
}

static void await_to_replace(nylon_ctx *ctx) { CHECK(nylon_await_body(ctx, replace_awaited)); }

static void await_body(nylon_ctx *ctx) { CHECK(nylon_await_body(ctx, echo_body)); }

#define COUNTED .session_size = sizeof(int), .open = open_counted, .close = close_counted

static const nylon_entry entries[] = {
    {.name = "any", .request_filter = any, .response_filter = any, .response_body_filter = any, .logging = any, COUNTED},
    {.name = "declared", .request_filter = any, .body = true},
    {.name = "threaded", .request_filter = in_thread, .response_filter = pass, COUNTED},
    {.name = "awaiting", .request_filter = await_body, COUNTED},
    {.name = "unopened", .request_filter = pass, .session_size = sizeof(int), .open = open_refused, .close = close_counted},
};

static const nylon_entry more[] = {{.name = "quo\"ted", .response_body_filter = any, .stream = true}};

static bool start(const char *config) {
    snprintf(config_seen, sizeof config_seen, "%s", config);
    return works;
}

NYLON_PLUGIN(start, NULL, NYLON_TABLE(entries), NYLON_TABLE(more));

/* Runs a handler in a phase of a session of its own. */
static void expect(uint8_t phase, nylon_handler *with, const char *expected) {
    handler = with;
    uint32_t sid = gateway_open("any");
    gateway_expect(sid, phase, expected);
    gateway_close(sid);
}

/* -- Life of the library -- */

static void announces_its_entries(void) {
    CHECK(nylon_abi_version() == NYLON_ABI_VERSION);
    CHECK(strcmp(config_seen, "{\"a\":1}") == 0);
    CHECK(strcmp(nylon_entries(),
                 "[{\"name\":\"any\",\"phases\":[\"request_filter\",\"response_filter\",\"response_body_filter\","
                 "\"logging\"],\"body\":false,\"stream\":false},"
                 "{\"name\":\"declared\",\"phases\":[\"request_filter\"],\"body\":true,\"stream\":false},"
                 "{\"name\":\"threaded\",\"phases\":[\"request_filter\",\"response_filter\"],\"body\":false,"
                 "\"stream\":false},"
                 "{\"name\":\"awaiting\",\"phases\":[\"request_filter\"],\"body\":false,\"stream\":false},"
                 "{\"name\":\"unopened\",\"phases\":[\"request_filter\"],\"body\":false,\"stream\":false},"
                 "{\"name\":\"quo\\u0022ted\",\"phases\":[\"response_body_filter\"],\"body\":false,\"stream\":true}]") == 0);
    works = false;
    initialize(NULL, 0);
    CHECK(nylon_entries() == NULL && *config_seen == 0);
    works = true;
    initialize("{\"a\":1}", 7);
    CHECK(nylon_entries() != NULL);
}

static void opens_sessions_of_its_entries_only(void) {
    CHECK(gateway_open("an") == 0 && gateway_open("anyx") == 0 && gateway_open("") == 0);
    int before = atomic_load(&closed);
    CHECK(gateway_open("unopened") == 0);
    CHECK(atomic_load(&closed) == before + 1); /* what `open` began is undone */
    uint32_t sid = gateway_open("threaded");
    gateway_expect(sid, LOGGING, "next"); /* a phase that nobody handles */
    gateway_close(sid);
    gateway_close(sid);        /* twice, */
    gateway_start(sid, RF);    /* and after it */
    gateway_start(65000, RF);
}

/* -- Reading -- */

static void read_all(nylon_ctx *ctx) {
    struct {
        const char *(*read)(nylon_ctx *);
        uint32_t method;
    } texts[] = {
        {nylon_payload, NYLON_METHOD_GET_PAYLOAD},
        {nylon_request_id, NYLON_METHOD_READ_REQUEST_ID},
        {nylon_method, NYLON_METHOD_READ_REQUEST_METHOD},
        {nylon_url, NYLON_METHOD_READ_REQUEST_URL},
        {nylon_path, NYLON_METHOD_READ_REQUEST_PATH},
        {nylon_query, NYLON_METHOD_READ_REQUEST_QUERY},
        {nylon_params, NYLON_METHOD_READ_REQUEST_PARAMS},
        {nylon_host, NYLON_METHOD_READ_REQUEST_HOST},
        {nylon_scheme, NYLON_METHOD_READ_REQUEST_SCHEME},
        {nylon_http_version, NYLON_METHOD_READ_REQUEST_HTTP_VERSION},
        {nylon_client_ip, NYLON_METHOD_READ_REQUEST_CLIENT_IP},
        {nylon_response_error, NYLON_METHOD_READ_RESPONSE_ERROR},
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        gateway_answers_text(texts[i].method, "");
        CHECK(*texts[i].read(ctx) == 0);
        gateway_answers_text(texts[i].method, "what it is");
        CHECK(strcmp(texts[i].read(ctx), "what it is") == 0);
    }
    struct {
        uint64_t (*read)(nylon_ctx *);
        uint32_t method;
    } numbers[] = {
        {nylon_request_bytes, NYLON_METHOD_READ_REQUEST_BYTES},
        {nylon_timestamp, NYLON_METHOD_READ_REQUEST_TIMESTAMP},
        {nylon_response_bytes, NYLON_METHOD_READ_RESPONSE_BYTES},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        gateway_answers_text(numbers[i].method, "18446744073709551615");
        CHECK(numbers[i].read(ctx) == UINT64_MAX);
    }
    uint64_t duration;
    gateway_answers_text(NYLON_METHOD_READ_ATTEMPT, "3");
    gateway_answers_text(NYLON_METHOD_READ_RESPONSE_STATUS, "418");
    gateway_answers_text(NYLON_METHOD_READ_RESPONSE_DURATION, "");
    CHECK(nylon_attempt(ctx) == 3 && nylon_response_status(ctx) == 418 && !nylon_response_duration(ctx, &duration));
    gateway_answers_text(NYLON_METHOD_READ_RESPONSE_DURATION, "12");
    CHECK(nylon_response_duration(ctx, &duration) && duration == 12);
    gateway_answers_text(NYLON_METHOD_READ_REQUEST_HEADER, "one");
    gateway_answers_text(NYLON_METHOD_READ_RESPONSE_HEADER, "two");
    CHECK(strcmp(nylon_request_header(ctx, "a"), "one") == 0 && strcmp(nylon_response_header(ctx, "a"), "two") == 0);
    bool last;
    gateway_answers(NYLON_METHOD_READ_RESPONSE_CHUNK, "\1end", 4);
    nylon_bytes chunk = nylon_chunk(ctx, &last);
    CHECK(last && chunk.len == 3 && memcmp(chunk.ptr, "end", 4) == 0);
    gateway_answers(NYLON_METHOD_READ_RESPONSE_CHUNK, "\0", 1);
    CHECK(nylon_chunk(ctx, &last).len == 0 && !last);
    char large[5000];
    memset(large, 'x', sizeof large);
    gateway_answers(NYLON_METHOD_READ_RESPONSE_FULL_BODY, large, sizeof large);
    nylon_bytes body = nylon_response_body(ctx);
    CHECK(body.len == sizeof large && memcmp(body.ptr, large, sizeof large) == 0 && body.ptr[body.len] == 0);
    gateway_answers(NYLON_METHOD_READ_RESPONSE_FULL_BODY, NULL, 0); /* a gateway that does not answer */
    CHECK(nylon_response_body(ctx).len == 0 && strstr(nylon_refusal(ctx), "not answered"));
    gateway_answers_text(NYLON_METHOD_READ_REQUEST_PATH, "/x");
}

static void reads_what_the_gateway_answers(void) { expect(LOGGING, read_all, "next"); }

static const char *const pairs[][2] = {{"a", "1"}, {"content-type", "text/plain"}, {"set-cookie", ""}, {"set-cookie", "c=\xff"}};
enum { PAIRS = sizeof pairs / sizeof *pairs };

static void read_list(nylon_ctx *ctx) {
    nylon_headers headers = nylon_request_headers(ctx);
    CHECK(headers.count == PAIRS);
    for (size_t i = 0; i < PAIRS; i++) {
        CHECK(strcmp(headers.list[i].name, pairs[i][0]) == 0);
        CHECK(strcmp(headers.list[i].value, pairs[i][1]) == 0);
    }
    CHECK(strcmp(nylon_find_header(headers, "Content-Type"), "text/plain") == 0);
    CHECK(nylon_find_header(headers, "content") == NULL);
    gateway_answers(NYLON_METHOD_READ_RESPONSE_HEADERS, "", 0);
    CHECK(nylon_response_headers(ctx).count == 0);
    nylon_next(ctx);
}

static void reads_lists_of_headers(void) {
    uint8_t list[512];
    gateway_answers(NYLON_METHOD_READ_REQUEST_HEADERS, list, gateway_headers(list, sizeof list, pairs, PAIRS));
    expect(RF, read_list, "next");
}

static void read_damaged(nylon_ctx *ctx) {
    nylon_headers headers = nylon_request_headers(ctx);
    volatile size_t touched = 0;
    for (size_t i = 0; i < headers.count; i++) touched += strlen(headers.list[i].name) + strlen(headers.list[i].value);
    nylon_next(ctx);
}

static void strings_end_where_they_say(void) {
    static const char *const one[][2] = {{"name", "value"}};
    uint8_t list[128];
    size_t len = gateway_headers(list, sizeof list, one, 1);
    CHECK(memcmp(list + len - 8, "value\0\0", 8) == 0);
    list[len - 3] = 'x';
    gateway_answers(NYLON_METHOD_READ_REQUEST_HEADERS, list, len);
    expect(RF, read_damaged, "fail the gateway's list of headers makes no sense");
}

/* Every length, and every byte made another one: what comes of it is right or refused, and nothing outside is touched. */
static void damaged_lists_never_lead_outside(void) {
    uint8_t list[512], damaged[512];
    size_t len = gateway_headers(list, sizeof list, pairs, PAIRS), refused = 0, tried = 0;
    static const uint8_t others[] = {0, 1, 3, 4, 0x7f, 0x80, 0xfc, 0xff};
    for (size_t cut = 0; cut <= len; cut++) {
        for (size_t other = 0; other < sizeof others; other++, tried++) {
            memcpy(damaged, list, len);
            if (cut < len) damaged[cut] = others[other];
            gateway_answers(NYLON_METHOD_READ_REQUEST_HEADERS, damaged, other ? len : cut);
            handler = read_damaged;
            uint32_t sid = gateway_open("any");
            gateway_start(sid, RF);
            char *told = gateway_await(sid);
            refused += strcmp(told, "fail the gateway's list of headers makes no sense") == 0;
            CHECK(strcmp(told, "next") == 0 || strncmp(told, "fail ", 5) == 0);
            free(told);
            gateway_close(sid);
        }
    }
    CHECK(refused > tried / 4 && refused < tried);
}

static void read_undeclared(nylon_ctx *ctx) {
    CHECK(nylon_request_body(ctx).len == 0);
    CHECK(strstr(nylon_refusal(ctx), ".body = true"));
    nylon_end(ctx);
}

static void declared_bodies_are_there_and_others_say_what_to_do(void) {
    gateway_answers_text(NYLON_METHOD_READ_REQUEST_FULL_BODY, "the body");
    handler = echo_body;
    uint32_t sid = gateway_open("declared");
    gateway_expect(sid, RF, "226 the body\nnext");
    gateway_close(sid);
    expect(RF, read_undeclared, "end");
}

/* -- Deciding -- */

static void end_it(nylon_ctx *ctx) { nylon_end(ctx); }

static void nothing(nylon_ctx *ctx) { (void)ctx; }

static void decide_twice(nylon_ctx *ctx) {
    CHECK(nylon_end(ctx) && *nylon_refusal(ctx) == 0);
    CHECK(!nylon_next(ctx) && strstr(nylon_refusal(ctx), "already decided End"));
    CHECK(!nylon_stream(ctx));
}

static void fail_after_deciding(nylon_ctx *ctx) {
    nylon_next(ctx);
    nylon_fail(ctx, "%d reasons", 2);
    nylon_fail(ctx, "another");
}

static void done_too_early(nylon_ctx *ctx) {
    nylon_done(ctx); /* not deferred: it ends with its handler */
    nylon_next(ctx);
}

static void decisions_are_sent_when_the_handler_returns(void) {
    expect(RF, pass, "next");
    expect(RF, end_it, "end");
    expect(RF, nothing, "fail the handler was done without nylon_next or nylon_end");
    expect(RESPONSE, nothing, "next");
    expect(BODY, end_it, "end");
    expect(LOGGING, nothing, "next");
    expect(RF, decide_twice, "end");
    expect(RF, fail_after_deciding, "fail 2 reasons");
    expect(RF, done_too_early, "next");
}

/* -- Changing -- */

static void change_all(nylon_ctx *ctx) {
    char long_value[2000];
    memset(long_value, 'v', sizeof long_value - 1);
    long_value[sizeof long_value - 1] = 0;
    CHECK(nylon_next(ctx));
    CHECK(nylon_set_method(ctx, "PUT") && nylon_set_path(ctx, "/p") && nylon_set_query(ctx, ""));
    CHECK(nylon_set_request_header(ctx, "x-a", "") && nylon_add_request_header(ctx, "x-abcd", "value"));
    CHECK(nylon_remove_request_header(ctx, "x-b") && nylon_set_request_body(ctx, "body", 4));
    CHECK(nylon_set_status(ctx, 418) && !nylon_set_status(ctx, 70000));
    CHECK(nylon_set_text(ctx, "text") && nylon_set_response_header(ctx, "Content-Type", "a/b"));
    CHECK(nylon_set_json(ctx, "{}") && nylon_add_response_header(ctx, "x-l", long_value));
    CHECK(nylon_redirect(ctx, "/caf\xc3\xa9 x", 308) && !nylon_redirect(ctx, "/", 200));
    CHECK(nylon_remove_response_header(ctx, "x-c") && nylon_set_chunk(ctx, "chunk", 5));
}

static void changes_are_sent_at_once_and_in_order(void) {
    char expected[3000];
    char long_value[2000];
    memset(long_value, 'v', sizeof long_value - 1);
    long_value[sizeof long_value - 1] = 0;
    snprintf(expected, sizeof expected,
             "220 PUT\n221 /p\n222 \n223 x-a=\n224 x-abcd=value\n225 x-b\n226 body\nstatus 418\n103 text\n"
             "100 content-type=text/plain; charset=utf-8\n100 Content-Type=a/b\n103 {}\n113 x-l=%s\n"
             "100 location=/caf%%C3%%A9%%20x\nstatus 308\n101 x-c\n116 chunk\nnext",
             long_value);
    expect(RF, change_all, expected);
}

/* -- Streams -- */

static void stream_two(nylon_ctx *ctx) {
    CHECK(!nylon_write(ctx, "too early", 9) && !nylon_finish(ctx));
    CHECK(nylon_set_status(ctx, 201) && nylon_stream(ctx) && nylon_write(ctx, "one", 3) && nylon_write(ctx, "", 0));
    CHECK(!nylon_set_status(ctx, 500) && !nylon_set_response_header(ctx, "a", "b") && !nylon_next(ctx) && !nylon_stream(ctx));
    CHECK(nylon_write(ctx, "two", 3) && nylon_finish(ctx) && !nylon_write(ctx, "three", 5));
}

static void stream_unfinished(nylon_ctx *ctx) { CHECK(nylon_stream(ctx) && nylon_write(ctx, "one", 3)); }

static void stream_failing(nylon_ctx *ctx) {
    CHECK(nylon_stream(ctx) && nylon_finish(ctx));
    nylon_fail(ctx, "at last");
}

static void stream_refused(nylon_ctx *ctx) { CHECK(!nylon_stream(ctx) && strstr(nylon_refusal(ctx), "request_filter")); }

static void streams_are_whole_or_broken_off(void) {
    expect(RF, stream_two, "status 201\n106 \n104 one\n104 two\nstream_end");
    expect(RF, stream_unfinished,
           "106 \n104 one\nfail the handler was done without nylon_finish: its response is broken off");
    expect(RF, stream_failing, "106 \nfail at last");
    expect(RESPONSE, stream_refused, "next");
}

/* -- Later, and elsewhere -- */

static nylon_ctx *kept;

static void keep(nylon_ctx *ctx) {
    nylon_next(ctx);
    nylon_defer(ctx);
    kept = ctx;
}

static void what_was_given_up_is_refused_and_freed_by_its_last_owner(void) {
    handler = keep;
    int before = atomic_load(&closed);
    uint32_t sid = gateway_open("any");
    gateway_start(sid, RF);
    CHECK(!nylon_given_up(kept) && *(int *)nylon_session(kept) == 42);
    gateway_close(sid);
    CHECK(nylon_given_up(kept) && atomic_load(&closed) == before); /* its session is still used */
    CHECK(!nylon_set_path(kept, "/y") && !nylon_end(kept) && !nylon_await_body(kept, pass));
    CHECK(*nylon_path(kept) == 0 && *nylon_payload(kept) == 0 && nylon_request_headers(kept).count == 0);
    CHECK(strstr(nylon_refusal(kept), "given up"));
    nylon_done(kept);
    CHECK(atomic_load(&closed) == before + 1);
}

static void bodies_are_awaited(void) {
    gateway_answers_text(NYLON_METHOD_READ_REQUEST_FULL_BODY, "here");
    uint32_t sid = gateway_open("awaiting");
    gateway_expect(sid, RF, "226 here\nnext");
    gateway_close(sid);
    expect(RF, await_to_replace, "226 new\nnext");
    gateway_answers(NYLON_METHOD_READ_REQUEST_FULL_BODY, NULL, 0);
    sid = gateway_open("awaiting");
    gateway_start(sid, RF);
    CHECK(gateway_is_asked(sid));
    gateway_supply(sid, "later");
    char *told = gateway_await(sid);
    CHECK(strcmp(told, "226 later\nnext") == 0);
    free(told);
    gateway_close(sid);
    /* Closed before the answer, which comes all the same. */
    int before = atomic_load(&closed);
    sid = gateway_open("awaiting");
    gateway_start(sid, RF);
    gateway_close(sid);
    CHECK(atomic_load(&closed) == before + 1);
    gateway_supply(sid, "much later");
}

/* -- Many at once -- */

enum { THREADS = 4 };
static int rounds = 2500; /* enough for every chain of the table to be met again */

static void *many(void *argument) {
    unsigned seed = (unsigned)(uintptr_t)argument;
    for (int i = 0; i < rounds; i++) {
        seed = seed * 1103515245 + 12345;
        uint32_t sid = gateway_open(seed >> 16 & 1 ? "threaded" : "awaiting");
        CHECK(sid);
        gateway_start(sid, RF);
        if (seed >> 17 & 1) { /* the client leaves */
            bool asked = gateway_is_asked(sid);
            gateway_close(sid);
            if (asked) gateway_supply(sid, "late");
            continue;
        }
        if (gateway_is_asked(sid)) gateway_supply(sid, "body");
        char *told = gateway_await(sid);
        CHECK(strcmp(told, "223 x-thread=1\nnext") == 0 || strcmp(told, "226 body\nnext") == 0);
        free(told);
        gateway_expect(sid, RESPONSE, "next");
        gateway_close(sid);
    }
    return NULL;
}

static void many_sessions_come_and_go_on_several_threads(void) {
    pthread_t threads[THREADS];
    gateway_answers(NYLON_METHOD_READ_REQUEST_FULL_BODY, NULL, 0);
    for (uintptr_t i = 0; i < THREADS; i++) CHECK(pthread_create(&threads[i], NULL, many, (void *)(i + 1)) == 0);
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    for (int i = 0; i < 20000 && atomic_load(&opened) != atomic_load(&closed); i++)
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    CHECK(atomic_load(&opened) == atomic_load(&closed));
}

static const struct {
    const char *name;
    void (*run)(void);
} cases[] = {
    {"announces_its_entries", announces_its_entries},
    {"opens_sessions_of_its_entries_only", opens_sessions_of_its_entries_only},
    {"reads_what_the_gateway_answers", reads_what_the_gateway_answers},
    {"reads_lists_of_headers", reads_lists_of_headers},
    {"damaged_lists_never_lead_outside", damaged_lists_never_lead_outside},
    {"strings_end_where_they_say", strings_end_where_they_say},
    {"declared_bodies_are_there_and_others_say_what_to_do", declared_bodies_are_there_and_others_say_what_to_do},
    {"decisions_are_sent_when_the_handler_returns", decisions_are_sent_when_the_handler_returns},
    {"changes_are_sent_at_once_and_in_order", changes_are_sent_at_once_and_in_order},
    {"streams_are_whole_or_broken_off", streams_are_whole_or_broken_off},
    {"what_was_given_up_is_refused_and_freed_by_its_last_owner",
     what_was_given_up_is_refused_and_freed_by_its_last_owner},
    {"bodies_are_awaited", bodies_are_awaited},
    {"many_sessions_come_and_go_on_several_threads", many_sessions_come_and_go_on_several_threads},
};

int main(int argc, char **names) {
    initialize("{\"a\":1}", 7);
    gateway_answers_text(NYLON_METHOD_READ_REQUEST_PATH, "/x");
    gateway_answers_text(NYLON_METHOD_GET_PAYLOAD, "{}");
    if (getenv("ROUNDS")) rounds = atoi(getenv("ROUNDS"));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (argc > 1 && strcmp(names[1], cases[i].name) != 0) continue;
        cases[i].run();
        printf("%s\n", cases[i].name);
        fflush(stdout);
    }
    for (uint32_t method = 0; method < 400; method++) gateway_answers(method, NULL, 0);
    nylon_shutdown();
    return 0;
}
