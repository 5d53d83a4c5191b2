/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP exchanges over libcurl's multi interface, so that a signal ends a wait at once. */
#include "client/net/transport.h"

#include "client/base/base.h"
#include "src/base/base.h"

#include <assert.h>
#include <curl/curl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

enum {
    TRANSPORT_CONNECT_SECONDS_MAX = 10,
    TRANSPORT_PAUSE_MILLISECONDS = 250, /* before the second attempt; doubles */
    TRANSPORT_RETRY_SECONDS_MAX = 60, /* a server that asks for a longer pause is not waited for */
    TRANSPORT_HEAD_BYTES_MAX = 256 << 10,
    TRANSPORT_PROBLEM_BYTES_MAX = 1 << 20, /* of an answer of 400 or more */
    TRANSPORT_PATIENCES = 20, /* an answer that is kept in memory must be whole within so many */
};

struct client_transport {
    CURLM *multi;
    CURL *easy;
    char *base;          /* what targets are appended to */
    char *name;          /* the host as the user knows it */
    char *socket_path;   /* NULL over TCP */
    char *authorization; /* the header; NULL without a token */
    char *ca_file;       /* NULL: the system's */
    int timeout_seconds;
    transport_failure failure; /* of the last attempt */
    client_interrupt *interrupt;
};

/* One attempt's state, handed to libcurl's callbacks. */
typedef struct transport_attempt {
    const transport_request *request;
    transport_response *response;
    didi_error *error;
    int status;  /* client_exit a callback asks for */
    bool begun;  /* the sink knows the head */
    bool lost;   /* the connection was there and broke */
    bool headed; /* the head was there */
    size_t room, head_bytes;
    CURL *easy;
} transport_attempt;

int transport_open(const client_settings *settings, client_interrupt *interrupt,
                   client_transport **ret_transport, didi_error *error)
{
    const char *host = settings->host;
    assert(interrupt != NULL);
    client_transport *self = memory_zeroed(1, sizeof *self);
    if (self == NULL || curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        free(self);
        return didi_fail(error, CLIENT_FAILURE, NULL, "libcurl cannot start");
    }
    self->interrupt = interrupt;
    self->timeout_seconds = settings->timeout_seconds;
    if (settings->token != NULL)
        self->authorization = memory_format("Authorization: Bearer %s", settings->token);
    if (settings->ca_file != NULL)
        self->ca_file = memory_string(settings->ca_file);
    self->multi = curl_multi_init();
    self->easy = curl_easy_init();
    self->name = memory_string(host);
    if (strncmp(host, "unix:", 5) == 0) {
        self->socket_path = memory_string(host + 5);
        self->base = memory_string("http://localhost");
    } else {
        self->base = memory_string(host);
    }
    if (self->multi == NULL || self->easy == NULL || self->name == NULL || self->base == NULL ||
        (settings->token != NULL && self->authorization == NULL) ||
        (settings->ca_file != NULL && self->ca_file == NULL)) {
        transport_close(self);
        return client_fail_memory(error);
    }
    *ret_transport = self;
    return CLIENT_OK;
}

void transport_close(client_transport *transport)
{
    if (transport == NULL)
        return;
    curl_easy_cleanup(transport->easy);
    curl_multi_cleanup(transport->multi);
    curl_global_cleanup();
    if (transport->authorization != NULL)
        explicit_bzero(transport->authorization, strlen(transport->authorization));
    free(transport->authorization);
    free(transport->ca_file);
    free(transport->base);
    free(transport->name);
    free(transport->socket_path);
    free(transport);
}

transport_failure transport_last_failure(const client_transport *transport)
{
    return transport->failure;
}

void transport_response_clear(transport_response *response)
{
    free(response->body);
    memset(response, 0, sizeof *response);
    response->content_length = -1;
}

char *transport_escape(const char *text)
{
    char *escaped = curl_easy_escape(NULL, text, 0);
    char *copy = escaped != NULL ? memory_string(escaped) : NULL;
    curl_free(escaped);
    return copy;
}

static void keep_header(const char *line, size_t bytes, const char *name, char *ret_value)
{
    size_t name_bytes = strlen(name);
    if (bytes <= name_bytes || line[name_bytes] != ':' || strncasecmp(line, name, name_bytes) != 0)
        return;
    const char *value = line + name_bytes + 1;
    const char *end = line + bytes;
    while (value < end && (*value == ' ' || *value == '\t'))
        value++;
    while (end > value && strchr("\r\n \t", end[-1]) != NULL)
        end--;
    size_t count = (size_t)(end - value);
    if (count < TRANSPORT_HEADER_BYTES_MAX && memchr(value, '\0', count) == NULL) {
        memcpy(ret_value, value, count);
        ret_value[count] = '\0';
    }
}

