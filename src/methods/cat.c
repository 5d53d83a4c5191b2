/* SPDX-License-Identifier: Apache-2.0 */
/* CAT Merging (Sun et al. 2025): from each task vector of a linear layer the few directions of its
 * outputs are cut out that disturb the other tasks most and the task itself least, and what is left
 * is added up. With the Gram matrices G_i = X_i' X_i of the inputs of task i these directions are
 * the leading eigenvectors of
 *     tau_j A_j tau_j',  A_j = sum_{i != j} (G_i - lambda G_j).
 * From the scales of norms and from biases those numbers can be taken that disturb a task most (off
 * unless asked for): of all other tasks' vectors the `scale_entries` with the largest
 *     sum_{j != i} tau_j^2 (g_i - lambda g_j),
 * g being the squares of what the scale multiplies, added up; of biases likewise without g.
 * Where the layer has more outputs than inputs, m > n, those of the same matrix in the space of
 * inputs do: with tau_j' tau_j = L L' and y of L' A_j L, tau_j A_j L y is one of them. Everything
 * in double: what is small is a difference of what is large. */
#include "src/math/math.h"
#include "src/methods/methods.h"
#include "src/methods/whole.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A direction whose eigenvalue is a smaller share of the largest is in nobody's way. */
#define NOISE 1e-12

typedef enum cat_grams { CAT_GIVEN, CAT_TRACE } cat_grams;
typedef enum cat_bias { CAT_OTHERS, CAT_OWN } cat_bias;

typedef struct cat {
    method_head head;
    double lambda, scale, scale_lambda;
    size_t directions, scale_entries, bias_entries;
    cat_grams grams;
    cat_bias bias_by;
    bool keep_length;
} cat;

static const char *const grams_words[] = {"given", "trace", NULL};
static const char *const bias_words[] = {"others", "own", NULL};

static const method_option options[] = {
    {.name = "directions",
     .kind = METHOD_COUNT,
     .offset = offsetof(cat, directions),
     .standard = 3,
     .lowest = 0,
     .highest = 65536,
     .help = "directions that are cut out of each task vector of a layer"},
    {.name = "lambda",
     .kind = METHOD_NUMBER,
     .offset = offsetof(cat, lambda),
     .standard = 1,
     .lowest = 0,
     .highest = 1e6,
     .help = "how much what a task loses counts against what the others gain"},
    {.name = "scale",
     .kind = METHOD_NUMBER,
     .offset = offsetof(cat, scale),
     .standard = 0.2, /* ours: the authors' is not known */
     .lowest = 0,
     .highest = 10,
     .above_lowest = true,
     .help = "factor of the sum of the task vectors"},
    {.name = "grams",
     .kind = METHOD_WORD,
     .offset = offsetof(cat, grams),
     .standard = CAT_GIVEN,
     .words = grams_words,
     .help = "given: sums over as many inputs of each task; trace: each Gram matrix is divided by "
             "its trace first, so that numbers of inputs do not matter"},
    {.name = "keep_length",
     .kind = METHOD_FLAG,
     .offset = offsetof(cat, keep_length),
     .standard = 0,
     .help = "bring what is left of a task vector to the length it had, but of a bias"},
    {.name = "scale_entries",
     .kind = METHOD_COUNT,
     .offset = offsetof(cat, scale_entries),
     .standard = 0,
     .lowest = 0,
     .highest = 65536,
     .help = "numbers of a norm's scale that are taken from all other tasks, for each task"},
    {.name = "scale_lambda",
     .kind = METHOD_NUMBER,
     .offset = offsetof(cat, scale_lambda),
     .standard = 10,
     .lowest = 0,
     .highest = 1e6,
     .help = "lambda of these numbers"},
    {.name = "bias_entries",
     .kind = METHOD_COUNT,
     .offset = offsetof(cat, bias_entries),
     .standard = 0,
     .lowest = 0,
     .highest = 65536,
     .help = "numbers of a bias that are taken from all other tasks, for each task"},
    {.name = "bias_by",
     .kind = METHOD_WORD,
     .offset = offsetof(cat, bias_by),
     .standard = CAT_OTHERS,
     .words = bias_words,
     .help = "others: those that the other tasks changed most; own: that the task itself did"},
    {.name = NULL},
};

