/* SPDX-License-Identifier: Apache-2.0 */
/* What the methods of one model for all tasks make of a family: held to other implementations, in
 * every dtype, and what they refuse to merge. */
#include "tests/unit/sample_layer.h"
#include "tests/unit/sample_manifest.h"
#include "tests/unit/sample_methods.h"
#include "tests/unit/sample_reference.h"
#include "tests/unit/sample_summary.h"
#include "tests/unit/support.h"

#include "src/base/file.h"

#include <math.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { TASKS = 3 };

static const struct {
    const char *name, *options; /* that keep the merged vector about as long as the tasks' */
} methods[] = {
    {"average", NULL},
    {"task_arithmetic", NULL},
    {"ties", "{\"scale\": 0.5}"},
    {"dare", NULL},
    {"pcb", "{\"scale\": 0.5}"},
    {"knots", NULL},
    {"tsv_m", "{\"scale\": 0.4}"},
    {"iso_c", "{\"scale\": 0.4}"},
    {"iso_cts", "{\"scale\": 0.4}"},
    {"wudi", "{\"scale\": 0.4, \"matrices\": \"all\", \"rest\": \"mean\", \"steps\": 3}"},
};
enum { METHODS = sizeof methods / sizeof *methods };

/* ---- other implementations: served weights, as methods.json of the reference has them ---- */

/* "weight_averaging": formula, and simple_average of FusionBench. */
static const double averaged[REFERENCE_NUMBERS] = {
    0.534096521,   0.411318516,    -0.165347617,   -0.432317545, 0.53641207,   0.109181637,
    -0.48880265,   -0.376514648,   0.374157947,    -0.304288636, -0.498344764, 0.0325743025,
    0.0759452657,  -0.528414983,   -0.313330697,   0.271903523,  -0.329834954, -0.541535445,
    0.132560395,   0.589200787,    -0.397106081,   -0.140461544, 0.341898262,  0.430017483,
    0.0935953799,  -0.482190643,   -0.29782574,    0.28328339,   -0.261384438, -0.506462447,
    -0.0583936307, 0.452637231,    -0.502407596,   -0.324932991, 0.341142585,  0.446299905,
    -0.450812021,  0.000867120113, 0.488305775,    0.229389879,  -0.27151541,  0.422742066,
    0.499413421,   -0.0591829102,  0.218322776,    0.58177293,   0.119917987,  -0.453138509,
    -0.558737079,  -0.312103976,   -0.00690292481, 0.331593799,  0.48999646,   0.436469306};

/* "task_arithmetic", lambda 0.3: formula. */
static const double added[REFERENCE_NUMBERS] = {
    0.522760418,   0.407471925,   -0.170938878,    -0.438208421, 0.532354103,  0.105319473,
    -0.485730682,  -0.370426515,  0.370515312,     -0.30035158,  -0.496456502, 0.0301575673,
    0.0704297722,  -0.523153589,  -0.309531904,    0.277562501,  -0.327444354, -0.533672634,
    0.125131816,   0.57968912,    -0.406271979,    -0.149645499, 0.344156888,  0.42974568,
    0.0912918423,  -0.479779876,  -0.299606498,    0.283877039,  -0.261737802, -0.503762416,
    -0.0517135726, 0.455769492,   -0.49974694,     -0.319973969, 0.339877657,  0.446778506,
    -0.452021553,  0.00660786834, 0.488883609,     0.227056816,  -0.267593978, 0.416916312,
    0.492202024,   -0.0668526505, 0.207246498,     0.573522805,  0.123881106,  -0.449215981,
    -0.550809584,  -0.308427856,  -0.000385172083, 0.334882871,  0.490923981,  0.432746731};

/* Merges, and compares what is served for every task. */
static void check_served(sample_family *sample, const char *method, const char *options,
                         const double *wanted)
{
    float served[REFERENCE_NUMBERS];
    didi_error error = {0};
    sample->options.method = method;
    sample->options.method_options = options;
    sample_must(file_remove_tree(sample->output, "package", &error), &error);
    sample_must(sample_merge(&sample->options, 2, 0, &error), &error);
    for (size_t t = 0; t < REFERENCE_TASKS; t++) {
        sample_reference_served(sample, "package", t, served);
        for (size_t n = 0; n < REFERENCE_NUMBERS; n++)
            if (!(fabs((double)served[n] - wanted[n]) <= 1e-6))
                fail_msg("%s, task %zu: number %zu is %.9g, not %.9g", method, t, n,
                         (double)served[n], wanted[n]);
    }
}

static void the_reference_is_met(void **state)
{
    sample_family sample;
    sample_reference_create(&sample, support_directory(state));
    check_served(&sample, "average", NULL, averaged);
    check_served(&sample, "task_arithmetic", NULL, added); /* 0.3 is the standard */
    check_served(&sample, "task_arithmetic", "{\"scale\": 0.3}", added);
    sample_family_close(&sample);
}

