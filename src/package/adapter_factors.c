/* SPDX-License-Identifier: Apache-2.0 */
/* The factors of one module of an adapter: those of shared file and expert joined, cut to a rank,
 * or made of a matrix that is kept whole; and what they leave out, measured. */
#include "src/package/adapter.h"

#include "src/base/base.h"
#include "src/math/math.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PANEL_ELEMENTS = 1 << 20 };

/* ---- joined */

static void put_left(const addition *part, float *rows)
{
    for (uint64_t k = 0; k < part->rank; k++)
        for (uint64_t i = 0; i < part->rows; i++)
            rows[k * part->rows + i] = part->left[i * part->rank + k];
}

/* All components of both parts, in `rank` rows or more. */
static void join(const addition parts[2], const adapter_factors *out)
{
    uint64_t first = 0;
    for (size_t p = 0; p < 2; p++) {
        const addition *part = &parts[p];
        put_left(part, out->left + first * part->rows);
        if (part->rank > 0)
            memcpy(out->right + first * part->columns, part->right,
                   part->rank * part->columns * sizeof *part->right);
        first += part->rank;
    }
}

static int factors_allocate(const adapter_tensor *tensor, uint64_t rank,
                            adapter_factors *ret_factors, didi_error *error)
{
    adapter_factors self = {memory_zeroed(rank, tensor->rows * sizeof *self.left),
                            memory_zeroed(rank, tensor->columns * sizeof *self.right)};
    if (self.left == NULL || self.right == NULL) {
        adapter_factors_clear(&self);
        return didi_fail(error, DIDI_NO_MEMORY, tensor->base->tensor->name, "factors of rank %llu",
                         (unsigned long long)rank);
    }
    *ret_factors = self;
    return DIDI_OK;
}

/* ---- cut: L'R = Q_L' (C_L' C_R) Q_R, and the leading triplets of what is in the middle */

typedef struct side {
    uint64_t rank; /* of the basis */
    float *basis;  /* orthonormal rows */
    float *corner; /* components x rank */
} side;

static int side_make(const float *rows, uint64_t count, uint64_t columns, side *ret_side,
                     didi_error *error)
{
    side self = {0};
    size_t kept = 0;
    int status = DIDI_OK;
    float *scratch = memory_aligned(count, columns * sizeof *scratch);
    self.basis = memory_aligned(count, columns * sizeof *self.basis);
    self.corner = memory_zeroed(count, count * sizeof *self.corner);
    if (scratch == NULL || self.basis == NULL || self.corner == NULL) {
        status =
            didi_fail(error, DIDI_NO_MEMORY, NULL, "basis of %llu rows", (unsigned long long)count);
    } else {
        memcpy(self.basis, rows, count * columns * sizeof *rows);
        status =
            linalg_orthonormalise_rows(NULL, count, columns, self.basis, scratch, &kept, error);
    }
    if (status == DIDI_OK) {
        self.rank = kept;
        if (kept > 0)
            linalg_gemm(false, true, count, kept, columns, 1.0F, rows, columns, self.basis, columns,
                        0.0F, self.corner, kept);
    }
    free(scratch);
    *ret_side = self;
    return status;
}

static void side_clear(side *self)
{
    free(self->basis);
    free(self->corner);
}

/* `kept` of the rows of u, each times the root of its singular value, on a basis. */
static int turn(const float *u, const double *sigma, uint64_t kept, const side *on,
                uint64_t columns, float *ret_rows, didi_error *error)
{
    double *roots = memory_zeroed(kept, sizeof *roots);
    if (roots == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "%llu roots", (unsigned long long)kept);
    for (uint64_t k = 0; k < kept; k++)
        roots[k] = sqrt(sigma[k]);
    int status =
        linalg_rotate_rows(NULL, kept, on->rank, columns, u, roots, on->basis, ret_rows, error);
    free(roots);
    return status;
}