/* Seconds, or a date; 0 when it is neither. */
static int read_retry_after(const char *value)
{
    char *end = NULL;
    long long seconds = strtoll(value, &end, 10);
    if (value[0] < '0' || value[0] > '9' || *end != '\0') {
        time_t date = curl_getdate(value, NULL);
        seconds = date > 0 ? (long long)date - (long long)time(NULL) : 0;
    }
    seconds = seconds < 0 ? 0 : seconds;
    return seconds > INT_MAX / 1000 ? INT_MAX / 1000 : (int)seconds;
}

static size_t header_arrived(char *line, size_t size, size_t count, void *context)
{
    transport_attempt *self = context;
    size_t bytes = size * count;
    transport_response *response = self->response;
    self->head_bytes += bytes; /* interim answers count: there may be no end of them */
    if (self->head_bytes > TRANSPORT_HEAD_BYTES_MAX) {
        self->status =
            didi_fail(self->error, CLIENT_FAILURE, NULL, "the head of the answer is over %d KiB",
                      TRANSPORT_HEAD_BYTES_MAX >> 10);
        return 0;
    }
    if (bytes >= 5 && memcmp(line, "HTTP/", 5) == 0) {
        transport_response_clear(response); /* an interim answer came before this one */
        return bytes;
    }
    char retry_after[TRANSPORT_HEADER_BYTES_MAX] = "";
    keep_header(line, bytes, "Content-Type", response->content_type);
    keep_header(line, bytes, "Content-Range", response->content_range);
    keep_header(line, bytes, "ETag", response->etag);
    keep_header(line, bytes, "Repr-Digest", response->repr_digest);
    keep_header(line, bytes, "Retry-After", retry_after);
    if (retry_after[0] != '\0')
        response->retry_after_seconds = read_retry_after(retry_after);
    return bytes;
}

static void read_head(transport_attempt *self)
{
    long status = 0;
    curl_off_t length = -1;
    curl_easy_getinfo(self->easy, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(self->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
    self->response->status = (int)status;
    self->response->content_length = length;
}

static bool goes_to_sink(const transport_attempt *self)
{
    int status = self->response->status;
    return self->request->sink != NULL && (status == 200 || status == 206);
}

static int begin_sink(transport_attempt *self)
{
    if (!self->begun && self->status == CLIENT_OK && goes_to_sink(self)) {
        self->begun = true;
        const transport_sink *sink = self->request->sink;
        self->status = sink->begin(sink->context, self->response, self->error);
    }
    return self->status;
}

static int keep_body(transport_attempt *self, const char *bytes, size_t count)
{
    transport_response *response = self->response;
    size_t most = response->status >= 400 ? TRANSPORT_PROBLEM_BYTES_MAX : TRANSPORT_BODY_BYTES_MAX;
    if (response->body_bytes > most || count > most - response->body_bytes)
        return didi_fail(self->error, CLIENT_FAILURE, NULL, "the answer is over %zu MiB",
                         most >> 20);
    size_t needed = response->body_bytes + count + 1;
    if (needed > self->room || response->body == NULL) {
        size_t room = needed < 4096 ? 4096 : 2 * needed;
        char *body = realloc(response->body, room);
        if (body == NULL)
            return client_fail_memory(self->error);
        response->body = body;
        self->room = room;
    }
    memcpy(response->body + response->body_bytes, bytes, count);
    response->body_bytes += count;
    response->body[response->body_bytes] = '\0';
    return CLIENT_OK;
}

static size_t body_arrived(char *bytes, size_t size, size_t count, void *context)
{
    transport_attempt *self = context;
    size_t total = size * count;
    self->headed = true;
    read_head(self);
    if (goes_to_sink(self)) {
        if (begin_sink(self) == CLIENT_OK) {
            const transport_sink *sink = self->request->sink;
            self->status = sink->write(sink->context, bytes, total, self->error);
        }
    } else {
        self->status = keep_body(self, bytes, total);
    }
    return self->status == CLIENT_OK ? total : 0;
}

static CURLcode prepare(client_transport *self, transport_attempt *attempt, const char *url,
                        struct curl_slist *headers)
{
    const transport_request *request = attempt->request;
    CURL *easy = self->easy;
    CURLcode code = CURLE_OK;
    curl_easy_reset(easy);
#define SET(option, value) (code = code == CURLE_OK ? curl_easy_setopt(easy, option, value) : code)
    SET(CURLOPT_URL, url);
    SET(CURLOPT_PROTOCOLS_STR, "http,https");
    SET(CURLOPT_FOLLOWLOCATION, 0L);
    SET(CURLOPT_PATH_AS_IS, 1L);
    SET(CURLOPT_PROXY, "");
    SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    SET(CURLOPT_USERAGENT, "didictl/" DIDICTL_VERSION);
    SET(CURLOPT_HTTPHEADER, headers);
    SET(CURLOPT_HEADERFUNCTION, header_arrived);
    SET(CURLOPT_HEADERDATA, attempt);
    SET(CURLOPT_WRITEFUNCTION, body_arrived);
    SET(CURLOPT_WRITEDATA, attempt);
    long patience = (long)self->timeout_seconds + request->extra_seconds;
    long connect =
        patience < TRANSPORT_CONNECT_SECONDS_MAX ? patience : TRANSPORT_CONNECT_SECONDS_MAX;
    SET(CURLOPT_CONNECTTIMEOUT, connect);
    SET(CURLOPT_LOW_SPEED_LIMIT, 1L);
    SET(CURLOPT_LOW_SPEED_TIME, patience);
    if (request->sink == NULL)
        SET(CURLOPT_TIMEOUT, TRANSPORT_PATIENCES * patience);
    if (self->socket_path != NULL)
        SET(CURLOPT_UNIX_SOCKET_PATH, self->socket_path);
    if (self->ca_file != NULL)
        SET(CURLOPT_CAINFO, self->ca_file);
    if (request->body != NULL) {
        SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body_bytes);
        SET(CURLOPT_POSTFIELDS, request->body);
    } else if (strcmp(request->method, "POST") == 0) {
        SET(CURLOPT_POSTFIELDSIZE, 0L);
        SET(CURLOPT_POSTFIELDS, "");
    }
    SET(CURLOPT_CUSTOMREQUEST, request->method);
#undef SET
    return code;
}

static int pass_time(transport_attempt *attempt)
{
    const transport_sink *sink = attempt->request->sink;
    if (attempt->begun && attempt->status == CLIENT_OK && sink->idle != NULL)
        attempt->status = sink->idle(sink->context, attempt->error);
    return attempt->status;
}

static time_t seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec;
}