/* Twice the weight is twice the task; arithmetic's scale goes with each weight. */
static void weights_of_tasks_count(void **state)
{
    static const double weight[REFERENCE_TASKS] = {1, 2, 0.5};
    double mean[REFERENCE_NUMBERS];
    double sum[REFERENCE_NUMBERS];
    sample_family sample;
    sample_reference_create(&sample, support_directory(state));
    for (size_t n = 0; n < REFERENCE_NUMBERS; n++) {
        double all = 0;
        for (size_t t = 0; t < REFERENCE_TASKS; t++)
            all += weight[t] * sample_reference_tau(t, n);
        mean[n] = sample_reference_base(n) + all / 3.5;
        sum[n] = sample_reference_base(n) + 0.75 * all;
    }
    for (size_t t = 0; t < REFERENCE_TASKS; t++)
        sample.inputs[t].weight = weight[t];
    check_served(&sample, "average", NULL, mean);
    check_served(&sample, "task_arithmetic", "{\"scale\": 0.75}", sum);
    for (size_t t = 0; t < REFERENCE_TASKS; t++)
        sample.inputs[t].weight = 1e6;
    check_served(&sample, "average", NULL, averaged);
    sample_family_close(&sample);
}

static void a_single_task_is_served_as_it_is(void **state)
{
    double tuned[REFERENCE_NUMBERS];
    float served[REFERENCE_NUMBERS];
    sample_family sample;
    didi_error error = {0};
    sample_reference_create(&sample, support_directory(state));
    sample.options.method = "average";
    sample.options.task_count = 1;
    sample_must(sample_merge(&sample.options, 1, 0, &error), &error);
    sample_reference_served(&sample, "package", 0, served);
    for (size_t n = 0; n < REFERENCE_NUMBERS; n++) {
        tuned[n] = sample_reference_base(n) + sample_reference_tau(0, n);
        sample_assert_near((double)served[n], tuned[n], 1e-6);
    }
    sample.options.task_count = REFERENCE_TASKS;
    sample_family_close(&sample);
}

/* ---- every dtype, on the usual family ---- */

static void create(sample_family *sample, void **state, const char *method)
{
    sample_family_create(sample, support_directory(state), TASKS);
    sample->options.budget = 0;
    sample->options.method = method;
}

static double task_error(const json_t *manifest, const char *task)
{
    const json_t *all = json_object_get(json_object_get(manifest, "error"), "per_task");
    return json_number_value(json_object_get(all, task));
}

/* Bytes of all files of the package, as its manifest counts and as they are. */
static uint64_t files_bytes(const sample_family *sample, const json_t *manifest)
{
    uint64_t sum = 0;
    size_t index = 0;
    const json_t *file = NULL;
    json_array_foreach(json_object_get(manifest, "files"), index, file)
    {
        char path[128] = "package/";
        struct stat found;
        strcat(path, json_string_value(json_object_get(file, "name")));
        assert_int_equal(fstatat(sample->output, path, &found, 0), 0);
        assert_int_equal(json_integer_value(json_object_get(file, "bytes")), found.st_size);
        sum += (uint64_t)found.st_size;
    }
    assert_int_equal(index, TASKS + 1);
    return sum;
}

/* The most that the plan promised. */
static uint64_t planned_bytes(const sample_family *sample)
{
    didi_merge *merge = NULL;
    didi_error error = {0};
    didi_merge_options options = sample->options;
    options.output_fd = options.work_fd = -1;
    sample_must(didi_merge_open(&options, NULL, &merge, &error), &error);
    const didi_plan *plan = didi_merge_plan(merge);
    uint64_t bytes = plan->artifact_bytes;
    assert_int_equal(plan->dense_parameters, SAMPLE_PARAMETERS);
    assert_int_equal(plan->factor_parameters, 0);
    assert_true(plan->disk_bytes >= plan->artifact_bytes);
    didi_merge_close(merge);
    return bytes;
}