/* The weight of a map whose inputs have a Gram matrix: no table that is looked up. */
static bool is_linear(const family_tensor *of)
{
    static const char *const weights[] = {"*weight"};
    return of->base->tensor->dimensions == 2 && !work_is_embedding(of->name) &&
           family_name_matches(of->name, weights, sizeof weights / sizeof *weights);
}

/* Of a tensor with one axis, the scale of a norm or a bias: how many numbers each task takes from
 * the others. */
static size_t entries_of(const cat *self, const family_tensor *of, bool *ret_scale)
{
    static const char *const weights[] = {"*weight"};
    *ret_scale = family_name_matches(of->name, weights, sizeof weights / sizeof *weights);
    if (of->base->tensor->dimensions != 1)
        return 0;
    return (size_t)smaller(*ret_scale ? self->scale_entries : self->bias_entries, of->columns);
}

static bool needs_gram(const cat *self, const family_tensor *of)
{
    bool scale = false;
    return is_linear(of) || (entries_of(self, of, &scale) > 0 && scale);
}

static int open_cat(void *context, didi_error *error)
{
    const cat *self = context;
    const work *of = self->head.work;
    bool any = false;
    for (size_t i = 0; i < of->layer_count; i++) {
        bool changed = family_changed(of->family, of->layers[i]);
        bool needed = changed && needs_gram(self, of->layers[i]);
        for (size_t t = 0; t < of->options.task_count && needed; t++) {
            int status = family_check_gram(of->family, of->layers[i], t, error);
            if (status != DIDI_OK)
                return status;
        }
        any = any || (changed && is_linear(of->layers[i]));
    }
    return any ? DIDI_OK
               : didi_fail(error, DIDI_INVALID, "/method",
                           "no tensor is the weight of a linear layer: there is nothing to cut");
}

typedef struct cutting {
    size_t m, n, side, count; /* side: the shorter of m and n; count: directions, at most */
    double *sum;              /* n x n: of all tasks' Gram matrices */
    double *one;              /* n x n: one of them, then A_j */
    double *tau, *merged;     /* m x n */
    double *spare;            /* m x n, where m <= n */
    double *inner, *root;     /* side x side; `root`, where m > n: L' */
    double *values;           /* side */
    double *cut;              /* count x m: the directions */
    double *near, *far;       /* count x n */
    float *narrow;            /* m x n */
} cutting;

static int cutting_create(cutting *self, const family_tensor *from, size_t directions,
                          didi_error *error)
{
    size_t m = from->rows;
    size_t n = from->columns;
    size_t side = (size_t)smaller(m, n);
    size_t count = (size_t)smaller(directions, m);
    size_t real = sizeof(double);
    *self = (cutting){.m = m,
                      .n = n,
                      .side = side,
                      .count = count,
                      .sum = memory_zeroed(n * n, real),
                      .one = memory_aligned(n * n, real),
                      .tau = memory_aligned(m * n, real),
                      .merged = memory_zeroed(m * n, real),
                      .spare = m <= n ? memory_aligned(m * n, real) : NULL,
                      .inner = memory_aligned(side * side, real),
                      .root = m > n ? memory_aligned(n * n, real) : NULL,
                      .values = memory_zeroed(side, real),
                      .cut = memory_aligned(count * m + 1, real),
                      .near = memory_aligned(count * n + 1, real),
                      .far = memory_aligned(count * n + 1, real),
                      .narrow = memory_aligned(m * n, sizeof(float))};
    return self->sum != NULL && self->one != NULL && self->tau != NULL && self->merged != NULL &&
                   (m <= n ? self->spare : self->root) != NULL && self->inner != NULL &&
                   self->values != NULL && self->cut != NULL && self->near != NULL &&
                   self->far != NULL && self->narrow != NULL
               ? DIDI_OK
               : didi_fail(error, DIDI_NO_MEMORY, NULL, "directions of a %zu x %zu matrix", m, n);
}

static void cutting_clear(cutting *self)
{
    free(self->sum);
    free(self->one);
    free(self->tau);
    free(self->merged);
    free(self->spare);
    free(self->inner);
    free(self->root);
    free(self->values);
    free(self->cut);
    free(self->near);
    free(self->far);
    free(self->narrow);
}

/* ---- Gram matrices ---- */