/* Drives the transfer to its end; returns libcurl's code, or CURLE_ABORTED_BY_CALLBACK with
 * attempt->status set when a signal came. */
static CURLcode drive(client_transport *self, transport_attempt *attempt)
{
    CURLcode code = CURLE_FAILED_INIT;
    if (curl_multi_add_handle(self->multi, self->easy) != CURLM_OK)
        return code;
    struct curl_waitfd signal = {.fd = interrupt_descriptor(self->interrupt),
                                 .events = CURL_WAIT_POLLIN};
    const time_t patience = (time_t)self->timeout_seconds + (time_t)attempt->request->extra_seconds;
    const time_t began = seconds_now();
    int running = 1;
    while (running > 0) {
        if (!attempt->headed && seconds_now() - began > patience + 1) {
            code = CURLE_OPERATION_TIMEDOUT; /* a head that trickles is not silent for libcurl */
            break;
        }
        if (interrupt_seen(self->interrupt)) {
            attempt->status = interrupt_fail(attempt->error);
            code = CURLE_ABORTED_BY_CALLBACK;
            break;
        }
        if (curl_multi_perform(self->multi, &running) != CURLM_OK ||
            (running > 0 && curl_multi_poll(self->multi, &signal, 1, 1000, NULL) != CURLM_OK))
            break;
        if (running > 0 && pass_time(attempt) != CLIENT_OK) {
            code = CURLE_ABORTED_BY_CALLBACK;
            break;
        }
    }
    int left = 0;
    for (CURLMsg *message = curl_multi_info_read(self->multi, &left); message != NULL;
         message = curl_multi_info_read(self->multi, &left))
        if (message->msg == CURLMSG_DONE)
            code = message->data.result;
    curl_multi_remove_handle(self->multi, self->easy);
    return code;
}

/* What the user may do about it depends on this alone; the message has the rest. */
static transport_failure failure_of(const client_transport *self, CURLcode code)
{
    switch ((int)code) {
    case CURLE_COULDNT_CONNECT:
        if (self->socket_path == NULL)
            return TRANSPORT_REFUSED;
        return access(self->socket_path, F_OK) == 0 && access(self->socket_path, W_OK) != 0
                   ? TRANSPORT_SOCKET_CLOSED
                   : TRANSPORT_NO_SOCKET;
    case CURLE_COULDNT_RESOLVE_HOST:
        return TRANSPORT_UNKNOWN_NAME;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
        return TRANSPORT_UNTRUSTED;
    case CURLE_SSL_CONNECT_ERROR:
        return TRANSPORT_NOT_TLS;
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_GOT_NOTHING:
        return TRANSPORT_NOT_HTTP;
    case CURLE_OPERATION_TIMEDOUT:
        return TRANSPORT_SILENT;
    default:
        return TRANSPORT_ANSWERED;
    }
}

