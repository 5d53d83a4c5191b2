/* SPDX-License-Identifier: Apache-2.0 */
/* LoRA adapters and routers out of packages written by hand: their products against the package's
 * own, their directions against LAPACK's. */
#include "src/base/fault.h"
#include "src/base/file.h"
#include "src/didi.h"
#include "src/files/files.h"
#include "src/math/math.h"
#include "src/package/package.h"
#include "tests/unit/sample_family.h"
#include "tests/unit/sample_layer.h"
#include "tests/unit/sample_summary.h"
#include "tests/unit/support.h"

#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PARTS_MAX = 32, NUMBERS_MAX = 4096 };

/* ---- a base and a package */

static const struct {
    const char *name;
    size_t dimensions;
    uint64_t shape[4];
} base_tensors[] = {
    {"model.layers.0.q_proj.weight", 2, {24, 16}},
    {"model.layers.0.q_proj.bias", 1, {24}},
    {"model.layers.0.k_proj.weight", 2, {8, 16}},
    {"model.layers.0.v_proj.weight", 2, {8, 16}},
    {"model.layers.1.q_proj.weight", 2, {24, 16}},
    {"model.layers.1.k_proj.weight", 2, {8, 16}},
    {"model.layers.1.v_proj.weight", 2, {8, 16}},
    {"model.layers.1.c_attn.weight", 2, {16, 48}},
    {"model.layers.1.mlp.weight", 2, {12, 16}},
    {"model.layers.1.norm.weight", 1, {16}},
    {"model.layers.1.norm.bias", 1, {16}},
    {"model.layers.1.attn.in_proj_weight", 2, {12, 16}},
    {"model.embed_tokens.weight", 2, {40, 16}},
    {"lm_head.weight", 2, {40, 16}},
    {"model.conv.weight", 4, {6, 4, 3, 3}},
    {"model.depthwise.weight", 4, {6, 1, 3, 3}},
};
enum { BASE_TENSORS = sizeof base_tensors / sizeof *base_tensors };

/* One array of a package; file 0 is shared, 1 the expert. */
typedef struct part {
    size_t file;
    const char *name;
    uint64_t shape[2]; /* the second is 0 of one dimension */
} part;

static const part usual_parts[] = {
    {0, "model.layers.0.q_proj.weight.shared_B", {24, 3}},
    {0, "model.layers.0.q_proj.weight.shared_A", {3, 16}},
    {1, "model.layers.0.q_proj.weight.expert_B", {24, 4}},
    {1, "model.layers.0.q_proj.weight.expert_A", {4, 16}},
    {1, "model.layers.1.q_proj.weight.expert_B", {24, 2}},
    {1, "model.layers.1.q_proj.weight.expert_A", {2, 16}},
    {1, "model.layers.1.c_attn.weight.expert_B", {16, 2}},
    {1, "model.layers.1.c_attn.weight.expert_A", {2, 48}},
    {0, "model.layers.1.mlp.weight.shared_B", {12, 20}},
    {0, "model.layers.1.mlp.weight.shared_A", {20, 16}},
    {1, "model.layers.1.norm.weight.delta", {16, 0}},
    {0, "model.layers.1.norm.bias.delta", {16, 0}},
    {1, "model.layers.0.q_proj.bias.delta", {24, 0}},
    {1, "model.layers.1.attn.in_proj_weight.delta", {12, 16}},
    {0, "model.embed_tokens.weight.shared_B", {40, 2}},
    {0, "model.embed_tokens.weight.shared_A", {2, 16}},
    {1, "lm_head.weight.delta", {40, 16}},
    {1, "model.conv.weight.expert_B", {6, 3}},
    {1, "model.conv.weight.expert_A", {3, 36}},
    {1, "model.depthwise.weight.delta", {54, 0}},
};
enum { USUAL_PARTS = sizeof usual_parts / sizeof *usual_parts };

typedef struct stage {
    int root, base, package, out;
    bool routes; /* routers are exported */
    didi_adapter_options options;
    didi_adapter_report report;
} stage;