static double trace_of(size_t n, const double *gram)
{
    double trace = 0;
    for (size_t i = 0; i < n; i++)
        trace += gram[i * n + i];
    return trace;
}

static int read_gram(const cutting *self, const cat *by, size_t tensor, size_t task,
                     didi_error *error)
{
    work *of = by->head.work;
    int status =
        family_read_gram(of->family, of->layers[tensor], task, self->one, &of->bytes_read, error);
    double trace = status == DIDI_OK ? trace_of(self->n, self->one) : 0;
    if (by->grams != CAT_TRACE || !(trace > 0))
        return status;
    for (size_t i = 0; i < self->n * self->n; i++)
        self->one[i] /= trace;
    return DIDI_OK;
}

static int add_grams(const cutting *self, const cat *by, size_t tensor, didi_error *error)
{
    int status = DIDI_OK;
    for (size_t t = 0; t < by->head.work->options.task_count && status == DIDI_OK; t++) {
        status = read_gram(self, by, tensor, t, error);
        for (size_t i = 0; i < self->n * self->n && status == DIDI_OK; i++)
            self->sum[i] += self->one[i];
    }
    return status;
}

/* A_j in the place of G_j. A factor of all of it changes no direction: it keeps numbers near 1. */
static int weigh_gram(const cutting *self, const cat *by, size_t tensor, size_t task,
                      didi_error *error)
{
    double trace = trace_of(self->n, self->sum);
    double factor = trace > 0 ? (double)self->n / trace : 0;
    double own = 1 + by->lambda * (double)(by->head.work->options.task_count - 1);
    int status = read_gram(self, by, tensor, task, error);
    for (size_t i = 0; i < self->n * self->n && status == DIDI_OK; i++)
        self->one[i] = factor * self->sum[i] - own * (factor * self->one[i]);
    return status;
}

/* ---- directions ---- */

/* Eigenvectors of tau A tau' as rows of `inner`. */
static int decompose_outputs(const cutting *self, didi_error *error)
{
    linalg_gemm_double(false, false, self->m, self->n, self->n, 1, self->tau, self->one, 0,
                       self->spare);
    linalg_gemm_double(false, true, self->m, self->m, self->n, 1, self->spare, self->tau, 0,
                       self->inner);
    return linalg_eigen_symmetric(self->m, self->inner, self->values, error);
}

/* `root` becomes L' of tau' tau = L L', and `inner` the eigenvectors y of L' A L. */
static int decompose_inputs(const cutting *self, didi_error *error)
{
    size_t n = self->n;
    linalg_gemm_double(true, false, n, n, self->m, 1, self->tau, self->tau, 0, self->root);
    int status = linalg_eigen_symmetric(n, self->root, self->values, error);
    if (status != DIDI_OK)
        return status;
    for (size_t i = 0; i < n; i++) {
        double length = self->values[i] > 0 ? sqrt(self->values[i]) : 0;
        for (size_t j = 0; j < n; j++)
            self->root[i * n + j] *= length;
    }
    double *half = memory_aligned(n * n, sizeof *half);
    if (half == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "inputs of order %zu", n);
    linalg_gemm_double(false, false, n, n, n, 1, self->root, self->one, 0, half);
    linalg_gemm_double(false, true, n, n, n, 1, half, self->root, 0, self->inner);
    free(half);
    return linalg_eigen_symmetric(n, self->inner, self->values, error);
}

/* Which eigenvectors are among the first `count` of the m there are: behind the positive ones come
 * those of 0, m - side of which were not computed. */
static size_t choose_directions(const cutting *self, double *to)
{
    size_t hidden = self->m - self->side;
    double largest = fmax(fabs(self->values[0]), fabs(self->values[self->side - 1]));
    size_t chosen = 0;
    for (size_t i = 0; i < self->side; i++) {
        double value = self->values[i];
        if (fabs(value) <= NOISE * largest || i + (value < 0 ? hidden : 0) >= self->count)
            continue;
        memcpy(to + chosen * self->side, self->inner + i * self->side, self->side * sizeof *to);
        chosen++;
    }
    return chosen;
}

static double energy_of(size_t count, const double *x)
{
    double energy = 0;
    for (size_t i = 0; i < count; i++)
        energy += x[i] * x[i];
    return energy;
}

