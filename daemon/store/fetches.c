/* SPDX-License-Identifier: Apache-2.0 */
/* Fetches: rows that say which models were asked for, from where, and how that goes. */
#include "daemon/base/base.h"
#include "daemon/store/writer.h"
#include "src/base/base.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static const char *const fetch_state_names[] = {FETCH_STATE_TABLE(TEXT_WORD)};

const char *fetch_state_name(fetch_state state)
{
    assert((unsigned)state < FETCH_STATE_COUNT);
    return fetch_state_names[state];
}

#define AT(kind, member) ROW_COLUMN(store_fetch, kind, member)
/* As fetch_select, fetch_list and fetch_claim have them. */
static const row_kind row_of_fetch = {
    .noun = "fetch",
    .bytes = sizeof(store_fetch),
    .states = fetch_state_names,
    .state_count = FETCH_STATE_COUNT,
    .columns = {AT(TEXT, id), AT(GIVEN, name), AT(GIVEN, source), AT(STATE, state),
                AT(INTEGER, bytes_done), AT(INTEGER, bytes_total), AT(STRING, error_status),
                AT(STRING, error_message), AT(INTEGER, created_ms), AT(INTEGER, updated_ms),
                AT(INTEGER, finished_ms)}};

void store_fetch_clear(store_fetch *fetch)
{
    row_clear(&row_of_fetch, fetch);
}

void store_fetches_free(store_fetch *fetches, size_t count)
{
    rows_free(&row_of_fetch, fetches, count);
}

typedef struct request_argument {
    const char *name, *source;
    char id[ID_BYTES];
} request_argument;

static int request_operation(database *writer, void *context, store_changes *changes,
                             didi_error *error)
{
    request_argument *argument = context;
    bool found = false;
    (void)changes;
    int status = database_row(
        writer, QUERY_FETCH_SAME,
        SQL_PARAMETERS(SQL_TEXT(name, argument->name), SQL_TEXT(source, argument->source)),
        &row_of_id, argument->id, &found, error);
    if (status != DIDI_OK || found)
        return status;
    status = database_new_id(writer, clock_now_ms(), argument->id, error);
    if (status == DIDI_OK)
        status = database_run(
            writer, QUERY_FETCH_INSERT,
            SQL_PARAMETERS(SQL_TEXT(id, argument->id), SQL_TEXT(name, argument->name),
                           SQL_TEXT(source, argument->source), SQL_INTEGER(now, clock_now_ms())),
            error);
    if (status == DIDI_OK)
        status = database_run(writer, QUERY_FETCH_TRIM,
                              SQL_PARAMETERS(SQL_INTEGER(most, STORE_FETCHES_KEPT_MAX)), error);
    return status;
}

int store_fetch_request(store *self, const char *name, const char *source, char ret_id[ID_BYTES],
                        didi_error *error)
{
    request_argument argument = {.name = name, .source = source};
    int status = store_write(self, request_operation, &argument, error);
    if (status == DIDI_OK)
        memcpy(ret_id, argument.id, ID_BYTES);
    return status;
}

int store_fetch_get(store *self, const char *id, store_fetch *ret_fetch, didi_error *error)
{
    bool found = false;
    int status = store_row_read(self, QUERY_FETCH_SELECT, SQL_PARAMETERS(SQL_TEXT(id, id)),
                                &row_of_fetch, ret_fetch, &found, error);
    if (status == DIDI_OK && !found)
        return didi_fail(error, DIDI_NOT_FOUND, id, "there is no fetch '%.64s'", id);
    return status;
}

int store_fetch_list(store *self, const char *before, size_t limit, store_fetch **ret_fetches,
                     size_t *ret_count, bool *ret_more, didi_error *error)
{
    const row_list wanted = {
        .query = QUERY_FETCH_LIST,
        .kind = &row_of_fetch,
        .parameters = SQL_PARAMETERS(SQL_TEXT(before, before), SQL_INTEGER(limit, ROWS_ALL)),
        .limit = limit,
        .most = STORE_PAGE_MAX};
    return store_rows_read(self, &wanted, ret_fetches, ret_count, ret_more, error);
}

typedef struct claim_argument {
    store_fetch fetch;
    bool found;
} claim_argument;

static int claim_operation(database *writer, void *context, store_changes *changes,
                           didi_error *error)
{
    claim_argument *argument = context;
    (void)changes;
    return database_row(writer, QUERY_FETCH_CLAIM, SQL_PARAMETERS(SQL_INTEGER(now, clock_now_ms())),
                        &row_of_fetch, &argument->fetch, &argument->found, error);
}