/* What exports miss is what was measured; returns the error over all tasks. */
static double check_dtype(sample_family *sample)
{
    static const char *const tasks[TASKS] = {"t0", "t1", "t2"};
    didi_error error = {0};
    uint64_t planned = planned_bytes(sample);
    sample_must(file_remove_tree(sample->output, "package", &error), &error);
    sample_must(sample_merge(&sample->options, 2, 0, &error), &error);
    json_t *manifest = sample_manifest(sample, "package");
    for (size_t t = 0; t < TASKS; t++) {
        int exported = sample_export(sample, "package", t);
        double measured = task_error(manifest, tasks[t]);
        double wanted = sample_exported_error(sample, exported, t);
        sample_assert_near(measured, wanted, 1e-5 * wanted + 1e-8);
        close(exported);
    }
    uint64_t bytes = files_bytes(sample, manifest);
    assert_true(bytes <= planned);
    assert_true(sample_number(manifest, "budget", "bytes") == (double)bytes);
    assert_true(json_is_null(json_object_get(json_object_get(manifest, "budget"), "requested")));
    assert_true(json_is_null(json_object_get(json_object_get(manifest, "budget"), "unit")));
    assert_true(sample_number(manifest, "budget", "parameters") == 1);
    assert_true(sample_number(manifest, "budget", "factors") == 0);
    double all = sample_number(manifest, "error", "relative");
    json_decref(manifest);
    return all;
}

static void every_dtype_gives_what_it_measures(void **state)
{
    /* Twice what a dtype may add to the error, of the energy of the merged vector. */
    static const sample_noise noise = {
        .bf16 = 2e-4, .f16 = 2e-5, .int8 = 4e-4, .int4 = 0.04, .int3 = 0.12};
    for (size_t m = 0; m < METHODS; m++) {
        sample_family sample;
        create(&sample, state, methods[m].name);
        sample.options.method_options = methods[m].options;
        double best = sample_methods_check_dtypes(&sample, check_dtype, &noise);
        if (!(best > 0.01 && best < 1))
            fail_msg("%s has an error of %g", methods[m].name, best);
        sample_family_close(&sample);
    }
}

/* Models in 16 bits, and of several dtypes, are read and served in the base's. */
static void models_of_other_dtypes_are_merged(void **state)
{
    sample_family sample;
    create(&sample, state, "average");
    sample.options.precision = DIDI_PRECISION_BF16;
    sample_model_write(sample.models[1], &(sample_model){.seed = 101, .dtype = DIDI_DTYPE_BF16});
    sample_model_write(sample.models[2], &(sample_model){.seed = 102, .dtype = DIDI_DTYPE_F64});
    double error = check_dtype(&sample);
    assert_true(error > 0.01 && error < 1);
    sample_family_close(&sample);
}

/* ---- what is stored, and what is not ---- */

static void experts_are_empty(void **state)
{
    sample_family sample;
    didi_error error = {0};
    create(&sample, state, "average");
    sample_must(sample_merge(&sample.options, 1, 0, &error), &error);
    assert_int_equal(sample_package_tensors(&sample, "package", "shared.safetensors", NULL), 7);
    assert_int_equal(sample_package_tensors(&sample, "package", "shared.safetensors", "conv.delta"),
                     1);
    assert_int_equal(sample_package_tensors(&sample, "package", "experts/t0.safetensors", NULL), 0);
    assert_int_equal(sample_package_tensors(&sample, "package", "experts/t2.safetensors", NULL), 0);
    sample_family_close(&sample);
}

static void a_tensor_that_no_task_changed_is_not_stored(void **state)
{
    static const didi_precision precisions[] = {DIDI_PRECISION_F32, DIDI_PRECISION_INT8};
    sample_family sample;
    didi_error error = {0};
    create(&sample, state, "task_arithmetic");
    for (size_t t = 0; t < TASKS; t++)
        sample_model_write(sample.models[t], &(sample_model){.seed = 100 + t, .same = "conv"});
    for (size_t i = 0; i < 2; i++) {
        const char *shared = "shared.safetensors";
        sample.options.precision = precisions[i];
        sample_must(file_remove_tree(sample.output, "package", &error), &error);
        sample_must(sample_merge(&sample.options, 1, 0, &error), &error);
        assert_int_equal(sample_package_tensors(&sample, "package", shared, NULL), 6);
        assert_int_equal(sample_package_tensors(&sample, "package", shared,
                                                i == 0 ? "conv.delta" : "conv.delta_packed"),
                         0);
        json_t *manifest = sample_manifest(&sample, "package");
        const json_t *layers = json_object_get(json_object_get(manifest, "error"), "per_layer");
        assert_true(json_number_value(json_object_get(layers, "conv")) == 0);
        assert_int_equal(sample_number(manifest, "budget", "dense_parameters"),
                         SAMPLE_PARAMETERS - 72);
        json_decref(manifest);
    }
    sample_family_close(&sample);
}

static void excluded_tensors_are_served_as_the_base_has_them(void **state)
{
    static const char *const exclude[] = {"a.weight", "bias"};
    sample_family sample;
    didi_error error = {0};
    create(&sample, state, "average");
    sample.options.exclude = exclude;
    sample.options.exclude_count = 2;
    sample_must(sample_merge(&sample.options, 1, 0, &error), &error);
    assert_int_equal(sample_package_tensors(&sample, "package", "shared.safetensors", NULL), 5);
    close(sample_export(&sample, "package", 0));
    sample_family_close(&sample);
}

