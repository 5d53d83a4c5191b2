/* SPDX-License-Identifier: Apache-2.0 */
/* A family whose numbers a test knows: "attn.tall" [90, 21], "attn.wide" [35, 60], "long" [70001],
 * which takes two panels, and "short" [7]. The base is zero, so that task vectors are exact. And
 * what every method of one model for all tasks is held to on it. */
#pragma once

#include "tests/unit/sample_family.h"

enum { NUMBERS_TASKS = 4, NUMBERS_TENSORS = 4 };
enum { NUMBERS_TALL = 90 * 21, NUMBERS_WIDE = 35 * 60, NUMBERS_LONG = 70001, NUMBERS_SHORT = 7 };
enum { NUMBERS_ALL = NUMBERS_TALL + NUMBERS_WIDE + NUMBERS_LONG + NUMBERS_SHORT };

extern const uint64_t sample_numbers_shapes[NUMBERS_TENSORS][2];
extern const size_t sample_numbers_sizes[NUMBERS_TENSORS];

typedef struct sample_filling {
    uint64_t seed; /* of the first task; the others have the next ones */
    bool coarse;   /* small multiples of 1/64: equal magnitudes, and sums of zero */
    bool narrow;   /* "long" is left as in the base */
} sample_filling;

typedef struct sample_numbers {
    float tau[NUMBERS_TASKS][NUMBERS_ALL]; /* tensor by tensor */
    float served[NUMBERS_ALL];
} sample_numbers;

/* Writes the family. The caller frees the numbers. */
sample_numbers *sample_numbers_create(sample_family *sample, void **state, const char *method,
                                      const sample_filling *how);
/* Writes one task anew. */
void sample_numbers_write(const sample_family *sample, size_t task, const sample_filling *how);
/* Merges, and reads what is served for the first task. */
void sample_numbers_merge(sample_family *sample, const char *options, sample_numbers *of);

/* `found` is within `share` of the largest wanted number. */
void sample_numbers_near(const float *found, const float *wanted, size_t count, double share);
/* What is served of the vectors is the mean of the tasks. */
void sample_numbers_mean(const sample_numbers *of);

typedef struct sample_method {
    const char *method, *options;
} sample_method;

/* A check on the coarse family, method by method. */
void sample_numbers_check_all(void **state, const sample_method *methods, size_t count,
                              void (*check)(sample_family *sample, const sample_method *method));
/* A memory limit below what is needed is refused with the figure; at it the bytes are the same. */
void sample_numbers_check_limits(sample_family *sample, const sample_method *method);
/* Neither threads nor attempts that end early change a byte. */
void sample_numbers_check_attempts(sample_family *sample, const sample_method *method);
/* Memory that is refused anywhere leaves a whole package or none. */
void sample_numbers_check_faults(sample_family *sample, const sample_method *method);
