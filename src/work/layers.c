/* SPDX-License-Identifier: Apache-2.0 */
/* Opens a layer the way the memory limit allows: loaded, or read panel by panel. */
#include "src/work/work.h"

#include "src/base/base.h"
#include "src/math/math.h"

#include <stdio.h>
#include <string.h>

void work_snapshot_name(const char *prefix, size_t index, char name[64])
{
    (void)snprintf(name, 64, "%s-%05zu.state", prefix, index);
}

static int create_layer(work *self, size_t index, const work_visit *how, layer **ret_layer,
                        didi_error *error)
{
    const family_tensor *tensor = self->layers[index];
    int status = how->streamed ? family_stream_layer(self->family, tensor, &self->bytes_read,
                                                     ret_layer, error)
                               : layer_create(tensor->rows, tensor->columns,
                                              self->options.task_count, ret_layer, error);
    if (status != DIDI_OK)
        return status;
    (*ret_layer)->parallel = self->parallel;
    (*ret_layer)->cancelled = &self->cancelled;
    (*ret_layer)->flops = &self->usage[self->stage].flops;
    (*ret_layer)->seed = random_mix(self->options.seed, index);
    (*ret_layer)->lanes = how->lanes;
    (*ret_layer)->spilled = how->spilled;
    (*ret_layer)->scratch_fd = self->options.work_fd;
    return DIDI_OK;
}

/* The energies of a streamed layer take a pass over its files, so later visits remember them. */
static int measure_streamed(const layer_summary *summary, bool first, layer *target,
                            didi_error *error)
{
    if (first)
        return layer_measure(target, error);
    memcpy(target->energy, summary->energy, summary->tasks * sizeof(double));
    return DIDI_OK;
}

size_t work_layer_ahead(const work *self, size_t index)
{
    size_t at = 0;
    while (at < self->layer_count && self->layer_order[at] != index)
        at++;
    size_t ahead = self->options.workers > 0 ? self->options.workers : 1;
    return at + ahead < self->layer_count ? self->layer_order[at + ahead] : SIZE_MAX;
}

/* Energies and weights are of the whole task vector, what is left of it is worked on. */
static int take_shared_away(const work *self, size_t index, layer *target, didi_error *error)
{
    addition shared = {0};
    if (self->extension == NULL)
        return DIDI_OK;
    int status = extension_shared(self->extension, self->layers[index], &shared, error);
    return status == DIDI_OK && !addition_is_empty(&shared)
               ? layer_take_away(target, &shared, error)
               : status;
}

int work_open_layer(work *self, size_t index, const work_visit *how, bool first, layer **ret_layer,
                    didi_error *error)
{
    layer_summary *summary = &self->summaries[index];
    layer *fresh = NULL;
    int status = family_verify_unchanged(self->family, error);
    if (status == DIDI_OK)
        status = create_layer(self, index, how, &fresh, error);
    if (status != DIDI_OK)
        return status;
    status = layer_is_streamed(fresh) ? measure_streamed(summary, first, fresh, error)
                                      : family_load_layer(self->family, self->layers[index], fresh,
                                                          &self->bytes_read, error);
    if (status == DIDI_OK)
        status = family_verify_unchanged(self->family, error);
    if (status == DIDI_OK)
        memcpy(summary->energy, fresh->energy, summary->tasks * sizeof(double));
    if (status == DIDI_OK && first)
        status = work_save_gram(self, index, fresh, error);
    if (status == DIDI_OK)
        status = take_shared_away(self, index, fresh, error);
    if (status != DIDI_OK) {
        layer_free(fresh);
        return status;
    }
    *ret_layer = fresh;
    return DIDI_OK;
}

int work_verify_streamed(const work *self, const layer *target, didi_error *error)
{
    return layer_is_streamed(target) ? family_verify_unchanged(self->family, error) : DIDI_OK;
}
