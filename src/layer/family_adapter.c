/* SPDX-License-Identifier: Apache-2.0 */
/* Factors of adapters, as they are or as rows of the matrix they make. */
#include "src/layer/family_adapter.h"

#include "src/base/base.h"
#include "src/math/math.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* out (k x m) = scale * in' (m x k), in squares, so that both are read in order. */
static void transpose(const float *in, size_t m, size_t k, float *out)
{
    enum { SQUARE = 64 };
    for (size_t first = 0; first < m; first += SQUARE)
        for (size_t i = 0; i < k; i++)
            for (size_t j = first; j < m && j < first + SQUARE; j++)
                out[i * m + j] = in[j * k + i];
}

static const adapter_change *change_of(const family_reader *self, size_t task)
{
    assert(self->tensor->change != NULL && self->tensor->change[task].from != NULL);
    return self->tensor->change[task].from;
}

int family_read_factors(const family_reader *self, size_t task, float *left, float *right,
                        didi_error *error)
{
    const adapter_change *from = change_of(self, task);
    bool transposed = self->tensor->change[task].transposed;
    const checkpoint *model = self->family->tasks[task].model;
    size_t rank = from->rank;
    float *b = memory_aligned(rank, from->rows * sizeof *b);
    if (b == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, self->tensor->name, "factors of an adapter");
    int status = family_read_finite(model, from->a, 0, transposed ? left : right,
                                    rank * from->columns, self->bytes_read, error);
    if (status == DIDI_OK)
        status =
            family_read_finite(model, from->b, 0, b, rank * from->rows, self->bytes_read, error);
    if (status == DIDI_OK) {
        transpose(b, from->rows, rank, transposed ? right : left);
        for (size_t i = 0; i < rank * self->tensor->rows; i++)
            left[i] *= (float)from->scale;
    }
    free(b);
    return status;
}

/* out (rows x columns) = rows [first, first + rows) of the product. */
static int make_rows(const family_reader *self, size_t task, uint64_t first, size_t rows,
                     float *out, didi_error *error)
{
    const family_tensor *tensor = self->tensor;
    const char *label = checkpoint_label(self->family->tasks[task].model);
    size_t count = rows * tensor->columns;
    size_t rank = change_of(self, task)->rank;
    float *left = memory_aligned(rank, tensor->rows * sizeof *left);
    float *right = memory_aligned(rank, tensor->columns * sizeof *right);
    int status = left != NULL && right != NULL
                     ? family_read_factors(self, task, left, right, error)
                     : didi_fail(error, DIDI_NO_MEMORY, tensor->name, "factors of an adapter");
    if (status == DIDI_OK)
        linalg_gemm(true, false, rows, tensor->columns, rank, 1.0F, left + first, tensor->rows,
                    right, tensor->columns, 0.0F, out, tensor->columns);
    free(left);
    free(right);
    if (status == DIDI_OK && didi_dtype_first_nonfinite(out, count) < count)
        status = didi_fail(error, DIDI_NUMERIC, label,
                           "the change of tensor '%s' by adapter %s is too large for a number",
                           tensor->name, label);
    return status;
}

/* The rows that a piece lies in. */
typedef struct row_span {
    uint64_t first;
    size_t count, skipped; /* elements of the first row before the piece */
} row_span;

static row_span span_of(const family_reader *self, uint64_t first, size_t count)
{
    uint64_t columns = self->tensor->columns;
    uint64_t row = first / columns;
    return (row_span){row, (size_t)((first + count - 1) / columns - row + 1),
                      (size_t)(first - row * columns)};
}

int family_add_factors(const family_reader *self, size_t task, uint64_t first, size_t count,
                       float *values, didi_error *error)
{
    if (count == 0)
        return DIDI_OK;
    row_span span = span_of(self, first, count);
    float *rows = memory_aligned(span.count, self->tensor->columns * sizeof *rows);
    if (rows == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, self->tensor->name, "rows of an adapter");
    int status = make_rows(self, task, span.first, span.count, rows, error);
    for (size_t i = 0; i < count && status == DIDI_OK; i++)
        values[i] += rows[span.skipped + i];
    free(rows);
    return status;
}

/* ---- lengths */

/* Rows [first, first + count) of V + scale B A; `spare` holds as many. */
static int changed_rows(const family_reader *self, size_t task, uint64_t first, size_t count,
                        float *spare, float *ret_rows, didi_error *error)
{
    const checkpoint_tensor *own = self->tensor->task[task];
    const family *all = self->family;
    size_t columns = self->tensor->columns;
    size_t elements = count * columns;
    int status = make_rows(self, task, first, count, spare, error);
    if (status == DIDI_OK)
        status = family_read_finite(own != NULL ? all->tasks[task].model : all->base,
                                    own != NULL ? own : self->tensor->base, first * columns,
                                    ret_rows, elements, self->bytes_read, error);
    for (size_t i = 0; i < elements && status == DIDI_OK; i++)
        ret_rows[i] += spare[i];
    return status;
}

