/* SPDX-License-Identifier: Apache-2.0 */
/* Requests: signed, sent, judged, tried again. */
#include "daemon/s3/client.h"

#include "daemon/base/base.h"
#include "daemon/egress/egress.h"
#include "daemon/s3/answer.h"
#include "daemon/s3/client_internal.h"

#include <assert.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <time.h>

enum {
    CONNECT_SECONDS = 10,
    STALL_SECONDS = 60,       /* slower than this */
    STALL_BYTES = 1024,       /* a second */
    PAUSE_MILLISECONDS = 100, /* before the second attempt, about; doubles */
    PAUSE_MILLISECONDS_MAX = 20000,
    PAUSE_STEP_MILLISECONDS = 50,
    FRESH_SECONDS = 120, /* credentials that end sooner are read anew */
    SKEW_SECONDS = 300,  /* clocks further apart are told of */
    HEADER_BYTES = 1100,
};

/* ---- opening ---- */

s3_rules s3_rules_of(const config *settings)
{
    return (s3_rules){.endpoint = settings->s3_endpoint,
                      .region = settings->s3_region,
                      .credentials_file = settings->s3_credentials_file,
                      .ca_file = settings->s3_ca_file,
                      .metadata = settings->s3_metadata != 0,
                      .allow_private = settings->s3_private != 0,
                      .path_style = settings->s3_path_style != 0,
                      .retry_seconds = (unsigned)settings->s3_retry_seconds};
}

static int copy_rules(s3 *self, const s3_rules *rules)
{
    char *own = NULL;
    self->rules = *rules;
    if (rules->endpoint == NULL)
        own = memory_format("https://s3.%s.amazonaws.com", rules->region);
    self->rules.endpoint = own != NULL ? own : memory_string(rules->endpoint);
    self->rules.region = memory_string(rules->region);
    self->rules.credentials_file =
        rules->credentials_file != NULL ? memory_string(rules->credentials_file) : NULL;
    self->rules.ca_file = rules->ca_file != NULL ? memory_string(rules->ca_file) : NULL;
    return self->rules.endpoint != NULL && self->rules.region != NULL &&
                   (rules->credentials_file == NULL || self->rules.credentials_file != NULL) &&
                   (rules->ca_file == NULL || self->rules.ca_file != NULL)
               ? DIDI_OK
               : DIDI_NO_MEMORY;
}

static int check_endpoint(s3 *self, didi_error *error)
{
    const char *endpoint = self->rules.endpoint;
    char *host = egress_url_part(endpoint, EGRESS_HOST);
    char *user = egress_url_part(endpoint, EGRESS_USER);
    self->scheme = egress_url_part(endpoint, EGRESS_SCHEME);
    const char *after = strstr(endpoint, "://");
    bool known = host != NULL && self->scheme != NULL && user == NULL && after != NULL;
    bool plain = known && strcmp(self->scheme, "http") == 0;
    int status = DIDI_OK;
    if (known)
        self->authority = memory_format("%.*s", (int)strcspn(after + 3, "/"), after + 3);
    if (!known || (!plain && strcmp(self->scheme, "https") != 0) || self->authority == NULL ||
        strcspn(after + 3, "?#") != strlen(after + 3) ||
        (strchr(after + 3, '/') != NULL && strchr(after + 3, '/')[1] != '\0'))
        status = didi_fail(error, DIDI_INVALID, "s3_endpoint",
                           "'%s' is not the URL of a server, https://HOST[:PORT]", endpoint);
    else if (plain && !self->rules.allow_private)
        status = didi_fail(error, DIDI_INVALID, "s3_endpoint",
                           "http to %s is not allowed, only https; s3_private = 1 allows it", host);
    free(host);
    free(user);
    return status;
}

int s3_open(const s3_rules *rules, s3 **ret_s3, didi_error *error)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789-";
    s3 *self = memory_zeroed(1, sizeof *self);
    assert(rules->region != NULL && rules->retry_seconds > 0);
    if (self == NULL || curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        free(self);
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "libcurl cannot start");
    }
    pthread_mutex_init(&self->lock, NULL);
    int status = copy_rules(self, rules);
    if (status != DIDI_OK)
        (void)didi_fail(error, status, NULL, "out of memory");
    else if (strspn(rules->region, letters) != strlen(rules->region) || rules->region[0] == '\0' ||
             strlen(rules->region) > 63)
        status = didi_fail(error, DIDI_INVALID, "s3_region", "'%s' is not the name of a region",
                           rules->region);
    else
        status = check_endpoint(self, error);
    if (status != DIDI_OK)
        s3_close(self);
    else
        *ret_s3 = self;
    return status;
}

