/* SPDX-License-Identifier: Apache-2.0 */
/* Items that other processes run: the same bytes as by one process, whatever is lost on the way. */
#include "src/base/file.h"
#include "src/methods/method.h"
#include "tests/unit/sample_family.h"
#include "tests/unit/sample_layer.h"
#include "tests/unit/sample_summary.h"
#include "tests/unit/support.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { TASKS = 3, AWAY_MAX = 64, ROWS_MAX = 64 };

typedef struct away {
    didi_item *items[AWAY_MAX];
    size_t count;
} away;

static didi_merge *open_as(const sample_family *sample, bool owner)
{
    didi_merge_options options = sample->options;
    didi_merge *merge = NULL;
    didi_error error = {0};
    options.volatile_work = false;
    options.elsewhere = owner;
    options.worker = !owner;
    options.output_fd = owner ? options.output_fd : -1;
    sample_must(didi_merge_open(&options, NULL, &merge, &error), &error);
    return merge;
}

/* All that the owner runs itself. */
static void run_here(didi_merge *merge)
{
    didi_item *item = NULL;
    while (didi_merge_next(merge, UINT64_MAX, false, &item) == DIDI_NEXT_ITEM) {
        didi_item_execute(item);
        didi_merge_complete(merge, item);
    }
}

static void take_away(didi_merge *merge, away *out)
{
    out->count = 0;
    while (out->count < AWAY_MAX &&
           didi_merge_next_elsewhere(merge, &out->items[out->count]) == DIDI_NEXT_ITEM) {
        assert_true(didi_item_memory(out->items[out->count]) > 0);
        assert_true(didi_item_cost(out->items[out->count]) > 0);
        out->count++;
    }
}

static void fail_one(didi_merge *merge, didi_item *item, const didi_error *why)
{
    didi_item_fail(item, why->status, why);
    didi_merge_complete(merge, item);
}

static void lose(didi_merge *merge, const away *out)
{
    const didi_error why = {.status = DIDI_CANCELLED};
    for (size_t i = 0; i < out->count; i++)
        fail_one(merge, out->items[i], &why);
}

/* What a process of its own would do with one item, then its end. *ret_usage is added to. */
static void work_on(const sample_family *sample, didi_place place, didi_usage *ret_usage)
{
    didi_error error = {0};
    didi_merge *merge = open_as(sample, false);
    didi_item *item = NULL;
    didi_next next = didi_merge_next_at(merge, &place, UINT64_MAX, &item);
    while (next == DIDI_NEXT_WAIT) { /* what the owner runs `once` is computed here again */
        assert_int_equal(didi_merge_next(merge, UINT64_MAX, false, &item), DIDI_NEXT_ITEM);
        didi_item_execute(item);
        didi_merge_complete(merge, item);
        next = didi_merge_next_at(merge, &place, UINT64_MAX, &item);
    }
    if (next == DIDI_NEXT_ITEM) {
        didi_usage usage;
        didi_item_execute(item);
        didi_merge_usage(merge, &place, &usage);
        didi_merge_complete(merge, item);
        ret_usage->cpu_ns += usage.cpu_ns;
        ret_usage->bytes_read += usage.bytes_read;
    }
    assert_true(didi_merge_result(merge, &error) == DIDI_OK || error.status == DIDI_CANCELLED);
    didi_merge_close(merge);
}

/* One row: every item in a process of its own, some of them twice, one taken before it is there. */
static void run_row(const sample_family *sample, didi_merge *merge, away *out)
{
    didi_error error = {0};
    didi_usage usage = {0};
    didi_place place = didi_item_place(out->items[0]);
    assert_int_equal(didi_item_take(out->items[0], &error), DIDI_NOT_FOUND);
    for (size_t i = 0; i < out->count; i++) {
        didi_place at = didi_item_place(out->items[i]);
        assert_true(at.round == place.round && at.row == place.row);
        work_on(sample, at, &usage);
        if (i % 2 == 0)
            work_on(sample, at, &usage);
    }
    assert_true(usage.cpu_ns > 0);
    didi_merge_add_usage(merge, &place, &usage);
    for (size_t i = 0; i < out->count; i++) {
        sample_must(didi_item_take(out->items[i], &error), &error);
        didi_merge_complete(merge, out->items[i]);
    }
}

