/* SPDX-License-Identifier: Apache-2.0 */
/* Blocks of a layer in few bits: first one factor, then the other refitted to it. */
#include "src/methods/didi/pursuit.h"

#include "src/base/base.h"
#include "src/math/math.h"
#include "src/package/package.h"

#include <stdlib.h>
#include <string.h>

/* bits[k] of a block's components, descending. */
static void list_bits(const size_t components[PRECISION_WIDTHS], uint8_t *bits)
{
    size_t at = 0;
    for (size_t i = PRECISION_WIDTHS; i-- > 0;)
        for (size_t c = 0; c < components[i]; c++)
            bits[at++] = (uint8_t)precision_width_bits[i];
}

typedef struct rounding {
    size_t k, length, at_once;
    const uint8_t *bits;
    const float *rows;
    float *out;
} rounding;

static int round_some(void *argument, size_t index, didi_error *error)
{
    const rounding *self = argument;
    size_t length = self->length;
    size_t first = index * self->at_once;
    size_t end = first + smaller(self->at_once, self->k - first);
    uint8_t *row = memory_zeroed(packed_row_room(length), 1);
    if (row == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "packed row of %zu numbers", length);
    for (size_t i = first; i < end; i++)
        packed_row_round(self->rows + i * length, length, self->bits[i], row,
                         self->out + i * length);
    free(row);
    return DIDI_OK;
}

/* out (k x m) = what left rows become when each is quantised to its bits. */
static int round_left(const layer *target, size_t k, const uint8_t *bits, const float *rows,
                      float *out, didi_error *error)
{
    enum { NUMBERS_AT_ONCE = 1 << 16 };
    size_t at_once = larger(NUMBERS_AT_ONCE / target->rows, 1);
    rounding all = {k, target->rows, at_once, bits, rows, out};
    return parallel_try(target->parallel, (k + at_once - 1) / at_once, round_some, &all, error);
}

/* right (k x n) = the least-squares answer to left' right ~ X, X being what the other blocks leave.
 */
static int refit_right(const layer *target, size_t index, size_t k, const float *left, float *right,
                       didi_error *error)
{
    double *gram = memory_aligned(k * k, sizeof *gram);
    if (gram == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "Gram matrix of rank %zu", k);
    int status = layer_apply_residual(target, index, false, k, left, right, error);
    if (status == DIDI_OK)
        status =
            linalg_gram_rows(target->parallel, k, target->rows, left, target->rows, gram, error);
    if (status == DIDI_OK)
        status = linalg_solve_spd(target->parallel, k, gram, target->columns, right, error);
    free(gram);
    return status;
}

typedef struct unpacking {
    const packed *from;
    block *to;
    solve_factors *out;
} unpacking;

/* Columns of B lie beside each other: a line of memory holds this many numbers of them. */
enum { UNPACKED_AT_ONCE = 16 };

static void unpack_some(void *argument, size_t first, size_t end)
{
    const unpacking *self = argument;
    size_t m = self->from->m;
    size_t n = self->from->n;
    size_t k = self->from->rank;
    for (size_t i = first; i < end; i++) {
        packed_left(self->from, i, self->to->left + i * m);
        packed_right(self->from, i, self->to->right + i * n);
        memcpy(self->out->a + i * n, self->to->right + i * n, n * sizeof(float));
    }
    for (size_t j = 0; j < m; j++)
        for (size_t i = first; i < end; i++)
            self->out->b[j * k + i] = self->to->left[i * m + j];
}

/* Reads the packed rows back: the block and its factors become what is stored. */
static int adopt_packed(layer *target, size_t index, const uint8_t *bytes, size_t count,
                        solve_factors *out, didi_error *error)
{
    packed found;
    block *to = &target->blocks[index];
    size_t m = target->rows;
    size_t n = target->columns;
    int status = packed_parse(bytes, count, m, n, "factors", &found, error);
    if (status != DIDI_OK)
        return status;
    size_t k = found.rank;
    out->rank = k;
    out->b = layer_allocate(target, k, m * sizeof(float));
    out->a = layer_allocate(target, k, n * sizeof(float));
    if (out->b == NULL || out->a == NULL)
        return layer_fail_allocation(target, error);
    unpacking all = {&found, to, out};
    parallel_ranges(target->parallel, k, UNPACKED_AT_ONCE, unpack_some, &all);
    return DIDI_OK;
}

static int quantise_block(layer *target, size_t index, const layer_summary *summary,
                          solve_package *package, didi_error *error)
{
    size_t k = summary->rank[index];
    size_t m = target->rows;
    size_t n = target->columns;
    if (k == 0 || summary->dense[index])
        return DIDI_OK;
    int status = layer_make_singular(target, index, error);
    uint8_t *bits = memory_zeroed(k, 1);
    float *left = layer_allocate(target, k, m * sizeof(float));
    float *right = layer_allocate(target, k, n * sizeof(float));
    if (status == DIDI_OK && (bits == NULL || left == NULL || right == NULL))
        status = layer_fail_allocation(target, error);
    if (status != DIDI_OK)
        goto out;
    list_bits(summary->components[index], bits);
    status = round_left(target, k, bits, target->blocks[index].left, left, error);
    if (status == DIDI_OK)
        status = refit_right(target, index, k, left, right, error);
    if (status != DIDI_OK)
        goto out;
    package->packed_bytes[index] = packed_factors_bytes(m, n, bits, k);
    package->packed[index] = memory_zeroed(package->packed_bytes[index], 1);
    if (package->packed[index] == NULL) {
        status = didi_fail(error, DIDI_NO_MEMORY, NULL, "packed factors of rank %zu", k);
        goto out;
    }
    packed_factors_share(target->parallel,
                         &(packed_factors){m, n, k, bits, target->blocks[index].left, right},
                         package->packed[index]);
    status = adopt_packed(target, index, package->packed[index], package->packed_bytes[index],
                          &package->factors[index], error);
out:
    free(bits);
    spill_free(left);
    spill_free(right);
    return status;
}

typedef struct quantise_experts {
    layer *layer;
    size_t first; /* task of the first expert under way */
    const layer_summary *summary;
    solve_package *package;
} quantise_experts;

static int quantise_expert(void *argument, size_t task, didi_error *error)
{
    const quantise_experts *quantising = argument;
    size_t index = quantising->first + task + 1;
    int status =
        quantise_block(quantising->layer, index, quantising->summary, quantising->package, error);
    layer_drop_block(quantising->layer, index); /* the factors say the same */
    return status;
}

int solve_quantise(layer *target, const layer_summary *summary, solve_package *package,
                   didi_error *error)
{
    quantise_experts quantising = {target, 0, summary, package};
    size_t lanes = target->lanes > 0 ? target->lanes : target->tasks;
    int status = quantise_block(target, 0, summary, package, error);
    for (; quantising.first < target->tasks && status == DIDI_OK; quantising.first += lanes) {
        size_t count = smaller(target->tasks - quantising.first, lanes);
        status = parallel_try(target->parallel, count, quantise_expert, &quantising, error);
    }
    return status;
}
