/* SPDX-License-Identifier: Apache-2.0 */
/* The value of a given rank among more numbers than memory holds, exactly: two passes over them,
 * each of which counts half of the bits of a number. What order the numbers come in, and in how
 * many parts they are counted, changes nothing. */
#pragma once

#include "src/base/base.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SELECTION_BINS = 1 << 16 };

typedef struct selection {
    uint64_t rank;   /* from the largest, which has rank 0; later from the top of the half found */
    uint64_t *bins;  /* SELECTION_BINS: how many numbers of this pass have each half */
    bool magnitudes; /* of the numbers without their signs */
    int passes;      /* done: 2 and the value is known */
    uint32_t key;    /* of what is known of it */
} selection;

/* Errors: DIDI_NO_MEMORY. selection_clear accepts a zeroed one. */
int selection_create(selection *self, uint64_t rank, bool magnitudes, didi_error *error);
void selection_clear(selection *self);

/* Adds to `bins` (SELECTION_BINS) the numbers that this pass asks for; finite. [any thread] */
void selection_count(const selection *self, const float *values, size_t count, uint64_t *bins);
/* Adds such a table; `zeros` numbers that are zero. One thread at a time. */
void selection_add(selection *self, const uint64_t *bins);
void selection_add_zeros(selection *self, uint64_t zeros);

/* Ends a pass: more numbers than the rank must have been counted. */
void selection_end_pass(selection *self);
/* The number, after two passes. */
float selection_value(const selection *self);
