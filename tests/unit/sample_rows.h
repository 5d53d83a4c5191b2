/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of numbers to quantise. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Sums of near-normal numbers, which are nearer. */
void sample_row(uint64_t seed, float *ret_values, size_t count);
