/* SPDX-License-Identifier: Apache-2.0 */
/* One weight matrix of a family: its task vectors, in memory or read panel by panel, and products
 * with them. layer.h has what is done to the blocks that approximate them. */
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

/* Where a streamed layer reads its dense matrices: elements [first, first + count), row by row.
 * Called by several threads at once; the same elements are the same numbers in every call. */
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

/* Task vectors of low rank, their factors side by side as rows: tau_t = left' right over the rows
 * [first[t], first[t + 1]). */
typedef struct layer_factors {
    bool *held;    /* T: tau_t is here; else it is dense, and has no rows */
    size_t *first; /* T + 1 */
    float *left;   /* first[T] x m */
    float *right;  /* first[T] x n */
} layer_factors;

typedef struct layer {
    size_t rows, columns, tasks; /* m, n, T */
    layer_factors *factors;      /* NULL: all task vectors are dense */
    size_t dense_tasks;          /* T, less those held as factors */
    float *tau;              /* dense_tasks x m x n; NULL if that is 0, or in a streamed layer */
    float *mean;             /* m x n: sum_t w_t tau_t / sum_t w_t, t dense; NULL likewise */
    layer_source source;     /* of a streamed layer */
    struct addition *offset; /* of a streamed layer: tau is what it reads less this */
    double *weight;          /* T: w_t >= 0; 0 takes a task out of the shared fit */
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
 * panel. Everything works on it, and gives the same bits, except what takes a whole matrix
 * (solve_spectra, solve_start_from_mean). Errors: DIDI_NO_MEMORY. */
int layer_create_streamed(size_t rows, size_t columns, size_t tasks, const layer_source *source,
                          layer **ret_layer, didi_error *error);
bool layer_is_streamed(const layer *layer);

/* A layer that holds some of its task vectors as factors, rank[t] rows of each (uninitialised), and
 * the others, whose rank is LAYER_DENSE, as above: in memory, or where `source` (may be NULL) reads
 * them, which is never asked for what is held. Where all are factors no product takes m n
 * operations. Everything works on it but what takes a whole matrix. Errors: DIDI_NO_MEMORY. */
#define LAYER_DENSE SIZE_MAX
int layer_create_factored(size_t rows, size_t columns, size_t tasks, const size_t *rank,
                          const layer_source *source, layer **ret_layer, didi_error *error);
bool layer_holds_factors(const layer *layer, size_t task);
size_t layer_factor_rank(const layer *layer, size_t task);
/* tau_t of a task whose vector is dense, in memory. */
float *layer_tau(const layer *layer, size_t task);

/* Largest rank a block can have: min(m, n). */
size_t layer_full_rank(const layer *layer);

/* count * size bytes, uninitialised, for factors or scratch: spilled when the layer is, else from
 * malloc. NULL on failure; layer_fail_allocation then tells why. Freed with spill_free. */
void *layer_allocate(const layer *layer, size_t count, size_t size);
enum { LAYER_ELEMENTS = 1 << 18 }; /* that threads take at once of what is done to each by itself */
size_t layer_rows_at_once(size_t length); /* rows of about so many elements */
void layer_copy(const layer *layer, float *to, const float *from, size_t count); /* by all */
/* DIDI_DISK_FULL or DIDI_NO_MEMORY. */
int layer_fail_allocation(const layer *layer, didi_error *error);

/* tau_t -= `offset` for every task: at once or, in a streamed layer, wherever tau_t is read from
 * now on. Measures the energies again. The layer owns `offset` afterwards, even on failure. No bit
 * depends on how many threads help, or on whether the layer is streamed. Must be called at most
 * once for a layer, and layer_set_weights must follow. Errors: DIDI_NO_MEMORY, DIDI_CANCELLED,
 * those of the source. */
int layer_take_away(layer *layer, const struct addition *offset, didi_error *error);

/* Fills energy from tau; with it the weights (solve_weights) can be set, then layer_set_weights
 * copies T weights and forms the weighted mean. Errors: those of the source. */
int layer_measure(layer *layer, didi_error *error);
void layer_set_weights(layer *layer, const double *weight);

/* What a block weighs in sums over the tasks. */
static inline double layer_block_weight(const layer *of, size_t index)
{
    return index == 0 ? of->weight_sum : of->weight[index - 1];
}

/* A task's share of the weights. */
static inline float layer_share(const layer *of, size_t task)
{
    return of->weight_sum > 0 ? (float)(of->weight[task] / of->weight_sum) : 0.0F;
}

/* ---- products with the task vectors ---- */

/* Rows of the panels that products are made of: fixed by the shape alone, and with it the order of
 * every sum. A streamed layer holds two panels for a product and one for each thread. */
size_t layer_panel_rows(size_t rows, size_t columns);

/* out (basis x m) = in (basis x n) D' when `transpose`, else out (basis x n) = in (basis x m) D,
 * for D (m x n) the weighted mean (index 0) or tau_t (index t + 1); panels in parallel over the
 * threads. Of those held as factors it takes basis rank (m + n) operations. Errors: those of the
 * source, DIDI_NO_MEMORY, DIDI_CANCELLED; out is then undefined. */
int layer_apply(const layer *layer, size_t index, bool transpose, size_t basis, const float *in,
                float *out, didi_error *error);

/* out (rows x n) = rows [first_row, first_row + rows) of tau_task. Errors as layer_apply. */
int layer_read_rows(const layer *layer, size_t task, size_t first_row, size_t rows, float *out,
                    didi_error *error);

bool layer_is_cancelled(const layer *layer);

/* Counts a product of m x k and k x n. */
void layer_count_product(const layer *layer, size_t m, size_t n, size_t k);
