/* SPDX-License-Identifier: Apache-2.0 */
/* Trellis-coded quantisation: the Viterbi algorithm in pieces of a row. */
#include "src/math/trellis.h"

#include "src/base/base.h"
#include "src/math/codes.h"
#include "src/math/vector.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

enum {
    STATES = 128, /* the last 7 bits of the sequence */
    HALF = STATES / 2,
    SUBSETS = 4,
    UPPER_TAPS = 0235, /* of the last 8 bits, whose parity is the upper bit of a subset */
    LOWER_TAPS = 0126,
    PIECE = 256, /* numbers whose path is settled at a time: a multiple of 8 */
    AHEAD = 48,  /* numbers looked at beyond, so that the path does not feel where a piece ends */
    DEVIATION = 128, /* of the values in the tables, for normal numbers */
    VALUES_MAX = 1 << TRELLIS_BITS_MAX,
    EXPONENT_MAX = 125,
};

/* Below it, 1 / x may not be finite. */
#define LEAST 1e-37F

/* The positive half of each grid, trained on normal rows. */
static const uint16_t grids[TRELLIS_BITS_MAX + 1][VALUES_MAX] = {
    [1] = {36, 156},
    [2] = {26, 74, 138, 244},
    [3] = {16, 44, 74, 104, 140, 184, 244, 332},
    [4] = {6, 16, 30, 40, 52, 64, 76, 90, 104, 118, 138, 160, 188, 226, 276, 358},
};

size_t trellis_row_bytes(size_t count, unsigned bits)
{
    assert(bits >= 1 && bits <= TRELLIS_BITS_MAX && count <= SIZE_MAX / 16);
    return codes_bytes(count, bits) + 1;
}

static int within_range(int exponent)
{
    return exponent < EXPONENT_MAX ? exponent : EXPONENT_MAX;
}

static inline unsigned subset_of(unsigned window)
{
    return (unsigned)(2 * __builtin_parity(window & UPPER_TAPS) +
                      __builtin_parity(window & LOWER_TAPS));
}

static inline int grid_value(unsigned index, unsigned bits)
{
    unsigned half = 1U << bits;
    return index >= half ? grids[bits][index - half] : -grids[bits][half - 1 - index];
}

/* ---- encoding ---- */

/* For each pair of states that one pair of states leads to: the subset of the way from the lower to
 * the even one, as masks. The other three ways are of it, or of the one two further. */
typedef struct ways {
    uint32_t upper[HALF], lower[HALF];
} ways;

typedef struct piece {
    ways ways;
    float cost[STATES]; /* of the best way to each state */
    float values[PIECE + AHEAD];
    float distance[SUBSETS][PIECE + AHEAD]; /* squared, to the nearest value of each subset */
    uint32_t upper[SUBSETS][PIECE + AHEAD]; /* which of the subset's values that is */
    uint8_t from[PIECE + AHEAD][STATES];    /* 1: that way comes from the state with the top bit */
} piece;

static void list_ways(ways *out)
{
    for (unsigned q = 0; q < HALF; q++) {
        out->upper[q] = (subset_of(2 * q) & 2) != 0;
        out->lower[q] = (subset_of(2 * q) & 1) != 0;
    }
}

VECTOR_CLONES
static void find_nearest(piece *self, size_t count, unsigned bits)
{
    for (unsigned subset = 0; subset < SUBSETS; subset++) {
        float *restrict distance = self->distance[subset];
        uint32_t *restrict upper = self->upper[subset];
        for (unsigned i = 0; i < 1U << (bits - 1); i++) {
            float point = (float)grid_value(SUBSETS * i + subset, bits);
            for (size_t at = 0; at < count; at++) {
                float miss = self->values[at] - point;
                bool nearer = i == 0 || miss * miss < distance[at];
                distance[at] = nearer ? miss * miss : distance[at];
                upper[at] = nearer ? i : upper[at];
            }
        }
    }
}

VECTOR_CLONES
static void advance(piece *self, size_t at)
{
    const ways *on = &self->ways;
    const float d[SUBSETS] = {self->distance[0][at], self->distance[1][at], self->distance[2][at],
                              self->distance[3][at]};
    const float *low = self->cost;
    const float *high = self->cost + HALF;
    float cost[2][HALF];
    uint8_t from[2][HALF];
    for (size_t q = 0; q < HALF; q++) {
        float upper = on->lower[q] ? d[3] : d[2];
        float lower = on->lower[q] ? d[1] : d[0];
        float even = on->upper[q] ? upper : lower;
        float odd = on->upper[q] ? lower : upper;
        float stay = low[q] + even;
        float come = high[q] + odd;
        cost[0][q] = come < stay ? come : stay;
        from[0][q] = come < stay;
        stay = low[q] + odd;
        come = high[q] + even;
        cost[1][q] = come < stay ? come : stay;
        from[1][q] = come < stay;
    }
    for (size_t q = 0; q < HALF; q++) {
        self->cost[2 * q] = cost[0][q];
        self->cost[2 * q + 1] = cost[1][q];
        self->from[at][2 * q] = from[0][q];
        self->from[at][2 * q + 1] = from[1][q];
    }
}

