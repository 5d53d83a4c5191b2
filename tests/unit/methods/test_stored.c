/* SPDX-License-Identifier: Apache-2.0 */
/* Deltas stored panel by panel: little memory, any number of threads, and attempts that end early.
 */
#include "src/base/file.h"
#include "src/math/random.h"
#include "src/merge/merge.h"
#include "tests/unit/sample_layer.h"
#include "tests/unit/sample_manifest.h"
#include "tests/unit/sample_methods.h"
#include "tests/unit/sample_summary.h"
#include "tests/unit/support.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { TASKS = 2, WIDEST = 300000, OVERHEAD_BYTES = 1 << 20 };

/* ---- a family of tensors that take several panels ---- */

static const uint64_t shapes[][2] = {{1000, 211}, {70001, 0}, {3, WIDEST}, {5, 1}};
static const safetensors_layout_entry large[] = {
    {"tall", DIDI_DTYPE_F32, 2, shapes[0]},
    {"vector", DIDI_DTYPE_F32, 1, shapes[1]},
    {"wide", DIDI_DTYPE_F32, 2, shapes[2]},
    {"column", DIDI_DTYPE_F32, 2, shapes[3]},
};
enum { LARGE = sizeof large / sizeof *large };

static void fill(void *context, size_t tensor, float *values, size_t count)
{
    const uint64_t *seed = context;
    random_normal(random_mix(*seed, tensor), values, count, 0.1F);
}

static void create_large(sample_family *sample, void **state)
{
    sample_family_create(sample, support_directory(state), TASKS);
    sample->options.budget = 0;
    sample->options.method = "average";
    sample_tensors_write(sample->base, large, LARGE, fill, &(uint64_t){1});
    for (uint64_t t = 0; t < TASKS; t++)
        sample_tensors_write(sample->models[t], large, LARGE, fill, &(uint64_t){10 + t});
}

static void create_small(sample_family *sample, void **state)
{
    sample_family_create(sample, support_directory(state), TASKS);
    sample->options.budget = 0;
    sample->options.method = "task_arithmetic";
}

static const didi_precision precisions[] = {DIDI_PRECISION_F32, DIDI_PRECISION_BF16,
                                            DIDI_PRECISION_INT8, DIDI_PRECISION_INT4,
                                            DIDI_PRECISION_INT3};
enum { PRECISIONS = sizeof precisions / sizeof *precisions };

static didi_merge *open_merge(const didi_merge_options *options)
{
    didi_merge *merge = NULL;
    didi_error error = {0};
    sample_must(didi_merge_open(options, NULL, &merge, &error), &error);
    return merge;
}

/* ---- memory ---- */

/* The longest row decides, not the size: panels of T + 4 and little more. */
static void memory_is_that_of_a_few_panels(void **state)
{
    sample_family sample;
    create_large(&sample, state);
    sample.options.output_fd = sample.options.work_fd = -1;
    for (size_t tasks = 1; tasks <= TASKS; tasks++) {
        sample.options.task_count = tasks;
        didi_merge *merge = open_merge(&sample.options);
        const didi_plan *plan = didi_merge_plan(merge);
        assert_int_equal(plan->memory_minimum_bytes,
                         (tasks + 4) * WIDEST * sizeof(float) + OVERHEAD_BYTES);
        assert_int_equal(plan->memory_peak_bytes, plan->memory_minimum_bytes);
        didi_merge_close(merge);
    }
    sample_family_close(&sample);
}

/* Runs items as long as there are any that may start; together they keep to the limit. */
static void run_within(didi_merge *merge, uint64_t limit)
{
    enum { ROUNDS_MAX = 100, TOGETHER = 16 };
    didi_error error = {0};
    for (size_t round = 0; round < ROUNDS_MAX; round++) {
        didi_item *items[TOGETHER];
        size_t count = 0;
        uint64_t held = 0;
        didi_next next = DIDI_NEXT_ITEM;
        while (next == DIDI_NEXT_ITEM && count < TOGETHER) {
            next = didi_merge_next(merge, UINT64_MAX, false, &items[count]);
            if (next == DIDI_NEXT_ITEM)
                held += didi_item_memory(items[count++]);
        }
        if (next == DIDI_NEXT_FINISHED)
            break;
        assert_true(count > 0); /* else it waits for ever */
        assert_true(held <= limit);
        for (size_t i = 0; i < count; i++) {
            didi_item_execute(items[i]);
            didi_merge_complete(merge, items[i]);
        }
    }
    sample_must(didi_merge_result(merge, &error), &error);
}

