/* SPDX-License-Identifier: Apache-2.0 */
/* Small families of models on disk. */
#include "tests/unit/sample_family.h"

#include "src/base/file.h"
#include "src/files/checkpoint.h"
#include "src/math/random.h"
#include "tests/unit/sample_layer.h"
#include "tests/unit/sample_summary.h"
#include "tests/unit/support.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct tensor_recipe {
    const char *name;
    size_t dimensions;
    uint64_t shape[3];
} tensor_recipe;

static const tensor_recipe tensors[] = {
    {"a.weight", 2, {24, 16}},
    {"b.weight", 2, {12, 40}},
    {"bias", 1, {24}},
    {"conv", 3, {6, 4, 3}},
    {"embed.weight", 2, {4, 6}},
    {"empty", 2, {0, 4}},
    {"one", 0, {0}},
    {"steps", 1, {2}},
    {"wide", 2, {1, 8}},
    {"zzz", 1, {3}},
    {"zz1", 1, {3}},
    {"zz2", 1, {3}},
};
enum { TENSORS = sizeof tensors / sizeof *tensors, INTEGERS = 7, EXTRA = 9, TWIN = 10 };

static const char *const task_names[SAMPLE_TASKS_MAX] = {"t0", "t1", "t2", "t3",
                                                         "t4", "t5", "t6", "t7"};
static const char *const labels[SAMPLE_TASKS_MAX] = {"lab/t0", "lab/t1", "lab/t2", "lab/t3",
                                                     "lab/t4", "lab/t5", "lab/t6", "lab/t7"};

static bool is(const char *wanted, const char *name)
{
    return wanted != NULL && strcmp(wanted, name) == 0;
}

/* Base values, then what all fine-tunes share, then what is the model's own. */
static void make_values(const sample_model *model, size_t index, size_t rows, size_t columns,
                        float *values)
{
    const char *name = tensors[index].name;
    size_t full = rows < columns ? rows : columns;
    index = index == TWIN ? EXTRA : index;
    random_normal(random_mix(1, index), values, rows * columns, 0.5F);
    if (model->seed != 0 && !is(model->same, name)) {
        sample_add_matrix(values, rows, columns, full < 3 ? full : 3, random_mix(2, index));
        sample_add_matrix(values, rows, columns, full, random_mix(model->seed, index));
    }
    if (is(model->poke, name))
        values[rows * columns > 1 ? 1 : 0] = model->poke_value;
}

static void put_tensor(safetensors_writer *writer, const sample_model *model, size_t index,
                       const safetensors_layout_entry *entry)
{
    didi_error error = {0};
    uint64_t count = 1;
    for (size_t d = 0; d < entry->dimensions; d++)
        count *= entry->shape[d];
    if (index == INTEGERS) {
        int64_t steps[2] = {7 + model->steps, 9};
        sample_must(safetensors_writer_put_bytes(writer, entry->name, 0, steps, 16, &error),
                    &error);
        return;
    }
    size_t rows = entry->dimensions > 1 ? entry->shape[0] : 1;
    float *values = support_allocate(count * sizeof *values);
    char *raw = support_allocate(count * sizeof(double));
    if (count > 0)
        make_values(model, index, rows, count / rows, values);
    didi_dtype_from_f32(entry->dtype, values, raw, count);
    uint64_t bytes = count * didi_dtype_bits(entry->dtype) / 8;
    if (bytes > 0)
        sample_must(safetensors_writer_put_bytes(writer, entry->name, 0, raw, bytes, &error),
                    &error);
    free(values);
    free(raw);
}

