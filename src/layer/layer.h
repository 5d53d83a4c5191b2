/* SPDX-License-Identifier: Apache-2.0 */
/* The shared and expert blocks that approximate the task vectors of one weight matrix. Notation of
 * method.md: tau_t (m x n) ~ S + E_t, S and E_t of low rank.
 *
 * A block is held as rows: left (k x m) and right (k x n), the matrix being left' * right. After a
 * subspace step the left rows are orthonormal and right row i has norm sigma_i, in descending
 * order. Rows from `rank` to `basis` are not part of the matrix: they keep the subspace warm for
 * the next step. */
#pragma once

#include "src/layer/family.h"
#include "src/layer/family_gram.h"
#include "src/layer/family_ranks.h"
#include "src/layer/matrix.h"

/* ---- steps ---- */

/* One subspace step for block `index` (0 = shared): the residual X of the block given all others is
 * applied to the warm rows and to fresh random ones, `basis` in all (at most min(m, n)); the
 * block's rows become the leading Ritz directions of X there. `rank` is cut to the new basis, never
 * raised. With rank <= basis kept, |X - block|^2 never rises (method.md 7: each half is a
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
 * rows. Where the weights sum to 0 the shared block stays and the experts fit it. Must not be
 * called after solve_restore. Cost: 2 m n rank flops a block; for an expert, 4 rank k_s of the new
 * side's length and 2 of the other's besides. Errors: DIDI_NO_MEMORY, DIDI_NUMERIC, DIDI_CANCELLED,
 * those of the source; the blocks are then undefined, though valid. */
int layer_half_sweep(layer *layer, double relax, double *ret_loss, didi_error *error);

/* Turns block `index` to its singular directions, the matrix staying what it is: left rows
 * orthonormal, right rows orthogonal, sigma descending; rows beyond the rank are dropped. Errors:
 * DIDI_NO_MEMORY, DIDI_NUMERIC. */
int layer_make_singular(layer *layer, size_t index, didi_error *error);

typedef enum layer_step { LAYER_UPDATE, LAYER_TURN } layer_step;

/* layer_update or layer_turn of every expert, in parallel; basis[T] has the size of each. */
int layer_update_experts(layer *layer, layer_step kind, const size_t *basis, didi_error *error);

/* out (basis x m) = in (basis x n) X' when `transpose`, else out (basis x n) = in (basis x m) X, X
 * being the residual of layer_update. Errors: DIDI_NO_MEMORY, those of the source. */
int layer_apply_residual(const layer *layer, size_t index, bool transpose, size_t basis,
                         const float *in, float *out, didi_error *error);

/* ---- blocks ---- */

/* Sets block `index` from scratch to the leading `basis` singular triplets of a dense m x n matrix,
 * exactly (spectrum.h), with rank = basis. */
int layer_set_block(layer *layer, size_t index, const float *matrix, size_t basis,
                    didi_error *error);

/* Gives a block `basis` rows of memory (contents undefined), rank 0. Errors: DIDI_NO_MEMORY. */
int layer_resize_block(layer *layer, size_t index, size_t basis, didi_error *error);

/* Empties a block. */
void layer_drop_block(layer *layer, size_t index);

/* Makes a block's basis at least `rows`: left rows of zeros (the matrix stays what it is) and
 * random right ones. Errors: DIDI_NO_MEMORY. */
int layer_pad_block(layer *layer, size_t index, size_t rows, didi_error *error);

/* ---- losses ---- */

/* errors[t] of every task and their weighted sum right after the experts were updated, when
 * |X - E_t|^2 = |X|^2 - sum sigma^2: one product with the shared block for each. Accurate to about
 * 1e-6 of the energies. */
int layer_errors_fitted(const layer *layer, double *errors, double *ret_loss, didi_error *error);

/* errors[t] = |tau_t - S - E_t|_F^2 from inner products, without a dense rebuild: exact to about
 * 1e-6 of energy[t]. `errors` holds T doubles. Returns the weighted sum through ret_loss (may be
 * NULL). */
int layer_loss(const layer *layer, double *errors, double *ret_loss, didi_error *error);

/* ret_gram (T x T) = <tau_s, tau_t> where all task vectors are held as factors, in double. Errors:
 * DIDI_NO_MEMORY. */
int layer_factor_gram(const layer *layer, double *ret_gram, didi_error *error);

/* Weighted energy sum_t w_t |tau_t|^2: what a loss is relative to. */
double layer_weighted_energy(const layer *layer);
