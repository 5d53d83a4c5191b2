/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a model would do as a task of a base. Short because the family compares the headers. */
#include "src/merge/merge.h"

#include "src/base/base.h"

#include <assert.h>

static void count_tensors(const family *self, didi_fit *out)
{
    double elements = 0;
    double held = 0;
    for (size_t i = 0; i < self->tensor_count; i++) {
        const family_tensor *tensor = &self->tensors[i];
        bool own = family_has_vector(tensor, 0);
        out->matched += own;
        out->missing += !family_task_has(self, 0, tensor->name);
        elements += (double)tensor->elements;
        held += own ? (double)tensor->elements : 0;
    }
    out->own = self->tasks[0].own_count;
    out->share = elements > 0 ? held / elements : 0;
}

int didi_fit_check(const didi_merge_options *options, didi_fit *ret_fit, didi_error *error)
{
    family *opened = NULL;
    assert(options->task_count == 1);
    int status = family_open(options, &opened, error);
    if (status != DIDI_OK)
        return status;
    *ret_fit = (didi_fit){0};
    count_tensors(opened, ret_fit);
    family_close(opened);
    return DIDI_OK;
}