void s3_close(s3 *self)
{
    if (self == NULL)
        return;
    while (self->idle_count > 0)
        curl_easy_cleanup(self->idle[--self->idle_count]);
    pthread_mutex_destroy(&self->lock);
    free((char *)self->rules.endpoint);
    free((char *)self->rules.region);
    free((char *)self->rules.credentials_file);
    free((char *)self->rules.ca_file);
    free(self->scheme);
    free(self->authority);
    free(self);
    curl_global_cleanup();
}

int s3_parse_url(const char *url, const char *subject, char ret_bucket[S3_BUCKET_BYTES],
                 char ret_key[S3_KEY_BYTES], didi_error *error)
{
    static const char start[] = "s3://";
    const char *bucket = url + sizeof start - 1;
    bool good = strncmp(url, start, sizeof start - 1) == 0;
    const size_t length = good ? strcspn(bucket, "/") : 0;
    good = good && length >= 3 && length < S3_BUCKET_BYTES &&
           strspn(bucket, "abcdefghijklmnopqrstuvwxyz0123456789.-") >= length && bucket[0] != '.' &&
           bucket[0] != '-';
    const char *key = good ? bucket + length : "";
    key += strspn(key, "/");
    size_t bytes = strlen(key);
    while (bytes > 0 && key[bytes - 1] == '/')
        bytes--;
    if (!good || bytes >= S3_KEY_BYTES || !text_is_utf8(key, bytes) || text_has_control(key, bytes))
        return didi_fail(error, DIDI_INVALID, subject, "'%.200s' is not s3://BUCKET[/PREFIX]", url);
    (void)snprintf(ret_bucket, S3_BUCKET_BYTES, "%.*s", (int)length, bucket);
    (void)snprintf(ret_key, S3_KEY_BYTES, "%.*s", (int)bytes, key);
    return DIDI_OK;
}

bool s3_place_of(const s3 *self, const s3_object *object, bool on_bucket, char **ret_host,
                 char **ret_path)
{
    char *key = sign_encode(on_bucket ? "" : object->key, true);
    char *path = NULL;
    char *host = NULL;
    if (key != NULL && self->rules.path_style) {
        host = memory_string(self->authority);
        path = memory_format("/%s%s%s", object->bucket, on_bucket ? "" : "/", key);
    } else if (key != NULL) {
        host = memory_format("%s.%s", object->bucket, self->authority);
        path = memory_format("/%s", key);
    }
    free(key);
    if (host != NULL && path != NULL) {
        *ret_host = host;
        *ret_path = path;
        return true;
    }
    free(host);
    free(path);
    return false;
}

int s3_credentials(s3 *self, const credentials *refused, credentials *ret_credentials,
                   didi_error *error)
{
    int status = DIDI_OK;
    pthread_mutex_lock(&self->lock);
    const bool fresh =
        self->has_known &&
        (self->known.ends == 0 || self->known.ends > clock_now_ms() / 1000 + FRESH_SECONDS) &&
        (refused == NULL || memcmp(refused, &self->known, sizeof *refused) != 0);
    if (!fresh) {
        credentials found = {0};
        status =
            credentials_find(self->rules.credentials_file, self->rules.metadata, &found, error);
        if (status == DIDI_OK)
            self->known = found;
        self->has_known = status == DIDI_OK;
    }
    if (status == DIDI_OK)
        *ret_credentials = self->known;
    pthread_mutex_unlock(&self->lock);
    return status;
}

void s3_call_header(s3_call *call, const char *name, const char *value)
{
    size_t place = call->header_count;
    assert(call->header_count < SIGN_HEADERS_MAX);
    for (; place > 0 && strcmp(call->headers[place - 1].name, name) > 0; place--)
        call->headers[place] = call->headers[place - 1];
    call->headers[place] = (sign_header){name, value};
    call->header_count++;
}

