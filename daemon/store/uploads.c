/* SPDX-License-Identifier: Apache-2.0 */
/* Uploads: rows that say which files a model will have, and how far it is. */
#include "daemon/base/base.h"
#include "daemon/store/writer.h"
#include "src/base/base.h"

#include <assert.h>
#include <string.h>

static const char *const upload_state_names[] = {UPLOAD_STATE_TABLE(TEXT_WORD)};

const char *upload_state_name(upload_state state)
{
    assert((unsigned)state < UPLOAD_STATE_COUNT);
    return upload_state_names[state];
}

#define AT(kind, member) ROW_COLUMN(store_upload, kind, member)
/* As upload_select and upload_list have them. */
static const row_kind row_of_upload = {.noun = "upload",
                                       .bytes = sizeof(store_upload),
                                       .states = upload_state_names,
                                       .state_count = UPLOAD_STATE_COUNT,
                                       .columns = {AT(TEXT, id), AT(GIVEN, name), AT(GIVEN, client),
                                                   AT(INTEGER, bytes), AT(JSON, files),
                                                   AT(STATE, state), AT(INTEGER, created_ms),
                                                   AT(INTEGER, updated_ms)}};

void store_upload_clear(store_upload *upload)
{
    row_clear(&row_of_upload, upload);
}

void store_uploads_free(store_upload *uploads, size_t count)
{
    rows_free(&row_of_upload, uploads, count);
}

typedef struct create_argument {
    const store_upload *upload;
    const store_upload_limits *limits;
    char id[ID_BYTES];
} create_argument;

/* `client` is NULL for all of them together. */
static int check_bytes(database *writer, const create_argument *argument, const char *client,
                       didi_error *error)
{
    uint64_t bytes_max =
        client == NULL ? argument->limits->bytes_max : argument->limits->client_bytes_max;
    int64_t total = 0;
    int status = database_row(writer, QUERY_UPLOAD_TOTAL, SQL_PARAMETERS(SQL_TEXT(client, client)),
                              &row_of_integer, &total, NULL, error);
    if (status != DIDI_OK ||
        ((uint64_t)total <= bytes_max && argument->upload->bytes <= bytes_max - (uint64_t)total))
        return status;
    return didi_fail(error, DIDI_CONFLICT,
                     client == NULL ? "upload_bytes_max" : "upload_client_bytes_max",
                     "%llu bytes more than the %lld that %s uploaded are over the limit of %llu",
                     (unsigned long long)argument->upload->bytes, (long long)total,
                     client == NULL ? "all clients" : "this client", (unsigned long long)bytes_max);
}

static int check_limits(database *writer, const create_argument *argument, didi_error *error)
{
    char other[ID_BYTES];
    int64_t open = 0;
    bool found = false;
    int status = database_row(writer, QUERY_UPLOAD_NAMED,
                              SQL_PARAMETERS(SQL_TEXT(name, argument->upload->name)), &row_of_id,
                              other, &found, error);
    if (status == DIDI_OK && found)
        return didi_fail(error, DIDI_CONFLICT, other, "the upload %s has the name \"%s\"", other,
                         argument->upload->name);
    if (status == DIDI_OK)
        status =
            database_row(writer, QUERY_UPLOAD_COUNT, NULL, &row_of_integer, &open, NULL, error);
    if (status == DIDI_OK && (uint64_t)open >= argument->limits->open_max)
        return didi_fail(error, DIDI_CONFLICT, "upload_open_max",
                         "%lld uploads are open, which is the limit", (long long)open);
    if (status == DIDI_OK)
        status = check_bytes(writer, argument, NULL, error);
    return status == DIDI_OK ? check_bytes(writer, argument, argument->upload->client, error)
                             : status;
}

static int create_operation(database *writer, void *context, store_changes *changes,
                            didi_error *error)
{
    create_argument *argument = context;
    const store_upload *upload = argument->upload;
    (void)changes;
    int status = check_limits(writer, argument, error);
    if (status == DIDI_OK)
        status = database_new_id(writer, clock_now_ms(), argument->id, error);
    if (status != DIDI_OK)
        return status;
    return database_run(
        writer, QUERY_UPLOAD_INSERT,
        SQL_PARAMETERS(SQL_TEXT(id, argument->id), SQL_TEXT(name, upload->name),
                       SQL_TEXT(client, upload->client), SQL_INTEGER(bytes, upload->bytes),
                       SQL_TEXT(files, upload->files), SQL_INTEGER(now, clock_now_ms())),
        error);
}