/* Leaves the directions as rows of `cut`, of length one. */
static int find_directions(const cutting *self, size_t *ret_count, didi_error *error)
{
    bool tall = self->m > self->n;
    int status = tall ? decompose_inputs(self, error) : decompose_outputs(self, error);
    if (status != DIDI_OK)
        return status;
    size_t count = choose_directions(self, tall ? self->near : self->cut);
    *ret_count = count;
    if (!tall)
        return DIDI_OK;
    linalg_gemm_double(false, false, count, self->n, self->n, 1, self->near, self->root, 0,
                       self->far);
    linalg_gemm_double(false, false, count, self->n, self->n, 1, self->far, self->one, 0,
                       self->near);
    linalg_gemm_double(false, true, count, self->m, self->n, 1, self->near, self->tau, 0,
                       self->cut);
    for (size_t i = 0; i < count; i++) {
        double *row = self->cut + i * self->m;
        double length = sqrt(energy_of(self->m, row));
        for (size_t j = 0; j < self->m && length > 0; j++)
            row[j] /= length;
    }
    return DIDI_OK;
}

/* tau_j less its part in these directions, times the task's weight, joins the others. */
static int cut_task(const cutting *self, const cat *by, size_t tensor, size_t task,
                    didi_error *error)
{
    size_t size = self->m * self->n;
    size_t count = 0;
    int status = whole_read(by->head.work, tensor, task, self->narrow, error);
    if (status != DIDI_OK)
        return status;
    for (size_t i = 0; i < size; i++)
        self->tau[i] = (double)self->narrow[i];
    double before = energy_of(size, self->tau);
    if (before == 0)
        return DIDI_OK;
    status = weigh_gram(self, by, tensor, task, error);
    if (status == DIDI_OK && self->count > 0)
        status = find_directions(self, &count, error);
    if (status != DIDI_OK)
        return status;
    linalg_gemm_double(false, false, count, self->n, self->m, 1, self->cut, self->tau, 0,
                       self->near);
    if (count > 0)
        linalg_gemm_double(true, false, self->m, self->n, count, -1, self->cut, self->near, 1,
                           self->tau);
    double left = energy_of(size, self->tau);
    double factor = by->head.work->task_weight[task];
    if (by->keep_length && left > NOISE * before)
        factor *= sqrt(before / left);
    for (size_t i = 0; i < size; i++)
        self->merged[i] += factor * self->tau[i];
    return DIDI_OK;
}

/* ---- scales of norms, and biases ---- */

typedef struct ranked {
    double value;
    size_t at;
} ranked;

typedef struct masking {
    size_t n, tasks, count; /* count: what each task takes from the others */
    bool scale;
    float *tau;          /* tasks x n */
    double *squares;     /* tasks x n; of a bias NULL */
    ranked *conflict;    /* n */
    unsigned char *mask; /* tasks x n: 1 is taken */
    double *sum;         /* n */
    float *merged;       /* n */
} masking;

static int masking_create(masking *self, const cat *by, const family_tensor *from,
                          didi_error *error)
{
    size_t tasks = by->head.work->options.task_count;
    size_t n = (size_t)from->columns;
    *self = (masking){.n = n,
                      .tasks = tasks,
                      .tau = memory_aligned(tasks * n, sizeof(float)),
                      .conflict = memory_zeroed(n, sizeof(ranked)),
                      .mask = memory_zeroed(tasks, n),
                      .sum = memory_zeroed(n, sizeof(double)),
                      .merged = memory_aligned(n, sizeof(float))};
    self->count = entries_of(by, from, &self->scale);
    if (self->scale)
        self->squares = memory_aligned(tasks * n, sizeof(double));
    return self->tau != NULL && self->conflict != NULL && self->mask != NULL && self->sum != NULL &&
                   self->merged != NULL && (!self->scale || self->squares != NULL)
               ? DIDI_OK
               : didi_fail(error, DIDI_NO_MEMORY, NULL, "%zu numbers of %zu tasks", n, tasks);
}

static void masking_clear(masking *self)
{
    free(self->tau);
    free(self->squares);
    free(self->conflict);
    free(self->mask);
    free(self->sum);
    free(self->merged);
}

