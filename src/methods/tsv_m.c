/* SPDX-License-Identifier: Apache-2.0 */
/* Task singular vectors, merged ("TSV-M", Gargiulo et al. 2025). Of each of T tasks the leading
 * min(m, n) / T singular triplets of a matrix, side by side; their left and right vectors are
 * turned into the nearest orthonormal ones, so that tasks no longer disturb each other:
 * scale polar(U) diag(sigma) polar(V)'. What is no matrix becomes the mean. */
#include "src/methods/methods.h"
#include "src/methods/whole.h"

typedef struct tsv_m {
    method_head head;
    double scale;
} tsv_m;

static const method_option options[] = {
    {.name = "scale",
     .kind = METHOD_NUMBER,
     .offset = offsetof(tsv_m, scale),
     .standard = 1, /* the paper's alpha where there is nothing to validate with */
     .lowest = 0,
     .highest = 10,
     .above_lowest = true,
     .help = "factor of the merged matrices"},
    {.name = NULL},
};

static size_t shorter_side(const family_tensor *tensor)
{
    return (size_t)smaller(tensor->rows, tensor->columns);
}

/* Triplets of each task. */
static size_t share_of(const work *of, size_t tensor)
{
    return shorter_side(of->layers[tensor]) / of->options.task_count;
}

/* With more tasks than the shorter side nothing is left for any: as by the authors' code the matrix
 * stays the base's. */
static int merge_tensor(void *context, size_t tensor, stored *out, didi_error *error)
{
    const tsv_m *self = context;
    work *of = self->head.work;
    size_t tasks = of->options.task_count;
    size_t share = share_of(of, tensor);
    whole_vectors found = {0};
    if (!whole_is_matrix(of->layers[tensor]))
        return stored_mean_panels(out, error);
    int status = whole_vectors_create(&found, of, tensor, share * tasks, error);
    for (size_t t = 0; t < tasks && share > 0 && status == DIDI_OK; t++) {
        size_t first = found.count;
        status = whole_read(of, tensor, t, found.matrix, error);
        if (status == DIDI_OK)
            status = whole_vectors_add(&found, share, 0, NULL, error);
        for (size_t i = first; i < found.count; i++)
            found.sigma[i] *= of->task_weight[t];
    }
    if (status == DIDI_OK)
        status = whole_vectors_join(&found, error);
    whole_result result = {.values = found.matrix, .scale = self->scale};
    if (status == DIDI_OK)
        status = whole_store(out, of, tensor, &result, error);
    whole_vectors_clear(&found);
    return status;
}

static uint64_t memory(const void *context, size_t tensor)
{
    const tsv_m *self = context;
    const work *of = self->head.work;
    return whole_is_matrix(of->layers[tensor])
               ? whole_vectors_bytes(of, tensor, share_of(of, tensor) * of->options.task_count)
               : stored_panels_memory(of, tensor);
}

/* A Gram matrix and a third of its eigenvectors for each task, two polar factors. */
static double flops(const void *context, size_t tensor)
{
    const tsv_m *self = context;
    const work *of = self->head.work;
    const family_tensor *from = of->layers[tensor];
    double tasks = (double)of->options.task_count;
    double shorter = (double)shorter_side(from);
    if (!whole_is_matrix(from))
        return 2 * tasks * (double)from->elements;
    return tasks * ((double)from->elements * shorter + 3 * shorter * shorter * shorter) +
           2 * 12 * shorter * shorter * shorter + 6 * shorter * (double)from->elements;
}

static int plan(void *context, didi_error *error)
{
    static const stored_cost cost = {.memory = memory, .flops = flops, .passes = 2};
    const tsv_m *self = context;
    return stored_plan(self->head.work, &cost, self, error);
}

static const method_stage stages[] = {
    {.name = "tsv_m",
     .told_as = DIDI_STAGE_REFINE,
     .share = 90,
     .each = merge_tensor,
     .memory = memory},
};

const didi_method tsv_m_method = {
    .name = "tsv_m",
    .summary = "each task's leading singular vectors, made orthonormal together: one model for all "
               "tasks",
    .options = options,
    .flags = METHOD_ONE_MODEL,
    .self_bytes = sizeof(tsv_m),
    .stages = stages,
    .stage_count = sizeof stages / sizeof *stages,
    .plan = plan,
};