/* A limit below what is needed is refused with the figure, at it and above it works. */
static void check_limits(sample_family *sample)
{
    char figure[64];
    didi_error error = {0};
    sample_trouble_prepare(sample);
    didi_merge *merge = open_merge(&sample->options);
    uint64_t needed = didi_merge_plan(merge)->memory_minimum_bytes;
    didi_merge_close(merge);
    merge = NULL;
    sample->options.workers = 3;
    sample->options.memory_limit = needed - 1;
    assert_int_equal(didi_merge_open(&sample->options, NULL, &merge, &error), DIDI_MEMORY_LIMIT);
    assert_string_equal(error.subject, "memory_limit");
    (void)snprintf(figure, sizeof figure, "needs %llu", (unsigned long long)needed);
    support_assert_contains(error.message, figure);
    for (uint64_t limit = needed; limit <= 2 * needed; limit += needed / 2) {
        sample_start_over(sample);
        sample->options.memory_limit = limit;
        merge = open_merge(&sample->options);
        assert_int_equal(didi_merge_plan(merge)->memory_peak_bytes, limit);
        run_within(merge, limit);
        didi_merge_close(merge);
        assert_true(support_exists(sample->output, "package"));
        sample_assert_whole_or_absent(sample);
    }
    sample_start_over(sample);
    sample->options.memory_limit = needed;
    sample_must(sample_merge(&sample->options, 3, 0, &error), &error);
    sample_assert_whole_or_absent(sample);
}

static void limits_are_kept(void **state)
{
    sample_family sample;
    create_large(&sample, state);
    check_limits(&sample);
    sample_family_close(&sample);
}

/* Digests and files take some memory however small the tensors are. */
static void small_models_work_at_their_limit(void **state)
{
    sample_family sample;
    create_small(&sample, state);
    check_limits(&sample);
    sample_family_close(&sample);
}

/* ---- panels ---- */

/* Tensors cut into panels, and rows that are longer than a panel, come out whole. */
static void panels_join(void **state)
{
    static const double noise[PRECISIONS] = {0, 1e-5, 1e-4, 0.01, 0.04};
    sample_family sample;
    didi_error error = {0};
    create_large(&sample, state);
    for (size_t p = 0; p < PRECISIONS; p += SUPPORT_SANITIZED ? 3 : 1) {
        double mean = 0;
        sample.options.precision = precisions[p];
        sample_must(file_remove_tree(sample.output, "package", &error), &error);
        didi_merge *merge = open_merge(&sample.options);
        uint64_t planned = didi_merge_plan(merge)->artifact_bytes;
        didi_merge_close(merge);
        sample_must(sample_merge(&sample.options, 2, 0, &error), &error);
        json_t *manifest = sample_manifest(&sample, "package");
        double measured = sample_number(manifest, "error", "relative");
        uint64_t bytes = (uint64_t)sample_number(manifest, "budget", "bytes");
        json_decref(manifest);
        assert_true(bytes <= planned && planned <= bytes + 16384); /* of headers */
        for (size_t t = 0; t < TASKS; t++) {
            int exported = sample_export(&sample, "package", t);
            mean += sample_exported_error(&sample, exported, t) / TASKS;
            close(exported);
        }
        sample_assert_near(measured, mean, 1e-3); /* tasks of about the same length */
        /* tau_t are a - c and b - c: half of a - b is missed */
        sample_assert_near(measured, 0.25, 0.01 + noise[p]);
    }
    sample_family_close(&sample);
}

typedef struct canceller {
    didi_merge *merge;
    size_t panels, after;
} canceller;

static void cancel_later(void *context, const method_panel *panel)
{
    canceller *self = context;
    assert_true(panel->tasks == TASKS && panel->count == WIDEST);
    for (uint64_t i = 0; i < panel->count; i++)
        assert_true(panel->shared[i] == 0);
    if (++self->panels == self->after)
        didi_merge_cancel(self->merge);
}

/* The next panel is not begun, and what was stored of the others is no snapshot. */
static void cancelling_stops_at_a_panel(void **state)
{
    sample_family sample;
    create_large(&sample, state);
    for (size_t after = 1; after <= 3; after++) {
        stored *out = NULL;
        didi_error error = {0};
        didi_merge *merge = open_merge(&sample.options);
        canceller self = {merge, 0, after};
        size_t wide = 0;
        while (strcmp(merge->work.layers[wide]->name, "wide") != 0)
            wide++;
        sample_must(stored_create(&merge->work, wide, "panels.state", &out, &error), &error);
        int status = stored_shared_panels(out, cancel_later, &self, &error);
        assert_int_equal(self.panels, after);
        assert_int_equal(status, after < 3 ? DIDI_CANCELLED : DIDI_OK); /* three rows are all */
        assert_int_equal(support_exists(sample.work, "panels.state"), after == 3);
        assert_int_equal(stored_recall(&merge->work, wide, "panels.state", &error),
                         after < 3 ? DIDI_NOT_FOUND : DIDI_OK);
        stored_free(out);
        didi_merge_close(merge);
    }
    sample_family_close(&sample);
}

