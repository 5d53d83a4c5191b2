/* SPDX-License-Identifier: Apache-2.0 */
/* Defaults, checks and the deep copy of a merge's options. */
#include "src/merge/merge.h"

#include "src/base/base.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void didi_merge_options_default(didi_merge_options *options)
{
    *options = (didi_merge_options){
        .base_fd = -1,
        .work_fd = -1,
        .reuse_fd = -1,
        .output_fd = -1,
        .extend = {.package_fd = -1, .comparison_fd = -1},
        .budget = 1.24,
#define DEFAULT_NUMBER(member, key, field, standard, ...) .member = (standard),
        DIDI_RANK_NUMBERS(DEFAULT_NUMBER) DIDI_RANK_COUNTS(DEFAULT_NUMBER)
            DIDI_REFINE_COUNTS(DEFAULT_NUMBER) DIDI_REFINE_NUMBERS(DEFAULT_NUMBER)
#undef DEFAULT_NUMBER
#define DEFAULT_CHOICE(member, field, standard, ...) .member = (standard),
                DIDI_CHOICES(DEFAULT_CHOICE)
#undef DEFAULT_CHOICE
                    .precision = DIDI_PRECISION_BF16,
        .workers = 1,
    };
}

static bool name_is_plain(const char *name)
{
    static const char allowed[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    size_t length = name == NULL ? 0 : strlen(name);
    return length > 0 && length <= MERGE_NAME_BYTES_MAX && name[0] != '.' &&
           strspn(name, allowed) == length;
}

static int check_tasks(const didi_merge_options *options, didi_error *error)
{
    if (options->task_count == 0 && options->extend.package_fd < 0)
        return didi_fail(error, DIDI_INVALID, "/tasks", "a merge needs at least one task");
    if (options->task_count > FAMILY_TASKS_MAX)
        return didi_fail(error, DIDI_INVALID, "/tasks", "%zu tasks are more than the %d allowed",
                         options->task_count, FAMILY_TASKS_MAX);
    for (size_t t = 0; t < options->task_count; t++) {
        const didi_task_input *task = &options->tasks[t];
        char field[64];
        (void)snprintf(field, sizeof field, "/tasks/%zu/name", t);
        if (!name_is_plain(task->name))
            return didi_fail(error, DIDI_INVALID, field,
                             "a task name is 1 to %d of A-Z a-z 0-9 . _ - and starts with no dot",
                             MERGE_NAME_BYTES_MAX);
        for (size_t other = 0; other < t; other++)
            if (strcmp(options->tasks[other].name, task->name) == 0)
                return didi_fail(error, DIDI_INVALID, field, "task '%s' is named twice",
                                 task->name);
        (void)snprintf(field, sizeof field, "/tasks/%zu/weight", t);
        int status = method_check_number(field, task->weight, 0, true, 1e6, error);
        if (status != DIDI_OK)
            return status;
    }
    return DIDI_OK;
}

/* Gram matrices are asked for by the methods that need them, of every task, and by no other. */
static int check_grams(const didi_merge_options *options, const didi_method *method,
                       didi_error *error)
{
    bool wanted = (method->flags & METHOD_TAKES_GRAMS) != 0;
    for (size_t t = 0; t < options->task_count; t++) {
        char field[64];
        (void)snprintf(field, sizeof field, "/tasks/%zu/gram", t);
        if (wanted && options->tasks[t].gram == NULL)
            return didi_fail(error, DIDI_INVALID, field,
                             "method '%s' needs the Gram matrices of the inputs of each layer of "
                             "task '%s': give as its 'gram' the name of a model directory that "
                             "holds the sum of x x' under the name of each layer's weight",
                             method->name, options->tasks[t].name);
        if (!wanted && options->tasks[t].gram != NULL)
            return didi_fail(error, DIDI_INVALID, field,
                             "method '%s' uses no Gram matrices; leave gram out", method->name);
    }
    return DIDI_OK;
}

static int check_method(const didi_merge_options *options, const didi_method *method,
                        didi_error *error)
{
    if ((method->flags & METHOD_SURVEYS) == 0 && options->survey)
        return didi_fail(error, DIDI_INVALID, "/survey",
                         "method '%s' has no budgets to compare; leave survey out", method->name);
    if ((method->flags & METHOD_TAKES_BUDGET) == 0 && options->budget != 0)
        return didi_fail(error, DIDI_INVALID, "/budget",
                         "method '%s' has a size of its own; leave budget out", method->name);
    if ((method->flags & METHOD_TAKES_BUDGET) == 0 && options->precision == DIDI_PRECISION_AUTO)
        return didi_fail(error, DIDI_INVALID, "/output/dtype",
                         "output dtype auto spends a budget, and method '%s' takes none",
                         method->name);
    if ((method->flags & METHOD_EXTENDS) == 0 && options->extend.package_fd >= 0)
        return didi_fail(error, DIDI_INVALID, "/extend", "method '%s' cannot extend a package",
                         method->name);
    if ((method->flags & METHOD_REUSES) == 0 && options->reuse_fd >= 0)
        return didi_fail(error, DIDI_INVALID, "/from_job",
                         "method '%s' starts from nothing; leave from_job out", method->name);
    if (options->survey && options->extend.package_fd >= 0)
        return didi_fail(error, DIDI_INVALID, "/survey",
                         "a package is extended or surveyed, not both; leave survey out");
    int status = check_grams(options, method, error);
    if (status == DIDI_OK && method->check != NULL)
        status = method->check(options, error);
    return status == DIDI_OK ? method_check_fields(method, options, error) : status;
}

int merge_options_check(const didi_merge_options *options, const didi_method *method,
                        didi_error *error)
{
    int status = check_tasks(options, error);
    if (status == DIDI_OK)
        status = check_method(options, method, error);
    if (status != DIDI_OK)
        return status;
    if ((unsigned)options->precision > DIDI_PRECISION_AUTO)
        return didi_fail(error, DIDI_INVALID, "/output/dtype",
                         "output dtype is f32, bf16, f16, int8, int4, int3 or auto");
    if ((unsigned)options->own_tensors > DIDI_OWN_REFUSE)
        return didi_fail(error, DIDI_INVALID, "/own_tensors",
                         "own_tensors is keep, drop or refuse");
    if ((unsigned)options->missing > DIDI_MISSING_REFUSE)
        return didi_fail(error, DIDI_INVALID, "/missing", "missing is auto, base or refuse");
    if (options->extend.package_fd >= 0 && options->reuse_fd >= 0)
        return didi_fail(error, DIDI_INVALID, "/from_job",
                         "an extension starts from a package alone; leave from_job out");
    if (options->output_fd >= 0 && !name_is_plain(options->output_name))
        return didi_fail(error, DIDI_INVALID, "output_name",
                         "output_name is not a plain file name");
    return DIDI_OK;
}

/* ---- deep copy ---- */

static const char *keep_string(didi_merge *self, const char *text)
{
    char *copy = text == NULL ? NULL : memory_string(text);
    if (copy != NULL)
        self->strings[self->string_count++] = copy;
    return copy;
}

static int keep_globs(didi_merge *self, const char *const *list, size_t count,
                      const char *const **ret_list, didi_error *error)
{
    const char **copy = count > 0 ? memory_zeroed(count, sizeof *copy) : NULL;
    bool lost = count > 0 && copy == NULL;
    for (size_t i = 0; i < count && !lost; i++)
        lost = (copy[i] = keep_string(self, list[i])) == NULL;
    *ret_list = copy;
    return lost ? didi_fail(error, DIDI_NO_MEMORY, NULL, "copy of %zu globs", count) : DIDI_OK;
}

static int keep_fd(int fd, const char *name, int *ret_fd, didi_error *error)
{
    *ret_fd = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 3);
    return fd < 0 || *ret_fd >= 0 ? DIDI_OK
                                  : didi_fail_errno(error, errno, name, "duplicating a descriptor");
}

