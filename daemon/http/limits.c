/* SPDX-License-Identifier: Apache-2.0 */
/* Holders by key, and their token buckets. */
#include "daemon/http/limits.h"

#include "src/base/base.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HOLDER_BUCKETS = 4096, TOKENS_A_REQUEST = 1000 };

struct http_holders {
    http_rate rate;
    size_t count, sweep;
    http_holder *buckets[HOLDER_BUCKETS];
};

http_holders *http_holders_create(http_rate rate)
{
    http_holders *self = memory_zeroed(1, sizeof *self);
    if (self != NULL)
        self->rate = rate;
    return self;
}

void http_holders_free(http_holders *self)
{
    if (self == NULL)
        return;
    for (size_t i = 0; i < HOLDER_BUCKETS; i++) {
        while (self->buckets[i] != NULL) {
            http_holder *holder = self->buckets[i];
            assert(holder->references == 0);
            self->buckets[i] = holder->next;
            free(holder);
        }
    }
    free(self);
}

static size_t bucket_of(const char *key)
{
    uint64_t hash = 0xcbf29ce484222325U; /* FNV-1a */
    for (; *key != '\0'; key++)
        hash = (hash ^ (unsigned char)*key) * 0x100000001b3U;
    return (size_t)(hash >> 32) % HOLDER_BUCKETS;
}

static int64_t tokens_most(const http_holders *self)
{
    return (int64_t)self->rate.burst * TOKENS_A_REQUEST;
}

static int64_t tokens_now(const http_holders *self, const http_holder *holder, int64_t now_ms)
{
    int64_t most = tokens_most(self);
    int64_t passed = now_ms - holder->tokens_ms;
    int64_t per_ms = (int64_t)self->rate.per_second; /* thousandths a millisecond */
    if (passed < 0 || per_ms == 0 || holder->tokens >= most)
        return holder->tokens;
    if (passed > (most - holder->tokens) / per_ms)
        return most;
    return holder->tokens + passed * per_ms;
}

/* Forgets some of those that hold nothing, a bucket at a time. */
static void sweep(http_holders *self, int64_t now_ms)
{
    http_holder **link = &self->buckets[self->sweep++ % HOLDER_BUCKETS];
    while (*link != NULL) {
        http_holder *holder = *link;
        bool full =
            self->rate.per_second == 0 || tokens_now(self, holder, now_ms) >= tokens_most(self);
        if (holder->references == 0 && (full || self->count > HTTP_HOLDERS_KEPT)) {
            *link = holder->next;
            self->count--;
            free(holder);
        } else {
            link = &holder->next;
        }
    }
}

http_holder *http_holders_get(http_holders *self, const char *key, int64_t now_ms)
{
    http_holder **bucket = &self->buckets[bucket_of(key)];
    sweep(self, now_ms);
    for (http_holder *holder = *bucket; holder != NULL; holder = holder->next) {
        if (strcmp(holder->key, key) == 0) {
            holder->references++;
            return holder;
        }
    }
    http_holder *holder = memory_zeroed(1, sizeof *holder);
    if (holder == NULL)
        return NULL;
    snprintf(holder->key, sizeof holder->key, "%s", key);
    holder->references = 1;
    holder->tokens = tokens_most(self);
    holder->tokens_ms = now_ms;
    TAILQ_INIT(&holder->idle);
    TAILQ_INIT(&holder->sending);
    holder->next = *bucket;
    *bucket = holder;
    self->count++;
    return holder;
}

void http_holders_put(http_holder *holder)
{
    if (holder == NULL)
        return;
    assert(holder->references > 0);
    holder->references--;
}

size_t http_holders_count(const http_holders *self)
{
    return self->count;
}

bool http_holder_request(const http_holders *self, http_holder *holder, int64_t now_ms,
                         int64_t *ret_milliseconds)
{
    if (self->rate.per_second == 0)
        return true;
    holder->tokens = tokens_now(self, holder, now_ms);
    holder->tokens_ms = now_ms > holder->tokens_ms ? now_ms : holder->tokens_ms;
    if (holder->tokens < TOKENS_A_REQUEST) {
        int64_t per_ms = (int64_t)self->rate.per_second;
        *ret_milliseconds = (TOKENS_A_REQUEST - holder->tokens + per_ms - 1) / per_ms;
        return false;
    }
    holder->tokens -= TOKENS_A_REQUEST;
    return true;
}

size_t http_holder_left(const http_holders *self, const http_holder *holder, int64_t now_ms)
{
    return (size_t)(tokens_now(self, holder, now_ms) / TOKENS_A_REQUEST);
}
