/* SPDX-License-Identifier: Apache-2.0 */
/* Attempts over libcurl. Every connection's address is judged on its socket; proxies, redirects,
 * cookies and stored passwords play no part. */
#include "daemon/webhooks/sender.h"

#include "daemon/egress/egress.h"
#include "src/didi.h"

#include <assert.h>
#include <curl/curl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum {
    CONNECT_SECONDS_MAX = 10,
    HEADER_BYTES_MAX = 64 * 1024,    /* of an answer */
    LOOK_MILLISECONDS = 60 * 1000,   /* between two looks for what is due, and two trims */
    TROUBLE_MILLISECONDS = 5 * 1000, /* after the store failed */
    STOP_MILLISECONDS = 2 * 1000,    /* for attempts in progress */
};

struct sender {
    sender_rules rules;
    delivery_queue *queue;
    CURLM *multi;
    pthread_t thread;
    atomic_bool woken, stopping;
    bool running;
    size_t count; /* attempts in progress */
    struct sending *first;
};

/* An attempt in progress. */
typedef struct sending {
    struct sending *next;
    sender *sender;
    queue_order *order;
    CURL *easy;
    struct curl_slist *headers;
    bool may_be_private, refused, cut;
    size_t header_bytes, body_bytes, kept;
    queue_answer answer; /* once it ended */
    bool unsettled;      /* the store has not taken that yet */
    char excerpt[SENDER_EXCERPT_BYTES];
    char error[CURL_ERROR_SIZE];
} sending;

/* ---- rules ---- */

static bool host_is_free(const sender_rules *rules, const char *host)
{
    return rules->allow_private || egress_host_is_listed(rules->hosts, host);
}

int sender_check_url(const sender_rules *rules, const char *url, didi_error *error)
{
    char *scheme = egress_url_part(url, EGRESS_SCHEME);
    char *host = egress_url_part(url, EGRESS_HOST);
    char *user = egress_url_part(url, EGRESS_USER);
    const bool written =
        strncasecmp(url, "https://", 8) == 0 || strncasecmp(url, "http://", 7) == 0;
    int status = DIDI_OK;
    if (!written || scheme == NULL || host == NULL || strchr(url, '#') != NULL || user != NULL)
        status = didi_fail(error, DIDI_INVALID, "/url",
                           "url must be https://HOST/..., without a user and a fragment");
    else if (strcmp(scheme, "https") != 0 && !host_is_free(rules, host))
        status = didi_fail(error, DIDI_INVALID, "/url",
                           "http to %s is not allowed, only https; the settings webhook_hosts and "
                           "webhook_private allow it",
                           host);
    free(scheme);
    free(host);
    free(user);
    return status;
}

static curl_socket_t open_socket(void *context, curlsocktype purpose, struct curl_sockaddr *address)
{
    sending *self = context;
    (void)purpose;
    return egress_open_socket(&address->addr, address->socktype, address->protocol,
                              self->may_be_private, &self->refused);
}

/* ---- what comes back ---- */

static size_t header_arrived(char *line, size_t size, size_t count, void *context)
{
    sending *self = context;
    (void)line;
    self->header_bytes += size * count;
    return self->header_bytes <= HEADER_BYTES_MAX ? size * count : 0;
}

static size_t body_arrived(char *data, size_t size, size_t count, void *context)
{
    sending *self = context;
    const size_t bytes = size * count;
    const size_t taken = smaller(bytes, SENDER_EXCERPT_BYTES - self->kept);
    memcpy(self->excerpt + self->kept, data, taken);
    self->kept += taken;
    self->body_bytes += bytes;
    self->cut = self->body_bytes > SENDER_ANSWER_BYTES_MAX;
    return self->cut ? 0 : bytes;
}

static double chance(void)
{
    return (double)arc4random() / UINT32_MAX;
}

/* ---- one attempt ---- */

/* No more of it is sent or comes. */
static void sending_hang_up(sending *self)
{
    if (self->easy != NULL)
        curl_multi_remove_handle(self->sender->multi, self->easy);
    curl_easy_cleanup(self->easy);
    curl_slist_free_all(self->headers);
    self->easy = NULL;
    self->headers = NULL;
}

static void sending_free(sending *self)
{
    sender *owner = self->sender;
    sending **at = &owner->first;
    while (*at != self) {
        assert(*at != NULL);
        at = &(*at)->next;
    }
    *at = self->next;
    owner->count--;
    sending_hang_up(self);
    free(self);
}

static int add_header(sending *self, const char *name, const char *value)
{
    char *line = memory_format("%s:%s%s", name, value[0] != '\0' ? " " : "", value);
    struct curl_slist *longer = line != NULL ? curl_slist_append(self->headers, line) : NULL;
    free(line);
    if (longer != NULL)
        self->headers = longer;
    return longer != NULL ? 0 : 1;
}

