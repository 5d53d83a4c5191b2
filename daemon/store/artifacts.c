/* SPDX-License-Identifier: Apache-2.0 */
/* Counts of jobs, what artifacts take, and the limit of it. */
#include "daemon/store/artifacts.h"

#include "daemon/store/writer.h"
#include "src/base/base.h"

#include <string.h>

static const char limit_name[] = "artifact_bytes_max";

typedef struct count_row {
    unsigned state;
    uint64_t jobs, artifact_bytes;
} count_row;

int store_job_counts(store *self, store_counts *ret_counts, didi_error *error)
{
    const row_kind row_of_count = {.noun = "count",
                                   .bytes = sizeof(count_row),
                                   .states = row_of_job.states,
                                   .state_count = JOB_STATE_COUNT,
                                   .columns = {ROW_COLUMN(count_row, STATE, state),
                                               ROW_COLUMN(count_row, INTEGER, jobs),
                                               ROW_COLUMN(count_row, INTEGER, artifact_bytes)}};
    const row_list wanted = {.query = QUERY_JOB_COUNTS_LIST,
                             .kind = &row_of_count,
                             .limit = JOB_STATE_COUNT,
                             .most = JOB_STATE_COUNT};
    count_row *rows = NULL;
    size_t count = 0;
    int status = store_rows_read(self, &wanted, &rows, &count, NULL, error);
    if (status != DIDI_OK)
        return status;
    *ret_counts = (store_counts){0};
    for (size_t i = 0; i < count; i++) {
        ret_counts->jobs[rows[i].state] = rows[i].jobs;
        ret_counts->artifact_bytes[rows[i].state] = rows[i].artifact_bytes;
    }
    rows_free(&row_of_count, rows, count);
    return DIDI_OK;
}

typedef struct artifact_totals {
    uint64_t finished, promised;
} artifact_totals;

static const row_kind row_of_totals = {.bytes = sizeof(artifact_totals),
                                       .columns = {ROW_COLUMN(artifact_totals, INTEGER, finished),
                                                   ROW_COLUMN(artifact_totals, INTEGER, promised)}};

int artifacts_check_room(database *writer, uint64_t bytes_max, didi_error *error)
{
    artifact_totals totals = {0};
    if (bytes_max == 0)
        return DIDI_OK;
    int status =
        database_row(writer, QUERY_ARTIFACT_TOTALS, NULL, &row_of_totals, &totals, NULL, error);
    if (status == DIDI_OK &&
        (totals.finished > bytes_max || totals.promised > bytes_max - totals.finished))
        return didi_fail(error, DIDI_CONFLICT, limit_name,
                         "artifacts take %llu bytes, those of unfinished jobs and this one at most "
                         "%llu more, and %s is %llu; delete jobs",
                         (unsigned long long)totals.finished, (unsigned long long)totals.promised,
                         limit_name, (unsigned long long)bytes_max);
    return status;
}

bool store_artifacts_over(const didi_error *error)
{
    return error->status == DIDI_CONFLICT && strcmp(error->subject, limit_name) == 0;
}

int store_artifacts_unmeasured(store *self, const char *after, size_t limit,
                               char (**ret_ids)[ID_BYTES], size_t *ret_count, didi_error *error)
{
    return store_ids_read(self, QUERY_ARTIFACTS_UNMEASURED, after, limit, ret_ids, ret_count,
                          error);
}

typedef struct measured_argument {
    const char *id;
    uint64_t bytes;
} measured_argument;

static int measured_operation(database *writer, void *context, store_changes *changes,
                              didi_error *error)
{
    const measured_argument *argument = context;
    (void)changes;
    return database_run(
        writer, QUERY_ARTIFACTS_MEASURED,
        SQL_PARAMETERS(SQL_TEXT(id, argument->id), SQL_INTEGER(bytes, argument->bytes)), error);
}

int store_artifacts_measured(store *self, const char *id, uint64_t bytes, didi_error *error)
{
    measured_argument argument = {id, bytes};
    return store_write(self, measured_operation, &argument, error);
}
