/* SPDX-License-Identifier: Apache-2.0 */
/* Reading them, and what can be wrong with them. */
#include "src/layer/family_gram.h"

#include "src/base/base.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

enum { PIECE_ELEMENTS = 1 << 16 };

/* Sums of products in float32 over many inputs end so far from symmetric, against the diagonal. */
#define ASYMMETRY_MAX 1e-3

static bool is_diagonal(const family_tensor *tensor)
{
    return tensor->base->tensor->dimensions == 1;
}

static int fail_shape(const family_tensor *tensor, const safetensors_tensor *found,
                      const char *label, didi_error *error)
{
    uint64_t n = tensor->columns;
    if (is_diagonal(tensor))
        return didi_fail(error, DIDI_MISMATCH, label,
                         "'%s' of %s has %zu axes and %" PRIu64 " numbers: it must be %" PRIu64
                         " sums of squares, one for each number that it multiplies",
                         tensor->name, label, found->dimensions, found->elements, n);
    return didi_fail(error, DIDI_MISMATCH, label,
                     "Gram matrix '%s' of %s has %zu axes and %" PRIu64 " numbers, where the "
                     "layer has %" PRIu64 " inputs: it must be %" PRIu64 " x %" PRIu64,
                     tensor->name, label, found->dimensions, found->elements, n, n, n);
}

int family_check_gram(const family *self, const family_tensor *tensor, size_t task,
                      didi_error *error)
{
    const checkpoint *from = self->tasks[task].gram;
    assert(from != NULL);
    const char *label = checkpoint_label(from);
    const checkpoint_tensor *found = checkpoint_find(from, tensor->name);
    if (found == NULL)
        return didi_fail(error, DIDI_NOT_FOUND, label, "%s holds no Gram matrix '%s'", label,
                         tensor->name);
    const safetensors_tensor *gram = found->tensor;
    size_t axes = is_diagonal(tensor) ? 1 : 2;
    if (gram->dimensions != axes || gram->shape[0] != tensor->columns ||
        gram->shape[axes - 1] != tensor->columns)
        return fail_shape(tensor, gram, label, error);
    if (gram->dtype != DIDI_DTYPE_F32 && gram->dtype != DIDI_DTYPE_F64)
        return didi_fail(error, DIDI_INVALID, label,
                         "Gram matrix '%s' of %s is %s; it must be F32 or F64", tensor->name, label,
                         didi_dtype_name(gram->dtype));
    return DIDI_OK;
}

static int read_numbers(const checkpoint *from, const checkpoint_tensor *source, double *values,
                        didi_error *error)
{
    uint64_t count = source->tensor->elements;
    if (source->tensor->dtype == DIDI_DTYPE_F64)
        return checkpoint_read(from, source, 0, values, source->tensor->bytes, error);
    float *piece = memory_aligned(PIECE_ELEMENTS, sizeof *piece);
    int status = piece != NULL ? DIDI_OK : didi_fail(error, DIDI_NO_MEMORY, NULL, "a piece");
    for (uint64_t first = 0; first < count && status == DIDI_OK; first += PIECE_ELEMENTS) {
        uint64_t part = smaller(count - first, PIECE_ELEMENTS);
        status = checkpoint_read_f32(from, source, first, piece, part, error);
        for (uint64_t i = 0; i < part && status == DIDI_OK; i++)
            values[first + i] = (double)piece[i];
    }
    free(piece);
    return status;
}

/* Of a matrix every order + 1st number, of a vector every one. */
static int check_diagonal(const family_tensor *tensor, const double *gram, const char *label,
                          didi_error *error)
{
    size_t step = is_diagonal(tensor) ? 1 : (size_t)tensor->columns + 1;
    for (size_t i = 0; i < tensor->columns; i++)
        if (!(gram[i * step] >= 0) || !isfinite(gram[i * step]))
            return didi_fail(error, DIDI_NUMERIC, label,
                             "Gram matrix '%s' of %s holds %g on its diagonal, at %zu; sums of "
                             "squares are finite and not below 0",
                             tensor->name, label, gram[i * step], i);
    return DIDI_OK;
}

int family_read_gram(const family *self, const family_tensor *tensor, size_t task, double *ret_gram,
                     atomic_ullong *bytes_read, didi_error *error)
{
    const checkpoint *from = self->tasks[task].gram;
    const checkpoint_tensor *source = checkpoint_find(from, tensor->name);
    const char *label = checkpoint_label(from);
    size_t n = tensor->columns;
    size_t rows = is_diagonal(tensor) ? 0 : n; /* that could be unlike columns */
    assert(source != NULL && source->tensor->elements == (rows == 0 ? n : (uint64_t)n * n));
    int status = read_numbers(from, source, ret_gram, error);
    if (status == DIDI_OK)
        status = check_diagonal(tensor, ret_gram, label, error);
    if (status != DIDI_OK)
        return status;
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < i; j++) {
            double *here = ret_gram + i * n + j;
            double *there = ret_gram + j * n + i;
            double size = sqrt(ret_gram[i * n + i]) * sqrt(ret_gram[j * n + j]);
            if (!isfinite(*here) || !isfinite(*there))
                return didi_fail(error, DIDI_NUMERIC, label,
                                 "Gram matrix '%s' of %s holds NaN or Inf at (%zu, %zu)",
                                 tensor->name, label, isfinite(*here) ? j : i,
                                 isfinite(*here) ? i : j);
            if (!(fabs(*here - *there) <= ASYMMETRY_MAX * size))
                return didi_fail(error, DIDI_NUMERIC, label,
                                 "Gram matrix '%s' of %s is not symmetric: %g at (%zu, %zu), %g "
                                 "where rows and columns are exchanged",
                                 tensor->name, label, *here, i, j, *there);
            *here = *there = *here / 2 + *there / 2;
        }
    atomic_fetch_add_explicit(bytes_read, source->tensor->bytes, memory_order_relaxed);
    return DIDI_OK;
}
