/* SPDX-License-Identifier: Apache-2.0 */
/* Checks between the fields of a specification. */
#include "proto/specification_check.h"

#include <stdio.h>
#include <string.h>

static int check_pair(const specification *self, size_t earlier, size_t later, didi_error *error)
{
    const specification_task *first = &self->tasks[earlier];
    const specification_task *second = &self->tasks[later];
    char pointer[64];
    if (strcmp(first->name, second->name) == 0) {
        snprintf(pointer, sizeof pointer, "/tasks/%zu/name", later);
        return didi_fail(error, DIDI_INVALID, pointer, "task \"%s\" is there twice", second->name);
    }
    if (strcmp(first->model, second->model) == 0) {
        snprintf(pointer, sizeof pointer, "/tasks/%zu/model", later);
        return didi_fail(error, DIDI_INVALID, pointer,
                         "model \"%s\" of task \"%s\" is task \"%s\" already", second->model,
                         second->name, first->name);
    }
    return DIDI_OK;
}

/* A job that starts from another may leave out what it inherits. */
static int check_inputs(const specification *self, didi_error *error)
{
    if (self->base == NULL && self->from_job == NULL)
        return didi_fail(error, DIDI_INVALID, "/base", "base is missing");
    if (self->task_count == 0 && self->from_job == NULL)
        return didi_fail(error, DIDI_INVALID, "/tasks", "tasks is missing");
    return DIDI_OK;
}

int specification_check(const specification *self, didi_error *error)
{
    char pointer[64];
    int inputs = check_inputs(self, error);
    if (inputs != DIDI_OK)
        return inputs;
    for (size_t later = 0; later < self->task_count; later++) {
        const specification_task *task = &self->tasks[later];
        if (self->base != NULL && strcmp(task->model, self->base) == 0) {
            snprintf(pointer, sizeof pointer, "/tasks/%zu/model", later);
            return didi_fail(error, DIDI_INVALID, pointer, "task \"%s\" is the base \"%s\" itself",
                             task->name, task->model);
        }
        for (size_t earlier = 0; earlier < later; earlier++) {
            int status = check_pair(self, earlier, later, error);
            if (status != DIDI_OK)
                return status;
        }
    }
    return DIDI_OK;
}
