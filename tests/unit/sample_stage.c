/* SPDX-License-Identifier: Apache-2.0 */
/* Packages written by hand, and what was made of them. */
#include "tests/unit/sample_stage.h"

#include "src/base/file.h"
#include "src/files/files.h"
#include "src/math/math.h"
#include "src/package/package.h"
#include "tests/unit/sample_family.h"
#include "tests/unit/sample_layer.h"
#include "tests/unit/sample_summary.h"
#include "tests/unit/support.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PARTS_MAX = 32 };

/* ---- a base and a package */

const sample_stage_tensor sample_stage_base[SAMPLE_STAGE_TENSORS] = {
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

const sample_stage_part sample_stage_usual[SAMPLE_STAGE_PARTS] = {
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
void sample_stage_fill(void *context, size_t tensor, float *values, size_t count)
{
    (void)context;
    random_normal(random_mix(1, tensor), values, count, 0.5F);
}

void sample_stage_write_base(const sample_stage *self, const char *config)
{
    safetensors_layout_entry entries[SAMPLE_STAGE_TENSORS];
    for (size_t i = 0; i < SAMPLE_STAGE_TENSORS; i++)
        entries[i] =
            (safetensors_layout_entry){sample_stage_base[i].name, DIDI_DTYPE_F32,
                                       sample_stage_base[i].dimensions, sample_stage_base[i].shape};
    sample_tensors_write(self->base, entries, SAMPLE_STAGE_TENSORS, sample_stage_fill, NULL);
    if (config != NULL)
        support_write(self->base, "config.json", config, strlen(config));
}

static void write_part_file(int directory, const char *name, const sample_stage_part *parts,
                            size_t count, size_t file, didi_dtype dtype)
{
    safetensors_layout_entry entries[PARTS_MAX];
    safetensors_contents contents = {.entries = entries};
    safetensors_writer *writer = NULL;
    didi_error error = {0};
    float values[SAMPLE_STAGE_NUMBERS];
    for (size_t i = 0; i < count; i++)
        if (parts[i].file == file)
            entries[contents.count++] = (safetensors_layout_entry){
                parts[i].name, dtype, parts[i].shape[1] > 0 ? 2 : 1, parts[i].shape};
    sample_must(safetensors_writer_create(directory, name, &contents, &writer, &error), &error);
    for (size_t i = 0; i < contents.count; i++) {
        uint64_t numbers = entries[i].shape[0] * larger(entries[i].shape[1], 1);
        assert_true(numbers <= SAMPLE_STAGE_NUMBERS);
        random_normal(random_mix(7 + file, i), values, numbers, 0.1F);
        sample_must(safetensors_writer_put_f32(writer, entries[i].name, 0, values, numbers, &error),
                    &error);
    }
    sample_must(safetensors_writer_close(writer, false, &error), &error);
}

int sample_stage_directory(int parent, const char *name)
{
    int fd = -1;
    didi_error error = {0};
    sample_must(file_open_directory(parent, name, 1, &fd, &error), &error);
    return fd;
}

void sample_stage_prepare_as(sample_stage *self, int root, const sample_stage_part *parts,
                             size_t count, didi_dtype dtype)
{
    static const char manifest[] = "{\"error\": {\"per_task\": {\"t\": 0.25}},"
                                   " \"inputs\": {\"tasks\": {\"t\": {}, \"u\": {}}}}";
    *self = (sample_stage){.root = root,
                           .base = sample_stage_directory(root, "base"),
                           .package = sample_stage_directory(root, "package"),
                           .out = sample_stage_directory(root, "out"),
                           .options = {.as_packaged = true}};
    sample_stage_write_base(self, NULL);
    int experts = sample_stage_directory(self->package, "experts");
    write_part_file(self->package, "shared.safetensors", parts, count, 0, dtype);
    write_part_file(experts, "t.safetensors", parts, count, 1, dtype);
    support_write(self->package, "manifest.json", manifest, strlen(manifest));
    close(experts);
}

void sample_stage_prepare(sample_stage *self, int root)
{
    sample_stage_prepare_as(self, root, sample_stage_usual, SAMPLE_STAGE_PARTS, DIDI_DTYPE_F32);
}

void sample_stage_finish(sample_stage *self)
{
    close(self->base);
    close(self->package);
    close(self->out);
}

int sample_stage_task(sample_stage *self, const char *task, didi_error *error)
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

void sample_stage_must(sample_stage *self)
{
    didi_error error = {0};
    sample_must(sample_stage_task(self, "t", &error), &error);
    assert_int_equal(support_entries(self->out), 1);
}

/* ---- what was written */

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

sample_adapter sample_adapter_open(const sample_stage *self)
{
    sample_adapter opened = {.directory = sample_stage_directory(self->out, "t")};
    didi_error error = {0};
    assert_int_equal(support_entries(opened.directory), 4);
    opened.fd = openat(opened.directory, "adapter_model.safetensors", O_RDONLY | O_CLOEXEC);
    sample_must(safetensors_header_read(opened.fd, "adapter", &opened.header, &error), &error);
    opened.config = read_json(opened.directory, "adapter_config.json");
    opened.report = read_json(opened.directory, "export.json");
    return opened;
}

void sample_adapter_close(sample_adapter *self)
{
    close(self->fd);
    close(self->directory);
    safetensors_header_free(self->header);
    json_decref(self->config);
    json_decref(self->report);
}

const safetensors_tensor *sample_adapter_find(const sample_adapter *self, const char *module,
                                              const char *member)
{
    char name[256];
    (void)snprintf(name, sizeof name, "base_model.model.%s.%s", module, member);
    return safetensors_header_find(self->header, name);
}

float *sample_adapter_read(const sample_adapter *self, const char *name,
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

float *sample_adapter_read_array(const sample_adapter *self, const char *module, const char *member,
                                 const safetensors_tensor **ret_found)
{
    char name[256];
    (void)snprintf(name, sizeof name, "base_model.model.%s.%s", module, member);
    return sample_adapter_read(self, name, ret_found);
}

/* What PEFT adds to the weight: B A, or its transpose. */
static double *product(const sample_adapter *self, const char *module, const char *const members[2],
                       bool transposed)
{
    const safetensors_tensor *a = NULL;
    const safetensors_tensor *b = NULL;
    float *left = sample_adapter_read_array(self, module, members[1], &b);
    float *right = sample_adapter_read_array(self, module, members[0], &a);
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
double *sample_stage_change(const sample_stage *self, const char *tensor, uint64_t rows,
                            uint64_t columns)
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

const char *const sample_adapter_linear[2] = {"lora_A.weight", "lora_B.weight"};
const char *const sample_adapter_embedding[2] = {"lora_embedding_A", "lora_embedding_B"};

/* |product - wanted|^2 / |wanted|^2, or |product|^2 where nothing is wanted. */
double sample_adapter_error(const sample_stage *self, const sample_adapter *opened,
                            const char *module, const char *const members[2], bool transposed)
{
    char tensor[256];
    uint64_t rows = 0;
    uint64_t columns = 1;
    double error = 0;
    double energy = 0;
    (void)snprintf(tensor, sizeof tensor, "%s.weight", module);
    for (size_t i = 0; i < SAMPLE_STAGE_TENSORS; i++)
        if (strcmp(sample_stage_base[i].name, tensor) == 0) {
            rows = sample_stage_base[i].shape[0];
            for (size_t d = 1; d < sample_stage_base[i].dimensions; d++)
                columns *= sample_stage_base[i].shape[d];
        }
    assert_true(rows > 0);
    double *found = product(opened, module, members, transposed);
    double *wanted = sample_stage_change(self, tensor, rows, columns);
    for (uint64_t i = 0; i < rows * columns; i++) {
        error += (found[i] - wanted[i]) * (found[i] - wanted[i]);
        energy += wanted[i] * wanted[i];
    }
    free(found);
    free(wanted);
    return energy > 0 ? error / energy : error;
}
