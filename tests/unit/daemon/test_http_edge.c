/* SPDX-License-Identifier: Apache-2.0 */
/* The edge with routes of the test's own: event streams, sinks, limits, eviction, no memory. */
#include "daemon/base/base.h"
#include "daemon/http/http.h"
#include "src/base/base.h"
#include "tests/unit/support.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ANSWER_BYTES = 1 << 16, PATIENCE_MILLISECONDS = 20000, SINK_LIMIT = 8 << 20 };

typedef struct bench {
    http *http;
    unsigned port;
    atomic_int number; /* of events made known */
    atomic_int closed; /* producers and sinks */
    atomic_ullong bytes, sum;
    atomic_int fails;      /* the sink, from this byte on; 0: not */
    atomic_int ended_well; /* event streams */
    atomic_int entered;    /* long work after bodies */
    atomic_bool released;  /* it ends */
} bench;

/* ---- routes ---- */

static void handle_quick(void *context, http_request *request)
{
    (void)context;
    http_reply_static(request, 200, "text/plain", "quick", 5);
}

static void count_streams(void *context, const http_observation *seen)
{
    bench *self = context;
    bool is_stream = seen->route != NULL && strcmp(seen->route, "/events") == 0;
    atomic_fetch_add(&self->ended_well, is_stream && seen->status / 100 == 2);
}

static void handle_wait(void *context, http_request *request)
{
    http_watch(request, "job");
    if (http_wait_is_over(request))
        handle_quick(context, request);
    else
        http_wait(request, 60000);
}

typedef struct viewer {
    bench *bench;
    int seen;
} viewer;

static int viewer_produce(void *context, char *buffer, size_t room, size_t *ret_count,
                          bool *ret_end, didi_error *error)
{
    viewer *self = context;
    (void)error;
    int known = atomic_load(&self->bench->number);
    *ret_count = 0;
    if (self->seen < known)
        *ret_count = (size_t)snprintf(buffer, room, "data: %d\n\n", ++self->seen);
    *ret_end = self->seen == 3;
    return DIDI_OK;
}

static void viewer_close(void *context)
{
    viewer *self = context;
    atomic_fetch_add(&self->bench->closed, 1);
    free(self);
}

static void handle_events(void *context, http_request *request)
{
    viewer *self = support_allocate(sizeof *self);
    self->bench = context;
    http_watch(request, "job");
    http_reply_events(request, &(http_events){self, viewer_produce, viewer_close});
}

static int sink_write(void *context, const void *bytes, size_t count, didi_error *error)
{
    bench *self = context;
    const unsigned char *from = bytes;
    for (size_t i = 0; i < count; i++)
        atomic_fetch_add(&self->sum, from[i]);
    unsigned long long taken = atomic_fetch_add(&self->bytes, count) + count;
    int fails = atomic_load(&self->fails);
    if (fails > 0 && taken >= (unsigned long long)fails)
        return didi_fail(error, DIDI_DISK_FULL, "upload", "the disk is full");
    return DIDI_OK;
}

static void sink_done(void *context, http_request *request, int status, const didi_error *error)
{
    bench *self = context;
    if (status != DIDI_OK)
        http_reply_error(request, problem_from_status(status), error);
    else
        http_reply_json(request, 201,
                        json_pack("{s:I}", "bytes", (json_int_t)atomic_load(&self->bytes)));
}

static void sink_close(void *context)
{
    bench *self = context;
    atomic_fetch_add(&self->closed, 1);
}

static void handle_upload(void *context, http_request *request)
{
    http_take_body(request, &(http_sink){context, sink_write, sink_done, NULL, sink_close},
                   SINK_LIMIT);
}

/* Until the test says so. */
static void long_done(void *context, http_request *request, int status, const didi_error *error)
{
    bench *self = context;
    atomic_fetch_add(&self->entered, 1);
    while (!atomic_load(&self->released))
        usleep(1000);
    sink_done(context, request, status, error);
}

static bool long_lasts(void *context)
{
    (void)context;
    return true;
}

static void handle_long_upload(void *context, http_request *request)
{
    http_take_body(request, &(http_sink){context, sink_write, long_done, long_lasts, sink_close},
                   SINK_LIMIT);
}

