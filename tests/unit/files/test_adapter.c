/* SPDX-License-Identifier: Apache-2.0 */
/* PEFT directories: what is read of them, and what is refused by name. */
#include "src/base/base.h"
#include "src/files/adapter.h"
#include "src/files/adapter_config.h"
#include "tests/unit/support.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define CONFIG(members) "{\"peft_type\":\"LORA\"," members "}"

static adapter_config *parse(const char *text)
{
    adapter_config *config = NULL;
    didi_error error = {0};
    if (adapter_config_parse(text, strlen(text), "config", &config, &error) != DIDI_OK)
        fail_msg("%s", error.message);
    return config;
}

static void check_scale(const char *text, const char *module, size_t rank, double scale)
{
    adapter_config *config = parse(text);
    adapter_scale found = adapter_config_scale(config, module);
    assert_int_equal(found.rank, rank);
    assert_true(fabs(found.scale - scale) < 1e-12);
    adapter_config_free(config);
}

static void scales_follow_the_configuration(void **state)
{
    (void)state;
    check_scale(CONFIG("\"x\":1"), "m.q", 8, 1);
    check_scale(CONFIG("\"r\":4,\"lora_alpha\":6"), "m.q", 4, 1.5);
    check_scale(CONFIG("\"r\":4,\"lora_alpha\":6,\"use_rslora\":true"), "m.q", 4, 3);
    static const char patterns[] =
        CONFIG("\"r\":4,\"lora_alpha\":8,\"rank_pattern\":{\"layers\\\\.\\\\d+\\\\.q\":2,\"q\":16,"
               "\"(?:k|v)\":1},\"alpha_pattern\":{\"model.layers.0.v\":5,\"^mlp\":7}");
    check_scale(patterns, "model.layers.12.q", 2, 4);
    check_scale(patterns, "model.layers.x.q", 16, 0.5);
    check_scale(patterns, "q", 16, 0.5);
    check_scale(patterns, "model.layers.0.k", 1, 8);
    check_scale(patterns, "model.layers.0.v", 1, 5);
    check_scale(patterns, "model.layers.0.qq", 4, 2);
    check_scale(patterns, "model.layers.0.q.x", 4, 2);
}

static void check_config(const char *text, int status, const char *message)
{
    adapter_config *config = NULL;
    didi_error error = {0};
    assert_int_equal(adapter_config_parse(text, strlen(text), "a/config", &config, &error), status);
    assert_null(config);
    support_assert_contains(error.message, message);
    support_assert_contains(error.subject, "a/config");
}

static void what_cannot_be_merged_is_named(void **state)
{
    (void)state;
    check_config("", DIDI_FORMAT, "JSON");
    check_config("[1]", DIDI_FORMAT, "not a JSON object");
    check_config(CONFIG("\"r\":1,\"r\":2"), DIDI_FORMAT, "uplicate");
    check_config("{\"r\":1}", DIDI_INVALID, "peft_type");
    check_config("{\"peft_type\":\"VERA\"}", DIDI_INVALID, "VERA");
    check_config(CONFIG("\"r\":0"), DIDI_FORMAT, "r must be");
    check_config(CONFIG("\"r\":2000000"), DIDI_FORMAT, "r must be");
    check_config(CONFIG("\"lora_alpha\":\"1\""), DIDI_FORMAT, "lora_alpha");
    check_config(CONFIG("\"use_rslora\":1"), DIDI_FORMAT, "use_rslora");
    check_config(CONFIG("\"rank_pattern\":[]"), DIDI_FORMAT, "rank_pattern");
    check_config(CONFIG("\"rank_pattern\":{\"a\":0}"), DIDI_FORMAT, "out of range");
    static const char *const patterns[] = {"a{9}",    "(?=a)", "(a+)+", "a**",
                                           "[\\\\d]", "(",     "\\\\1", "a\\\\"};
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++) {
        char text[128];
        (void)snprintf(text, sizeof text, CONFIG("\"alpha_pattern\":{\"%s\":1}"), patterns[i]);
        check_config(text, DIDI_FORMAT, "alpha_pattern");
    }
    check_config(CONFIG("\"lora_bias\":true"), DIDI_INVALID, "lora_bias");
    check_config(CONFIG("\"layer_replication\":[[0,2]]"), DIDI_INVALID, "layer_replication");
    check_config(CONFIG("\"init_lora_weights\":\"loftq\""), DIDI_INVALID, "loftq");
    adapter_config_free(parse(CONFIG("\"lora_bias\":false,\"layer_replication\":null,"
                                     "\"target_parameters\":[],\"init_lora_weights\":true")));
}

