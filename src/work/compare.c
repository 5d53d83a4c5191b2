/* SPDX-License-Identifier: Apache-2.0 */
/* Tensors of the tasks against the base's, file by file. */
#include "src/work/work.h"

#include "src/base/base.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* The task of an input file and the file's number in its model; SIZE_MAX for the base. */
static size_t task_of(const work *self, size_t index, size_t *ret_file)
{
    const checkpoint *model = work_input_at(self, index, ret_file);
    for (size_t t = 0; t < self->family->task_count; t++)
        if (self->family->tasks[t].model == model)
            return t;
    return SIZE_MAX;
}

static bool may_be_same(const family_tensor *tensor, size_t task, size_t file)
{
    bool read = tensor->kind != FAMILY_EXCLUDED && tensor->kind != FAMILY_UNUSED;
    return read && tensor->task[task] != NULL && tensor->task[task]->file == file;
}

static int compare_tensors(work *self, size_t task, size_t file, char *same, didi_error *error)
{
    int status = DIDI_OK;
    for (size_t i = 0; task != SIZE_MAX && i < self->family->tensor_count; i++) {
        const family_tensor *tensor = &self->family->tensors[i];
        bool is_same = false;
        if (!may_be_same(tensor, task, file))
            continue;
        if (atomic_load(&self->cancelled))
            return didi_fail(error, DIDI_CANCELLED, NULL, "cancelled");
        status = family_compare(self->family, tensor, task, &is_same, error);
        if (status != DIDI_OK)
            return status;
        same[i] = is_same ? '1' : '0';
    }
    return status;
}

int work_compare_input(work *self, size_t index, didi_error *error)
{
    size_t file = 0;
    size_t task = task_of(self, index, &file);
    size_t count = self->family->tensor_count;
    char *same = memory_zeroed(work_comparison_bytes(self, index) + 1, 1);
    if (same == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "comparison of %zu tensors", count);
    memset(same, '0', count);
    int status = compare_tensors(self, task, file, same, error);
    if (status == DIDI_OK)
        status = work_twins_read(self, index, same + count, error);
    if (status == DIDI_OK && !work_recall_comparison(self, index, same))
        status = didi_fail(error, DIDI_NO_MEMORY, NULL, "comparison of %zu tensors", count);
    free(same);
    return status;
}

size_t work_comparison_bytes(const work *self, size_t index)
{
    return self->family->tensor_count + work_twins_in(self, index) * TWIN_TEXT_BYTES;
}

bool work_recall_comparison(work *self, size_t index, const char *text)
{
    size_t file = 0;
    size_t task = task_of(self, index, &file);
    size_t count = self->family->tensor_count;
    if (strlen(text) != work_comparison_bytes(self, index) || strspn(text, "01") < count)
        return false;
    char *copy = memory_string(text);
    if (copy == NULL)
        return false;
    free(self->same[index]);
    self->same[index] = copy;
    work_twins_recall(self, index, text + count);
    for (size_t i = 0; task != SIZE_MAX && i < count; i++)
        if (text[i] == '1' && may_be_same(&self->family->tensors[i], task, file))
            self->family->tensors[i].task[task] = NULL;
    return true;
}

/* "org/Model-1B/" is Model-1B. */
static void last_component(const char *path, const char **ret_start, size_t *ret_length)
{
    size_t end = strlen(path);
    while (end > 0 && path[end - 1] == '/')
        end--;
    size_t start = end;
    while (start > 0 && path[start - 1] != '/')
        start--;
    *ret_start = path + start;
    *ret_length = end - start;
}

void work_note_other_base(work *self, size_t index)
{
    size_t file = 0;
    size_t task = task_of(self, index, &file);
    const adapter *of = task != SIZE_MAX ? self->family->tasks[task].adapter : NULL;
    const char *told = of != NULL && file == 0 ? adapter_base_name(of) : NULL;
    const char *ours = NULL;
    const char *theirs = NULL;
    size_t our_length = 0;
    size_t their_length = 0;
    if (told == NULL)
        return;
    last_component(self->options.base_label, &ours, &our_length);
    last_component(told, &theirs, &their_length);
    if (our_length == their_length && strncasecmp(ours, theirs, our_length) == 0)
        return;
    work_note(self, self->stage, "adapter %.64s was made for %.96s, and the base here is %.64s",
              self->options.tasks[task].label, told, self->options.base_label);
}

int work_settle_inputs(work *self, didi_error *error)
{
    int status = DIDI_OK;
    for (size_t i = 0; i < self->family->tensor_count && status == DIDI_OK; i++)
        if (self->family->tensors[i].kind == FAMILY_PASSTHROUGH)
            status =
                family_keep_own(&self->options, self->family, &self->family->tensors[i], error);
    return status == DIDI_OK ? work_twins_join(self, error) : status;
}
