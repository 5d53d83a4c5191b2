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

static int round_values(didi_dtype dtype, float *values, size_t count, didi_error *error)
{
    enum { PIECE = 4096 };
    for (size_t first = 0; first < count; first += PIECE) {
        size_t piece = count - first < PIECE ? count - first : PIECE;
        if (didi_dtype_round(dtype, values + first, piece) < piece)
            return didi_fail(error, DIDI_NUMERIC, NULL, "a value is out of the range of %s",
                             didi_dtype_name(dtype));
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

static int make_factors(const layer *target, size_t index, didi_dtype dtype, solve_factors *out,
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
        int status = round_values(form->dtype, rows->values, rows->count * n, error);
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

/* Rows of tau_t - S - E_t, their energy added up; a dense expert holds tau_t - S, rounded. */
static int measure_task(const layer *target, const solve_package *package, size_t task,
                        const finish_form *form, double *ret_error, double *ret_unshared,
                        didi_error *error)
{
    size_t n = target->columns;
    bool dense = form->dense[task + 1];
    float *panel = memory_aligned(PANEL_ROWS, (dense ? 2 : 1) * n * sizeof(float));
    if (panel == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "panel of %zu columns", n);
    float *kept = dense ? panel + PANEL_ROWS * n : NULL;
    int status = DIDI_OK;
    double sum = 0;
    double unshared = 0;
    for (size_t first = 0; first < target->rows && status == DIDI_OK; first += PANEL_ROWS) {
        size_t rows = target->rows - first < PANEL_ROWS ? target->rows - first : PANEL_ROWS;
        status = layer_read_rows(target, task, first, rows, panel, error);
        if (status != DIDI_OK)
            break;
        subtract_panel(&package->factors[0], n, first, rows, panel);
        unshared += linalg_energy(panel, rows * n);
        subtract_panel(&package->factors[task + 1], n, first, rows, panel);
        if (dense) {
            memcpy(kept, panel, rows * n * sizeof(float));
            status = keep_rows(package, task, form, &(row_range){n, first, rows, kept}, error);
            for (size_t i = 0; i < rows * n; i++)
                panel[i] -= kept[i];
        }
        sum += linalg_energy(panel, rows * n);
        spill_touched(dense ? rows * n * sizeof(float) : 0);
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
    finish_form form;
    double *error, *unshared;
    measure_shared shared; /* where some task vectors are factors */
} measure;

static int measure_one(void *argument, size_t task, didi_error *error)
{
    const measure *measuring = argument;
    const solve_factors *factors = measuring->package->factors;
    if (layer_holds_factors(measuring->layer, task) && !measuring->form.dense[task + 1])
        return measure_factors(measuring->layer, task, &measuring->shared, &factors[task + 1],
                               &measuring->error[task], &measuring->unshared[task], error);
    layer_count_product(measuring->layer, measuring->layer->rows, measuring->layer->columns,
                        factors[0].rank + factors[task + 1].rank);
    return measure_task(measuring->layer, measuring->package, task, &measuring->form,
                        &measuring->error[task], &measuring->unshared[task], error);
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
    if (status == DIDI_OK) {
        measure measuring = {target, &package, form, summary->error, summary->unshared, {0}};
        if (target->factors != NULL)
            status = measure_shared_create(target, &package.factors[0], &measuring.shared, error);
        if (status == DIDI_OK)
            status = parallel_try(target->parallel, target->tasks, measure_one, &measuring, error);
        measure_shared_clear(&measuring.shared);
    }
    if (status != DIDI_OK)
        solve_package_clear(&package);
    else
        *ret_package = package;
    return status;
}