static unsigned best_state(const float cost[STATES])
{
    unsigned best = 0;
    for (unsigned state = 1; state < STATES; state++)
        if (cost[state] < cost[best])
            best = state;
    return best;
}

/* Sums over a row, of what it is as whole numbers of the grid, u, to fit its level to. */
typedef struct fit {
    double product, square; /* sum x u, sum u^2 */
} fit;

/* Codes of `count` numbers from a known state on, and the state after them; up to `all` numbers are
 * looked at. */
static unsigned settle_piece(piece *self, unsigned state, unsigned bits, size_t count, size_t all,
                             uint8_t *codes, fit *sums)
{
    for (unsigned s = 0; s < STATES; s++)
        self->cost[s] = s == state ? 0 : INFINITY;
    find_nearest(self, all, bits);
    for (size_t i = 0; i < all; i++)
        advance(self, i);
    unsigned now = best_state(self->cost);
    for (size_t i = all; i-- > 0;) {
        unsigned way = (unsigned)self->from[i][now] << 7 | now;
        unsigned subset = subset_of(way);
        state = i + 1 == count ? now : state;
        if (i < count) {
            unsigned upper = self->upper[subset][i];
            double unit = grid_value(SUBSETS * upper + subset, bits);
            codes[i] = (uint8_t)(upper << 1 | (now & 1));
            sums->product += unit * (double)self->values[i];
            sums->square += unit * unit;
        }
        now = way >> 1;
    }
    return state;
}

/* The code of the level nearest to `share`. */
static unsigned nearest_level(float share)
{
    unsigned above = level_above(share);
    return above > 1 && level_of(above) - share > share - level_of(above - 1) ? above - 1 : above;
}

void trellis_row(const float *values, size_t count, unsigned bits, int exponent, uint8_t *out)
{
    assert(count > 0 && bits >= 1 && bits <= TRELLIS_BITS_MAX);
    piece at;
    fit sums = {0, 0};
    unsigned state = 0;
    double energy = 0;
    float factor = ldexpf(1.0F, -within_range(exponent));
    for (size_t i = 0; i < count; i++)
        energy += (double)(values[i] * factor) * (double)(values[i] * factor);
    float unit = (float)(sqrt(energy / (double)count) / DEVIATION);
    float inverse = unit > LEAST ? 1 / unit : 0;
    list_ways(&at.ways);
    for (size_t first = 0; first < count; first += PIECE) {
        uint8_t codes[PIECE];
        size_t all = smaller(PIECE + AHEAD, count - first);
        size_t taken = smaller(PIECE, all);
        for (size_t i = 0; i < all; i++)
            at.values[i] = values[first + i] * factor * inverse;
        state = settle_piece(&at, state, bits, taken, all, codes, &sums);
        pack_codes(codes, taken, bits, out + first / 8 * bits);
    }
    double level = sums.product / sums.square * (double)unit * DEVIATION;
    out[codes_bytes(count, bits)] = level > 0 ? (uint8_t)nearest_level((float)level) : 0;
}

/* ---- decoding ---- */

void trellis_values(const uint8_t *in, size_t count, unsigned bits, int exponent, float *out)
{
    assert(bits >= 1 && bits <= TRELLIS_BITS_MAX);
    float step = ldexpf(level_of(in[codes_bytes(count, bits)]), within_range(exponent)) / DEVIATION;
    uint8_t window = 0;
    for (size_t first = 0; first < count; first += PIECE) {
        uint8_t codes[PIECE];
        size_t taken = smaller(PIECE, count - first);
        unpack_codes(in + first / 8 * bits, taken, bits, codes);
        for (size_t i = 0; i < taken; i++) {
            window = (uint8_t)(window << 1 | (codes[i] & 1));
            out[first + i] =
                step * (float)grid_value(SUBSETS * (codes[i] >> 1U) + subset_of(window), bits);
        }
    }
}

double trellis_noise(unsigned bits)
{
    assert(bits >= 1 && bits <= TRELLIS_BITS_MAX);
    static const double measured[TRELLIS_BITS_MAX + 1] = {1.0, 0.287, 0.0815, 0.0226, 0.0064};
    return measured[bits];
}