void sample_model_write(int directory, const sample_model *model)
{
    safetensors_layout_entry entries[TENSORS];
    uint64_t shapes[TENSORS][3];
    char names[TENSORS][64];
    size_t indexes[TENSORS];
    size_t count = 0;
    safetensors_writer *writer = NULL;
    didi_error error = {0};
    didi_dtype dtype = model->dtype == DIDI_DTYPE_BOOL ? DIDI_DTYPE_F32 : model->dtype;
    for (size_t i = 0; i < TENSORS; i++) {
        if (is(model->omit, tensors[i].name) || (i == EXTRA && !model->extra && !model->twins) ||
            (i > EXTRA && !model->twins))
            continue;
        memcpy(shapes[count], tensors[i].shape, sizeof shapes[count]);
        if (is(model->turn, tensors[i].name)) {
            shapes[count][0] = tensors[i].shape[1];
            shapes[count][1] = tensors[i].shape[0];
        }
        shapes[count][0] += is(model->grow, tensors[i].name) ? 2 : 0;
        (void)snprintf(names[count], sizeof names[count], "%s%s",
                       model->prefix != NULL ? model->prefix : "", tensors[i].name);
        entries[count] =
            (safetensors_layout_entry){names[count], i == INTEGERS ? DIDI_DTYPE_I64 : dtype,
                                       tensors[i].dimensions, shapes[count]};
        indexes[count++] = i;
    }
    (void)unlinkat(directory, "model.safetensors", 0);
    safetensors_contents contents = {.entries = entries, .count = count};
    sample_must(
        safetensors_writer_create(directory, "model.safetensors", &contents, &writer, &error),
        &error);
    for (size_t i = 0; i < count; i++)
        put_tensor(writer, model, indexes[i], &entries[i]);
    sample_must(safetensors_writer_close(writer, false, &error), &error);
}

void sample_tensors_write(int directory, const safetensors_layout_entry *entries, size_t count,
                          void (*fill)(void *context, size_t tensor, float *values, size_t count),
                          void *context)
{
    safetensors_writer *writer = NULL;
    didi_error error = {0};
    (void)unlinkat(directory, "model.safetensors", 0);
    safetensors_contents contents = {.entries = entries, .count = count};
    sample_must(
        safetensors_writer_create(directory, "model.safetensors", &contents, &writer, &error),
        &error);
    for (size_t i = 0; i < count; i++) {
        size_t elements = 1;
        assert_int_equal(entries[i].dtype, DIDI_DTYPE_F32);
        for (size_t d = 0; d < entries[i].dimensions; d++)
            elements *= entries[i].shape[d];
        float *values = support_allocate(elements * sizeof *values);
        fill(context, i, values, elements);
        sample_must(
            safetensors_writer_put_f32(writer, entries[i].name, 0, values, elements, &error),
            &error);
        free(values);
    }
    sample_must(safetensors_writer_close(writer, false, &error), &error);
}

static int make_directory(int root, const char *name)
{
    int fd = -1;
    didi_error error = {0};
    sample_must(file_open_directory(root, name, 1, &fd, &error), &error);
    return fd;
}

void sample_family_create(sample_family *self, int root, size_t tasks)
{
    *self = (sample_family){.root = root,
                            .base = make_directory(root, "base"),
                            .work = make_directory(root, "work"),
                            .output = make_directory(root, "output")};
    didi_merge_options *options = &self->options;
    didi_merge_options_default(options);
    sample_model_write(self->base, &(sample_model){0});
    for (size_t t = 0; t < tasks; t++) {
        self->models[t] = make_directory(root, task_names[t]);
        sample_model_write(self->models[t], &(sample_model){.seed = 100 + t});
        self->inputs[t] = (didi_task_input){.name = task_names[t],
                                            .label = labels[t],
                                            .directory_fd = self->models[t],
                                            .weight = 1};
    }
    options->base_label = "lab/base";
    options->base_fd = self->base;
    options->tasks = self->inputs;
    options->task_count = tasks;
    options->budget = 1.4;
    options->precision = DIDI_PRECISION_F32;
    options->work_fd = self->work;
    options->output_fd = self->output;
    options->output_name = "package";
    options->volatile_work = true;
}

void sample_family_close(sample_family *self)
{
    for (size_t t = 0; t < self->options.task_count; t++)
        close(self->models[t]);
    close(self->base);
    close(self->work);
    close(self->output);
}

/* ---- merges ---- */

typedef struct crew {
    didi_merge *merge;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    size_t done, cancel_after;
} crew;

