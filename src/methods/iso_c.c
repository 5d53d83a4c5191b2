/* SPDX-License-Identifier: Apache-2.0 */
/* Isotropic merging in the common space ("ISO-C", Marczak et al. 2025): the sum of the task vectors
 * of a matrix with all of its singular values replaced by their mean. What is no matrix becomes the
 * mean of the tasks. */
#include "src/math/math.h"
#include "src/methods/methods.h"
#include "src/methods/whole.h"

#include <stdlib.h>

typedef struct iso_c {
    method_head head;
    double scale;
} iso_c;

static const method_option options[] = {
    {.name = "scale",
     .kind = METHOD_NUMBER,
     .offset = offsetof(iso_c, scale),
     .standard = 1,
     .lowest = 0,
     .highest = 10,
     .above_lowest = true,
     .help = "factor of the merged matrices"},
    {.name = NULL},
};

/* The polar factor works on rows that are no more than the columns: tall matrices are turned. */
static int flatten(size_t m, size_t n, float *sum, float *turned, double *ret_mean,
                   didi_error *error)
{
    double all = 0;
    if (m > n)
        linalg_transpose(m, n, sum, turned);
    int status = m > n ? polar_rows(n, m, turned, &all, error) : polar_rows(m, n, sum, &all, error);
    *ret_mean = all / (double)smaller(m, n);
    return status;
}

static int merge_tensor(void *context, size_t tensor, stored *out, didi_error *error)
{
    const iso_c *self = context;
    work *of = self->head.work;
    const family_tensor *from = of->layers[tensor];
    if (!whole_is_matrix(from))
        return stored_mean_panels(out, error);
    bool tall = from->rows > from->columns;
    double mean = 0;
    float *sum = memory_aligned(from->elements, sizeof *sum);
    float *turned = memory_aligned(tall ? from->elements : 1, sizeof *turned);
    int status = sum != NULL && turned != NULL
                     ? whole_sum(out, of, sum, error)
                     : didi_fail(error, DIDI_NO_MEMORY, NULL, "the sum of task vectors");
    if (status == DIDI_OK)
        status = flatten(from->rows, from->columns, sum, turned, &mean, error);
    whole_result result = {tall ? turned : sum, tall, mean * self->scale};
    if (status == DIDI_OK)
        status = whole_store(out, of, tensor, &result, error);
    free(sum);
    free(turned);
    return status;
}

static uint64_t memory(const void *context, size_t tensor)
{
    const iso_c *self = context;
    const work *of = self->head.work;
    const family_tensor *from = of->layers[tensor];
    uint64_t panels = stored_panels_memory(of, tensor);
    if (!whole_is_matrix(from))
        return panels;
    uint64_t held = memory_multiply(whole_bytes(of, tensor), from->rows > from->columns ? 2 : 1);
    uint64_t factor =
        polar_bytes(smaller(from->rows, from->columns), larger(from->rows, from->columns));
    return memory_add(held, larger(factor, panels));
}

static double flops(const void *context, size_t tensor)
{
    const iso_c *self = context;
    const family_tensor *from = self->head.work->layers[tensor];
    double shorter = (double)smaller(from->rows, from->columns);
    double sum = 2 * (double)self->head.work->options.task_count * (double)from->elements;
    return whole_is_matrix(from)
               ? sum + 7 * shorter * (double)from->elements + 9 * shorter * shorter * shorter
               : sum;
}

static int plan(void *context, didi_error *error)
{
    static const stored_cost cost = {.memory = memory, .flops = flops, .passes = 2};
    const iso_c *self = context;
    return stored_plan(self->head.work, &cost, self, error);
}

static const method_stage stages[] = {
    {.name = "iso_c",
     .told_as = DIDI_STAGE_REFINE,
     .share = 90,
     .each = merge_tensor,
     .memory = memory},
};

const didi_method iso_c_method = {
    .name = "iso_c",
    .summary = "the sum of the task vectors, equally strong in all directions: one model for all "
               "tasks",
    .options = options,
    .flags = METHOD_ONE_MODEL,
    .self_bytes = sizeof(iso_c),
    .stages = stages,
    .stage_count = sizeof stages / sizeof *stages,
    .plan = plan,
};
