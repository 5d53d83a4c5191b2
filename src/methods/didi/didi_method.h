/* SPDX-License-Identifier: Apache-2.0 */
/* What didi's own method keeps for itself of a merge (docs/method.md). */
#pragma once

#include "src/budget/budget.h"
#include "src/methods/didi/pursuit.h"
#include "src/methods/method.h"

/* Rows of its table, in order. */
typedef enum didi_row {
    DIDI_ROW_DECOMPOSE,
    DIDI_ROW_SCHEDULE,
    DIDI_ROW_PURSUE,
    DIDI_ROW_RANKS,
    DIDI_ROW_REFINE,
} didi_row;

enum {
    PURSUIT_ROUNDS = 8, /* growing steps; then as many at the last threshold as below */
    PURSUIT_POLISH = 3,
    JOINT_ROUNDS = 6,
    WARM_ROUNDS = 2, /* at most, from blocks of an earlier merge, at the last threshold */
    FRONTIER_POINTS = 65,
    CURVE_POINTS = 33,
    DIDI_PRECISIONS = DIDI_PRECISION_AUTO + 1,
    DIDI_PASSES_MAX = 6, /* of refinement, for an error asked for */
};

/* What pursuit left of one layer, at the ranks of its last threshold. */
typedef struct pursued {
    double loss;       /* weighted */
    double error;      /* sum_t |tau_hat_t - tau_t|^2 */
    double floor;      /* loss if the warm rows beyond the ranks were taken too */
    double parameters; /* of the blocks */
} pursued;
enum { PURSUED_NUMBERS = sizeof(pursued) / sizeof(double) }; /* as they are kept */

/* A point of the curve of error against budget. */
typedef struct frontier_point {
    uint64_t parameters; /* of the factors */
    double error;        /* loss / weighted energy, predicted */
    bool from_blocks;    /* by pursuit's blocks; else by the spectra of the decomposition */
} frontier_point;

/* Error against bytes at one precision, by rising bytes. */
typedef struct precision_curve {
    size_t count;
    struct {
        uint64_t bytes;
        double error; /* loss / weighted energy, predicted */
    } points[CURVE_POINTS];
} precision_curve;

/* A pass of ranks and refinement on the way to an error asked for. */
typedef struct didi_pass {
    double scale; /* of the error the allocation aims at */
    double error; /* measured, relative */
    uint64_t bytes;
} didi_pass;

/* What an earlier merge left for this one. */
typedef struct warm_start {
    bool spectra;  /* its decompositions fit */
    bool blocks;   /* what it pursued fits */
    bool *layers;  /* that start from its blocks; set by the schedule */
    double growth; /* of the parameters, to those of its blocks */
    size_t rounds; /* that these layers are pursued */
    double thresholds[WARM_ROUNDS];
} warm_start;

typedef struct didi {
    work *work;
    double *task_share;   /* T: what the objective multiplies each task's weight by; mean 1 */
    solve_limits *limits; /* of each layer */
    double thresholds[PURSUIT_ROUNDS + PURSUIT_POLISH + JOINT_ROUNDS];
    size_t rounds;
    uint64_t dense_stored;      /* parameters, after the scan */
    uint64_t factor_budget;     /* parameters */
    uint64_t factor_parameters; /* taken */
    uint64_t chosen_bytes;      /* of the files, at these; 0 = not known yet */
    uint64_t chosen_dense;      /* of chosen_bytes: tensors kept whole, headers */
    pursued *pursued;           /* of each layer */
    frontier_point *frontier;
    size_t frontier_count;
    precision_curve curves[DIDI_PRECISIONS];
    didi_pass passes[DIDI_PASSES_MAX];
    size_t pass, pass_count; /* in force; measured so far */
    warm_start warm;
} didi;

/* ---- options: questions that only this method asks ---- */

/* Those that are fields of a specification; ends with a NULL name. */
extern const method_option didi_fields[];
/* What it asks of a budget. Errors: DIDI_INVALID, DIDI_BUDGET; subject: the field. */
int didi_check_options(const didi_merge_options *options, didi_error *error);
/* Whole spectra are computed, not sketches. */
bool didi_needs_spectra(const didi *self);
bool didi_pursues(const didi *self);
/* True when ranks and widths are chosen together: the budget asks for it and the allocator can. */
bool didi_counts_bytes(const didi *self);

/* ---- plan.c, visits.c ---- */

int didi_plan_merge(void *self, didi_error *error);
/* Factors that a sketch is made wide enough for, as a ratio of one model's parameters. */
double didi_sketch_ratio(const didi *self);
/* How a layer is visited in a row, and the bytes that takes. Depends on the shape, the limit, the
 * workers and (refining) the ranks; what is computed does not depend on it. */
typedef struct didi_visit {
    work_visit how;
    uint64_t bytes;
} didi_visit;
didi_visit didi_visit_of(const didi *self, didi_row row, size_t index);
/* After the limits of the layers are set. Errors: DIDI_MEMORY_LIMIT with the figure needed. */
int didi_plan_memory(didi *self, didi_error *error);

