/* SPDX-License-Identifier: Apache-2.0 */
/* WUDI-Merging (Cheng et al. 2025): the matrix M that disturbs the tasks least, by steps of Adam on
 * sum_t w_t |(M - tau_t) tau_t'|^2 / |tau_t|^2 from the sum of the task vectors. With the Gram
 * matrices G_t = tau_t' tau_t / |tau_t|^2 the gradient at M = S + D is 2 (R + D A), where
 * R = sum_t w_t (S - tau_t) G_t and A = sum_t w_t G_t: a step is one product of m x n and n x n.
 * Only D moves, so its small steps are not lost in the size of S. */
#include "src/math/math.h"
#include "src/methods/methods.h"
#include "src/methods/whole.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef enum wudi_matrices { WUDI_LAYERS, WUDI_ALL } wudi_matrices;
typedef enum wudi_rest { WUDI_BASE, WUDI_MEAN } wudi_rest;

typedef struct wudi {
    method_head head;
    double rate, relative_rate, scale;
    size_t steps;
    wudi_matrices matrices;
    wudi_rest rest;
} wudi;

static const char *const matrices_words[] = {"layers", "all", NULL};
static const char *const rest_words[] = {"base", "mean", NULL};

static const method_option options[] = {
    {.name = "steps",
     .kind = METHOD_COUNT,
     .offset = offsetof(wudi, steps),
     .standard = 300, /* the authors' */
     .lowest = 0,
     .highest = 100000,
     .help = "steps of Adam"},
    {.name = "rate",
     .kind = METHOD_NUMBER,
     .offset = offsetof(wudi, rate),
     .standard = 1e-5, /* the authors' */
     .lowest = 0,
     .highest = 1,
     .above_lowest = true,
     .help = "how far a number moves in one step, where relative_rate is 0"},
    {.name = "relative_rate",
     .kind = METHOD_NUMBER,
     .offset = offsetof(wudi, relative_rate),
     .standard = 0,
     .lowest = 0,
     .highest = 1,
     .help =
         "the same as a share of the root mean square of the summed task vectors; 0.02 does for "
         "any fine-tunes, 0 uses rate"},
    {.name = "scale",
     .kind = METHOD_NUMBER,
     .offset = offsetof(wudi, scale),
     .standard = 1,
     .lowest = 0,
     .highest = 10,
     .above_lowest = true,
     .help = "factor of the merged matrices"},
    {.name = "matrices",
     .kind = METHOD_WORD,
     .offset = offsetof(wudi, matrices),
     .standard = WUDI_LAYERS,
     .words = matrices_words,
     .help = "layers: weights of attention and MLP, by their names; all: whatever has two axes"},
    {.name = "rest",
     .kind = METHOD_WORD,
     .offset = offsetof(wudi, rest),
     .standard = WUDI_BASE,
     .words = rest_words,
     .help = "what other tensors are: the base's, or the mean of the tasks"},
    {.name = NULL},
};

static bool is_of_a_layer(const char *name)
{
    static const char *const parts[] = {
        "attn",         "ttention",       "mlp", "ffn", "feed_forward", "experts", "intermediate",
        "output.dense", "DenseReluDense", NULL};
    for (size_t i = 0; parts[i] != NULL; i++)
        if (strstr(name, parts[i]) != NULL)
            return true;
    return false;
}

static bool is_moved(const wudi *self, size_t tensor)
{
    const family_tensor *of = self->head.work->layers[tensor];
    return of->base->tensor->dimensions == 2 &&
           (self->matrices == WUDI_ALL || is_of_a_layer(of->name));
}

static int open_wudi(void *context, didi_error *error)
{
    const wudi *self = context;
    for (size_t i = 0; i < self->head.work->layer_count; i++)
        if (is_moved(self, i))
            return DIDI_OK;
    return didi_fail(error, DIDI_INVALID, "/method_options/matrices",
                     "no matrix has the name of an attention or an MLP; take 'all'");
}

typedef struct motion {
    size_t m, n;
    float *sum;            /* m x n: S */
    float *tau;            /* m x n: a task vector, then S - tau_t, then the gradient */
    float *start;          /* m x n: R */
    float *moved;          /* m x n: D */
    float *first, *second; /* m x n: Adam's moments */
    float *gram, *one;     /* n x n: A, G_t */
} motion;

static int motion_create(motion *self, const family_tensor *from, didi_error *error)
{
    size_t size = from->elements;
    size_t square = from->columns * from->columns;
    *self = (motion){.m = from->rows,
                     .n = from->columns,
                     .sum = memory_aligned(size, sizeof(float)),
                     .tau = memory_aligned(size, sizeof(float)),
                     .start = memory_zeroed(size, sizeof(float)),
                     .moved = memory_zeroed(size, sizeof(float)),
                     .first = memory_zeroed(size, sizeof(float)),
                     .second = memory_zeroed(size, sizeof(float)),
                     .gram = memory_zeroed(square, sizeof(float)),
                     .one = memory_aligned(square, sizeof(float))};
    return self->sum != NULL && self->tau != NULL && self->start != NULL && self->moved != NULL &&
                   self->first != NULL && self->second != NULL && self->gram != NULL &&
                   self->one != NULL
               ? DIDI_OK
               : didi_fail(error, DIDI_NO_MEMORY, NULL, "steps of a %zu x %zu matrix", self->m,
                           self->n);
}

static void motion_clear(motion *self)
{
    free(self->sum);
    free(self->tau);
    free(self->start);
    free(self->moved);
    free(self->first);
    free(self->second);
    free(self->gram);
    free(self->one);
}

