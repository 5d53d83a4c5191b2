/* SPDX-License-Identifier: Apache-2.0 */
/* What one address, one local user or one client holds of the edge, so that nobody starves others.
 * Pure but for memory: time comes from the caller, who is one thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

enum { HTTP_HOLDER_KEY_BYTES = 80, HTTP_HOLDERS_KEPT = 65536 /* that hold nothing */ };

TAILQ_HEAD(http_connection_list, http_connection);

/* Counted up and down by whoever takes and gives back. */
typedef struct http_holder {
    struct http_holder *next;
    char key[HTTP_HOLDER_KEY_BYTES];
    size_t references;
    size_t connections, waits, downloads;
    size_t running[2]; /* on workers for what is short, for what lasts; guarded by http.lock */
    int64_t tokens, tokens_ms;                 /* thousandths of a request, and when that was so */
    struct http_connection_list idle, sending; /* which could go, the oldest first */
} http_holder;

/* Requests of one holder: `per_second` in the long run, `burst` at once. 0 a second: no limit. */
typedef struct http_rate {
    size_t per_second, burst;
} http_rate;

typedef struct http_holders http_holders;

/* NULL when out of memory. */
http_holders *http_holders_create(http_rate rate);
/* All must have been given back. */
void http_holders_free(http_holders *self);

/* The holder of this key, made when there is none; give it back. NULL when out of memory. A holder
 * is forgotten once nobody has it and its rate is as that of a new one. */
http_holder *http_holders_get(http_holders *self, const char *key, int64_t now_ms);
void http_holders_put(http_holder *holder);
/* How many are known. */
size_t http_holders_count(const http_holders *self);

/* Takes one request from the holder's rate. False: none is left for *ret_milliseconds. */
bool http_holder_request(const http_holders *self, http_holder *holder, int64_t now_ms,
                         int64_t *ret_milliseconds);
/* Requests that are left now. */
size_t http_holder_left(const http_holders *self, const http_holder *holder, int64_t now_ms);
