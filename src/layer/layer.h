/* SPDX-License-Identifier: Apache-2.0 */
/* One weight matrix of a family in memory: its task vectors, and the shared and expert blocks that
 * approximate them. Notation of method.md: tau_t (m x n) ~ S + E_t, S and E_t of low rank.
 *
 * A block is held as rows: left (k x m) and right (k x n), the matrix being left' * right. After an
 * subspace step the left rows are orthonormal and right row i has norm sigma_i, in descending
 * order. Rows from `rank` to `basis` are not part of the matrix: they keep the subspace warm for
 * the next step. */
#pragma once

#include "src/base/base.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct addition;

typedef struct block {
    size_t rank;
    size_t basis;
    float *left;
    float *right;
    double *sigma;      /* `basis` values */
    bool left_is_fresh; /* left was solved for last, so right comes next */
} block;

/* Where a layer that does not hold its dense matrices reads them, elements [first, first + count)
 * of the matrix row by row. Calls come from several threads; what they return is final. */
typedef struct layer_source {
    void *context;
    int (*read_base)(void *context, uint64_t first, size_t count, float *out, didi_error *error);
    /* out = W_t - base, `base` being what read_base gave for the same elements */
    int (*read_delta)(void *context, size_t task, uint64_t first, size_t count, const float *base,
                      float *out, didi_error *error);
    /* Ends the use of context; may be NULL. Called by layer_free. */
    void (*release)(void *context);
    /* These elements of model 0 (the base) or t + 1 are read soon; may be NULL. */
    void (*will_need)(void *context, size_t model, uint64_t first, uint64_t count);
} layer_source;

typedef struct layer {
    size_t rows, columns, tasks; /* m, n, T */
    float *tau;                  /* T x m x n; NULL in a streamed layer */
    float *mean;                 /* m x n: sum_t w_t tau_t / sum_t w_t; NULL likewise */
    layer_source source;         /* of a streamed layer */
    struct addition *offset;     /* of a streamed layer: tau is what it reads less this */
    double *weight;              /* T: w_t >= 0; 0 takes a task out of the shared fit */
    double weight_sum;
    double *energy;     /* T: |tau_t|_F^2 */
    block *blocks;      /* T + 1: shared, then the experts */
    double gain;        /* blocks approximate gain tau_t: 1, or what solve_restore made it */
    uint64_t seed;      /* of the random rows; one per layer */
    parallel *parallel; /* may be NULL */
    size_t lanes;       /* experts updated at once; 0 = all. Results do not depend on it */
    const atomic_bool *cancelled;
    atomic_ullong *flops; /* counts operations of float32 products, by their shapes; may be NULL */
    bool weighted;        /* `mean` is of these weights and task vectors */
    bool spilled;         /* factors and what updates them live in unlinked files ... */
    int scratch_fd;       /* ... of this directory (base/spill.h) */
} layer;

/* Makes an empty layer with room for tau and mean (uninitialised), weights 1, no blocks.
 * Errors: DIDI_NO_MEMORY. Freed with layer_free (NULL is fine). */
int layer_create(size_t rows, size_t columns, size_t tasks, layer **ret_layer, didi_error *error);
void layer_free(layer *layer);
/* A streamed layer: its dense matrices stay where `source` reads them and are multiplied panel by
 * panel. Everything below works on it but what takes a whole matrix (solve_spectra,
 * solve_start_from_mean), and gives the same bits. Errors: DIDI_NO_MEMORY. */
int layer_create_streamed(size_t rows, size_t columns, size_t tasks, const layer_source *source,
                          layer **ret_layer, didi_error *error);
bool layer_is_streamed(const layer *layer);

/* Rows of the panels that products are made of: fixed by the shape alone, and with it the order of
 * every sum. A streamed layer holds two panels for a product and one for each thread. */
size_t layer_panel_rows(size_t rows, size_t columns);

/* tau_t -= `offset` for every task, on the spot or, in a streamed layer, wherever it is read from
 * now on; the energies are measured again. `offset` becomes the layer's, whatever the outcome. No
 * bit depends on how many threads help, or on whether the layer is streamed. Once for a layer;
 * layer_set_weights must follow. Errors: DIDI_NO_MEMORY, DIDI_CANCELLED, those of the source. */
int layer_take_away(layer *layer, const struct addition *offset, didi_error *error);

/* Uninitialised memory for count * size bytes of factors or scratch: spilled when the layer is,
 * else from malloc. NULL when there is none, and layer_fail_allocation then tells why. For
 * spill_free. */
void *layer_allocate(const layer *layer, size_t count, size_t size);
/* DIDI_DISK_FULL or DIDI_NO_MEMORY. */
int layer_fail_allocation(const layer *layer, didi_error *error);

/* Largest rank a block can have: min(m, n). */
size_t layer_full_rank(const layer *layer);

/* Fills energy from tau; with it the weights (see weighting.h) can be set, then layer_set_weights
 * copies T weights and forms the weighted mean. Errors: those of the source. */
int layer_measure(layer *layer, didi_error *error);
void layer_set_weights(layer *layer, const double *weight);

