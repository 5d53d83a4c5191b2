/* SPDX-License-Identifier: Apache-2.0 */
/* LoRA adapters out of packages written by hand: their products against the package's own. */
#include "src/didi.h"
#include "tests/unit/sample_family.h"
#include "tests/unit/sample_layer.h"
#include "tests/unit/sample_stage.h"
#include "tests/unit/sample_summary.h"
#include "tests/unit/support.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const json_t *row_of(const json_t *rows, const char *key, const char *value)
{
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);
        if (strcmp(json_string_value(json_object_get(row, key)), value) == 0)
            return row;
    }
    return NULL;
}

static double number(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    assert_true(json_is_number(value));
    return json_number_value(value);
}

static bool has_word(const json_t *object, const char *key, const char *word)
{
    const json_t *list = json_object_get(object, key);
    for (size_t i = 0; i < json_array_size(list); i++)
        if (strcmp(json_string_value(json_array_get(list, i)), word) == 0)
            return true;
    return false;
}

/* ---- tests */

static void portable_adapters_have_one_rank_and_all_layers(void **state)
{
    static const char *const filled[] = {"model.layers.0.k_proj", "model.layers.0.v_proj",
                                         "model.layers.1.k_proj", "model.layers.1.v_proj"};
    static const char *const changed[] = {"model.layers.0.q_proj", "model.layers.1.q_proj",
                                          "model.layers.1.c_attn", "model.layers.1.mlp"};
    sample_stage self;
    sample_stage_prepare(&self, support_directory(state));
    sample_stage_must(&self);
    assert_int_equal(self.report.rank, 32); /* 20, rounded up */
    assert_int_equal(self.report.modules, 9);
    assert_int_equal(self.report.left_out, 7);
    sample_adapter opened = sample_adapter_open(&self);
    assert_int_equal(safetensors_header_count(opened.header), 18);
    for (size_t i = 0; i < safetensors_header_count(opened.header); i++) {
        const safetensors_tensor *array = safetensors_header_at(opened.header, i);
        bool a = strstr(array->name, ".lora_A.weight") != NULL;
        assert_int_equal(array->shape[a ? 0 : 1], 32);
        assert_int_equal(array->dtype, DIDI_DTYPE_F32);
    }
    for (size_t i = 0; i < 4; i++) {
        assert_true(sample_adapter_error(&self, &opened, changed[i], sample_adapter_linear, false) <
                    1e-12);
        assert_true(sample_adapter_error(&self, &opened, filled[i], sample_adapter_linear, false) ==
                    0);
    }
    /* the head is kept whole: it gets the rank of the others, which is its own here */
    assert_true(sample_adapter_error(&self, &opened, "lm_head", sample_adapter_linear, false) <
                1e-12);
    assert_int_equal((int)number(opened.config, "r"), 32);
    assert_int_equal((int)number(opened.config, "lora_alpha"), 32);
    assert_int_equal(json_object_size(json_object_get(opened.config, "rank_pattern")), 0);
    assert_int_equal(json_object_size(json_object_get(opened.config, "alpha_pattern")), 0);
    assert_true(json_is_null(json_object_get(opened.config, "modules_to_save")));
    assert_true(json_is_false(json_object_get(opened.config, "fan_in_fan_out")));
    assert_true(has_word(opened.config, "target_modules", "q_proj"));
    assert_true(has_word(opened.config, "target_modules", "lm_head"));
    assert_int_equal(json_array_size(json_object_get(opened.config, "target_modules")), 6);
    assert_int_equal((int)number(opened.report, "vllm_max_lora_rank"), 32);
    sample_adapter_close(&opened);
    sample_stage_finish(&self);
}

