/* SPDX-License-Identifier: Apache-2.0 */
/* Products of factors, small where those of the matrices they make would be large. */
#include "src/layer/factors.h"

#include "src/base/base.h"
#include "src/layer/layer.h"
#include "src/math/math.h"
#include "src/package/package.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

void factors_free(layer_factors *self)
{
    if (self == NULL)
        return;
    free(self->held);
    free(self->first);
    free(self->left);
    free(self->right);
    free(self);
}

static layer_factors *allocate(const layer *of, const size_t *rank)
{
    size_t count = 0;
    layer_factors *fresh = memory_zeroed(1, sizeof *fresh);
    if (fresh == NULL)
        return NULL;
    fresh->held = memory_zeroed(of->tasks, sizeof *fresh->held);
    fresh->first = memory_zeroed(of->tasks + 1, sizeof *fresh->first);
    for (size_t t = 0; t < of->tasks && fresh->held != NULL && fresh->first != NULL; t++) {
        fresh->held[t] = rank[t] != LAYER_DENSE;
        count += fresh->held[t] ? rank[t] : 0;
        fresh->first[t + 1] = count;
    }
    fresh->left = memory_aligned(count, of->rows * sizeof(float));
    fresh->right = memory_aligned(count, of->columns * sizeof(float));
    if (fresh->held != NULL && fresh->first != NULL && fresh->left != NULL && fresh->right != NULL)
        return fresh;
    factors_free(fresh);
    return NULL;
}

int factors_create(layer *self, const size_t *rank, didi_error *error)
{
    self->factors = allocate(self, rank);
    return self->factors != NULL
               ? DIDI_OK
               : didi_fail(error, DIDI_NO_MEMORY, NULL, "factors of %zu task vectors of %zu x %zu",
                           self->tasks, self->rows, self->columns);
}

bool layer_holds_factors(const layer *self, size_t task)
{
    assert(task < self->tasks);
    return self->factors != NULL && self->factors->held[task];
}

size_t layer_factor_rank(const layer *self, size_t task)
{
    assert(layer_holds_factors(self, task));
    return self->factors->first[task + 1] - self->factors->first[task];
}

float *layer_tau(const layer *self, size_t task)
{
    assert(self->tau != NULL && !layer_holds_factors(self, task));
    size_t before = 0;
    for (size_t t = 0; t < task; t++)
        before += !layer_holds_factors(self, t);
    return self->tau + before * self->rows * self->columns;
}

/* ---- products ---- */

/* Columns of the basis x count core: those of each task times its share of the mean. */
static void weigh_core(const layer *self, size_t basis, float *core)
{
    const size_t *first = self->factors->first;
    size_t count = first[self->tasks];
    for (size_t t = 0; t < self->tasks; t++) {
        float share = layer_share(self, t);
        for (size_t i = 0; i < basis; i++)
            for (size_t j = first[t]; j < first[t + 1]; j++)
                core[i * count + j] *= share;
    }
}

int factors_apply(const layer *self, size_t index, const factors_product *product,
                  didi_error *error)
{
    const layer_factors *held = self->factors;
    size_t inner = product->transpose ? self->columns : self->rows;
    size_t outer = product->transpose ? self->rows : self->columns;
    size_t first = index > 0 ? held->first[index - 1] : 0;
    size_t count = (index > 0 ? held->first[index] : held->first[self->tasks]) - first;
    const float *from = (product->transpose ? held->right : held->left) + first * inner;
    const float *to = (product->transpose ? held->left : held->right) + first * outer;
    if (layer_is_cancelled(self))
        return didi_fail(error, DIDI_CANCELLED, NULL, "cancelled");
    if (count == 0) {
        if (!product->add)
            memset(product->out, 0, product->basis * outer * sizeof *product->out);
        return DIDI_OK;
    }
    float *core = memory_aligned(product->basis, count * sizeof *core);
    if (core == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "product of %zu x %zu", product->basis,
                         count);
    layer_count_product(self, product->basis, inner + outer, count);
    linalg_gemm_shared(self->parallel, false, true, product->basis, count, inner, 1.0F, product->in,
                       inner, from, inner, 0.0F, core, count);
    if (index == 0)
        weigh_core(self, product->basis, core);
    linalg_gemm_shared(self->parallel, false, false, product->basis, outer, count, 1.0F, core,
                       count, to, outer, product->add ? 1.0F : 0.0F, product->out, outer);
    free(core);
    return DIDI_OK;
}

void factors_read_rows(const layer *self, size_t task, size_t first_row, size_t rows, float *out)
{
    size_t rank = layer_factor_rank(self, task);
    size_t first = self->factors->first[task];
    if (rank == 0)
        memset(out, 0, rows * self->columns * sizeof *out);
    else if (rows > 0)
        linalg_gemm(true, false, rows, self->columns, rank, 1.0F,
                    self->factors->left + first * self->rows + first_row, self->rows,
                    self->factors->right + first * self->columns, self->columns, 0.0F, out,
                    self->columns);
}