/* One thread of the pool: whoever holds the mutex is the owner. */
static void *take_items(void *argument)
{
    crew *self = argument;
    pthread_mutex_lock(&self->mutex);
    for (;;) {
        didi_item *item = NULL;
        didi_next next = didi_merge_next(self->merge, UINT64_MAX, true, &item);
        if (next == DIDI_NEXT_FINISHED)
            break;
        if (next == DIDI_NEXT_WAIT) {
            pthread_cond_wait(&self->changed, &self->mutex);
            continue;
        }
        pthread_mutex_unlock(&self->mutex);
        didi_item_execute(item);
        pthread_mutex_lock(&self->mutex);
        didi_merge_complete(self->merge, item);
        if (++self->done == self->cancel_after)
            didi_merge_cancel(self->merge);
        pthread_cond_broadcast(&self->changed);
    }
    pthread_cond_broadcast(&self->changed);
    pthread_mutex_unlock(&self->mutex);
    return NULL;
}

int sample_merge(const didi_merge_options *options, size_t threads, size_t cancel_after,
                 didi_error *error)
{
    pthread_t others[SAMPLE_TASKS_MAX];
    crew self = {.cancel_after = cancel_after};
    int status = didi_merge_open(options, NULL, &self.merge, error);
    if (status != DIDI_OK)
        return status;
    pthread_mutex_init(&self.mutex, NULL);
    pthread_cond_init(&self.changed, NULL);
    for (size_t i = 1; i < threads; i++)
        assert_int_equal(pthread_create(&others[i], NULL, take_items, &self), 0);
    (void)take_items(&self);
    for (size_t i = 1; i < threads; i++)
        assert_int_equal(pthread_join(others[i], NULL), 0);
    status = didi_merge_result(self.merge, error);
    didi_merge_close(self.merge);
    pthread_cond_destroy(&self.changed);
    pthread_mutex_destroy(&self.mutex);
    return status;
}

void sample_merge_partly(const didi_merge_options *options, size_t items)
{
    didi_merge *merge = NULL;
    didi_item *item = NULL;
    didi_error error = {0};
    sample_must(didi_merge_open(options, NULL, &merge, &error), &error);
    for (size_t i = 0; i < items; i++) {
        if (didi_merge_next(merge, UINT64_MAX, false, &item) != DIDI_NEXT_ITEM)
            break;
        didi_item_execute(item);
        didi_merge_complete(merge, item);
    }
    didi_merge_close(merge);
}

/* ---- artifacts ---- */

static int open_part(const sample_family *self, const char *package, const char *file,
                     safetensors_header **ret_header)
{
    char path[256];
    didi_error error = {0};
    (void)snprintf(path, sizeof path, "%s/%s", package, file);
    int fd = openat(self->output, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        fail_msg("%s is missing", path);
    sample_must(safetensors_header_read(fd, path, ret_header, &error), &error);
    return fd;
}

static void expert_file(size_t task, char name[64])
{
    (void)snprintf(name, 64, "experts/%s.safetensors", task_names[task]);
}

uint64_t sample_package_parameters(const sample_family *self, const char *package)
{
    uint64_t sum = 0;
    for (size_t f = 0; f <= self->options.task_count; f++) {
        char name[64] = "shared.safetensors";
        safetensors_header *header = NULL;
        if (f > 0)
            expert_file(f - 1, name);
        close(open_part(self, package, name, &header));
        for (size_t i = 0; i < safetensors_header_count(header); i++)
            sum += safetensors_header_at(header, i)->elements;
        safetensors_header_free(header);
    }
    return sum;
}

size_t sample_package_tensors(const sample_family *self, const char *package, const char *file,
                              const char *tensor)
{
    safetensors_header *header = NULL;
    close(open_part(self, package, file, &header));
    size_t count = safetensors_header_count(header);
    if (tensor != NULL)
        count = safetensors_header_find(header, tensor) != NULL;
    safetensors_header_free(header);
    return count;
}

/* values of "tensor.suffix", or NULL; *ret_rows is its first dimension */
static float *read_part(int fd, const safetensors_header *header, const char *tensor,
                        const char *suffix, size_t *ret_rows)
{
    char name[128];
    didi_error error = {0};
    (void)snprintf(name, sizeof name, "%s.%s", tensor, suffix);
    const safetensors_tensor *found = safetensors_header_find(header, name);
    if (found == NULL)
        return NULL;
    char *raw = support_allocate(found->bytes);
    float *values = support_allocate(found->elements * sizeof *values);
    sample_must(file_pread_all(fd, raw, found->bytes, found->offset, name, &error), &error);
    didi_dtype_to_f32(found->dtype, raw, values, found->elements);
    *ret_rows = found->dimensions > 0 ? found->shape[0] : 1;
    free(raw);
    return values;
}

static void add_part(int fd, const safetensors_header *header, const char *tensor,
                     const char *const suffixes[2], size_t rows, size_t columns, double *sum)
{
    size_t ignored = 0;
    size_t rank = 0;
    float *b = read_part(fd, header, tensor, suffixes[0], &ignored);
    float *a = read_part(fd, header, tensor, suffixes[1], &rank);
    float *delta = read_part(fd, header, tensor, "delta", &ignored);
    assert_true((a == NULL) == (b == NULL));
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < columns; j++) {
            for (size_t k = 0; a != NULL && b != NULL && k < rank; k++)
                sum[i * columns + j] += (double)b[i * rank + k] * (double)a[k * columns + j];
            if (delta != NULL)
                sum[i * columns + j] += (double)delta[i * columns + j];
        }
    free(b);
    free(a);
    free(delta);
}