static int read_squares(const masking *self, const cat *by, size_t tensor, size_t task,
                        didi_error *error)
{
    work *of = by->head.work;
    double *squares = self->squares + task * self->n;
    double sum = 0;
    int status =
        family_read_gram(of->family, of->layers[tensor], task, squares, &of->bytes_read, error);
    if (status != DIDI_OK || by->grams != CAT_TRACE)
        return status;
    for (size_t k = 0; k < self->n; k++)
        sum += squares[k];
    for (size_t k = 0; k < self->n && sum > 0; k++)
        squares[k] /= sum;
    return DIDI_OK;
}

static int masking_read(const masking *self, const cat *by, size_t tensor, didi_error *error)
{
    int status = DIDI_OK;
    for (size_t t = 0; t < self->tasks && status == DIDI_OK; t++) {
        status = whole_read(by->head.work, tensor, t, self->tau + t * self->n, error);
        if (status == DIDI_OK && self->scale)
            status = read_squares(self, by, tensor, t, error);
    }
    return status;
}

/* How much number k of the other tasks' vectors disturbs this one. */
static double conflict_at(const masking *self, const cat *by, size_t task, size_t k)
{
    double sum = 0;
    for (size_t t = 0; t < self->tasks; t++) {
        size_t at = t * self->n + k;
        double change = (double)self->tau[at];
        double weight =
            self->scale ? self->squares[task * self->n + k] - by->scale_lambda * self->squares[at]
                        : 1;
        bool counts = !self->scale && by->bias_by == CAT_OWN ? t == task : t != task;
        sum += counts ? change * change * weight : 0;
    }
    return sum;
}

/* The largest first; of equal ones the first. */
static int compare_ranked(const void *left, const void *right)
{
    const ranked *a = left;
    const ranked *b = right;
    if (a->value != b->value)
        return a->value > b->value ? -1 : 1;
    return (a->at > b->at) - (a->at < b->at);
}

static void take_from_others(const masking *self, const cat *by, size_t task)
{
    for (size_t k = 0; k < self->n; k++)
        self->conflict[k] = (ranked){conflict_at(self, by, task, k), k};
    qsort(self->conflict, self->n, sizeof *self->conflict, compare_ranked);
    for (size_t c = 0; c < self->count; c++)
        for (size_t t = 0; t < self->tasks; t++)
            if (t != task)
                self->mask[t * self->n + self->conflict[c].at] = 1;
}

/* Masks are made of the vectors as they were. */
static void masking_merge(const masking *self, const cat *by)
{
    for (size_t t = 0; t < self->tasks; t++)
        take_from_others(self, by, t);
    for (size_t t = 0; t < self->tasks; t++) {
        const float *tau = self->tau + t * self->n;
        const unsigned char *taken = self->mask + t * self->n;
        double before = 0;
        double left = 0;
        for (size_t k = 0; k < self->n; k++) {
            double energy = (double)tau[k] * (double)tau[k];
            before += energy;
            left += taken[k] ? 0 : energy;
        }
        double factor = by->head.work->task_weight[t];
        if (self->scale && by->keep_length && left > NOISE * before)
            factor *= sqrt(before / left);
        for (size_t k = 0; k < self->n; k++)
            self->sum[k] += taken[k] ? 0 : factor * (double)tau[k];
    }
    for (size_t k = 0; k < self->n; k++)
        self->merged[k] = (float)self->sum[k];
}

static int mask_tensor(const cat *self, size_t tensor, stored *out, didi_error *error)
{
    work *of = self->head.work;
    masking made;
    int status = masking_create(&made, self, of->layers[tensor], error);
    if (status == DIDI_OK)
        status = masking_read(&made, self, tensor, error);
    if (status == DIDI_OK) {
        masking_merge(&made, self);
        whole_result result = {.values = made.merged, .scale = self->scale};
        status = whole_store(out, of, tensor, &result, error);
    }
    masking_clear(&made);
    return status;
}

static uint64_t masking_memory(const cat *self, const family_tensor *from)
{
    uint64_t of_task = sizeof(float) + sizeof(double) + sizeof(unsigned char);
    uint64_t of_all = sizeof(ranked) + sizeof(double) + sizeof(float);
    uint64_t tasks = self->head.work->options.task_count;
    return memory_multiply(from->columns, memory_add(memory_multiply(tasks, of_task), of_all));
}

