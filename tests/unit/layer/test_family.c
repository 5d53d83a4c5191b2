/* SPDX-License-Identifier: Apache-2.0 */
/* Families as the engine reads them: tensors sorted, task vectors loaded, differences refused. */
#include "src/base/fault.h"
#include "src/layer/family.h"
#include "src/math/linalg.h"
#include "tests/unit/sample_family.h"
#include "tests/unit/sample_layer.h"
#include "tests/unit/sample_summary.h"
#include "tests/unit/support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TASKS = 2 };

static const family_tensor *find(const family *all, const char *name)
{
    for (size_t i = 0; i < all->tensor_count; i++)
        if (strcmp(all->tensors[i].name, name) == 0)
            return &all->tensors[i];
    fail_msg("no tensor %s", name);
    return NULL;
}

static void tensors_are_sorted_by_what_they_are(void **state)
{
    static const struct {
        const char *name;
        family_kind kind;
        uint64_t rows, columns, rank_limit;
    } wanted[] = {
        {"a.weight", FAMILY_MATRIX, 24, 16, 9},   {"b.weight", FAMILY_MATRIX, 12, 40, 9},
        {"bias", FAMILY_DENSE, 1, 24, 0},         {"conv", FAMILY_MATRIX, 6, 12, 3},
        {"embed.weight", FAMILY_MATRIX, 4, 6, 2}, {"empty", FAMILY_PASSTHROUGH, 0, 0, 0},
        {"one", FAMILY_DENSE, 1, 1, 0},           {"steps", FAMILY_PASSTHROUGH, 1, 2, 0},
        {"wide", FAMILY_DENSE, 1, 8, 0},
    };
    sample_family sample;
    family *all = NULL;
    didi_error error = {0};
    sample_family_create(&sample, support_directory(state), TASKS);
    sample_must(family_open(&sample.options, &all, &error), &error);
    assert_int_equal(all->tensor_count, 9);
    assert_int_equal(all->parameters, SAMPLE_PARAMETERS);
    for (size_t i = 0; i < 9; i++) {
        const family_tensor *tensor = &all->tensors[i];
        assert_string_equal(tensor->name, wanted[i].name);
        assert_int_equal(tensor->kind, wanted[i].kind);
        assert_true(tensor->rows == wanted[i].rows && tensor->columns == wanted[i].columns);
        assert_int_equal(tensor->rank_limit, wanted[i].rank_limit);
    }
    sample_must(family_verify_unchanged(all, &error), &error);
    family_close(all);
    family_close(NULL);
    sample_family_close(&sample);
}

static void task_vectors_are_differences(void **state)
{
    static const didi_dtype dtypes[] = {DIDI_DTYPE_F32, DIDI_DTYPE_F16, DIDI_DTYPE_F64};
    sample_family sample;
    sample_family_create(&sample, support_directory(state), TASKS);
    for (size_t d = 0; d < 3; d++) {
        family *all = NULL;
        layer *target = NULL;
        atomic_ullong bytes = 0;
        float delta[24 * 16] = {0};
        float spare[24 * 16];
        didi_error error = {0};
        sample_model_write(sample.models[1], &(sample_model){.seed = 9, .dtype = dtypes[d]});
        sample_must(family_open(&sample.options, &all, &error), &error);
        const family_tensor *tensor = find(all, "a.weight");
        sample_must(layer_create(24, 16, TASKS, &target, &error), &error);
        sample_must(family_load_layer(all, tensor, target, &bytes, &error), &error);
        assert_int_equal(bytes, 24 * 16 * (8 + didi_dtype_bits(dtypes[d]) / 8));
        for (size_t t = 0; t < TASKS; t++) {
            const float *tau = target->tau + t * 24 * 16;
            sample_must(family_read_delta(all, t, (family_piece){tensor, 0, 24 * 16}, delta, spare,
                                          &bytes, &error),
                        &error);
            assert_memory_equal(delta, tau, sizeof delta);
            sample_must(family_read_delta(all, t, (family_piece){tensor, 100, 7}, delta, spare,
                                          &bytes, &error),
                        &error);
            assert_memory_equal(delta, tau + 100, 7 * sizeof *delta);
            sample_assert_near(target->energy[t], linalg_energy(tau, 24 * 16), 1e-9);
            assert_true(target->energy[t] > 1);
        }
        layer_free(target);
        family_close(all);
    }
    sample_family_close(&sample);
}

static void a_task_equal_to_the_base_is_zero(void **state)
{
    sample_family sample;
    family *all = NULL;
    layer *target = NULL;
    atomic_ullong bytes = 0;
    didi_error error = {0};
    sample_family_create(&sample, support_directory(state), TASKS);
    sample_model_write(sample.models[0], &(sample_model){.seed = 9, .same = "b.weight"});
    sample_must(family_open(&sample.options, &all, &error), &error);
    sample_must(layer_create(12, 40, TASKS, &target, &error), &error);
    sample_must(family_load_layer(all, find(all, "b.weight"), target, &bytes, &error), &error);
    assert_true(target->energy[0] == 0 && target->energy[1] > 0);
    layer_free(target);
    family_close(all);
    sample_family_close(&sample);
}

