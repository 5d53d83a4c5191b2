/* SPDX-License-Identifier: Apache-2.0 */
/* Names of tensors, and the pairs they form. */
#include "src/files/adapter.h"

#include "src/base/base.h"
#include "src/files/adapter_config.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct adapter {
    adapter_config *config;
    adapter_change *changes;
    size_t count;
};

void adapter_free(adapter *self)
{
    if (self == NULL)
        return;
    for (size_t i = 0; self->changes != NULL && i < self->count; i++)
        free(self->changes[i].name);
    free(self->changes);
    adapter_config_free(self->config);
    free(self);
}

/* ---- names ---- */

typedef enum part_kind { PART_VALUE, PART_A, PART_B, PART_MAGNITUDE } part_kind;

/* One tensor of the file. */
typedef struct part {
    const checkpoint_tensor *tensor;
    char *name; /* of the base's tensor */
    part_kind kind;
    bool embedding;
} part;

typedef struct spelling {
    const char *word; /* after the module's name */
    part_kind kind;
    bool embedding;
    bool ends_weight; /* in ".weight", always or maybe not */
    bool may_end;
} spelling;

static const spelling spellings[] = {
    {".lora_A", PART_A, false, true, false},
    {".lora_B", PART_B, false, true, false},
    {".lora_embedding_A", PART_A, true, false, true},
    {".lora_embedding_B", PART_B, true, false, true},
    {".lora_magnitude_vector", PART_MAGNITUDE, false, true, true},
};

/* What follows the word: nothing or an adapter's name, then nothing or ".weight". */
static bool tail_fits(const spelling *of, const char *tail)
{
    static const char weight[] = ".weight";
    size_t length = strlen(tail);
    size_t end = sizeof weight - 1;
    bool weighs = length >= end && strcmp(tail + length - end, weight) == 0;
    size_t rest = weighs ? length - end : length;
    if ((weighs && !of->ends_weight) || (!weighs && !of->may_end))
        return false;
    return rest == 0 || (tail[0] == '.' && rest > 1 && memchr(tail + 1, '.', rest - 1) == NULL);
}

static const spelling *find_spelling(const char *name, const char **ret_at)
{
    for (size_t i = 0; i < sizeof spellings / sizeof *spellings; i++) {
        const char *at = strstr(name, spellings[i].word);
        if (at == NULL || at == name || !tail_fits(&spellings[i], at + strlen(spellings[i].word)))
            continue;
        *ret_at = at;
        return &spellings[i];
    }
    return NULL;
}

/* Without the wrapper that held the values: "a.modules_to_save.default.weight" is "a.weight". */
static char *unwrapped(const char *name)
{
    static const char saved[] = ".modules_to_save";
    static const char layer[] = ".base_layer";
    const char *at = strstr(name, saved);
    const char *after = at != NULL ? at + sizeof saved - 1 : NULL;
    const char *last = strrchr(name, '.');
    if (at == NULL) {
        at = strstr(name, layer);
        after = at != NULL ? at + sizeof layer - 1 : NULL;
    }
    if (at == NULL || *after != '.' || last < after)
        return memory_string(name);
    return memory_format("%.*s%s", (int)(at - name), name, last);
}

static int read_part(const checkpoint *files, const checkpoint_tensor *tensor, part *out,
                     didi_error *error)
{
    static const char wrapper[] = "base_model.model.";
    const char *name = tensor->tensor->name;
    const char *at = NULL;
    if (strncmp(name, wrapper, sizeof wrapper - 1) == 0)
        name += sizeof wrapper - 1;
    const spelling *found = find_spelling(name, &at);
    *out = (part){.tensor = tensor};
    if (found != NULL) {
        out->kind = found->kind;
        out->embedding = found->embedding;
        out->name = memory_format("%.*s.weight", (int)(at - name), name);
    } else if (strstr(name, ".lora_") != NULL || strstr(name, ".token_adapter.") != NULL) {
        return didi_fail(error, DIDI_INVALID, checkpoint_label(files),
                         "tensor '%s' of adapter %s is of a variant of LoRA that cannot be merged "
                         "as such; merge the full model",
                         tensor->tensor->name, checkpoint_label(files));
    } else {
        out->name = unwrapped(name);
    }
    return out->name != NULL ? DIDI_OK
                             : didi_fail(error, DIDI_NO_MEMORY, checkpoint_label(files), "names");
}

