/* SPDX-License-Identifier: Apache-2.0 */
/* What is known of a tensor between the stages: small, kept in memory for all tensors. */
#pragma once

#include "src/didi.h"
#include "src/package/package.h"

typedef struct layer_summary {
    size_t tasks;
    double *energy;    /* T: |tau_t|^2 */
    double *weight;    /* T */
    size_t *count;     /* T + 1: how many singular values are known of each block */
    double **sigma;    /* T + 1 lists */
    double *tail;      /* T + 1: energy beyond them */
    size_t *rank;      /* T + 1: of the factors that are stored */
    bool *dense;       /* T + 1: a delta is stored instead */
    stored_form *form; /* T + 1: or this; STORED_FACTORS: as rank and dense say */
    size_t *entries;   /* T + 1: of each row, where it is places */
    size_t (*components)[PRECISION_WIDTHS]; /* T + 1: the rank by width */
    unsigned *dense_bits;                   /* T + 1: width of the delta */
    double *error;                          /* T: |tau_hat - tau|^2 as published */
    double *unshared;                       /* T: |tau - S|^2, the shared part as published */
    double loss;                            /* weighted, latest */
} layer_summary;

/* Errors: DIDI_NO_MEMORY. summary_clear accepts a zeroed summary. */
int summary_create(layer_summary *summary, size_t tasks, didi_error *error);
void summary_clear(layer_summary *summary);
/* Copies one block's singular values. */
int summary_set_sigma(layer_summary *summary, size_t index, const double *sigma, size_t count,
                      double tail, didi_error *error);

/* A tensor kept whole: what the scan found. */
typedef struct dense_summary {
    didi_dense form;  /* how it is kept: never AUTO */
    double *energy;   /* T: |delta_t|^2; 0 = nothing to store */
    double error;     /* sum over tasks of |stored - delta_t|^2: rounding, and what is left out */
    double own_error; /* the same if it were kept per task; a mean that may be dropped for it */
    unsigned *bits;   /* T + 1 files: width in the file; 0 = nothing is stored there */
    double *unstored; /* T: error of a task where nothing is stored of it */
    double *stored_error; /* T: |stored - delta_t|^2, measured when written */
} dense_summary;

/* Errors: DIDI_NO_MEMORY. dense_summary_clear accepts a zeroed summary. */
int dense_summary_create(dense_summary *summary, size_t tasks, didi_error *error);
void dense_summary_clear(dense_summary *summary);