static size_t merge_elsewhere(const sample_family *sample)
{
    didi_merge *merge = open_as(sample, true);
    didi_error error = {0};
    size_t rows = 0;
    away out;
    do {
        assert_true(rows < ROWS_MAX);
        run_here(merge);
        take_away(merge, &out);
        if (out.count > 0) {
            run_row(sample, merge, &out);
            rows++;
        }
    } while (out.count > 0);
    sample_must(didi_merge_result(merge, &error), &error);
    didi_merge_close(merge);
    return rows;
}

static size_t compare(sample_family *sample)
{
    didi_error error = {0};
    sample->options.output_name = "here";
    sample->options.elsewhere = false;
    sample_must(sample_merge(&sample->options, 2, 0, &error), &error);
    sample->options.output_name = "elsewhere";
    size_t rows = merge_elsewhere(sample);
    sample_package_compare(sample, "here", "elsewhere");
    sample_must(file_remove_tree(sample->output, "here", &error), &error);
    sample_must(file_remove_tree(sample->output, "elsewhere", &error), &error);
    sample_must(file_remove_contents(sample->work, &error), &error);
    return rows;
}

/* That the sample's tensors do not have. */
static bool needs_names_of_blocks(const char *method)
{
    static const char *const names[] = {"free", "wemoe", "cart", "twin", "mmer"};
    bool found = false;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        found = found || strcmp(method, names[i]) == 0;
    return found;
}

static void every_method_gives_the_same_bytes(void **state)
{
    sample_family sample;
    sample_family_create(&sample, support_directory(state), TASKS);
    for (size_t i = 0; didi_methods[i] != NULL; i++) {
        const didi_method *method = didi_methods[i];
        if (method->needs != NULL || (method->flags & METHOD_TAKES_GRAMS) != 0 ||
            needs_names_of_blocks(method->name))
            continue;
        sample.options.method = method->name;
        sample.options.budget = (method->flags & METHOD_TAKES_BUDGET) != 0 ? 1.4 : 0;
        bool wudi = strcmp(method->name, "wudi") == 0; /* likewise */
        sample.options.method_options = wudi ? "{\"matrices\": \"all\"}" : NULL;
        assert_true(compare(&sample) >= 2);
    }
    sample_family_close(&sample);
}

static void every_way_of_didi_gives_the_same_bytes(void **state)
{
    static const struct {
        didi_allocator allocator;
        didi_budget_unit unit;
        double budget;
        didi_precision precision;
        size_t rows; /* at least */
    } cases[] = {
        {DIDI_ALLOCATOR_PURSUIT, DIDI_BUDGET_PARAMETERS, 1.4, DIDI_PRECISION_F32, 4},
        {DIDI_ALLOCATOR_PURSUIT, DIDI_BUDGET_PARAMETERS, 1.2, DIDI_PRECISION_AUTO, 4},
        {DIDI_ALLOCATOR_JOINT, DIDI_BUDGET_PARAMETERS, 1.2, DIDI_PRECISION_BF16, 4},
        {DIDI_ALLOCATOR_EXACT, DIDI_BUDGET_BYTES_RATIO, 0.7, DIDI_PRECISION_INT4, 3},
        {DIDI_ALLOCATOR_DIFFERENTIABLE, DIDI_BUDGET_PARAMETERS, 1.3, DIDI_PRECISION_F32, 3},
        {DIDI_ALLOCATOR_PURSUIT, DIDI_BUDGET_MAX_ERROR, 0.2, DIDI_PRECISION_AUTO,
         5}, /* goes back */
    };
    sample_family sample;
    sample_family_create(&sample, support_directory(state), TASKS);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sample.options.allocator = cases[i].allocator;
        sample.options.budget_unit = cases[i].unit;
        sample.options.budget = cases[i].budget;
        sample.options.precision = cases[i].precision;
        assert_true(compare(&sample) >= cases[i].rows);
    }
    sample_family_close(&sample);
}

/* An owner that dies with items away: the next one finds what was done, and asks for the rest. */
static void an_owner_that_dies_loses_nothing(void **state)
{
    sample_family sample;
    didi_error error = {0};
    didi_usage usage = {0};
    away out;
    sample_family_create(&sample, support_directory(state), TASKS);
    sample.options.output_name = "here";
    sample_must(sample_merge(&sample.options, 1, 0, &error), &error);
    sample.options.output_name = "elsewhere";
    size_t attempts = 0;
    for (bool more = true; more;) {
        didi_merge *merge = open_as(&sample, true);
        assert_true(++attempts < 100);
        run_here(merge);
        take_away(merge, &out);
        more = out.count > 0;
        if (more) {
            work_on(&sample, didi_item_place(out.items[out.count - 1]), &usage);
            didi_merge_cancel(merge); /* as far as anybody else can tell, it is gone */
        } else {
            sample_must(didi_merge_result(merge, &error), &error);
        }
        lose(merge, &out);
        didi_merge_close(merge);
    }
    sample_package_compare(&sample, "here", "elsewhere");
    sample_family_close(&sample);
}

