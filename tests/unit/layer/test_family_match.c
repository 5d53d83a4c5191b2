/* SPDX-License-Identifier: Apache-2.0 */
/* Tasks whose tensors are not quite those of the base. */
#include "src/base/fault.h"
#include "src/layer/family.h"
#include "tests/unit/sample_family.h"
#include "tests/unit/sample_summary.h"
#include "tests/unit/support.h"

#include <string.h>

enum { TASKS = 2 };

static family_tensor *find(const family *all, const char *name)
{
    for (size_t i = 0; i < all->tensor_count; i++)
        if (strcmp(all->tensors[i].name, name) == 0)
            return &all->tensors[i];
    fail_msg("no tensor %s", name);
    return NULL;
}

static family *open_family(const sample_family *sample)
{
    family *all = NULL;
    didi_error error = {0};
    sample_must(family_open(&sample->options, &all, &error), &error);
    return all;
}

static void check_refused(const sample_family *sample, const char *message)
{
    family *all = NULL;
    didi_error error = {0};
    int status = family_open(&sample->options, &all, &error);
    family_close(all);
    if (status != DIDI_MISMATCH)
        fail_msg("%s, not refused", didi_status_name(status));
    support_assert_contains(error.message, message);
}

static void check_own(const family *all, size_t task, size_t index, const char *name, bool grown)
{
    assert_true(index < all->tasks[task].own_count);
    assert_string_equal(all->tasks[task].own[index].name, name);
    assert_int_equal(all->tasks[task].own[index].grown != NULL, grown);
}

static void a_prefix_is_found(void **state)
{
    sample_family sample;
    sample_family_create(&sample, support_directory(state), TASKS);
    sample_model_write(sample.models[1],
                       &(sample_model){.seed = 5, .prefix = "bert.", .extra = true});
    family *all = open_family(&sample);
    assert_null(all->tasks[0].prefix);
    assert_string_equal(all->tasks[1].prefix, "bert.");
    assert_false(all->tasks[1].prefix_dropped);
    assert_string_equal(find(all, "conv")->task[1]->tensor->name, "bert.conv");
    assert_int_equal(all->tasks[1].own_count, 1);
    check_own(all, 1, 0, "bert.zzz", false);
    family_close(all);

    sample_model_write(sample.base, &(sample_model){.prefix = "model.deep."});
    sample_model_write(sample.models[1], &(sample_model){.seed = 5, .prefix = "deep."});
    all = open_family(&sample);
    assert_string_equal(all->tasks[0].prefix, "model.deep.");
    assert_string_equal(all->tasks[1].prefix, "model.");
    assert_true(all->tasks[0].prefix_dropped && all->tasks[1].prefix_dropped);
    assert_string_equal(find(all, "model.deep.bias")->task[0]->tensor->name, "bias");
    assert_true(family_task_has(all, 1, "model.deep.bias"));
    assert_false(family_task_has(all, 1, "bias"));
    family_close(all);

    sample_model_write(sample.models[1], &(sample_model){.seed = 5, .prefix = "other_"});
    check_refused(&sample, "no tensor of lab/t1 is one of the base lab/base: its first is "
                           "'other_a.weight', the base's 'model.deep.a.weight'");
    sample_family_close(&sample);
}

static void what_only_a_task_has_is_its_own(void **state)
{
    sample_family sample;
    sample_family_create(&sample, support_directory(state), TASKS);
    sample_model_write(
        sample.models[1],
        &(sample_model){.seed = 5, .extra = true, .turn = "b.weight", .grow = "a.weight"});
    family *all = open_family(&sample);
    assert_int_equal(all->tasks[0].own_count, 0);
    assert_int_equal(all->tasks[1].own_count, 3);
    check_own(all, 1, 0, "a.weight", true);
    check_own(all, 1, 1, "b.weight", false);
    check_own(all, 1, 2, "zzz", false);
    assert_null(find(all, "b.weight")->task[1]);
    assert_non_null(find(all, "b.weight")->task[0]);
    assert_non_null(find(all, "a.weight")->task[1]); /* its first rows are merged */
    family_close(all);

    sample.options.own_tensors = DIDI_OWN_DROP;
    all = open_family(&sample);
    assert_int_equal(all->tasks[1].own_count, 0);
    assert_null(find(all, "b.weight")->task[1]);
    assert_non_null(find(all, "a.weight")->task[1]);
    family_close(all);
    sample.options.own_tensors = DIDI_OWN_REFUSE;
    check_refused(&sample, "3 differences");
    static const char *const exclude[] = {"zzz", "*.weight"};
    sample.options.exclude = exclude;
    sample.options.exclude_count = 2;
    family_close(open_family(&sample));
    sample_family_close(&sample);
}