/* ---- threads and attempts ---- */

static void any_number_of_workers_gives_the_same_bytes(void **state)
{
    sample_family sample;
    didi_error error = {0};
    create_large(&sample, state);
    for (size_t p = 0; p < PRECISIONS; p += SUPPORT_SANITIZED ? 4 : 2) {
        sample.options.precision = precisions[p];
        sample.options.workers = 1;
        sample_trouble_prepare(&sample);
        for (size_t workers = SUPPORT_SANITIZED ? 4 : 2; workers <= 4; workers += 2) {
            sample.options.workers = workers;
            sample_start_over(&sample);
            sample_must(sample_merge(&sample.options, workers, 0, &error), &error);
            sample_assert_whole_or_absent(&sample);
        }
        sample_must(file_remove_tree(sample.output, "reference", &error), &error);
        sample_start_over(&sample);
    }
    sample_family_close(&sample);
}

static void a_cancelled_merge_goes_on(void **state)
{
    sample_family sample;
    create_small(&sample, state);
    sample.options.precision = DIDI_PRECISION_INT4;
    sample_trouble_prepare(&sample);
    sample.options.volatile_work = false;
    int status = DIDI_CANCELLED;
    for (size_t items = 1; status == DIDI_CANCELLED; items++) {
        didi_error error = {0};
        status = sample_merge(&sample.options, 1 + items % 3, items, &error);
        assert_in_range(items, 1, 40);
        assert_int_equal(support_exists(sample.output, "package"), status == DIDI_OK);
        sample_assert_whole_or_absent(&sample);
    }
    assert_int_equal(status, DIDI_OK);
    sample_family_close(&sample);
}

enum { SMALL_LAYERS = 7, DIGESTS = TASKS + 1 };

/* Which file a layer's snapshot is, and of when; 0 where there is none. */
typedef struct written {
    ino_t file;
    struct timespec at;
} written;

static size_t find_written(const sample_family *sample, written ret_written[SMALL_LAYERS])
{
    size_t count = 0;
    for (size_t l = 0; l < SMALL_LAYERS; l++) {
        struct stat found;
        char name[64];
        ret_written[l] = (written){0};
        work_snapshot_name("arithmetic", l, name);
        if (fstatat(sample->work, name, &found, 0) != 0)
            continue;
        ret_written[l] = (written){found.st_ino, found.st_mtim};
        count++;
    }
    return count;
}

static bool is_same(const written *a, const written *b)
{
    return a->file == b->file && a->at.tv_sec == b->at.tv_sec && a->at.tv_nsec == b->at.tv_nsec;
}

/* Tensors that an attempt finished are not computed again. */
static void finished_tensors_are_taken_up(void **state)
{
    sample_family sample;
    didi_error error = {0};
    create_small(&sample, state);
    sample.options.keep_work = true;
    for (size_t p = 0; p < PRECISIONS; p++) {
        sample.options.precision = precisions[p];
        sample_trouble_prepare(&sample);
        for (size_t layers = 0; layers <= SMALL_LAYERS; layers++) {
            written before[SMALL_LAYERS];
            written after[SMALL_LAYERS];
            sample_start_over(&sample);
            sample_merge_partly(&sample.options, DIGESTS + layers);
            assert_int_equal(find_written(&sample, before), layers);
            sample_must(sample_merge(&sample.options, 2, 0, &error), &error);
            assert_int_equal(find_written(&sample, after), SMALL_LAYERS);
            for (size_t l = 0; l < SMALL_LAYERS; l++)
                assert_true(before[l].file == 0 || is_same(&before[l], &after[l]));
            assert_true(support_exists(sample.output, "package"));
            sample_assert_whole_or_absent(&sample);
        }
        sample_must(file_remove_tree(sample.output, "reference", &error), &error);
        sample_start_over(&sample);
    }
    sample_family_close(&sample);
}

/* What a resumed merge says of its errors is what a whole one says. */
static void errors_are_remembered(void **state)
{
    sample_family sample;
    didi_error error = {0};
    create_small(&sample, state);
    sample_trouble_prepare(&sample);
    json_t *whole = sample_manifest(&sample, "reference");
    for (size_t items = 1; items < DIGESTS + SMALL_LAYERS + 4; items += 3) {
        sample_start_over(&sample);
        sample_merge_partly(&sample.options, items);
        sample_must(sample_merge(&sample.options, 1, 0, &error), &error);
        json_t *resumed = sample_manifest(&sample, "package");
        assert_true(json_equal(json_object_get(whole, "error"), json_object_get(resumed, "error")));
        json_decref(resumed);
    }
    json_decref(whole);
    sample_family_close(&sample);
}