static void fill_base(void *context, size_t tensor, float *values, size_t count)
{
    (void)context;
    random_normal(random_mix(1, tensor), values, count, 0.5F);
}

static void write_base(const stage *self, const char *config)
{
    safetensors_layout_entry entries[BASE_TENSORS];
    for (size_t i = 0; i < BASE_TENSORS; i++)
        entries[i] = (safetensors_layout_entry){base_tensors[i].name, DIDI_DTYPE_F32,
                                                base_tensors[i].dimensions, base_tensors[i].shape};
    sample_tensors_write(self->base, entries, BASE_TENSORS, fill_base, NULL);
    if (config != NULL)
        support_write(self->base, "config.json", config, strlen(config));
}

static void write_part_file(int directory, const char *name, const part *parts, size_t count,
                            size_t file, didi_dtype dtype)
{
    safetensors_layout_entry entries[PARTS_MAX];
    safetensors_contents contents = {.entries = entries};
    safetensors_writer *writer = NULL;
    didi_error error = {0};
    float values[NUMBERS_MAX];
    for (size_t i = 0; i < count; i++)
        if (parts[i].file == file)
            entries[contents.count++] = (safetensors_layout_entry){
                parts[i].name, dtype, parts[i].shape[1] > 0 ? 2 : 1, parts[i].shape};
    sample_must(safetensors_writer_create(directory, name, &contents, &writer, &error), &error);
    for (size_t i = 0; i < contents.count; i++) {
        uint64_t numbers = entries[i].shape[0] * larger(entries[i].shape[1], 1);
        assert_true(numbers <= NUMBERS_MAX);
        random_normal(random_mix(7 + file, i), values, numbers, 0.1F);
        sample_must(safetensors_writer_put_f32(writer, entries[i].name, 0, values, numbers, &error),
                    &error);
    }
    sample_must(safetensors_writer_close(writer, false, &error), &error);
}

static int directory_of(int parent, const char *name)
{
    int fd = -1;
    didi_error error = {0};
    sample_must(file_open_directory(parent, name, 1, &fd, &error), &error);
    return fd;
}

static void prepare_as(stage *self, int root, const part *parts, size_t count, didi_dtype dtype)
{
    static const char manifest[] = "{\"error\": {\"per_task\": {\"t\": 0.25}},"
                                   " \"inputs\": {\"tasks\": {\"t\": {}, \"u\": {}}}}";
    *self = (stage){.root = root,
                    .base = directory_of(root, "base"),
                    .package = directory_of(root, "package"),
                    .out = directory_of(root, "out"),
                    .options = {.as_packaged = true}};
    write_base(self, NULL);
    int experts = directory_of(self->package, "experts");
    write_part_file(self->package, "shared.safetensors", parts, count, 0, dtype);
    write_part_file(experts, "t.safetensors", parts, count, 1, dtype);
    support_write(self->package, "manifest.json", manifest, strlen(manifest));
    close(experts);
}

static void prepare(stage *self, int root)
{
    prepare_as(self, root, usual_parts, USUAL_PARTS, DIDI_DTYPE_F32);
}

static void finish(stage *self)
{
    close(self->base);
    close(self->package);
    close(self->out);
}

static int export_task(stage *self, const char *task, didi_error *error)
{
    didi_export wanted = {.artifact_fd = self->package,
                          .base_fd = self->base,
                          .output_fd = self->out,
                          .base_label = "lab/base",
                          .task = task};
    return self->routes
               ? didi_export_router(&wanted, self->options.max_rank, &self->report.bytes, error)
               : didi_export_adapter(&wanted, &self->options, &self->report, error);
}

static void must_export(stage *self)
{
    didi_error error = {0};
    sample_must(export_task(self, "t", &error), &error);
    assert_int_equal(support_entries(self->out), 1);
}

/* ---- what was written */

typedef struct adapter {
    int directory, fd;
    safetensors_header *header;
    json_t *config, *report;
} adapter;