void s3_call_clear(s3_call *call)
{
    free(call->document);
    call->document = NULL;
    call->document_bytes = 0;
}

/* ---- one attempt ---- */

typedef struct attempt {
    s3 *client;
    s3_call *call;
    CURL *easy;
    credentials keys;
    char subject[DIDI_ERROR_SUBJECT_BYTES_MAX];
    int64_t deadline_ms;
    uint64_t sent;   /* of the body */
    size_t received; /* of what goes into the buffer */
    bool address_refused, too_long, not_ranged;
    CURLcode result;
    int64_t date, retry_after; /* seconds; 0: not said */
    char range[96], region[64];
    answer_failure failure;
} attempt;

static curl_socket_t open_socket(void *context, curlsocktype purpose, struct curl_sockaddr *address)
{
    attempt *self = context;
    (void)purpose;
    return egress_open_socket(&address->addr, address->socktype, address->protocol,
                              self->client->rules.allow_private, &self->address_refused);
}

static void unquote(const char *value, char ret_etag[S3_ETAG_BYTES])
{
    value += value[0] == '"';
    (void)snprintf(ret_etag, S3_ETAG_BYTES, "%.*s", (int)strcspn(value, "\""), value);
}

/* Base64 of the whole object's digest; of one in parts ("...-3") it is another thing. */
static void take_checksum(s3_facts *facts, const char *value)
{
    unsigned char digest[48];
    if (facts->sha256[0] == '\0' && strlen(value) == 44 &&
        EVP_DecodeBlock(digest, (const unsigned char *)value, 44) == 33)
        file_hex(digest, 32, facts->sha256);
}

static size_t header_arrived(char *line, size_t size, size_t count, void *context)
{
    attempt *self = context;
    s3_facts *facts = &self->call->facts;
    const size_t bytes = size * count;
    char value[HEADER_BYTES];
    if (egress_header_value(line, bytes, "etag", value, sizeof value))
        unquote(value, facts->etag);
    else if (egress_header_value(line, bytes, "x-amz-meta-sha256", value, sizeof value))
        (void)snprintf(facts->sha256, sizeof facts->sha256, "%.64s", value);
    else if (egress_header_value(line, bytes, "x-amz-checksum-sha256", value, sizeof value))
        take_checksum(facts, value);
    else if (egress_header_value(line, bytes, "x-amz-bucket-region", value, sizeof value))
        text_copy_printable(self->region, sizeof self->region, value);
    else if (egress_header_value(line, bytes, "content-length", value, sizeof value))
        facts->bytes = strtoull(value, NULL, 10);
    else if (egress_header_value(line, bytes, "last-modified", value, sizeof value))
        facts->modified = (int64_t)curl_getdate(value, NULL);
    else if (egress_header_value(line, bytes, "content-range", value, sizeof value))
        (void)snprintf(self->range, sizeof self->range, "%.90s", value);
    else if (egress_header_value(line, bytes, "date", value, sizeof value))
        self->date = (int64_t)curl_getdate(value, NULL);
    else if (egress_header_value(line, bytes, "retry-after", value, sizeof value))
        self->retry_after = strtoll(value, NULL, 10);
    return bytes;
}

/* Bytes of a range, where the answer is that range. */
static size_t range_arrived(attempt *self, long code, const char *data, size_t bytes)
{
    s3_call *call = self->call;
    char wanted[64];
    const uint64_t first = call->offset + call->used;
    (void)snprintf(wanted, sizeof wanted, "bytes %llu-%llu/", (unsigned long long)first,
                   (unsigned long long)(call->offset + call->room - 1));
    self->not_ranged = code == 206 ? strncmp(self->range, wanted, strlen(wanted)) != 0
                                   : first != 0 || call->facts.bytes != call->room;
    self->too_long = bytes > call->room - call->used - self->received;
    if (self->not_ranged || self->too_long)
        return 0;
    memcpy(call->buffer + call->used + self->received, data, bytes);
    self->received += bytes;
    return bytes;
}

