/* SPDX-License-Identifier: Apache-2.0 */
/* Opening of a specification's models, and of its merge. */
#include "daemon/models/inputs.h"

#include "src/base/base.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct inputs {
    const specification *from;
    didi_task_input *tasks;
    size_t task_count; /* of the specification, or those it adds to another job */
    int base_fd;
    file_bounds links;
    char *canonical;
};

/* `origin`: who asked for the model, where the request did not name it. */
static int open_model(const model_roots *roots, const char *model, const char *origin,
                      const char *pointer, int *ret_fd, didi_error *error)
{
    int status = model_roots_open_model(roots, model, ret_fd, error);
    if (status == DIDI_NOT_FOUND)
        return didi_fail(error, status, pointer, "%s%s", error->message, origin);
    if (status != DIDI_OK)
        return didi_fail(error, status, pointer, "cannot open model \"%s\": %s", model,
                         error->message);
    return DIDI_OK;
}

/* A job that extends another merges the tasks it adds. */
static bool inputs_take(const specification *from, size_t task)
{
    bool takes = !specification_extends(from);
    for (size_t i = 0; i < from->extend.add.count && !takes; i++)
        takes = strcmp(from->extend.add.texts[i], from->tasks[task].name) == 0;
    return takes;
}

static int inputs_open(inputs *self, const model_roots *roots, const specification *from,
                       didi_error *error)
{
    char pointer[DIDI_ERROR_SUBJECT_BYTES_MAX] = "/extend/rebalance";
    const char *earlier = from->extend.job != NULL ? ", which the job to extend was made from"
                          : from->from_job != NULL ? ", which from_job was made from"
                                                   : "";
    int status = open_model(roots, from->base, earlier, "/base", &self->base_fd, error);
    for (size_t task = 0; status == DIDI_OK && task < from->task_count; task++) {
        if (!inputs_take(from, task))
            continue;
        didi_task_input *input = &self->tasks[self->task_count];
        input->name = from->tasks[task].name;
        input->label = from->tasks[task].model;
        input->weight = from->tasks[task].weight;
        bool named = task >= from->kept; /* those kept stand before */
        if (named)
            specification_task_pointer(from, task, "model", pointer);
        status = open_model(roots, input->label, named && from->from_job == NULL ? "" : earlier,
                            pointer, &input->directory_fd, error);
        self->task_count++;
        input->gram = from->tasks[task].gram;
        if (status == DIDI_OK && input->gram != NULL) {
            specification_task_pointer(from, task, "gram", pointer);
            status = open_model(roots, input->gram, "", pointer, &input->gram_fd, error);
        }
    }
    return status;
}

int inputs_create(const model_roots *roots, const specification *from, inputs **ret_inputs,
                  didi_error *error)
{
    inputs *self = memory_zeroed(1, sizeof *self);
    if (self == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "no memory for a plan");
    self->from = from;
    self->base_fd = -1;
    self->links = model_roots_bounds(roots);
    self->tasks = memory_zeroed(from->task_count, sizeof *self->tasks);
    if (self->tasks == NULL) {
        free(self);
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "no memory for a plan");
    }
    for (size_t task = 0; task < from->task_count; task++)
        self->tasks[task].directory_fd = self->tasks[task].gram_fd = -1;
    int status = specification_render(from, &self->canonical, error);
    if (status == DIDI_OK)
        status = inputs_open(self, roots, from, error);
    if (status != DIDI_OK) {
        inputs_free(self);
        return status;
    }
    *ret_inputs = self;
    return DIDI_OK;
}

void inputs_free(inputs *self)
{
    if (self == NULL)
        return;
    for (size_t task = 0; task < self->task_count; task++) {
        file_close(self->tasks[task].directory_fd);
        file_close(self->tasks[task].gram_fd);
    }
    file_close(self->base_fd);
    free(self->tasks);
    free(self->canonical);
    free(self);
}

static void inputs_fill(const inputs *self, didi_merge_options *options)
{
    const specification *from = self->from;
    didi_merge_options_default(options);
    options->base_label = from->base;
    options->base_fd = self->base_fd;
    options->links = self->links;
    options->tasks = self->tasks;
    options->task_count = self->task_count;
    options->method = from->method;
    options->method_options = from->method_options;
    options->survey = from->survey;
    options->budget = from->budget.value;
    options->budget_unit = (didi_budget_unit)from->budget.unit;
#define COPY_NUMBER(member, ...) options->member = from->member;
#define COPY_COUNT(member, ...) options->member = (size_t)from->member;
#define COPY_CHOICE(member, ...) options->member = (__typeof__(options->member))from->member;
    DIDI_RANK_NUMBERS(COPY_NUMBER)
    DIDI_REFINE_NUMBERS(COPY_NUMBER)
    DIDI_RANK_COUNTS(COPY_COUNT)
    DIDI_REFINE_COUNTS(COPY_COUNT)
    DIDI_CHOICES(COPY_CHOICE)
#undef COPY_NUMBER
#undef COPY_COUNT
#undef COPY_CHOICE
    options->include = (const char *const *)from->include.texts;
    options->include_count = from->include.count;
    options->exclude = (const char *const *)from->exclude.texts;
    options->exclude_count = from->exclude.count;
    options->dense_tensors = (const char *const *)from->dense_tensors.texts;
    options->dense_tensor_count = from->dense_tensors.count;
    options->low_rank_tensors = (const char *const *)from->low_rank_tensors.texts;
    options->low_rank_tensor_count = from->low_rank_tensors.count;
    options->own_tensors = (didi_own_tensors)from->own_tensors;
    options->missing = (didi_missing)from->missing;
    options->precision = (didi_precision)from->output_dtype;
    options->seed = (uint64_t)from->seed;
    options->specification_json = self->canonical;
    if (specification_extends(from)) {
        options->budget = from->extend.budget.value * (double)from->extend.add.count;
        options->budget_unit = (didi_budget_unit)from->extend.budget.unit;
        options->extend.job = from->extend.job;
        options->extend.removed = (const char *const *)from->extend.remove.texts;
        options->extend.removed_count = from->extend.remove.count;
    }
    if (self->task_count == 0 && specification_extends(from)) {
        options->budget = 1; /* of nothing */
        options->budget_unit = DIDI_BUDGET_PARAMETERS;
    }
}

int inputs_open_merge(const inputs *self, const config *settings, const inputs_places *places,
                      const didi_merge_hooks *hooks, didi_merge **ret_merge, didi_error *error)
{
    didi_merge_options options;
    assert(places->output_fd < 0 || places->work_fd >= 0);
    inputs_fill(self, &options);
    options.memory_limit = settings->memory_limit;
    options.workers = settings->workers;
    options.work_fd = places->work_fd;
    options.output_fd = places->output_fd;
    options.output_name = "artifacts";
    options.volatile_work = places->volatile_work;
    options.keep_work = places->keep_work;
    options.elsewhere = places->elsewhere;
    options.worker = places->worker;
    options.reuse_fd = places->reuse_fd;
    if (specification_extends(self->from)) {
        options.extend.package_fd = places->package_fd;
        options.extend.comparison_fd = places->comparison_fd;
        options.extend.comparison_reason = places->comparison_reason;
    }
    return didi_merge_open(&options, hooks, ret_merge, error);
}