static const http_route routes[] = {
    {.method = "GET", .pattern = "/quick", .handle = handle_quick},
    {.method = "GET", .pattern = "/slow", .handle = handle_quick, .slow = true},
    {.method = "GET", .pattern = "/vital", .handle = handle_quick, .vital = true},
    {.method = "GET", .pattern = "/wait", .handle = handle_wait},
    {.method = "GET", .pattern = "/events", .handle = handle_events},
    {.method = "PUT", .pattern = "/upload", .handle = handle_upload, .streams_body = true},
    {.method = "PUT", .pattern = "/long", .handle = handle_long_upload, .streams_body = true},
    {.method = "PUT",
     .pattern = "/slow",
     .handle = handle_upload,
     .slow = true,
     .streams_body = true},
};

static const http_settings usual = {
    .listen = "127.0.0.1:0",
    .connections_max = 64,
    .connections_reserved = 2,
    .address_connections_max = 8,
    .waits_max = 3,
    .downloads_max = 2,
    .body_bytes_max = 1000,
    .head_seconds = 10,
    .request_seconds = 10,
    .idle_seconds = 10,
    .reply_seconds = 10,
    .reply_bytes_per_second = 1000,
    .routes = routes,
    .route_count = sizeof routes / sizeof routes[0],
};

static void bench_start(bench *self, const http_settings *settings)
{
    http_settings mine = *settings;
    didi_error error = {0};
    mine.context = self;
    assert_int_equal(http_start(&mine, &self->http, &error), DIDI_OK);
    self->port = (unsigned)atoi(strrchr(http_address(self->http), ':') + 1);
}

static void bench_stop(bench *self, int milliseconds)
{
    http_stop(self->http, milliseconds);
    http_free(self->http);
}

/* ---- a client ---- */

static int client_connect(const bench *self)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)self->port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval patience = {.tv_sec = PATIENCE_MILLISECONDS / 1000};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    assert_int_equal(connect(fd, (struct sockaddr *)(void *)&address, sizeof address), 0);
    return fd;
}

