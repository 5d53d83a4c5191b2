/* SPDX-License-Identifier: Apache-2.0 */
/* Look-ups in the table of problem types. */
#include "proto/problems.h"

#include "src/base/base.h"

#include <string.h>

typedef struct problem_row {
    const char *type, *title;
    int status;
} problem_row;

static const problem_row problem_rows[PROBLEM_COUNT] = {
#define PROBLEM_ROW(id, name, status, title) {PROBLEM_TYPE_PREFIX name, title, status},
    PROBLEM_TABLE(PROBLEM_ROW)
#undef PROBLEM_ROW
};

static const problem_row *problem_row_of(problem which)
{
    return &problem_rows[(unsigned)which < PROBLEM_COUNT ? which : PROBLEM_INTERNAL];
}

const char *problem_type(problem which)
{
    return problem_row_of(which)->type;
}

const char *problem_title(problem which)
{
    return problem_row_of(which)->title;
}

int problem_http_status(problem which)
{
    return problem_row_of(which)->status;
}

problem problem_from_status(int status)
{
    switch (status) {
    case DIDI_INVALID:
        return PROBLEM_INVALID_SPECIFICATION;
    case DIDI_FORMAT:
        return PROBLEM_MALFORMED_FILE;
    case DIDI_MISMATCH:
        return PROBLEM_MODELS_DIFFER;
    case DIDI_BUDGET:
        return PROBLEM_BUDGET_UNREACHABLE;
    case DIDI_MEMORY_LIMIT:
        return PROBLEM_MEMORY_LIMIT;
    case DIDI_NO_MEMORY:
        return PROBLEM_OUT_OF_MEMORY;
    case DIDI_NOT_FOUND:
        return PROBLEM_MISSING_MODEL;
    case DIDI_IO:
        return PROBLEM_IO;
    case DIDI_DISK_FULL:
        return PROBLEM_DISK_FULL;
    case DIDI_NUMERIC:
        return PROBLEM_NUMERIC_FAILURE;
    case DIDI_CHANGED:
        return PROBLEM_INPUT_CHANGED;
    case DIDI_CANCELLED:
        return PROBLEM_CANCELLED;
    case DIDI_WORKER_LOST:
        return PROBLEM_WORKER_LOST;
    case DIDI_SCORER:
        return PROBLEM_SCORER_FAILED;
    case DIDI_UNAVAILABLE:
        return PROBLEM_SCHEDULER_UNAVAILABLE;
    case DIDI_CLUSTER:
        return PROBLEM_CLUSTER_FAILED;
    case DIDI_STORAGE:
        return PROBLEM_STORAGE_FAILED;
    case DIDI_CONFLICT:
        return PROBLEM_CONFLICT;
    default:
        return PROBLEM_INTERNAL;
    }
}

problem problem_from_status_name(const char *name)
{
    for (int status = 0; status < DIDI_STATUS_COUNT; status++)
        if (strcmp(didi_status_name(status), name) == 0)
            return problem_from_status(status);
    return PROBLEM_INTERNAL;
}