static void a_failure_elsewhere_fails_the_merge(void **state)
{
    sample_family sample;
    didi_error error = {0};
    away out;
    sample_family_create(&sample, support_directory(state), TASKS);
    didi_merge *merge = open_as(&sample, true);
    take_away(merge, &out);
    assert_true(out.count > 1);
    const didi_error why = {.status = DIDI_DISK_FULL, .message = "no room there"};
    for (size_t i = 0; i < out.count; i++) {
        didi_item *item = NULL;
        fail_one(merge, out.items[i], &why);
        assert_int_equal(didi_merge_next_elsewhere(merge, &item),
                         i + 1 < out.count ? DIDI_NEXT_WAIT : DIDI_NEXT_FINISHED);
    }
    assert_int_equal(didi_merge_result(merge, &error), DIDI_DISK_FULL);
    assert_string_equal(error.message, "no room there");
    didi_merge_close(merge);
    sample_family_close(&sample);
}

static int join(const sample_family *sample, didi_error *error)
{
    didi_merge_options options = sample->options;
    didi_merge *merge = NULL;
    options.volatile_work = false;
    options.worker = true;
    options.output_fd = -1;
    int status = didi_merge_open(&options, NULL, &merge, error);
    didi_merge_close(merge);
    return status;
}

static void a_worker_joins_only_its_owners_merge(void **state)
{
    const struct timespec times[2] = {{1000, 0}, {1000, 0}};
    sample_family sample;
    didi_error error = {0};
    sample_family_create(&sample, support_directory(state), TASKS);
    assert_int_equal(join(&sample, &error), DIDI_NOT_FOUND); /* nobody's directory */
    didi_merge *merge = open_as(&sample, true);
    sample_must(join(&sample, &error), &error);
    size_t entries = support_entries(sample.work);
    sample.options.seed = 7;
    assert_int_equal(join(&sample, &error), DIDI_MISMATCH);
    support_assert_contains(error.message, "options here");
    sample.options.seed = 0;
    assert_int_equal(utimensat(sample.models[1], "model.safetensors", times, 0), 0);
    assert_int_equal(join(&sample, &error), DIDI_CHANGED);
    support_assert_contains(error.subject, "/model.safetensors");
    assert_int_equal(support_entries(sample.work), entries); /* nothing was removed */
    didi_merge_cancel(merge);
    didi_merge_close(merge);
    sample_family_close(&sample);
}

/* States of an earlier row that this machine does not see yet: the worker waits, computes nothing.
 */
static void a_worker_that_sees_too_little_waits(void **state)
{
    sample_family sample;
    didi_usage usage = {0};
    didi_item *item = NULL;
    away out;
    sample_family_create(&sample, support_directory(state), TASKS);
    didi_merge *owner = open_as(&sample, true);
    take_away(owner, &out);
    run_row(&sample, owner, &out);
    run_here(owner);
    take_away(owner, &out);
    didi_place place = didi_item_place(out.items[0]);
    assert_int_equal(unlinkat(sample.work, "digest-00001.hex", 0), 0);
    didi_merge *worker = open_as(&sample, false);
    assert_int_equal(didi_merge_next_at(worker, &place, UINT64_MAX, &item), DIDI_NEXT_WAIT);
    assert_int_equal(didi_merge_next(worker, UINT64_MAX, false, &item), DIDI_NEXT_WAIT);
    didi_merge_close(worker);
    place.row = 0;
    place.index = 1;
    work_on(&sample, place, &usage);
    worker = open_as(&sample, false);
    assert_int_equal(didi_merge_next_at(worker, &place, UINT64_MAX, &item), DIDI_NEXT_FINISHED);
    didi_merge_close(worker);
    lose(owner, &out);
    didi_merge_close(owner);
    sample_family_close(&sample);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        support_test(every_method_gives_the_same_bytes),
        support_test(every_way_of_didi_gives_the_same_bytes),
        support_test(an_owner_that_dies_loses_nothing),
        support_test(a_failure_elsewhere_fails_the_merge),
        support_test(a_worker_joins_only_its_owners_merge),
        support_test(a_worker_that_sees_too_little_waits),
    };
    return cmocka_run_group_tests(tests, sample_use_one_thread, NULL);
}
