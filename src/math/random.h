/* SPDX-License-Identifier: Apache-2.0 */
/* Seeded random numbers: the same seed gives the same numbers on every machine. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Mixes a value into a seed (splitmix64); use it to derive a stream per layer and block. */
uint64_t random_mix(uint64_t seed, uint64_t value);

/* Fills values[0..count) with approximately normal numbers of mean 0 and deviation `scale`: the sum
 * of four uniform 16-bit numbers, which needs no libm and so has the same bits everywhere. */
void random_normal(uint64_t seed, float *values, size_t count, float scale);

/* The same from number `first` of the seed on. */
void random_normal_from(uint64_t seed, uint64_t first, float *values, size_t count, float scale);
