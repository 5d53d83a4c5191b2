/* SPDX-License-Identifier: Apache-2.0 */
/* What tells without data how near a served model is to its fine-tune: figures of two kinds, since
 * a relative error alone cannot be compared between methods that serve task vectors of another
 * length. */
#pragma once

#include "src/base/base.h"
#include "src/files/files.h"

#include <stdint.h>

enum { PROXIES_TENSOR_BYTES = 256 };

/* tau: fine-tune - base, tau_hat: what is served - base, in float32, of the task's tensors that the
 * base has too, own rows left out. Sums are over their numbers. */
typedef struct proxies {
    double cosine; /* <tau_hat, tau> / |tau_hat| |tau|; NaN where either is 0 */
    double length; /* |tau_hat| / |tau|; NaN where tau is 0 */
    double error;  /* |tau_hat - tau|^2 / |tau|^2; NaN where tau is 0 */
    double
        worst_error; /* the largest of one tensor that the task changed; NaN where there is none */
    char worst[PROXIES_TENSOR_BYTES]; /* that tensor's name, cut; "" where there is none */
} proxies;

/* Nothing is taken. */
typedef struct proxies_request {
    int package_fd;
    const char *task;
    const checkpoint *base, *fine_tune;
} proxies_request;

/* Reads the task's model of a package beside base and fine-tune, tensor by tensor. Memory: the
 * additions to the largest tensor, and panels. `cancelled` may be NULL. Errors: DIDI_MISMATCH (the
 * fine-tune is an adapter, or has a tensor in another shape), those of task_model_open and
 * task_pieces_next, DIDI_CANCELLED. [any] */
int proxies_measure(const proxies_request *request, int (*cancelled)(void *context), void *context,
                    proxies *ret_proxies, didi_error *error);
