/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP exchanges over libcurl's multi interface, so that a signal ends a wait at once. */
#include "client/net/transport.h"

#include "client/base/base.h"
#include "src/base/base.h"

#include <assert.h>
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum {
    TRANSPORT_CONNECT_SECONDS_MAX = 10,
    TRANSPORT_PAUSE_MILLISECONDS = 250, /* before the second attempt; doubles */
    TRANSPORT_RETRY_SECONDS_MAX = 10,   /* longest pause a server may ask for between attempts */
};

struct client_transport {
    CURLM *multi;
    CURL *easy;
    char *base;        /* what targets are appended to */
    char *name;        /* the host as the user knows it */
    char *socket_path; /* NULL over TCP */
    int timeout_seconds;
    client_interrupt *interrupt;
};

/* One attempt's state, handed to libcurl's callbacks. */
typedef struct transport_attempt {
    const transport_request *request;
    transport_response *response;
    didi_error *error;
    int status; /* client_exit a callback asks for */
    bool begun; /* the sink knows the head */
    bool lost;  /* the connection was there and broke */
    size_t room;
    CURL *easy;
} transport_attempt;

int transport_open(const char *host, int timeout_seconds, client_interrupt *interrupt,
                   client_transport **ret_transport, didi_error *error)
{
    assert(interrupt != NULL);
    client_transport *self = memory_zeroed(1, sizeof *self);
    if (self == NULL || curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        free(self);
        return didi_fail(error, CLIENT_FAILURE, NULL, "libcurl cannot start");
    }
    self->interrupt = interrupt;
    self->timeout_seconds = timeout_seconds;
    self->multi = curl_multi_init();
    self->easy = curl_easy_init();
    self->name = memory_string(host);
    if (strncmp(host, "unix:", 5) == 0) {
        self->socket_path = memory_string(host + 5);
        self->base = memory_string("http://localhost");
    } else {
        self->base = memory_string(host);
    }
    if (self->multi == NULL || self->easy == NULL || self->name == NULL || self->base == NULL) {
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
    free(transport->base);
    free(transport->name);
    free(transport->socket_path);
    free(transport);
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

static size_t header_arrived(char *line, size_t size, size_t count, void *context)
{
    transport_attempt *self = context;
    size_t bytes = size * count;
    transport_response *response = self->response;
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
    if (retry_after[0] >= '0' && retry_after[0] <= '9') {
        long seconds = strtol(retry_after, NULL, 10);
        response->retry_after_seconds =
            seconds > TRANSPORT_RETRY_SECONDS_MAX ? TRANSPORT_RETRY_SECONDS_MAX : (int)seconds;
    }
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
    if (count > TRANSPORT_BODY_BYTES_MAX - response->body_bytes)
        return didi_fail(self->error, CLIENT_FAILURE, NULL, "the answer is over %d MiB",
                         TRANSPORT_BODY_BYTES_MAX >> 20);
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
    if (self->socket_path != NULL)
        SET(CURLOPT_UNIX_SOCKET_PATH, self->socket_path);
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

/* Drives the transfer to its end; returns libcurl's code, or CURLE_ABORTED_BY_CALLBACK with
 * attempt->status set when a signal came. */
static CURLcode drive(client_transport *self, transport_attempt *attempt)
{
    CURLcode code = CURLE_FAILED_INIT;
    if (curl_multi_add_handle(self->multi, self->easy) != CURLM_OK)
        return code;
    struct curl_waitfd signal = {.fd = interrupt_descriptor(self->interrupt),
                                 .events = CURL_WAIT_POLLIN};
    int running = 1;
    while (running > 0) {
        if (interrupt_seen(self->interrupt)) {
            attempt->status = interrupt_fail(attempt->error);
            code = CURLE_ABORTED_BY_CALLBACK;
            break;
        }
        if (curl_multi_perform(self->multi, &running) != CURLM_OK ||
            (running > 0 && curl_multi_poll(self->multi, &signal, 1, 1000, NULL) != CURLM_OK))
            break;
    }
    int left = 0;
    for (CURLMsg *message = curl_multi_info_read(self->multi, &left); message != NULL;
         message = curl_multi_info_read(self->multi, &left))
        if (message->msg == CURLMSG_DONE)
            code = message->data.result;
    curl_multi_remove_handle(self->multi, self->easy);
    return code;
}

static int attempt_once(client_transport *self, transport_attempt *attempt)
{
    const transport_request *request = attempt->request;
    char reason[CURL_ERROR_SIZE] = "";
    char *url = memory_format("%s%s", self->base, request->target);
    struct curl_slist *headers = curl_slist_append(NULL, "Expect:");
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
    if (code == CURLE_OK) {
        read_head(attempt);
        return begin_sink(attempt); /* an empty body never reached the callback */
    }
    if (attempt->status != CLIENT_OK)
        return attempt->status;
    if (code == CURLE_URL_MALFORMAT || code == CURLE_UNSUPPORTED_PROTOCOL)
        return didi_fail(attempt->error, CLIENT_USAGE, self->name, "not a usable address");
    attempt->lost = code == CURLE_SEND_ERROR || code == CURLE_RECV_ERROR ||
                    code == CURLE_GOT_NOTHING || code == CURLE_PARTIAL_FILE;
    if (code == CURLE_COULDNT_CONNECT && self->socket_path != NULL)
        snprintf(reason, sizeof reason, "no server listens there"); /* libcurl would name a port */
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
    return response->status == 429 || (response->status >= 502 && response->status <= 504);
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