/* ---- layers.c: the rows that work on one layer ---- */

int didi_decompose_layer(void *self, size_t index, stored *out, didi_error *error);
int didi_pursue_layer(void *self, size_t index, stored *out, didi_error *error);
int didi_refine_layer(void *self, size_t index, stored *out, didi_error *error);
/* The weights of a layer whose energies are known. */
void didi_set_weights(didi *self, size_t index);

/* ---- recall.c: what an earlier attempt, or an earlier merge, finished ---- */

void didi_snapshot_name(const didi *self, didi_row row, size_t index, char name[64]);
bool didi_recall_decomposed(void *self, size_t index);
bool didi_recall_pursued(void *self, size_t index);
bool didi_recall_refined(void *self, size_t index);
/* What an earlier merge pursued; DIDI_NOT_FOUND where there is none. */
int didi_recall_warm(didi *self, size_t index, didi_error *error);

/* ---- schedule.c: rows that look at all layers ---- */

int didi_schedule(void *self, didi_error *error);
int didi_final_ranks(void *self, didi_error *error);
/* Finds the layers that start from an earlier merge's blocks, adopts their spectra and sets the
 * threshold they are pursued at. */
int didi_warm_schedule(didi *self, didi_error *error);

/* ---- blocks.c: the blocks of all layers as the allocation sees them ---- */

int didi_list_blocks(const didi *self, allocate_block **ret_blocks, size_t *ret_count,
                     didi_error *error);
/* Whole ranks under the budget, one global factor times real[i] (allocate_round). */
int didi_round_ranks(const didi *self, allocate_block *blocks, size_t count, const double *real,
                     didi_error *error);
int didi_uniform_ranks(const didi *self, allocate_block *blocks, size_t count, didi_error *error);

/* ---- sizes.c ---- */

/* What is stored when factors have so many parameters, in the unit that progress is told in: bytes
 * / bytes of the base's files for budgets in bytes, bytes / those of a model in 16 bits with
 * precision auto, else parameters / those of a model. What an extension keeps is included. */
double didi_ratio(const didi *self, double factors);
/* The budget in that unit; NaN where an error is asked for. */
double didi_ratio_target(const didi *self);

/* ---- balance.c ---- */

/* `objective: worst_task`: sets task_share and every layer's weights so that the relative errors
 * which a greedy allocation of factor_budget leaves, predicted from the summaries, are alike. From
 * scratch, or from the shares in force. Nothing with `mean`. Errors: DIDI_NO_MEMORY. */
int didi_balance_tasks(didi *self, bool from_scratch, didi_error *error);

/* ---- promote.c ---- */

/* `dense: auto`: vectors kept as their mean become deltas for each task where that lowers the
 * squared error more than the same numbers spent on the components `blocks` would take last. Spends
 * factor_budget, so dense_stored and it are then to be counted again. Errors: DIDI_NO_MEMORY. */
int didi_promote_dense(didi *self, allocate_block *blocks, size_t count, didi_error *error);

/* ---- frontier.c ---- */

/* After a pursuit: weighted energy that the list of blocks holds twice, in rows of the shared
 * blocks beyond pursuit's ranks and in what the experts leave. */
double didi_counted_twice(const didi *self);
int didi_frontier_from_spectra(didi *self, const allocate_block *blocks, size_t count,
                               didi_error *error);
/* The lower of what the blocks of a pursuit and the spectra predict; after the above. */
int didi_frontier_from_blocks(didi *self, const allocate_block *blocks, size_t count,
                              didi_error *error);

/* ---- choose.c: ranks and widths together, for budgets that are not of parameters ---- */

/* Thresholds of pursuit, or the ranks of the other allocators. */
int didi_schedule_bytes(didi *self, didi_error *error);
int didi_final_bytes(didi *self, didi_error *error);
/* errors[t]: the relative error predicted of each task's matrices under the budget. */
int didi_bytes_errors(didi *self, double *errors, didi_error *error);
/* Where pursuit would stop by the singular values known now (loss per parameter), and the
 * parameters of factors taken then. */
int didi_bytes_threshold(didi *self, double *ret_threshold, uint64_t *ret_parameters,
                         didi_error *error);
/* One width for everything, after ranks were found under a budget of parameters. */
void didi_set_fixed_widths(didi *self);
/* After a refinement: whether another pass is needed to come to the error asked for. */
int didi_again(void *self, bool *ret_again, size_t *ret_stage, didi_error *error);
int didi_curves(didi *self, didi_error *error);

/* ---- learn.c: ranks by the differentiable truncation ---- */

int didi_learn_ranks(didi *self, allocate_block *blocks, size_t count, didi_error *error);

/* ---- report.c: telemetry and the manifest's sections ---- */

/* The points of a layer that was pursued or refined: sums over the layers done so far. */
void didi_report_pursued(void *self);
void didi_report_refined(void *self);
double didi_progress(const void *self, size_t stage, size_t now, double within);
didi_stage didi_told_as(const void *self, size_t stage);
int didi_describe(const void *self, const figures *of, json_t *manifest, didi_error *error);