/* ---- what cannot be merged ---- */

static void check_refused(sample_family *sample, int wanted, const char *subject,
                          const char *message)
{
    didi_error error = {0};
    sample_must(file_remove_contents(sample->work, &error), &error);
    int status = sample_merge(&sample->options, 2, 0, &error);
    if (status != wanted)
        fail_msg("%s, not %s: %s", didi_status_name(status), didi_status_name(wanted),
                 error.message);
    support_assert_contains(error.subject, subject);
    support_assert_contains(error.message, message);
    assert_int_equal(support_entries(sample->output), 0);
}

static void a_task_like_the_base_is_refused(void **state)
{
    for (size_t m = 0; m < METHODS; m++) {
        sample_family sample;
        create(&sample, state, methods[m].name);
        sample.options.method_options = methods[m].options;
        sample_model_write(sample.models[1], &(sample_model){0});
        check_refused(&sample, DIDI_MISMATCH, "lab/t1", "identical to the base lab/base");
        sample.options.precision = DIDI_PRECISION_INT4;
        check_refused(&sample, DIDI_MISMATCH, "lab/t1", "identical to the base lab/base");
        sample_family_close(&sample);
    }
}

static void tasks_like_each_other_are_merged(void **state)
{
    sample_family sample;
    create(&sample, state, "average");
    for (size_t t = 0; t < TASKS; t++)
        sample_model_write(sample.models[t], &(sample_model){.seed = 100});
    assert_true(check_dtype(&sample) < 1e-12);
    sample_family_close(&sample);
}

static void integers_that_differ_may_be_refused(void **state)
{
    sample_family sample;
    create(&sample, state, "average");
    sample.options.own_tensors = DIDI_OWN_REFUSE;
    sample_model_write(sample.models[2], &(sample_model){.seed = 5, .steps = 1});
    check_refused(&sample, DIDI_MISMATCH, "lab/t2", "'steps'");
    sample_family_close(&sample);
}

static void numbers_that_cannot_be_merged_are_named(void **state)
{
    static const char *const tensors[] = {"a.weight", "bias", "conv", "embed.weight"};
    sample_family sample;
    create(&sample, state, "average");
    for (size_t i = 0; i < 4; i++) {
        sample_model_write(
            sample.models[2],
            &(sample_model){.seed = 5, .poke = tensors[i], .poke_value = i < 2 ? NAN : INFINITY});
        check_refused(&sample, DIDI_NUMERIC, "lab/t2", tensors[i]);
    }
    sample_family_close(&sample);
}

/* A sum that no output dtype can hold: neither as it is nor packed. */
static void sums_out_of_range_are_refused(void **state)
{
    static const didi_precision precisions[] = {DIDI_PRECISION_F32, DIDI_PRECISION_BF16,
                                                DIDI_PRECISION_F16, DIDI_PRECISION_INT8,
                                                DIDI_PRECISION_INT3};
    static const char *const tensors[] = {"a.weight", "bias"};
    sample_family sample;
    create(&sample, state, "task_arithmetic");
    sample.options.method_options = "{\"scale\": 10}";
    for (size_t i = 0; i < 2; i++) {
        sample_model_write(sample.models[0],
                           &(sample_model){.seed = 5, .poke = tensors[i], .poke_value = 3e38F});
        for (size_t p = 0; p < sizeof precisions / sizeof *precisions; p++) {
            sample.options.precision = precisions[p];
            check_refused(&sample, DIDI_NUMERIC, tensors[i], "element 1 is out of the range");
        }
    }
    sample_model_write(sample.models[0],
                       &(sample_model){.seed = 5, .poke = "bias", .poke_value = 1e5F});
    sample.options.precision = DIDI_PRECISION_F16;
    check_refused(&sample, DIDI_NUMERIC, "bias", "element 1 is out of the range of F16");
    sample_family_close(&sample);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        support_test(the_reference_is_met),
        support_test(weights_of_tasks_count),
        support_test(a_single_task_is_served_as_it_is),
        support_test(every_dtype_gives_what_it_measures),
        support_test(models_of_other_dtypes_are_merged),
        support_test(experts_are_empty),
        support_test(a_tensor_that_no_task_changed_is_not_stored),
        support_test(excluded_tensors_are_served_as_the_base_has_them),
        support_test(a_task_like_the_base_is_refused),
        support_test(tasks_like_each_other_are_merged),
        support_test(integers_that_differ_may_be_refused),
        support_test(numbers_that_cannot_be_merged_are_named),
        support_test(sums_out_of_range_are_refused),
    };
    return cmocka_run_group_tests(tests, sample_use_one_thread, NULL);
}
