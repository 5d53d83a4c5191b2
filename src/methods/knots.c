/* SPDX-License-Identifier: Apache-2.0 */
/* KnOTS (Stoica et al. 2024): the task vectors of a matrix side by side are U S [V_1' .. V_T'], so
 * that S V_t' are coordinates of task t in directions that all tasks share. These are merged by the
 * rule of TIES instead of the weights themselves, and U brings them back. What is no matrix is
 * merged as it is, under the same thresholds. One model for all tasks. */
#include "src/math/math.h"
#include "src/methods/election.h"
#include "src/methods/methods.h"
#include "src/methods/whole.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Directions whose singular value is a smaller share of the largest are rounding. */
#define NOISE 1e-6

typedef struct knots {
    method_head head;
    election election;
    size_t *rank; /* of each tensor: directions of a matrix, 0 of what is none */
} knots;

static const method_option options[] = {
    ELECTION_OPTIONS(knots, election, 0.6), /* the authors' for ViT-B/32 */
    {.name = NULL},
};

static int open_knots(void *context, didi_error *error)
{
    knots *self = context;
    const work *of = self->head.work;
    self->rank = memory_zeroed(of->layer_count, sizeof *self->rank);
    if (self->rank == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "ranks of %zu tensors", of->layer_count);
    return election_open(&self->election, of, 0, error); /* how many numbers is not known yet */
}

static int begin(void *context, didi_error *error)
{
    (void)error;
    knots *self = context;
    election_recall(&self->election, self->head.work);
    return DIDI_OK;
}

static void close_knots(void *context)
{
    knots *self = context;
    election_close(&self->election);
    free(self->rank);
}

/* ---- directions ---- */

/* sum_t tau_t tau_t' (m x m), in double. `room` holds as much, `tau` a task vector. */
static int add_grams(const knots *self, size_t tensor, double *gram, double *room, float *tau,
                     didi_error *error)
{
    work *of = self->head.work;
    size_t m = of->layers[tensor]->rows;
    size_t n = of->layers[tensor]->columns;
    int status = DIDI_OK;
    for (size_t t = 0; t < of->options.task_count && status == DIDI_OK; t++) {
        status = whole_read(of, tensor, t, tau, error);
        if (status == DIDI_OK)
            status = linalg_gram_rows_double(m, n, tau, n, room, error);
        for (size_t i = 0; i < m * m && status == DIDI_OK; i++)
            gram[i] += room[i];
    }
    return status;
}

/* Leaves U as rows (rank x m). */
static int align_tensor(void *context, size_t tensor, stored *out, didi_error *error)
{
    knots *self = context;
    const family_tensor *from = self->head.work->layers[tensor];
    size_t m = from->rows;
    if (!whole_is_matrix(from))
        return DIDI_OK;
    double *gram = memory_zeroed(m * m, sizeof *gram);
    double *room = memory_zeroed(m * m, sizeof *room);
    double *values = memory_zeroed(m, sizeof *values);
    float *tau = memory_aligned(from->elements, sizeof *tau);
    float *basis = memory_aligned(m * m, sizeof *basis);
    int status = gram != NULL && room != NULL && values != NULL && tau != NULL && basis != NULL
                     ? add_grams(self, tensor, gram, room, tau, error)
                     : didi_fail(error, DIDI_NO_MEMORY, NULL, "directions of %zu rows", m);
    if (status == DIDI_OK)
        status = linalg_eigen_symmetric(m, gram, values, error);
    if (status == DIDI_OK) {
        size_t rank = 0;
        while (rank < m && values[rank] > NOISE * NOISE * values[0] && values[rank] > 0)
            rank++;
        for (size_t i = 0; i < rank * m; i++)
            basis[i] = (float)gram[i];
        self->rank[tensor] = rank;
        stored_keep(out, KEPT_LEFT, 0, rank, m, basis);
        status = stored_save(out, error);
    }
    free(gram);
    free(room);
    free(values);
    free(tau);
    free(basis);
    return status;
}

/* The snapshot, and where U is in it. Lives as long as that. */
static int open_basis(const knots *self, size_t tensor, snapshot **ret_from, size_t *ret_rank,
                      const float **ret_basis, didi_error *error)
{
    const work *of = self->head.work;
    char name[64];
    uint64_t rank = 0;
    const void *data = NULL;
    snapshot *from = NULL;
    work_snapshot_name("align", tensor, name);
    int status = snapshot_open(of->options.work_fd, name, &from, error);
    if (status == DIDI_OK)
        status = kept_find(from, KEPT_LEFT, 0, of->layers[tensor]->rows, &rank, &data, error);
    if (status != DIDI_OK) {
        snapshot_close(from);
        return status;
    }
    *ret_from = from;
    *ret_rank = (size_t)rank;
    *ret_basis = data;
    return DIDI_OK;
}

