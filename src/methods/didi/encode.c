/* SPDX-License-Identifier: Apache-2.0 */
/* From blocks to what is published: balanced, rounded, and measured against the task vectors. */
#include "src/methods/didi/measure.h"
#include "src/methods/didi/pursuit.h"

#include "src/base/base.h"
#include "src/files/files.h"
#include "src/math/math.h"
#include "src/package/package.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PANEL_ROWS = 256 };

/* How values are stored: rounded to a dtype, or packed. */
typedef struct finish_form {
    bool packed;
    didi_dtype dtype;
    const bool *dense;          /* T + 1: experts kept whole */
    const unsigned *dense_bits; /* where packed, their widths */
} finish_form;

/* Some rows of a matrix. */
typedef struct row_range {
    size_t columns, first, count;
    float *values;
} row_range;

void solve_package_clear(solve_package *self)
{
    for (size_t j = 0; self->factors != NULL && j <= self->tasks; j++) {
        spill_free(self->factors[j].b);
        spill_free(self->factors[j].a);
    }
    for (size_t t = 0; self->delta != NULL && t < self->tasks; t++)
        spill_free(self->delta[t]);
    for (size_t j = 0; self->packed != NULL && j <= self->tasks; j++)
        free(self->packed[j]);
    free(self->factors);
    free(self->delta);
    free(self->packed);
    free(self->packed_bytes);
    *self = (solve_package){0};
}

/* Values that are rounded together. */
typedef struct rounding {
    didi_dtype dtype;
    size_t count;
    float *values;
} rounding;

static int round_piece(void *argument, size_t piece, didi_error *error)
{
    const rounding *self = argument;
    size_t first = piece * LAYER_ELEMENTS;
    size_t count = smaller(self->count - first, LAYER_ELEMENTS);
    if (didi_dtype_round(self->dtype, self->values + first, count) < count)
        return didi_fail(error, DIDI_NUMERIC, NULL, "a value is out of the range of %s",
                         didi_dtype_name(self->dtype));
    spill_touched(count * sizeof *self->values);
    return DIDI_OK;
}

static int round_values(parallel *helpers, didi_dtype dtype, float *values, size_t count,
                        didi_error *error)
{
    rounding all = {dtype, count, values};
    return parallel_try(helpers, (count + LAYER_ELEMENTS - 1) / LAYER_ELEMENTS, round_piece, &all,
                        error);
}

/* A block on its way to factors; balance[i]: what left row i is multiplied by. */
typedef struct balancing {
    const block *from;
    size_t m, n;
    double *balance;
    solve_factors *out;
} balancing;

static void balance_rows(void *argument, size_t first, size_t end)
{
    const balancing *self = argument;
    size_t m = self->m;
    size_t n = self->n;
    for (size_t i = first; i < end; i++) {
        double left = sqrt(linalg_energy(self->from->left + i * m, m));
        double right = sqrt(linalg_energy(self->from->right + i * n, n));
        double up = left > 0 && right > 0 ? sqrt(right / left) : 0;
        float down = up > 0 ? (float)(1 / up) : 0.0F;
        for (size_t j = 0; j < n; j++)
            self->out->a[i * n + j] = self->from->right[i * n + j] * down;
        self->balance[i] = up;
        spill_touched(2 * n * sizeof(float));
    }
}

/* Rows [first, end) of b (m x k), in a square after the other, so that both are read in order. */
static void scale_columns(void *argument, size_t first, size_t end)
{
    const balancing *self = argument;
    size_t k = self->from->rank;
    for (size_t i = 0; i < k; i++) {
        float up = (float)self->balance[i];
        for (size_t j = first; j < end; j++)
            self->out->b[j * k + i] = self->from->left[i * self->m + j] * up;
    }
    spill_touched(2 * (end - first) * k * sizeof(float));
}

static int make_factors(const layer *target, size_t index, didi_dtype dtype, solve_factors *out,
                        didi_error *error)
{
    enum { SQUARE = 64 };
    const block *source = &target->blocks[index];
    size_t k = source->rank;
    size_t m = target->rows;
    size_t n = target->columns;
    out->rank = k;
    if (k == 0)
        return DIDI_OK;
    balancing balanced = {source, m, n, memory_zeroed(k, sizeof *balanced.balance), out};
    out->b = layer_allocate(target, k, m * sizeof(float));
    out->a = layer_allocate(target, k, n * sizeof(float));
    if (balanced.balance == NULL || out->b == NULL || out->a == NULL) {
        free(balanced.balance);
        return layer_fail_allocation(target, error);
    }
    parallel_ranges(target->parallel, k, layer_rows_at_once(m + n), balance_rows, &balanced);
    parallel_ranges(target->parallel, m, SQUARE, scale_columns, &balanced);
    free(balanced.balance);
    int status = round_values(target->parallel, dtype, out->b, k * m, error);
    return status == DIDI_OK ? round_values(target->parallel, dtype, out->a, k * n, error) : status;
}

