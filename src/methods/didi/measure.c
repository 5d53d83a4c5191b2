/* SPDX-License-Identifier: Apache-2.0 */
/* |S + E - tau|^2 = |tau|^2 + |S|^2 + |E|^2 - 2 <tau, S> - 2 <tau, E> + 2 <S, E>. */
#include "src/methods/didi/measure.h"

#include "src/base/base.h"
#include "src/math/math.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* out (k x m): row i is column i of b; in squares, so that both are read in order. */
static void copy_columns(const solve_factors *from, size_t m, float *out)
{
    enum { SQUARE = 64 };
    size_t k = from->rank;
    for (size_t first = 0; first < m; first += SQUARE)
        for (size_t i = 0; i < k; i++)
            for (size_t j = first; j < m && j < first + SQUARE; j++)
                out[i * m + j] = from->b[j * k + i];
}

/* Entry-wise, of two tables. */
static void multiply_into(double *table, const double *other, size_t count)
{
    for (size_t i = 0; i < count; i++)
        table[i] *= other[i];
}

int measure_shared_create(const layer *target, const solve_factors *factors,
                          measure_shared *ret_shared, didi_error *error)
{
    size_t k = factors->rank;
    *ret_shared = (measure_shared){.factors = factors};
    if (k == 0)
        return DIDI_OK;
    ret_shared->left = memory_aligned(k, target->rows * sizeof(float));
    double *lefts = memory_aligned(2 * k * k, sizeof *lefts);
    if (ret_shared->left == NULL || lefts == NULL) {
        free(lefts);
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "shared factors of rank %zu", k);
    }
    double *rights = lefts + k * k;
    copy_columns(factors, target->rows, ret_shared->left);
    int status =
        linalg_gram_rows_double(k, target->rows, ret_shared->left, target->rows, lefts, error);
    if (status == DIDI_OK)
        status =
            linalg_gram_rows_double(k, target->columns, factors->a, target->columns, rights, error);
    if (status == DIDI_OK) {
        multiply_into(lefts, rights, k * k);
        for (size_t i = 0; i < k * k; i++)
            ret_shared->energy += lefts[i];
    }
    layer_count_product(target, k, k, target->rows + target->columns);
    free(lefts);
    return status;
}

void measure_shared_clear(measure_shared *self)
{
    free(self->left);
    *self = (measure_shared){0};
}

/* tau_t and the expert, their factors side by side as rows. */
typedef struct pairs {
    size_t rank, count; /* rows of tau_t; all */
    float *left, *right;
} pairs;

static int pairs_create(const layer *target, size_t task, const solve_factors *expert,
                        pairs *ret_pairs, didi_error *error)
{
    size_t m = target->rows;
    size_t n = target->columns;
    size_t rank = layer_factor_rank(target, task);
    size_t first = target->factors->first[task];
    pairs fresh = {rank, rank + expert->rank, NULL, NULL};
    fresh.left = memory_aligned(fresh.count, m * sizeof(float));
    fresh.right = memory_aligned(fresh.count, n * sizeof(float));
    if (fresh.left == NULL || fresh.right == NULL) {
        free(fresh.left);
        free(fresh.right);
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "factors of rank %zu", fresh.count);
    }
    memcpy(fresh.left, target->factors->left + first * m, rank * m * sizeof(float));
    memcpy(fresh.right, target->factors->right + first * n, rank * n * sizeof(float));
    copy_columns(expert, m, fresh.left + rank * m);
    if (expert->rank > 0)
        memcpy(fresh.right + rank * n, expert->a, expert->rank * n * sizeof(float));
    *ret_pairs = fresh;
    return DIDI_OK;
}

typedef struct sums {
    double tau_tau, tau_expert, expert_expert, tau_shared, expert_shared;
} sums;

/* `lefts` and `rights` hold count x larger(count, shared rank) numbers. */
static int sum_own(const layer *target, const pairs *of, double *lefts, double *rights, sums *out,
                   didi_error *error)
{
    size_t count = of->count;
    int status = linalg_gram_rows_double(count, target->rows, of->left, target->rows, lefts, error);
    if (status == DIDI_OK)
        status = linalg_gram_rows_double(count, target->columns, of->right, target->columns, rights,
                                         error);
    if (status != DIDI_OK)
        return status;
    multiply_into(lefts, rights, count * count);
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < count; j++) {
            double *into = i >= of->rank ? &out->expert_expert : &out->tau_expert;
            if (j < of->rank)
                into = i < of->rank ? &out->tau_tau : NULL; /* the mirrored half */
            if (into != NULL)
                *into += lefts[i * count + j];
        }
    layer_count_product(target, count, count, target->rows + target->columns);
    return DIDI_OK;
}

static int sum_shared(const layer *target, const pairs *of, const measure_shared *shared,
                      double *lefts, double *rights, sums *out, didi_error *error)
{
    size_t k = shared->factors->rank;
    int status =
        linalg_products_double(of->count, k, target->rows, of->left, shared->left, lefts, error);
    if (status == DIDI_OK)
        status = linalg_products_double(of->count, k, target->columns, of->right,
                                        shared->factors->a, rights, error);
    if (status != DIDI_OK)
        return status;
    multiply_into(lefts, rights, of->count * k);
    for (size_t i = 0; i < of->count * k; i++)
        *(i < of->rank * k ? &out->tau_shared : &out->expert_shared) += lefts[i];
    layer_count_product(target, of->count, k, target->rows + target->columns);
    return DIDI_OK;
}

int measure_factors(const layer *target, size_t task, const measure_shared *shared,
                    const solve_factors *expert, double *ret_error, double *ret_unshared,
                    didi_error *error)
{
    assert(layer_holds_factors(target, task) && shared->factors != NULL);
    size_t k = shared->factors->rank;
    pairs of;
    sums found = {0};
    int status = pairs_create(target, task, expert, &of, error);
    if (status != DIDI_OK)
        return status;
    size_t room = of.count * larger(of.count, k);
    double *lefts = memory_aligned(2 * room, sizeof *lefts);
    if (lefts == NULL)
        status = didi_fail(error, DIDI_NO_MEMORY, NULL, "inner products of factors");
    if (status == DIDI_OK && of.count > 0)
        status = sum_own(target, &of, lefts, lefts + room, &found, error);
    if (status == DIDI_OK && of.count > 0 && k > 0)
        status = sum_shared(target, &of, shared, lefts, lefts + room, &found, error);
    free(lefts);
    free(of.left);
    free(of.right);
    if (status != DIDI_OK)
        return status;
    double unshared = found.tau_tau - 2 * found.tau_shared + shared->energy;
    double left = unshared + found.expert_expert - 2 * found.tau_expert + 2 * found.expert_shared;
    *ret_unshared = unshared > 0 ? unshared : 0;
    *ret_error = left > 0 ? left : 0;
    return DIDI_OK;
}
