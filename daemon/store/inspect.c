/* SPDX-License-Identifier: Apache-2.0 */
/* Looking at a database over a connection of its own. */
#include "daemon/store/inspect.h"

#include "daemon/store/schema.h"
#include "daemon/store/writer.h"
#include "src/base/base.h"

#include <stdlib.h>
#include <string.h>

struct store_inspection {
    database *connection;
};

int store_inspect_open(const char *directory, store_inspection **ret_inspection, bool *ret_current,
                       didi_error *error)
{
    store_inspection *self = memory_zeroed(1, sizeof *self);
    char *path = memory_format("%s/didid.db", directory);
    int64_t version = 0;
    int status = self != NULL && path != NULL
                     ? database_open(path, DATABASE_LOOK, &self->connection, error)
                     : didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    if (status == DIDI_OK)
        status = schema_identify(self->connection, &version, error);
    free(path);
    if (status != DIDI_OK) {
        store_inspect_close(self);
        return status;
    }
    *ret_current = version == STORE_MIGRATION_COUNT;
    *ret_inspection = self;
    return DIDI_OK;
}

void store_inspect_close(store_inspection *self)
{
    if (self != NULL)
        database_close(self->connection);
    free(self);
}

int store_inspect_check(store_inspection *self, size_t most,
                        void (*found)(void *context, const char *line), void *context,
                        didi_error *error)
{
    return schema_check(self->connection, most, found, context, error);
}

int store_inspect_jobs(store_inspection *self, const char *after, size_t limit,
                       store_inspected_job *ret_jobs, size_t *ret_count, didi_error *error)
{
    sqlite3_stmt *statement = NULL;
    bool row = true;
    size_t count = 0;
    row_kind kind = {.noun = "job",
                     .bytes = sizeof(store_inspected_job),
                     .states = row_of_job.states,
                     .state_count = row_of_job.state_count,
                     .columns = {ROW_COLUMN(store_inspected_job, TEXT, id),
                                 ROW_COLUMN(store_inspected_job, STATE, state),
                                 ROW_COLUMN(store_inspected_job, INTEGER, specified)}};
    int status = database_statement(
        self->connection, QUERY_JOB_INSPECT,
        SQL_PARAMETERS(SQL_TEXT(after, after), SQL_INTEGER(limit, limit)), &statement, error);
    while (status == DIDI_OK && count < limit) {
        status = database_step(self->connection, statement, &row, error);
        if (status != DIDI_OK || !row)
            break;
        status = row_read(&kind, statement, &ret_jobs[count], error);
        count += status == DIDI_OK;
    }
    sqlite3_reset(statement);
    if (status == DIDI_OK)
        *ret_count = count;
    return status;
}

int store_inspect_known(store_inspection *self, const char *id, bool *ret_known, didi_error *error)
{
    int64_t known = 0;
    int status = database_row(self->connection, QUERY_JOB_KNOWN, SQL_PARAMETERS(SQL_TEXT(id, id)),
                              &row_of_integer, &known, NULL, error);
    *ret_known = known != STORE_JOB_UNKNOWN;
    return status;
}
