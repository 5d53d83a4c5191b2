/* SPDX-License-Identifier: Apache-2.0 */
/* A merge as its owner sees it: stages in order, points, resumption, artifacts found in place. */
#include "src/base/file.h"
#include "tests/unit/sample_family.h"
#include "tests/unit/sample_layer.h"
#include "tests/unit/sample_summary.h"
#include "tests/unit/support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { TASKS = 2, EVENTS_MAX = 512 };

typedef struct recorder {
    didi_event events[EVENTS_MAX];
    size_t count;
} recorder;

static void record(void *context, const didi_event *event)
{
    recorder *self = context;
    assert_true(self->count < EVENTS_MAX);
    assert_true(event->items_done <= event->items_total);
    self->events[self->count++] = *event;
}

static bool is_point(const didi_event *event, didi_stage stage)
{
    return event->kind == DIDI_EVENT_POINT && event->stage == stage;
}

static didi_merge *open_merge(const sample_family *sample, recorder *heard)
{
    const didi_merge_hooks hooks = {heard, record};
    didi_merge *merge = NULL;
    didi_error error = {0};
    heard->count = 0;
    sample_must(didi_merge_open(&sample->options, &hooks, &merge, &error), &error);
    return merge;
}

/* Runs at most `limit` items; returns how many. Progress never falls. */
static size_t run_items(didi_merge *merge, size_t limit)
{
    double progress = didi_merge_progress(merge, NULL);
    size_t done = 0;
    didi_item *item = NULL;
    while (done < limit && didi_merge_next(merge, UINT64_MAX, false, &item) == DIDI_NEXT_ITEM) {
        didi_item_execute(item);
        assert_true(didi_merge_progress(merge, NULL) >= progress);
        didi_merge_complete(merge, item);
        assert_true(didi_merge_progress(merge, NULL) >= progress);
        progress = didi_merge_progress(merge, NULL);
        done++;
    }
    return done;
}

static void finish(const sample_family *sample, recorder *heard)
{
    didi_error error = {0};
    didi_merge *merge = open_merge(sample, heard);
    run_items(merge, SIZE_MAX);
    sample_must(didi_merge_result(merge, &error), &error);
    assert_true(didi_merge_progress(merge, NULL) == 1);
    didi_merge_close(merge);
}

static void each_stage_is_told_once(void **state)
{
    static const didi_allocator all[] = {DIDI_ALLOCATOR_PURSUIT, DIDI_ALLOCATOR_JOINT,
                                         DIDI_ALLOCATOR_EXACT, DIDI_ALLOCATOR_DIFFERENTIABLE};
    static const char *const names[] = {"pursuit", "joint", "exact", "differentiable"};
    sample_family sample;
    recorder heard;
    sample_family_create(&sample, support_directory(state), TASKS);
    for (size_t a = 0; a < sizeof all / sizeof *all; a++) {
        int last = -1;
        size_t stages = 0;
        sample.options.allocator = all[a];
        sample.options.output_name = names[a];
        finish(&sample, &heard);
        for (size_t i = 0; i < heard.count; i++) {
            const didi_event *event = &heard.events[i];
            if (event->kind == DIDI_EVENT_STAGE) {
                assert_true((int)event->stage > last);
                last = (int)event->stage;
                stages++;
            }
            assert_int_equal(event->stage, last);
        }
        assert_int_equal(stages, a < 2 ? DIDI_STAGE_COUNT : DIDI_STAGE_COUNT - 1);
    }
    sample_family_close(&sample);
}

/* Loss, error and ratio of the layers pursued so far; returns how many layers that is. */
static size_t check_pursuit(const recorder *heard)
{
    size_t step = 0;
    double ratio = 0;
    for (size_t i = 0; i < heard->count; i++) {
        const didi_event *event = &heard->events[i];
        if (!is_point(event, DIDI_STAGE_PURSUE) || isnan(event->loss))
            continue;
        assert_true(event->step > step);
        assert_true(event->loss >= 0 && event->loss < 1);
        assert_true(event->relative_error >= 0 && event->relative_error < 1);
        assert_true(event->ratio > ratio);
        ratio = event->ratio;
        step = event->step;
    }
    return step;
}

