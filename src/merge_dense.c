/* SPDX-License-Identifier: Apache-2.0 */
/* Tensors kept whole: checked and measured before hours are spent on the matrices. */
#include "src/merge_internal.h"

#include "src/base/memory.h"
#include "src/linalg.h"
#include "src/state.h"

#include <stdlib.h>
#include <string.h>

enum { PIECE_ELEMENTS = 1 << 16 };

typedef struct scan_buffers {
    float *delta, *spare, *sum;
} scan_buffers;

/* Adds up energies of one piece of every task; what `mean` and `base` leave out goes to error. */
static int scan_piece(didi_merge *self, const family_tensor *tensor, dense_summary *found,
                      scan_buffers *buffers, uint64_t first, uint64_t count, didi_error *error)
{
    size_t tasks = self->options.task_count;
    double energy = 0;
    memset(buffers->sum, 0, count * sizeof(float));
    for (size_t t = 0; t < tasks; t++) {
        int status = family_read_delta(self->family, tensor, t, first, count, buffers->delta,
                                       buffers->spare, &self->bytes_read, error);
        if (status != DIDI_OK)
            return status;
        double own = linalg_energy(buffers->delta, count);
        found->energy[t] += own;
        energy += own;
        for (uint64_t i = 0; i < count; i++)
            buffers->sum[i] += buffers->delta[i];
    }
    if (self->options.dense == DIDI_DENSE_BASE)
        found->error += energy;
    if (self->options.dense == DIDI_DENSE_MEAN)
        found->error += energy - linalg_energy(buffers->sum, count) / (double)tasks;
    return DIDI_OK;
}

static int scan_tensor(didi_merge *self, size_t index, scan_buffers *buffers, didi_error *error)
{
    const family_tensor *tensor = self->dense[index];
    dense_summary *found = &self->dense_summaries[index];
    memset(found->energy, 0, self->options.task_count * sizeof(double));
    found->error = 0;
    int status = DIDI_OK;
    for (uint64_t first = 0; first < tensor->elements && status == DIDI_OK;
         first += PIECE_ELEMENTS) {
        uint64_t left = tensor->elements - first;
        if (atomic_load(&self->cancelled))
            return didi_fail(error, DIDI_CANCELLED, NULL, "cancelled");
        status = scan_piece(self, tensor, found, buffers, first,
                            left < PIECE_ELEMENTS ? left : PIECE_ELEMENTS, error);
    }
    found->error = found->error > 0 ? found->error : 0;
    found->scanned = status == DIDI_OK;
    return status;
}

static int save_scan(didi_merge *self, didi_error *error)
{
    size_t tasks = self->options.task_count;
    double *table = memory_zeroed(self->dense_count, (tasks + 1) * sizeof(double));
    if (table == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "table of %zu tensors", self->dense_count);
    for (size_t i = 0; i < self->dense_count; i++) {
        memcpy(table + i * (tasks + 1), self->dense_summaries[i].energy, tasks * sizeof(double));
        table[i * (tasks + 1) + tasks] = self->dense_summaries[i].error;
    }
    state_entry entry = { "dense", DIDI_DTYPE_F64, self->dense_count, tasks + 1, table };
    int status = state_save(self->options.work_fd, "dense.state", &entry, 1,
                            !self->options.volatile_work, error);
    free(table);
    return status;
}

int merge_scan_dense(didi_merge *self, didi_error *error)
{
    scan_buffers buffers = { memory_aligned(PIECE_ELEMENTS, sizeof(float)),
                             memory_aligned(PIECE_ELEMENTS, sizeof(float)),
                             memory_aligned(PIECE_ELEMENTS, sizeof(float)) };
    int status = DIDI_OK;
    if (buffers.delta == NULL || buffers.spare == NULL || buffers.sum == NULL)
        status = didi_fail(error, DIDI_NO_MEMORY, NULL, "scan buffers");
    if (status == DIDI_OK)
        status = family_verify_unchanged(self->family, error);
    for (size_t i = 0; i < self->family->tensor_count && status == DIDI_OK; i++)
        if (self->family->tensors[i].kind == FAMILY_PASSTHROUGH)
            status = family_check_equal(self->family, &self->family->tensors[i], &self->bytes_read,
                                        error);
    for (size_t i = 0; i < self->dense_count && status == DIDI_OK; i++)
        status = scan_tensor(self, i, &buffers, error);
    if (status == DIDI_OK)
        status = family_verify_unchanged(self->family, error);
    if (status == DIDI_OK)
        status = save_scan(self, error);
    free(buffers.delta);
    free(buffers.spare);
    free(buffers.sum);
    return status;
}

int merge_recall_dense(didi_merge *self, didi_error *error)
{
    size_t tasks = self->options.task_count;
    state *from = NULL;
    const void *data = NULL;
    uint64_t rows = 0;
    int status = state_open(self->options.work_fd, "dense.state", &from, error);
    if (status == DIDI_OK)
        status = state_find(from, "dense", DIDI_DTYPE_F64, tasks + 1, &rows, &data, error);
    if (status == DIDI_OK && rows != self->dense_count)
        status = didi_fail(error, DIDI_FORMAT, "dense.state", "%llu rows for %zu tensors",
                           (unsigned long long)rows, self->dense_count);
    const double *table = data;
    for (size_t i = 0; i < self->dense_count && status == DIDI_OK; i++) {
        memcpy(self->dense_summaries[i].energy, table + i * (tasks + 1), tasks * sizeof(double));
        self->dense_summaries[i].error = table[i * (tasks + 1) + tasks];
        self->dense_summaries[i].scanned = true;
    }
    state_close(from);
    return status;
}