static size_t body_arrived(char *data, size_t size, size_t count, void *context)
{
    attempt *self = context;
    s3_call *call = self->call;
    const size_t bytes = size * count;
    long code = 0;
    curl_easy_getinfo(self->easy, CURLINFO_RESPONSE_CODE, &code);
    if (call->buffer != NULL && (code == 200 || code == 206))
        return range_arrived(self, code, data, bytes);
    if (bytes > ANSWER_BYTES_MAX - call->document_bytes) {
        self->too_long = true;
        return 0;
    }
    char *grown = memory_resized(call->document, call->document_bytes + bytes + 1, 1);
    if (grown == NULL)
        return 0;
    call->document = grown;
    memcpy(grown + call->document_bytes, data, bytes);
    call->document_bytes += bytes;
    grown[call->document_bytes] = '\0';
    return bytes;
}

static size_t body_wanted(char *buffer, size_t size, size_t count, void *context)
{
    attempt *self = context;
    const s3_body *body = self->call->body;
    const size_t bytes = (size_t)smaller(size * count, body->bytes - self->sent);
    if (bytes > 0 && file_pread_all(body->fd, buffer, bytes, body->offset + self->sent,
                                    self->subject, NULL) != DIDI_OK)
        return CURL_READFUNC_ABORT;
    self->sent += bytes;
    return bytes;
}

static int body_again(void *context, curl_off_t offset, int origin)
{
    attempt *self = context;
    if (origin != SEEK_SET || offset < 0 || (uint64_t)offset > self->call->body->bytes)
        return CURL_SEEKFUNC_FAIL;
    self->sent = (uint64_t)offset;
    return CURL_SEEKFUNC_OK;
}

static bool is_ended(const s3_object *object)
{
    return object->end != NULL && atomic_load(object->end);
}

static int asked_to_end(void *context, curl_off_t total, curl_off_t now, curl_off_t up_total,
                        curl_off_t up_now)
{
    const attempt *self = context;
    (void)total;
    (void)now;
    (void)up_total;
    (void)up_now;
    return is_ended(self->call->object);
}

static bool add_header(struct curl_slist **list, const char *name, const char *value)
{
    char *line = value[0] != '\0' ? memory_format("%s: %s", name, value)
                                  : memory_format("%s:", name); /* libcurl leaves it out */
    struct curl_slist *longer = line != NULL ? curl_slist_append(*list, line) : NULL;
    free(line);
    if (longer != NULL)
        *list = longer;
    return longer != NULL;
}

static int attempt_headers(attempt *self, const char *host, const char *path,
                           struct curl_slist **ret_list, didi_error *error)
{
    s3_call *call = self->call;
    char time_text[SIGN_TIME_BYTES];
    char sha256[65] = SIGN_EMPTY_SHA256;
    char *authorization = NULL;
    int status = DIDI_OK;
    if (call->text != NULL)
        status = file_sha256_bytes(call->text, strlen(call->text), sha256, error);
    else if (call->body != NULL)
        (void)snprintf(sha256, sizeof sha256, "%s", call->body->sha256);
    sign_time(clock_now_ms() / 1000, time_text);
    const sign_key key = {self->keys.id, self->keys.secret,
                          self->keys.token[0] != '\0' ? self->keys.token : NULL,
                          self->client->rules.region};
    const sign_request request = {.method = call->method,
                                  .host = host,
                                  .path = path,
                                  .query = call->query,
                                  .sha256 = sha256,
                                  .headers = call->headers,
                                  .header_count = call->header_count};
    if (status == DIDI_OK)
        status = sign_authorization(&key, &request, time_text, &authorization, error);
    if (status != DIDI_OK)
        return status;
    bool added = add_header(ret_list, "Authorization", authorization) &&
                 add_header(ret_list, "x-amz-content-sha256", sha256) &&
                 add_header(ret_list, "x-amz-date", time_text) &&
                 add_header(ret_list, "Accept-Encoding", "identity") &&
                 add_header(ret_list, "Expect", "") &&
                 (call->text == NULL || add_header(ret_list, "Content-Type", "application/xml")) &&
                 (key.token == NULL || add_header(ret_list, "x-amz-security-token", key.token));
    for (size_t i = 0; i < call->header_count && added; i++)
        added = add_header(ret_list, call->headers[i].name, call->headers[i].value);
    if (call->etag != NULL && added) {
        char *marked = memory_format("\"%s\"", call->etag);
        added = marked != NULL && add_header(ret_list, "If-Match", marked);
        free(marked);
    }
    free(authorization);
    return added ? DIDI_OK : didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
}