static void streamed_layers_read_the_same(void **state)
{
    static const didi_dtype dtypes[] = {DIDI_DTYPE_F32, DIDI_DTYPE_BF16};
    sample_family sample;
    sample_family_create(&sample, support_directory(state), TASKS);
    for (size_t d = 0; d < 2; d++) {
        family *all = NULL;
        layer *whole = NULL;
        layer *streamed = NULL;
        atomic_ullong bytes = 0;
        float rows[7 * 40];
        didi_error error = {0};
        sample_model_write(sample.models[1], &(sample_model){.seed = 9, .dtype = dtypes[d]});
        sample_must(family_open(&sample.options, &all, &error), &error);
        const family_tensor *tensor = find(all, "b.weight");
        sample_must(layer_create(12, 40, TASKS, &whole, &error), &error);
        sample_must(family_load_layer(all, tensor, whole, &bytes, &error), &error);
        bytes = 0;
        sample_must(family_stream_layer(all, tensor, &bytes, &streamed, &error), &error);
        sample_must(layer_measure(streamed, &error), &error);
        assert_memory_equal(streamed->energy, whole->energy, TASKS * sizeof(double));
        assert_int_equal(bytes, 12 * 40 * (3 * 4 + didi_dtype_bits(dtypes[d]) / 8));
        for (size_t t = 0; t < TASKS; t++) {
            sample_must(layer_read_rows(streamed, t, 5, 7, rows, &error), &error);
            assert_memory_equal(rows, whole->tau + (t * 12 + 5) * 40, sizeof rows);
        }
        layer_free(streamed);
        layer_free(whole);
        family_close(all);
    }
    sample_family_close(&sample);
}

static void bad_values_are_named(void **state)
{
    sample_family sample;
    family *all = NULL;
    layer *target = NULL;
    atomic_ullong bytes = 0;
    float delta[24];
    float spare[24];
    didi_error error = {0};
    sample_family_create(&sample, support_directory(state), TASKS);
    sample_model_write(sample.models[1],
                       &(sample_model){.seed = 9, .poke = "b.weight", .poke_value = -INFINITY});
    sample_model_write(sample.models[0],
                       &(sample_model){.seed = 9, .poke = "bias", .poke_value = NAN, .steps = 3});
    sample_must(family_open(&sample.options, &all, &error), &error);
    sample_must(layer_create(12, 40, TASKS, &target, &error), &error);
    assert_int_equal(family_load_layer(all, find(all, "b.weight"), target, &bytes, &error),
                     DIDI_NUMERIC);
    assert_string_equal(error.subject, "lab/t1");
    support_assert_contains(error.message, "'b.weight' of model lab/t1 holds NaN or Inf");
    layer_free(target);
    error = (didi_error){0};
    sample_must(family_stream_layer(all, find(all, "b.weight"), &bytes, &target, &error), &error);
    assert_int_equal(layer_measure(target, &error), DIDI_NUMERIC);
    support_assert_contains(error.message, "'b.weight' of model lab/t1 holds NaN or Inf");
    assert_int_equal(family_read_delta(all, 0, (family_piece){find(all, "bias"), 0, 24}, delta,
                                       spare, &bytes, &error),
                     DIDI_NUMERIC);
    support_assert_contains(error.message, "'bias' of model lab/t0");
    bool same = true;
    sample_must(family_compare(all, find(all, "steps"), 0, &same, &error), &error);
    assert_false(same);
    sample_must(family_compare(all, find(all, "steps"), 1, &same, &error), &error);
    assert_true(same);
    sample_must(family_compare(all, find(all, "empty"), 0, &same, &error), &error);
    assert_true(same);
    layer_free(target);
    family_close(all);
    sample_family_close(&sample);
}

static void a_replaced_file_is_noticed(void **state)
{
    sample_family sample;
    family *all = NULL;
    didi_error error = {0};
    sample_family_create(&sample, support_directory(state), TASKS);
    sample_must(family_open(&sample.options, &all, &error), &error);
    sample_model_write(sample.models[1], &(sample_model){.seed = 77});
    assert_int_equal(family_verify_unchanged(all, &error), DIDI_CHANGED);
    support_assert_contains(error.subject, "lab/t1");
    family_close(all);
    sample_family_close(&sample);
}

static void no_memory_is_told(void **state)
{
    sample_family sample;
    bool fired = true;
    sample_family_create(&sample, support_directory(state), TASKS);
    for (size_t nth = 1; fired; nth++) {
        family *all = NULL;
        layer *target = NULL;
        atomic_ullong bytes = 0;
        char fault[32];
        didi_error error = {0};
        sample_must(layer_create(24, 16, TASKS, &target, &error), &error);
        (void)snprintf(fault, sizeof fault, "alloc:%zu", nth);
        assert_int_equal(fault_arm(fault), 0);
        int status = family_open(&sample.options, &all, &error);
        if (status == DIDI_OK)
            status = family_load_layer(all, find(all, "a.weight"), target, &bytes, &error);
        fired = fault_all_fired();
        assert_int_equal(fault_arm(NULL), 0);
        assert_int_equal(status, fired ? DIDI_NO_MEMORY : DIDI_OK);
        layer_free(target);
        family_close(all);
    }
    sample_family_close(&sample);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        support_test(tensors_are_sorted_by_what_they_are),
        support_test(task_vectors_are_differences),
        support_test(a_task_equal_to_the_base_is_zero),
        support_test(streamed_layers_read_the_same),
        support_test(bad_values_are_named),
        support_test(a_replaced_file_is_noticed),
        support_test(no_memory_is_told),
    };
    return cmocka_run_group_tests(tests, sample_use_one_thread, NULL);
}
