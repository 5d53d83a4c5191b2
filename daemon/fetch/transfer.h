/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP requests to other hosts, and the rules about whom is spoken to. */
#pragma once

#include "src/base/base.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct transfer transfer;

enum { TRANSFER_HEADER_BYTES = 256, TRANSFER_REDIRECTS_MAX = 8 };

typedef struct transfer_rules {
    const char *endpoint;   /* URL of the hub; may be NULL */
    const char *token;      /* sent to the hub's host alone; may be NULL */
    const char *hosts;      /* "HOST,.HOST"; may be NULL */
    bool allow_private;     /* addresses that are not public, and http */
    const atomic_bool *end; /* set: transfers end with DIDI_CANCELLED */
} transfer_rules;

/* Keeps what the rules point to. Errors: DIDI_INVALID (the endpoint), DIDI_NO_MEMORY. */
int transfer_create(const transfer_rules *rules, transfer **ret_transfer, didi_error *error);
void transfer_free(transfer *self);

/* True when the rules allow a file to come from this URL at all; else the reason is in *error. */
bool transfer_may_ask(const transfer *self, const char *url, didi_error *error);

typedef struct transfer_order {
    const char *url;
    bool head;        /* no body; a redirect to another host is the answer */
    const char *json; /* body of a POST, which follows no redirect; NULL: GET */
    uint64_t offset;  /* of the first byte wanted */
    /* Gets the body of a 200 or 206; `from` is where it starts in the file. Returns a status. */
    int (*write)(void *context, uint64_t from, const void *data, size_t bytes, didi_error *error);
    void *context;
} transfer_order;

typedef struct transfer_answer {
    long status;
    int64_t bytes; /* of the file; -1: not said */
    char etag[TRANSFER_HEADER_BYTES];
    bool may_pass; /* after a failure: trying again may help */
} transfer_answer;

/* Follows redirects to hosts that are allowed; every connection's address is checked before it is
 * made. Errors: DIDI_INVALID (a host, an address or a scheme that is not allowed; too many
 * redirects), DIDI_NOT_FOUND (401 to 404, 410), DIDI_IO (other answers, lost connections),
 * DIDI_CANCELLED, those of write; subject = the URL without its query. */
int transfer_run(transfer *self, const transfer_order *order, transfer_answer *ret_answer,
                 didi_error *error);

/* Reads a file with a token on its first line; the caller frees. Errors: DIDI_INVALID (no token;
 * `setting` as subject), DIDI_NOT_FOUND, DIDI_IO, DIDI_NO_MEMORY. */
int transfer_read_token(const char *place, const char *setting, char **ret_token,
                        didi_error *error);

/* Percent-encodes all but unreserved characters and '/'; the caller frees; NULL: no memory. */
char *transfer_escape(const char *path);
