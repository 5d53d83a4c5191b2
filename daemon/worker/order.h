/* SPDX-License-Identifier: Apache-2.0 */
/* An order as a worker reads it. */
#pragma once

#include "daemon/worker/worker.h"

#include <jansson.h>

typedef struct work_order {
    json_t *document; /* whose texts those below are */
    const char *version, *kernel, *blas, *coretype, *specification, *work, *package, *reuse;
    const char **models;
    size_t model_count;
    uint64_t memory_limit;
    size_t cores;
    didi_place place; /* of its row */
    uint64_t *items;
    size_t *first; /* of each task, and behind the last */
    size_t task_count;
} work_order;

/* Errors: DIDI_NOT_FOUND, DIDI_FORMAT, DIDI_IO, DIDI_NO_MEMORY. order_clear accepts a zeroed one.
 */
int order_read(int directory_fd, work_order *ret_order, didi_error *error);
void order_clear(work_order *self);
