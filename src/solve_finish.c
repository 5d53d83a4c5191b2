/* SPDX-License-Identifier: Apache-2.0 */
/* From blocks to what is published: balanced, rounded, and measured against the task vectors. */
#include "src/solve.h"

#include "src/base/memory.h"
#include "src/base/spill.h"
#include "src/dtype.h"
#include "src/linalg.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PANEL_ROWS = 256 };

void solve_package_clear(solve_package *self)
{
    for (size_t j = 0; self->factors != NULL && j <= self->tasks; j++) {
        spill_free(self->factors[j].b);
        spill_free(self->factors[j].a);
    }
    for (size_t t = 0; self->delta != NULL && t < self->tasks; t++)
        spill_free(self->delta[t]);
    free(self->factors);
    free(self->delta);
    *self = (solve_package){0};
}

static int round_values(int dtype, float *values, size_t count, didi_error *error)
{
    enum { PIECE = 4096 };
    char rounded[PIECE * sizeof(double)];
    for (size_t first = 0; first < count; first += PIECE) {
        size_t piece = count - first < PIECE ? count - first : PIECE;
        didi_dtype_from_f32((didi_dtype)dtype, values + first, rounded, piece);
        didi_dtype_to_f32((didi_dtype)dtype, rounded, values + first, piece);
        if (didi_dtype_first_nonfinite(values + first, piece) < piece)
            return didi_fail(error, DIDI_NUMERIC, NULL, "a value is out of the range of %s",
                             didi_dtype_name((didi_dtype)dtype));
        spill_touched(piece * sizeof *values);
    }
    return DIDI_OK;
}

/* b (m x k): column i is left row i times balance[i]; in squares, so that both are read in order.
 */
static void scale_columns(const block *source, size_t m, const double *balance, float *b)
{
    enum { SQUARE = 64 };
    size_t k = source->rank;
    for (size_t first = 0; first < m; first += SQUARE) {
        size_t end = first + SQUARE < m ? first + SQUARE : m;
        for (size_t i = 0; i < k; i++) {
            float up = (float)balance[i];
            for (size_t j = first; j < end; j++)
                b[j * k + i] = source->left[i * m + j] * up;
        }
        spill_touched(2 * (end - first) * k * sizeof(float));
    }
}

static int make_factors(const layer *target, size_t index, int dtype, solve_factors *out,
                        didi_error *error)
{
    const block *source = &target->blocks[index];
    size_t k = source->rank;
    size_t m = target->rows;
    size_t n = target->columns;
    out->rank = k;
    if (k == 0)
        return DIDI_OK;
    double *balance = memory_zeroed(k, sizeof *balance);
    out->b = layer_allocate(target, k, m * sizeof(float));
    out->a = layer_allocate(target, k, n * sizeof(float));
    if (balance == NULL || out->b == NULL || out->a == NULL) {
        free(balance);
        return layer_fail_allocation(target, error);
    }
    for (size_t i = 0; i < k; i++) {
        double left = sqrt(linalg_energy(source->left + i * m, m));
        double right = sqrt(linalg_energy(source->right + i * n, n));
        balance[i] = left > 0 && right > 0 ? sqrt(right / left) : 0;
        float down = balance[i] > 0 ? (float)(1 / balance[i]) : 0.0F;
        for (size_t j = 0; j < n; j++)
            out->a[i * n + j] = source->right[i * n + j] * down;
        spill_touched(2 * n * sizeof(float));
    }
    scale_columns(source, m, balance, out->b);
    free(balance);
    int status = round_values(dtype, out->b, k * m, error);
    return status == DIDI_OK ? round_values(dtype, out->a, k * n, error) : status;
}

/* out (panel x n) = rows [first, first + panel) of B A, added to what is there. */
static void add_panel(const solve_factors *factors, size_t columns, size_t first, size_t panel,
                      float *out)
{
    if (factors->rank > 0)
        linalg_gemm(false, false, panel, columns, factors->rank, 1.0F,
                    factors->b + first * factors->rank, factors->rank, factors->a, columns, 1.0F,
                    out, columns);
}

