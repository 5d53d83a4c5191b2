/* SPDX-License-Identifier: Apache-2.0 */
/* Picking up what an earlier attempt, or an earlier merge, found out of a layer. */
#include "src/methods/didi/didi_method.h"

#include "src/base/base.h"

static void snapshot_name(const didi *self, didi_row row, size_t index, char name[64])
{
    work_snapshot_name(row == DIDI_ROW_DECOMPOSE ? "decompose"
                       : row == DIDI_ROW_PURSUE  ? "pursue"
                                                 : self->work->stored,
                       index, name);
}

static int recall_summary(const snapshot *from, layer_summary *summary, didi_error *error)
{
    int status = kept_copy(from, KEPT_TAIL, summary->tail, summary->tasks + 1, error);
    for (size_t j = 0; j <= summary->tasks && status == DIDI_OK; j++) {
        uint64_t rows = 0;
        const void *data = NULL;
        status = kept_find(from, KEPT_SIGMA, j, 1, &rows, &data, error);
        if (status == DIDI_OK)
            status = summary_set_sigma(summary, j, data, rows, summary->tail[j], error);
    }
    return status;
}

static int recall_from(didi *self, int fd, const char *name, didi_row row, size_t index,
                       didi_error *error)
{
    layer_summary *summary = &self->work->summaries[index];
    snapshot *from = NULL;
    int status = snapshot_open(fd, name, &from, error);
    if (status != DIDI_OK)
        return status;
    status = kept_copy(from, KEPT_ENERGY, summary->energy, summary->tasks, error);
    if (status == DIDI_OK && row != DIDI_ROW_REFINE)
        status = recall_summary(from, summary, error);
    if (status == DIDI_OK && row == DIDI_ROW_PURSUE)
        status =
            kept_copy(from, KEPT_PURSUED, (double *)&self->pursued[index], PURSUED_NUMBERS, error);
    if (status == DIDI_OK && row == DIDI_ROW_REFINE)
        status = kept_copy(from, KEPT_ERROR, summary->error, summary->tasks, error);
    if (status == DIDI_OK && row == DIDI_ROW_REFINE)
        status = kept_copy(from, KEPT_UNSHARED, summary->unshared, summary->tasks, error);
    if (status == DIDI_OK && row == DIDI_ROW_REFINE)
        status = kept_copy(from, KEPT_LOSS, &summary->loss, 1, error);
    if (status == DIDI_OK)
        didi_set_weights(self, index);
    snapshot_close(from);
    return status;
}

static bool recall(didi *self, didi_row row, size_t index)
{
    char name[64];
    snapshot_name(self, row, index, name);
    return recall_from(self, self->work->options.work_fd, name, row, index, NULL) == DIDI_OK;
}

int didi_recall_warm(didi *self, size_t index, didi_error *error)
{
    char name[64];
    size_t old = 0;
    if (!self->warm.blocks || !work_reuse_find(self->work, index, &old))
        return didi_fail(error, DIDI_NOT_FOUND, NULL, "nothing was pursued earlier");
    work_snapshot_name("pursue", old, name);
    return recall_from(self, self->work->options.reuse_fd, name, DIDI_ROW_PURSUE, index, error);
}

/* An earlier merge's snapshot becomes this one's. */
static bool take(const didi *self, const char *prefix, size_t old, size_t index)
{
    char old_name[64];
    char name[64];
    work_snapshot_name(prefix, old, old_name);
    work_snapshot_name(prefix, index, name);
    return work_reuse_take(self->work, old_name, name);
}

static bool take_decomposed(didi *self, size_t index)
{
    size_t old = 0;
    if (!self->warm.spectra || !work_reuse_find(self->work, index, &old))
        return false;
    if (didi_pursues(self) && didi_recall_warm(self, index, NULL) != DIDI_OK)
        return false;
    return take(self, "gram", old, index) && take(self, "decompose", old, index) &&
           recall(self, DIDI_ROW_DECOMPOSE, index);
}

/* The blocks it pursued do as they are where the budget does not grow. */
static bool take_pursued(didi *self, size_t index)
{
    size_t old = 0;
    return self->warm.layers != NULL && self->warm.layers[index] && self->warm.rounds == 0 &&
           self->warm.blocks && work_reuse_find(self->work, index, &old) &&
           take(self, "pursue", old, index) && recall(self, DIDI_ROW_PURSUE, index);
}

bool didi_recall_decomposed(void *self, size_t index)
{
    return recall(self, DIDI_ROW_DECOMPOSE, index) || take_decomposed(self, index);
}

bool didi_recall_pursued(void *self, size_t index)
{
    return recall(self, DIDI_ROW_PURSUE, index) || take_pursued(self, index);
}

bool didi_recall_refined(void *self, size_t index)
{
    return recall(self, DIDI_ROW_REFINE, index);
}
