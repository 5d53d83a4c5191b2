/* SPDX-License-Identifier: Apache-2.0 */
/* Recurrences along the diagonal wait for a division at every step. So LANES eigenvalues go through
 * it side by side. */
#include "src/math/tridiagonal.h"

#include "src/math/vector.h"

#include <assert.h>
#include <math.h>
#include <string.h>

enum { LANES = 16, HALVINGS = 39, STEPS = 2, ARRAYS = 4 };

/* Shares of the largest magnitude: how wide the brackets are after HALVINGS of 2, which eigenvalues
 * lie apart, and what a vector may miss. */
#define WIDTH 4e-12
#define APART 1e-8
#define RESIDUAL 1e-13

size_t tridiagonal_room(size_t order)
{
    return order * LANES * ARRAYS;
}

/* How many eigenvalues lie below x. */
VECTOR_CLONES
static void count_below(const tridiagonal *of, double tiny, const double *x, int *ret_count)
{
    double q[LANES];
    int count[LANES];
    for (size_t l = 0; l < LANES; l++) {
        q[l] = of->diagonal[0] - x[l];
        count[l] = q[l] < 0;
    }
    for (size_t i = 1; i < of->order; i++) {
        double square = of->beside[i - 1] * of->beside[i - 1];
        double diagonal = of->diagonal[i];
        for (size_t l = 0; l < LANES; l++) {
            double pivot = fabs(q[l]) < tiny ? -tiny : q[l];
            q[l] = diagonal - x[l] - square / pivot;
            count[l] += q[l] < 0;
        }
    }
    memcpy(ret_count, count, sizeof count);
}

/* A factorisation L D L' from the top, and one U D U' from the bottom, of T - x, which meet at
 * `twist`, where what is left is smallest: `gap`. */
typedef struct twisted {
    double *lower, *upper, *pivots, *z; /* order x LANES each */
    double gap[LANES];
    size_t twist[LANES];
} twisted;

VECTOR_CLONES
static void factorise(const tridiagonal *of, double tiny, const double *x, twisted *self)
{
    size_t last = of->order - 1;
    double q[LANES];
    double gap[LANES];
    double at[LANES];
    for (size_t l = 0; l < LANES; l++)
        self->pivots[l] = q[l] = of->diagonal[0] - x[l];
    for (size_t i = 0; i < last; i++) {
        double beside = of->beside[i];
        double diagonal = of->diagonal[i + 1];
        double *lower = self->lower + i * LANES;
        double *pivots = self->pivots + (i + 1) * LANES;
        for (size_t l = 0; l < LANES; l++) {
            double pivot = fabs(q[l]) < tiny ? tiny : q[l];
            lower[l] = beside / pivot;
            q[l] = diagonal - x[l] - lower[l] * beside;
            pivots[l] = q[l];
        }
    }
    for (size_t l = 0; l < LANES; l++) {
        gap[l] = q[l];
        at[l] = (double)last;
        q[l] = of->diagonal[last] - x[l];
    }
    for (size_t i = last; i-- > 0;) {
        double beside = of->beside[i];
        double diagonal = of->diagonal[i];
        double *upper = self->upper + i * LANES;
        const double *pivots = self->pivots + i * LANES;
        for (size_t l = 0; l < LANES; l++) {
            double pivot = fabs(q[l]) < tiny ? tiny : q[l];
            double shifted = diagonal - x[l];
            upper[l] = beside / pivot;
            q[l] = shifted - upper[l] * beside;
            double here = pivots[l] + q[l] - shifted;
            bool nearer = fabs(here) < fabs(gap[l]);
            gap[l] = nearer ? here : gap[l];
            at[l] = nearer ? (double)i : at[l];
        }
    }
    for (size_t l = 0; l < LANES; l++) {
        self->gap[l] = gap[l];
        self->twist[l] = (size_t)at[l];
    }
}

