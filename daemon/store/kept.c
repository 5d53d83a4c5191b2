/* SPDX-License-Identifier: Apache-2.0 */
/* Which jobs keep spectra and bases for others, and who needs them. */
#include "daemon/store/writer.h"

#include <string.h>

typedef struct kept_argument {
    const char *id;
    unsigned attempt;
    uint64_t bytes; /* kept, or the limit */
    char found_id[ID_BYTES];
    bool found;
} kept_argument;

static int keep_operation(database *writer, void *context, store_changes *changes,
                          didi_error *error)
{
    const kept_argument *argument = context;
    sqlite3_stmt *statement = database_statement(writer, QUERY_JOB_KEEP, error);
    bind_text(writer, statement, ":id", argument->id);
    bind_integer(writer, statement, ":attempt", (int64_t)argument->attempt);
    bind_integer(writer, statement, ":bytes", (int64_t)argument->bytes);
    int status = database_run(writer, statement, error);
    if (status != DIDI_OK)
        return status;
    if (sqlite3_changes(writer->connection) == 0)
        return didi_fail(error, DIDI_CONFLICT, argument->id, "the job is not running attempt %u",
                         argument->attempt);
    store_changes_add(changes, argument->id);
    return DIDI_OK;
}

int store_job_keep(store *self, const char *id, unsigned attempt, uint64_t bytes, didi_error *error)
{
    kept_argument argument = {.id = id, .attempt = attempt, .bytes = bytes};
    return store_write(self, keep_operation, &argument, error);
}

static int forget(database *writer, const char *id, store_changes *changes, didi_error *error)
{
    sqlite3_stmt *statement = database_statement(writer, QUERY_KEPT_FORGET, error);
    bind_text(writer, statement, ":id", id);
    int status = database_run(writer, statement, error);
    if (status == DIDI_OK)
        store_changes_add(changes, id);
    return status;
}

static int forget_operation(database *writer, void *context, store_changes *changes,
                            didi_error *error)
{
    const kept_argument *argument = context;
    return forget(writer, argument->id, changes, error);
}

int store_kept_forget(store *self, const char *id, didi_error *error)
{
    kept_argument argument = {.id = id};
    return store_write(self, forget_operation, &argument, error);
}

static int shrink_operation(database *writer, void *context, store_changes *changes,
                            didi_error *error)
{
    kept_argument *argument = context;
    bool row = false;
    sqlite3_stmt *statement = database_statement(writer, QUERY_KEPT_TOTAL, error);
    int status = database_step(writer, statement, &row, error);
    if (status != DIDI_OK)
        return status;
    uint64_t total = (uint64_t)sqlite3_column_int64(statement, 0);
    sqlite3_reset(statement);
    if (total <= argument->bytes)
        return DIDI_OK;
    statement = database_statement(writer, QUERY_KEPT_OLDEST, error);
    status = database_step(writer, statement, &argument->found, error);
    if (status != DIDI_OK || !argument->found)
        return status;
    column_text(statement, 0, argument->found_id, sizeof argument->found_id);
    sqlite3_reset(statement);
    return forget(writer, argument->found_id, changes, error);
}

int store_kept_shrink(store *self, uint64_t limit, char ret_id[ID_BYTES], bool *ret_found,
                      didi_error *error)
{
    kept_argument argument = {.bytes = limit};
    int status = store_write(self, shrink_operation, &argument, error);
    if (status != DIDI_OK)
        return status;
    if (argument.found)
        memcpy(ret_id, argument.found_id, ID_BYTES);
    *ret_found = argument.found;
    return DIDI_OK;
}

/* On the writer's connection: after every commit before it. */
static int needed_operation(database *writer, void *context, store_changes *changes,
                            didi_error *error)
{
    kept_argument *argument = context;
    bool row = false;
    sqlite3_stmt *statement = database_statement(writer, QUERY_KEPT_IS_NEEDED, error);
    (void)changes;
    bind_text(writer, statement, ":id", argument->id);
    int status = database_step(writer, statement, &row, error);
    if (status != DIDI_OK)
        return status;
    argument->found = sqlite3_column_int(statement, 0) != 0;
    sqlite3_reset(statement);
    return DIDI_OK;
}

int store_kept_is_needed(store *self, const char *id, bool *ret_needed, didi_error *error)
{
    kept_argument argument = {.id = id};
    int status = store_write(self, needed_operation, &argument, error);
    if (status == DIDI_OK)
        *ret_needed = argument.found;
    return status;
}

int store_kept_each(store *self, int (*visit)(void *context, const char *id), void *context,
                    didi_error *error)
{
    return store_each_id(self, QUERY_KEPT_LIST, visit, context, error);
}
