/* SPDX-License-Identifier: Apache-2.0 */
/* One file from elsewhere: whole, checked and durable, or not there. */
#pragma once

#include "daemon/fetch/transfer.h"
#include "src/base/base.h"

/* A fetch in progress. */
typedef struct fetch_run {
    transfer *transfer;
    const char *endpoint; /* the hub's URL, without a slash at its end; may be NULL */
    int directory_fd;     /* the fetch directory */
    int temporary_fd;     /* where unfinished files lie, on the same file system */
    const atomic_bool *end;
    uint64_t done, total;                                     /* bytes */
    void (*tell)(void *context, const struct fetch_run *run); /* now and then */
    void *context;
} fetch_run;

typedef struct blob {
    const char *url;
    uint64_t bytes;
    const char *digest; /* 64 hex digits: SHA-256; 40: Git's of a blob; else unknown */
    const char *key;    /* a plain name: its unfinished part is found again by it */
} blob;

/* Fetches into the directory `to_fd` under `to`, from where an earlier attempt left off; tries
 * again when a connection is lost. Adds to run->done. Errors: DIDI_FORMAT (too long, another
 * digest), DIDI_IO (cut short), DIDI_DISK_FULL, those of transfer_run. What is good of an
 * unfinished file stays. */
int blob_fetch(fetch_run *run, const blob *wanted, int to_fd, const char *to, didi_error *error);

/* Asks for size and digest of a file, again when a connection is lost. Errors: those of
 * transfer_run. */
int blob_ask(fetch_run *run, const char *url, transfer_answer *ret_answer, didi_error *error);

/* Fetches a small document; the caller frees. Errors: also DIDI_FORMAT (too long). */
int blob_text(fetch_run *run, const char *url, char **ret_text, size_t *ret_bytes,
              didi_error *error);
