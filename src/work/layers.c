/* SPDX-License-Identifier: Apache-2.0 */
/* Opens a layer the way the memory limit allows: loaded, or read panel by panel. */
#include "src/merge/merge_internal.h"

#include "src/math/math.h"

#include <string.h>

static int open_layer(didi_merge *self, merge_phase phase, size_t index, layer **ret_layer,
                      didi_error *error)
{
    const family_tensor *tensor = self->layers[index];
    solve_visit how = merge_visit_of(self, phase, index).how;
    int status = how.streamed ? family_stream_layer(self->family, tensor, &self->bytes_read,
                                                    ret_layer, error)
                              : layer_create(tensor->rows, tensor->columns,
                                             self->options.task_count, ret_layer, error);
    if (status != DIDI_OK)
        return status;
    (*ret_layer)->parallel = self->parallel;
    (*ret_layer)->cancelled = &self->cancelled;
    (*ret_layer)->flops = &self->stages[merge_phase_stage(phase)].flops;
    (*ret_layer)->seed = random_mix(self->options.seed, index);
    (*ret_layer)->lanes = how.lanes;
    (*ret_layer)->spilled = how.spilled;
    (*ret_layer)->scratch_fd = self->options.work_fd;
    return DIDI_OK;
}

/* The energies of a streamed layer take a pass over its files, so later visits remember them. */
static int measure_streamed(merge_phase phase, const layer_summary *summary, layer *target,
                            didi_error *error)
{
    if (phase == PHASE_DECOMPOSE)
        return layer_measure(target, error);
    memcpy(target->energy, summary->energy, summary->tasks * sizeof(double));
    return DIDI_OK;
}

void merge_set_weights(didi_merge *self, size_t index)
{
    layer_summary *summary = &self->summaries[index];
    solve_weights(self->options.weighting, solve_role(self->layers[index]->name), self->task_weight,
                  summary->energy, summary->tasks, summary->weight);
    for (size_t t = 0; t < summary->tasks; t++)
        summary->weight[t] *= self->task_share[t];
}

/* Layers are given out in order: while the workers are at this one and its neighbours, the first
 * one after them is read. */
static void announce_next(const didi_merge *self, merge_phase phase, size_t index)
{
    size_t at = 0;
    while (at < self->layer_count && self->layer_order[at] != index)
        at++;
    size_t ahead = self->options.workers > 0 ? self->options.workers : 1;
    if (at + ahead >= self->layer_count)
        return;
    size_t next = self->layer_order[at + ahead];
    if (!merge_visit_of(self, phase, next).how.streamed)
        family_will_need(self->family, self->layers[next]);
}

int merge_load_layer(didi_merge *self, merge_phase phase, size_t index, layer **ret_layer,
                     didi_error *error)
{
    layer_summary *summary = &self->summaries[index];
    layer *fresh = NULL;
    int status = family_verify_unchanged(self->family, error);
    if (status == DIDI_OK)
        status = open_layer(self, phase, index, &fresh, error);
    if (status != DIDI_OK)
        return status;
    status = layer_is_streamed(fresh) ? measure_streamed(phase, summary, fresh, error)
                                      : family_load_layer(self->family, self->layers[index], fresh,
                                                          &self->bytes_read, error);
    if (status == DIDI_OK)
        status = family_verify_unchanged(self->family, error);
    if (status != DIDI_OK) {
        layer_free(fresh);
        return status;
    }
    memcpy(summary->energy, fresh->energy, summary->tasks * sizeof(double));
    merge_set_weights(self, index);
    addition shared = {0}; /* energies and weights are of the whole task vector */
    if (phase == PHASE_DECOMPOSE)
        status = merge_save_gram(self, index, fresh, error);
    if (status == DIDI_OK && self->extension != NULL)
        status = extension_shared(self->extension, self->layers[index], &shared, error);
    if (status == DIDI_OK && !addition_is_empty(&shared))
        status = layer_take_away(fresh, &shared, error);
    if (status != DIDI_OK) {
        layer_free(fresh);
        return status;
    }
    layer_set_weights(fresh, summary->weight);
    announce_next(self, phase, index);
    *ret_layer = fresh;
    return DIDI_OK;
}

int merge_verify_streamed(const didi_merge *self, const layer *target, didi_error *error)
{
    return layer_is_streamed(target) ? family_verify_unchanged(self->family, error) : DIDI_OK;
}
