/* SPDX-License-Identifier: Apache-2.0 */
/* DARE and PCB, held to the same in the most obvious form. */
#include "tests/unit/sample_layer.h"
#include "tests/unit/sample_methods.h"
#include "tests/unit/sample_numbers.h"
#include "tests/unit/sample_summary.h"
#include "tests/unit/support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- DARE ---- */

/* What a number may be: the scaled sum of the tasks that kept it. Which these are, as bits; -1 if
 * it is none of these sums. */
static int kept_tasks(const sample_numbers *of, size_t i, double factor)
{
    for (int which = 0; which < 1 << NUMBERS_TASKS; which++) {
        double sum = 0;
        for (int t = 0; t < NUMBERS_TASKS; t++)
            sum += (which >> t & 1) != 0 ? (double)of->tau[t][i] : 0;
        if (fabs((double)of->served[i] - factor * sum) <= 1e-6 * (1 + fabs(factor * sum)))
            return which;
    }
    return -1;
}

/* Each task keeps its share, and no task the same numbers as another. */
static void check_dropped(const sample_numbers *of, double drop, double factor)
{
    size_t kept[NUMBERS_TASKS] = {0};
    size_t both = 0;
    for (size_t i = 0; i < NUMBERS_ALL; i++) {
        int which = kept_tasks(of, i, factor);
        assert_true(which >= 0);
        for (int t = 0; t < NUMBERS_TASKS; t++)
            kept[t] += (which >> t & 1) != 0;
        both += (which & 3) == 3;
    }
    for (size_t t = 0; t < NUMBERS_TASKS; t++)
        sample_assert_near((double)kept[t] / NUMBERS_ALL, 1 - drop, 0.01);
    sample_assert_near((double)both / NUMBERS_ALL, (1 - drop) * (1 - drop), 0.01);
}

static void dare_drops_a_share_and_makes_up_for_it(void **state)
{
    sample_family sample;
    sample_numbers *of =
        sample_numbers_create(&sample, state, "dare", &(sample_filling){.seed = 1});
    sample.options.seed = 7;
    sample_numbers_merge(&sample, NULL, of);
    check_dropped(of, 0.2, 0.3 / 0.8);
    sample_numbers_merge(&sample, "{\"drop\": 0.9, \"scale\": 1}", of);
    check_dropped(of, 0.9, 1 / 0.1);
    sample_numbers_merge(&sample, "{\"drop\": 0.5, \"scale\": 1, \"rescale\": false}", of);
    check_dropped(of, 0.5, 1);
    sample_numbers_merge(&sample, "{\"drop\": 0, \"scale\": 1}", of);
    for (size_t i = 0; i < NUMBERS_ALL; i++) {
        double sum = 0;
        for (size_t t = 0; t < NUMBERS_TASKS; t++)
            sum += (double)of->tau[t][i];
        sample_assert_near((double)of->served[i], sum, 1e-7);
    }
    free(of);
    sample_family_close(&sample);
}

/* The same seed drops the same numbers, another one others. */
static void dare_follows_the_seed(void **state)
{
    static float first[NUMBERS_ALL];
    sample_family sample;
    sample_numbers *of =
        sample_numbers_create(&sample, state, "dare", &(sample_filling){.seed = 1});
    for (uint64_t seed = 3; seed < 6; seed++) {
        size_t equal = 0;
        sample.options.seed = seed == 5 ? 3 : seed;
        sample_numbers_merge(&sample, "{\"drop\": 0.5}", of);
        for (size_t i = 0; i < NUMBERS_ALL; i++)
            equal += of->served[i] == first[i];
        if (seed == 3)
            memcpy(first, of->served, sizeof first);
        else
            assert_true(seed == 5 ? equal == NUMBERS_ALL : equal < NUMBERS_ALL / 8);
    }
    free(of);
    sample_family_close(&sample);
}

/* ---- PCB as it is written ---- */

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static double at_rank(const double *values, double rank)
{
    double *sorted = support_allocate(NUMBERS_ALL * sizeof *sorted);
    memcpy(sorted, values, NUMBERS_ALL * sizeof *sorted);
    qsort(sorted, NUMBERS_ALL, sizeof *sorted, by_size);
    double value = sorted[(size_t)rank];
    free(sorted);
    return value;
}

/* All in its place from the lower to the upper end, which become 0 and 1 with `unit`. */
static void clamp(double *values, double low, double high, bool unit)
{
    double from = at_rank(values, floor(NUMBERS_ALL * low));
    double to = at_rank(values, floor(NUMBERS_ALL * (1 - high) - 1));
    for (size_t i = 0; i < NUMBERS_ALL; i++) {
        values[i] = fmin(fmax(values[i], from), to);
        values[i] = unit ? (values[i] - from) / (to - from) : values[i];
    }
}