/* Takes rows [first, first + panel) of B A off what is in out (panel x n). */
static void subtract_panel(const solve_factors *factors, size_t columns, size_t first, size_t panel,
                           float *out)
{
    if (factors->rank > 0)
        linalg_gemm(false, false, panel, columns, factors->rank, -1.0F,
                    factors->b + first * factors->rank, factors->rank, factors->a, columns, 1.0F,
                    out, columns);
}

/* What is stored of some rows of a dense expert, whose values become what is stored. */
static int keep_rows(const solve_package *package, size_t task, const finish_form *form,
                     const row_range *rows, didi_error *error)
{
    size_t n = rows->columns;
    if (!form->packed) {
        int status = round_values(NULL, form->dtype, rows->values, rows->count * n, error);
        if (status == DIDI_OK)
            memcpy(package->delta[task] + rows->first * n, rows->values,
                   rows->count * n * sizeof(float));
        return status;
    }
    unsigned bits = form->dense_bits[task + 1];
    size_t row_bytes = quantise_row_bytes(n, bits);
    uint8_t *out = package->packed[task + 1] + PACKED_DENSE_HEADER_BYTES + rows->first * row_bytes;
    packed_dense_rows(n, bits, rows->values, rows->count, out);
    for (size_t i = 0; i < rows->count; i++)
        dequantise_row(out + i * row_bytes, n, bits, rows->values + i * n);
    return DIDI_OK;
}

typedef struct measure {
    const layer *layer;
    const solve_package *package;
    finish_form form;
    double *error, *unshared;
    size_t panels;         /* of each task */
    double *sums;          /* T x panels x 2: what each panel adds to error and unshared */
    measure_shared shared; /* where some task vectors are factors */
} measure;

/* What a task is measured by. */
static bool has_panels(const measure *self, size_t task)
{
    return !layer_holds_factors(self->layer, task) || self->form.dense[task + 1];
}

/* Energies of some rows of tau_t - S - E_t and tau_t - S; of a dense expert they are kept. */
static int measure_panel(void *argument, size_t index, didi_error *error)
{
    const measure *self = argument;
    const layer *target = self->layer;
    const solve_package *package = self->package;
    size_t task = index / self->panels;
    size_t first = index % self->panels * PANEL_ROWS;
    size_t n = target->columns;
    size_t rows = smaller(target->rows - first, PANEL_ROWS);
    double *sums = self->sums + 2 * index;
    if (!has_panels(self, task))
        return DIDI_OK;
    bool dense = self->form.dense[task + 1];
    float *panel = memory_aligned(rows, (dense ? 2 : 1) * n * sizeof(float));
    if (panel == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "panel of %zu columns", n);
    float *kept = dense ? panel + rows * n : NULL;
    int status = layer_read_rows(target, task, first, rows, panel, error);
    if (status == DIDI_OK) {
        subtract_panel(&package->factors[0], n, first, rows, panel);
        sums[1] = linalg_energy(panel, rows * n);
        subtract_panel(&package->factors[task + 1], n, first, rows, panel);
    }
    if (status == DIDI_OK && dense) {
        memcpy(kept, panel, rows * n * sizeof(float));
        row_range range = {n, first, rows, kept};
        status = keep_rows(package, task, &self->form, &range, error);
        for (size_t i = 0; i < rows * n; i++)
            panel[i] -= kept[i];
    }
    if (status == DIDI_OK)
        sums[0] = linalg_energy(panel, rows * n);
    spill_touched(dense ? rows * n * sizeof(float) : 0);
    free(panel);
    return status;
}

