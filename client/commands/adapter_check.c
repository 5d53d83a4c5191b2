/* SPDX-License-Identifier: Apache-2.0 */
/* The loading rules of PEFT, vLLM and SGLang for LoRA adapters (docs/exports.md). */
#include "client/commands/adapter_check.h"

#include <assert.h>
#include <fcntl.h>
#include <jansson.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    CONFIG_BYTES_MAX = 16 << 20,
    HEADER_BYTES_MAX = 25000000, /* what readers of headers over HTTP take */
};

static const char *const loader_words[LOADER_COUNT] = {"peft", "vllm", "sglang"};
static const int64_t vllm_ranks[] = {1, 8, 16, 32, 64, 128, 256, 320, 512};
/* Types that servers stack into one weight. */
static const char *const stacked[][3] = {{"q_proj", "k_proj", "v_proj"},
                                         {"gate_proj", "up_proj", NULL}};

typedef struct check {
    const char *name;
    adapter_loader loader;
    int fd; /* of the adapter's directory */
    json_t *config, *report, *header;
    json_t *modules; /* path -> {"A": shape, "B": shape, "embedding": true or absent} */
    json_int_t r, alpha;
    json_int_t most; /* the largest rank of a module */
} check;

adapter_loader adapter_loader_find(const char *word)
{
    return (adapter_loader)text_find(loader_words, LOADER_COUNT, word);
}

#define refuse(self, error, ...) didi_fail((error), CLIENT_FAILURE, (self)->name, __VA_ARGS__)

/* ---- files */

static int read_document(const check *self, const char *file, json_t **ret_document,
                         didi_error *error)
{
    char *text = NULL;
    size_t bytes = 0;
    didi_error why = {0};
    if (file_read_text(self->fd, file, CONFIG_BYTES_MAX, &text, &bytes, &why) != DIDI_OK)
        return refuse(self, error, "%s: %s", file, why.message);
    *ret_document = json_load(text, bytes, JSON_REJECT_DUPLICATES, NULL, NULL);
    free(text);
    return json_is_object(*ret_document) ? CLIENT_OK
                                         : refuse(self, error, "%s is not a JSON object", file);
}

static int parse_header(const check *self, int fd, json_t **ret_header, didi_error *error)
{
    static const char file[] = "adapter_model.safetensors";
    unsigned char size[8];
    uint64_t bytes = 0;
    struct stat found;
    didi_error why = {0};
    if (fstat(fd, &found) != 0 || file_pread_all(fd, size, sizeof size, 0, file, &why) != DIDI_OK)
        return refuse(self, error, "%s has no header", file);
    for (size_t i = 0; i < sizeof size; i++)
        bytes |= (uint64_t)size[i] << (8 * i);
    if (bytes > HEADER_BYTES_MAX || bytes + sizeof size > (uint64_t)found.st_size)
        return refuse(self, error, "the header of %s has %llu bytes", file,
                      (unsigned long long)bytes);
    char *text = memory_zeroed(bytes + 1, 1);
    if (text == NULL)
        return client_fail_memory(error);
    if (file_pread_all(fd, text, bytes, sizeof size, file, &why) == DIDI_OK)
        *ret_header = json_load(text, bytes, JSON_REJECT_DUPLICATES, NULL, NULL);
    free(text);
    return json_is_object(*ret_header) ? CLIENT_OK
                                       : refuse(self, error, "the header of %s is no JSON", file);
}