/* ---- the method ---- */

static int cut_tensor(const cat *self, size_t tensor, stored *out, didi_error *error)
{
    work *of = self->head.work;
    cutting made;
    int status = cutting_create(&made, of->layers[tensor], self->directions, error);
    if (status == DIDI_OK)
        status = add_grams(&made, self, tensor, error);
    for (size_t t = 0; t < of->options.task_count && status == DIDI_OK; t++)
        status = cut_task(&made, self, tensor, t, error);
    for (size_t i = 0; i < made.m * made.n && status == DIDI_OK; i++)
        made.narrow[i] = (float)made.merged[i];
    whole_result result = {.values = made.narrow, .scale = self->scale};
    if (status == DIDI_OK)
        status = whole_store(out, of, tensor, &result, error);
    cutting_clear(&made);
    return status;
}

static void add_up(void *context, const method_panel *panel)
{
    const cat *self = context;
    for (uint64_t i = 0; i < panel->count; i++) {
        double sum = 0;
        for (size_t t = 0; t < panel->tasks; t++)
            sum += self->head.work->task_weight[t] * (double)panel->tau[t][i];
        panel->shared[i] = (float)(self->scale * sum);
    }
}

static int merge_tensor(void *context, size_t tensor, stored *out, didi_error *error)
{
    const cat *self = context;
    const family_tensor *from = self->head.work->layers[tensor];
    bool scale = false;
    if (is_linear(from))
        return cut_tensor(self, tensor, out, error);
    return entries_of(self, from, &scale) > 0 ? mask_tensor(self, tensor, out, error)
                                              : stored_shared_panels(out, add_up, context, error);
}

/* In doubles: two Gram matrices, three of the tensor, the eigensolver's squares, the directions; in
 * floats one task vector. */
static uint64_t memory(const void *context, size_t tensor)
{
    enum { SQUARES = 6 };
    const cat *self = context;
    const work *of = self->head.work;
    const family_tensor *from = of->layers[tensor];
    uint64_t panels = stored_panels_memory(of, tensor);
    bool scale = false;
    if (!is_linear(from))
        return entries_of(self, from, &scale) > 0 ? memory_add(panels, masking_memory(self, from))
                                                  : panels;
    uint64_t side = smaller(from->rows, from->columns);
    uint64_t doubles = memory_multiply(memory_multiply(from->columns, from->columns), 2);
    doubles =
        memory_add(doubles, memory_multiply(from->elements, from->rows <= from->columns ? 3 : 2));
    doubles = memory_add(doubles, memory_multiply(memory_multiply(side, side), SQUARES));
    doubles = memory_add(doubles, memory_multiply(smaller(self->directions, from->rows),
                                                  memory_add(from->rows, 2 * from->columns)));
    return memory_add(memory_add(memory_multiply(doubles, sizeof(double)), whole_bytes(of, tensor)),
                      panels);
}

static double flops(const void *context, size_t tensor)
{
    const cat *self = context;
    const work *of = self->head.work;
    const family_tensor *from = of->layers[tensor];
    double tasks = (double)of->options.task_count;
    double m = (double)from->rows;
    double n = (double)from->columns;
    if (!is_linear(from))
        return 2 * tasks * m * n;
    return tasks * (m <= n ? 2 * m * n * n + 2 * m * m * n + 9 * m * m * m
                           : 2 * m * n * n + 22 * n * n * n);
}

static int plan(void *context, didi_error *error)
{
    static const stored_cost cost = {.memory = memory, .flops = flops, .passes = 2};
    const cat *self = context;
    return stored_plan(self->head.work, &cost, self, error);
}

static const method_stage stages[] = {
    {.name = "cat",
     .told_as = DIDI_STAGE_REFINE,
     .share = 90,
     .each = merge_tensor,
     .memory = memory},
};

const didi_method cat_method = {
    .name = "cat",
    .summary = "the sum of the task vectors without the directions in which each disturbs the "
               "others, found by the Gram matrices that a user gives: one model for all tasks",
    .options = options,
    .flags = METHOD_ONE_MODEL | METHOD_TAKES_GRAMS,
    .self_bytes = sizeof(cat),
    .stages = stages,
    .stage_count = sizeof stages / sizeof *stages,
    .open = open_cat,
    .plan = plan,
};