/* z, one at the twist, and its energy. */
VECTOR_CLONES
static void solve(size_t order, twisted *self, double *ret_energy)
{
    double energy[LANES] = {0};
    double at[LANES];
    for (size_t l = 0; l < LANES; l++)
        at[l] = (double)self->twist[l];
    memset(self->z + (order - 1) * LANES, 0, LANES * sizeof *self->z);
    for (size_t l = 0; l < LANES; l++)
        if (self->twist[l] == order - 1)
            self->z[(order - 1) * LANES + l] = 1;
    for (size_t i = order - 1; i-- > 0;) {
        double *z = self->z + i * LANES;
        const double *lower = self->lower + i * LANES;
        double here = (double)i;
        for (size_t l = 0; l < LANES; l++) {
            double from_below = -lower[l] * z[LANES + l];
            z[l] = here < at[l] ? from_below : here == at[l] ? 1 : 0;
        }
    }
    for (size_t i = 0; i + 1 < order; i++) {
        double *z = self->z + i * LANES;
        const double *upper = self->upper + i * LANES;
        double here = (double)i;
        for (size_t l = 0; l < LANES; l++) {
            double from_above = -upper[l] * z[l];
            z[LANES + l] = here >= at[l] ? from_above : z[LANES + l];
            energy[l] += z[l] * z[l];
        }
    }
    for (size_t l = 0; l < LANES; l++)
        ret_energy[l] =
            energy[l] + self->z[(order - 1) * LANES + l] * self->z[(order - 1) * LANES + l];
}

/* The largest row sum: no eigenvalue is further from 0. */
static double bound_of(const tridiagonal *of)
{
    double bound = 0;
    for (size_t i = 0; i < of->order; i++) {
        double left = i > 0 ? fabs(of->beside[i - 1]) : 0;
        double right = i + 1 < of->order ? fabs(of->beside[i]) : 0;
        bound = fmax(bound, fabs(of->diagonal[i]) + left + right);
    }
    return bound;
}

/* Brackets of the largest eigenvalues first, first + 1, ...: count_below tells on which side. */
static void bisect(const tridiagonal *of, double bound, size_t first, double *low, double *high)
{
    double middle[LANES];
    int count[LANES] = {0}; /* the analyzer does not see into clones of a function */
    for (size_t l = 0; l < LANES; l++) {
        low[l] = -bound * (1 + 1e-12);
        high[l] = bound * (1 + 1e-12);
    }
    for (int halving = 0; halving < HALVINGS; halving++) {
        for (size_t l = 0; l < LANES; l++)
            middle[l] = low[l] / 2 + high[l] / 2;
        count_below(of, bound * 1e-290, middle, count);
        for (size_t l = 0; l < LANES; l++) {
            bool above = (size_t)count[l] + first + l < of->order; /* the eigenvalue is */
            low[l] = above ? middle[l] : low[l];
            high[l] = above ? high[l] : middle[l];
        }
    }
}

/* LANES eigenvalues from `first` on. Lanes beyond the last of the order repeat it. */
static bool solve_lanes(const tridiagonal *of, double bound, size_t first, twisted *with,
                        double *values)
{
    double low[LANES];
    double high[LANES];
    double energy[LANES] = {0};
    bisect(of, bound, first, low, high);
    for (size_t l = 0; l < LANES; l++)
        values[l] = low[l] / 2 + high[l] / 2;
    for (int step = 0; step < STEPS; step++) {
        factorise(of, bound * 1e-290, values, with);
        solve(of->order, with, energy);
        for (size_t l = 0; l < LANES && step + 1 < STEPS; l++)
            values[l] += with->gap[l] / energy[l];
    }
    for (size_t l = 0; l < LANES && first + l < of->order; l++)
        if (!(values[l] >= low[l] - 2 * WIDTH * bound &&
              values[l] <= high[l] + 2 * WIDTH * bound) ||
            !(fabs(with->gap[l]) <= RESIDUAL * bound * sqrt(energy[l])) || !isfinite(energy[l]))
            return false;
    for (size_t l = 0; l < LANES; l++)
        with->gap[l] = 1 / sqrt(energy[l]);
    return true;
}

bool tridiagonal_leading(const tridiagonal *of, size_t count, double *room, float *ret_vectors,
                         double *ret_values)
{
    size_t order = of->order;
    assert(count > 0 && count <= order);
    double bound = bound_of(of);
    twisted with = {.lower = room,
                    .upper = room + order * LANES,
                    .pivots = room + 2 * order * LANES,
                    .z = room + 3 * order * LANES};
    double values[LANES];
    if (!(bound > 0) || order < 2)
        return false;
    for (size_t first = 0; first < count; first += LANES) {
        if (!solve_lanes(of, bound, first, &with, values))
            return false;
        for (size_t l = 0; l < LANES && first + l < count; l++) {
            size_t at = first + l;
            ret_values[at] = values[l];
            if (at > 0 && !(ret_values[at - 1] - values[l] > APART * bound))
                return false;
            for (size_t i = 0; i < order; i++)
                ret_vectors[at * order + i] = (float)(with.z[i * LANES + l] * with.gap[l]);
        }
    }
    return true;
}