/* Returns how many did not fit into memory. */
static int add_headers(sending *self)
{
    const queue_order *order = self->order;
    char timestamp[24];
    char agent[64];
    (void)snprintf(timestamp, sizeof timestamp, "%lld", (long long)(order->sent_ms / 1000));
    (void)snprintf(agent, sizeof agent, "didid/%s", didi_version());
    return add_header(self, "Content-Type", "application/json") + add_header(self, "Expect", "") +
           add_header(self, "User-Agent", agent) +
           add_header(self, "webhook-id", order->delivery.id) +
           add_header(self, "webhook-timestamp", timestamp) +
           add_header(self, "webhook-signature", order->signature) +
           (order->delivery.traceparent[0] != '\0'
                ? add_header(self, "traceparent", order->delivery.traceparent)
                : 0);
}

static void set_options(sending *self)
{
    CURL *easy = self->easy;
    const queue_order *order = self->order;
    const sender_rules *rules = &self->sender->rules;
    curl_easy_setopt(easy, CURLOPT_PRIVATE, self);
    curl_easy_setopt(easy, CURLOPT_URL, order->url);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, self->may_be_private ? "http,https" : "https");
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_PROXY, ""); /* whose address would be checked instead */
    curl_easy_setopt(easy, CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_NOPROGRESS, 1L);
#if LIBCURL_VERSION_NUM >= 0x075700
    curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L); /* a slow name server delays nobody else */
#endif
    curl_easy_setopt(easy, CURLOPT_TIMEOUT, (long)SENDER_SECONDS_MAX);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_SECONDS_MAX);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, self->headers);
    curl_easy_setopt(easy, CURLOPT_POST, 1L);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, order->delivery.body);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE, (long)strlen(order->delivery.body));
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, open_socket);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, self);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, header_arrived);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, self);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, body_arrived);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, self);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, self->error);
    if (rules->ca_file != NULL)
        curl_easy_setopt(easy, CURLOPT_CAINFO, rules->ca_file);
}

/* Whether nothing else could be recorded either. */
static bool is_of_all(int status)
{
    return status == DIDI_DISK_FULL || status == DIDI_IO || status == DIDI_NO_MEMORY;
}

/* False: nothing can be recorded now. What is not recorded stays, to be settled later, and is not
 * sent again meanwhile: a full disk makes no storm of repetitions. What the database refuses of
 * this one alone holds nothing else up. */
static bool settle(sending *self)
{
    didi_error error = {0};
    sender *owner = self->sender;
    sending_hang_up(self);
    int status =
        queue_settle(owner->queue, self->order, &self->answer, clock_now_ms(), chance(), &error);
    if (status == DIDI_OK) {
        sending_free(self);
        return true;
    }
    if (!self->unsettled)
        log_emit(LOG_LEVEL_ERROR, "cannot record a delivery; will try again",
                 LOG_TEXT("delivery", self->order->delivery.id), LOG_TEXT("error", error.message));
    self->unsettled = true;
    return !is_of_all(status);
}

static bool any_of(const sender *self, bool unsettled)
{
    for (const sending *one = self->first; one != NULL; one = one->next)
        if (one->unsettled == unsettled)
            return true;
    return false;
}

/* False when nothing can be recorded. */
static bool settle_again(sender *self)
{
    bool all = true;
    sending *next = NULL;
    for (sending *one = self->first; one != NULL && all; one = next) {
        next = one->next;
        all = !one->unsettled || settle(one);
    }
    return all;
}

/* It could not even be begun. */
static void settle_unsent(sender *self, queue_order *order, sending *made, const char *why)
{
    const queue_answer answer = {.error = why};
    didi_error error = {0};
    if (made != NULL) {
        (void)snprintf(made->error, sizeof made->error, "%.*s", CURL_ERROR_SIZE - 1, why);
        made->answer = (queue_answer){.error = made->error};
        settle(made);
    } else if (queue_settle(self->queue, order, &answer, clock_now_ms(), chance(), &error) !=
               DIDI_OK) {
        queue_put_back(self->queue, order);
    }
}

static void start_sending(void *context, queue_order *order)
{
    sender *self = context;
    didi_error refused = {0};
    char *host = egress_url_part(order->url, EGRESS_HOST);
    sending *made = memory_zeroed(1, sizeof *made);
    if (made != NULL) {
        made->sender = self;
        made->order = order;
        made->easy = curl_easy_init();
        made->may_be_private = host != NULL && host_is_free(&self->rules, host);
        made->next = self->first;
        self->first = made;
        self->count++;
    }
    free(host);
    const char *why = NULL;
    if (sender_check_url(&self->rules, order->url, &refused) != DIDI_OK) {
        why = refused.message; /* the settings have changed since it was made */
    } else if (made == NULL || made->easy == NULL || add_headers(made) != 0) {
        why = "there was no memory to send it";
    } else {
        set_options(made);
        if (curl_multi_add_handle(self->multi, made->easy) != CURLM_OK)
            why = "libcurl cannot start it";
    }
    if (why != NULL)
        settle_unsent(self, order, made, why);
}

