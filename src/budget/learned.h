/* SPDX-License-Identifier: Apache-2.0 */
/* Learned ranks: the paper's smooth truncation of singular values (section 4.2), with the exact
 * spectral loss and gradient of method.md 5 in place of dense rebuilds. */
#pragma once

#include "src/base/base.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

/* One layer's spectra: S and E_t = tau_t - S of T tasks, q values kept of each (ranks stay <= q),
 * and what the values beyond q contribute, exactly: cross[t][i][j] = (u_s,i . u_t,j)(v_s,i .
 * v_t,j), i, j < q expert_tail[t][i] = sum_{j >= q} C_t[i][j] sigma_t,j    (i < q)
 *   shared_tail[t][j] = sum_{i >= q} C_t[i][j] sigma_s,i    (j < q)
 *   corner[t] = sum_{i,j >= q} sigma_s,i C_t[i][j] sigma_t,j
 *   tail[j] = sum_{i >= q} sigma_j,i^2, j = 0 (shared) .. T */
typedef struct differentiable_layer {
    size_t tasks, q;
    uint64_t cost;                           /* m + n */
    size_t rank_limit;                       /* <= q */
    const double *sigma;                     /* (T + 1) x q: shared first */
    const float *cross;                      /* T x q x q */
    const double *expert_tail, *shared_tail; /* T x q */
    const double *corner;                    /* T */
    const double *tail;                      /* T + 1 */
    const double *weight;                    /* T */
} differentiable_layer;

/* Gate of a component: 0.5 tanh(beta (k - (i + 1/2))) + 0.5 for i = 0, 1, ...: centred on the
 * component, so that an integer k keeps exactly k (the paper centres on i + 1, which halves the
 * k-th). */
double differentiable_gate(double rank, size_t component, double beta);

/* sum_t w_t |tau_hat_t - tau_t|_F^2 of one layer at real ranks[T + 1], and its gradient there (may
 * be NULL). scratch: 6 q (T + 1) doubles. */
double differentiable_loss(const differentiable_layer *layer, const double *ranks, double beta,
                           double *ret_gradient, double *scratch);

/* The same at whole ranks with a hard cut: the truncated loss. */
double differentiable_truncated(const differentiable_layer *layer, const size_t *ranks,
                                double *scratch);

typedef struct differentiable_options {
    double beta, lambda, learning_rate;
    size_t steps;
    double target;              /* R_target: factor parameters / matrix parameters */
    uint64_t matrix_parameters; /* D: what R is relative to */
    double energy;              /* sum of weighted energies: L_task is relative to it */
    parallel *parallel;
    const atomic_bool *cancelled;
    void *context; /* of report */
    void (*report)(void *context, size_t step, double loss, double ratio);
} differentiable_options;

/* Adam on the ranks of all layers (ranks[l] has T + 1 values, start in, result out), minimising
 * L_task + lambda |R - R_target| (paper equation 13). The step falls by cosine to a hundredth.
 * Errors: DIDI_CANCELLED, DIDI_NO_MEMORY. */
int differentiable_optimise(const differentiable_layer *layers, size_t count,
                            const differentiable_options *options, double *const *ranks,
                            didi_error *error);