static void pcb_of(const sample_numbers *of, double ratio, double scale, float *wanted)
{
    static double sizes[NUMBERS_ALL], scores[NUMBERS_ALL], above[NUMBERS_ALL], below[NUMBERS_ALL];
    memset(above, 0, sizeof above);
    memset(below, 0, sizeof below);
    for (size_t t = 0; t < NUMBERS_TASKS; t++) {
        for (size_t i = 0; i < NUMBERS_ALL; i++)
            scores[i] = sizes[i] = fabs((double)of->tau[t][i]);
        clamp(sizes, 1e-4, 1e-4, false);
        clamp(scores, 1e-4, 1e-4, true);
        for (size_t i = 0; i < NUMBERS_ALL; i++) {
            double sum = 0;
            for (size_t k = 0; k < NUMBERS_TASKS; k++)
                sum += (double)of->tau[k][i];
            scores[i] =
                exp(NUMBERS_TASKS * scores[i] * scores[i]) * tanh((double)of->tau[t][i] * sum);
        }
        clamp(scores, 1 - ratio, 0, true);
        for (size_t i = 0; i < NUMBERS_ALL; i++) {
            above[i] += scores[i] * copysign(sizes[i], (double)of->tau[t][i]);
            below[i] += scores[i];
        }
    }
    for (size_t i = 0; i < NUMBERS_ALL; i++)
        wanted[i] = (float)(scale * above[i] / fmax(below[i], 1e-12));
}

static void pcb_averages_by_scores(void **state)
{
    static float wanted[NUMBERS_ALL];
    sample_family sample;
    sample_numbers *of = sample_numbers_create(&sample, state, "pcb", &(sample_filling){.seed = 1});
    size_t counted = 0;
    sample_numbers_merge(&sample, NULL, of);
    pcb_of(of, 0.1, 1.2, wanted);
    sample_numbers_near(of->served, wanted, NUMBERS_ALL, 1e-5);
    for (size_t i = 0; i < NUMBERS_ALL; i++)
        counted += wanted[i] != 0;
    assert_in_range(counted, NUMBERS_ALL / 10, NUMBERS_ALL / 2);
    sample_numbers_merge(&sample, "{\"ratio\": 0.4, \"scale\": 1}", of);
    pcb_of(of, 0.4, 1, wanted);
    sample_numbers_near(of->served, wanted, NUMBERS_ALL, 1e-5);
    free(of);
    sample_family_close(&sample);
}

/* What no task changed counts as zeros, in the middle of the scores. */
static void pcb_counts_unchanged_tensors(void **state)
{
    static float wanted[NUMBERS_ALL];
    sample_family sample;
    sample_numbers *of =
        sample_numbers_create(&sample, state, "pcb", &(sample_filling){.seed = 1, .narrow = true});
    sample_numbers_merge(&sample, "{\"ratio\": 0.02}", of);
    pcb_of(of, 0.02, 1.2, wanted);
    sample_numbers_near(of->served, wanted, NUMBERS_ALL, 1e-5);
    free(of);
    sample_family_close(&sample);
}

/* ---- options, memory, threads, attempts ---- */

static const sample_method all[] = {{"dare", NULL}, {"pcb", NULL}};
enum { ALL = sizeof all / sizeof *all };

static void options_out_of_range_are_refused(void **state)
{
    static const sample_refusal cases[] = {
        {"dare", "{\"drop\": 1}", "/method_options/drop"},
        {"dare", "{\"drop\": -0.1}", "/method_options/drop"},
        {"dare", "{\"rescale\": 1}", "/method_options/rescale"},
        {"dare", "{\"scale\": 0}", "/method_options/scale"},
        {"dare", "{\"seed\": 1}", "/method_options/seed"},
        {"pcb", "{\"ratio\": 0}", "/method_options/ratio"},
        {"pcb", "{\"clip\": 0.5}", "/method_options/clip"},
        {"pcb", "{\"scale\": 11}", "/method_options/scale"},
    };
    sample_family sample;
    free(sample_numbers_create(&sample, state, NULL, &(sample_filling){.seed = 1}));
    sample_methods_refuse(&sample, cases, sizeof cases / sizeof *cases);
    sample_family_close(&sample);
}

static void limits_of_memory_are_kept(void **state)
{
    sample_numbers_check_all(state, all, ALL, sample_numbers_check_limits);
}

static void threads_and_crashes_change_no_byte(void **state)
{
    sample_numbers_check_all(state, all, ALL, sample_numbers_check_attempts);
}

static void lack_of_memory_ends_a_merge(void **state)
{
    sample_family sample;
    sample_family_create(&sample, support_directory(state), 2);
    sample.options.budget = 0;
    for (size_t i = 0; i < ALL; i++)
        sample_numbers_check_faults(&sample, &all[i]);
    sample_family_close(&sample);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        support_test(dare_drops_a_share_and_makes_up_for_it),
        support_test(dare_follows_the_seed),
        support_test(pcb_averages_by_scores),
        support_test(pcb_counts_unchanged_tensors),
        support_test(options_out_of_range_are_refused),
        support_test(limits_of_memory_are_kept),
        support_test(threads_and_crashes_change_no_byte),
        support_test(lack_of_memory_ends_a_merge),
    };
    return cmocka_run_group_tests(tests, sample_use_one_thread, NULL);
}