static json_t *read_json(int directory, const char *name)
{
    char *text = NULL;
    size_t bytes = 0;
    didi_error error = {0};
    sample_must(file_read_text(directory, name, 1 << 20, &text, &bytes, &error), &error);
    json_t *document = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(document);
    free(text);
    return document;
}

static adapter open_adapter(const stage *self)
{
    adapter opened = {.directory = directory_of(self->out, "t")};
    didi_error error = {0};
    assert_int_equal(support_entries(opened.directory), 4);
    opened.fd = openat(opened.directory, "adapter_model.safetensors", O_RDONLY | O_CLOEXEC);
    sample_must(safetensors_header_read(opened.fd, "adapter", &opened.header, &error), &error);
    opened.config = read_json(opened.directory, "adapter_config.json");
    opened.report = read_json(opened.directory, "export.json");
    return opened;
}

static void close_adapter(adapter *self)
{
    close(self->fd);
    close(self->directory);
    safetensors_header_free(self->header);
    json_decref(self->config);
    json_decref(self->report);
}

static const safetensors_tensor *find_array(const adapter *self, const char *module,
                                            const char *member)
{
    char name[256];
    (void)snprintf(name, sizeof name, "base_model.model.%s.%s", module, member);
    return safetensors_header_find(self->header, name);
}

static float *read_tensor(const adapter *self, const char *name,
                          const safetensors_tensor **ret_found)
{
    didi_error error = {0};
    const safetensors_tensor *found = safetensors_header_find(self->header, name);
    if (found == NULL) {
        fail_msg("no %s", name);
        return NULL;
    }
    char *raw = support_allocate(found->bytes);
    float *values = support_allocate(found->elements * sizeof *values);
    sample_must(file_pread_all(self->fd, raw, found->bytes, found->offset, name, &error), &error);
    didi_dtype_to_f32(found->dtype, raw, values, found->elements);
    free(raw);
    *ret_found = found;
    return values;
}

static float *read_array(const adapter *self, const char *module, const char *member,
                         const safetensors_tensor **ret_found)
{
    char name[256];
    (void)snprintf(name, sizeof name, "base_model.model.%s.%s", module, member);
    return read_tensor(self, name, ret_found);
}

/* What PEFT adds to the weight: B A, or its transpose. */
static double *product(const adapter *self, const char *module, const char *const members[2],
                       bool transposed)
{
    const safetensors_tensor *a = NULL;
    const safetensors_tensor *b = NULL;
    float *left = read_array(self, module, members[1], &b);
    float *right = read_array(self, module, members[0], &a);
    uint64_t rank = a->shape[0];
    uint64_t in = a->elements / rank;
    uint64_t out = b->shape[0];
    assert_int_equal(b->shape[1], rank);
    double *sum = support_allocate(in * out * sizeof *sum);
    for (uint64_t i = 0; i < out; i++)
        for (uint64_t j = 0; j < in; j++)
            for (uint64_t k = 0; k < rank; k++)
                sum[transposed ? j * out + i : i * in + j] +=
                    (double)left[i * rank + k] * (double)right[k * in + j];
    free(left);
    free(right);
    return sum;
}

/* What the package's reader adds to it. */
static double *wanted_change(const stage *self, const char *tensor, uint64_t rows, uint64_t columns)
{
    double *sum = support_allocate(rows * columns * sizeof *sum);
    float *values = support_allocate(rows * columns * sizeof *values);
    didi_error error = {0};
    static const char *const tasks[] = {NULL, "t"};
    for (size_t f = 0; f < 2; f++) {
        package_file *file = NULL;
        addition found = {0};
        sample_must(package_file_open(self->package, tasks[f], &file, &error), &error);
        sample_must(package_file_read(file, tensor, rows, columns, &found, &error), &error);
        sample_must(addition_apply(&found, 0, rows, values, &error), &error);
        addition_clear(&found);
        package_file_close(file);
    }
    for (uint64_t i = 0; i < rows * columns; i++)
        sum[i] = (double)values[i];
    free(values);
    return sum;
}

static const char *const linear[2] = {"lora_A.weight", "lora_B.weight"};
static const char *const embedding[2] = {"lora_embedding_A", "lora_embedding_B"};

