/* SPDX-License-Identifier: Apache-2.0 */
/* What a job that starts from another takes over: the models. */
#include "proto/specification.h"
#include "src/base/base.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int inherit_base(specification *self, const specification *parent, didi_error *error)
{
    if (self->base != NULL && strcmp(self->base, parent->base) != 0) {
        return didi_fail(error, DIDI_INVALID, "/base",
                         "base is \"%s\", but that of from_job is \"%s\"; leave base out, or "
                         "leave from_job out to merge other models",
                         self->base, parent->base);
    }
    if (self->base == NULL)
        self->base = memory_string(parent->base);
    return self->base != NULL ? DIDI_OK
                              : didi_fail(error, DIDI_NO_MEMORY, "/base", "no memory for a name");
}

/* Weights may differ. */
static int compare_tasks(const specification *self, const specification *parent, didi_error *error)
{
    char pointer[64];
    if (self->task_count != parent->task_count) {
        return didi_fail(error, DIDI_INVALID, "/tasks",
                         "%zu tasks, but from_job has %zu; leave tasks out, or leave from_job out "
                         "to merge others",
                         self->task_count, parent->task_count);
    }
    for (size_t task = 0; task < self->task_count; task++) {
        const specification_task *own = &self->tasks[task];
        const specification_task *other = &parent->tasks[task];
        if (strcmp(own->name, other->name) != 0 || strcmp(own->model, other->model) != 0) {
            snprintf(pointer, sizeof pointer, "/tasks/%zu", task);
            return didi_fail(error, DIDI_INVALID, pointer,
                             "task \"%s\" of model \"%s\", but from_job has \"%s\" of \"%s\" in "
                             "its place; only weights may differ",
                             own->name, own->model, other->name, other->model);
        }
    }
    return DIDI_OK;
}

int specification_inherit(specification *self, const specification *parent, didi_error *error)
{
    int status = inherit_base(self, parent, error);
    if (status != DIDI_OK || self->task_count > 0)
        return status == DIDI_OK ? compare_tasks(self, parent, error) : status;
    self->tasks = memory_zeroed(parent->task_count, sizeof *self->tasks);
    if (self->tasks == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, "/tasks", "no memory for tasks");
    self->task_count = parent->task_count;
    for (size_t task = 0; task < parent->task_count; task++) {
        self->tasks[task].name = memory_string(parent->tasks[task].name);
        self->tasks[task].model = memory_string(parent->tasks[task].model);
        self->tasks[task].weight = parent->tasks[task].weight;
        if (self->tasks[task].name == NULL || self->tasks[task].model == NULL)
            return didi_fail(error, DIDI_NO_MEMORY, "/tasks", "no memory for tasks");
    }
    return DIDI_OK;
}