static bool recall_aligned(void *context, size_t tensor)
{
    knots *self = context;
    snapshot *from = NULL;
    const float *basis = NULL;
    if (!whole_is_matrix(self->head.work->layers[tensor]))
        return true;
    if (open_basis(self, tensor, &from, &self->rank[tensor], &basis, NULL) != DIDI_OK)
        return false;
    snapshot_close(from);
    return true;
}

/* Unchanged tensors have no directions: they are not seen, and their numbers are none. */
static int gather(void *context, didi_error *error)
{
    (void)error;
    knots *self = context;
    const work *of = self->head.work;
    uint64_t numbers = 0;
    for (size_t i = 0; i < of->layer_count; i++)
        numbers = memory_add(numbers, whole_is_matrix(of->layers[i])
                                          ? self->rank[i] * of->layers[i]->columns
                                          : of->layers[i]->elements);
    election_expect(&self->election, numbers);
    return DIDI_OK;
}

/* ---- coordinates ---- */

typedef struct coordinates {
    const knots *self;
    size_t tasks, m, n, rank;
    snapshot *from;
    const float *basis; /* U, rank x m */
    float *matrix;      /* m x n */
    float **of;         /* T: rank x n */
} coordinates;

static void coordinates_clear(coordinates *self)
{
    for (size_t t = 0; self->of != NULL && t < self->tasks; t++)
        free(self->of[t]);
    free(self->of);
    free(self->matrix);
    snapshot_close(self->from);
}

/* U tau_t of every task. The caller clears it, whatever comes back. */
static int coordinates_read(coordinates *self, const knots *of, size_t tensor, didi_error *error)
{
    const family_tensor *from = of->head.work->layers[tensor];
    *self = (coordinates){.self = of,
                          .tasks = of->head.work->options.task_count,
                          .m = from->rows,
                          .n = from->columns,
                          .matrix = memory_aligned(from->elements, sizeof(float))};
    int status = open_basis(of, tensor, &self->from, &self->rank, &self->basis, error);
    self->of = memory_zeroed(self->tasks, sizeof *self->of);
    if (status == DIDI_OK && (self->of == NULL || self->matrix == NULL))
        status = didi_fail(error, DIDI_NO_MEMORY, NULL, "coordinates of %zu tasks", self->tasks);
    for (size_t t = 0; t < self->tasks && status == DIDI_OK; t++) {
        self->of[t] = memory_aligned(self->rank * self->n, sizeof(float));
        status = self->of[t] != NULL
                     ? whole_read(of->head.work, tensor, t, self->matrix, error)
                     : didi_fail(error, DIDI_NO_MEMORY, NULL, "coordinates of task %zu", t);
        if (status == DIDI_OK)
            linalg_gemm(false, false, self->rank, self->n, self->m, 1.0F, self->basis, self->m,
                        self->matrix, self->n, 0.0F, self->of[t], self->n);
    }
    return status;
}

/* Shows the numbers of a tensor as they are merged: coordinates, or panels. */
static int look(const knots *self, size_t tensor, stored *out,
                void (*use)(void *context, const method_panel *panel), void *context,
                didi_error *error)
{
    coordinates all;
    if (!whole_is_matrix(self->head.work->layers[tensor]))
        return stored_look_at_panels(out, use, context, error);
    int status = coordinates_read(&all, self, tensor, error);
    if (status == DIDI_OK)
        use(context,
            &(method_panel){0, all.rank * all.n, all.tasks, (const float *const *)all.of, NULL});
    coordinates_clear(&all);
    return status;
}

typedef struct looking {
    const knots *self;
    uint64_t *tables, numbers;
    long long signs;
} looking;

static void count_numbers(void *context, const method_panel *panel)
{
    looking *of = context;
    election_count(&of->self->election, panel->tasks, panel->tau, panel->count, of->tables);
    of->numbers += panel->count;
}

static int count_tensor(void *context, size_t tensor, stored *out, didi_error *error)
{
    knots *self = context;
    looking of = {.self = self};
    int status = ranking_tables(&self->election.thresholds, &of.tables, error);
    if (status == DIDI_OK)
        status = look(self, tensor, out, count_numbers, &of, error);
    if (status == DIDI_OK)
        ranking_add(&self->election.thresholds, of.numbers, of.tables);
    free(of.tables);
    return status;
}

static int settle(void *context, didi_error *error)
{
    (void)error;
    knots *self = context;
    election_end_pass(&self->election);
    return DIDI_OK;
}

static void elect_numbers(void *context, const method_panel *panel)
{
    looking *of = context;
    of->signs += election_signs(&of->self->election, of->self->head.work, panel->tau, panel->count);
}

static int elect_tensor(void *context, size_t tensor, stored *out, didi_error *error)
{
    knots *self = context;
    looking of = {.self = self};
    int status = look(self, tensor, out, elect_numbers, &of, error);
    if (status == DIDI_OK)
        election_add_signs(&self->election, of.signs);
    return status;
}

static int decide(void *context, didi_error *error)
{
    knots *self = context;
    return election_decide(&self->election, self->head.work, error);
}

static bool is_known(void *context, size_t tensor)
{
    (void)tensor;
    const knots *self = context;
    return self->election.known;
}