static void exact_adapters_keep_ranks_and_save_vectors(void **state)
{
    static const struct {
        const char *module, *pattern;
        int rank;
    } rows[] = {
        {"model.layers.0.q_proj", "layers\\.0\\.q_proj", 7},
        {"model.layers.1.q_proj", "layers\\.1\\.q_proj", 2},
        {"model.layers.1.c_attn", "layers\\.1\\.c_attn", 2},
        {"model.layers.1.mlp", NULL, 20},
        {"lm_head", NULL, 20}, /* a key without a first component: it has r */
    };
    sample_stage self;
    const safetensors_tensor *found = NULL;
    sample_stage_prepare(&self, support_directory(state));
    self.options.exact = true;
    sample_stage_must(&self);
    assert_int_equal(self.report.rank, 20);
    sample_adapter opened = sample_adapter_open(&self);
    const json_t *ranks = json_object_get(opened.config, "rank_pattern");
    assert_true(json_equal(ranks, json_object_get(opened.config, "alpha_pattern")));
    assert_int_equal(json_object_size(ranks), 5); /* with conv and embed_tokens */
    for (size_t i = 0; i < 5; i++) {
        assert_true(sample_adapter_error(&self, &opened, rows[i].module, sample_adapter_linear,
                                         false) < 1e-12);
        assert_int_equal(sample_adapter_find(&opened, rows[i].module, "lora_A.weight")->shape[0],
                         rows[i].rank);
        if (rows[i].pattern != NULL)
            assert_int_equal((int)number(ranks, rows[i].pattern), rows[i].rank);
        assert_true(has_word(opened.config, "target_modules", rows[i].module));
    }
    assert_null(sample_adapter_find(&opened, "model.layers.0.k_proj", "lora_A.weight"));
    assert_true(sample_adapter_error(&self, &opened, "model.embed_tokens", sample_adapter_embedding,
                                     true) < 1e-12);
    assert_true(sample_adapter_error(&self, &opened, "model.conv", sample_adapter_linear, false) <
                1e-12);
    assert_int_equal(sample_adapter_find(&opened, "model.conv", "lora_A.weight")->shape[3], 3);
    assert_int_equal(sample_adapter_find(&opened, "model.conv", "lora_B.weight")->dimensions, 4);
    /* a norm's new value is saved whole, both of its vectors under one module */
    assert_int_equal(json_array_size(json_object_get(opened.config, "modules_to_save")), 1);
    assert_true(has_word(opened.config, "modules_to_save", "model.layers.1.norm"));
    float *saved = sample_adapter_read_array(&opened, "model.layers.1.norm", "weight", &found);
    double *change = sample_stage_change(&self, "model.layers.1.norm.weight", 1, 16);
    float before[16];
    sample_stage_fill(NULL, 9, before, 16);
    for (size_t i = 0; i < 16; i++)
        sample_assert_near((double)saved[i], (double)before[i] + change[i], 1e-7);
    free(saved);
    free(change);
    assert_non_null(sample_adapter_find(&opened, "model.layers.1.norm", "bias"));
    sample_adapter_close(&opened);
    sample_stage_finish(&self);
}

static void what_is_left_out_is_told(void **state)
{
    static const char *const tensors[] = {"lm_head.weight", "model.layers.0.q_proj.bias",
                                          "model.layers.1.attn.in_proj_weight",
                                          "model.depthwise.weight"};
    sample_stage self;
    double shares = 0;
    sample_stage_prepare(&self, support_directory(state));
    self.options.exact = true;
    sample_stage_must(&self);
    assert_int_equal(self.report.left_out, 3);
    sample_adapter opened = sample_adapter_open(&self);
    const json_t *rows = json_object_get(opened.report, "left_out");
    for (size_t i = 0; i < 4; i++) {
        const json_t *row = row_of(rows, "tensor", tensors[i]);
        assert_true((row != NULL) == (i > 0));
        if (row == NULL)
            continue;
        assert_true(json_is_string(json_object_get(row, "reason")));
        shares += number(row, "share");
    }
    sample_assert_near(shares, self.report.lost, 1e-8);
    sample_assert_near(number(opened.report, "lost"), self.report.lost, 1e-8);
    /* of all that changed */
    double energy = 0;
    double left = 0;
    for (size_t i = 0; i < SAMPLE_STAGE_TENSORS; i++) {
        uint64_t count = 1;
        for (size_t d = 0; d < sample_stage_base[i].dimensions; d++)
            count *= sample_stage_base[i].shape[d];
        uint64_t m = sample_stage_base[i].dimensions > 1 ? sample_stage_base[i].shape[0] : 1;
        double *change = sample_stage_change(&self, sample_stage_base[i].name, m, count / m);
        double own = 0;
        for (uint64_t e = 0; e < count; e++)
            own += change[e] * change[e];
        energy += own;
        left += row_of(rows, "tensor", sample_stage_base[i].name) != NULL ? own : 0;
        free(change);
    }
    sample_assert_near(self.report.lost, left / energy, 1e-6);
    sample_adapter_close(&opened);
    sample_stage_finish(&self);
}

