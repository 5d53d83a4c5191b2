/* SPDX-License-Identifier: Apache-2.0 */
/* In blocks that stay in the cache, so that a task is read at a time. */
#include "src/methods/election.h"

#include "src/base/base.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 512 };
static const char *const file = "election.state";

const char *const election_combine_words[] = {"mean", "sum", NULL};

int election_open(election *self, const work *of, uint64_t numbers, didi_error *error)
{
    size_t tasks = of->options.task_count;
    self->threshold = memory_zeroed(tasks, sizeof *self->threshold);
    if (self->threshold == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "thresholds of %zu tasks", tasks);
    int status = ranking_open(&self->thresholds, tasks, numbers, error);
    if (status == DIDI_OK)
        election_expect(self, numbers);
    return status;
}

/* One number more than the share is kept, as by the authors' code. */
void election_expect(election *self, uint64_t numbers)
{
    self->thresholds.numbers = numbers;
    for (size_t t = 0; t < self->thresholds.lists; t++)
        ranking_ask(&self->thresholds, t, (uint64_t)floor(self->density * (double)numbers), true);
}

void election_close(election *self)
{
    ranking_close(&self->thresholds);
    free(self->threshold);
    self->threshold = NULL;
}

void election_recall(election *self, const work *of)
{
    size_t tasks = of->options.task_count;
    double *table = memory_zeroed(tasks + 1, sizeof *table);
    if (table != NULL &&
        work_read_table(of, file, "election", 1, tasks + 1, table, NULL) == DIDI_OK) {
        for (size_t t = 0; t < tasks; t++)
            self->threshold[t] = (float)table[t];
        self->signs = (long long)table[tasks];
        self->known = true;
    }
    free(table);
}

/* ---- thresholds ---- */

void election_count(const election *self, size_t tasks, const float *const *tau, uint64_t count,
                    uint64_t *tables)
{
    for (size_t t = 0; t < tasks; t++)
        ranking_count(&self->thresholds, t, tau[t], count, tables);
}

void election_end_pass(election *self)
{
    if (self->known)
        return;
    ranking_end_pass(&self->thresholds);
    for (size_t t = 0; self->found && t < self->thresholds.lists; t++)
        self->threshold[t] = ranking_value(&self->thresholds, t);
    self->found = true; /* after the second pass */
}

/* ---- signs ---- */

/* Loops that vectorise: comparisons of bits, as floats that are not negative compare like them. */
#define MAGNITUDE 0x7fffffff

static int32_t bits_of(float value)
{
    int32_t bits = 0;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* The value where `mask` is -1, zero where it is 0. */
static float masked(int32_t bits, int32_t mask)
{
    float value = 0;
    bits &= mask;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* sum += weight x, where x is kept. */
VECTOR_CLONES
static void add_kept(const float *x, size_t count, float threshold, double weight, double *sum)
{
    int32_t least = bits_of(threshold);
    for (size_t i = 0; i < count; i++) {
        int32_t bits = bits_of(x[i]);
        sum[i] += weight * (double)masked(bits, -((bits & MAGNITUDE) >= least));
    }
}

/* Where kept values agree with the sign: sum += weight x, share += weight. */
VECTOR_CLONES
static void add_agreeing(const float *x, size_t count, float threshold, double weight,
                         const float *sign, double *sum, double *share)
{
    int32_t least = bits_of(threshold) > 0 ? bits_of(threshold) : 1; /* zeros agree with none */
    for (size_t i = 0; i < count; i++) {
        int32_t bits = bits_of(x[i]);
        int32_t mask = -(((bits & MAGNITUDE) >= least) & ((bits ^ bits_of(sign[i])) >= 0));
        sum[i] += weight * (double)masked(bits, mask);
        share[i] += weight * (double)(mask & 1);
    }
}

static void sum_kept(const election *self, const work *of, const float *const *tau, uint64_t first,
                     size_t count, double *sum)
{
    memset(sum, 0, count * sizeof *sum);
    for (size_t t = 0; t < of->options.task_count; t++)
        add_kept(tau[t] + first, count, self->threshold[t], of->task_weight[t], sum);
}

long long election_signs(const election *self, const work *of, const float *const *tau,
                         uint64_t count)
{
    long long signs = 0;
    for (uint64_t first = 0; first < count; first += BLOCK) {
        double sum[BLOCK];
        size_t part = smaller(count - first, BLOCK);
        sum_kept(self, of, tau, first, part, sum);
        for (size_t i = 0; i < part; i++)
            signs += (sum[i] > 0) - (sum[i] < 0);
    }
    return signs;
}

void election_add_signs(election *self, long long signs)
{
    (void)pthread_mutex_lock(&self->thresholds.lock);
    self->signs += signs;
    (void)pthread_mutex_unlock(&self->thresholds.lock);
}

int election_decide(election *self, const work *of, didi_error *error)
{
    size_t tasks = of->options.task_count;
    if (self->known)
        return DIDI_OK;
    double *table = memory_zeroed(tasks + 1, sizeof *table);
    if (table == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "thresholds of %zu tasks", tasks);
    for (size_t t = 0; t < tasks; t++)
        table[t] = (double)self->threshold[t];
    table[tasks] = (double)self->signs;
    int status = work_save_table(of, file, "election", 1, tasks + 1, table, error);
    free(table);
    return status;
}

void election_merge(const election *self, const work *of, const float *const *tau, uint64_t count,
                    float *out)
{
    float majority = self->signs > 0 ? 1 : -1;
    for (uint64_t first = 0; first < count; first += BLOCK) {
        double sum[BLOCK];
        double share[BLOCK] = {0};
        float sign[BLOCK];
        size_t part = smaller(count - first, BLOCK);
        sum_kept(self, of, tau, first, part, sum);
        for (size_t i = 0; i < part; i++)
            sign[i] = sum[i] > 0 ? 1 : sum[i] < 0 ? -1 : majority;
        memset(sum, 0, sizeof sum);
        for (size_t t = 0; t < of->options.task_count; t++)
            add_agreeing(tau[t] + first, part, self->threshold[t], of->task_weight[t], sign, sum,
                         share);
        for (size_t i = 0; i < part; i++) {
            double divisor = self->combine == ELECTION_MEAN && share[i] > 0 ? share[i] : 1;
            out[first + i] = (float)(self->scale * (sum[i] / divisor));
        }
    }
}