/* ---- pairs ---- */

static int fail_shape(const checkpoint *files, const adapter_change *change, const char *what,
                      didi_error *error)
{
    return didi_fail(error, DIDI_FORMAT, checkpoint_label(files), "adapter %s, tensor '%s': %s",
                     checkpoint_label(files), change->name, what);
}

static bool is_factor(const safetensors_tensor *tensor)
{
    return didi_dtype_is_float(tensor->dtype) && tensor->dimensions >= 2 && tensor->elements > 0;
}

/* B of a convolution is one of size 1. */
static bool ends_in_ones(const safetensors_tensor *tensor)
{
    for (size_t d = 2; d < tensor->dimensions; d++)
        if (tensor->shape[d] != 1)
            return false;
    return true;
}

static int check_factors(const checkpoint *files, const adapter_config *config,
                         adapter_change *change, didi_error *error)
{
    const safetensors_tensor *a = change->a->tensor;
    const safetensors_tensor *b = change->b->tensor;
    if (a->dimensions > 0 && a->shape[0] == 0)
        return fail_shape(files, change, "its factors have rank 0", error);
    if (!is_factor(a) || !is_factor(b) || a->dimensions != b->dimensions || !ends_in_ones(b))
        return fail_shape(files, change, "its factors do not have the shapes of LoRA's", error);
    if (a->shape[0] != b->shape[1]) {
        (void)didi_fail(error, DIDI_FORMAT, checkpoint_label(files),
                        "adapter %s, tensor '%s': A has rank %llu and B %llu%s",
                        checkpoint_label(files), change->name, (unsigned long long)a->shape[0],
                        (unsigned long long)b->shape[1],
                        a->dimensions > 2 ? " (grouped convolutions cannot be merged)" : "");
        return DIDI_FORMAT;
    }
    size_t length = strlen(change->name) - strlen(".weight");
    char *module = memory_format("%.*s", (int)length, change->name);
    if (module == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, checkpoint_label(files), "names");
    adapter_scale told = adapter_config_scale(config, module);
    free(module);
    if (told.rank != a->shape[0])
        return didi_fail(error, DIDI_FORMAT, checkpoint_label(files),
                         "adapter %s, tensor '%s': rank %llu, but adapter_config.json says %zu "
                         "(r, rank_pattern)",
                         checkpoint_label(files), change->name, (unsigned long long)a->shape[0],
                         told.rank);
    change->rank = told.rank;
    change->scale = told.scale;
    change->rows = b->shape[0];
    change->columns = a->elements / a->shape[0];
    change->is_linear = a->dimensions == 2;
    change->transposed = change->is_linear && adapter_config_fan_in_fan_out(config);
    return DIDI_OK;
}

/* PEFT holds an embedding as its transpose, B A of dimension x vocabulary. */
static int turn_embedding(const checkpoint *files, adapter_change *change, didi_error *error)
{
    if (!change->is_linear || change->magnitude != NULL)
        return fail_shape(files, change, "an embedding with DoRA cannot be merged as an adapter",
                          error);
    change->transposed = true;
    change->is_linear = false;
    return DIDI_OK;
}

static int check_magnitude(const checkpoint *files, const adapter_config *config,
                           const adapter_change *change, didi_error *error)
{
    if ((change->magnitude != NULL) != adapter_config_uses_dora(config))
        return fail_shape(files, change,
                          "use_dora of adapter_config.json and the tensors do not tell the same",
                          error);
    if (change->magnitude == NULL)
        return DIDI_OK;
    const safetensors_tensor *magnitude = change->magnitude->tensor;
    if (!didi_dtype_is_float(magnitude->dtype) || magnitude->elements != change->rows)
        return fail_shape(files, change, "its magnitudes are not one for each row", error);
    return DIDI_OK;
}

static int finish_change(const checkpoint *files, const adapter_config *config,
                         adapter_change *change, bool embedding, didi_error *error)
{
    if (change->a == NULL && change->b == NULL && change->magnitude == NULL)
        return DIDI_OK;
    if (change->a == NULL || change->b == NULL)
        return fail_shape(files, change,
                          change->b != NULL ? "it has B without A" : "it has A without B", error);
    int status = check_factors(files, config, change, error);
    if (status == DIDI_OK)
        status = check_magnitude(files, config, change, error);
    return status == DIDI_OK && embedding ? turn_embedding(files, change, error) : status;
}

