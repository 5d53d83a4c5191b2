/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP over libcurl, one request at a time; redirects are followed here, so that each is judged. */
#include "daemon/fetch/transfer.h"

#include "daemon/base/base.h"
#include "daemon/egress/egress.h"

#include <curl/curl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum {
    CONNECT_SECONDS_MAX = 30,
    STALL_SECONDS_MAX = 60, /* without a byte */
    URL_BYTES_MAX = 8192,
    IGNORED_BYTES_MAX = 1 << 20, /* of a body that nobody wants */
};

struct transfer {
    transfer_rules rules;
    CURL *easy;
    char *hub_host, *hub_port, *hub_scheme;
};

/* One request, handed to libcurl's callbacks. */
typedef struct exchange {
    transfer *transfer;
    const transfer_order *order;
    transfer_answer *answer;
    didi_error *error;
    int status; /* what a callback failed with */
    uint64_t from, received, ignored;
    bool from_hub, address_refused;
    char linked_etag[TRANSFER_HEADER_BYTES];
    int64_t linked_bytes, range_bytes, content_bytes;
} exchange;

int transfer_create(const transfer_rules *rules, transfer **ret_transfer, didi_error *error)
{
    transfer *self = memory_zeroed(1, sizeof *self);
    if (self == NULL || curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        free(self);
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "libcurl cannot start");
    }
    self->rules = *rules;
    self->easy = curl_easy_init();
    int status = self->easy != NULL
                     ? DIDI_OK
                     : didi_fail(error, DIDI_NO_MEMORY, NULL, "libcurl cannot start");
    if (status == DIDI_OK && rules->endpoint != NULL) {
        self->hub_scheme = egress_url_part(rules->endpoint, EGRESS_SCHEME);
        self->hub_host = egress_url_part(rules->endpoint, EGRESS_HOST);
        self->hub_port = egress_url_part(rules->endpoint, EGRESS_PORT);
        if (self->hub_scheme == NULL || self->hub_host == NULL || self->hub_port == NULL ||
            (strcmp(self->hub_scheme, "https") != 0 && strcmp(self->hub_scheme, "http") != 0))
            status = didi_fail(error, DIDI_INVALID, "hub_endpoint",
                               "'%s' is not the URL of a hub, https://HOST", rules->endpoint);
    }
    if (status != DIDI_OK)
        transfer_free(self);
    else
        *ret_transfer = self;
    return status;
}

void transfer_free(transfer *self)
{
    if (self == NULL)
        return;
    curl_easy_cleanup(self->easy);
    free(self->hub_scheme);
    free(self->hub_host);
    free(self->hub_port);
    free(self);
    curl_global_cleanup();
}

int transfer_read_token(const char *place, const char *setting, char **ret_token, didi_error *error)
{
    char *token = NULL;
    int status = secret_read_word(setting, place, &token, error);
    if (status != DIDI_OK)
        return status;
    if (strspn(token, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopq"
                      "rstuvwxyz0123456789-._~+/=") != strlen(token)) {
        free(token);
        return didi_fail(error, DIDI_INVALID, setting, "%s holds no token", place);
    }
    *ret_token = token;
    return DIDI_OK;
}

char *transfer_escape(const char *path)
{
    char *escaped = curl_easy_escape(NULL, path, 0);
    char *copy = escaped != NULL ? memory_string(escaped) : NULL;
    curl_free(escaped);
    for (char *from = copy, *to = copy; copy != NULL; from++, to++) {
        bool slash = strncmp(from, "%2F", 3) == 0;
        *to = slash ? '/' : *from;
        from += slash ? 2 : 0;
        if (*to == '\0')
            break;
    }
    return copy;
}

/* ---- whom is spoken to ---- */

/* The hub is a scheme, a host and a port. */
static bool is_hub(const transfer *self, const char *url)
{
    if (self->hub_host == NULL)
        return false;
    char *scheme = egress_url_part(url, EGRESS_SCHEME);
    char *host = egress_url_part(url, EGRESS_HOST);
    char *port = egress_url_part(url, EGRESS_PORT);
    bool same = scheme != NULL && host != NULL && port != NULL &&
                strcmp(scheme, self->hub_scheme) == 0 && strcasecmp(host, self->hub_host) == 0 &&
                strcmp(port, self->hub_port) == 0;
    free(scheme);
    free(host);
    free(port);
    return same;
}

