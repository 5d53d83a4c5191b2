/* SPDX-License-Identifier: Apache-2.0 */
/* Error against budget: what to expect of another budget, predicted from what this merge knows. */
#include "src/methods/didi/didi_method.h"

#include "src/base/base.h"
#include "src/budget/budget.h"

#include <math.h>
#include <stdlib.h>

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
    size_t used = 0;
    int status = allocate_frontier(blocks, count, FRONTIER_POINTS, found, &used, error);
    if (status != DIDI_OK)
        return status;
    free(self->frontier);
    self->frontier_count = 0;
    self->frontier = memory_zeroed(used, sizeof *self->frontier);
    if (self->frontier == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "frontier");
    for (size_t i = 0; i < used; i++)
        append_point(self, found[i].parameters, share_of_energy(self, found[i].loss), false);
    return DIDI_OK;
}

int didi_frontier_from_blocks(didi *self, const allocate_block *blocks, size_t count,
                              didi_error *error)
{
    allocate_point found[FRONTIER_POINTS];
    frontier_point *old = self->frontier;
    size_t old_count = self->frontier_count;
    size_t used = 0;
    double twice = didi_counted_twice(self);
    int status = allocate_frontier(blocks, count, FRONTIER_POINTS, found, &used, error);
    if (status != DIDI_OK)
        return status;
    frontier_point *points = memory_zeroed(used + old_count, sizeof *points);
    if (points == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "frontier");
    self->frontier = points;
    self->frontier_count = 0;
    size_t reached = 0; /* points of the spectra that cost no more */
    for (size_t i = 0; i < used; i++) {
        double share = share_of_energy(self, fmax(found[i].loss - twice, 0));
        while (reached < old_count && old[reached].parameters <= found[i].parameters)
            reached++;
        bool better = reached == 0 || share <= old[reached - 1].error;
        append_point(self, found[i].parameters, better ? share : old[reached - 1].error, better);
    }
    for (; reached < old_count; reached++)
        append_point(self, old[reached].parameters, old[reached].error, false);
    free(old);
    return DIDI_OK;
}
