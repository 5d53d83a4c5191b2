/* SPDX-License-Identifier: Apache-2.0 */
/* Passes over the task vectors, then panel by panel the vector of all tasks and its masks. */
#include "src/methods/tall.h"

#include "src/base/base.h"

#include <stdlib.h>

const char *const tall_vector_words[] = {"ties", "sum", NULL};

static const picked_form form = {.shared = STORED_MASKED, .expert = STORED_MASK};

int tall_open(tall *self, election_combine combine, double scale, didi_error *error)
{
    const work *of = self->head.work;
    self->election.combine = combine;
    self->election.scale = scale;
    return self->vector == TALL_TIES
               ? election_open(&self->election, of, ranking_elements(of), error)
               : DIDI_OK;
}

int tall_begin(void *context, didi_error *error)
{
    (void)error;
    tall *self = context;
    if (self->vector == TALL_TIES)
        election_recall(&self->election, self->head.work);
    return DIDI_OK;
}

void tall_close(void *context)
{
    tall *self = context;
    election_close(&self->election);
}

/* ---- thresholds ---- */

typedef struct looking {
    const tall *self;
    uint64_t *tables;
    long long signs;
} looking;

static void count_panel(void *context, const method_panel *panel)
{
    const looking *of = context;
    election_count(&of->self->election, panel->tasks, panel->tau, panel->count, of->tables);
}

int tall_count(void *context, size_t tensor, stored *out, didi_error *error)
{
    tall *self = context;
    const work *of = self->head.work;
    looking into = {.self = self};
    int status = ranking_tables(&self->election.thresholds, &into.tables, error);
    if (status == DIDI_OK)
        status = stored_look_at_panels(out, count_panel, &into, error);
    if (status == DIDI_OK)
        ranking_add(&self->election.thresholds, of->layers[tensor]->elements, into.tables);
    free(into.tables);
    return status;
}

int tall_settle(void *context, didi_error *error)
{
    (void)error;
    tall *self = context;
    election_end_pass(&self->election);
    return DIDI_OK;
}

static void elect_panel(void *context, const method_panel *panel)
{
    looking *of = context;
    of->signs += election_signs(&of->self->election, of->self->head.work, panel->tau, panel->count);
}

int tall_elect(void *context, size_t tensor, stored *out, didi_error *error)
{
    (void)tensor;
    tall *self = context;
    looking into = {.self = self};
    int status = stored_look_at_panels(out, elect_panel, &into, error);
    if (status == DIDI_OK)
        election_add_signs(&self->election, into.signs);
    return status;
}

int tall_decide(void *context, didi_error *error)
{
    tall *self = context;
    return election_decide(&self->election, self->head.work, error);
}

bool tall_is_sum(const void *context)
{
    const tall *self = context;
    return self->vector == TALL_SUM;
}

bool tall_is_known(void *context, size_t tensor)
{
    (void)tensor;
    const tall *self = context;
    return self->election.known;
}

uint64_t tall_count_memory(const void *context, size_t tensor)
{
    const tall *self = context;
    return memory_add(stored_panels_memory(self->head.work, tensor),
                      ranking_memory(self->head.work->options.task_count));
}

size_t tall_passes(const tall *self)
{
    return self->vector == TALL_SUM ? 1 : 4;
}

/* ---- a panel ---- */

void tall_fill_vector(const tall *self, const method_panel *panel)
{
    const work *of = self->head.work;
    if (self->vector == TALL_TIES) {
        election_merge(&self->election, of, panel->tau, panel->count, panel->shared);
        return;
    }
    for (uint64_t i = 0; i < panel->count; i++) {
        double sum = 0;
        for (size_t t = 0; t < panel->tasks; t++)
            sum += of->task_weight[t] * (double)panel->tau[t][i];
        panel->shared[i] = (float)(self->election.scale * sum);
    }
}

static void fill(void *context, const method_panel *panel, bool *const *picked)
{
    const tall *self = context;
    tall_fill_vector(self, panel);
    for (size_t t = 0; t < panel->tasks; t++)
        for (uint64_t i = 0; i < panel->count; i++)
            picked[t][i] = tall_takes(self, panel->tau[t][i], panel->shared[i]);
}

/* ---- masks ---- */

int tall_merge_masks(void *context, size_t tensor, stored *out, didi_error *error)
{
    tall *self = context;
    const picked_user user = {fill, self, NULL};
    return picked_store(out, self->head.work, tensor, &form, &user, error);
}

bool tall_recall_masks(void *context, size_t tensor)
{
    const tall *self = context;
    return picked_recall(self->head.work, tensor, &form, NULL) == DIDI_OK;
}

uint64_t tall_memory(const void *context, size_t tensor)
{
    const tall *self = context;
    return picked_memory(self->head.work, tensor);
}

static uint64_t most_memory(const void *context, size_t tensor)
{
    const tall *self = context;
    uint64_t merging = tall_memory(context, tensor);
    return self->vector == TALL_SUM ? merging : larger(merging, tall_count_memory(self, tensor));
}

static stored_size size(const void *context, size_t tensor)
{
    const tall *self = context;
    return picked_size(self->head.work, tensor, &form);
}

int tall_plan_masks(void *context, didi_error *error)
{
    const tall *self = context;
    const stored_cost cost = {.memory = most_memory, .size = size, .passes = tall_passes(self)};
    return stored_plan(self->head.work, &cost, self, error);
}