/* The sums of a task's panels, in their order. */
static int measure_task(void *argument, size_t task, didi_error *error)
{
    const measure *self = argument;
    const layer *target = self->layer;
    const solve_factors *factors = self->package->factors;
    if (!has_panels(self, task))
        return measure_factors(target, task, &self->shared, &factors[task + 1], &self->error[task],
                               &self->unshared[task], error);
    double sums[2] = {0};
    for (size_t p = 0; p < self->panels; p++)
        for (size_t i = 0; i < 2; i++)
            sums[i] += self->sums[2 * (task * self->panels + p) + i];
    self->error[task] = sums[0];
    self->unshared[task] = sums[1];
    layer_count_product(target, target->rows, target->columns,
                        factors[0].rank + factors[task + 1].rank);
    return DIDI_OK;
}

static int measure_all(const layer *target, const solve_package *package, const finish_form *form,
                       layer_summary *summary, didi_error *error)
{
    size_t tasks = target->tasks;
    size_t panels = (target->rows + PANEL_ROWS - 1) / PANEL_ROWS;
    measure measuring = {target, package, *form, summary->error, summary->unshared,
                         panels, NULL,    {0}};
    int status = DIDI_OK;
    measuring.sums = memory_zeroed(tasks * panels, 2 * sizeof *measuring.sums);
    if (measuring.sums == NULL)
        status = didi_fail(error, DIDI_NO_MEMORY, NULL, "errors of %zu tasks", tasks);
    if (status == DIDI_OK && target->factors != NULL)
        status = measure_shared_create(target, &package->factors[0], &measuring.shared, error);
    if (status == DIDI_OK)
        status = parallel_try(target->parallel, tasks * panels, measure_panel, &measuring, error);
    if (status == DIDI_OK)
        status = parallel_try(target->parallel, tasks, measure_task, &measuring, error);
    measure_shared_clear(&measuring.shared);
    free(measuring.sums);
    return status;
}

/* Room for an expert kept dense. */
static int make_room(const layer *target, const finish_form *form, size_t task,
                     solve_package *package, didi_error *error)
{
    if (!form->dense[task + 1])
        return DIDI_OK;
    bool fine = false;
    if (form->packed) {
        unsigned bits = form->dense_bits[task + 1];
        size_t bytes = packed_dense_bytes(target->rows, target->columns, bits);
        package->packed[task + 1] = memory_zeroed(bytes, 1);
        package->packed_bytes[task + 1] = bytes;
        fine = package->packed[task + 1] != NULL;
        if (fine)
            packed_dense_begin(bits, package->packed[task + 1]);
    } else {
        package->delta[task] =
            layer_allocate(target, target->rows, target->columns * sizeof(float));
        fine = package->delta[task] != NULL;
    }
    return fine ? DIDI_OK : layer_fail_allocation(target, error);
}

static int create_package(const layer *target, solve_package *package, didi_error *error)
{
    size_t tasks = target->tasks;
    *package = (solve_package){.tasks = tasks,
                               .factors = memory_zeroed(tasks + 1, sizeof(solve_factors)),
                               .delta = memory_zeroed(tasks, sizeof(float *)),
                               .packed = memory_zeroed(tasks + 1, sizeof(uint8_t *)),
                               .packed_bytes = memory_zeroed(tasks + 1, sizeof(size_t))};
    return package->factors != NULL && package->delta != NULL && package->packed != NULL &&
                   package->packed_bytes != NULL
               ? DIDI_OK
               : didi_fail(error, DIDI_NO_MEMORY, NULL, "package of %zu tasks", tasks);
}

int solve_finish(layer *target, didi_precision precision, layer_summary *summary,
                 solve_package *ret_package, didi_error *error)
{
    solve_package package;
    didi_dtype dtype = DIDI_DTYPE_F32;
    bool plain = precision_is_plain(precision, &dtype);
    finish_form form = {!plain, dtype, summary->dense, summary->dense_bits};
    int status = create_package(target, &package, error);
    if (status == DIDI_OK && !plain)
        status = solve_quantise(target, summary, &package, error);
    for (size_t j = 0; j <= target->tasks && !plain; j++)
        layer_drop_block(target, j);
    for (size_t j = 0; j <= target->tasks && status == DIDI_OK && plain; j++) {
        status = make_factors(target, j, dtype, &package.factors[j], error);
        layer_drop_block(target, j); /* one block at a time is there twice */
    }
    for (size_t t = 0; t < target->tasks && status == DIDI_OK; t++)
        status = make_room(target, &form, t, &package, error);
    if (status == DIDI_OK)
        status = measure_all(target, &package, &form, summary, error);
    if (status != DIDI_OK)
        solve_package_clear(&package);
    else
        *ret_package = package;
    return status;
}
