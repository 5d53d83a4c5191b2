/* SPDX-License-Identifier: Apache-2.0 */
/* Merges that are cancelled, interrupted, or refused by memory and disk: whole packages or none. */
#include "src/base/file.h"
#include "tests/unit/sample_family.h"
#include "tests/unit/sample_layer.h"
#include "tests/unit/sample_summary.h"
#include "tests/unit/sample_trouble.h"
#include "tests/unit/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TASKS = 2 };

/* A family with a finished merge called "reference"; the next one is called "package". */
static void prepare(sample_family *sample, int root, didi_allocator allocator)
{
    sample_family_create(sample, root, TASKS);
    sample->options.allocator = allocator;
    sample->options.rank_steps = 5;
    sample_trouble_prepare(sample);
}

static void a_cancelled_merge_publishes_nothing_and_goes_on_later(void **state)
{
    sample_family sample;
    prepare(&sample, support_directory(state), DIDI_ALLOCATOR_PURSUIT);
    sample.options.volatile_work = false;
    int status = DIDI_CANCELLED;
    for (size_t items = 1; status == DIDI_CANCELLED; items++) {
        didi_error error = {0};
        status = sample_merge(&sample.options, 1 + items % 3, items, &error);
        if (status == DIDI_CANCELLED) {
            sample_assert_whole_or_absent(&sample);
            assert_false(support_exists(sample.output, "package"));
        }
        assert_in_range(items, 1, 60);
    }
    assert_int_equal(status, DIDI_OK);
    sample_assert_whole_or_absent(&sample);
    assert_true(support_exists(sample.output, "package"));
    sample_family_close(&sample);
}

static void resumed_merges_give_the_same_bytes(void **state)
{
    for (int allocator = 0; allocator < 5; allocator++) {
        sample_family sample;
        int root = -1;
        char name[8];
        didi_error error = {0};
        (void)snprintf(name, sizeof name, "a%d", allocator);
        sample_must(file_open_directory(support_directory(state), name, 1, &root, &error), &error);
        prepare(&sample, root, (didi_allocator)allocator);
        sample.options.volatile_work = false;
        for (size_t items = 1; items < 21; items += 3) {
            sample_start_over(&sample);
            sample_merge_partly(&sample.options, items);
            sample_merge_partly(&sample.options, 2);
            sample_must(sample_merge(&sample.options, 2, 0, &error), &error);
            assert_true(support_exists(sample.output, "package"));
            sample_assert_whole_or_absent(&sample);
        }
        sample_family_close(&sample);
        close(root);
    }
}

static void work_of_other_options_is_discarded(void **state)
{
    sample_family sample;
    didi_error error = {0};
    prepare(&sample, support_directory(state), DIDI_ALLOCATOR_PURSUIT);
    sample.options.seed = 99;
    sample.options.budget = 0.9;
    sample_merge_partly(&sample.options, 12);
    assert_true(support_entries(sample.work) > 2);
    sample.options.seed = 0;
    sample.options.budget = 1.4;
    sample_must(sample_merge(&sample.options, 1, 0, &error), &error);
    sample_assert_whole_or_absent(&sample);
    sample_family_close(&sample);
}

static void a_later_attempt_names_the_input_that_changed(void **state)
{
    sample_family sample;
    didi_merge *merge = NULL;
    didi_error error = {0};
    const sample_model other = {.seed = 77};
    sample_family_create(&sample, support_directory(state), 3);
    sample_merge_partly(&sample.options, 4);
    sample_model_write(sample.models[1], &other);
    assert_int_equal(didi_merge_open(&sample.options, NULL, &merge, &error), DIDI_CHANGED);
    assert_non_null(strstr(error.subject, sample.options.tasks[1].label));
    assert_non_null(strstr(error.subject, "/model.safetensors"));
    /* What it had computed is gone, so the next attempt starts afresh. */
    assert_int_equal(sample_merge(&sample.options, 1, 0, &error), DIDI_OK);
    sample_family_close(&sample);
}

static void a_package_is_never_replaced(void **state)
{
    sample_family sample;
    didi_error error = {0};
    prepare(&sample, support_directory(state), DIDI_ALLOCATOR_UNIFORM);
    sample.options.output_name = "reference";
    sample_must(sample_merge(&sample.options, 1, 0, &error), &error); /* its own: found done */
    sample.options.seed = 7;
    assert_int_not_equal(sample_merge(&sample.options, 1, 0, &error), DIDI_OK);
    assert_int_equal(support_entries(sample.output), 1);
    sample_family_close(&sample);
}

static void check_point(void **state, const char *point, const char *how, size_t dense,
                        didi_allocator allocator)
{
    sample_family sample;
    prepare(&sample, support_directory(state), allocator);
    sample_check_faults(&sample, point, how, dense);
    sample_family_close(&sample);
}

static void every_lack_of_memory_is_clean(void **state)
{
    check_point(state, "alloc", "", 40, DIDI_ALLOCATOR_PURSUIT);
}

static void every_lack_of_memory_is_clean_with_learned_ranks(void **state)
{
    check_point(state, "alloc", "", 25, DIDI_ALLOCATOR_DIFFERENTIABLE);
}

static void every_failed_write_is_clean(void **state)
{
    check_point(state, "pwrite", "", 20, DIDI_ALLOCATOR_PURSUIT);
}

static void a_full_disk_is_told(void **state)
{
    check_point(state, "pwrite", "+:ENOSPC", 8, DIDI_ALLOCATOR_PURSUIT);
}

static void every_failed_sync_is_clean(void **state)
{
    check_point(state, "fsync", "", 20, DIDI_ALLOCATOR_PURSUIT);
}

static void every_failed_rename_is_clean(void **state)
{
    check_point(state, "rename", "", 20, DIDI_ALLOCATOR_PURSUIT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        support_test(a_cancelled_merge_publishes_nothing_and_goes_on_later),
        support_test(resumed_merges_give_the_same_bytes),
        support_test(work_of_other_options_is_discarded),
        support_test(a_later_attempt_names_the_input_that_changed),
        support_test(a_package_is_never_replaced),
        support_test(every_lack_of_memory_is_clean),
        support_test(every_lack_of_memory_is_clean_with_learned_ranks),
        support_test(every_failed_write_is_clean),
        support_test(a_full_disk_is_told),
        support_test(every_failed_sync_is_clean),
        support_test(every_failed_rename_is_clean),
    };
    return cmocka_run_group_tests(tests, sample_use_one_thread, NULL);
}