static int read_header(check *self, didi_error *error)
{
    int fd = openat(self->fd, "adapter_model.safetensors", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return refuse(self, error, "there is no adapter_model.safetensors");
    int status = parse_header(self, fd, &self->header, error);
    close(fd);
    return status;
}

/* ---- tensors become modules */

static bool has_text(const json_t *list, const char *text)
{
    for (size_t i = 0; i < json_array_size(list); i++)
        if (strcmp(record_element(list, i), text) == 0)
            return true;
    return false;
}

/* The length of the module's path in a key without its prefix; 0: the key is no LoRA's. */
static size_t path_length(const char *key, char *ret_side, bool *ret_embedding)
{
    static const struct {
        const char *end;
        char side;
        bool embedding;
    } ends[] = {{".lora_A.weight", 'A', false},
                {".lora_B.weight", 'B', false},
                {".lora_embedding_A", 'A', true},
                {".lora_embedding_B", 'B', true}};
    size_t length = strlen(key);
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        size_t end = strlen(ends[i].end);
        if (length > end && strcmp(key + length - end, ends[i].end) == 0) {
            *ret_side = ends[i].side;
            *ret_embedding = ends[i].embedding;
            return length - end;
        }
    }
    return 0;
}

/* A tensor that is no LoRA's must be of a module that PEFT saves whole. */
static int check_saved(const check *self, const char *key, didi_error *error)
{
    const json_t *saved = json_object_get(self->config, "modules_to_save");
    const char *dot = strrchr(key, '.');
    char *module = memory_string(key);
    if (module == NULL)
        return client_fail_memory(error);
    if (dot != NULL)
        module[dot - key] = '\0';
    bool found = has_text(saved, module);
    free(module);
    if (self->loader != LOADER_PEFT || !found)
        return refuse(self, error, "the tensor %s is not a LoRA's", key);
    return CLIENT_OK;
}

static int check_form(const check *self, const char *key, const json_t *tensor, bool embedding,
                      didi_error *error)
{
    const char *dtype = record_text(tensor, "dtype");
    const json_t *shape = json_object_get(tensor, "shape");
    size_t dimensions = json_array_size(shape);
    if (strcmp(dtype, "F32") != 0 && strcmp(dtype, "BF16") != 0 && strcmp(dtype, "F16") != 0)
        return refuse(self, error, "%s has dtype %s", key, dtype);
    for (size_t i = 0; i < dimensions; i++)
        if (!json_is_integer(json_array_get(shape, i)) ||
            json_integer_value(json_array_get(shape, i)) < 1)
            return refuse(self, error, "%s has a malformed shape", key);
    if (dimensions == 2 && (!embedding || self->loader == LOADER_PEFT))
        return CLIENT_OK;
    if (dimensions == 4 && self->loader == LOADER_PEFT)
        return CLIENT_OK;
    return refuse(self, error, "%s is not of a linear layer", key);
}

static int add_tensor(check *self, const char *key, const json_t *tensor, didi_error *error)
{
    static const char prefix[] = "base_model.model.";
    char side[2] = {0};
    bool embedding = false;
    if (strncmp(key, prefix, sizeof prefix - 1) != 0)
        return refuse(self, error, "the tensor %s does not begin with %s", key, prefix);
    key += sizeof prefix - 1;
    size_t length = path_length(key, side, &embedding);
    if (length == 0)
        return check_saved(self, key, error);
    int status = check_form(self, key, tensor, embedding, error);
    char *path = memory_string(key);
    if (status == CLIENT_OK && path == NULL)
        status = client_fail_memory(error);
    if (status == CLIENT_OK) {
        path[length] = '\0';
        json_t *module = json_object_get(self->modules, path);
        if (module == NULL) {
            module = json_object();
            if (json_object_set_new(self->modules, path, module) != 0)
                status = client_fail_memory(error);
        }
        if (status == CLIENT_OK)
            json_object_set(module, side, json_object_get(tensor, "shape"));
    }
    free(path);
    return status;
}

static int find_modules(check *self, didi_error *error)
{
    const char *key = NULL;
    json_t *tensor = NULL;
    int status = CLIENT_OK;
    self->modules = json_object();
    json_object_foreach(self->header, key, tensor)
    {
        if (strcmp(key, "__metadata__") == 0)
            continue;
        status = add_tensor(self, key, tensor, error);
        if (status != CLIENT_OK)
            return status;
    }
    return json_object_size(self->modules) > 0 ? CLIENT_OK
                                               : refuse(self, error, "there is no LoRA in it");
}

/* ---- configuration */