/* ---- tensors ---- */

#define FLOATS(name, shape, from, to)                                                              \
    "\"" name "\":{\"dtype\":\"F32\",\"shape\":" shape ",\"data_offsets\":[" #from "," #to "]}"
#define PAIR                                                                                       \
    FLOATS("base_model.model.m.q.lora_A.weight", "[2,3]", 0, 24)                                   \
    "," FLOATS("base_model.model.m.q.lora_B.weight", "[5,2]", 24, 64)
#define TWO CONFIG("\"r\":2,\"base_model_name_or_path\":\"org/base\"")

static int read_adapter(int directory, const char *config, const char *header, size_t bytes,
                        checkpoint **ret_files, adapter **ret_adapter, didi_error *error)
{
    support_write(directory, "adapter_config.json", config, strlen(config));
    support_write_image(directory, "adapter_model.safetensors", header, bytes);
    int status = checkpoint_open(directory, "lab/a", ret_files, error);
    return status == DIDI_OK ? adapter_read(*ret_files, ret_adapter, error) : status;
}

static void pairs_are_found(void **state)
{
    int directory = support_directory(state);
    checkpoint *files = NULL;
    adapter *found = NULL;
    didi_error error = {0};
    assert_int_equal(
        read_adapter(directory, TWO,
                     "{" PAIR
                     "," FLOATS("base_model.model.e.lora_embedding_A", "[2,7]", 64,
                                120) "," FLOATS("base_model.model.e.lora_embedding_B", "[3,2]", 120,
                                                144) "," FLOATS("base_model."
                                                                "model.head."
                                                                "modules_to_"
                                                                "save.default."
                                                                "bias",
                                                                "[2]", 144, 152) "}",
                     152, &files, &found, &error),
        DIDI_OK);
    assert_true(checkpoint_is_adapter(files));
    assert_int_equal(checkpoint_file_count(files), 2);
    assert_string_equal(checkpoint_file_at(files, 1)->name, "adapter_config.json");
    assert_int_equal(checkpoint_count(files), 5);
    assert_int_equal(adapter_count(found), 3);
    assert_string_equal(adapter_base_name(found), "org/base");
    const adapter_change *linear = adapter_find(found, "m.q.weight");
    assert_true(linear->rank == 2 && linear->rows == 5 && linear->columns == 3);
    assert_true(linear->scale == 4 && linear->is_linear && !linear->transposed);
    const adapter_change *embedding = adapter_find(found, "e.weight");
    assert_true(embedding->transposed && embedding->rows == 3 && embedding->columns == 7);
    const adapter_change *head = adapter_find(found, "head.bias");
    assert_true(head->value != NULL && head->a == NULL);
    assert_null(adapter_find(found, "head.weight"));
    char hex[65];
    assert_int_equal(checkpoint_digest(files, 1, NULL, NULL, hex, &error), DIDI_OK);
    assert_int_equal(checkpoint_verify_unchanged(files, &error), DIDI_OK);
    support_write(directory, "adapter_config.json", "{}", 2);
    assert_int_equal(checkpoint_verify_unchanged(files, &error), DIDI_CHANGED);
    adapter_free(found);
    adapter_free(NULL);
    checkpoint_close(files);
}

