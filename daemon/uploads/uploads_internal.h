/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of uploads share. Included by them alone. */
#pragma once

#include "daemon/uploads/uploads.h"

#include <pthread.h>
#include <stdatomic.h>

enum { UPLOAD_NAME_BYTES = LIMIT_UPLOAD_FILE_NAME_BYTES + 1 };

/* Something that a request does to an upload; a file of "" is all of it. */
typedef struct upload_use {
    char id[ID_BYTES];
    char file[UPLOAD_NAME_BYTES];
    struct upload_use *next;
} upload_use;

struct uploads {
    const config *settings;
    registry *models;
    store *records;
    int root_fd, hidden_fd; /* -1: no uploads */
    int64_t clock_apart_ms; /* at the start */
    pthread_mutex_t lock;   /* guards what follows */
    upload_use *uses;
    atomic_bool stopping;
    pthread_cond_t closing;
    pthread_t expiry; /* the thread; runs where expires */
    bool expires, closed;
};

/* The bytes of a part that count: one that is whole, but whose digest nobody has checked, lacks its
 * last, so that the request that brings it has it checked. */
uint64_t upload_part_reached(uint64_t on_disk, uint64_t bytes);

int uploads_check_allowed(const uploads *self, didi_error *error);

/* Reserves it for one request. Errors: DIDI_CONFLICT. */
int upload_use_begin(uploads *self, upload_use *use, const char *id, const char *file,
                     didi_error *error);
void upload_use_end(uploads *self, upload_use *use);

/* The row, and its files: clear both, the request last. */
int upload_read(const uploads *self, const char *id, store_upload *ret_row,
                upload_request *ret_files, didi_error *error);

/* The name that a file has while bytes come. */
void upload_part_name(const char *name, char ret_part[UPLOAD_NAME_BYTES + 8]);

/* Calls visit for every row, the newest first. */
int upload_each_row(uploads *self, void (*visit)(uploads *self, const store_upload *row),
                    didi_error *error);

/* ---- expiry.c ---- */

int upload_expiry_start(uploads *self, didi_error *error);
void upload_expiry_stop(uploads *self);

/* ---- commit.c ---- */

/* At start: ends what a process left at a commit, and forgets models that are not there any more.
 */
void upload_recover(uploads *self, const store_upload *row);
/* At start: what was being removed goes. */
void upload_sweep_removed(const uploads *self);