static int copy_tasks(const didi_merge_options *options, didi_merge *self, didi_error *error)
{
    self->tasks = memory_zeroed(options->task_count, sizeof *self->tasks);
    self->work.task_weight = memory_zeroed(options->task_count, sizeof(double));
    if (self->tasks == NULL || self->work.task_weight == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "%zu tasks", options->task_count);
    for (size_t t = 0; t < options->task_count; t++) {
        self->tasks[t] = options->tasks[t];
        self->tasks[t].directory_fd = -1;
        self->tasks[t].name = keep_string(self, options->tasks[t].name);
        self->tasks[t].label = keep_string(self, options->tasks[t].label);
        self->tasks[t].gram = keep_string(self, options->tasks[t].gram);
        self->tasks[t].gram_fd = -1;
        self->work.task_weight[t] = options->tasks[t].weight;
        if (self->tasks[t].name == NULL || self->tasks[t].label == NULL ||
            (options->tasks[t].gram != NULL && self->tasks[t].gram == NULL))
            return didi_fail(error, DIDI_NO_MEMORY, NULL, "%zu tasks", options->task_count);
    }
    return DIDI_OK;
}

static int copy_texts(const didi_merge_options *options, didi_merge *self, didi_error *error)
{
    didi_merge_options *mine = &self->work.options;
    const struct {
        const char *from, **to;
    } texts[] = {{options->base_label, &mine->base_label},
                 {options->output_name, &mine->output_name},
                 {options->specification_json, &mine->specification_json},
                 {options->method, &mine->method},
                 {options->method_options, &mine->method_options}};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        *texts[i].to = keep_string(self, texts[i].from);
        if (texts[i].from != NULL && *texts[i].to == NULL)
            return didi_fail(error, DIDI_NO_MEMORY, NULL, "options");
    }
    int status = keep_globs(self, options->include, options->include_count, &mine->include, error);
    if (status == DIDI_OK)
        status = keep_globs(self, options->exclude, options->exclude_count, &mine->exclude, error);
    if (status == DIDI_OK)
        status = keep_globs(self, options->dense_tensors, options->dense_tensor_count,
                            &mine->dense_tensors, error);
    if (status == DIDI_OK)
        status = keep_globs(self, options->low_rank_tensors, options->low_rank_tensor_count,
                            &mine->low_rank_tensors, error);
    return status;
}

