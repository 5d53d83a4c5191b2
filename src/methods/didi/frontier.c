/* SPDX-License-Identifier: Apache-2.0 */
/* Error against budget: what to expect of another budget, predicted from what this merge knows. */
#include "src/methods/didi/didi_method.h"

#include "src/budget/budget.h"

#include <assert.h>
#include <math.h>
#include <string.h>

/* Appends a point; the curve never rises, and starts at nothing kept. */
static void append_point(didi *self, uint64_t parameters, double error, bool from_blocks)
{
    const frontier_point *last =
        self->frontier_count > 0 ? &self->frontier[self->frontier_count - 1] : NULL;
    double ceiling = last != NULL ? last->error : 1;
    if (last != NULL && parameters <= last->parameters)
        return;
    self->frontier[self->frontier_count++] =
        (frontier_point){parameters, error < ceiling ? error : ceiling, from_blocks};
}

static double share_of_energy(const didi *self, double loss)
{
    double energy = work_weighted_energy(self->work);
    return energy > 0 ? loss / energy : 0;
}

double didi_counted_twice(const didi *self)
{
    double twice = 0;
    for (size_t l = 0; self->pursued != NULL && l < self->work->layer_count; l++) {
        const layer_summary *summary = &self->work->summaries[l];
        for (size_t t = 0; t < summary->tasks; t++)
            twice += summary->weight[t] * summary->tail[t + 1];
        twice -= self->pursued[l].floor;
    }
    return twice > 0 ? twice : 0;
}

int didi_frontier_from_spectra(didi *self, const allocate_block *blocks, size_t count,
                               didi_error *error)
{
    allocate_point found[FRONTIER_POINTS];
    int status = allocate_frontier(blocks, count, FRONTIER_POINTS, found, error);
    self->frontier_count = 0;
    for (size_t i = 0; i < FRONTIER_POINTS && status == DIDI_OK; i++)
        append_point(self, found[i].parameters, share_of_energy(self, found[i].loss), false);
    return status;
}

int didi_frontier_from_blocks(didi *self, const allocate_block *blocks, size_t count,
                              didi_error *error)
{
    allocate_point found[FRONTIER_POINTS];
    frontier_point old[3 * FRONTIER_POINTS];
    size_t old_count = self->frontier_count;
    double twice = didi_counted_twice(self);
    assert(old_count <= 2 * FRONTIER_POINTS);
    int status = allocate_frontier(blocks, count, FRONTIER_POINTS, found, error);
    if (status != DIDI_OK)
        return status;
    memcpy(old, self->frontier, sizeof old);
    self->frontier_count = 0;
    size_t reached = 0; /* points of the spectra that cost no more */
    for (size_t i = 0; i < FRONTIER_POINTS; i++) {
        double share = share_of_energy(self, fmax(found[i].loss - twice, 0));
        while (reached < old_count && old[reached].parameters <= found[i].parameters)
            reached++;
        bool better = reached == 0 || share <= old[reached - 1].error;
        append_point(self, found[i].parameters, better ? share : old[reached - 1].error, better);
    }
    for (; reached < old_count; reached++)
        append_point(self, old[reached].parameters, old[reached].error, false);
    return DIDI_OK;
}