bool transfer_may_ask(const transfer *self, const char *url, didi_error *error)
{
    char *scheme = egress_url_part(url, EGRESS_SCHEME);
    char *host = egress_url_part(url, EGRESS_HOST);
    char *user = egress_url_part(url, EGRESS_USER);
    bool plain = scheme != NULL && strcmp(scheme, "http") == 0;
    bool may = false;
    if (scheme == NULL || host == NULL || user != NULL || (!plain && strcmp(scheme, "https") != 0))
        didi_fail(error, DIDI_INVALID, NULL, "not a URL that is fetched: https://HOST/...");
    else if (plain && !self->rules.allow_private)
        didi_fail(error, DIDI_INVALID, NULL, "http to %s is not allowed, only https", host);
    else if (!is_hub(self, url) && !egress_host_is_listed(self->rules.hosts, host))
        didi_fail(error, DIDI_INVALID, NULL,
                  "the host %s is not one that is fetched from; --fetch-hosts has them", host);
    else
        may = true;
    free(scheme);
    free(host);
    free(user);
    return may;
}

static curl_socket_t open_socket(void *context, curlsocktype purpose, struct curl_sockaddr *address)
{
    exchange *self = context;
    (void)purpose;
    return egress_open_socket(&address->addr, address->socktype, address->protocol,
                              self->transfer->rules.allow_private, &self->address_refused);
}

/* ---- what comes back ---- */

/* W/"x" and "x" are x. */
static void keep_etag(const char *value, char ret_etag[TRANSFER_HEADER_BYTES])
{
    value += strncmp(value, "W/", 2) == 0 ? 2 : 0;
    value += value[0] == '"';
    (void)snprintf(ret_etag, TRANSFER_HEADER_BYTES, "%.*s", (int)strcspn(value, "\""), value);
}

static size_t header_arrived(char *line, size_t size, size_t count, void *context)
{
    exchange *self = context;
    size_t bytes = size * count;
    char value[TRANSFER_HEADER_BYTES];
    if (egress_header_value(line, bytes, "etag", value, sizeof value))
        keep_etag(value, self->answer->etag);
    else if (self->from_hub &&
             egress_header_value(line, bytes, "x-linked-etag", value, sizeof value))
        keep_etag(value, self->linked_etag);
    else if (self->from_hub &&
             egress_header_value(line, bytes, "x-linked-size", value, sizeof value))
        self->linked_bytes = strtoll(value, NULL, 10);
    else if (egress_header_value(line, bytes, "content-length", value, sizeof value))
        self->content_bytes = strtoll(value, NULL, 10);
    else if (egress_header_value(line, bytes, "content-range", value, sizeof value) &&
             strchr(value, '/') != NULL)
        self->range_bytes = strtoll(strchr(value, '/') + 1, NULL, 10);
    return bytes;
}

static size_t body_arrived(char *data, size_t size, size_t count, void *context)
{
    exchange *self = context;
    size_t bytes = size * count;
    long code = 0;
    curl_easy_getinfo(self->transfer->easy, CURLINFO_RESPONSE_CODE, &code);
    if ((code != 200 && code != 206) || self->order->write == NULL) {
        self->ignored += bytes;
        return self->ignored <= IGNORED_BYTES_MAX ? bytes : 0;
    }
    self->from = code == 206 ? self->order->offset : 0;
    self->status = self->order->write(self->order->context, self->from + self->received, data,
                                      bytes, self->error);
    self->received += bytes;
    return self->status == DIDI_OK ? bytes : 0;
}

static int asked_to_end(void *context, curl_off_t total, curl_off_t now, curl_off_t up_total,
                        curl_off_t up_now)
{
    const exchange *self = context;
    (void)total;
    (void)now;
    (void)up_total;
    (void)up_now;
    return self->transfer->rules.end != NULL && atomic_load(self->transfer->rules.end);
}

static int exchange_judge(exchange *self, CURLcode code, long status, const char *subject)
{
    const transfer_rules *rules = &self->transfer->rules;
    if (self->status != DIDI_OK)
        return self->status;
    if (rules->end != NULL && atomic_load(rules->end))
        return didi_fail(self->error, DIDI_CANCELLED, subject, "the fetch is ended");
    if (self->address_refused)
        return didi_fail(self->error, DIDI_INVALID, subject,
                         "the host has a private address, which is not fetched from; "
                         "--fetch-private 1 allows it");
    self->answer->may_pass = code != CURLE_OK || status >= 500 || status == 429 || status == 408;
    if (code != CURLE_OK)
        return didi_fail(self->error, DIDI_IO, subject, "%s", curl_easy_strerror(code));
    if (status == 401 || status == 403)
        return didi_fail(self->error, DIDI_NOT_FOUND, subject,
                         "answered %ld: not there, or not for this token (--hub-token-file)",
                         status);
    if (status == 404 || status == 410)
        return didi_fail(self->error, DIDI_NOT_FOUND, subject, "answered %ld: not there", status);
    if (status >= 400 && status != 416)
        return didi_fail(self->error, DIDI_IO, subject, "answered %ld", status);
    return DIDI_OK;
}

