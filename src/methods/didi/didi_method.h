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
    uint64_t dense_stored;                        /* parameters, after the scan */
    uint64_t factor_budget;                       /* parameters */
    uint64_t factor_parameters;                   /* taken */
    uint64_t chosen_bytes;                        /* of the files, at these; 0 = not known yet */
    uint64_t chosen_dense;                        /* of chosen_bytes: tensors kept whole, headers */
    pursued *pursued;                             /* of each layer */
    frontier_point frontier[3 * FRONTIER_POINTS]; /* of the spectra, then of blocks: twice where
                                                   * the first pass is the best */
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
/* Those of the schedule are: no row changes them. */
bool didi_ranks_are_final(const didi *self);

/* ---- plan.c, modes.c ---- */

int didi_plan_merge(void *self, didi_error *error);
/* Factors that a sketch is made wide enough for, as a ratio of one model's parameters. */
double didi_sketch_ratio(const didi *self);
/* The most rows that a block of a layer can use: SIZE_MAX, or where all task vectors are held as
 * factors, those of all tasks, or of the task with most (`of_one`: a block of one task vector). */
size_t didi_most_rows(const didi *self, size_t index, bool of_one);
size_t didi_sketch_rows(const didi *self, size_t index);
/* How a layer is opened in a row, and the bytes that takes. Depends on the shape, the limit, the
 * workers and (refining) the ranks; what is computed does not depend on it. */
typedef struct didi_mode {
    work_mode how;
    uint64_t bytes;
} didi_mode;
didi_mode didi_mode_of(const didi *self, didi_row row, size_t index);
/* After the limits of the layers are set. Errors: DIDI_MEMORY_LIMIT with the figure needed. */
int didi_plan_memory(didi *self, didi_error *error);

#include "src/methods/didi/allocation.h"
#include "src/methods/didi/rows.h"
#include "src/methods/didi/sizes.h"
