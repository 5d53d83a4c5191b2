/* SPDX-License-Identifier: Apache-2.0 */
/* EMR-Merging (Huang et al. 2024): elect, mask, rescale. One vector for all tasks: in each place
 * the sign of the sum of the task vectors, and the largest magnitude of those that agree with it.
 * A task gets it where its own vector agrees, times a number that gives it the task vector's mean
 * magnitude. */
#include "src/methods/methods.h"
#include "src/methods/picked.h"

#include "src/base/base.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef enum emr_rescaler { EMR_SUMS, EMR_TENSORS } emr_rescaler;

/* Of a tensor and a task: sum of |tau|, and of what the mask leaves of the elected vector. */
typedef struct magnitudes {
    double own, elected;
} magnitudes;

typedef struct emr {
    method_head head;
    emr_rescaler rescaler;
    magnitudes *sums; /* tensors x T */
    float *scale;     /* T */
} emr;

static const char *const rescaler_words[] = {"sums", "tensors", NULL};

static const method_option options[] = {
    {.name = "rescaler",
     .kind = METHOD_WORD,
     .offset = offsetof(emr, rescaler),
     .standard = EMR_SUMS,
     .words = rescaler_words,
     .help = "mean magnitudes are of all numbers (sums, the paper's), or means of each tensor's "
             "(tensors, as in the authors' code)"},
    {.name = NULL},
};

static const picked_form form = {.shared = STORED_MASKED, .expert = STORED_SCALED_MASK};

static int open_emr(void *context, didi_error *error)
{
    emr *self = context;
    const work *of = self->head.work;
    self->sums = memory_zeroed(of->layer_count * of->options.task_count, sizeof *self->sums);
    self->scale = memory_zeroed(of->options.task_count, sizeof *self->scale);
    return self->sums != NULL && self->scale != NULL
               ? DIDI_OK
               : didi_fail(error, DIDI_NO_MEMORY, NULL, "sums of %zu tensors", of->layer_count);
}

static void close_emr(void *context)
{
    emr *self = context;
    free(self->sums);
    free(self->scale);
}

static magnitudes *sums_of(const emr *self, size_t tensor)
{
    return self->sums + tensor * self->head.work->options.task_count;
}

/* ---- the elected vector ---- */

static float elect(const work *of, const method_panel *panel, uint64_t i)
{
    double sum = 0;
    float most = 0;
    for (size_t t = 0; t < panel->tasks; t++)
        sum += of->task_weight[t] * (double)panel->tau[t][i];
    float sign = sum > 0 ? 1 : -1;
    for (size_t t = 0; t < panel->tasks; t++)
        most = fmaxf(most, sign * panel->tau[t][i]);
    return sign * most;
}

static bool agrees(float elected, float own)
{
    return (elected > 0 && own > 0) || (elected < 0 && own < 0);
}

/* ---- what a task's mask leaves ---- */

typedef struct measuring {
    const emr *self;
    magnitudes *sums;
} measuring;

static void measure_panel(void *context, const method_panel *panel)
{
    const measuring *of = context;
    for (uint64_t i = 0; i < panel->count; i++) {
        float elected = elect(of->self->head.work, panel, i);
        for (size_t t = 0; t < panel->tasks; t++) {
            float own = panel->tau[t][i];
            of->sums[t].own += fabs((double)own);
            of->sums[t].elected += agrees(elected, own) ? fabs((double)elected) : 0;
        }
    }
}

static int measure_tensor(void *context, size_t tensor, stored *out, didi_error *error)
{
    const emr *self = context;
    size_t tasks = self->head.work->options.task_count;
    measuring of = {self, sums_of(self, tensor)};
    for (size_t t = 0; t < tasks; t++)
        of.sums[t] = (magnitudes){0, 0};
    int status = stored_look_at_panels(out, measure_panel, &of, error);
    stored_keep(out, KEPT_SUMS, 0, tasks, 2, of.sums);
    return status;
}

static bool recall_measured(void *context, size_t tensor)
{
    const emr *self = context;
    const work *of = self->head.work;
    magnitudes *sums = sums_of(self, tensor);
    size_t tasks = of->options.task_count;
    const void *data = NULL;
    snapshot *from = NULL;
    uint64_t rows = 0;
    char name[64];
    work_snapshot_name("magnitudes", tensor, name);
    int status = snapshot_open(of->options.work_fd, name, &from, NULL);
    if (status == DIDI_OK)
        status = kept_find(from, KEPT_SUMS, 0, 2, &rows, &data, NULL);
    bool whole = status == DIDI_OK && rows == tasks;
    if (whole)
        memcpy(sums, data, tasks * sizeof *sums);
    snapshot_close(from);
    return whole;
}

static int rescale(void *context, didi_error *error)
{
    (void)error;
    const emr *self = context;
    const work *of = self->head.work;
    for (size_t t = 0; t < of->options.task_count; t++) {
        magnitudes all = {0, 0};
        for (size_t l = 0; l < of->layer_count; l++) {
            const magnitudes *one = &sums_of(self, l)[t];
            double share = self->rescaler == EMR_SUMS ? 1 : 1 / (double)of->layers[l]->elements;
            all.own += share * one->own;
            all.elected += share * one->elected;
        }
        self->scale[t] = all.elected > 0 ? (float)(all.own / all.elected) : 1;
    }
    return DIDI_OK;
}

/* ---- what is stored ---- */

static void fill(void *context, const method_panel *panel, bool *const *picked)
{
    const emr *self = context;
    for (uint64_t i = 0; i < panel->count; i++) {
        panel->shared[i] = elect(self->head.work, panel, i);
        for (size_t t = 0; t < panel->tasks; t++)
            picked[t][i] = agrees(panel->shared[i], panel->tau[t][i]);
    }
}

static int merge_tensor(void *context, size_t tensor, stored *out, didi_error *error)
{
    emr *self = context;
    const picked_user user = {fill, self, self->scale};
    return picked_store(out, self->head.work, tensor, &form, &user, error);
}

static bool recall_merged(void *context, size_t tensor)
{
    const emr *self = context;
    return picked_recall(self->head.work, tensor, &form, NULL) == DIDI_OK;
}

static uint64_t memory(const void *context, size_t tensor)
{
    const emr *self = context;
    return picked_memory(self->head.work, tensor);
}

static stored_size size(const void *context, size_t tensor)
{
    const emr *self = context;
    return picked_size(self->head.work, tensor, &form);
}

static int plan(void *context, didi_error *error)
{
    static const stored_cost cost = {.memory = memory, .size = size, .passes = 2};
    const emr *self = context;
    return stored_plan(self->head.work, &cost, self, error);
}

static const method_stage stages[] = {
    {.name = "magnitudes",
     .told_as = DIDI_STAGE_DECOMPOSE,
     .share = 35,
     .each = measure_tensor,
     .recall = recall_measured},
    {.name = "rescale", .told_as = DIDI_STAGE_ALLOCATE, .share = 1, .once = rescale},
    {.name = "masks",
     .told_as = DIDI_STAGE_REFINE,
     .share = 55,
     .each = merge_tensor,
     .recall = recall_merged,
     .memory = memory},
};

const didi_method emr_method = {
    .name = "emr",
    .summary = "one vector for all tasks, and for each a mask of it and a factor",
    .options = options,
    .self_bytes = sizeof(emr),
    .stages = stages,
    .stage_count = sizeof stages / sizeof *stages,
    .open = open_emr,
    .plan = plan,
    .close = close_emr,
};
