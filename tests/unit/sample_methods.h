/* SPDX-License-Identifier: Apache-2.0 */
/* What tests of several methods hold them to, one after the other. */
#pragma once

#include "tests/unit/sample_trouble.h"

/* Options that are refused with DIDI_INVALID and this subject. */
typedef struct sample_refusal {
    const char *method, *options, *subject;
} sample_refusal;
void sample_methods_refuse(sample_family *sample, const sample_refusal *rows, size_t count);

/* What each dtype may add to the error of one in float32. */
typedef struct sample_noise {
    double bf16, f16, int8, int4, int3;
} sample_noise;
/* `measure` merges and returns the relative error. Returns that in float32. */
double sample_methods_check_dtypes(sample_family *sample, double (*measure)(sample_family *sample),
                                   const sample_noise *noise);

/* How densely each kind of failure is tried (sample_check_faults); 0: not at all. */
typedef struct sample_faults {
    size_t memory, writes, full_disks, syncs, renames;
} sample_faults;
/* Makes the reference first. */
void sample_methods_check_faults(sample_family *sample, const sample_faults *dense);