/* ---- inner products ---- */

/* ret_products (count x count) = <left_i' right_i, left_j' right_j>. */
static int multiply_all(const layer *self, size_t first, size_t count, double *ret_products,
                        didi_error *error)
{
    double *rights = memory_aligned(count * count, sizeof *rights);
    if (rights == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "inner products of factors");
    int status =
        linalg_gram_rows_double(count, self->rows, self->factors->left + first * self->rows,
                                self->rows, ret_products, error);
    if (status == DIDI_OK)
        status = linalg_gram_rows_double(count, self->columns,
                                         self->factors->right + first * self->columns,
                                         self->columns, rights, error);
    for (size_t i = 0; i < count * count && status == DIDI_OK; i++)
        ret_products[i] *= rights[i];
    free(rights);
    return status;
}

int factors_energy(const layer *self, size_t task, double *ret_energy, didi_error *error)
{
    size_t rank = layer_factor_rank(self, task);
    double sum = 0;
    if (rank > 0) {
        double *products = memory_aligned(rank * rank, sizeof *products);
        if (products == NULL)
            return didi_fail(error, DIDI_NO_MEMORY, NULL, "inner products of factors");
        int status = multiply_all(self, self->factors->first[task], rank, products, error);
        for (size_t i = 0; i < rank * rank && status == DIDI_OK; i++)
            sum += products[i];
        free(products);
        if (status != DIDI_OK)
            return status;
    }
    if (!isfinite(sum))
        return didi_fail(error, DIDI_NUMERIC, NULL, "factors are too large for numbers");
    *ret_energy = sum > 0 ? sum : 0;
    return DIDI_OK;
}

int layer_factor_gram(const layer *self, double *ret_gram, didi_error *error)
{
    assert(self->factors != NULL && self->dense_tasks == 0);
    const size_t *first = self->factors->first;
    size_t count = first[self->tasks];
    memset(ret_gram, 0, self->tasks * self->tasks * sizeof *ret_gram);
    if (count == 0)
        return DIDI_OK;
    double *products = memory_aligned(count * count, sizeof *products);
    if (products == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "inner products of factors");
    int status = multiply_all(self, 0, count, products, error);
    for (size_t s = 0; s < self->tasks && status == DIDI_OK; s++)
        for (size_t t = 0; t < self->tasks; t++)
            for (size_t i = first[s]; i < first[s + 1]; i++)
                for (size_t j = first[t]; j < first[t + 1]; j++)
                    ret_gram[s * self->tasks + t] += products[i * count + j];
    free(products);
    return status;
}

/* ---- what is taken away ---- */

static void append_offset(const layer *self, const layer_factors *to, size_t task)
{
    const addition *offset = self->offset;
    size_t rank = layer_factor_rank(self, task);
    const size_t old = self->factors->first[task];
    float *left = to->left + to->first[task] * self->rows;
    float *right = to->right + to->first[task] * self->columns;
    memcpy(left, self->factors->left + old * self->rows, rank * self->rows * sizeof *left);
    memcpy(right, self->factors->right + old * self->columns, rank * self->columns * sizeof *right);
    for (size_t i = 0; i < offset->rank; i++)
        for (size_t j = 0; j < self->rows; j++)
            left[(rank + i) * self->rows + j] = -offset->left[j * offset->rank + i];
    memcpy(right + rank * self->columns, offset->right,
           offset->rank * self->columns * sizeof *right);
}

int factors_take_away(layer *self, didi_error *error)
{
    int status = addition_unpack(self->offset, error);
    assert(self->offset->delta == NULL && self->offset->delta_bytes == NULL);
    size_t *rank = memory_zeroed(self->tasks, sizeof *rank);
    if (status == DIDI_OK && rank == NULL)
        status = didi_fail(error, DIDI_NO_MEMORY, NULL, "shared part of a layer");
    for (size_t t = 0; t < self->tasks && status == DIDI_OK; t++)
        rank[t] = layer_holds_factors(self, t) ? layer_factor_rank(self, t) + self->offset->rank
                                               : LAYER_DENSE;
    layer_factors *fresh = status == DIDI_OK ? allocate(self, rank) : NULL;
    free(rank);
    if (status != DIDI_OK)
        return status;
    if (fresh == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "shared part of a layer");
    for (size_t t = 0; t < self->tasks; t++)
        if (fresh->held[t])
            append_offset(self, fresh, t);
    factors_free(self->factors);
    self->factors = fresh;
    return DIDI_OK;
}