/* Adds |delta_hat - delta|^2 and |delta|^2 of one tensor. */
static void measure_tensor(const int *fds, safetensors_header *const *headers,
                           const checkpoint *const *models, const char *name, double *error_sum,
                           double *energy)
{
    static const char *const suffixes[2][2] = {{"shared_B", "shared_A"}, {"expert_B", "expert_A"}};
    didi_error error = {0};
    const checkpoint_tensor *base = checkpoint_find(models[0], name);
    const checkpoint_tensor *tuned = checkpoint_find(models[1], name);
    uint64_t count = base->tensor->elements;
    size_t rows = base->tensor->dimensions > 1 ? base->tensor->shape[0] : 1;
    float *from = support_allocate(count * sizeof *from);
    float *to = support_allocate(count * sizeof *to);
    double *sum = support_allocate(count * sizeof *sum);
    sample_must(checkpoint_read_f32(models[0], base, 0, from, count, &error), &error);
    sample_must(checkpoint_read_f32(models[1], tuned, 0, to, count, &error), &error);
    for (size_t f = 0; f < 2; f++)
        add_part(fds[f], headers[f], name, suffixes[f], rows, count / rows, sum);
    for (size_t i = 0; i < count; i++) {
        double delta = (double)to[i] - (double)from[i];
        *error_sum += (sum[i] - delta) * (sum[i] - delta);
        *energy += delta * delta;
    }
    free(from);
    free(to);
    free(sum);
}

double sample_package_error(const sample_family *self, const char *package, size_t task,
                            const char *without)
{
    char name[64];
    safetensors_header *headers[2] = {NULL, NULL};
    checkpoint *models[2] = {NULL, NULL};
    double sum = 0;
    double energy = 0;
    didi_error error = {0};
    expert_file(task, name);
    int fds[2] = {open_part(self, package, "shared.safetensors", &headers[0]),
                  open_part(self, package, name, &headers[1])};
    sample_must(checkpoint_open(self->base, "base", &models[0], &error), &error);
    sample_must(checkpoint_open(self->models[task], "task", &models[1], &error), &error);
    for (size_t i = 0; i < checkpoint_count(models[0]); i++) {
        const safetensors_tensor *tensor = checkpoint_at(models[0], i)->tensor;
        if (didi_dtype_is_float(tensor->dtype) && tensor->elements > 0 &&
            !is(without, tensor->name))
            measure_tensor(fds, headers, (const checkpoint *const *)models, tensor->name, &sum,
                           &energy);
    }
    for (size_t f = 0; f < 2; f++) {
        close(fds[f]);
        safetensors_header_free(headers[f]);
        checkpoint_close(models[f]);
    }
    return energy > 0 ? sum / energy : sum;
}