static void attempt_options(attempt *self, const char *url, struct curl_slist *headers)
{
    const s3_call *call = self->call;
    CURL *easy = self->easy;
    char range[64];
    const int64_t left_ms = self->deadline_ms - clock_monotonic_ms();
    curl_easy_reset(easy);
    curl_easy_setopt(easy, CURLOPT_URL, url);
    curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_PROXY, ""); /* whose address would be checked instead */
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "didid");
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_SECONDS);
    curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, (long)STALL_BYTES);
    curl_easy_setopt(easy, CURLOPT_LOW_SPEED_TIME, (long)STALL_SECONDS);
    if (call->object->quick)
        curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)(left_ms > 1 ? left_ms : 1));
    if (self->client->rules.ca_file != NULL)
        curl_easy_setopt(easy, CURLOPT_CAINFO, self->client->rules.ca_file);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, open_socket);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, self);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, header_arrived);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, self);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, body_arrived);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, self);
    curl_easy_setopt(easy, CURLOPT_XFERINFOFUNCTION, asked_to_end);
    curl_easy_setopt(easy, CURLOPT_XFERINFODATA, self);
    curl_easy_setopt(easy, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
    if (call->body != NULL) {
        curl_easy_setopt(easy, CURLOPT_UPLOAD, 1L);
        curl_easy_setopt(easy, CURLOPT_INFILESIZE_LARGE, (curl_off_t)call->body->bytes);
        curl_easy_setopt(easy, CURLOPT_READFUNCTION, body_wanted);
        curl_easy_setopt(easy, CURLOPT_READDATA, self);
        curl_easy_setopt(easy, CURLOPT_SEEKFUNCTION, body_again);
        curl_easy_setopt(easy, CURLOPT_SEEKDATA, self);
    } else if (strcmp(call->method, "POST") == 0) {
        curl_easy_setopt(easy, CURLOPT_POSTFIELDS, call->text != NULL ? call->text : "");
    } else if (strcmp(call->method, "HEAD") == 0) {
        curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
    } else if (strcmp(call->method, "GET") != 0) {
        curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, call->method);
    }
    if (call->buffer != NULL) {
        (void)snprintf(range, sizeof range, "%llu-%llu",
                       (unsigned long long)(call->offset + call->used),
                       (unsigned long long)(call->offset + call->room - 1));
        curl_easy_setopt(easy, CURLOPT_RANGE, range);
    }
}

static CURL *take_easy(s3 *self)
{
    pthread_mutex_lock(&self->lock);
    CURL *easy = self->idle_count > 0 ? self->idle[--self->idle_count] : NULL;
    pthread_mutex_unlock(&self->lock);
    return easy != NULL ? easy : curl_easy_init();
}

/* A connection that failed is not used again. */
static void give_easy(s3 *self, CURL *easy, bool failed)
{
    pthread_mutex_lock(&self->lock);
    const bool kept = !failed && self->idle_count < S3_IDLE_MAX;
    if (kept)
        self->idle[self->idle_count++] = easy;
    pthread_mutex_unlock(&self->lock);
    if (!kept)
        curl_easy_cleanup(easy);
}

/* Sends the request once. Fails only where nothing was sent. */
static int attempt_send(attempt *self, didi_error *error)
{
    s3_call *call = self->call;
    struct curl_slist *headers = NULL;
    char *host = NULL;
    char *path = NULL;
    char *url = NULL;
    s3_call_clear(call);
    call->status = 0;
    call->facts = (s3_facts){0};
    self->sent = self->received = 0;
    self->address_refused = self->too_long = self->not_ranged = false;
    self->date = self->retry_after = 0;
    self->range[0] = self->region[0] = '\0';
    self->failure = (answer_failure){0};
    self->easy = take_easy(self->client);
    if (self->easy != NULL &&
        s3_place_of(self->client, call->object, call->on_bucket, &host, &path))
        url = memory_format("%s://%s%s%s%s", self->client->scheme, host, path,
                            call->query[0] != '\0' ? "?" : "", call->query);
    int status = url != NULL ? attempt_headers(self, host, path, &headers, error)
                             : didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    if (status == DIDI_OK) {
        attempt_options(self, url, headers);
        self->result = curl_easy_perform(self->easy);
        curl_easy_getinfo(self->easy, CURLINFO_RESPONSE_CODE, &call->status);
        if (call->document != NULL && (call->status >= 300 || call->may_fail_late))
            answer_read_failure(call->document, call->document_bytes, &self->failure);
    }
    if (self->easy != NULL)
        give_easy(self->client, self->easy, status != DIDI_OK || self->result != CURLE_OK);
    curl_slist_free_all(headers);
    free(url);
    free(path);
    free(host);
    return status;
}