/* A task's part of A and R. One that does not differ here has none. */
static int add_task(motion *self, work *of, size_t tensor, size_t task, didi_error *error)
{
    size_t size = self->m * self->n;
    size_t square = self->n * self->n;
    int status = whole_read(of, tensor, task, self->tau, error);
    if (status != DIDI_OK)
        return status;
    double energy = linalg_energy(self->tau, size);
    if (!(energy > 0))
        return DIDI_OK;
    linalg_gemm(true, false, self->n, self->n, self->m, (float)(of->task_weight[task] / energy),
                self->tau, self->n, self->tau, self->n, 0.0F, self->one, self->n);
    for (size_t i = 0; i < square; i++)
        self->gram[i] += self->one[i];
    for (size_t i = 0; i < size; i++)
        self->tau[i] = self->sum[i] - self->tau[i];
    linalg_gemm(false, false, self->m, self->n, self->n, 1.0F, self->tau, self->n, self->one,
                self->n, 1.0F, self->start, self->n);
    return DIDI_OK;
}

/* One step of Adam (Kingma and Ba 2015: 0.9, 0.999, 1e-8), with its correction of the moments. */
typedef struct adam_step {
    double rate;
    float correct_first, correct_root; /* 1 - 0.9^k, sqrt(1 - 0.999^k) */
} adam_step;

VECTOR_CLONES
static void move(size_t count, const float *gradient, float *first, float *second, float *moved,
                 const adam_step *by)
{
    float rate = (float)(by->rate / (double)by->correct_first);
    float root = 1 / by->correct_root;
    for (size_t i = 0; i < count; i++) {
        float g = 2 * gradient[i];
        first[i] = 0.9F * first[i] + 0.1F * g;
        second[i] = 0.999F * second[i] + 0.001F * g * g;
        moved[i] -= rate * first[i] / (sqrtf(second[i]) * root + 1e-8F);
    }
}

static int descend(motion *self, const wudi *of, didi_error *error)
{
    size_t size = self->m * self->n;
    double rms = sqrt(linalg_energy(self->sum, size) / (double)size);
    double rate = of->relative_rate > 0 ? of->relative_rate * rms : of->rate;
    for (size_t k = 1; k <= of->steps; k++) {
        if (atomic_load(&of->head.work->cancelled))
            return didi_fail(error, DIDI_CANCELLED, NULL, "cancelled");
        memcpy(self->tau, self->start, size * sizeof *self->tau);
        linalg_gemm(false, false, self->m, self->n, self->n, 1.0F, self->moved, self->n, self->gram,
                    self->n, 1.0F, self->tau, self->n);
        adam_step by = {rate, (float)(1 - pow(0.9, (double)k)),
                        (float)sqrt(1 - pow(0.999, (double)k))};
        move(size, self->tau, self->first, self->second, self->moved, &by);
    }
    for (size_t i = 0; i < size; i++)
        self->sum[i] += self->moved[i];
    return DIDI_OK;
}

static int move_tensor(const wudi *self, size_t tensor, stored *out, didi_error *error)
{
    work *of = self->head.work;
    motion made;
    int status = motion_create(&made, of->layers[tensor], error);
    if (status == DIDI_OK)
        status = whole_sum(out, of, made.sum, error);
    for (size_t t = 0; t < of->options.task_count && status == DIDI_OK; t++)
        status = add_task(&made, of, tensor, t, error);
    if (status == DIDI_OK)
        status = descend(&made, self, error);
    whole_result result = {.values = made.sum, .scale = self->scale};
    if (status == DIDI_OK)
        status = whole_store(out, of, tensor, &result, error);
    motion_clear(&made);
    return status;
}

static void leave_base(void *context, const method_panel *panel)
{
    (void)context;
    (void)panel; /* zero before */
}

static int merge_tensor(void *context, size_t tensor, stored *out, didi_error *error)
{
    const wudi *self = context;
    if (is_moved(self, tensor))
        return move_tensor(self, tensor, out, error);
    return self->rest == WUDI_MEAN ? stored_mean_panels(out, error)
                                   : stored_shared_panels(out, leave_base, NULL, error);
}

static uint64_t memory(const void *context, size_t tensor)
{
    const wudi *self = context;
    const work *of = self->head.work;
    const family_tensor *from = of->layers[tensor];
    uint64_t panels = stored_panels_memory(of, tensor);
    if (!is_moved(self, tensor))
        return panels;
    uint64_t square = memory_multiply(memory_multiply(from->columns, from->columns), sizeof(float));
    uint64_t held =
        memory_add(memory_multiply(whole_bytes(of, tensor), 6), memory_multiply(square, 2));
    return memory_add(held, panels);
}

static double flops(const void *context, size_t tensor)
{
    const wudi *self = context;
    const family_tensor *from = self->head.work->layers[tensor];
    double tasks = (double)self->head.work->options.task_count;
    double product = 2 * (double)from->elements * (double)from->columns;
    return is_moved(self, tensor) ? product * (2 * tasks + (double)self->steps)
                                  : 2 * tasks * (double)from->elements;
}

static int plan(void *context, didi_error *error)
{
    static const stored_cost cost = {.memory = memory, .flops = flops, .passes = 3};
    const wudi *self = context;
    return stored_plan(self->head.work, &cost, self, error);
}

static const method_stage stages[] = {
    {.name = "wudi",
     .told_as = DIDI_STAGE_REFINE,
     .share = 90,
     .each = merge_tensor,
     .memory = memory},
};

const didi_method wudi_method = {
    .name = "wudi",
    .summary =
        "the sum of the task vectors, moved until it disturbs each task least: one model for "
        "all tasks",
    .options = options,
    .flags = METHOD_ONE_MODEL,
    .self_bytes = sizeof(wudi),
    .stages = stages,
    .stage_count = sizeof stages / sizeof *stages,
    .open = open_wudi,
    .plan = plan,
};