static void finish_sending(sending *self, CURLcode code)
{
    long http_status = 0;
    curl_off_t retry_after = 0;
    curl_easy_getinfo(self->easy, CURLINFO_RESPONSE_CODE, &http_status);
    curl_easy_getinfo(self->easy, CURLINFO_RETRY_AFTER, &retry_after);
    self->answer = (queue_answer){.http_status = (int)http_status,
                                  .body = self->excerpt,
                                  .bytes = self->kept,
                                  .retry_after_seconds = retry_after};
    if (self->refused)
        self->answer.error = "the host has a private address, which events are not sent to; the "
                             "settings webhook_hosts and webhook_private allow it";
    else if (code != CURLE_OK && !self->cut)
        self->answer.error = self->error[0] != '\0' ? self->error : curl_easy_strerror(code);
    settle(self);
}

/* True when any attempt ended. */
static bool reap(sender *self)
{
    bool any = false;
    CURLMsg *message;
    int left;
    while ((message = curl_multi_info_read(self->multi, &left)) != NULL) {
        char *mine = NULL;
        if (message->msg != CURLMSG_DONE)
            continue;
        CURLcode code = message->data.result;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &mine);
        finish_sending((sending *)(void *)mine, code);
        any = true;
    }
    return any;
}

/* ---- the thread ---- */

/* Starts what is due; milliseconds until the next look. */
static int64_t look(sender *self)
{
    didi_error error = {0};
    int64_t now = clock_now_ms();
    if (!settle_again(self))
        return TROUBLE_MILLISECONDS;
    if (queue_each_due(self->queue, now, start_sending, self, &error) == DIDI_OK)
        return queue_wait_ms(self->queue, now,
                             any_of(self, true) ? TROUBLE_MILLISECONDS : LOOK_MILLISECONDS);
    log_emit(LOG_LEVEL_ERROR, "cannot look for deliveries", LOG_TEXT("error", error.message));
    return TROUBLE_MILLISECONDS;
}

static void trim(sender *self)
{
    didi_error error = {0};
    if (queue_trim(self->queue, clock_now_ms(), &error) != DIDI_OK)
        log_emit(LOG_LEVEL_ERROR, "cannot forget old deliveries", LOG_TEXT("error", error.message));
}

/* Waits for traffic, a call of sender_wake, or the time. */
static void turn(sender *self, int64_t milliseconds)
{
    int running = 0;
    curl_multi_perform(self->multi, &running);
    if (reap(self))
        atomic_store(&self->woken, true);
    if (milliseconds > 0 && !atomic_load(&self->woken))
        curl_multi_poll(self->multi, NULL, 0, (int)milliseconds, NULL);
}

/* What has not ended then will be sent again. */
static void drain(sender *self)
{
    const int64_t end = clock_monotonic_ms() + STOP_MILLISECONDS;
    while (settle_again(self) && any_of(self, false) && clock_monotonic_ms() < end) {
        atomic_store(&self->woken, false);
        turn(self, end - clock_monotonic_ms());
    }
    while (self->first != NULL) {
        /* Freed ones are out of the list, which the analyzer cannot see. */
        queue_put_back(self->queue, self->first->order); /* NOLINT(clang-analyzer-unix.Malloc) */
        sending_free(self->first);
    }
}

static void *sender_main(void *context)
{
    sender *self = context;
    int64_t look_at = 0;
    int64_t trim_at = 0;
    pthread_setname_np(pthread_self(), "didid-webhooks");
    while (!atomic_load(&self->stopping)) {
        int64_t now = clock_monotonic_ms();
        if (now >= trim_at) {
            trim(self);
            trim_at = now + LOOK_MILLISECONDS;
        }
        if (atomic_exchange(&self->woken, false) || now >= look_at)
            look_at = now + look(self);
        turn(self, look_at - clock_monotonic_ms());
    }
    drain(self);
    return NULL;
}

int sender_start(const sender_rules *rules, delivery_queue *queue, sender **ret_sender,
                 didi_error *error)
{
    sender *self = memory_zeroed(1, sizeof *self);
    if (self == NULL || curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        free(self);
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "libcurl cannot start");
    }
    self->rules = *rules;
    self->queue = queue;
    self->multi = curl_multi_init();
    self->running =
        self->multi != NULL && pthread_create(&self->thread, NULL, sender_main, self) == 0;
    if (!self->running) {
        sender_stop(self);
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "cannot start the thread of webhooks");
    }
    *ret_sender = self;
    return DIDI_OK;
}

void sender_wake(sender *self)
{
    atomic_store(&self->woken, true);
    curl_multi_wakeup(self->multi);
}

void sender_stop(sender *self)
{
    if (self == NULL)
        return;
    atomic_store(&self->stopping, true);
    if (self->running) {
        curl_multi_wakeup(self->multi);
        pthread_join(self->thread, NULL);
    }
    curl_multi_cleanup(self->multi);
    free(self);
    curl_global_cleanup();
}