/* ---- what came of it ---- */

typedef enum verdict { VERDICT_GOOD, VERDICT_FAILED, VERDICT_AGAIN, VERDICT_OTHER_KEYS } verdict;

static bool is_one_of(const char *code, const char *const *list, size_t count)
{
    return text_find(list, count, code) < count;
}

/* What a user can do about it. */
static const char *advice(const attempt *self)
{
    static const struct {
        const char *code, *words;
    } rows[] = {
        {"NoSuchBucket", "; create the bucket or name another one in artifact_store"},
        {"ExpiredToken", "; the credentials are over: renew them, then retry"},
        {"InvalidAccessKeyId", "; the server does not know these credentials"},
        {"SignatureDoesNotMatch", "; the secret key, s3_region or s3_endpoint is wrong"},
        {"AccessDenied", "; these credentials may not do that"},
        {"AuthorizationHeaderMalformed", "; s3_region is wrong"},
        {"PermanentRedirect", "; the bucket is of another region: s3_region, s3_endpoint"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (strcmp(rows[i].code, self->failure.code) == 0)
            return rows[i].words;
    return "";
}

/* The status of what the server refused. */
static int refusal(const attempt *self)
{
    static const char *const full[] = {"QuotaExceeded", "XMinioStorageFull",
                                       "XMinioAdminBucketQuotaExceeded", "InsufficientStorage",
                                       "InsufficientCapacity"};
    const long status = self->call->status;
    if (status == 404)
        return DIDI_NOT_FOUND;
    if (status == 412)
        return DIDI_CHANGED;
    if (status == 507 || is_one_of(self->failure.code, full, sizeof full / sizeof full[0]))
        return DIDI_DISK_FULL;
    return DIDI_STORAGE;
}

static int tell_refusal(const attempt *self, didi_error *error)
{
    const s3_call *call = self->call;
    const int64_t apart = self->date > 0 ? clock_now_ms() / 1000 - self->date : 0;
    char clocks[160] = "";
    char region[96] = "";
    if (apart > SKEW_SECONDS || apart < -SKEW_SECONDS)
        (void)snprintf(clocks, sizeof clocks,
                       "; the clock of this machine is %lld s %s the server's",
                       (long long)(apart > 0 ? apart : -apart), apart > 0 ? "ahead of" : "behind");
    if (self->region[0] != '\0' && strcmp(self->region, self->client->rules.region) != 0)
        (void)snprintf(region, sizeof region, "; the bucket's region is %s", self->region);
    if (call->status == 412)
        return didi_fail(error, DIDI_CHANGED, self->subject,
                         "the object is not the one that was stored: it was replaced");
    return didi_fail(error, refusal(self), self->subject, "S3 answered %ld%s%s%s%s%s%s%s",
                     call->status, self->failure.code[0] != '\0' ? " " : "", self->failure.code,
                     self->failure.message[0] != '\0' ? ": " : "", self->failure.message,
                     advice(self), region, clocks);
}

static verdict judge_refusal(attempt *self, didi_error *error)
{
    static const char *const passing[] = {
        "SlowDown",   "InternalError",       "ServiceUnavailable", "RequestTimeout",
        "Throttling", "ThrottlingException", "OperationAborted",   "RequestLimitExceeded"};
    const long status = self->call->status;
    (void)tell_refusal(self, error);
    if (status == 200 || status == 500 || status == 502 || status == 503 || status == 504 ||
        status == 429 || status == 408 ||
        is_one_of(self->failure.code, passing, sizeof passing / sizeof passing[0]))
        return VERDICT_AGAIN;
    if ((status == 400 || status == 401 || status == 403) &&
        strcmp(self->failure.code, "RequestTimeTooSkewed") != 0)
        return VERDICT_OTHER_KEYS;
    return VERDICT_FAILED;
}

static verdict attempt_judge(attempt *self, didi_error *error)
{
    s3_call *call = self->call;
    call->used += self->received; /* what came goes on from there */
    if (is_ended(call->object)) {
        didi_fail(error, DIDI_CANCELLED, self->subject, "ended");
        return VERDICT_FAILED;
    }
    if (self->address_refused) {
        didi_fail(error, DIDI_INVALID, self->subject,
                  "the server has a private address, which is not spoken to; s3_private = 1 "
                  "allows it");
        return VERDICT_FAILED;
    }
    if (self->not_ranged || self->too_long) {
        call->used -= self->received;
        didi_fail(error, self->not_ranged ? DIDI_CHANGED : DIDI_STORAGE, self->subject,
                  self->not_ranged ? "the object is shorter than what was stored, or the server "
                                     "gives no ranges"
                                   : "the answer is longer than it may be");
        return VERDICT_FAILED;
    }
    if (self->result != CURLE_OK) {
        didi_fail(error, DIDI_STORAGE, self->subject, "S3 does not answer as it should: %s",
                  curl_easy_strerror(self->result));
        return VERDICT_AGAIN;
    }
    if (call->status < 200 || call->status >= 300 || self->failure.code[0] != '\0')
        return judge_refusal(self, error);
    if (call->buffer != NULL && call->used < call->room) {
        didi_fail(error, DIDI_STORAGE, self->subject, "S3's answer was cut short");
        return VERDICT_AGAIN;
    }
    return VERDICT_GOOD;
}

/* Waits about as long as others do not; false: there is no time for another attempt. */
static bool pause_before(attempt *self, unsigned number)
{
    const uint32_t most =
        (uint32_t)smaller((uint64_t)PAUSE_MILLISECONDS << number, PAUSE_MILLISECONDS_MAX);
    int64_t pause = most / 2 + arc4random_uniform(most);
    if (self->retry_after > 0 && self->retry_after < INT32_MAX)
        pause = (int64_t)larger((uint64_t)pause, (uint64_t)self->retry_after * 1000);
    const int64_t until = clock_monotonic_ms() + pause;
    if (until >= self->deadline_ms)
        return false;
    while (clock_monotonic_ms() < until && !is_ended(self->call->object))
        clock_pause_ms(PAUSE_STEP_MILLISECONDS);
    return true;
}

int s3_call_run(s3 *self, s3_call *call, didi_error *error)
{
    const unsigned seconds = call->object->quick
                                 ? (unsigned)smaller(S3_QUICK_SECONDS, self->rules.retry_seconds)
                                 : self->rules.retry_seconds;
    attempt now = {.client = self,
                   .call = call,
                   .deadline_ms = clock_monotonic_ms() + (int64_t)seconds * 1000};
    didi_error why = {0};
    bool renewed = false;
    (void)snprintf(now.subject, sizeof now.subject, "s3://%s/%s", call->object->bucket,
                   call->object->key);
    int status = s3_credentials(self, NULL, &now.keys, error);
    if (status != DIDI_OK)
        return status;
    for (unsigned number = 0; number < S3_ATTEMPTS_MAX; number++) {
        const size_t before = call->used;
        status = attempt_send(&now, error);
        if (status != DIDI_OK)
            return status;
        const verdict found = attempt_judge(&now, &why);
        metric_add(METRIC_S3_REQUESTS,
                   METRIC_LABELS(call->method, found == VERDICT_GOOD ? "good" : "failed"), 1);
        if (found == VERDICT_GOOD)
            return DIDI_OK;
        if (found == VERDICT_OTHER_KEYS && !renewed) {
            const credentials refused = now.keys;
            renewed = true;
            status = s3_credentials(self, &refused, &now.keys, error);
            if (status != DIDI_OK)
                return status;
            if (memcmp(&refused, &now.keys, sizeof refused) != 0)
                continue;
        }
        if (found != VERDICT_AGAIN || !pause_before(&now, number))
            break;
        if (call->used > before)
            number = 0; /* it gets on */
    }
    if (error != NULL)
        *error = why;
    s3_call_clear(call);
    return why.status;
}