int store_fetch_claim(store *self, store_fetch *ret_fetch, bool *ret_found, didi_error *error)
{
    claim_argument argument = {0};
    int status = store_write(self, claim_operation, &argument, error);
    if (status != DIDI_OK) {
        store_fetch_clear(&argument.fetch);
        return status;
    }
    if (argument.found)
        *ret_fetch = argument.fetch;
    *ret_found = argument.found;
    return DIDI_OK;
}

typedef struct change_argument {
    const char *id;
    uint64_t done, total;
    fetch_state state;
    const didi_error *why;
} change_argument;

static int progress_operation(database *writer, void *context, store_changes *changes,
                              didi_error *error)
{
    const change_argument *argument = context;
    (void)changes;
    return database_run(
        writer, QUERY_FETCH_PROGRESS,
        SQL_PARAMETERS(SQL_TEXT(id, argument->id), SQL_INTEGER(done, argument->done),
                       SQL_INTEGER(total, argument->total), SQL_INTEGER(now, clock_now_ms())),
        error);
}

int store_fetch_progress(store *self, const char *id, uint64_t bytes_done, uint64_t bytes_total,
                         didi_error *error)
{
    change_argument argument = {.id = id, .done = bytes_done, .total = bytes_total};
    return store_write(self, progress_operation, &argument, error);
}

static int finish_operation(database *writer, void *context, store_changes *changes,
                            didi_error *error)
{
    const change_argument *argument = context;
    const didi_error *why = argument->why;
    (void)changes;
    return database_run(
        writer, QUERY_FETCH_FINISH,
        SQL_PARAMETERS(SQL_TEXT(id, argument->id),
                       SQL_TEXT(state, fetch_state_name(argument->state)),
                       SQL_INTEGER(now, clock_now_ms()),
                       SQL_TEXT(error_status, why != NULL ? didi_status_name(why->status) : NULL),
                       SQL_TEXT(error_message, why != NULL ? why->message : NULL)),
        error);
}

int store_fetch_finish(store *self, const char *id, fetch_state state, const didi_error *why,
                       didi_error *error)
{
    assert(state != FETCH_RUNNING && (state == FETCH_FAILED) == (why != NULL));
    change_argument argument = {.id = id, .state = state, .why = why};
    return store_write(self, finish_operation, &argument, error);
}

static int end_operation(database *writer, const char *id, store_query query, const char *refusal,
                         didi_error *error)
{
    store_fetch fetch = {0};
    char changed[ID_BYTES];
    bool found = false;
    int status =
        database_row(writer, query,
                     query == QUERY_FETCH_CANCEL
                         ? SQL_PARAMETERS(SQL_TEXT(id, id), SQL_INTEGER(now, clock_now_ms()))
                         : SQL_PARAMETERS(SQL_TEXT(id, id)),
                     &row_of_id, changed, &found, error);
    if (status != DIDI_OK || found)
        return status;
    status = database_row(writer, QUERY_FETCH_SELECT, SQL_PARAMETERS(SQL_TEXT(id, id)),
                          &row_of_fetch, &fetch, &found, error);
    if (status == DIDI_OK)
        status = found ? didi_fail(error, DIDI_CONFLICT, id, "the fetch is %s%s",
                                   fetch_state_name(fetch.state), refusal)
                       : didi_fail(error, DIDI_NOT_FOUND, id, "there is no fetch '%.64s'", id);
    store_fetch_clear(&fetch);
    return status;
}

static int cancel_operation(database *writer, void *context, store_changes *changes,
                            didi_error *error)
{
    (void)changes;
    return end_operation(writer, context, QUERY_FETCH_CANCEL, "", error);
}

int store_fetch_cancel(store *self, const char *id, didi_error *error)
{
    return store_write(self, cancel_operation, (void *)id, error);
}

static int delete_operation(database *writer, void *context, store_changes *changes,
                            didi_error *error)
{
    (void)changes;
    return end_operation(writer, context, QUERY_FETCH_DELETE, "; cancel it first", error);
}

int store_fetch_delete(store *self, const char *id, didi_error *error)
{
    return store_write(self, delete_operation, (void *)id, error);
}

static int boot_operation(database *writer, void *context, store_changes *changes,
                          didi_error *error)
{
    (void)context;
    (void)changes;
    return database_run(writer, QUERY_FETCH_BOOT, SQL_PARAMETERS(SQL_INTEGER(now, clock_now_ms())),
                        error);
}

int store_fetch_boot(store *self, didi_error *error)
{
    return store_write(self, boot_operation, NULL, error);
}