/* |product - wanted|^2 / |wanted|^2, or |product|^2 where nothing is wanted. */
static double module_error(const stage *self, const adapter *opened, const char *module,
                           const char *const members[2], bool transposed)
{
    char tensor[256];
    uint64_t rows = 0;
    uint64_t columns = 1;
    double error = 0;
    double energy = 0;
    (void)snprintf(tensor, sizeof tensor, "%s.weight", module);
    for (size_t i = 0; i < BASE_TENSORS; i++)
        if (strcmp(base_tensors[i].name, tensor) == 0) {
            rows = base_tensors[i].shape[0];
            for (size_t d = 1; d < base_tensors[i].dimensions; d++)
                columns *= base_tensors[i].shape[d];
        }
    assert_true(rows > 0);
    double *found = product(opened, module, members, transposed);
    double *wanted = wanted_change(self, tensor, rows, columns);
    for (uint64_t i = 0; i < rows * columns; i++) {
        error += (found[i] - wanted[i]) * (found[i] - wanted[i]);
        energy += wanted[i] * wanted[i];
    }
    free(found);
    free(wanted);
    return energy > 0 ? error / energy : error;
}

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
    stage self;
    prepare(&self, support_directory(state));
    must_export(&self);
    assert_int_equal(self.report.rank, 32); /* 20, rounded up */
    assert_int_equal(self.report.modules, 9);
    assert_int_equal(self.report.left_out, 7);
    adapter opened = open_adapter(&self);
    assert_int_equal(safetensors_header_count(opened.header), 18);
    for (size_t i = 0; i < safetensors_header_count(opened.header); i++) {
        const safetensors_tensor *array = safetensors_header_at(opened.header, i);
        bool a = strstr(array->name, ".lora_A.weight") != NULL;
        assert_int_equal(array->shape[a ? 0 : 1], 32);
        assert_int_equal(array->dtype, DIDI_DTYPE_F32);
    }
    for (size_t i = 0; i < 4; i++) {
        assert_true(module_error(&self, &opened, changed[i], linear, false) < 1e-12);
        assert_true(module_error(&self, &opened, filled[i], linear, false) == 0);
    }
    /* the head is kept whole: it gets the rank of the others, which is its own here */
    assert_true(module_error(&self, &opened, "lm_head", linear, false) < 1e-12);
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
    close_adapter(&opened);
    finish(&self);
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
    stage self;
    const safetensors_tensor *found = NULL;
    prepare(&self, support_directory(state));
    self.options.exact = true;
    must_export(&self);
    assert_int_equal(self.report.rank, 20);
    adapter opened = open_adapter(&self);
    const json_t *ranks = json_object_get(opened.config, "rank_pattern");
    assert_true(json_equal(ranks, json_object_get(opened.config, "alpha_pattern")));
    assert_int_equal(json_object_size(ranks), 5); /* with conv and embed_tokens */
    for (size_t i = 0; i < 5; i++) {
        assert_true(module_error(&self, &opened, rows[i].module, linear, false) < 1e-12);
        assert_int_equal(find_array(&opened, rows[i].module, "lora_A.weight")->shape[0],
                         rows[i].rank);
        if (rows[i].pattern != NULL)
            assert_int_equal((int)number(ranks, rows[i].pattern), rows[i].rank);
        assert_true(has_word(opened.config, "target_modules", rows[i].module));
    }
    assert_null(find_array(&opened, "model.layers.0.k_proj", "lora_A.weight"));
    assert_true(module_error(&self, &opened, "model.embed_tokens", embedding, true) < 1e-12);
    assert_true(module_error(&self, &opened, "model.conv", linear, false) < 1e-12);
    assert_int_equal(find_array(&opened, "model.conv", "lora_A.weight")->shape[3], 3);
    assert_int_equal(find_array(&opened, "model.conv", "lora_B.weight")->dimensions, 4);
    /* a norm's new value is saved whole, both of its vectors under one module */
    assert_int_equal(json_array_size(json_object_get(opened.config, "modules_to_save")), 1);
    assert_true(has_word(opened.config, "modules_to_save", "model.layers.1.norm"));
    float *saved = read_array(&opened, "model.layers.1.norm", "weight", &found);
    double *change = wanted_change(&self, "model.layers.1.norm.weight", 1, 16);
    float before[16];
    fill_base(NULL, 9, before, 16);
    for (size_t i = 0; i < 16; i++)
        sample_assert_near((double)saved[i], (double)before[i] + change[i], 1e-7);
    free(saved);
    free(change);
    assert_non_null(find_array(&opened, "model.layers.1.norm", "bias"));
    close_adapter(&opened);
    finish(&self);
}