static void client_send(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

/* Reads until `mark` was read, or to the end when it is NULL; what came stands in `text`. */
static bool client_read(int fd, const char *mark, char text[ANSWER_BYTES])
{
    size_t bytes = 0;
    text[0] = '\0';
    while (mark == NULL || strstr(text, mark) == NULL) {
        ssize_t count = recv(fd, text + bytes, ANSWER_BYTES - 1 - bytes, 0);
        if (count <= 0)
            return mark == NULL && count == 0;
        bytes += (size_t)count;
        text[bytes] = '\0';
    }
    return true;
}

static int client_ask(const bench *self, const char *target)
{
    char text[256];
    int fd = client_connect(self);
    snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", target);
    client_send(fd, text);
    return fd;
}

static void expect(int fd, const char *mark)
{
    char text[ANSWER_BYTES];
    if (!client_read(fd, mark, text))
        fail_msg("no \"%s\" in \"%s\"", mark, text);
}

/* ---- tests ---- */

static void test_events_come_as_they_happen(void **state)
{
    bench self = {0};
    http_settings settings = usual;
    (void)state;
    settings.observe = count_streams;
    bench_start(&self, &settings);
    int fd = client_ask(&self, "/events");
    expect(fd, "text/event-stream");
    for (int i = 1; i <= 3; i++) {
        char frame[64];
        atomic_store(&self.number, i);
        http_notify_job(self.http, i == 2 ? NULL : "job");
        snprintf(frame, sizeof frame, "9\r\ndata: %d\n\n\r\n%s", i, i == 3 ? "0\r\n\r\n" : "");
        expect(fd, frame);
    }
    client_send(fd, "GET /quick HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    expect(fd, "quick"); /* the connection goes on */
    assert_int_equal((int)metric_sum(METRIC_HTTP_STREAMS), 0);
    assert_int_equal(self.ended_well, 1);
    close(fd);
    fd = client_ask(&self, "/events");
    expect(fd, "data: 1");
    bench_stop(&self, 5000);
    assert_int_equal(self.closed, 2);
    close(fd);
}

static void test_events_end_when_the_server_stops(void **state)
{
    bench self = {0};
    http_settings settings = usual;
    char text[ANSWER_BYTES];
    (void)state;
    settings.idle_seconds = 3600; /* it is not this that ends the connection */
    bench_start(&self, &settings);
    int fd = client_ask(&self, "/events");
    expect(fd, "text/event-stream");
    http_quiesce(self.http);
    assert_true(client_read(fd, NULL, text));
    assert_non_null(strstr(text, "0\r\n\r\n"));
    close(fd);
    bench_stop(&self, 5000);
    assert_int_equal(self.closed, 1);
}

/* Sends a body of `bytes` bytes; gives the answer's descriptor. */
static int client_upload(const bench *self, const char *path, size_t bytes, bool chunked)
{
    char text[512];
    char piece[4096];
    int fd = client_connect(self);
    memset(piece, 1, sizeof piece);
    if (chunked)
        snprintf(text, sizeof text,
                 "PUT %s HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n", path);
    else
        snprintf(text, sizeof text,
                 "PUT %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %zu\r\n\r\n", path, bytes);
    client_send(fd, text);
    while (bytes > 0) {
        size_t part = (size_t)smaller(bytes, sizeof piece);
        if (chunked) {
            snprintf(text, sizeof text, "%zx\r\n", part);
            if (send(fd, text, strlen(text), MSG_NOSIGNAL) <= 0)
                return fd;
        }
        if (send(fd, piece, part, MSG_NOSIGNAL) <= 0)
            return fd; /* it was refused meanwhile */
        if (chunked && send(fd, "\r\n", 2, MSG_NOSIGNAL) <= 0)
            return fd;
        bytes -= part;
    }
    if (chunked)
        send(fd, "0\r\n\r\n", 5, MSG_NOSIGNAL);
    return fd;
}

static void test_sinks_take_bodies(void **state)
{
    static const size_t sizes[] = {0, 1, 255 * 1024, 256 * 1024, 3 << 20};
    (void)state;
    for (size_t i = 0; i < 4 * sizeof sizes / sizeof sizes[0]; i++) {
        bench self = {0};
        char mark[64];
        size_t bytes = sizes[i / 4];
        bench_start(&self, &usual);
        int fd = client_upload(&self, i % 2 == 0 ? "/upload" : "/slow", bytes, i % 4 < 2);
        snprintf(mark, sizeof mark, "{\"bytes\":%zu}", bytes);
        expect(fd, mark);
        assert_int_equal(self.sum, bytes);
        client_send(fd, "GET /quick HTTP/1.1\r\nHost: localhost\r\n\r\n");
        expect(fd, "quick");
        close(fd);
        bench_stop(&self, 1000);
        assert_int_equal(self.closed, 1);
    }
}

static void test_what_lasts_after_a_body_holds_nobody_up(void **state)
{
    bench self = {0};
    int fds[3];
    (void)state;
    bench_start(&self, &usual);
    for (int i = 0; i < 2; i++)
        fds[i] = client_upload(&self, "/long", 10, false);
    while (atomic_load(&self.entered) < 2)
        usleep(1000);
    fds[2] = client_upload(&self, "/long", 10, false); /* waits for one of them */
    for (int i = 0; i < 3; i++) {
        int fd = client_ask(&self, "/slow");
        expect(fd, "quick");
        close(fd);
        fd = client_upload(&self, "/upload", 1000, true);
        expect(fd, "201");
        close(fd);
    }
    assert_int_equal(atomic_load(&self.entered), 2);
    atomic_store(&self.released, true);
    for (int i = 0; i < 3; i++) {
        expect(fds[i], "201");
        close(fds[i]);
    }
    bench_stop(&self, 1000);
    assert_int_equal(self.closed, 6);
}

static void test_sinks_fail_and_are_left(void **state)
{
    bench self = {.fails = 300000};
    char text[ANSWER_BYTES];
    (void)state;
    bench_start(&self, &usual);
    int fd = client_upload(&self, "/upload", 600000, true);
    assert_true(client_read(fd, "disk-full", text));
    assert_non_null(strstr(text, "Connection: close"));
    close(fd);
    self.fails = 0;
    fd = client_upload(&self, "/upload", SINK_LIMIT + 1, false);
    assert_true(client_read(fd, "body-too-large", text));
    assert_non_null(strstr(text, "8388609 bytes; at most 8388608"));
    close(fd);
    fd = client_connect(&self);
    client_send(fd, "PUT /upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nabc");
    usleep(20000);
    close(fd); /* in the middle of it */
    bench_stop(&self, 1000);
    assert_int_equal(self.closed, 3);
}

static void test_waits_are_counted(void **state)
{
    bench self = {0};
    int fds[4];
    (void)state;
    bench_start(&self, &usual);
    for (int i = 0; i < 3; i++) {
        fds[i] = client_ask(&self, "/wait");
        while ((int)metric_sum(METRIC_HTTP_LONG_POLLS) < i + 1)
            usleep(1000);
    }
    fds[3] = client_ask(&self, "/wait");
    expect(fds[3], "at most 3 long polls and streams");
    http_quiesce(self.http);
    for (int i = 0; i < 4; i++) {
        if (i < 3)
            expect(fds[i], "quick");
        close(fds[i]);
    }
    bench_stop(&self, 1000);
}

static void test_the_oldest_idle_connection_goes(void **state)
{
    bench self = {0};
    int fds[12];
    char text[ANSWER_BYTES];
    (void)state;
    bench_start(&self, &usual);
    for (int i = 0; i < 12; i++) {
        fds[i] = client_ask(&self, "/quick");
        expect(fds[i], "quick");
    }
    for (int i = 0; i < 4; i++)
        assert_true(client_read(fds[i], NULL, text)); /* closed */
    for (int i = 4; i < 12; i++) {
        client_send(fds[i], "GET /quick HTTP/1.1\r\nHost: localhost\r\n\r\n");
        expect(fds[i], "quick");
    }
    for (int i = 0; i < 12; i++)
        close(fds[i]);
    bench_stop(&self, 1000);
}

static void test_the_reserve_is_for_vital_routes(void **state)
{
    bench self = {0};
    http_settings settings = usual;
    int fds[8];
    (void)state;
    settings.waits_max = 100;
    bench_start(&self, &settings);
    for (int i = 0; i < 8; i++)
        fds[i] = client_ask(&self, "/wait"); /* none of them can go */
    usleep(200000);
    int fd = client_ask(&self, "/quick");
    expect(fd, "one address has at most 8 connections");
    close(fd);
    fd = client_ask(&self, "/vital");
    expect(fd, "quick");
    close(fd);
    for (int i = 0; i < 8; i++)
        close(fds[i]);
    bench_stop(&self, 1000);
}

static void test_the_rate_is_kept(void **state)
{
    bench self = {0};
    http_settings settings = usual;
    char text[ANSWER_BYTES];
    (void)state;
    settings.requests_per_second = 1;
    settings.requests_burst = 2;
    bench_start(&self, &settings);
    for (int i = 0; i < 3; i++) {
        int fd = client_ask(&self, "/quick");
        assert_true(client_read(fd, i < 2 ? "quick" : "too-many-requests", text));
        assert_non_null(strstr(text, i < 2 ? "RateLimit: \"requests\";r=" : "Retry-After: 1"));
        close(fd);
    }
    int fd = client_ask(&self, "/vital");
    expect(fd, "quick");
    close(fd);
    bench_stop(&self, 1000);
}

/* Whatever allocation fails, an answer or the end of the connection comes, and the next one works.
 */
static void test_no_memory(void **state)
{
    static const char requests[] =
        "PUT /slow HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        "1\r\na\r\n0\r\n\r\nGET /nothing HTTP/1.1\r\nHost: localhost\r\n"
        "Connection: close\r\n\r\n";
    char text[ANSWER_BYTES];
    (void)state;
    for (int nth = 1; nth <= 60; nth++) {
        char fault[32];
        http_settings settings = usual;
        bench self = {0};
        didi_error error = {0};
        settings.context = &self;
        snprintf(fault, sizeof fault, "alloc:%d", nth);
        assert_int_equal(fault_arm(fault), 0);
        if (http_start(&settings, &self.http, &error) != DIDI_OK) {
            assert_int_equal(error.status, DIDI_NO_MEMORY);
            assert_int_equal(fault_arm(NULL), 0);
            continue;
        }
        self.port = (unsigned)atoi(strrchr(http_address(self.http), ':') + 1);
        int fd = client_connect(&self);
        send(fd, requests, sizeof requests - 1, MSG_NOSIGNAL);
        client_read(fd, NULL, text);
        close(fd);
        assert_true(fault_all_fired() || strstr(text, "not-found") != NULL);
        fd = client_connect(&self); /* where a holder could not be made, the next one can */
        close(fd);
        fd = client_ask(&self, "/quick");
        if (!client_read(fd, "quick", text))
            assert_true(fault_all_fired());
        close(fd);
        bench_stop(&self, 1000);
        assert_int_equal(fault_arm(NULL), 0);
    }
}

/* The event library opens descriptors of its own at its first use, and keeps them. */
static int warm_up(void **state)
{
    bench self = {0};
    (void)state;
    bench_start(&self, &usual);
    bench_stop(&self, 0);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        support_test(test_events_come_as_they_happen),
        support_test(test_events_end_when_the_server_stops),
        support_test(test_sinks_take_bodies),
        support_test(test_what_lasts_after_a_body_holds_nobody_up),
        support_test(test_sinks_fail_and_are_left),
        support_test(test_waits_are_counted),
        support_test(test_the_oldest_idle_connection_goes),
        support_test(test_the_reserve_is_for_vital_routes),
        support_test(test_the_rate_is_kept),
        support_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, warm_up, NULL);
}
