/* SPDX-License-Identifier: Apache-2.0 */
/* Models that clients asked the daemon to fetch. */
#pragma once

#include "daemon/base/base.h"
#include "proto/proto.h"
#include "src/base/base.h"

typedef struct store store;

enum { STORE_FETCHES_KEPT_MAX = 1000 }; /* that ended */

const char *fetch_state_name(fetch_state state);

typedef struct store_fetch {
    char id[ID_BYTES];
    char *name, *source;
    fetch_state state;
    uint64_t bytes_done, bytes_total;   /* 0 in all while it is not known */
    char *error_status, *error_message; /* NULL when there is none */
    int64_t created_ms, updated_ms, finished_ms;
} store_fetch;

void store_fetch_clear(store_fetch *fetch);
void store_fetches_free(store_fetch *fetches, size_t count);

/* Queues a fetch, or finds the unfinished one of the same name and source. */
int store_fetch_request(store *self, const char *name, const char *source, char ret_id[ID_BYTES],
                        didi_error *error);

/* Errors: DIDI_NOT_FOUND. */
int store_fetch_get(store *self, const char *id, store_fetch *ret_fetch, didi_error *error);

/* Newest first, those before the id `before` (NULL: all). */
int store_fetch_list(store *self, const char *before, size_t limit, store_fetch **ret_fetches,
                     size_t *ret_count, bool *ret_more, didi_error *error);

/* The oldest queued one becomes running; the caller clears *ret_fetch. */
int store_fetch_claim(store *self, store_fetch *ret_fetch, bool *ret_found, didi_error *error);

int store_fetch_progress(store *self, const char *id, uint64_t bytes_done, uint64_t bytes_total,
                         didi_error *error);

/* `why` may be NULL; FETCH_QUEUED puts it back. */
int store_fetch_finish(store *self, const char *id, fetch_state state, const didi_error *why,
                       didi_error *error);

/* One that is queued or running becomes cancelled. Errors: DIDI_NOT_FOUND, DIDI_CONFLICT (it
 * ended). */
int store_fetch_cancel(store *self, const char *id, didi_error *error);

/* Forgets one that ended. Errors: DIDI_NOT_FOUND, DIDI_CONFLICT (it did not end yet). */
int store_fetch_delete(store *self, const char *id, didi_error *error);

/* Those an interrupted process left running are queued again. */
int store_fetch_boot(store *self, didi_error *error);