/* Half of the singular values of each matrix are cut; what they held is the error told. */
static void caps_tell_the_error_they_make(void **state)
{
    static const struct {
        const char *module;
        size_t rows, columns;
    } modules[] = {
        {"model.layers.0.q_proj", 24, 16}, {"model.layers.1.mlp", 12, 16}, {"lm_head", 40, 16}};
    sample_stage self;
    sample_stage_prepare(&self, support_directory(state));
    self.options.exact = true;
    self.options.max_rank = 4;
    sample_stage_must(&self);
    assert_int_equal(self.report.rank, 4);
    sample_adapter opened = sample_adapter_open(&self);
    for (size_t i = 0; i < 3; i++) {
        char tensor[128];
        (void)snprintf(tensor, sizeof tensor, "%s.weight", modules[i].module);
        size_t count = modules[i].rows * modules[i].columns;
        double found =
            sample_adapter_error(&self, &opened, modules[i].module, sample_adapter_linear, false);
        const json_t *row =
            row_of(json_object_get(opened.report, "modules"), "module", modules[i].module);
        sample_assert_near(number(row, "error"), found, 1e-6 * found);
        assert_true(found <= self.report.worst_error * (1 + 1e-9));
        /* no other matrix of the rank is nearer */
        double *change = sample_stage_change(&self, tensor, modules[i].rows, modules[i].columns);
        float x[SAMPLE_STAGE_NUMBERS];
        double sigma[16];
        double all = 0;
        double tail = 0;
        for (size_t e = 0; e < count; e++)
            x[e] = (float)change[e];
        size_t full = smaller(modules[i].rows, modules[i].columns);
        triplets leading = {.count = full, .sigma = sigma};
        didi_error error = {0};
        sample_must(spectrum_leading(modules[i].rows, modules[i].columns, x, &leading, &error),
                    &error);
        for (size_t k = 0; k < full; k++) {
            all += sigma[k] * sigma[k];
            tail += k >= 4 ? sigma[k] * sigma[k] : 0;
        }
        sample_assert_near(found, tail / all, 1e-5 * tail / all);
        free(change);
    }
    sample_adapter_close(&opened);
    self.options.exact = false;
    self.options.max_rank = 20; /* 16 of it can be used */
    sample_stage_must(&self);
    assert_int_equal(self.report.rank, 16);
    opened = sample_adapter_open(&self);
    assert_true(sample_adapter_error(&self, &opened, "model.layers.1.mlp", sample_adapter_linear,
                                     false) < 1e-10);
    sample_adapter_close(&opened);
    sample_stage_finish(&self);
}

static void conv1d_weights_are_turned(void **state)
{
    static const char gpt2[] = "{\"model_type\": \"gpt2\"}";
    static const char other[] = "{\"model_type\": \"gpt_bigcode\"}";
    sample_stage self;
    sample_stage_prepare(&self, support_directory(state));
    for (int turned = 0; turned < 2; turned++) {
        sample_stage_write_base(&self, turned ? gpt2 : other);
        sample_stage_must(&self);
        sample_adapter opened = sample_adapter_open(&self);
        assert_int_equal(
            sample_adapter_find(&opened, "model.layers.1.c_attn", "lora_A.weight")->shape[1],
            turned ? 16 : 48);
        assert_true(sample_adapter_error(&self, &opened, "model.layers.1.c_attn",
                                         sample_adapter_linear, turned) < 1e-12);
        assert_true(sample_adapter_error(&self, &opened, "model.layers.0.q_proj",
                                         sample_adapter_linear, false) < 1e-12);
        assert_int_equal(json_is_true(json_object_get(opened.config, "fan_in_fan_out")), turned);
        sample_adapter_close(&opened);
    }
    sample_stage_finish(&self);
}

