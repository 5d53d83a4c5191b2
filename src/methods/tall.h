/* SPDX-License-Identifier: Apache-2.0 */
/* Masks over a vector of many tasks (TALL-masks, Wang et al. 2024): a task's mask is where its own
 * vector is larger than `lambda` times what the vector of all tasks misses of it. What the methods
 * that make such masks, and TIES itself, have in common: the vector, by sums or by the rule of
 * TIES, and the rows that find its thresholds. */
#pragma once

#include "src/methods/election.h"
#include "src/methods/methods.h"
#include "src/methods/picked.h"

typedef enum tall_vector { TALL_TIES, TALL_SUM } tall_vector;

typedef struct tall {
    method_head head;
    election election; /* and the vector's scale, also of sums */
    tall_vector vector;
    double lambda;
    size_t least; /* of consensus: tasks whose masks take a number */
    double scale; /* likewise, of what is merged */
} tall;

extern const char *const tall_vector_words[]; /* "ties", "sum" */

#define TALL_OPTION_LAMBDA(standard_lambda)                                                        \
    {                                                                                              \
        .name = "lambda", .kind = METHOD_NUMBER, .offset = offsetof(tall, lambda),                 \
        .standard = (standard_lambda), .lowest = 0, .highest = 100,                                \
        .help = "a mask takes numbers whose task vector is above this share of what it would miss" \
    }
#define TALL_OPTION_DENSITY                                                                        \
    {                                                                                              \
        .name = "density", .kind = METHOD_NUMBER, .offset = offsetof(tall, election.density),      \
        .standard = 0.2, .lowest = 0, .highest = 1, .above_lowest = true,                          \
        .help = "of TIES: share of each task vector's numbers that is kept, the largest"           \
    }
#define TALL_OPTION_VECTOR(standard_vector)                                                        \
    {                                                                                              \
        .name = "vector", .kind = METHOD_WORD, .offset = offsetof(tall, vector),                   \
        .standard = (standard_vector), .highest = TALL_SUM, .words = tall_vector_words,            \
        .help = "of all tasks: by TIES, or the sum of the task vectors (ties, sum)"                \
    }

/* ---- what a didi_method takes of it; `self` is a tall */

int tall_open(tall *self, election_combine combine, double scale, didi_error *error);
int tall_begin(void *self, didi_error *error);
void tall_close(void *self);

/* The rows before the last one: three passes and what each of them settles; none for sums. */
int tall_count(void *self, size_t tensor, stored *out, didi_error *error);
int tall_settle(void *self, didi_error *error);
int tall_elect(void *self, size_t tensor, stored *out, didi_error *error);
int tall_decide(void *self, didi_error *error);
bool tall_is_sum(const void *self);
bool tall_is_known(void *self, size_t tensor);
uint64_t tall_count_memory(const void *self, size_t tensor);

#define TALL_ROW_EACH(row, function, bytes)                                                        \
    {                                                                                              \
        .name = (row), .told_as = DIDI_STAGE_DECOMPOSE, .share = 20, .each = (function),           \
        .skipped = tall_is_sum, .in_memory = true, .recall = tall_is_known, .memory = (bytes)      \
    }
#define TALL_ROW_ONCE(row, stage, function)                                                        \
    {                                                                                              \
        .name = (row), .told_as = (stage), .share = 1, .once = (function), .skipped = tall_is_sum  \
    }
#define TALL_ROWS                                                                                  \
    TALL_ROW_EACH("count", tall_count, tall_count_memory),                                         \
        TALL_ROW_ONCE("settle", DIDI_STAGE_DECOMPOSE, tall_settle),                                \
        TALL_ROW_EACH("narrow", tall_count, tall_count_memory),                                    \
        TALL_ROW_ONCE("settle_exactly", DIDI_STAGE_DECOMPOSE, tall_settle),                        \
        TALL_ROW_EACH("elect", tall_elect, NULL),                                                  \
        TALL_ROW_ONCE("decide", DIDI_STAGE_ALLOCATE, tall_decide)
/* How often a plan says that the task vectors are read: with the last row. */
size_t tall_passes(const tall *self);

/* ---- a panel */

/* The vector of all tasks into panel->shared. */
void tall_fill_vector(const tall *self, const method_panel *panel);
/* Whether the mask of the task vector's number `own` takes that of all tasks, `all`. */
static inline bool tall_takes(const tall *self, float own, float all)
{
    double missed = (double)all - (double)own;
    return (own < 0 ? -(double)own : (double)own) > self->lambda * (missed < 0 ? -missed : missed);
}

/* ---- methods that store the vector and masks of it */

int tall_merge_masks(void *self, size_t tensor, stored *out, didi_error *error);
bool tall_recall_masks(void *self, size_t tensor);
uint64_t tall_memory(const void *self, size_t tensor);
int tall_plan_masks(void *self, didi_error *error);
#define TALL_ROW_MASKS                                                                             \
    {                                                                                              \
        .name = "masks", .told_as = DIDI_STAGE_REFINE, .share = 30, .each = tall_merge_masks,      \
        .recall = tall_recall_masks, .memory = tall_memory                                         \
    }
