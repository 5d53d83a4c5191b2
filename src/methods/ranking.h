/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers of given ranks over all tensors, in several lists at once, for methods whose thresholds
 * are of whole models. Each of two passes shows every number once: an item counts its own in
 * tables, adds them, and when all have the pass ends. Nothing depends on their order. */
#pragma once

#include "src/math/math.h"
#include "src/work/work.h"

#include <pthread.h>

typedef struct ranking {
    size_t lists;
    selection *of;          /* lists */
    uint64_t numbers, seen; /* of one list: all, and those added in this pass; the rest are zero */
    pthread_mutex_t lock;
    bool opened;
} ranking;

/* `numbers` in each list. Errors: DIDI_NO_MEMORY. ranking_close accepts a zeroed one. */
int ranking_open(ranking *self, size_t lists, uint64_t numbers, didi_error *error);
void ranking_close(ranking *self);
/* Elements of all tensors of a method. */
uint64_t ranking_elements(const work *work);

/* Starts a list afresh: which number is asked for, from the largest, which has rank 0. */
void ranking_ask(ranking *self, size_t list, uint64_t rank, bool magnitudes);

/* Tables for one item, of SELECTION_BINS each. Errors: DIDI_NO_MEMORY. The caller frees. */
int ranking_tables(const ranking *self, uint64_t **ret_tables, didi_error *error);
/* Bytes of one item's, and of the ranking itself. */
uint64_t ranking_memory(size_t lists);
void ranking_count(const ranking *self, size_t list, const float *values, size_t count,
                   uint64_t *tables);
/* Adds what was counted of `numbers` numbers of each list. [any thread] */
void ranking_add(ranking *self, uint64_t numbers, const uint64_t *tables);
void ranking_end_pass(ranking *self);
float ranking_value(const ranking *self, size_t list);
