/* SPDX-License-Identifier: Apache-2.0 */
/* What ties a specification to others: its fields to each other, `from_job` and `extend` to other
 * jobs. */
#include "proto/specification_extend.h"

#include "proto/names.h"
#include "src/base/base.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- its own fields ---- */

void specification_task_pointer(const specification *self, size_t task, const char *member,
                                char ret_pointer[DIDI_ERROR_SUBJECT_BYTES_MAX])
{
    assert(task < self->task_count);
    snprintf(ret_pointer, DIDI_ERROR_SUBJECT_BYTES_MAX, "/tasks/%zu%s%s",
             task < self->kept ? task : task - self->kept, member != NULL ? "/" : "",
             member != NULL ? member : "");
}

static int check_pair(const specification *self, size_t earlier, size_t later, didi_error *error)
{
    const specification_task *first = &self->tasks[earlier];
    const specification_task *second = &self->tasks[later];
    char pointer[DIDI_ERROR_SUBJECT_BYTES_MAX];
    if (strcmp(first->name, second->name) == 0) {
        specification_task_pointer(self, later, "name", pointer);
        return didi_fail(error, DIDI_INVALID, pointer, "task \"%s\" is there twice", second->name);
    }
    if (strcmp(first->model, second->model) == 0) {
        specification_task_pointer(self, later, "model", pointer);
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
    char pointer[DIDI_ERROR_SUBJECT_BYTES_MAX];
    int inputs = check_inputs(self, error);
    int unit = self->extend.budget.unit;
    if (inputs != DIDI_OK)
        return inputs;
    if (unit != DIDI_BUDGET_PARAMETERS && unit != DIDI_BUDGET_BYTES) {
        return didi_fail(error, DIDI_INVALID, "/extend/budget",
                         "what a task may cost is a ratio of parameters or {\"bytes\": N}");
    }
    for (size_t later = 0; later < self->task_count; later++) {
        const specification_task *task = &self->tasks[later];
        if (self->base != NULL && strcmp(task->model, self->base) == 0) {
            specification_task_pointer(self, later, "model", pointer);
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

/* ---- from_job: the models ---- */

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
    char pointer[DIDI_ERROR_SUBJECT_BYTES_MAX];
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
            specification_task_pointer(self, task, NULL, pointer);
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
    assert(parent->base != NULL && parent->task_count > 0);
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

/* ---- extend ---- */

#define AT(member) .offset = offsetof(specification, extend.member)
#define FIELD_TASKS FIELD_LIST(LIMIT_TASKS, name_is_task, "the name of a task")

static bool job_is_valid(const char *text)
{
    size_t length = strlen(text);
    return length > 0 && length <= LIMIT_JOB_ID_CHARACTERS &&
           strspn(text, NAME_ID_DIGITS) == length;
}

const json_field specification_extend_fields[] = {
    {.key = "job", FIELD_TEXT(job_is_valid, "the id of a job"), AT(job), .required = true},
    {.key = "add", FIELD_TASKS, AT(add)},
    {.key = "remove", FIELD_TASKS, AT(remove)},
    {.key = "budget", .kind = &field_budget, AT(budget)},
    {.key = "rebalance", .kind = &field_boolean, AT(rebalance)},
    {.key = "compare", .kind = &field_boolean, AT(compare)},
    {.key = NULL},
};

void specification_extend_clear(specification_extend *extend)
{
    free(extend->job);
    field_texts_clear(&extend->add);
    field_texts_clear(&extend->remove);
    *extend = (specification_extend){0};
}
