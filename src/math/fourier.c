/* SPDX-License-Identifier: Apache-2.0 */
/* One line after another, columns copied out and back some at a time. */
#include "src/math/fourier.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LINES = 4, PRIME_MAX = 5 }; /* columns that share a line of the cache; radices */

/* Of lines of `count` numbers. */
typedef struct plan {
    size_t count, padded;   /* the same where no prime above 5 divides it, else a power of two */
    fourier_number *roots;  /* padded: e^(-2 pi i k / padded) */
    fourier_number *chirp;  /* count: e^(-pi i k^2 / count); of use where it is padded */
    fourier_number *kernel; /* padded: transform of its conjugate, wrapped around */
    fourier_number *line, *found; /* padded */
    fourier_number *copies;       /* LINES x count */
} plan;

static fourier_number multiply(fourier_number a, fourier_number b)
{
    return (fourier_number){a.real * b.real - a.imaginary * b.imaginary,
                            a.real * b.imaginary + a.imaginary * b.real};
}

static fourier_number conjugate(fourier_number a)
{
    return (fourier_number){a.real, -a.imaginary};
}

static fourier_number turned(double turns)
{
    return (fourier_number){cos(2 * M_PI * turns), -sin(2 * M_PI * turns)};
}

static size_t prime_of(size_t count)
{
    for (size_t prime = 2; prime <= PRIME_MAX; prime++)
        if (count % prime == 0)
            return prime;
    return count;
}

static size_t padded_for(size_t count)
{
    size_t rest = count;
    size_t padded = 1;
    while (rest > 1 && prime_of(rest) <= PRIME_MAX)
        rest /= prime_of(rest);
    if (rest == 1)
        return count;
    while (padded < 2 * count - 1)
        padded *= 2;
    return padded;
}

/* Joins transforms of every prime-th number, which stand one behind another: those of number k. */
static void join(const plan *self, size_t prime, size_t parts, size_t step, fourier_number *at)
{
    fourier_number part[PRIME_MAX];
    for (size_t r = 1; r < prime; r++)
        part[r] = at[r * parts];
    part[0] = at[0];
    for (size_t q = 0; q < prime; q++) {
        fourier_number sum = part[0];
        for (size_t r = 1; r < prime; r++) {
            fourier_number more =
                multiply(part[r], self->roots[r * q * parts * step % self->padded]);
            sum.real += more.real;
            sum.imaginary += more.imaginary;
        }
        at[q * parts] = sum;
    }
}

/* `count` numbers of `from`, `step` apart, where count x step is plan->padded. */
static void split(const plan *self, size_t count, size_t step, const fourier_number *from,
                  fourier_number *out)
{
    if (count == 1) {
        out[0] = from[0];
        return;
    }
    size_t prime = prime_of(count);
    size_t parts = count / prime;
    for (size_t r = 0; r < prime; r++)
        split(self, parts, step * prime, from + r * step, out + r * parts);
    for (size_t k = 0; k < parts; k++) {
        for (size_t r = 1; r < prime; r++)
            out[r * parts + k] = multiply(out[r * parts + k], self->roots[r * k * step]);
        if (prime > 2) {
            join(self, prime, parts, step, out + k);
            continue;
        }
        fourier_number low = out[k];
        fourier_number high = out[parts + k];
        out[k] = (fourier_number){low.real + high.real, low.imaginary + high.imaginary};
        out[parts + k] = (fourier_number){low.real - high.real, low.imaginary - high.imaginary};
    }
}

/* plan->line to plan->found, of plan->padded numbers. */
static void transform_padded(const plan *self)
{
    split(self, self->padded, 1, self->line, self->found);
}

static void plan_clear(plan *self)
{
    free(self->roots);
    free(self->chirp);
    free(self->kernel);
    free(self->line);
    free(self->found);
    free(self->copies);
}