int merge_options_copy(const didi_merge_options *options, didi_merge *self, didi_error *error)
{
    size_t strings = 3 * options->task_count + options->include_count + options->exclude_count +
                     options->dense_tensor_count + options->low_rank_tensor_count + 8;
    didi_merge_options *mine = &self->work.options;
    *mine = *options;
    mine->work_fd = mine->reuse_fd = self->output_fd = -1;
    mine->extend = (didi_extension){.package_fd = -1, .comparison_fd = -1};
    if (options->extend.package_fd >= 0) {
        mine->keep_work = false; /* of the added tasks alone: nobody could start from it */
        if (options->dense == DIDI_DENSE_MEAN)
            mine->dense = DIDI_DENSE_BASE; /* the mean is stored already, and stays */
    }
    mine->links = (file_bounds){0};
    mine->include = mine->exclude = mine->dense_tensors = mine->low_rank_tensors = NULL;
    self->strings = memory_zeroed(strings, sizeof(char *));
    if (self->strings == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "options");
    int status = copy_tasks(options, self, error);
    mine->tasks = self->tasks;
    if (status == DIDI_OK)
        status = copy_texts(options, self, error);
    if (status == DIDI_OK)
        status = keep_fd(options->work_fd, "work_fd", &mine->work_fd, error);
    if (status == DIDI_OK)
        status = keep_fd(options->reuse_fd, "reuse_fd", &mine->reuse_fd, error);
    if (status == DIDI_OK)
        status = keep_fd(options->output_fd, "output_fd", &self->output_fd, error);
    return status;
}

void merge_options_clear(didi_merge *self)
{
    for (size_t i = 0; self->strings != NULL && i < self->string_count; i++)
        free(self->strings[i]);
    free(self->strings);
    free((void *)self->work.options.include);
    free((void *)self->work.options.exclude);
    free((void *)self->work.options.dense_tensors);
    free((void *)self->work.options.low_rank_tensors);
    free(self->tasks);
    free(self->work.task_weight);
    file_close(self->work.options.work_fd);
    file_close(self->work.options.reuse_fd);
    file_close(self->output_fd);
}