static void pursuit_tells_its_error(void **state)
{
    sample_family sample;
    recorder heard;
    sample_family_create(&sample, support_directory(state), TASKS);
    finish(&sample, &heard);
    assert_true(check_pursuit(&heard) >= 3);
    sample_family_close(&sample);
}

/* Ratio and target are both in the budget's unit, and the last ratio is what the files take. */
static void ratios_are_told_in_the_budgets_unit(void **state)
{
    static const struct {
        didi_budget_unit unit;
        didi_allocator allocator;
        didi_precision precision;
        double budget, target;
    } cases[] = {
        {DIDI_BUDGET_BYTES, DIDI_ALLOCATOR_PURSUIT, DIDI_PRECISION_AUTO, 3000, 0},
        {DIDI_BUDGET_BYTES, DIDI_ALLOCATOR_UNIFORM, DIDI_PRECISION_INT8, 4000, 0},
        {DIDI_BUDGET_BYTES_RATIO, DIDI_ALLOCATOR_EXACT, DIDI_PRECISION_INT4, 0.7, 0.7},
        {DIDI_BUDGET_PARAMETERS, DIDI_ALLOCATOR_PURSUIT, DIDI_PRECISION_AUTO, 1.5, 1.5},
        {DIDI_BUDGET_PARAMETERS, DIDI_ALLOCATOR_PURSUIT, DIDI_PRECISION_INT8, 1.3, 1.3},
        {DIDI_BUDGET_MAX_ERROR, DIDI_ALLOCATOR_PURSUIT, DIDI_PRECISION_AUTO, 0.2, NAN},
    };
    sample_family sample;
    recorder heard;
    struct stat base;
    didi_error error = {0};
    sample_family_create(&sample, support_directory(state), TASKS);
    assert_int_equal(fstatat(sample.base, "model.safetensors", &base, 0), 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        double ratio = NAN;
        double target = cases[i].target;
        sample.options.budget_unit = cases[i].unit;
        sample.options.budget = cases[i].budget;
        sample.options.allocator = cases[i].allocator;
        sample.options.precision = cases[i].precision;
        if (cases[i].unit == DIDI_BUDGET_BYTES)
            target = cases[i].budget / (double)base.st_size;
        finish(&sample, &heard);
        for (size_t e = 0; e < heard.count; e++) {
            const didi_event *event = &heard.events[e];
            ratio = isnan(event->ratio) ? ratio : event->ratio;
            assert_true(isnan(target) == isnan(event->ratio_target));
            if (!isnan(target))
                sample_assert_near(event->ratio_target, target, 1e-12);
        }
        assert_true(isnan(target) || (ratio <= target * (1 + 1e-9) && ratio > 0.75 * target));
        sample_must(file_remove_tree(sample.output, "package", &error), &error);
    }
    sample_family_close(&sample);
}

static void rank_steps_are_progress(void **state)
{
    sample_family sample;
    recorder heard;
    size_t steps = 0;
    sample_family_create(&sample, support_directory(state), TASKS);
    sample.options.allocator = DIDI_ALLOCATOR_DIFFERENTIABLE;
    sample.options.rank_steps = 40;
    finish(&sample, &heard);
    for (size_t i = 0; i < heard.count; i++) {
        const didi_event *event = &heard.events[i];
        if (!is_point(event, DIDI_STAGE_ALLOCATE))
            continue;
        steps++;
        assert_int_equal(event->items_done, steps);
        assert_int_equal(event->items_total, 40);
    }
    assert_int_equal(steps, 40);
    sample_family_close(&sample);
}

