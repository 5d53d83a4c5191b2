/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of models that clients upload. */
#pragma once

#include "daemon/base/base.h"
#include "proto/proto.h"
#include "src/base/base.h"

typedef struct store store;

const char *upload_state_name(upload_state state);

typedef struct store_upload {
    char id[ID_BYTES];
    char *name;     /* what the model will be called */
    char *client;   /* who uploads, "" for nobody in particular */
    uint64_t bytes; /* of all files together */
    char *files;    /* JSON array of {"name", "bytes", "sha256"} */
    upload_state state;
    int64_t created_ms, updated_ms;
} store_upload;

void store_upload_clear(store_upload *upload);
void store_uploads_free(store_upload *uploads, size_t count);

typedef struct store_upload_limits {
    uint64_t open_max;                    /* that are not committed */
    uint64_t bytes_max, client_bytes_max; /* of all uploads, of one client; committed ones too */
} store_upload_limits;

/* Name, client, bytes and files of the row. Errors: DIDI_CONFLICT (the name is taken by an upload:
 * subject = its id; a limit: subject = the setting). */
int store_upload_create(store *self, const store_upload *upload, const store_upload_limits *limits,
                        char ret_id[ID_BYTES], didi_error *error);

/* DIDI_NOT_FOUND when there is none. Caller clears *ret_upload. */
int store_upload_get(store *self, const char *id, store_upload *ret_upload, didi_error *error);

/* How many are not committed. */
int store_upload_count(store *self, uint64_t *ret_count, didi_error *error);

/* Newest first, those before the id `before` (NULL: all). */
int store_upload_list(store *self, const char *before, size_t limit, store_upload **ret_uploads,
                      size_t *ret_count, bool *ret_more, didi_error *error);

/* Also says that something happened to it. Errors: DIDI_NOT_FOUND. */
int store_upload_move(store *self, const char *id, upload_state state, didi_error *error);
int store_upload_delete(store *self, const char *id, didi_error *error);

/* The upload that a model came by: *ret_id is "" when it came otherwise. */
int store_upload_of_model(store *self, const char *name, char ret_id[ID_BYTES], didi_error *error);

/* An unfinished job that names the model: *ret_id is "" when there is none. */
int store_model_user(store *self, const char *name, char ret_id[ID_BYTES], didi_error *error);
