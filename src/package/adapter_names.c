/* SPDX-License-Identifier: Apache-2.0 */
/* What names, shapes and config.json tell of a base's modules. Types are named as transformers
 * names them. */
#include "src/package/adapter.h"

#include "src/base/base.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CONFIG_BYTES_MAX = 16 << 20 };

/* Models with Conv1D, and the modules that are one. */
static const char *const conv1d_models[] = {"gpt2", "openai-gpt", "imagegpt",
                                            "decision_transformer"};
static const char *const conv1d_leaves[] = {"c_attn", "c_proj", "c_fc", "q_attn"};
/* Plain nn.Embedding, whose LoRA PEFT knows: of tokens, which an output head may be tied to, and
 * others. */
static const char *const token_embeddings[] = {"embed_tokens", "wte", "word_embeddings",
                                               "tok_embeddings", "token_embedding"};
static const char *const other_embeddings[] = {"wpe", "position_embeddings", "position_embedding",
                                               "token_type_embeddings"};
/* Other embeddings than those with "embed" in their name; and a name with it that is a Linear. */
static const char *const odd_embeddings[] = {"shared", "relative_attention_bias"};
static const char output_head[] = "embed_out";
/* Types that servers stack into one weight. */
static const char *const stacked[][3] = {{"q_proj", "k_proj", "v_proj"},
                                         {"gate_proj", "up_proj", NULL}};

#define COUNT_OF(list) (sizeof(list) / sizeof *(list))

static bool is_one_of(const char *const *words, size_t count, const char *word)
{
    return word != NULL && text_find(words, count, word) < count;
}

char *adapter_module_path(const char *tensor)
{
    char *path = memory_string(tensor);
    char *dot = path != NULL ? strrchr(path, '.') : NULL;
    if (dot != NULL)
        *dot = '\0';
    return path;
}

const char *adapter_leaf(const char *path)
{
    const char *dot = strrchr(path, '.');
    return dot != NULL ? dot + 1 : path;
}

bool adapter_has_suffix(const char *path, const char *suffix)
{
    size_t length = strlen(path);
    size_t wanted = strlen(suffix);
    return wanted <= length && strcmp(path + length - wanted, suffix) == 0 &&
           (wanted == length || path[length - wanted - 1] == '.');
}

bool adapter_goes_with(const char *leaf, const char *other)
{
    for (size_t i = 0; i < COUNT_OF(stacked); i++) {
        size_t count = stacked[i][2] != NULL ? 3 : 2;
        if (is_one_of(stacked[i], count, leaf) && is_one_of(stacked[i], count, other))
            return true;
    }
    return strcmp(leaf, other) == 0;
}

bool adapter_is_of_tokens(const char *leaf)
{
    return is_one_of(token_embeddings, COUNT_OF(token_embeddings), leaf);
}

/* ---- config.json */

static bool ends_with(const char *name, const char *end)
{
    size_t length = strlen(name);
    size_t wanted = strlen(end);
    return wanted <= length && strcmp(name + length - wanted, end) == 0;
}

/* Without config.json: a Conv1D's bias has the length of the second dimension. */
static int look_for_conv1d(const checkpoint *base, bool *ret_found, didi_error *error)
{
    bool found = false;
    for (size_t i = 0; i < checkpoint_count(base) && !found; i++) {
        const safetensors_tensor *tensor = checkpoint_at(base, i)->tensor;
        if (!ends_with(tensor->name, ".c_attn.weight") || tensor->dimensions != 2 ||
            tensor->shape[0] == tensor->shape[1])
            continue;
        char *path = adapter_module_path(tensor->name);
        char *name = path != NULL ? memory_format("%s.bias", path) : NULL;
        const checkpoint_tensor *bias = name != NULL ? checkpoint_find(base, name) : NULL;
        found = bias != NULL && bias->tensor->elements == tensor->shape[1];
        free(path);
        if (name == NULL)
            return didi_fail(error, DIDI_NO_MEMORY, tensor->name, "name of a bias");
        free(name);
    }
    *ret_found = found;
    return DIDI_OK;
}

static bool has_own_head(const checkpoint *base)
{
    static const char *const heads[] = {"lm_head.weight", "embed_out.weight", "decoder.weight"};
    for (size_t i = 0; i < checkpoint_count(base); i++) {
        const safetensors_tensor *tensor = checkpoint_at(base, i)->tensor;
        for (size_t h = 0; h < COUNT_OF(heads); h++)
            if (tensor->dimensions == 2 && ends_with(tensor->name, heads[h]))
                return true;
    }
    return false;
}