static int plan_create(size_t count, plan *self, didi_error *error)
{
    size_t padded = padded_for(count);
    bool chirps = padded != count;
    *self = (plan){.count = count,
                   .padded = padded,
                   .roots = memory_zeroed(padded, sizeof *self->roots),
                   .chirp = memory_zeroed(chirps ? count : 1, sizeof *self->chirp),
                   .kernel = memory_zeroed(chirps ? padded : 1, sizeof *self->kernel),
                   .line = memory_zeroed(padded, sizeof *self->line),
                   .found = memory_zeroed(padded, sizeof *self->found),
                   .copies = memory_zeroed(LINES * count, sizeof *self->copies)};
    if (self->roots == NULL || self->chirp == NULL || self->kernel == NULL || self->line == NULL ||
        self->found == NULL || self->copies == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "a transform of %zu numbers", count);
    for (size_t k = 0; k < padded; k++)
        self->roots[k] = turned((double)k / (double)padded);
    if (!chirps)
        return DIDI_OK;
    for (size_t k = 0; k < count; k++) {
        uint64_t square = (uint64_t)k * k % (2 * count); /* so the angle keeps its digits */
        self->chirp[k] = turned((double)square / (double)(2 * count));
        self->line[k] = conjugate(self->chirp[k]);
        if (k > 0)
            self->line[padded - k] = self->line[k];
    }
    transform_padded(self);
    memcpy(self->kernel, self->found, padded * sizeof *self->kernel);
    return DIDI_OK;
}

/* The first `count` numbers of plan->line to those of plan->found. */
static void convolve(const plan *self)
{
    size_t padded = self->padded;
    fourier_number *line = self->line;
    for (size_t k = 0; k < self->count; k++)
        line[k] = multiply(line[k], self->chirp[k]);
    memset(line + self->count, 0, (padded - self->count) * sizeof *line);
    transform_padded(self);
    for (size_t k = 0; k < padded; k++)
        line[k] = conjugate(multiply(self->found[k], self->kernel[k]));
    transform_padded(self);
    for (size_t k = 0; k < self->count; k++) {
        fourier_number sum = conjugate(self->found[k]);
        sum.real /= (double)padded;
        sum.imaginary /= (double)padded;
        self->found[k] = multiply(sum, self->chirp[k]);
    }
}

/* A line in place. The inverse is the conjugate of the conjugate's transform. */
static void transform_line(const plan *self, fourier_number *x, bool inverse)
{
    double share = inverse ? 1 / (double)self->count : 1;
    for (size_t k = 0; k < self->count; k++)
        self->line[k] = inverse ? conjugate(x[k]) : x[k];
    if (self->padded == self->count)
        transform_padded(self);
    else
        convolve(self);
    for (size_t k = 0; k < self->count; k++) {
        fourier_number found = inverse ? conjugate(self->found[k]) : self->found[k];
        x[k] = (fourier_number){share * found.real, share * found.imaginary};
    }
}

/* Columns first .. first + lines of X. */
static void transform_columns(const plan *self, size_t columns, size_t first, size_t lines,
                              bool inverse, fourier_number *x)
{
    for (size_t i = 0; i < self->count; i++)
        for (size_t j = 0; j < lines; j++)
            self->copies[j * self->count + i] = x[i * columns + first + j];
    for (size_t j = 0; j < lines; j++)
        transform_line(self, self->copies + j * self->count, inverse);
    for (size_t i = 0; i < self->count; i++)
        for (size_t j = 0; j < lines; j++)
            x[i * columns + first + j] = self->copies[j * self->count + i];
}

int fourier_transform(size_t rows, size_t columns, bool inverse, fourier_number *x,
                      didi_error *error)
{
    assert(rows > 0 && columns > 0);
    plan along = {0};
    plan across = {0};
    int status = plan_create(columns, &along, error);
    if (status == DIDI_OK)
        status = plan_create(rows, &across, error);
    for (size_t i = 0; i < rows && status == DIDI_OK; i++)
        transform_line(&along, x + i * columns, inverse);
    for (size_t j = 0; j < columns && status == DIDI_OK; j += LINES)
        transform_columns(&across, columns, j, smaller(columns - j, LINES), inverse, x);
    plan_clear(&along);
    plan_clear(&across);
    return status;
}

uint64_t fourier_memory(size_t rows, size_t columns)
{
    uint64_t numbers =
        memory_add(memory_multiply(padded_for(rows), 4), memory_multiply(padded_for(columns), 4));
    return memory_multiply(numbers, sizeof(fourier_number));
}