/* ---- exports ---- */

int sample_export(const sample_family *self, const char *package, size_t task)
{
    int from = -1;
    int exports = make_directory(self->root, "exports");
    int to = -1;
    didi_error error = {0};
    sample_must(file_open_directory(self->output, package, 0, &from, &error), &error);
    didi_export wanted = {.artifact_fd = from,
                          .base_fd = self->base,
                          .output_fd = exports,
                          .task_fd = -1,
                          .base_label = "lab/base",
                          .task = task_names[task],
                          .verify_base = true};
    sample_must(didi_export_full(&wanted, &error), &error);
    sample_must(file_open_directory(exports, task_names[task], 0, &to, &error), &error);
    close(exports);
    close(from);
    return to;
}

/* Adds |exported - fine-tune|^2 and |fine-tune - base|^2 of one tensor of base, fine-tune and
 * export. */
static void measure_exported(checkpoint *const *models, const char *name, double *error_sum,
                             double *energy)
{
    const checkpoint_tensor *rows[3];
    float *values[3];
    didi_error error = {0};
    for (size_t m = 0; m < 3; m++)
        rows[m] = checkpoint_find(models[m], name);
    assert_non_null(rows[2]);
    assert_int_equal(rows[2]->tensor->dtype, rows[0]->tensor->dtype);
    assert_int_equal(rows[2]->tensor->dimensions, rows[0]->tensor->dimensions);
    uint64_t count = rows[0]->tensor->elements;
    if (!didi_dtype_is_float(rows[0]->tensor->dtype) || count == 0)
        return;
    for (size_t m = 0; m < 3; m++) {
        values[m] = support_allocate(count * sizeof(float));
        sample_must(checkpoint_read_f32(models[m], rows[m], 0, values[m], count, &error), &error);
    }
    for (size_t e = 0; e < count; e++) {
        double miss = (double)values[2][e] - (double)values[1][e];
        double delta = (double)values[1][e] - (double)values[0][e];
        *error_sum += miss * miss;
        *energy += delta * delta;
    }
    for (size_t m = 0; m < 3; m++)
        free(values[m]);
}

double sample_exported_error(const sample_family *self, int exported, size_t task)
{
    const int fds[3] = {self->base, self->models[task], exported};
    checkpoint *models[3] = {NULL, NULL, NULL};
    double sum = 0;
    double energy = 0;
    didi_error error = {0};
    for (size_t m = 0; m < 3; m++)
        sample_must(checkpoint_open(fds[m], "m", &models[m], &error), &error);
    assert_int_equal(checkpoint_count(models[2]), checkpoint_count(models[0]));
    for (size_t i = 0; i < checkpoint_count(models[0]); i++)
        measure_exported(models, checkpoint_at(models[0], i)->tensor->name, &sum, &energy);
    for (size_t m = 0; m < 3; m++)
        checkpoint_close(models[m]);
    return energy > 0 ? sum / energy : sum;
}

void sample_package_compare(const sample_family *self, const char *one, const char *other)
{
    const char *packages[2] = {one, other};
    for (size_t f = 0; f <= self->options.task_count; f++) {
        char name[64] = "shared.safetensors";
        char *texts[2] = {NULL, NULL};
        size_t bytes[2] = {0, 0};
        didi_error error = {0};
        if (f > 0)
            expert_file(f - 1, name);
        for (size_t i = 0; i < 2; i++) {
            char path[256];
            (void)snprintf(path, sizeof path, "%s/%s", packages[i], name);
            int fd = openat(self->output, path, O_RDONLY | O_CLOEXEC);
            sample_must(file_read_text_fd(fd, path, 16 << 20, &texts[i], &bytes[i], &error),
                        &error);
            close(fd);
        }
        assert_int_equal(bytes[0], bytes[1]);
        assert_memory_equal(texts[0], texts[1], bytes[0]);
        free(texts[0]);
        free(texts[1]);
    }
}