/* Rows of S + E_t - tau_t, its energy added up; a dense expert gets tau_t - S first. */
static int measure_task(const layer *target, const solve_package *package, size_t task, int dtype,
                        double *ret_error, double *ret_unshared, didi_error *error)
{
    size_t n = target->columns;
    float *panel = memory_aligned(PANEL_ROWS, n * sizeof(float));
    if (panel == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "panel of %zu columns", n);
    int status = DIDI_OK;
    double sum = 0;
    double unshared = 0;
    for (size_t first = 0; first < target->rows && status == DIDI_OK; first += PANEL_ROWS) {
        size_t rows = target->rows - first < PANEL_ROWS ? target->rows - first : PANEL_ROWS;
        status = layer_read_rows(target, task, first, rows, panel, error);
        if (status != DIDI_OK)
            break;
        for (size_t i = 0; i < rows * n; i++)
            panel[i] = -panel[i];
        add_panel(&package->factors[0], n, first, rows, panel);
        unshared += linalg_energy(panel, rows * n);
        add_panel(&package->factors[task + 1], n, first, rows, panel);
        float *delta = package->delta[task] != NULL ? package->delta[task] + first * n : NULL;
        for (size_t i = 0; delta != NULL && i < rows * n; i++)
            delta[i] = -panel[i];
        if (delta != NULL)
            status = round_values(dtype, delta, rows * n, error);
        for (size_t i = 0; delta != NULL && i < rows * n; i++)
            panel[i] += delta[i];
        sum += linalg_energy(panel, rows * n);
        spill_touched(delta != NULL ? rows * n * sizeof(float) : 0);
    }
    free(panel);
    if (status == DIDI_OK) {
        *ret_error = sum;
        *ret_unshared = unshared;
    }
    return status;
}

typedef struct measure {
    const layer *layer;
    const solve_package *package;
    int dtype;
    double *error, *unshared;
} measure;

static int measure_one(void *argument, size_t task, didi_error *error)
{
    const measure *work = argument;
    const solve_factors *factors = work->package->factors;
    layer_count_product(work->layer, work->layer->rows, work->layer->columns,
                        factors[0].rank + factors[task + 1].rank);
    return measure_task(work->layer, work->package, task, work->dtype, &work->error[task],
                        &work->unshared[task], error);
}

static int measure_all(const layer *target, const solve_package *package, int dtype,
                       layer_summary *summary, didi_error *error)
{
    measure work = {target, package, dtype, summary->error, summary->unshared};
    return team_try(target->team, target->tasks, measure_one, &work, error);
}

/* The block goes as its factors come, so that one of them at a time is there twice. */
static int publish_block(layer *target, size_t index, int dtype, solve_factors *out,
                         didi_error *error)
{
    int status = make_factors(target, index, dtype, out, error);
    layer_drop_block(target, index);
    return status;
}

int solve_finish(layer *target, int output_dtype, layer_summary *summary,
                 solve_package *ret_package, didi_error *error)
{
    solve_package package = {.tasks = target->tasks,
                             .factors = memory_zeroed(target->tasks + 1, sizeof(solve_factors)),
                             .delta = memory_zeroed(target->tasks, sizeof(float *))};
    int status = DIDI_OK;
    if (package.factors == NULL || package.delta == NULL)
        status = didi_fail(error, DIDI_NO_MEMORY, NULL, "package of %zu tasks", target->tasks);
    for (size_t j = 0; j <= target->tasks && status == DIDI_OK; j++)
        status = publish_block(target, j, output_dtype, &package.factors[j], error);
    for (size_t t = 0; t < target->tasks && status == DIDI_OK; t++) {
        if (!summary->dense[t + 1])
            continue;
        package.delta[t] = layer_allocate(target, target->rows, target->columns * sizeof(float));
        if (package.delta[t] == NULL)
            status = layer_fail_allocation(target, error);
    }
    if (status == DIDI_OK)
        status = measure_all(target, &package, output_dtype, summary, error);
    if (status != DIDI_OK)
        solve_package_clear(&package);
    else
        *ret_package = package;
    return status;
}