static int cut_core(const adapter_tensor *tensor, uint64_t joined, const side sides[2],
                    const adapter_factors *out, didi_error *error)
{
    uint64_t m = sides[0].rank;
    uint64_t n = sides[1].rank;
    uint64_t full = smaller(m, n);
    uint64_t kept = smaller(full, tensor->rank);
    if (full == 0)
        return DIDI_OK;
    float *core = memory_aligned(m, n * sizeof *core);
    float *u = memory_aligned(full, m * sizeof *u);
    float *v = memory_aligned(full, n * sizeof *v);
    double *sigma = memory_zeroed(full, sizeof *sigma);
    int status = DIDI_OK;
    if (core == NULL || u == NULL || v == NULL || sigma == NULL)
        status =
            didi_fail(error, DIDI_NO_MEMORY, NULL, "core of rank %llu", (unsigned long long)full);
    if (status == DIDI_OK) {
        linalg_gemm(true, false, m, n, joined, 1.0F, sides[0].corner, m, sides[1].corner, n, 0.0F,
                    core, n);
        status = linalg_svd(m, n, core, u, sigma, v, error);
    }
    if (status == DIDI_OK)
        status = turn(u, sigma, kept, &sides[0], tensor->rows, out->left, error);
    if (status == DIDI_OK)
        status = turn(v, sigma, kept, &sides[1], tensor->columns, out->right, error);
    free(core);
    free(u);
    free(v);
    free(sigma);
    return status;
}

static int cut_joined(const adapter_tensor *tensor, const addition parts[2],
                      const adapter_factors *out, didi_error *error)
{
    uint64_t joined = parts[0].rank + parts[1].rank;
    adapter_factors all = {0};
    side sides[2] = {{0}, {0}};
    int status = factors_allocate(tensor, joined, &all, error);
    if (status == DIDI_OK) {
        join(parts, &all);
        status = side_make(all.left, joined, tensor->rows, &sides[0], error);
    }
    if (status == DIDI_OK)
        status = side_make(all.right, joined, tensor->columns, &sides[1], error);
    if (status == DIDI_OK)
        status = cut_core(tensor, joined, sides, out, error);
    side_clear(&sides[0]);
    side_clear(&sides[1]);
    adapter_factors_clear(&all);
    return status;
}

/* ---- of a whole matrix */

static void put_transposed(const float *x, uint64_t rows, uint64_t columns, float *out)
{
    for (uint64_t i = 0; i < rows; i++)
        for (uint64_t j = 0; j < columns; j++)
            out[j * rows + i] = x[i * columns + j];
}

/* At full rank one side is the matrix, the other one the identity: nothing is lost. */
static void put_whole(const adapter_tensor *tensor, const float *x, const adapter_factors *out)
{
    uint64_t rows = tensor->rows;
    uint64_t columns = tensor->columns;
    if (rows <= columns)
        memcpy(out->right, x, rows * columns * sizeof *x);
    else
        put_transposed(x, rows, columns, out->left);
    for (uint64_t i = 0; i < tensor->rank; i++)
        if (rows <= columns)
            out->left[i * rows + i] = 1.0F;
        else
            out->right[i * columns + i] = 1.0F;
}

static int put_leading(const adapter_tensor *tensor, const float *x, const adapter_factors *out,
                       didi_error *error)
{
    uint64_t rank = tensor->rank;
    triplets leading = {rank, memory_zeroed(rank, sizeof(double)), out->left, out->right, false};
    if (leading.sigma == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "%llu singular values",
                         (unsigned long long)rank);
    int status = spectrum_leading(tensor->rows, tensor->columns, x, &leading, error);
    for (uint64_t k = 0; k < rank && status == DIDI_OK; k++) {
        float root = (float)sqrt(leading.sigma[k]);
        for (uint64_t i = 0; i < tensor->rows; i++)
            out->left[k * tensor->rows + i] *= root;
        for (uint64_t j = 0; j < tensor->columns; j++)
            out->right[k * tensor->columns + j] *= root;
    }
    free(leading.sigma);
    return status;
}

static int decompose(const adapter_tensor *tensor, const addition parts[2],
                     const adapter_factors *out, didi_error *error)
{
    float *x = memory_zeroed(tensor->rows, tensor->columns * sizeof *x);
    if (x == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "a matrix of %llu x %llu",
                         (unsigned long long)tensor->rows, (unsigned long long)tensor->columns);
    int status = addition_apply(&parts[0], 0, tensor->rows, x, error);
    if (status == DIDI_OK)
        status = addition_apply(&parts[1], 0, tensor->rows, x, error);
    if (status == DIDI_OK && tensor->rank == smaller(tensor->rows, tensor->columns))
        put_whole(tensor, x, out);
    else if (status == DIDI_OK)
        status = put_leading(tensor, x, out, error);
    free(x);
    return status;
}