static void what_is_left_out_is_told(void **state)
{
    static const char *const tensors[] = {"lm_head.weight", "model.layers.0.q_proj.bias",
                                          "model.layers.1.attn.in_proj_weight",
                                          "model.depthwise.weight"};
    stage self;
    double shares = 0;
    prepare(&self, support_directory(state));
    self.options.exact = true;
    must_export(&self);
    assert_int_equal(self.report.left_out, 3);
    adapter opened = open_adapter(&self);
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
    for (size_t i = 0; i < BASE_TENSORS; i++) {
        uint64_t count = 1;
        for (size_t d = 0; d < base_tensors[i].dimensions; d++)
            count *= base_tensors[i].shape[d];
        uint64_t m = base_tensors[i].dimensions > 1 ? base_tensors[i].shape[0] : 1;
        double *change = wanted_change(&self, base_tensors[i].name, m, count / m);
        double own = 0;
        for (uint64_t e = 0; e < count; e++)
            own += change[e] * change[e];
        energy += own;
        left += row_of(rows, "tensor", base_tensors[i].name) != NULL ? own : 0;
        free(change);
    }
    sample_assert_near(self.report.lost, left / energy, 1e-6);
    close_adapter(&opened);
    finish(&self);
}

/* Half of the singular values of each matrix are cut; what they held is the error told. */
static void caps_tell_the_error_they_make(void **state)
{
    static const struct {
        const char *module;
        size_t rows, columns;
    } modules[] = {
        {"model.layers.0.q_proj", 24, 16}, {"model.layers.1.mlp", 12, 16}, {"lm_head", 40, 16}};
    stage self;
    prepare(&self, support_directory(state));
    self.options.exact = true;
    self.options.max_rank = 4;
    must_export(&self);
    assert_int_equal(self.report.rank, 4);
    adapter opened = open_adapter(&self);
    for (size_t i = 0; i < 3; i++) {
        char tensor[128];
        (void)snprintf(tensor, sizeof tensor, "%s.weight", modules[i].module);
        size_t count = modules[i].rows * modules[i].columns;
        double found = module_error(&self, &opened, modules[i].module, linear, false);
        const json_t *row =
            row_of(json_object_get(opened.report, "modules"), "module", modules[i].module);
        sample_assert_near(number(row, "error"), found, 1e-6 * found);
        assert_true(found <= self.report.worst_error * (1 + 1e-9));
        /* no other matrix of the rank is nearer */
        double *change = wanted_change(&self, tensor, modules[i].rows, modules[i].columns);
        float x[NUMBERS_MAX];
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
    close_adapter(&opened);
    self.options.exact = false;
    self.options.max_rank = 20; /* 16 of it can be used */
    must_export(&self);
    assert_int_equal(self.report.rank, 16);
    opened = open_adapter(&self);
    assert_true(module_error(&self, &opened, "model.layers.1.mlp", linear, false) < 1e-10);
    close_adapter(&opened);
    finish(&self);
}

static void conv1d_weights_are_turned(void **state)
{
    static const char gpt2[] = "{\"model_type\": \"gpt2\"}";
    static const char other[] = "{\"model_type\": \"gpt_bigcode\"}";
    stage self;
    prepare(&self, support_directory(state));
    for (int turned = 0; turned < 2; turned++) {
        write_base(&self, turned ? gpt2 : other);
        must_export(&self);
        adapter opened = open_adapter(&self);
        assert_int_equal(find_array(&opened, "model.layers.1.c_attn", "lora_A.weight")->shape[1],
                         turned ? 16 : 48);
        assert_true(module_error(&self, &opened, "model.layers.1.c_attn", linear, turned) < 1e-12);
        assert_true(module_error(&self, &opened, "model.layers.0.q_proj", linear, false) < 1e-12);
        assert_int_equal(json_is_true(json_object_get(opened.config, "fan_in_fan_out")), turned);
        close_adapter(&opened);
    }
    finish(&self);
}

static void tied_embeddings_are_left_out(void **state)
{
    static const part parts[] = {{0, "model.embed_tokens.weight.shared_B", {40, 2}},
                                 {0, "model.embed_tokens.weight.shared_A", {2, 16}},
                                 {1, "model.layers.0.q_proj.weight.expert_B", {24, 2}},
                                 {1, "model.layers.0.q_proj.weight.expert_A", {2, 16}}};
    static const char config[] = "{\"architectures\": [\"LlamaForCausalLM\"]}";
    static const uint64_t shapes[2][2] = {{40, 16}, {24, 16}};
    const safetensors_layout_entry entries[2] = {
        {"model.embed_tokens.weight", DIDI_DTYPE_F32, 2, shapes[0]},
        {"model.layers.0.q_proj.weight", DIDI_DTYPE_F32, 2, shapes[1]}};
    stage self;
    prepare_as(&self, support_directory(state), parts, 4, DIDI_DTYPE_F32);
    self.options.exact = true;
    sample_tensors_write(self.base, entries, 2, fill_base, NULL);
    must_export(&self); /* no head is known of */
    assert_int_equal(self.report.left_out, 0);
    support_write(self.base, "config.json", config, strlen(config));
    must_export(&self);
    assert_int_equal(self.report.left_out, 1);
    finish(&self);
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
    stage self;
    prepare(&self, support_directory(state));
    self.options.as_packaged = false;
    for (size_t i = 0; i < 3; i++) {
        self.options.precision = rows[i].precision;
        must_export(&self);
        adapter opened = open_adapter(&self);
        const safetensors_tensor *a = find_array(&opened, "model.layers.0.q_proj", linear[0]);
        assert_int_equal(a->dtype, rows[i].dtype);
        double found = module_error(&self, &opened, "model.layers.0.q_proj", linear, false);
        assert_true(found < rows[i].bound);
        assert_true(i == 0 || found > 0);
        const json_t *row =
            row_of(json_object_get(opened.report, "modules"), "module", "model.layers.0.q_proj");
        sample_assert_near(number(row, "error"), found, 1e-3 * found + 1e-13);
        close_adapter(&opened);
    }
    finish(&self);
}

static void plain_packages_keep_their_dtype(void **state)
{
    static const didi_dtype dtypes[] = {DIDI_DTYPE_BF16, DIDI_DTYPE_F16};
    for (size_t i = 0; i < 2; i++) {
        stage self;
        prepare_as(&self, directory_of(support_directory(state), i == 0 ? "one" : "two"),
                   usual_parts, USUAL_PARTS, dtypes[i]);
        must_export(&self);
        adapter opened = open_adapter(&self);
        assert_int_equal(find_array(&opened, "model.layers.0.q_proj", linear[0])->dtype, dtypes[i]);
        assert_true(module_error(&self, &opened, "model.layers.0.q_proj", linear, false) < 1e-12);
        close_adapter(&opened);
        close(self.root);
        finish(&self);
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
    int package = directory_of(sample.output, "package");
    int out = directory_of(sample.root, "out");
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
    static const part parts[] = {{1, "encoder.layer.0.q.weight.expert_B", {8, 2}},
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
    stage self;
    prepare_as(&self, support_directory(state), parts, 6, DIDI_DTYPE_F32);
    self.options.exact = true;
    sample_tensors_write(self.base, entries, 3, fill_base, NULL);
    must_export(&self);
    adapter opened = open_adapter(&self);
    const json_t *ranks = json_object_get(opened.config, "rank_pattern");
    assert_int_equal(json_object_size(ranks), 1);
    assert_int_equal((int)number(ranks, "layer\\.0\\.q"), 3);
    assert_int_equal(find_array(&opened, "encoder.layer.0.q", linear[0])->shape[0], 3);
    assert_int_equal(find_array(&opened, "decoder.layer.1.q", linear[0])->shape[0], 5);
    close_adapter(&opened);
    finish(&self);
}

/* ---- the same bytes, and trouble */

static void compare_directories(int one, int other)
{
    static const char *const names[] = {"adapter_model.safetensors", "adapter_config.json",
                                        "README.md", "export.json"};
    didi_error error = {0};
    for (size_t i = 0; i < 4; i++) {
        char *texts[2] = {NULL, NULL};
        size_t bytes[2] = {0, 0};
        sample_must(file_read_text(one, names[i], 1 << 20, &texts[0], &bytes[0], &error), &error);
        sample_must(file_read_text(other, names[i], 1 << 20, &texts[1], &bytes[1], &error), &error);
        assert_int_equal(bytes[0], bytes[1]);
        assert_memory_equal(texts[0], texts[1], bytes[0]);
        free(texts[0]);
        free(texts[1]);
    }
}

static void the_same_package_gives_the_same_bytes(void **state)
{
    stage self;
    prepare(&self, support_directory(state));
    self.options.max_rank = 16;
    must_export(&self);
    int first = directory_of(self.out, "t");
    must_export(&self);
    assert_int_equal(support_entries(first), 0); /* replaced */
    close(first);
    didi_error error = {0};
    sample_must(file_rename(self.out, "t", self.root, "kept", &error), &error);
    must_export(&self);
    first = directory_of(self.root, "kept");
    int second = directory_of(self.out, "t");
    compare_directories(first, second);
    uint64_t bytes = 0;
    static const char *const names[] = {"adapter_model.safetensors", "adapter_config.json",
                                        "README.md", "export.json"};
    for (size_t i = 0; i < 4; i++) {
        char *text = NULL;
        size_t own = 0;
        sample_must(file_read_text(second, names[i], 1 << 20, &text, &own, &error), &error);
        bytes += own;
        free(text);
    }
    assert_int_equal(bytes, self.report.bytes);
    close(first);
    close(second);
    finish(&self);
}

static void bad_orders_are_refused(void **state)
{
    static const char *const tasks[] = {"t9", "", ".", "../t", "a/b"};
    static const part vector[] = {{1, "model.layers.1.norm.weight.delta", {16, 0}}};
    static const part misfit[] = {{1, "model.layers.0.q_proj.weight.expert_B", {24, 2}},
                                  {1, "model.layers.0.q_proj.weight.expert_A", {2, 17}}};
    stage self;
    didi_error error = {0};
    prepare(&self, support_directory(state));
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(export_task(&self, tasks[i], &error), DIDI_NOT_FOUND);
    self.options.max_rank = 8;
    assert_int_equal(export_task(&self, "t", &error), DIDI_INVALID);
    support_assert_contains(error.message, "multiples of 16");
    self.options = (didi_adapter_options){.precision = DIDI_PRECISION_INT4};
    assert_int_equal(export_task(&self, "t", &error), DIDI_INVALID);
    self.options = (didi_adapter_options){.as_packaged = true};
    write_base(&self, "[1]");
    assert_int_equal(export_task(&self, "t", &error), DIDI_FORMAT);
    assert_int_equal(support_entries(self.out), 0);
    finish(&self);
    for (size_t i = 0; i < 2; i++) {
        int root = directory_of(support_directory(state), i == 0 ? "vector" : "misfit");
        prepare_as(&self, root, i == 0 ? vector : misfit, i == 0 ? 1 : 2, DIDI_DTYPE_F32);
        assert_int_equal(export_task(&self, "t", &error), i == 0 ? DIDI_INVALID : DIDI_MISMATCH);
        assert_int_equal(support_entries(self.out), 0);
        close(root);
        finish(&self);
    }
}

static int always(void *context)
{
    (void)context;
    return 1;
}

static void trouble_leaves_no_half_adapter_or_router(void **state)
{
    static const char *const points[] = {"alloc", "pwrite", "fsync", "rename"};
    stage self;
    didi_error error = {0};
    prepare(&self, support_directory(state));
    self.options.max_rank = 16;
    didi_export wanted = {.artifact_fd = self.package,
                          .base_fd = self.base,
                          .output_fd = self.out,
                          .base_label = "lab/base",
                          .task = "t",
                          .cancelled = always};
    assert_int_equal(didi_export_adapter(&wanted, &self.options, NULL, &error), DIDI_CANCELLED);
    assert_int_equal(didi_export_router(&wanted, 0, NULL, &error), DIDI_CANCELLED);
    assert_int_equal(support_entries(self.out), 0);
    for (size_t p = 0; p < 8; p++) {
        bool fired = true;
        self.routes = p >= 4;
        for (size_t nth = 1; fired; nth += 1 + nth / 50) {
            char fault[32];
            (void)snprintf(fault, sizeof fault, "%s:%zu", points[p % 4], nth);
            assert_int_equal(fault_arm(fault), 0);
            int status = export_task(&self, "t", &error);
            fired = fault_all_fired();
            assert_int_equal(fault_arm(NULL), 0);
            if (status != (!fired ? DIDI_OK : p % 4 == 0 ? DIDI_NO_MEMORY : DIDI_IO))
                fail_msg("%s: %s, %s", fault, didi_status_name(status), error.message);
            bool whole = support_exists(self.out, "t");
            assert_int_equal(support_entries(self.out), whole);
            if (whole && !self.routes) {
                adapter opened = open_adapter(&self);
                close_adapter(&opened);
            }
            sample_must(file_remove_tree(self.out, "t", &error), &error);
        }
    }
    finish(&self);
}

/* Every direction is LAPACK's to the precision of bf16. */
static void check_directions(const stage *self, const char *tensor, uint64_t rows, uint64_t columns)
{
    const safetensors_tensor *found = NULL;
    adapter opened = {.directory = directory_of(self->out, "t")};
    didi_error error = {0};
    float u[24 * 24];
    float v[24 * 24];
    float x[24 * 24];
    double sigma[24];
    char name[128];
    (void)snprintf(name, sizeof name, "%s.directions", tensor);
    opened.fd = openat(opened.directory, "router.safetensors", O_RDONLY | O_CLOEXEC);
    sample_must(safetensors_header_read(opened.fd, "router", &opened.header, &error), &error);
    float *read = read_tensor(&opened, name, &found);
    double *change = wanted_change(self, tensor, rows, columns);
    for (uint64_t i = 0; i < rows * columns; i++)
        x[i] = (float)change[i];
    sample_must(linalg_svd(rows, columns, x, u, sigma, v, &error), &error);
    assert_int_equal(found->shape[1], columns);
    for (uint64_t k = 0; k < found->shape[0]; k++) {
        double inner = linalg_dot(read + k * columns, v + k * columns, columns);
        sample_assert_near(fabs(inner), 1, 0.01);
    }
    free(read);
    free(change);
    close_adapter(&opened);
}

static void routers_hold_the_leading_directions(void **state)
{
    static const char one[] = "{\"inputs\": {\"tasks\": {\"t\": {}}}}";
    stage self;
    didi_error error = {0};
    prepare(&self, support_directory(state));
    self.routes = true;
    must_export(&self);
    check_directions(&self, "model.layers.0.q_proj.weight", 24, 16);
    check_directions(&self, "model.layers.1.mlp.weight", 12, 16);
    support_write(self.package, "manifest.json", one, strlen(one));
    assert_int_equal(export_task(&self, "t", &error), DIDI_INVALID);
    finish(&self);
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
        support_test(the_same_package_gives_the_same_bytes),
        support_test(bad_orders_are_refused),
        support_test(trouble_leaves_no_half_adapter_or_router),
        support_test(routers_hold_the_leading_directions),
    };
    return cmocka_run_group_tests(tests, sample_use_one_thread, NULL);
}