static void tied_embeddings_are_left_out(void **state)
{
    static const sample_stage_part parts[] = {
        {0, "model.embed_tokens.weight.shared_B", {40, 2}},
        {0, "model.embed_tokens.weight.shared_A", {2, 16}},
        {1, "model.layers.0.q_proj.weight.expert_B", {24, 2}},
        {1, "model.layers.0.q_proj.weight.expert_A", {2, 16}}};
    static const char config[] = "{\"architectures\": [\"LlamaForCausalLM\"]}";
    static const uint64_t shapes[2][2] = {{40, 16}, {24, 16}};
    const safetensors_layout_entry entries[2] = {
        {"model.embed_tokens.weight", DIDI_DTYPE_F32, 2, shapes[0]},
        {"model.layers.0.q_proj.weight", DIDI_DTYPE_F32, 2, shapes[1]}};
    sample_stage self;
    sample_stage_prepare_as(&self, support_directory(state), parts, 4, DIDI_DTYPE_F32);
    self.options.exact = true;
    sample_tensors_write(self.base, entries, 2, sample_stage_fill, NULL);
    sample_stage_must(&self); /* no head is known of */
    assert_int_equal(self.report.left_out, 0);
    support_write(self.base, "config.json", config, strlen(config));
    sample_stage_must(&self);
    assert_int_equal(self.report.left_out, 1);
    sample_stage_finish(&self);
}

/* ---- dtypes */

static void numbers_have_the_dtype_asked_for(void **state)
{
    static const struct {
        didi_precision precision;
        didi_dtype dtype;
        double bound;
    } rows[] = {{DIDI_PRECISION_F32, DIDI_DTYPE_F32, 1e-12},
                {DIDI_PRECISION_BF16, DIDI_DTYPE_BF16, 1e-4},
                {DIDI_PRECISION_F16, DIDI_DTYPE_F16, 1e-6}};
    sample_stage self;
    sample_stage_prepare(&self, support_directory(state));
    self.options.as_packaged = false;
    for (size_t i = 0; i < 3; i++) {
        self.options.precision = rows[i].precision;
        sample_stage_must(&self);
        sample_adapter opened = sample_adapter_open(&self);
        const safetensors_tensor *a =
            sample_adapter_find(&opened, "model.layers.0.q_proj", sample_adapter_linear[0]);
        assert_int_equal(a->dtype, rows[i].dtype);
        double found = sample_adapter_error(&self, &opened, "model.layers.0.q_proj",
                                            sample_adapter_linear, false);
        assert_true(found < rows[i].bound);
        assert_true(i == 0 || found > 0);
        const json_t *row =
            row_of(json_object_get(opened.report, "modules"), "module", "model.layers.0.q_proj");
        sample_assert_near(number(row, "error"), found, 1e-3 * found + 1e-13);
        sample_adapter_close(&opened);
    }
    sample_stage_finish(&self);
}

static void plain_packages_keep_their_dtype(void **state)
{
    static const didi_dtype dtypes[] = {DIDI_DTYPE_BF16, DIDI_DTYPE_F16};
    for (size_t i = 0; i < 2; i++) {
        sample_stage self;
        sample_stage_prepare_as(
            &self, sample_stage_directory(support_directory(state), i == 0 ? "one" : "two"),
            sample_stage_usual, SAMPLE_STAGE_PARTS, dtypes[i]);
        sample_stage_must(&self);
        sample_adapter opened = sample_adapter_open(&self);
        assert_int_equal(
            sample_adapter_find(&opened, "model.layers.0.q_proj", sample_adapter_linear[0])->dtype,
            dtypes[i]);
        assert_true(sample_adapter_error(&self, &opened, "model.layers.0.q_proj",
                                         sample_adapter_linear, false) < 1e-12);
        sample_adapter_close(&opened);
        close(self.root);
        sample_stage_finish(&self);
    }
}