static void cut_file(int directory, const char *name, off_t by)
{
    int fd = openat(directory, name, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, lseek(fd, 0, SEEK_END) - by), 0);
    close(fd);
}

/* A state file that is whole, but numbers of it have another length, or no row. */
static void write_other(int directory, const char *name, size_t which, bool no_row)
{
    static const float delta[24] = {0};
    static const double numbers[TASKS] = {1, 1};
    didi_error error = {0};
    snapshot_entry entries[] = {
        {"delta.0", DIDI_DTYPE_F32, 1, 24, delta},
        {"energy.0", DIDI_DTYPE_F64, 1, TASKS, numbers},
        {"error.0", DIDI_DTYPE_F64, 1, TASKS, numbers},
    };
    entries[which].rows -= no_row;
    entries[which].columns -= !no_row;
    sample_must(snapshot_save(directory, name, entries, 3, false, &error), &error);
}

enum { DAMAGES = 11 };

static void damage(int directory, const char *name, size_t how)
{
    switch (how) {
    case 0:
        support_write(directory, name, "", 0);
        break;
    case 1:
        support_write(directory, name, "damaged", 7);
        break;
    case 2:
        cut_file(directory, name, 1);
        break;
    case 3:
        cut_file(directory, name, 100);
        break;
    case 4:
        assert_int_equal(unlinkat(directory, name, 0), 0);
        break;
    default:
        write_other(directory, name, (how - 5) % 3, how > 7);
        break;
    }
}

/* Of whatever is no snapshot of this tensor nothing is taken. */
static void damaged_snapshots_are_computed_again(void **state)
{
    sample_family sample;
    didi_error error = {0};
    create_small(&sample, state);
    sample_trouble_prepare(&sample);
    for (size_t how = 0; how < DAMAGES; how++)
        for (size_t l = 0; l < SMALL_LAYERS; l += 2) {
            char name[64];
            sample_start_over(&sample);
            sample_merge_partly(&sample.options, DIGESTS + SMALL_LAYERS);
            work_snapshot_name("arithmetic", l, name);
            damage(sample.work, name, how);
            sample_must(sample_merge(&sample.options, 1, 0, &error), &error);
            assert_true(support_exists(sample.output, "package"));
            sample_assert_whole_or_absent(&sample);
        }
    sample_family_close(&sample);
}

static void work_of_another_method_is_discarded(void **state)
{
    sample_family sample;
    didi_error error = {0};
    create_small(&sample, state);
    sample_trouble_prepare(&sample);
    sample.options.method_options = "{\"scale\": 2}";
    sample_merge_partly(&sample.options, DIGESTS + 3);
    sample.options.method_options = NULL;
    sample_must(sample_merge(&sample.options, 1, 0, &error), &error);
    sample_assert_whole_or_absent(&sample);
    sample.options.method = "average";
    assert_int_equal(sample_merge(&sample.options, 1, 0, &error), DIDI_CONFLICT);
    sample_family_close(&sample);
}

/* ---- faults ---- */

static void every_fault_is_clean(void **state)
{
    static const sample_faults dense = {
        .memory = 40, .writes = 20, .full_disks = 8, .syncs = 20, .renames = 20};
    static const didi_precision both[] = {DIDI_PRECISION_BF16, DIDI_PRECISION_INT4};
    sample_family sample;
    didi_error error = {0};
    create_small(&sample, state);
    for (size_t p = 0; p < 2; p++) {
        sample.options.precision = both[p];
        sample_methods_check_faults(&sample, &dense);
        sample_start_over(&sample);
        sample_must(file_remove_tree(sample.output, "reference", &error), &error);
    }
    sample_family_close(&sample);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        support_test(memory_is_that_of_a_few_panels),
        support_test(limits_are_kept),
        support_test(small_models_work_at_their_limit),
        support_test(panels_join),
        support_test(cancelling_stops_at_a_panel),
        support_test(any_number_of_workers_gives_the_same_bytes),
        support_test(a_cancelled_merge_goes_on),
        support_test(finished_tensors_are_taken_up),
        support_test(errors_are_remembered),
        support_test(damaged_snapshots_are_computed_again),
        support_test(work_of_another_method_is_discarded),
        support_test(every_fault_is_clean),
    };
    return cmocka_run_group_tests(tests, sample_use_one_thread, NULL);
}