static int check_config(check *self, didi_error *error)
{
    const json_t *config = self->config;
    const char *bias = record_text(config, "bias");
    const json_t *saved = json_object_get(config, "modules_to_save");
    self->r = record_integer(config, "r");
    self->alpha = record_integer(config, "lora_alpha");
    if (strcmp(record_text(config, "peft_type"), "LORA") != 0)
        return refuse(self, error, "peft_type is not LORA");
    if (self->r < 1 || self->alpha < 1)
        return refuse(self, error, "r and lora_alpha must be numbers from 1");
    if (json_array_size(json_object_get(config, "target_modules")) == 0)
        return refuse(self, error, "target_modules is not a list of modules");
    if (bias[0] != '\0' && strcmp(bias, "none") != 0)
        return refuse(self, error, "bias is %s", bias);
    if (record_true(config, "use_dora") || record_true(config, "use_rslora"))
        return refuse(self, error, "use_dora and use_rslora must be off");
    if (self->loader != LOADER_PEFT && saved != NULL && !json_is_null(saved))
        return refuse(self, error, "servers refuse modules_to_save");
    return CLIENT_OK;
}

/* What PEFT finds for a module in rank_pattern or alpha_pattern: the first key that fits. */
static json_int_t pattern_value(const check *self, const char *pattern, const char *path,
                                json_int_t standard)
{
    const char *key = NULL;
    json_t *value = NULL;
    json_t *rows = json_object_get(self->config, pattern);
    json_object_foreach(rows, key, value)
    {
        regex_t expression;
        char *text = memory_format("^(.*\\.)?(%s)$", key);
        bool usable = text != NULL && regcomp(&expression, text, REG_EXTENDED | REG_NOSUB) == 0;
        bool found = usable && regexec(&expression, path, 0, NULL, 0) == 0;
        if (usable)
            regfree(&expression);
        free(text);
        if (found)
            return json_integer_value(value);
    }
    return standard;
}

static int64_t side_of(const json_t *module, const char *side, size_t dimension)
{
    return json_integer_value(json_array_get(json_object_get(module, side), dimension));
}

static bool ends_in(const char *path, const char *suffix)
{
    size_t length = strlen(path);
    size_t wanted = strlen(suffix);
    return wanted <= length && strcmp(path + length - wanted, suffix) == 0 &&
           (wanted == length || path[length - wanted - 1] == '.');
}

static bool is_targeted(const check *self, const char *path)
{
    const json_t *targets = json_object_get(self->config, "target_modules");
    for (size_t i = 0; i < json_array_size(targets); i++)
        if (ends_in(path, record_element(targets, i)))
            return true;
    return false;
}

static int check_rank(check *self, const char *path, int64_t rank, didi_error *error)
{
    json_int_t wanted = pattern_value(self, "rank_pattern", path, self->r);
    json_int_t alpha = pattern_value(self, "alpha_pattern", path, self->alpha);
    if (wanted != rank)
        return refuse(self, error, "%s has rank %lld, and %lld by the configuration", path,
                      (long long)rank, (long long)wanted);
    if (self->loader == LOADER_SGLANG && (rank != self->r || alpha != self->alpha))
        return refuse(self, error, "%s has rank %lld, not r: SGLang wants one rank for all", path,
                      (long long)rank);
    if (self->loader == LOADER_VLLM &&
        (double)alpha * (double)self->r != (double)self->alpha * (double)wanted)
        return refuse(self, error, "%s has a scale of its own, which vLLM may drop", path);
    return CLIENT_OK;
}

static int check_module(check *self, const char *path, const json_t *module, didi_error *error)
{
    int64_t rank = side_of(module, "A", 0);
    if (json_object_size(module) != 2)
        return refuse(self, error, "%s has only one of A and B", path);
    if (side_of(module, "B", 1) != rank)
        return refuse(self, error, "A and B of %s do not fit", path);
    if (!is_targeted(self, path))
        return refuse(self, error, "%s is not among target_modules", path);
    if (rank > self->most)
        self->most = rank;
    return check_rank(self, path, rank, error);
}

/* ---- all together */