static int attempt_once(client_transport *self, transport_attempt *attempt)
{
    const transport_request *request = attempt->request;
    char reason[CURL_ERROR_SIZE] = "";
    char *url = memory_format("%s%s", self->base, request->target);
    struct curl_slist *headers = curl_slist_append(NULL, "Expect:");
    if (self->authorization != NULL)
        headers = curl_slist_append(headers, self->authorization);
    for (size_t i = 0; request->headers != NULL && request->headers[i] != NULL; i++) {
        struct curl_slist *longer = curl_slist_append(headers, request->headers[i]);
        headers = longer != NULL ? longer : headers;
    }
    CURLcode code = url == NULL ? CURLE_OUT_OF_MEMORY : prepare(self, attempt, url, headers);
    if (code == CURLE_OK) {
        curl_easy_setopt(self->easy, CURLOPT_ERRORBUFFER, reason);
        code = drive(self, attempt);
        curl_easy_setopt(self->easy, CURLOPT_ERRORBUFFER, NULL);
    }
    curl_slist_free_all(headers);
    free(url);
    self->failure = TRANSPORT_ANSWERED;
    if (code == CURLE_OK) {
        read_head(attempt);
        return begin_sink(attempt); /* an empty body never reached the callback */
    }
    if (attempt->status != CLIENT_OK)
        return attempt->status;
    self->failure = failure_of(self, code);
    if (code == CURLE_URL_MALFORMAT)
        return didi_fail(attempt->error, CLIENT_USAGE, self->name, "not a usable address");
    /* The scheme is one of libcurl's: the protocol that it does not know is the answer's. */
    if (code == CURLE_UNSUPPORTED_PROTOCOL || code == CURLE_WEIRD_SERVER_REPLY)
        return didi_fail(attempt->error, CLIENT_UNREACHABLE, self->name,
                         "the server does not speak HTTP");
    attempt->lost = code == CURLE_SEND_ERROR || code == CURLE_RECV_ERROR ||
                    code == CURLE_GOT_NOTHING || code == CURLE_PARTIAL_FILE;
    if (code == CURLE_COULDNT_CONNECT && self->socket_path != NULL)
        snprintf(reason, sizeof reason, "%s", /* libcurl would name a port */
                 self->failure == TRANSPORT_SOCKET_CLOSED ? "permission denied"
                                                          : "no server listens there");
    int kind = code == CURLE_OUT_OF_MEMORY ? CLIENT_FAILURE : CLIENT_UNREACHABLE;
    return didi_fail(attempt->error, kind, self->name, "%s",
                     reason[0] != '\0' ? reason : curl_easy_strerror(code));
}

/* A server that is not there, or silent, is reported at once; one that broke off may be restarting
 * and gets all attempts. */
static bool worth_repeating(int status, const transport_response *response, bool lost)
{
    if (status != CLIENT_OK)
        return status == CLIENT_UNREACHABLE && lost;
    return response->retry_after_seconds <= TRANSPORT_RETRY_SECONDS_MAX &&
           (response->status == 429 || (response->status >= 502 && response->status <= 504));
}

int transport_exchange(client_transport *transport, const transport_request *request,
                       transport_response *ret_response, didi_error *error)
{
    assert(request->target[0] == '/');
    transport_response response = {.content_length = -1};
    int status = CLIENT_OK;
    int pause = TRANSPORT_PAUSE_MILLISECONDS;
    bool lost = false;
    for (int number = 1;; number++, pause *= 2) {
        transport_attempt attempt = {
            .request = request, .response = &response, .error = error, .easy = transport->easy};
        status = attempt_once(transport, &attempt);
        lost = lost || attempt.lost;
        if (!request->repeatable || attempt.begun || number == TRANSPORT_ATTEMPTS_MAX ||
            !worth_repeating(status, &response, lost))
            break;
        int asked = 1000 * response.retry_after_seconds;
        transport_response_clear(&response);
        status = interrupt_sleep(transport->interrupt, asked > pause ? asked : pause, error);
        if (status != CLIENT_OK)
            break;
    }
    if (status != CLIENT_OK)
        transport_response_clear(&response);
    else
        *ret_response = response;
    return status;
}
