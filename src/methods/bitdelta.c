/* SPDX-License-Identifier: Apache-2.0 */
/* BitDelta (Liu et al. 2024) without its distillation: of each task vector's matrices the signs,
 * and for each matrix one magnitude, the mean. All other tensors are kept whole for each task. The
 * authors take the linear maps of a transformer's blocks; here that is matrices with a number in
 * their names, which embeddings and heads do not have. */
#include "src/methods/methods.h"
#include "src/methods/picked.h"

#include "src/base/base.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef enum bitdelta_matrices { BITDELTA_LAYERS, BITDELTA_ALL } bitdelta_matrices;

typedef struct bitdelta {
    method_head head;
    bitdelta_matrices matrices;
    bool numbered; /* some matrix is one of a layer */
} bitdelta;

static const char *const matrices_words[] = {"layers", "all", NULL};

static const method_option options[] = {
    {.name = "matrices",
     .kind = METHOD_WORD,
     .offset = offsetof(bitdelta, matrices),
     .standard = BITDELTA_LAYERS,
     .words = matrices_words,
     .help = "that become signs: those with a layer's number in their names, if there are any, or "
             "all (layers, all)"},
    {.name = NULL},
};

/* "encoder.layers.0.fc1.weight": between dots there are digits alone. */
static bool is_numbered(const char *name)
{
    for (; name != NULL; name = strchr(name, '.')) {
        name += name[0] == '.';
        size_t digits = strspn(name, "0123456789");
        if (digits > 0 && name[digits] == '.')
            return true;
    }
    return false;
}

static int open_bitdelta(void *context, didi_error *error)
{
    (void)error;
    bitdelta *self = context;
    const work *of = self->head.work;
    for (size_t l = 0; l < of->layer_count; l++)
        self->numbered = self->numbered ||
                         (of->layers[l]->kind == FAMILY_MATRIX && is_numbered(of->layers[l]->name));
    return DIDI_OK;
}

static const picked_form *form_of(const bitdelta *self, size_t tensor)
{
    static const picked_form signs = {.expert = STORED_SIGNS};
    static const picked_form whole = {.expert = STORED_DELTA};
    const family_tensor *of = self->head.work->layers[tensor];
    bool any = self->matrices == BITDELTA_ALL || !self->numbered;
    return of->kind == FAMILY_MATRIX && (any || is_numbered(of->name)) ? &signs : &whole;
}

static void add_magnitudes(void *context, const method_panel *panel)
{
    double *sums = context;
    for (size_t t = 0; t < panel->tasks; t++)
        for (uint64_t i = 0; i < panel->count; i++)
            sums[t] += fabs((double)panel->tau[t][i]);
}

/* A number that did not change counts as one that grew, as in the authors' code. */
static void fill(void *context, const method_panel *panel, bool *const *picked)
{
    (void)context;
    for (size_t t = 0; t < panel->tasks; t++)
        for (uint64_t i = 0; i < panel->count; i++)
            picked[t][i] = panel->tau[t][i] >= 0;
}

static int measure_matrix(const work *of, size_t tensor, stored *out, float *ret_scale,
                          didi_error *error)
{
    size_t tasks = of->options.task_count;
    double *sums = memory_zeroed(tasks, sizeof *sums);
    if (sums == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "magnitudes of %zu tasks", tasks);
    int status = stored_look_at_panels(out, add_magnitudes, sums, error);
    for (size_t t = 0; t < tasks; t++)
        ret_scale[t] = (float)(sums[t] / (double)of->layers[tensor]->elements);
    free(sums);
    return status;
}

static int merge_tensor(void *context, size_t tensor, stored *out, didi_error *error)
{
    const bitdelta *self = context;
    work *of = self->head.work;
    const picked_form *form = form_of(self, tensor);
    bool signs = form->expert == STORED_SIGNS;
    float *scale = memory_zeroed(of->options.task_count, sizeof *scale);
    if (scale == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "scales of tasks");
    const picked_user user = {signs ? fill : NULL, NULL, scale};
    int status = signs ? measure_matrix(of, tensor, out, scale, error) : DIDI_OK;
    if (status == DIDI_OK)
        status = picked_store(out, of, tensor, form, &user, error);
    free(scale);
    return status;
}

static bool recall(void *context, size_t tensor)
{
    const bitdelta *self = context;
    work *of = self->head.work;
    return picked_recall(of, tensor, form_of(self, tensor), NULL) == DIDI_OK;
}

static uint64_t memory(const void *context, size_t tensor)
{
    const bitdelta *self = context;
    return picked_memory(self->head.work, tensor);
}

static stored_size size(const void *context, size_t tensor)
{
    const bitdelta *self = context;
    return picked_size(self->head.work, tensor, form_of(self, tensor));
}

static int plan(void *context, didi_error *error)
{
    static const stored_cost cost = {.memory = memory, .size = size, .passes = 2};
    const bitdelta *self = context;
    return stored_plan(self->head.work, &cost, self, error);
}

static const method_stage stages[] = {
    {.name = "signs",
     .told_as = DIDI_STAGE_REFINE,
     .share = 90,
     .each = merge_tensor,
     .recall = recall,
     .memory = memory},
};

const didi_method bitdelta_method = {
    .name = "bitdelta",
    .summary = "for each task the signs of its matrices and a magnitude for each",
    .options = options,
    .self_bytes = sizeof(bitdelta),
    .stages = stages,
    .stage_count = sizeof stages / sizeof *stages,
    .open = open_bitdelta,
    .plan = plan,
};