/* ---- merging ---- */

static void fill(void *context, const method_panel *panel)
{
    const knots *self = context;
    election_merge(&self->election, self->head.work, panel->tau, panel->count, panel->shared);
}

/* The merged coordinates take the place of the first task's: each is read before it is written. */
static int merge_tensor(void *context, size_t tensor, stored *out, didi_error *error)
{
    const knots *self = context;
    work *of = self->head.work;
    coordinates all;
    if (!whole_is_matrix(of->layers[tensor]))
        return stored_shared_panels(out, fill, context, error);
    int status = coordinates_read(&all, self, tensor, error);
    if (status == DIDI_OK) {
        election_merge(&self->election, of, (const float *const *)all.of, all.rank * all.n,
                       all.of[0]);
        linalg_gemm(true, false, all.m, all.n, all.rank, 1.0F, all.basis, all.m, all.of[0], all.n,
                    0.0F, all.matrix, all.n);
        status =
            whole_store(out, of, tensor, &(whole_result){.values = all.matrix, .scale = 1}, error);
    }
    coordinates_clear(&all);
    return status;
}

static uint64_t align_memory(const void *context, size_t tensor)
{
    enum { SQUARES = 9 }; /* as floats: two Gram matrices, what LAPACK works with, U */
    const knots *self = context;
    const work *of = self->head.work;
    const family_tensor *from = of->layers[tensor];
    uint64_t panels = stored_panels_memory(of, tensor);
    uint64_t square = memory_multiply(memory_multiply(from->rows, from->rows), sizeof(float));
    return whole_is_matrix(from)
               ? memory_add(memory_add(panels, memory_multiply(whole_bytes(of, tensor), 3)),
                            memory_multiply(square, SQUARES))
               : panels;
}

static uint64_t merge_memory(const void *context, size_t tensor)
{
    const knots *self = context;
    const work *of = self->head.work;
    uint64_t held =
        memory_add(stored_panels_memory(of, tensor), ranking_memory(of->options.task_count));
    return whole_is_matrix(of->layers[tensor])
               ? memory_add(held,
                            memory_multiply(whole_bytes(of, tensor), of->options.task_count + 2))
               : held;
}

static uint64_t most_memory(const void *context, size_t tensor)
{
    return larger(align_memory(context, tensor), merge_memory(context, tensor));
}

/* Gram matrices and four times the coordinates of all tasks, and eigenvectors. */
static double flops(const void *context, size_t tensor)
{
    const knots *self = context;
    const work *of = self->head.work;
    const family_tensor *from = of->layers[tensor];
    double tasks = (double)of->options.task_count;
    double m = (double)from->rows;
    double elements = (double)from->elements;
    return whole_is_matrix(from) ? tasks * 10 * m * elements + 9 * m * m * m : 8 * tasks * elements;
}

static int plan(void *context, didi_error *error)
{
    static const stored_cost cost = {.memory = most_memory, .flops = flops, .passes = 6};
    const knots *self = context;
    return stored_plan(self->head.work, &cost, self, error);
}

static const method_stage stages[] = {
    {.name = "align",
     .told_as = DIDI_STAGE_DECOMPOSE,
     .share = 30,
     .each = align_tensor,
     .recall = recall_aligned,
     .memory = align_memory},
    {.name = "gather", .told_as = DIDI_STAGE_DECOMPOSE, .share = 1, .once = gather},
    {.name = "knots_count",
     .told_as = DIDI_STAGE_ALLOCATE,
     .share = 15,
     .each = count_tensor,
     .in_memory = true,
     .recall = is_known,
     .memory = merge_memory},
    {.name = "settle", .told_as = DIDI_STAGE_ALLOCATE, .share = 1, .once = settle},
    {.name = "knots_narrow",
     .told_as = DIDI_STAGE_ALLOCATE,
     .share = 15,
     .each = count_tensor,
     .in_memory = true,
     .recall = is_known,
     .memory = merge_memory},
    {.name = "settle_exactly", .told_as = DIDI_STAGE_ALLOCATE, .share = 1, .once = settle},
    {.name = "knots_elect",
     .told_as = DIDI_STAGE_ALLOCATE,
     .share = 15,
     .each = elect_tensor,
     .in_memory = true,
     .recall = is_known,
     .memory = merge_memory},
    {.name = "decide", .told_as = DIDI_STAGE_ALLOCATE, .share = 1, .once = decide},
    {.name = "knots",
     .told_as = DIDI_STAGE_REFINE,
     .share = 20,
     .each = merge_tensor,
     .memory = merge_memory},
};

const didi_method knots_method = {
    .name = "knots",
    .summary = "TIES in directions that the tasks share: one model for all tasks",
    .options = options,
    .flags = METHOD_ONE_MODEL,
    .self_bytes = sizeof(knots),
    .stages = stages,
    .stage_count = sizeof stages / sizeof *stages,
    .open = open_knots,
    .plan = plan,
    .begin = begin,
    .close = close_knots,
};