/* ---- as the file will hold them */

/* Powers of two move magnitude from one side to the other, so that small numbers do not fall below
 * the range of f16. */
static void balance(const adapter_tensor *tensor, const adapter_factors *factors)
{
    for (uint64_t k = 0; k < tensor->rank; k++) {
        float *left = factors->left + k * tensor->rows;
        float *right = factors->right + k * tensor->columns;
        double one = linalg_energy(left, tensor->rows) / (double)tensor->rows;
        double other = linalg_energy(right, tensor->columns) / (double)tensor->columns;
        if (!(one > 0) || !(other > 0))
            continue;
        int shift = (int)lrint(log2(other / one) / 4);
        for (uint64_t i = 0; i < tensor->rows; i++)
            left[i] = ldexpf(left[i], shift);
        for (uint64_t j = 0; j < tensor->columns; j++)
            right[j] = ldexpf(right[j], -shift);
    }
}

static int round_rows(didi_dtype dtype, float *values, uint64_t count, didi_error *error)
{
    if (didi_dtype_round(dtype, values, count) < count)
        return didi_fail(error, DIDI_NUMERIC, NULL, "a factor is beyond the range of %s",
                         didi_dtype_name(dtype));
    return DIDI_OK;
}

int adapter_factors_make(const adapter_plan *plan, const adapter_tensor *tensor, addition parts[2],
                         adapter_factors *ret_factors, didi_error *error)
{
    assert(tensor->role == ADAPTER_LORA && tensor->rank > 0);
    adapter_factors self = {0};
    uint64_t joined = tensor->shared_rank + tensor->expert_rank;
    bool whole = tensor->delta ||
                 (tensor->rank < joined && joined >= smaller(tensor->rows, tensor->columns));
    int status = factors_allocate(tensor, tensor->rank, &self, error);
    for (size_t p = 0; p < 2 && status == DIDI_OK; p++)
        status = addition_unpack(&parts[p], error);
    if (status == DIDI_OK && whole)
        status = decompose(tensor, parts, &self, error);
    else if (status == DIDI_OK && tensor->rank < joined)
        status = cut_joined(tensor, parts, &self, error);
    else if (status == DIDI_OK)
        join(parts, &self);
    if (status == DIDI_OK && plan->dtype == DIDI_DTYPE_F16)
        balance(tensor, &self);
    if (status == DIDI_OK)
        status = round_rows(plan->dtype, self.left, tensor->rank * tensor->rows, error);
    if (status == DIDI_OK)
        status = round_rows(plan->dtype, self.right, tensor->rank * tensor->columns, error);
    if (status != DIDI_OK)
        adapter_factors_clear(&self);
    else
        *ret_factors = self;
    return status;
}

void adapter_factors_clear(adapter_factors *self)
{
    free(self->left);
    free(self->right);
    *self = (adapter_factors){0};
}

/* ---- what is left out */

int adapter_measure(adapter_tensor *tensor, const addition parts[2], const adapter_factors *factors,
                    didi_error *error)
{
    uint64_t rows = tensor->rows;
    uint64_t columns = tensor->columns;
    uint64_t step = smaller(larger(PANEL_ELEMENTS / columns, 1), rows);
    float *panel = memory_aligned(step, columns * sizeof *panel);
    int status = DIDI_OK;
    if (panel == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, tensor->base->tensor->name, "panel");
    tensor->energy = tensor->error = 0;
    for (uint64_t first = 0; first < rows && status == DIDI_OK; first += step) {
        uint64_t count = smaller(rows - first, step);
        memset(panel, 0, count * columns * sizeof *panel);
        status = addition_apply(&parts[0], first, count, panel, error);
        if (status == DIDI_OK)
            status = addition_apply(&parts[1], first, count, panel, error);
        if (status != DIDI_OK)
            break;
        tensor->energy += linalg_energy(panel, count * columns);
        if (factors != NULL && tensor->rank > 0)
            linalg_gemm(true, false, count, columns, tensor->rank, -1.0F, factors->left + first,
                        rows, factors->right, columns, 1.0F, panel, columns);
        tensor->error += linalg_energy(panel, count * columns);
    }
    free(panel);
    return status;
}