/* Stopped after any number of items, it goes on to the same bytes, and what an earlier attempt
 * pursued counts in what the next one tells. */
static void an_interrupted_merge_goes_on(void **state)
{
    sample_family sample;
    recorder heard;
    didi_error error = {0};
    sample_family_create(&sample, support_directory(state), TASKS);
    sample.options.output_name = "whole";
    finish(&sample, &heard);
    size_t layers = check_pursuit(&heard);
    sample.options.output_name = "package";
    for (size_t limit = 0;; limit++) {
        didi_merge *merge = open_merge(&sample, &heard);
        bool whole = run_items(merge, limit) < limit;
        didi_merge_close(merge);
        if (whole)
            break;
        finish(&sample, &heard);
        size_t told = check_pursuit(&heard);
        assert_true(told == 0 || told == layers);
        sample_package_compare(&sample, "whole", "package");
        sample_must(file_remove_tree(sample.output, "package", &error), &error);
    }
    sample_family_close(&sample);
}

static void digest_of_manifest(const sample_family *sample, char digest[65])
{
    char *text = NULL;
    size_t bytes = 0;
    int directory = -1;
    didi_error error = {0};
    sample_must(file_open_directory(sample->output, "package", 0, &directory, &error), &error);
    sample_must(file_read_text(directory, "manifest.json", 1 << 20, &text, &bytes, &error), &error);
    sample_must(file_sha256_bytes(text, strlen(text), digest, &error), &error);
    free(text);
    close(directory);
}

/* The process died after the rename, before anybody heard of it. */
static void published_artifacts_are_found(void **state)
{
    sample_family sample;
    recorder heard;
    didi_item *item = NULL;
    didi_error error = {0};
    char before[65];
    char after[65];
    sample_family_create(&sample, support_directory(state), TASKS);
    finish(&sample, &heard);
    digest_of_manifest(&sample, before);
    support_write(sample.work, "decompose-00000.state", "old", 3);
    didi_merge *merge = open_merge(&sample, &heard);
    assert_int_equal(didi_merge_next(merge, UINT64_MAX, true, &item), DIDI_NEXT_FINISHED);
    assert_int_equal(didi_merge_result(merge, &error), DIDI_OK);
    assert_true(didi_merge_progress(merge, NULL) == 1);
    didi_merge_close(merge);
    assert_int_equal(support_entries(sample.work), 0);
    digest_of_manifest(&sample, after);
    assert_string_equal(before, after);
    sample_family_close(&sample);
}

static void another_merges_artifacts_are_refused(void **state)
{
    sample_family sample;
    recorder heard;
    didi_merge *merge = NULL;
    didi_error error = {0};
    const struct timespec times[2] = {{1000, 0}, {1000, 0}};
    sample_family_create(&sample, support_directory(state), TASKS);
    finish(&sample, &heard);
    sample.options.seed = 7;
    assert_int_equal(didi_merge_open(&sample.options, NULL, &merge, &error), DIDI_CONFLICT);
    assert_string_equal(error.subject, "package");
    support_assert_contains(error.message, "'package' exists already");
    sample.options.seed = 0;
    assert_int_equal(utimensat(sample.models[0], "model.safetensors", times, 0), 0);
    assert_int_equal(didi_merge_open(&sample.options, NULL, &merge, &error), DIDI_CONFLICT);
    assert_int_equal(unlinkat(sample.output, "package/manifest.json", 0), 0);
    assert_int_equal(didi_merge_open(&sample.options, NULL, &merge, &error), DIDI_CONFLICT);
    sample_family_close(&sample);
}

