/* SPDX-License-Identifier: Apache-2.0 */
/* Merges in which something fails: a package appears whole or not at all. All go with a family that
 * has a finished package "reference" of the same options; theirs is called "package". */
#pragma once

#include "tests/unit/sample_family.h"

/* Makes "reference", by the options as they are; sets the name for the merges to come. */
void sample_trouble_prepare(sample_family *sample);

/* Nothing but the reference, and "package" if it is whole and the same. */
void sample_assert_whole_or_absent(const sample_family *sample);

/* Removes what earlier merges left in the work directory, and "package". */
void sample_start_over(const sample_family *sample);

/* A durable merge for each pass of a fault point, every one up to `dense` and then fewer: each ends
 * with an error that fits, or with a whole package. `how` follows the number of the pass. */
void sample_check_faults(sample_family *sample, const char *point, const char *how, size_t dense);