static void check_tensors(int directory, const char *config, const char *header, size_t bytes,
                          int status, const char *message)
{
    checkpoint *files = NULL;
    adapter *found = NULL;
    didi_error error = {0};
    assert_int_equal(read_adapter(directory, config, header, bytes, &files, &found, &error),
                     status);
    assert_null(found);
    support_assert_contains(error.message, message);
    checkpoint_close(files);
}

static void shapes_that_do_not_fit_are_named(void **state)
{
    int directory = support_directory(state);
    check_tensors(directory, TWO, "{}", 0, DIDI_FORMAT, "no tensors");
    check_tensors(directory, CONFIG("\"r\":3"), "{" PAIR "}", 64, DIDI_FORMAT, "rank 2, but");
    check_tensors(directory, TWO, "{" FLOATS("m.q.lora_A.weight", "[2,3]", 0, 24) "}", 24,
                  DIDI_FORMAT, "A without B");
    check_tensors(directory, TWO, "{" FLOATS("m.q.lora_B.weight", "[2,3]", 0, 24) "}", 24,
                  DIDI_FORMAT, "B without A");
    check_tensors(directory, TWO,
                  "{" FLOATS("m.lora_A.weight", "[0,3]", 0, 0) "," FLOATS("m.lora_B.weight",
                                                                          "[3,0]", 0, 0) "}",
                  0, DIDI_FORMAT, "rank 0");
    check_tensors(directory, TWO,
                  "{" FLOATS("m.lora_A.weight", "[2,1]", 0, 8) "," FLOATS("m.lora_B.weight",
                                                                          "[1,1]", 8, 12) "}",
                  12, DIDI_FORMAT, "A has rank 2 and B 1");
    check_tensors(directory, TWO,
                  "{" PAIR "," FLOATS("m.q.lora_A.default.weight", "[2,3]", 64, 88) "}", 88,
                  DIDI_FORMAT, "twice");
    check_tensors(directory, TWO, "{" PAIR "," FLOATS("m.q.lora_B.bias", "[5]", 64, 84) "}", 84,
                  DIDI_INVALID, "variant of LoRA");
    check_tensors(directory, TWO,
                  "{" PAIR
                  "," FLOATS("base_model.model.m.q.lora_magnitude_vector", "[5]", 64, 84) "}",
                  84, DIDI_FORMAT, "use_dora");
    check_tensors(directory, CONFIG("\"r\":2,\"use_dora\":true"),
                  "{" PAIR
                  "," FLOATS("base_model.model.m.q.lora_magnitude_vector", "[4]", 64, 80) "}",
                  80, DIDI_FORMAT, "one for each row");
}

static void half_an_adapter_is_named(void **state)
{
    int directory = support_directory(state);
    checkpoint *files = NULL;
    didi_error error = {0};
    support_write(directory, "adapter_config.json", TWO, strlen(TWO));
    assert_int_equal(checkpoint_open(directory, "lab/a", &files, &error), DIDI_NOT_FOUND);
    support_assert_contains(error.message, "without adapter_model.safetensors");
    assert_int_equal(unlinkat(directory, "adapter_config.json", 0), 0);
    support_write_image(directory, "adapter_model.safetensors", "{" PAIR "}", 64);
    assert_int_equal(checkpoint_open(directory, "lab/a", &files, &error), DIDI_NOT_FOUND);
    support_assert_contains(error.message, "without adapter_config.json");
    support_write_image(directory, "model.safetensors", "{" PAIR "}", 64);
    assert_int_equal(checkpoint_open(directory, "lab/a", &files, &error), DIDI_OK);
    assert_false(checkpoint_is_adapter(files)); /* a model is a model */
    checkpoint_close(files);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        support_test(scales_follow_the_configuration),
        support_test(what_cannot_be_merged_is_named),
        support_test(pairs_are_found),
        support_test(shapes_that_do_not_fit_are_named),
        support_test(half_an_adapter_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