static bool has_sibling(const check *self, const char *path, const char *leaf, const char *other)
{
    char *sibling = memory_format("%.*s%s", (int)(strlen(path) - strlen(leaf)), path, other);
    bool found = sibling != NULL && json_object_get(self->modules, sibling) != NULL;
    free(sibling);
    return found;
}

static int check_stacked(const check *self, const char *path, didi_error *error)
{
    const char *dot = strrchr(path, '.');
    const char *leaf = dot != NULL ? dot + 1 : path;
    for (size_t s = 0; s < sizeof stacked / sizeof *stacked; s++) {
        size_t count = stacked[s][2] != NULL ? 3 : 2;
        if (text_find(stacked[s], count, leaf) == count)
            continue;
        for (size_t i = 0; i < count; i++)
            if (!has_sibling(self, path, leaf, stacked[s][i]))
                return refuse(self, error, "%s is there without %s", path, stacked[s][i]);
    }
    return CLIENT_OK;
}

/* Nothing that was exported is missing: loaders would leave it as it is without a word. */
static int check_complete(const check *self, didi_error *error)
{
    const json_t *rows = json_object_get(self->report, "modules");
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const char *path = record_text(json_array_get(rows, i), "module");
        if (json_object_get(self->modules, path) == NULL)
            return refuse(self, error, "the module %s is missing", path);
    }
    if (json_array_size(rows) != json_object_size(self->modules))
        return refuse(self, error, "export.json lists %zu modules, and there are %zu",
                      json_array_size(rows), json_object_size(self->modules));
    return CLIENT_OK;
}

static int check_all(check *self, didi_error *error)
{
    const char *path = NULL;
    json_t *module = NULL;
    int status = check_config(self, error);
    if (status == CLIENT_OK)
        status = find_modules(self, error);
    if (status == CLIENT_OK)
        status = check_complete(self, error);
    if (status != CLIENT_OK)
        return status;
    json_object_foreach(self->modules, path, module)
    {
        status = check_module(self, path, module, error);
        if (status == CLIENT_OK && self->loader == LOADER_SGLANG)
            status = check_stacked(self, path, error);
        if (status != CLIENT_OK)
            return status;
    }
    return CLIENT_OK;
}

static int note(const check *self, char **ret_note, didi_error *error)
{
    int64_t server = 0;
    for (size_t i = sizeof vllm_ranks / sizeof *vllm_ranks; i > 0; i--)
        if (self->most <= vllm_ranks[i - 1] && self->r <= vllm_ranks[i - 1])
            server = vllm_ranks[i - 1];
    if (self->loader == LOADER_VLLM && server == 0)
        return refuse(self, error, "rank %lld is above what vLLM takes (512)",
                      (long long)self->most);
    *ret_note = self->loader == LOADER_VLLM
                    ? memory_format("%s: %zu modules, --max-lora-rank %lld", self->name,
                                    json_object_size(self->modules), (long long)server)
                    : memory_format("%s: %zu modules, rank %lld", self->name,
                                    json_object_size(self->modules), (long long)self->most);
    return *ret_note != NULL ? CLIENT_OK : client_fail_memory(error);
}

int adapter_check(int directory_fd, const char *name, adapter_loader loader, char **ret_note,
                  didi_error *error)
{
    assert(loader < LOADER_COUNT);
    check self = {.name = name, .loader = loader};
    self.fd = openat(directory_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    int status = self.fd >= 0 ? CLIENT_OK : refuse(&self, error, "there is no such directory");
    if (status == CLIENT_OK)
        status = read_document(&self, "adapter_config.json", &self.config, error);
    if (status == CLIENT_OK)
        status = read_document(&self, "export.json", &self.report, error);
    if (status == CLIENT_OK)
        status = read_header(&self, error);
    if (status == CLIENT_OK)
        status = check_all(&self, error);
    if (status == CLIENT_OK)
        status = note(&self, ret_note, error);
    json_decref(self.config);
    json_decref(self.report);
    json_decref(self.header);
    json_decref(self.modules);
    file_close(self.fd);
    return status;
}