static int length_factor(const family_reader *self, size_t task, double energy, float magnitude,
                         float *ret_factor, didi_error *error)
{
    const char *label = checkpoint_label(self->family->tasks[task].model);
    if (!(energy > 0))
        return didi_fail(error, DIDI_NUMERIC, label,
                         "a row of tensor '%s' of adapter %s is zero and has no direction",
                         self->tensor->name, label);
    *ret_factor = (float)((double)magnitude / sqrt(energy));
    return DIDI_OK;
}

static int direct_rows(const family_reader *self, size_t task, size_t count, const float *magnitude,
                       float *rows, didi_error *error)
{
    size_t columns = self->tensor->columns;
    for (size_t i = 0; i < count; i++) {
        float factor = 0;
        float *row = rows + i * columns;
        int status =
            length_factor(self, task, linalg_energy(row, columns), magnitude[i], &factor, error);
        if (status != DIDI_OK)
            return status;
        for (size_t j = 0; j < columns; j++)
            row[j] *= factor;
    }
    return DIDI_OK;
}

/* energies (columns) = |column|^2 of all rows. */
static int sum_columns(const family_reader *self, size_t task, double *energies, didi_error *error)
{
    enum { BLOCK_ELEMENTS = 1 << 18 };
    uint64_t columns = self->tensor->columns;
    uint64_t together = smaller(larger(BLOCK_ELEMENTS / columns, 1), self->tensor->rows);
    float *rows = memory_aligned(2 * together, columns * sizeof *rows);
    int status = DIDI_OK;
    if (rows == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, self->tensor->name, "rows of an adapter");
    memset(energies, 0, columns * sizeof *energies);
    for (uint64_t first = 0; first < self->tensor->rows && status == DIDI_OK; first += together) {
        size_t count = smaller(self->tensor->rows - first, together);
        status = changed_rows(self, task, first, count, rows + together * columns, rows, error);
        for (size_t i = 0; i < count && status == DIDI_OK; i++)
            for (size_t j = 0; j < columns; j++)
                energies[j] += (double)rows[i * columns + j] * (double)rows[i * columns + j];
    }
    free(rows);
    return status;
}

static int measure_columns(const family_reader *self, size_t task, float *ret_factors,
                           didi_error *error)
{
    size_t columns = self->tensor->columns;
    double *energies = memory_aligned(columns, sizeof *energies);
    int status = energies != NULL
                     ? sum_columns(self, task, energies, error)
                     : didi_fail(error, DIDI_NO_MEMORY, self->tensor->name, "rows of an adapter");
    if (status == DIDI_OK)
        status =
            family_read_finite(self->family->tasks[task].model, change_of(self, task)->magnitude, 0,
                               ret_factors, columns, self->bytes_read, error);
    for (size_t j = 0; j < columns && status == DIDI_OK; j++)
        status = length_factor(self, task, energies[j], ret_factors[j], &ret_factors[j], error);
    free(energies);
    return status;
}

/* What each column is multiplied by, kept with the change; threads that come at once find the
 * same. */
static int column_factors(const family_reader *self, size_t task, const float **ret_factors,
                          didi_error *error)
{
    family_change *change = &self->tensor->change[task];
    float *known = atomic_load(&change->directed);
    if (known == NULL) {
        float *fresh = memory_aligned(self->tensor->columns, sizeof *fresh);
        int status = fresh != NULL ? measure_columns(self, task, fresh, error)
                                   : didi_fail(error, DIDI_NO_MEMORY, self->tensor->name,
                                               "rows of an adapter");
        if (status != DIDI_OK) {
            free(fresh);
            return status;
        }
        if (atomic_compare_exchange_strong(&change->directed, &known, fresh))
            known = fresh;
        else
            free(fresh);
    }
    *ret_factors = known;
    return DIDI_OK;
}

static int direct_columns(const family_reader *self, size_t task, size_t count, float *rows,
                          didi_error *error)
{
    const float *factors = NULL;
    size_t columns = self->tensor->columns;
    int status = column_factors(self, task, &factors, error);
    if (status != DIDI_OK)
        return status;
    assert(factors != NULL);
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < columns; j++)
            rows[i * columns + j] *= factors[j];
    return DIDI_OK;
}

int family_read_directed(const family_reader *self, size_t task, uint64_t first, size_t count,
                         const float *base, float *ret_delta, didi_error *error)
{
    const checkpoint *model = self->family->tasks[task].model;
    bool transposed = self->tensor->change[task].transposed;
    if (count == 0)
        return DIDI_OK;
    row_span span = span_of(self, first, count);
    size_t elements = span.count * self->tensor->columns;
    float *added = memory_aligned(2 * elements + span.count, sizeof *added);
    if (added == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, self->tensor->name, "rows of an adapter");
    float *rows = added + elements;
    float *magnitude = rows + elements;
    int status = changed_rows(self, task, span.first, span.count, added, rows, error);
    if (status == DIDI_OK && !transposed)
        status = family_read_finite(model, change_of(self, task)->magnitude, span.first, magnitude,
                                    span.count, self->bytes_read, error);
    if (status == DIDI_OK)
        status = transposed ? direct_columns(self, task, span.count, rows, error)
                            : direct_rows(self, task, span.count, magnitude, rows, error);
    for (size_t i = 0; i < count && status == DIDI_OK; i++)
        ret_delta[i] = rows[span.skipped + i] - base[i];
    free(added);
    return status;
}