static void a_cancelled_merge_leaves_nothing(void **state)
{
    sample_family sample;
    recorder heard;
    didi_error error = {0};
    bool whole = false;
    sample_family_create(&sample, support_directory(state), TASKS);
    for (size_t limit = 0; !whole; limit += 3) {
        didi_merge *merge = open_merge(&sample, &heard);
        whole = run_items(merge, limit) < limit;
        didi_merge_cancel(merge);
        run_items(merge, SIZE_MAX);
        assert_int_equal(didi_merge_result(merge, &error), whole ? DIDI_OK : DIDI_CANCELLED);
        didi_merge_close(merge);
        assert_int_equal(support_entries(sample.output), whole ? 1 : 0);
        sample_must(file_remove_contents(sample.work, &error), &error);
    }
    sample_family_close(&sample);
}

static size_t count_told(const recorder *heard, didi_event_kind kind)
{
    size_t count = 0;
    for (size_t i = 0; i < heard->count; i++)
        count += heard->events[i].kind == kind;
    return count;
}

/* Error against budget is told once, and is there to be read, before anything is refined. */
static void other_budgets_are_foreseen(void **state)
{
    static const didi_allocator all[] = {DIDI_ALLOCATOR_PURSUIT, DIDI_ALLOCATOR_UNIFORM,
                                         DIDI_ALLOCATOR_EXACT};
    static const char *const names[] = {"pursuit", "uniform", "exact"};
    sample_family sample;
    recorder heard;
    didi_error error = {0};
    sample_family_create(&sample, support_directory(state), TASKS);
    sample.options.volatile_work = false;
    for (size_t a = 0; a < sizeof all / sizeof *all; a++) {
        sample.options.allocator = all[a];
        sample.options.output_name = names[a];
        didi_merge *merge = open_merge(&sample, &heard);
        while (count_told(&heard, DIDI_EVENT_FRONTIER) == 0)
            assert_int_equal(run_items(merge, 1), 1);
        for (size_t i = 0; i < heard.count; i++)
            assert_true(heard.events[i].stage < DIDI_STAGE_REFINE ||
                        heard.events[i].kind == DIDI_EVENT_STAGE);
        assert_int_equal(faccessat(sample.work, DIDI_OUTLOOK_FILE, R_OK, 0), 0);
        run_items(merge, SIZE_MAX);
        sample_must(didi_merge_result(merge, &error), &error);
        didi_merge_close(merge);
        assert_int_equal(count_told(&heard, DIDI_EVENT_FRONTIER), 1);
    }
    sample_family_close(&sample);
}

static void a_survey_publishes_its_manifest_alone(void **state)
{
    sample_family sample;
    recorder heard;
    int package = -1;
    didi_error error = {0};
    sample_family_create(&sample, support_directory(state), TASKS);
    sample.options.survey = true;
    sample.options.budget = 0;
    finish(&sample, &heard);
    assert_int_equal(count_told(&heard, DIDI_EVENT_FRONTIER), 1);
    for (size_t i = 0; i < heard.count; i++)
        assert_int_not_equal(heard.events[i].stage, DIDI_STAGE_REFINE);
    sample_must(file_open_directory(sample.output, "package", 0, &package, &error), &error);
    assert_int_equal(support_entries(package), 1);
    assert_int_equal(faccessat(package, "manifest.json", R_OK, 0), 0);
    close(package);
    sample.options.method = "average";
    didi_merge *merge = NULL;
    assert_int_equal(didi_merge_open(&sample.options, NULL, &merge, &error), DIDI_INVALID);
    assert_string_equal(error.subject, "/survey");
    sample_family_close(&sample);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        support_test(each_stage_is_told_once),
        support_test(pursuit_tells_its_error),
        support_test(ratios_are_told_in_the_budgets_unit),
        support_test(rank_steps_are_progress),
        support_test(an_interrupted_merge_goes_on),
        support_test(published_artifacts_are_found),
        support_test(another_merges_artifacts_are_refused),
        support_test(a_cancelled_merge_leaves_nothing),
        support_test(other_budgets_are_foreseen),
        support_test(a_survey_publishes_its_manifest_alone),
    };
    return cmocka_run_group_tests(tests, sample_use_one_thread, NULL);
}
