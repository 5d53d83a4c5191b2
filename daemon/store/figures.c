/* SPDX-License-Identifier: Apache-2.0 */
/* How running jobs stand, and how fast stages were. */
#include "daemon/store/figures.h"

#include "daemon/store/writer.h"
#include "src/base/base.h"

#include <stdlib.h>

int store_jobs_running(store *self, store_running **ret_rows, size_t *ret_count, didi_error *error)
{
    static const row_kind kind = {.noun = "job",
                                  .bytes = sizeof(store_running),
                                  .columns = {ROW_COLUMN(store_running, TEXT, id),
                                              ROW_COLUMN(store_running, TEXT, name),
                                              ROW_COLUMN(store_running, TEXT, stage),
                                              ROW_COLUMN(store_running, REAL, progress),
                                              ROW_COLUMN(store_running, INTEGER, attempt),
                                              ROW_COLUMN(store_running, INTEGER, started_ms),
                                              ROW_COLUMN(store_running, INTEGER, ends_ms)}};
    const row_list all = {
        .query = QUERY_JOB_RUNNING, .kind = &kind, .limit = STORE_PAGE_MAX, .most = STORE_PAGE_MAX};
    return store_rows_read(self, &all, ret_rows, ret_count, NULL, error);
}

int store_pace_list(store *self, const char *method, const char *kind, store_pace **ret_rows,
                    size_t *ret_count, didi_error *error)
{
    static const row_kind row_of_pace = {.noun = "pace",
                                         .bytes = sizeof(store_pace),
                                         .columns = {ROW_COLUMN(store_pace, TEXT, stage),
                                                     ROW_COLUMN(store_pace, REAL, work),
                                                     ROW_COLUMN(store_pace, REAL, seconds)}};
    enum { PACES_MAX = 16 };
    const row_list wanted = {.query = QUERY_PACE_LIST,
                             .kind = &row_of_pace,
                             .parameters =
                                 SQL_PARAMETERS(SQL_TEXT(method, method), SQL_TEXT(kind, kind),
                                                SQL_INTEGER(limit, PACES_MAX + 1)),
                             .limit = PACES_MAX,
                             .most = PACES_MAX};
    return store_rows_read(self, &wanted, ret_rows, ret_count, NULL, error);
}

typedef struct pace_argument {
    char method[LIMIT_METHOD_NAME_BYTES + 1];
    char kind[16];
    store_pace pace;
} pace_argument;

static int pace_operation(database *writer, void *context, store_changes *changes,
                          didi_error *error)
{
    const pace_argument *argument = context;
    (void)changes;
    return database_run(
        writer, QUERY_PACE_ADD,
        SQL_PARAMETERS(SQL_TEXT(method, argument->method), SQL_TEXT(kind, argument->kind),
                       SQL_TEXT(stage, argument->pace.stage), SQL_REAL(work, argument->pace.work),
                       SQL_REAL(seconds, argument->pace.seconds)),
        error);
}

void store_pace_post(store *self, const char *method, const char *kind, const store_pace *pace)
{
    pace_argument *argument = memory_zeroed(1, sizeof *argument);
    if (argument == NULL)
        return; /* an estimate will be a little older */
    sqlite3_snprintf(sizeof argument->method, argument->method, "%s", method);
    sqlite3_snprintf(sizeof argument->kind, argument->kind, "%s", kind);
    argument->pace = *pace;
    store_post(self, pace_operation, argument, true);
}
