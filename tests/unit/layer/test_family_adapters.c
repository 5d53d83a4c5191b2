/* SPDX-License-Identifier: Apache-2.0 */
/* Families of which some tasks are adapters. */
#include "src/base/base.h"
#include "src/layer/layer.h"
#include "src/math/math.h"
#include "tests/unit/sample_family.h"
#include "tests/unit/sample_layer.h"
#include "tests/unit/sample_summary.h"
#include "tests/unit/support.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TASKS = 3, ROWS = 24, COLUMNS = 16, RANK = 3 };

static const char config[] = "{\"peft_type\":\"LORA\",\"r\":3,\"lora_alpha\":6}";

/* Factors of a.weight, and values of bias, under `module`'s names. */
static void write_adapter(int directory, const char *a_name, const char *b_name, const char *bias)
{
    static const uint64_t shapes[][2] = {{RANK, COLUMNS}, {ROWS, RANK}, {ROWS}};
    const safetensors_layout_entry entries[] = {
        {a_name, DIDI_DTYPE_F32, 2, shapes[0]},
        {b_name, DIDI_DTYPE_F32, 2, shapes[1]},
        {bias, DIDI_DTYPE_F32, 1, shapes[2]},
    };
    const safetensors_contents contents = {.entries = entries, .count = 3};
    safetensors_writer *writer = NULL;
    float values[ROWS * COLUMNS];
    didi_error error = {0};
    (void)unlinkat(directory, "model.safetensors", 0);
    (void)unlinkat(directory, "adapter_model.safetensors", 0);
    support_write(directory, "adapter_config.json", config, sizeof config - 1);
    sample_must(safetensors_writer_create(directory, "adapter_model.safetensors", &contents,
                                          &writer, &error),
                &error);
    for (size_t i = 0; i < 3; i++) {
        size_t count = i == 0 ? RANK * COLUMNS : i == 1 ? ROWS * RANK : ROWS;
        random_normal(i + 1, values, count, 1);
        sample_must(safetensors_writer_put_f32(writer, entries[i].name, 0, values, count, &error),
                    &error);
    }
    sample_must(safetensors_writer_close(writer, false, &error), &error);
}

static const family_tensor *find(const family *all, const char *name)
{
    size_t i = 0;
    while (strcmp(all->tensors[i].name, name) != 0)
        i++;
    return &all->tensors[i];
}

/* 2 B A, as written above. */
static void check_change(const float *tau)
{
    float a[RANK * COLUMNS];
    float b[ROWS * RANK];
    float wanted[ROWS * COLUMNS];
    random_normal(1, a, RANK * COLUMNS, 1);
    random_normal(2, b, ROWS * RANK, 1);
    linalg_gemm(false, false, ROWS, COLUMNS, RANK, 2.0F, b, RANK, a, COLUMNS, 0.0F, wanted,
                COLUMNS);
    for (size_t i = 0; i < ROWS * COLUMNS; i++)
        sample_assert_near((double)tau[i], (double)wanted[i], 1e-5);
}

static void check_layers(const family *all, const family_tensor *tensor)
{
    layer *dense = NULL;
    atomic_ullong bytes = 0;
    didi_error error = {0};
    float rows[ROWS * COLUMNS];
    sample_must(layer_create(ROWS, COLUMNS, TASKS, &dense, &error), &error);
    sample_must(family_load_layer(all, tensor, dense, &bytes, &error), &error);
    check_change(layer_tau(dense, 1));
    for (int streamed = 0; streamed < 2; streamed++) {
        layer *factored = NULL;
        sample_must(family_create_factored(all, tensor, streamed, &bytes, &factored, &error),
                    &error);
        assert_true(layer_is_streamed(factored) == streamed && factored->dense_tasks == 2);
        sample_must(streamed ? layer_measure(factored, &error)
                             : family_load_layer(all, tensor, factored, &bytes, &error),
                    &error);
        for (size_t t = 0; t < TASKS; t++) {
            assert_true(layer_holds_factors(factored, t) == (t == 1));
            sample_must(layer_read_rows(factored, t, 0, ROWS, rows, &error), &error);
            for (size_t i = 0; i < ROWS * COLUMNS; i++)
                sample_assert_near((double)rows[i], (double)layer_tau(dense, t)[i], 1e-5);
            sample_assert_near(factored->energy[t], dense->energy[t], 1e-5 * dense->energy[t]);
        }
        layer_free(factored);
    }
    layer_free(dense);
}

static void tasks_are_models_or_adapters(void **state)
{
    static const char *const prefixes[] = {"base_model.model.", "", "base_model.model.wrapped."};
    sample_family sample;
    sample_family_create(&sample, support_directory(state), TASKS);
    for (size_t p = 0; p < sizeof prefixes / sizeof *prefixes; p++) {
        family *all = NULL;
        didi_error error = {0};
        char *names[3] = {memory_format("%sa.lora_A.weight", prefixes[p]),
                          memory_format("%sa.lora_B.weight", prefixes[p]),
                          memory_format("%sbias", prefixes[p])};
        write_adapter(sample.models[1], names[0], names[1], names[2]);
        sample_must(family_open(&sample.options, &all, &error), &error);
        const family_tensor *tensor = find(all, "a.weight");
        family_ranks ranks = family_sum_ranks(all, tensor);
        assert_true(ranks.tasks == 1 && ranks.sum == RANK && ranks.most == RANK);
        assert_true(tensor->task[1] == NULL && family_has_vector(tensor, 1));
        assert_true(find(all, "bias")->task[1] != NULL && find(all, "b.weight")->task[1] == NULL);
        assert_false(family_has_vector(find(all, "b.weight"), 1));
        assert_true(family_task_has(all, 1, "b.weight") && all->tasks[1].own_count == 0);
        ranks = family_sum_ranks(all, find(all, "b.weight"));
        assert_true(ranks.tasks == 1 && ranks.sum == 0);
        assert_int_equal(all->parameters, SAMPLE_PARAMETERS);
        check_layers(all, tensor);
        family_close(all);
        for (size_t i = 0; i < 3; i++)
            free(names[i]);
    }
    sample_family_close(&sample);
}

static void what_does_not_fit_is_named(void **state)
{
    sample_family sample;
    family *all = NULL;
    didi_error error = {0};
    sample_family_create(&sample, support_directory(state), TASKS);
    write_adapter(sample.models[1], "b.lora_A.weight", "b.lora_B.weight", "bias");
    assert_int_equal(family_open(&sample.options, &all, &error), DIDI_MISMATCH);
    support_assert_contains(error.message,
                            "'b.weight' in lab/t1: factors of 24 x 16, the base has");
    write_adapter(sample.models[1], "c.lora_A.weight", "c.lora_B.weight", "bias");
    assert_int_equal(family_open(&sample.options, &all, &error), DIDI_MISMATCH);
    support_assert_contains(error.message, "'c.weight' in lab/t1: not in the base");
    write_adapter(sample.base, "a.lora_A.weight", "a.lora_B.weight", "bias");
    assert_int_equal(family_open(&sample.options, &all, &error), DIDI_INVALID);
    support_assert_contains(error.message, "is an adapter");
    sample_family_close(&sample);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        support_test(tasks_are_models_or_adapters),
        support_test(what_does_not_fit_is_named),
    };
    return cmocka_run_group_tests(tests, sample_use_one_thread, NULL);
}