/* A package of 4 bits, by a merge. */
static void packed_factors_are_written_as_bf16(void **state)
{
    static const char *const exclude[] = {"bias", "conv", "one", "wide", "embed.weight"};
    sample_family sample;
    didi_error error = {0};
    sample_family_create(&sample, support_directory(state), 2);
    sample.options.precision = DIDI_PRECISION_INT4;
    sample.options.exclude = exclude;
    sample.options.exclude_count = 5;
    sample.options.budget = 0.9;
    sample_must(sample_merge(&sample.options, 1, 0, &error), &error);
    int package = sample_stage_directory(sample.output, "package");
    int out = sample_stage_directory(sample.root, "out");
    didi_export wanted = {.artifact_fd = package,
                          .base_fd = sample.base,
                          .output_fd = out,
                          .base_label = "lab/base",
                          .task = "t1",
                          .verify_base = true};
    didi_adapter_options options = {.exact = true, .as_packaged = true};
    didi_adapter_report report = {0};
    sample_must(didi_export_adapter(&wanted, &options, &report, &error), &error);
    assert_int_equal(report.modules, 2);
    assert_true(report.error > 0 && report.error < 1e-4);
    assert_true(report.lost == 0);
    wanted.base_fd = sample.models[0];
    assert_int_equal(didi_export_adapter(&wanted, &options, &report, &error), DIDI_CHANGED);
    close(package);
    close(out);
    sample_family_close(&sample);
}

/* ---- names that meet */

static void keys_that_match_two_modules_share_a_rank(void **state)
{
    static const sample_stage_part parts[] = {{1, "encoder.layer.0.q.weight.expert_B", {8, 2}},
                                              {1, "encoder.layer.0.q.weight.expert_A", {2, 8}},
                                              {1, "decoder.layer.0.q.weight.expert_B", {8, 3}},
                                              {1, "decoder.layer.0.q.weight.expert_A", {3, 8}},
                                              {1, "decoder.layer.1.q.weight.expert_B", {8, 5}},
                                              {1, "decoder.layer.1.q.weight.expert_A", {5, 8}}};
    static const uint64_t shape[2] = {8, 8};
    const safetensors_layout_entry entries[3] = {
        {"encoder.layer.0.q.weight", DIDI_DTYPE_F32, 2, shape},
        {"decoder.layer.0.q.weight", DIDI_DTYPE_F32, 2, shape},
        {"decoder.layer.1.q.weight", DIDI_DTYPE_F32, 2, shape}};
    sample_stage self;
    sample_stage_prepare_as(&self, support_directory(state), parts, 6, DIDI_DTYPE_F32);
    self.options.exact = true;
    sample_tensors_write(self.base, entries, 3, sample_stage_fill, NULL);
    sample_stage_must(&self);
    sample_adapter opened = sample_adapter_open(&self);
    const json_t *ranks = json_object_get(opened.config, "rank_pattern");
    assert_int_equal(json_object_size(ranks), 1);
    assert_int_equal((int)number(ranks, "layer\\.0\\.q"), 3);
    assert_int_equal(
        sample_adapter_find(&opened, "encoder.layer.0.q", sample_adapter_linear[0])->shape[0], 3);
    assert_int_equal(
        sample_adapter_find(&opened, "decoder.layer.1.q", sample_adapter_linear[0])->shape[0], 5);
    sample_adapter_close(&opened);
    sample_stage_finish(&self);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        support_test(portable_adapters_have_one_rank_and_all_layers),
        support_test(exact_adapters_keep_ranks_and_save_vectors),
        support_test(what_is_left_out_is_told),
        support_test(caps_tell_the_error_they_make),
        support_test(conv1d_weights_are_turned),
        support_test(tied_embeddings_are_left_out),
        support_test(numbers_have_the_dtype_asked_for),
        support_test(plain_packages_keep_their_dtype),
        support_test(packed_factors_are_written_as_bf16),
        support_test(keys_that_match_two_modules_share_a_rank),
    };
    return cmocka_run_group_tests(tests, sample_use_one_thread, NULL);
}
