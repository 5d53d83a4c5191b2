/* SPDX-License-Identifier: Apache-2.0 */
/* What a merge does to one layer in each stage. Pure mathematics on a loaded layer; files and
 * stages are the merge's business. */
#pragma once

#include "src/didi.h"
#include "src/layer/layer.h"
#include "src/package/package.h"
#include "src/work/work.h"

/* Rows the blocks of one layer may hold, given the factor budget as a ratio of the matrices: what
 * any sensible allocation stays below, so that memory can be promised beforehand. */
typedef struct solve_limits {
    size_t expert, shared;
} solve_limits;

/* What `weighting: accuracy` multiplies a matrix's weight by, from its name: 1/2 for queries and
 * keys, which act through attention scores alone, else 1. */
double solve_role(const char *tensor);

/* The same for a tensor kept whole, beside other vectors: 1/32 for queries and keys (a bias of keys
 * alone changes no attention score), 1/10 for biases that widen (dead units) and for scales (one
 * dimension, named weight or gamma), else 1. */
double solve_vector_role(const char *tensor, size_t dimensions);

/* w_t of one layer: task_weight[t], unless weighting is none divided by the root of the layer's
 * mean energy e = sum_t |tau_t|^2 / T, so that layers with large task vectors do not drown the
 * others; with DIDI_WEIGHTING_ACCURACY times `role` and (|tau_t|^2 / e)^0.4, since tasks that went
 * farther lose more (docs/method.md, "Weights"). 0 for a zero task vector. */
void solve_weights(didi_weighting weighting, double role, const double *task_weight,
                   const double *energy, size_t tasks, double *ret_weight);

/* Rows a sketch holds of each expert for a factor budget `ratio` (of m n), and of the shared block.
 */
size_t solve_sketch_rows(size_t rows, size_t columns, size_t tasks, double ratio);

/* Decompose, pursuit's way: a randomised sketch of every task vector and of their mean; blocks keep
 * the directions (rank 0), summary the approximate singular values. */
int solve_sketch(layer *layer, size_t sketch_rows, layer_summary *summary, didi_error *error);

/* Decompose, the paper's way: exact spectra of S = mean and of E_t = tau_t - S (S = 0 when
 * !shared). `spectra` (may be NULL) receives singular vectors, see below. */
typedef struct spectra {
    size_t tasks, q; /* leading components kept of each block */
    float *cross;    /* T x q x q, as differentiable.h */
    double *expert_tail, *shared_tail, *corner;
} spectra;
int solve_spectra(layer *layer, bool shared, layer_summary *summary, spectra *ret_spectra,
                  didi_error *error);
int spectra_create(spectra *spectra, size_t tasks, size_t q, didi_error *error);
void spectra_clear(spectra *spectra);

/* Blocks at summary->rank from S = mean and E_t = tau_t - S (method.md 5, the paper's start). */
int solve_start_from_mean(layer *layer, bool shared, const layer_summary *summary,
                          didi_error *error);

/* Pursue: one round per threshold; at threshold theta a component stays when
 * w sigma^2 / (m + n) > theta, in the shared block first, then in the experts on what is left.
 * Blocks keep all Ritz rows, summary their values, the tasks' errors and the loss. `limits` (below)
 * cap the rows. */
int solve_pursue(layer *layer, bool shared, const double *thresholds, size_t rounds,
                 const solve_limits *limits, layer_summary *summary, didi_error *error);

/* Takes up blocks that hold values and rows but no rank: each keeps what `threshold` allows. */
void solve_resume(layer *layer, bool shared, double threshold, const solve_limits *limits);

typedef struct refine_options {
    didi_optimizer optimizer;
    size_t steps;
    double learning_rate, tolerance;
    double before; /* ALS: the loss it starts from; 0 where that is not known */
    void *context;
    void (*report)(void *context, size_t step, double loss); /* may be NULL */
} refine_options;

