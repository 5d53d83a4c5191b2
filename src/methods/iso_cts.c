/* SPDX-License-Identifier: Apache-2.0 */
/* Isotropic merging in common and task-specific spaces ("ISO-CTS", Marczak et al. 2025): the
 * leading directions of the sum of the task vectors, and of each task some of what these leave of
 * it. Left and right vectors are turned into the nearest orthonormal ones, and all singular values
 * replaced by their mean. What is no matrix becomes the mean of the tasks. */
#include "src/math/math.h"
#include "src/methods/methods.h"
#include "src/methods/whole.h"

#include <math.h>
#include <stdlib.h>

/* What projecting leaves of a task vector that is all in the common space, at most. */
#define ROUNDING 1e-6

typedef struct iso_cts {
    method_head head;
    double scale, common;
} iso_cts;

static const method_option options[] = {
    {.name = "scale",
     .kind = METHOD_NUMBER,
     .offset = offsetof(iso_cts, scale),
     .standard = 1,
     .lowest = 0,
     .highest = 10,
     .above_lowest = true,
     .help = "factor of the merged matrices"},
    {.name = "common",
     .kind = METHOD_NUMBER,
     .offset = offsetof(iso_cts, common),
     .standard = 0.8,
     .lowest = 0,
     .highest = 1,
     .help = "share of the directions that is of the sum of the task vectors"},
    {.name = NULL},
};

/* How many directions are of the sum, and how many of each task: r in all. */
typedef struct spaces {
    size_t common, own;
} spaces;

/* Halves are rounded to even, as the authors' code does. */
static spaces spaces_of(const iso_cts *self, size_t tensor)
{
    const family_tensor *of = self->head.work->layers[tensor];
    size_t tasks = self->head.work->options.task_count;
    size_t r = (size_t)smaller(of->rows, of->columns);
    size_t first = (size_t)floor(self->common * (double)r);
    size_t own = (size_t)nearbyint((double)(r - first) / (double)tasks);
    own = (size_t)smaller(own, r / tasks);
    return (spaces){r - own * tasks, own};
}

/* matrix -= U_c U_c' matrix, for the `common` directions found first. `room`: common x n. */
static void take_common_away(const whole_vectors *from, size_t common, float *room)
{
    if (common == 0)
        return;
    linalg_gemm(false, false, common, from->n, from->m, 1.0F, from->left, from->m, from->matrix,
                from->n, 0.0F, room, from->n);
    linalg_gemm(true, false, from->m, from->n, common, -1.0F, from->left, from->m, room, from->n,
                1.0F, from->matrix, from->n);
}

/* Finds all directions, whose singular values become their mean over r of them. */
static int find(whole_vectors *found, const iso_cts *self, size_t tensor, float *room, stored *out,
                didi_error *error)
{
    work *of = self->head.work;
    spaces wanted = spaces_of(self, tensor);
    double sum = 0;
    double own = 0;
    int status = whole_sum(out, of, found->matrix, error);
    if (status == DIDI_OK)
        status = whole_vectors_add(found, wanted.common, 0, &sum, error);
    size_t common = found->count;
    for (size_t t = 0; t < of->options.task_count && wanted.own > 0 && status == DIDI_OK; t++) {
        status = whole_read(of, tensor, t, found->matrix, error);
        if (status != DIDI_OK)
            return status;
        double noise = ROUNDING * sqrt(linalg_energy(found->matrix, found->m * found->n));
        take_common_away(found, common, room);
        status = whole_vectors_add(found, wanted.own, noise, &own, error);
        sum += own;
    }
    for (size_t i = 0; i < found->count; i++)
        found->sigma[i] = sum / (double)smaller(found->m, found->n);
    return status;
}

static int merge_tensor(void *context, size_t tensor, stored *out, didi_error *error)
{
    const iso_cts *self = context;
    work *of = self->head.work;
    const family_tensor *from = of->layers[tensor];
    whole_vectors found = {0};
    if (!whole_is_matrix(from))
        return stored_mean_panels(out, error);
    size_t r = (size_t)smaller(from->rows, from->columns);
    float *room = memory_aligned(r * from->columns, sizeof *room);
    int status = room != NULL ? whole_vectors_create(&found, of, tensor, r, error)
                              : didi_fail(error, DIDI_NO_MEMORY, NULL, "common directions");
    if (status == DIDI_OK)
        status = find(&found, self, tensor, room, out, error);
    if (status == DIDI_OK)
        status = whole_vectors_join(&found, error);
    whole_result result = {.values = found.matrix, .scale = self->scale};
    if (status == DIDI_OK)
        status = whole_store(out, of, tensor, &result, error);
    whole_vectors_clear(&found);
    free(room);
    return status;
}

static uint64_t memory(const void *context, size_t tensor)
{
    const iso_cts *self = context;
    const work *of = self->head.work;
    const family_tensor *from = of->layers[tensor];
    uint64_t r = smaller(from->rows, from->columns);
    return whole_is_matrix(from)
               ? memory_add(whole_vectors_bytes(of, tensor, (size_t)r),
                            memory_multiply(memory_multiply(r, from->columns), sizeof(float)))
               : stored_panels_memory(of, tensor);
}

/* A Gram matrix and eigenvectors of the sum and of each task, two polar factors. */
static double flops(const void *context, size_t tensor)
{
    const iso_cts *self = context;
    const work *of = self->head.work;
    const family_tensor *from = of->layers[tensor];
    double tasks = (double)of->options.task_count;
    double shorter = (double)smaller(from->rows, from->columns);
    double cube = shorter * shorter * shorter;
    if (!whole_is_matrix(from))
        return 2 * tasks * (double)from->elements;
    return tasks * (5 * (double)from->elements * shorter + 3 * cube) + 2 * 12 * cube + 9 * cube +
           4 * shorter * (double)from->elements;
}

static int plan(void *context, didi_error *error)
{
    static const stored_cost cost = {.memory = memory, .flops = flops, .passes = 3};
    const iso_cts *self = context;
    return stored_plan(self->head.work, &cost, self, error);
}

static const method_stage stages[] = {
    {.name = "iso_cts",
     .told_as = DIDI_STAGE_REFINE,
     .share = 90,
     .each = merge_tensor,
     .memory = memory},
};

const didi_method iso_cts_method = {
    .name = "iso_cts",
    .summary = "equally strong directions of the sum and of each task: one model for all tasks",
    .options = options,
    .flags = METHOD_ONE_MODEL,
    .self_bytes = sizeof(iso_cts),
    .stages = stages,
    .stage_count = sizeof stages / sizeof *stages,
    .plan = plan,
};