static void few_rows_more_are_classes_not_words(void **state)
{
    sample_family sample;
    sample_family_create(&sample, support_directory(state), TASKS);
    sample_model_write(sample.models[0], &(sample_model){.seed = 5, .grow = "b.weight"});
    sample_model_write(sample.models[1], &(sample_model){.seed = 6, .grow = "b.weight"});
    family *all = open_family(&sample); /* 12 rows became 14 */
    check_own(all, 0, 0, "b.weight", false);
    check_own(all, 1, 0, "b.weight", false);
    assert_int_equal(find(all, "b.weight")->kind, FAMILY_UNUSED);
    assert_int_equal(all->parameters, SAMPLE_PARAMETERS - 12 * 40);
    family_close(all);
    sample_family_close(&sample);
}

static void what_a_task_lacks_is_the_bases_where_that_is_plain(void **state)
{
    static const char *const names[] = {"steps", "bias"};
    sample_family sample;
    sample_family_create(&sample, support_directory(state), TASKS);
    sample_model_write(sample.models[1], &(sample_model){.seed = 5, .omit = names[0]});
    family *all = open_family(&sample); /* integers are buffers */
    assert_null(find(all, "steps")->task[1]);
    assert_non_null(find(all, "steps")->task[0]);
    family_close(all);
    sample.options.missing = DIDI_MISSING_REFUSE;
    check_refused(&sample, "'steps' in lab/t1: missing");

    sample.options.missing = DIDI_MISSING_AUTO;
    sample_model_write(sample.models[1], &(sample_model){.seed = 5, .omit = names[1]});
    check_refused(&sample, "'bias' in lab/t1: missing (missing: base takes the base's)");
    sample.options.missing = DIDI_MISSING_BASE;
    all = open_family(&sample);
    assert_null(find(all, "bias")->task[1]);
    assert_int_equal(find(all, "bias")->kind, FAMILY_DENSE);
    family_close(all);

    /* what no task has is the base's alone */
    sample.options.missing = DIDI_MISSING_AUTO;
    sample_model_write(sample.models[0], &(sample_model){.seed = 6, .omit = names[1]});
    all = open_family(&sample);
    assert_int_equal(find(all, "bias")->kind, FAMILY_UNUSED);
    assert_int_equal(all->parameters, SAMPLE_PARAMETERS - 24);
    family_close(all);
    sample.options.missing = DIDI_MISSING_REFUSE;
    check_refused(&sample, "'bias' in lab/t0: missing");
    sample_family_close(&sample);
}

static void no_memory_is_told(void **state)
{
    sample_family sample;
    bool fired = true;
    sample_family_create(&sample, support_directory(state), TASKS);
    sample_model_write(sample.models[1],
                       &(sample_model){.seed = 5, .prefix = "bert.", .extra = true});
    for (size_t nth = 1; fired; nth++) {
        family *all = NULL;
        char fault[32];
        didi_error error = {0};
        (void)snprintf(fault, sizeof fault, "alloc:%zu", nth);
        assert_int_equal(fault_arm(fault), 0);
        int status = family_open(&sample.options, &all, &error);
        fired = fault_all_fired();
        assert_int_equal(fault_arm(NULL), 0);
        assert_int_equal(status, fired ? DIDI_NO_MEMORY : DIDI_OK);
        family_close(all);
    }
    sample_family_close(&sample);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        support_test(a_prefix_is_found),
        support_test(what_only_a_task_has_is_its_own),
        support_test(few_rows_more_are_classes_not_words),
        support_test(what_a_task_lacks_is_the_bases_where_that_is_plain),
        support_test(no_memory_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