static void print_globs(FILE *out, const char *what, const char *const *list, size_t count)
{
    fprintf(out, "%s", what);
    for (size_t i = 0; i < count; i++)
        fprintf(out, " %zu:%s", strlen(list[i]), list[i]);
    fputc('\n', out);
}

/* With `place`, a copy of a file is another file. */
static void print_files(FILE *out, const checkpoint *model, bool place)
{
    for (size_t i = 0; i < checkpoint_file_count(model); i++) {
        const checkpoint_file *file = checkpoint_file_at(model, i);
        fprintf(out, "file %s/%s %" PRIu64 " %" PRId64, checkpoint_label(model), file->name,
                file->bytes, file->modified_ns);
        if (place)
            fprintf(out, " %" PRIu64 " %" PRIu64, file->device, file->inode);
        fputc('\n', out);
    }
}

static void print_options(FILE *out, const didi_merge *self)
{
    const didi_merge_options *o = &self->work.options;
    fprintf(out, "didi state 3\n");
    fprintf(out, "budget %a shared %d allocator %d weighting %d objective %d beta %a lambda %a\n",
            o->budget, (int)o->shared_merge, (int)o->allocator, (int)o->weighting,
            (int)o->objective, o->beta, o->lambda);
    fprintf(out, "rank_rate %a rank_steps %zu optimizer %d steps %zu rate %a tolerance %a\n",
            o->rank_learning_rate, o->rank_steps, (int)o->optimizer, o->refine_steps,
            o->refine_learning_rate, o->tolerance);
    fprintf(out, "dense %d precision %d unit %d seed %" PRIu64 "\n", (int)o->dense,
            (int)o->precision, (int)o->budget_unit, o->seed);
    print_globs(out, "include", o->include, o->include_count);
    print_globs(out, "exclude", o->exclude, o->exclude_count);
    print_globs(out, "dense_tensors", o->dense_tensors, o->dense_tensor_count);
    print_globs(out, "low_rank_tensors", o->low_rank_tensors, o->low_rank_tensor_count);
    extension_print(self->work.extension, out);
    for (size_t t = 0; t < o->task_count; t++)
        fprintf(out, "task %s %a\n", o->tasks[t].name, o->tasks[t].weight);
    if (o->own_tensors != DIDI_OWN_KEEP || o->missing != DIDI_MISSING_AUTO)
        fprintf(out, "own %d missing %d\n", (int)o->own_tensors, (int)o->missing);
    if (o->reuse_fd >= 0)
        fprintf(out, "reuse %s\n", self->work.reuse->fingerprint);
    if (o->survey)
        fprintf(out, "survey\n");
    if (self->method == didi_methods[0])
        return;
    fprintf(out, "method %s", self->method->name);
    for (const method_option *m = self->method->options; m != NULL && m->name != NULL; m++)
        fprintf(out, " %s %a", m->name, method_option_value(m, self->self));
    fputc('\n', out);
}

char *merge_options_text(const didi_merge *self, bool place)
{
    text_stream *stream = text_stream_open();
    if (stream == NULL)
        return NULL;
    FILE *out = text_stream_file(stream);
    print_options(out, self);
    if (place)
        fprintf(out, "inputs\n");
    print_files(out, self->work.family->base, place);
    for (size_t t = 0; t < self->work.options.task_count; t++)
        print_files(out, self->work.family->tasks[t].model, place);
    for (size_t t = 0; t < self->work.options.task_count; t++)
        if (self->work.family->tasks[t].gram != NULL)
            print_files(out, self->work.family->tasks[t].gram, place);
    return text_stream_close(stream, NULL);
}

int merge_options_digest(const didi_merge *self, char ret_hex[65], didi_error *error)
{
    char *text = merge_options_text(self, false);
    int status = text != NULL ? file_sha256_bytes(text, strlen(text), ret_hex, error)
                              : didi_fail(error, DIDI_NO_MEMORY, NULL, "fingerprint");
    free(text);
    return status;
}