int store_upload_create(store *self, const store_upload *upload, const store_upload_limits *limits,
                        char ret_id[ID_BYTES], didi_error *error)
{
    create_argument argument = {.upload = upload, .limits = limits};
    int status = store_write(self, create_operation, &argument, error);
    if (status == DIDI_OK)
        memcpy(ret_id, argument.id, ID_BYTES);
    return status;
}

static int fail_unknown(const char *id, didi_error *error)
{
    return didi_fail(error, DIDI_NOT_FOUND, id, "there is no upload '%.64s'", id);
}

int store_upload_get(store *self, const char *id, store_upload *ret_upload, didi_error *error)
{
    bool found = false;
    int status = store_row_read(self, QUERY_UPLOAD_SELECT, SQL_PARAMETERS(SQL_TEXT(id, id)),
                                &row_of_upload, ret_upload, &found, error);
    return status == DIDI_OK && !found ? fail_unknown(id, error) : status;
}

int store_upload_count(store *self, uint64_t *ret_count, didi_error *error)
{
    int64_t count = 0;
    int status =
        store_row_read(self, QUERY_UPLOAD_COUNT, NULL, &row_of_integer, &count, NULL, error);
    if (status == DIDI_OK)
        *ret_count = (uint64_t)count;
    return status;
}

int store_upload_list(store *self, const char *before, size_t limit, store_upload **ret_uploads,
                      size_t *ret_count, bool *ret_more, didi_error *error)
{
    const row_list wanted = {
        .query = QUERY_UPLOAD_LIST,
        .kind = &row_of_upload,
        .parameters = SQL_PARAMETERS(SQL_TEXT(before, before), SQL_INTEGER(limit, ROWS_ALL)),
        .limit = limit,
        .most = STORE_PAGE_MAX};
    return store_rows_read(self, &wanted, ret_uploads, ret_count, ret_more, error);
}

typedef struct change_argument {
    const char *id, *state; /* `state` NULL: it goes */
} change_argument;

static int change_operation(database *writer, void *context, store_changes *changes,
                            didi_error *error)
{
    const change_argument *argument = context;
    char changed[ID_BYTES];
    bool found = false;
    (void)changes;
    int status =
        argument->state == NULL
            ? database_row(writer, QUERY_UPLOAD_DELETE, SQL_PARAMETERS(SQL_TEXT(id, argument->id)),
                           &row_of_id, changed, &found, error)
            : database_row(writer, QUERY_UPLOAD_MOVE,
                           SQL_PARAMETERS(SQL_TEXT(id, argument->id),
                                          SQL_TEXT(state, argument->state),
                                          SQL_INTEGER(now, clock_now_ms())),
                           &row_of_id, changed, &found, error);
    return status == DIDI_OK && !found ? fail_unknown(argument->id, error) : status;
}

int store_upload_move(store *self, const char *id, upload_state state, didi_error *error)
{
    change_argument argument = {id, upload_state_name(state)};
    return store_write(self, change_operation, &argument, error);
}

int store_upload_delete(store *self, const char *id, didi_error *error)
{
    change_argument argument = {id, NULL};
    return store_write(self, change_operation, &argument, error);
}

static int read_id(store *self, store_query query, const char *name, char ret_id[ID_BYTES],
                   didi_error *error)
{
    bool found = false;
    ret_id[0] = '\0';
    return store_row_read(self, query, SQL_PARAMETERS(SQL_TEXT(name, name)), &row_of_id, ret_id,
                          &found, error);
}

int store_upload_of_model(store *self, const char *name, char ret_id[ID_BYTES], didi_error *error)
{
    return read_id(self, QUERY_UPLOAD_NAMED, name, ret_id, error);
}

int store_model_user(store *self, const char *name, char ret_id[ID_BYTES], didi_error *error)
{
    return read_id(self, QUERY_UPLOAD_MODEL_USED, name, ret_id, error);
}