/* Refine at summary->rank (experts with dense set are left out of the shared fit). Sets
 * summary->loss. ALS never raises the loss. */
int solve_refine(layer *layer, const refine_options *options, layer_summary *summary,
                 didi_error *error);
/* The Adam form (paper 4.3); the same contract but for monotony: the best step is kept. */
int solve_refine_adam(layer *layer, const refine_options *options, double *ret_loss,
                      didi_error *error);

/* After solve_refine: blocks and gain times (1 - loss / energy)^(-1/4), at `most`: up to half of
 * the length, in the geometric mean, that least squares at a low rank takes from the task vectors
 * (docs/method.md, "Lengths"). */
void solve_restore(layer *layer, double most, const layer_summary *summary);

solve_limits solve_limits_for(uint64_t rows, uint64_t columns, uint64_t tasks, double ratio);

/* What the memory of a layer depends on. */
typedef struct solve_shape {
    uint64_t rows, columns, tasks, workers;
    solve_limits limits;
    uint64_t sketch_rows, factored, factor_rows; /* tasks held as factors; their rows */
    bool exact;                                  /* whole spectra are computed */
    bool adam;
    bool packed; /* factors are quantised when published */
} solve_shape;

/* Rows of the blocks before a refinement: all together, of the widest expert, and shared; and how
 * many experts are kept dense. */
typedef struct solve_rows {
    uint64_t all, expert, shared, dense;
} solve_rows;

/* The most that a layer may have to hold. */
solve_rows solve_rows_at_most(const solve_shape *shape);

/* Bytes of memory a layer of this shape takes in flight in each stage; UINT64_MAX on overflow. */
uint64_t solve_memory_decompose(const solve_shape *shape, const work_mode *mode);
uint64_t solve_memory_pursue(const solve_shape *shape, const work_mode *mode);
uint64_t solve_memory_refine(const solve_shape *shape, const work_mode *mode,
                             const solve_rows *rows);
/* Bytes on disk that a spilled layer takes in flight, at most. */
uint64_t solve_spill_bytes(const solve_shape *shape, const work_mode *mode);

/* Factors as they are published: B (m x k) and A (k x n) balanced (row i of A as long as column i
 * of B) and rounded to the output dtype, values kept as float32. */
typedef struct solve_factors {
    size_t rank;
    float *b, *a;
} solve_factors;

/* What one layer publishes: shared and expert factors, and deltas for experts kept dense. */
typedef struct solve_package {
    size_t tasks;
    solve_factors *factors; /* T + 1 */
    float **delta;          /* T: m x n or NULL */
    uint8_t **packed;       /* T + 1: packed.h, factors or dense; NULL where nothing is packed */
    size_t *packed_bytes;   /* T + 1 */
} solve_package;

/* Makes the package of a refined layer, whose blocks end empty, and measures summary->error[t]
 * exactly: |S + E_t - tau_t|^2 with the rounded factors, dense, panel by panel. Packed factors take
 * the widths of summary->components (see solve_quantise). Errors: DIDI_NUMERIC (a factor is out of
 * the output dtype's range), DIDI_NO_MEMORY. */
int solve_finish(layer *layer, didi_precision precision, layer_summary *summary,
                 solve_package *ret_package, didi_error *error);
void solve_package_clear(solve_package *package);

/* Quantises the blocks of a refined layer, shared first, then the experts on what it leaves: a
 * block is turned to its singular directions, which take the widths of summary->components from the
 * widest down; its left rows are quantised, the right ones solved for again (least squares) and
 * quantised. The shared block becomes what is stored, the experts' end empty; `package` gets the
 * bytes and the values as factors. As many experts at once as the layer has lanes. Cost: 2 m n rank
 * flops a block. Errors: DIDI_NUMERIC, DIDI_NO_MEMORY, DIDI_CANCELLED. */
int solve_quantise(layer *layer, const layer_summary *summary, solve_package *package,
                   didi_error *error);