/* Models with a head over the vocabulary tie it to the embedding unless config.json says no. */
static bool is_tied(const json_t *config, const checkpoint *base)
{
    static const char *const kinds[] = {"ForCausalLM", "LMHead", "ForMaskedLM", "ForPreTraining",
                                        "ForConditionalGeneration"};
    const json_t *classes = json_object_get(config, "architectures");
    if (json_is_false(json_object_get(config, "tie_word_embeddings")) || has_own_head(base))
        return false;
    for (size_t i = 0; i < json_array_size(classes); i++) {
        const char *name = json_string_value(json_array_get(classes, i));
        for (size_t k = 0; name != NULL && k < COUNT_OF(kinds); k++)
            if (strstr(name, kinds[k]) != NULL)
                return true;
    }
    return false;
}

static int read_config(int base_fd, const file_bounds *links, json_t **ret_config,
                       didi_error *error)
{
    char *text = NULL;
    size_t bytes = 0;
    int fd = -1;
    int status = file_open_within(base_fd, "config.json", links, "config.json", &fd, error);
    if (status != DIDI_OK)
        return status;
    status = file_read_text_fd(fd, "config.json", CONFIG_BYTES_MAX, &text, &bytes, error);
    close(fd);
    if (status != DIDI_OK)
        return status;
    bool refused = false;
    json_t *config = json_load(text, bytes, 0, NULL, &refused);
    free(text);
    if (refused)
        return didi_fail(error, DIDI_NO_MEMORY, "config.json", "configuration of the base");
    if (!json_is_object(config)) {
        json_decref(config);
        return didi_fail(error, DIDI_FORMAT, "config.json",
                         "the base's config.json is not a JSON object");
    }
    *ret_config = config;
    return DIDI_OK;
}

int adapter_model_read(int base_fd, const file_bounds *links, const checkpoint *base,
                       adapter_model *ret_model, didi_error *error)
{
    json_t *config = NULL;
    adapter_model self = {0};
    didi_error why = {0};
    int status = read_config(base_fd, links, &config, &why);
    if (status != DIDI_OK && status != DIDI_NOT_FOUND)
        return didi_fail(error, status, why.subject, "%s", why.message);
    const char *type = json_string_value(json_object_get(config, "model_type"));
    self.conv1d = is_one_of(conv1d_models, COUNT_OF(conv1d_models), type);
    self.tied = is_tied(config, base);
    status = type == NULL ? look_for_conv1d(base, &self.conv1d, error) : DIDI_OK;
    json_decref(config);
    if (status == DIDI_OK)
        *ret_model = self;
    return status;
}

/* ---- kinds */

static adapter_kind kind_of_matrix(const adapter_model *model, const char *leaf,
                                   bool *ret_transposed, const char **ret_reason)
{
    if (adapter_is_of_tokens(leaf) ||
        is_one_of(other_embeddings, COUNT_OF(other_embeddings), leaf)) {
        *ret_transposed = true;
        return ADAPTER_EMBEDDING;
    }
    if ((strstr(leaf, "embed") != NULL && strcmp(leaf, output_head) != 0) ||
        is_one_of(odd_embeddings, COUNT_OF(odd_embeddings), leaf)) {
        *ret_reason = "an embedding of a kind that PEFT has no LoRA for";
        return ADAPTER_OTHER;
    }
    *ret_transposed = model->conv1d && is_one_of(conv1d_leaves, COUNT_OF(conv1d_leaves), leaf);
    return ADAPTER_LINEAR;
}

adapter_kind adapter_kind_of(const adapter_model *model, const safetensors_tensor *tensor,
                             bool *ret_transposed, const char **ret_reason)
{
    const char *name = tensor->name;
    const char *member = adapter_leaf(name);
    assert(ret_transposed != NULL && ret_reason != NULL);
    bool weight = member != name && strcmp(member, "weight") == 0;
    if (tensor->dimensions == 1 && member != name && (weight || strcmp(member, "bias") == 0))
        return ADAPTER_VECTOR;
    if (!weight) {
        *ret_reason = "not the weight of a module of its own";
        return ADAPTER_OTHER;
    }
    if (tensor->dimensions == 2) {
        char leaf[SAFETENSORS_NAME_BYTES_MAX + 1];
        size_t length = (size_t)(member - 1 - name);
        memcpy(leaf, name, length);
        leaf[length] = '\0';
        return kind_of_matrix(model, adapter_leaf(leaf), ret_transposed, ret_reason);
    }
    if (tensor->dimensions == 4 && tensor->shape[1] > 1)
        return ADAPTER_CONVOLUTION;
    *ret_reason = tensor->dimensions == 4
                      ? "a convolution of one channel, perhaps of each by itself"
                      : "no layer with a LoRA has a weight of this shape";
    return ADAPTER_OTHER;
}