static int compare_parts(const void *a, const void *b)
{
    const part *one = a;
    const part *other = b;
    int order = strcmp(one->name, other->name);
    return order != 0 ? order : (int)one->kind - (int)other->kind;
}

/* Parts of the same name are one change. Takes their names. */
static int join_parts(adapter *self, const checkpoint *files, part *parts, size_t count,
                      didi_error *error)
{
    bool embedding = false;
    for (size_t i = 0; i < count; i++) {
        part *from = &parts[i];
        adapter_change *change = self->count > 0 ? &self->changes[self->count - 1] : NULL;
        if (change == NULL || strcmp(change->name, from->name) != 0) {
            change = &self->changes[self->count++];
            change->name = from->name;
            from->name = NULL;
            embedding = false;
        }
        embedding = embedding || from->embedding;
        const checkpoint_tensor **place = from->kind == PART_VALUE ? &change->value
                                          : from->kind == PART_A   ? &change->a
                                          : from->kind == PART_B   ? &change->b
                                                                   : &change->magnitude;
        if (*place != NULL)
            return fail_shape(files, change, "it is there twice", error);
        *place = from->tensor;
        bool ends = i + 1 == count || strcmp(parts[i + 1].name, change->name) != 0;
        int status = ends ? finish_change(files, self->config, change, embedding, error) : DIDI_OK;
        if (status != DIDI_OK)
            return status;
    }
    return DIDI_OK;
}

static int read_parts(adapter *self, const checkpoint *files, didi_error *error)
{
    size_t count = checkpoint_count(files);
    part *parts = memory_zeroed(count, sizeof *parts);
    self->changes = memory_zeroed(count, sizeof *self->changes);
    int status =
        parts != NULL && self->changes != NULL
            ? DIDI_OK
            : didi_fail(error, DIDI_NO_MEMORY, checkpoint_label(files), "%zu tensors", count);
    if (status == DIDI_OK && count == 0)
        status = didi_fail(error, DIDI_FORMAT, checkpoint_label(files),
                           "adapter %s holds no tensors", checkpoint_label(files));
    for (size_t i = 0; i < count && status == DIDI_OK; i++)
        status = read_part(files, checkpoint_at(files, i), &parts[i], error);
    if (status == DIDI_OK) {
        qsort(parts, count, sizeof *parts, compare_parts);
        status = join_parts(self, files, parts, count, error);
    }
    for (size_t i = 0; parts != NULL && i < count; i++)
        free(parts[i].name);
    free(parts);
    return status;
}

int adapter_read(const checkpoint *files, adapter **ret_adapter, didi_error *error)
{
    assert(checkpoint_is_adapter(files));
    char *text = NULL;
    size_t bytes = 0;
    char *subject = memory_format("%s/adapter_config.json", checkpoint_label(files));
    adapter *self = memory_zeroed(1, sizeof *self);
    int status = subject != NULL && self != NULL
                     ? checkpoint_read_config(files, &text, &bytes, error)
                     : didi_fail(error, DIDI_NO_MEMORY, checkpoint_label(files), "adapter");
    if (status == DIDI_OK)
        status = adapter_config_parse(text, bytes, subject, &self->config, error);
    free(text);
    free(subject);
    if (status == DIDI_OK)
        status = read_parts(self, files, error);
    if (status != DIDI_OK)
        adapter_free(self);
    else
        *ret_adapter = self;
    return status;
}

size_t adapter_count(const adapter *self)
{
    return self->count;
}

const adapter_change *adapter_at(const adapter *self, size_t index)
{
    assert(index < self->count);
    return &self->changes[index];
}

static int compare_name(const void *name, const void *change)
{
    return strcmp(name, ((const adapter_change *)change)->name);
}

const adapter_change *adapter_find(const adapter *self, const char *name)
{
    return self->count > 0
               ? bsearch(name, self->changes, self->count, sizeof *self->changes, compare_name)
               : NULL;
}

const char *adapter_base_name(const adapter *self)
{
    return adapter_config_base(self->config);
}
