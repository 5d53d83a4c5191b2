/* SPDX-License-Identifier: Apache-2.0 */
/* Random numbers, written and remembered. */
#include "tests/unit/sample_numbers.h"

#include "src/base/file.h"
#include "src/files/checkpoint.h"
#include "src/math/random.h"
#include "tests/unit/sample_layer.h"
#include "tests/unit/sample_summary.h"
#include "tests/unit/sample_trouble.h"
#include "tests/unit/support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const uint64_t sample_numbers_shapes[NUMBERS_TENSORS][2] = {
    {90, 21}, {35, 60}, {NUMBERS_LONG, 0}, {NUMBERS_SHORT, 0}};
const size_t sample_numbers_sizes[NUMBERS_TENSORS] = {NUMBERS_TALL, NUMBERS_WIDE, NUMBERS_LONG,
                                                      NUMBERS_SHORT};
static const safetensors_layout_entry tensors[NUMBERS_TENSORS] = {
    {"attn.tall", DIDI_DTYPE_F32, 2, sample_numbers_shapes[0]},
    {"attn.wide", DIDI_DTYPE_F32, 2, sample_numbers_shapes[1]},
    {"long", DIDI_DTYPE_F32, 1, sample_numbers_shapes[2]},
    {"short", DIDI_DTYPE_F32, 1, sample_numbers_shapes[3]},
};

/* NULL: zeros. */
static void fill(void *context, size_t tensor, float *values, size_t count)
{
    const sample_filling *how = context;
    memset(values, 0, count * sizeof *values);
    if (how == NULL || (how->narrow && tensor == 2))
        return;
    random_normal(random_mix(how->seed, tensor), values, count, how->coarse ? 3.0F : 0.1F);
    for (size_t i = 0; how->coarse && i < count; i++)
        values[i] = roundf(values[i] + 0.2F) / 64;
}

void sample_numbers_write(const sample_family *sample, size_t task, const sample_filling *how)
{
    sample_filling with = *how;
    sample_tensors_write(sample->models[task], tensors, NUMBERS_TENSORS, fill, &with);
}

sample_numbers *sample_numbers_create(sample_family *sample, void **state, const char *method,
                                      const sample_filling *how)
{
    sample_numbers *of = support_allocate(sizeof *of);
    sample_family_create(sample, support_directory(state), NUMBERS_TASKS);
    sample->options.budget = 0;
    sample->options.method = method;
    sample_tensors_write(sample->base, tensors, NUMBERS_TENSORS, fill, NULL);
    for (size_t t = 0; t < NUMBERS_TASKS; t++) {
        sample_filling with = {how->seed + t, how->coarse, how->narrow};
        float *next = of->tau[t];
        sample_numbers_write(sample, t, &with);
        for (size_t k = 0; k < NUMBERS_TENSORS; next += sample_numbers_sizes[k++])
            fill(&with, k, next, sample_numbers_sizes[k]);
    }
    return of;
}

void sample_numbers_merge(sample_family *sample, const char *options, sample_numbers *of)
{
    checkpoint *model = NULL;
    didi_error error = {0};
    float *next = of->served;
    sample->options.method_options = options;
    sample_start_over(sample);
    sample_must(sample_merge(&sample->options, 3, 0, &error), &error);
    int exported = sample_export(sample, "package", 0);
    sample_must(checkpoint_open(exported, "exported", &model, &error), &error);
    for (size_t k = 0; k < NUMBERS_TENSORS; next += sample_numbers_sizes[k++])
        sample_must(checkpoint_read_f32(model, checkpoint_find(model, tensors[k].name), 0, next,
                                        sample_numbers_sizes[k], &error),
                    &error);
    checkpoint_close(model);
    close(exported);
}

void sample_numbers_near(const float *found, const float *wanted, size_t count, double share)
{
    double largest = 0;
    for (size_t i = 0; i < count; i++)
        largest = fmax(largest, fabs((double)wanted[i]));
    assert_true(largest > 0);
    for (size_t i = 0; i < count; i++)
        sample_assert_near((double)found[i], (double)wanted[i], share * largest);
}

void sample_numbers_mean(const sample_numbers *of)
{
    for (size_t i = NUMBERS_TALL + NUMBERS_WIDE; i < NUMBERS_ALL; i++) {
        double sum = 0;
        for (size_t t = 0; t < NUMBERS_TASKS; t++)
            sum += (double)of->tau[t][i];
        sample_assert_near((double)of->served[i], sum / NUMBERS_TASKS, 1e-7);
    }
}

/* ---- what all are held to ---- */

static void prepare(sample_family *sample, const sample_method *method)
{
    sample->options.method = method->method;
    sample->options.method_options = method->options;
    sample->options.memory_limit = 0;
    sample->options.workers = 1;
    sample_trouble_prepare(sample);
}

static void leave(const sample_family *sample)
{
    didi_error error = {0};
    sample_start_over(sample);
    sample_must(file_remove_tree(sample->output, "reference", &error), &error);
}

void sample_numbers_check_all(void **state, const sample_method *methods, size_t count,
                              void (*check)(sample_family *sample, const sample_method *method))
{
    sample_family sample;
    free(sample_numbers_create(&sample, state, NULL, &(sample_filling){.seed = 1, .coarse = true}));
    for (size_t i = 0; i < count; i++) {
        prepare(&sample, &methods[i]);
        check(&sample, &methods[i]);
        leave(&sample);
    }
    sample_family_close(&sample);
}

void sample_numbers_check_limits(sample_family *sample, const sample_method *method)
{
    char figure[64];
    didi_merge *merge = NULL;
    didi_error error = {0};
    (void)method;
    sample_must(didi_merge_open(&sample->options, NULL, &merge, &error), &error);
    uint64_t needed = didi_merge_plan(merge)->memory_minimum_bytes;
    didi_merge_close(merge);
    merge = NULL;
    sample->options.memory_limit = needed - 1;
    assert_int_equal(didi_merge_open(&sample->options, NULL, &merge, &error), DIDI_MEMORY_LIMIT);
    (void)snprintf(figure, sizeof figure, "needs %llu", (unsigned long long)needed);
    support_assert_contains(error.message, figure);
    sample->options.memory_limit = needed;
    sample_must(sample_merge(&sample->options, 3, 0, &error), &error);
    assert_true(support_exists(sample->output, "package"));
    sample_assert_whole_or_absent(sample);
}

void sample_numbers_check_attempts(sample_family *sample, const sample_method *method)
{
    enum { ITEMS_MAX = 80 };
    didi_error error = {0};
    bool over = false;
    (void)method;
    sample->options.workers = 4;
    sample_must(sample_merge(&sample->options, 4, 0, &error), &error);
    sample_assert_whole_or_absent(sample);
    for (size_t items = 1; items < ITEMS_MAX && !over; items += SUPPORT_SANITIZED ? 16 : 1) {
        sample_start_over(sample);
        sample_merge_partly(&sample->options, items);
        over = support_exists(sample->output, "package");
        sample_must(sample_merge(&sample->options, 1 + items % 3, 0, &error), &error);
        assert_true(support_exists(sample->output, "package"));
        sample_assert_whole_or_absent(sample);
    }
    assert_true(over);
}

void sample_numbers_check_faults(sample_family *sample, const sample_method *method)
{
    enum { DENSE = 60 };
    sample->options.volatile_work = true;
    prepare(sample, method);
    sample_check_faults(sample, "alloc", "", DENSE);
    leave(sample);
}