/* One subspace step for block `index` (0 = shared): the residual X of the block given all others is
 * applied to the warm rows and to fresh random ones, `basis` in all (at most min(m, n)); the
 * block's rows become the leading Ritz directions of X there. `rank` is cut to the new basis, never
 * raised. With rank <= basis kept, |X - block|^2 never rises (method.md 4: each half is a
 * least-squares optimum, and the Ritz rotation keeps the best of the space). X is tau_t - S for an
 * expert and sum_t w_t (tau_t - E_t) / sum w for the shared block. Cost: 4 m n basis flops and
 * about 5 basis^2 (m + n). Errors: DIDI_NO_MEMORY, DIDI_NUMERIC, DIDI_CANCELLED. */
int layer_update(layer *layer, size_t index, size_t basis, didi_error *error);

/* Half of layer_update, at half its cost: the side solved for last, made orthonormal, with random
 * rows up to `basis`, is multiplied to the other one; both are rotated to the Ritz directions and
 * sigma is on the right as after layer_update. The sides alternate from call to call. A block
 * without rows gets a whole layer_update. Rank and errors as there. */
int layer_turn(layer *layer, size_t index, size_t basis, didi_error *error);

/* Half an ALS sweep: with the side of the blocks that was solved for last (the right one after
 * layer_update) made orthonormal, the other side of all of them, at their ranks, becomes the joint
 * least-squares answer of sum_t w_t |tau_t - S - E_t|^2; rows beyond the ranks are dropped. Sides
 * alternate from call to call. *ret_loss is the loss at that answer, accurate to about 5e-6 of the
 * weighted energy, and is no higher than before. The blocks then go `relax` times the way to it: 1
 * for the answer itself; below 2 the loss does not rise either. sigma holds the lengths of the new
 * rows. Where the weights sum to 0 the shared block stays and the experts fit it. Not after
 * solve_restore. Cost: 2 m n rank flops a block; for an expert, 4 rank k_s of the new side's
 * length and 2 of the other's besides. Errors: DIDI_NO_MEMORY, DIDI_NUMERIC, DIDI_CANCELLED, those
 * of the source; the blocks are then undefined, though valid. */
int layer_half_sweep(layer *layer, double relax, double *ret_loss, didi_error *error);

/* Turns block `index` to its singular directions, the matrix staying what it is: left rows
 * orthonormal, right rows orthogonal, sigma descending; rows beyond the rank are dropped. Errors:
 * DIDI_NO_MEMORY, DIDI_NUMERIC. */
int layer_make_singular(layer *layer, size_t index, didi_error *error);

/* out (basis x m) = in (basis x n) X' when `transpose`, else out (basis x n) = in (basis x m) X, X
 * being the residual of layer_update. Errors: DIDI_NO_MEMORY, those of the source. */
int layer_apply_residual(const layer *layer, size_t index, bool transpose, size_t basis,
                         const float *in, float *out, didi_error *error);

typedef enum layer_step { LAYER_UPDATE, LAYER_TURN } layer_step;

/* layer_update or layer_turn for every expert, in parallel, basis[T] giving each
 * one's size. */
int layer_update_experts(layer *layer, layer_step kind, const size_t *basis, didi_error *error);

/* Sets block `index` from scratch to the leading `basis` singular triplets of a dense m x n matrix,
 * exactly (spectrum.h), with rank = basis. */
int layer_set_block(layer *layer, size_t index, const float *matrix, size_t basis,
                    didi_error *error);

/* Gives a block `basis` rows of memory (contents undefined), rank 0. Errors: DIDI_NO_MEMORY. */
int layer_resize_block(layer *layer, size_t index, size_t basis, didi_error *error);

/* out (basis x m) = in (basis x n) D' when `transpose`, else out (basis x n) = in (basis x m) D,
 * for D (m x n) the weighted mean (index 0) or tau_t (index t + 1); panels in parallel over the
 * threads. Errors: those of the source, DIDI_NO_MEMORY, DIDI_CANCELLED; out is then undefined. */
int layer_apply(const layer *layer, size_t index, bool transpose, size_t basis, const float *in,
                float *out, didi_error *error);

/* out (rows x n) = rows [first_row, first_row + rows) of tau_task. Errors as layer_apply. */
int layer_read_rows(const layer *layer, size_t task, size_t first_row, size_t rows, float *out,
                    didi_error *error);

/* Empties a block. */
void layer_drop_block(layer *layer, size_t index);

/* Makes a block's basis at least `rows`: left rows of zeros (the matrix stays what it is) and
 * random right ones. Errors: DIDI_NO_MEMORY. */
int layer_pad_block(layer *layer, size_t index, size_t rows, didi_error *error);

/* errors[t] of every task and their weighted sum right after the experts were updated, when
 * |X - E_t|^2 = |X|^2 - sum sigma^2: one product with the shared block for each. Accurate to about
 * 1e-6 of the energies. */
int layer_errors_fitted(const layer *layer, double *errors, double *ret_loss, didi_error *error);

/* errors[t] = |tau_t - S - E_t|_F^2 from inner products, without a dense rebuild: exact to about
 * 1e-6 of energy[t]. `errors` holds T doubles. Returns the weighted sum through ret_loss (may be
 * NULL). */
int layer_loss(const layer *layer, double *errors, double *ret_loss, didi_error *error);

/* Weighted energy sum_t w_t |tau_t|^2: what a loss is relative to. */
double layer_weighted_energy(const layer *layer);

bool layer_is_cancelled(const layer *layer);

/* Counts a product of m x k and k x n. */
void layer_count_product(const layer *layer, size_t m, size_t n, size_t k);