static int exchange_run(exchange *self, const char *url, struct curl_slist *headers,
                        long *ret_status)
{
    CURL *easy = self->transfer->easy;
    const transfer_order *order = self->order;
    char range[32];
    char subject[DIDI_ERROR_SUBJECT_BYTES_MAX];
    (void)snprintf(subject, sizeof subject, "%.*s", (int)strcspn(url, "?#"), url);
    (void)snprintf(range, sizeof range, "%llu-", (unsigned long long)order->offset);
    self->content_bytes = self->range_bytes = -1;
    self->from_hub = is_hub(self->transfer, url);
    curl_easy_reset(easy);
    curl_easy_setopt(easy, CURLOPT_URL, url);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_PROXY, ""); /* whose address would be checked instead */
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "didid");
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_SECONDS_MAX);
    curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(easy, CURLOPT_LOW_SPEED_TIME, (long)STALL_SECONDS_MAX);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, open_socket);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, self);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, header_arrived);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, self);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, body_arrived);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, self);
    curl_easy_setopt(easy, CURLOPT_XFERINFOFUNCTION, asked_to_end);
    curl_easy_setopt(easy, CURLOPT_XFERINFODATA, self);
    curl_easy_setopt(easy, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(easy, CURLOPT_NOBODY, order->head ? 1L : 0L);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
    if (order->json != NULL)
        curl_easy_setopt(easy, CURLOPT_POSTFIELDS, order->json);
    if (order->offset > 0)
        curl_easy_setopt(easy, CURLOPT_RANGE, range);
    CURLcode code = curl_easy_perform(easy);
    curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, ret_status);
    return exchange_judge(self, code, *ret_status, subject);
}

/* One hop. The token goes to the hub and nobody else. */
static int exchange_hop(exchange *self, const char *url, long *ret_status)
{
    const char *token = self->transfer->rules.token;
    struct curl_slist *headers = NULL;
    char line[1100];
    if (token != NULL && is_hub(self->transfer, url)) {
        (void)snprintf(line, sizeof line, "Authorization: Bearer %s", token);
        headers = curl_slist_append(NULL, line);
    }
    /* Compressed answers would have other sizes. */
    struct curl_slist *all = curl_slist_append(headers, "Accept-Encoding: identity");
    if (all != NULL && self->order->json != NULL) {
        headers = all;
        all = curl_slist_append(headers, "Content-Type: application/json");
    }
    int status = all != NULL ? exchange_run(self, url, all, ret_status)
                             : didi_fail(self->error, DIDI_NO_MEMORY, NULL, "no memory to ask");
    curl_slist_free_all(all != NULL ? all : headers);
    return status;
}

int transfer_run(transfer *self, const transfer_order *order, transfer_answer *ret_answer,
                 didi_error *error)
{
    exchange now = {
        .transfer = self, .order = order, .answer = ret_answer, .error = error, .linked_bytes = -1};
    char url[URL_BYTES_MAX];
    *ret_answer = (transfer_answer){.bytes = -1};
    (void)snprintf(url, sizeof url, "%s", order->url);
    for (int hop = 0; hop <= TRANSFER_REDIRECTS_MAX; hop++) {
        char *next = NULL;
        if (!transfer_may_ask(self, url, error))
            return DIDI_INVALID;
        int status = exchange_hop(&now, url, &ret_answer->status);
        if (status != DIDI_OK)
            return status;
        curl_easy_getinfo(self->easy, CURLINFO_REDIRECT_URL, &next);
        bool answered = ret_answer->status < 300 || ret_answer->status >= 400 || next == NULL ||
                        (order->head && now.linked_etag[0] != '\0');
        if (answered) {
            if (now.linked_etag[0] != '\0')
                memcpy(ret_answer->etag, now.linked_etag, sizeof now.linked_etag);
            ret_answer->bytes = now.linked_bytes >= 0  ? now.linked_bytes
                                : now.range_bytes >= 0 ? now.range_bytes
                                                       : now.content_bytes;
            return DIDI_OK;
        }
        if (order->json != NULL)
            return didi_fail(error, DIDI_IO, order->url, "answered %ld, a redirect",
                             ret_answer->status);
        (void)snprintf(url, sizeof url, "%s", next);
    }
    return didi_fail(error, DIDI_INVALID, order->url, "more than %d redirects",
                     TRANSFER_REDIRECTS_MAX);
}
