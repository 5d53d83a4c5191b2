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
    int status = database_run(writer, QUERY_JOB_KEEP,
                              SQL_PARAMETERS(SQL_TEXT(id, argument->id),
                                             SQL_INTEGER(attempt, argument->attempt),
                                             SQL_INTEGER(bytes, argument->bytes)),
                              error);
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

static int forget_operation(database *writer, void *context, store_changes *changes,
                            didi_error *error)
{
    const char *id = context;
    int status = database_run(writer, QUERY_KEPT_FORGET, SQL_PARAMETERS(SQL_TEXT(id, id)), error);
    if (status == DIDI_OK)
        store_changes_add(changes, id);
    return status;
}

int store_kept_forget(store *self, const char *id, didi_error *error)
{
    return store_write_job(self, forget_operation, id, error);
}

static int shrink_operation(database *writer, void *context, store_changes *changes,
                            didi_error *error)
{
    kept_argument *argument = context;
    int64_t total = 0;
    int status = database_row(writer, QUERY_KEPT_TOTAL, NULL, &row_of_integer, &total, NULL, error);
    if (status != DIDI_OK || (uint64_t)total <= argument->bytes)
        return status;
    status = database_row(writer, QUERY_KEPT_OLDEST, NULL, &row_of_id, argument->found_id,
                          &argument->found, error);
    if (status != DIDI_OK || !argument->found)
        return status;
    return forget_operation(writer, argument->found_id, changes, error);
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
    int64_t needed = 0;
    (void)changes;
    int status =
        database_row(writer, QUERY_KEPT_IS_NEEDED, SQL_PARAMETERS(SQL_TEXT(id, argument->id)),
                     &row_of_integer, &needed, NULL, error);
    argument->found = needed != 0;
    return status;
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
