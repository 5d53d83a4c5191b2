/* SPDX-License-Identifier: Apache-2.0 */
/* Tensors kept whole: checked and measured before hours are spent on the matrices. */
#include "src/work/work.h"

#include "src/base/base.h"
#include "src/math/math.h"

#include <stdlib.h>
#include <string.h>

void piece_buffers_clear(piece_buffers *self)
{
    free(self->delta);
    free(self->stored);
    free(self->task);
    free(self->spare);
    free(self->sum);
    free(self->packed);
    addition_clear(&self->shared);
}

int piece_buffers_create(piece_buffers *self, uint64_t elements, size_t bytes, didi_error *error)
{
    *self = (piece_buffers){.delta = memory_aligned(elements, sizeof(float)),
                            .stored = memory_aligned(elements, sizeof(float)),
                            .task = memory_aligned(elements, sizeof(float)),
                            .spare = memory_aligned(elements, sizeof(float)),
                            .sum = memory_aligned(elements, sizeof(double)),
                            .packed = memory_aligned(bytes, 1)};
    if (self->delta != NULL && self->stored != NULL && self->task != NULL && self->spare != NULL &&
        self->sum != NULL && self->packed != NULL)
        return DIDI_OK;
    piece_buffers_clear(self);
    return didi_fail(error, DIDI_NO_MEMORY, NULL, "buffers of %llu elements",
                     (unsigned long long)elements);
}

bool work_holds_delta(const work *self, size_t dense, size_t index)
{
    const double *energy = self->dense_summaries[dense].energy;
    didi_dense form = self->dense_summaries[dense].form;
    bool changed = false;
    if (self->dense_summaries[dense].bits[index] == 0)
        return false;
    for (size_t t = 0; t < self->options.task_count; t++)
        changed = changed || energy[t] > 0;
    if (form == DIDI_DENSE_PER_TASK)
        return index > 0 && energy[index - 1] > 0;
    return form == DIDI_DENSE_MEAN && index == 0 && changed;
}

didi_dense work_dense_form(const work *self, const family_tensor *tensor)
{
    if (self->options.dense != DIDI_DENSE_AUTO)
        return self->options.dense;
    if (extension_shares(self->extension, tensor))
        return DIDI_DENSE_BASE;
    bool vector = tensor->rank_limit == 0 && self->shared;
    return vector ? DIDI_DENSE_MEAN : DIDI_DENSE_PER_TASK;
}

uint64_t work_dense_copies(const work *self, const family_tensor *tensor)
{
    switch (work_dense_form(self, tensor)) {
    case DIDI_DENSE_PER_TASK:
        return self->options.task_count;
    case DIDI_DENSE_MEAN:
        return 1;
    default:
        return 0;
    }
}

/* All-zero tensors are not stored and leave their room to the factors. */
uint64_t work_dense_parameters(const work *self)
{
    uint64_t stored = 0;
    for (size_t i = 0; i < self->dense_count; i++)
        for (size_t file = 0; file <= self->options.task_count; file++)
            if (work_holds_delta(self, i, file))
                stored += self->dense[i]->elements;
    for (size_t t = 0; t < self->options.task_count; t++)
        stored += work_own_parameters(self, t);
    return stored;
}

void work_mean_of(const double *sum, size_t tasks, uint64_t count, float *ret_mean)
{
    for (uint64_t i = 0; i < count; i++)
        ret_mean[i] = tasks > 0 ? (float)(sum[i] / (double)tasks) : 0;
}

int work_check_range(const family_piece *piece, const float *values, const char *stored_as,
                     didi_error *error)
{
    size_t bad = didi_dtype_first_nonfinite(values, piece->count);
    if (bad == piece->count)
        return DIDI_OK;
    return didi_fail(error, DIDI_NUMERIC, piece->tensor->name,
                     "the change of tensor '%s' at element %llu is out of the range of %s",
                     piece->tensor->name, (unsigned long long)(piece->first + bad), stored_as);
}

/* As the output dtype keeps it; what will be packed is measured then. */
static int round_piece(const work *self, const family_piece *piece, piece_buffers *buffers,
                       didi_error *error)
{
    delta_codec codec = delta_codec_of(self->options.precision, 1, 0);
    delta_codec_encode(&codec, buffers->stored, piece->count, buffers->packed);
    delta_codec_decode(&codec, buffers->packed, piece->count, buffers->stored);
    return work_check_range(piece, buffers->stored, codec.stored_as, error);
}

static int scan_own(const work *self, const family_piece *piece, double *ret_error,
                    piece_buffers *buffers, didi_error *error)
{
    memcpy(buffers->stored, buffers->delta, piece->count * sizeof(float));
    int status = round_piece(self, piece, buffers, error);
    if (status == DIDI_OK)
        *ret_error += linalg_squared_distance(buffers->stored, buffers->delta, piece->count);
    return status;
}

/* Adds one task's piece: its energy, and the error of what will be stored of it. */
static int scan_task(const work *self, const family_piece *piece, dense_summary *found, size_t task,
                     piece_buffers *buffers, didi_error *error)
{
    uint64_t count = piece->count;
    double own = linalg_energy(buffers->delta, count);
    int status = DIDI_OK;
    found->energy[task] += own;
    if (!addition_is_empty(&buffers->shared)) /* then nothing is stored of the task */
        status = addition_subtract(&buffers->shared, piece->first, count, buffers->delta, error);
    double left = addition_is_empty(&buffers->shared) ? own : linalg_energy(buffers->delta, count);
    found->unstored[task] += left;
    switch (found->form) {
    case DIDI_DENSE_PER_TASK:
        return scan_own(self, piece, &found->error, buffers, error);
    case DIDI_DENSE_MEAN:
        for (uint64_t i = 0; i < count; i++)
            buffers->sum[i] += (double)buffers->delta[i];
        found->error += own;
        return self->options.dense == DIDI_DENSE_AUTO
                   ? scan_own(self, piece, &found->own_error, buffers, error)
                   : DIDI_OK;
    default:
        found->error += left;
        return status;
    }
}

/* |d_t - s|^2 over tasks, |d_t|^2 being counted: T |s|^2 - 2 <s, sum_t d_t>. */
static int scan_mean(const work *self, const family_piece *piece, double *ret_error,
                     piece_buffers *buffers, didi_error *error)
{
    size_t tasks = work_tasks_with(self, piece->tensor);
    work_mean_of(buffers->sum, tasks, piece->count, buffers->stored);
    int status = round_piece(self, piece, buffers, error);
    double change = 0;
    for (uint64_t i = 0; i < piece->count; i++) {
        double value = (double)buffers->stored[i];
        change += value * ((double)tasks * value - 2 * buffers->sum[i]);
    }
    *ret_error += change;
    return status;
}

static int scan_piece(work *self, const family_piece *piece, dense_summary *found,
                      piece_buffers *buffers, didi_error *error)
{
    memset(buffers->sum, 0, piece->count * sizeof *buffers->sum);
    for (size_t t = 0; t < self->options.task_count; t++) {
        int status = family_read_delta(self->family, t, *piece, buffers->delta, buffers->spare,
                                       &self->bytes_read, error);
        if (status == DIDI_OK)
            status = scan_task(self, piece, found, t, buffers, error);
        if (status != DIDI_OK)
            return status;
    }
    return found->form == DIDI_DENSE_MEAN ? scan_mean(self, piece, &found->error, buffers, error)
                                          : DIDI_OK;
}

static void start_summary(const work *self, const family_tensor *tensor, dense_summary *found)
{
    found->form = work_dense_form(self, tensor);
    for (size_t file = 0; file <= self->options.task_count; file++)
        found->bits[file] = precision_given_bits(self->options.precision);
}

static int scan_tensor(work *self, size_t index, piece_buffers *buffers, didi_error *error)
{
    const family_tensor *tensor = self->dense[index];
    dense_summary *found = &self->dense_summaries[index];
    memset(found->energy, 0, self->options.task_count * sizeof(double));
    memset(found->unstored, 0, self->options.task_count * sizeof(double));
    start_summary(self, tensor, found);
    found->error = found->own_error = 0;
    int status = DIDI_OK;
    addition_clear(&buffers->shared);
    if (found->form == DIDI_DENSE_BASE)
        status = extension_shared(self->extension, tensor, &buffers->shared, error);
    for (uint64_t first = 0; first < tensor->elements && status == DIDI_OK;
         first += WORK_PIECE_ELEMENTS) {
        if (atomic_load(&self->cancelled))
            return didi_fail(error, DIDI_CANCELLED, NULL, "cancelled");
        family_piece piece = {tensor, first,
                              smaller(tensor->elements - first, WORK_PIECE_ELEMENTS)};
        status = scan_piece(self, &piece, found, buffers, error);
    }
    found->error = found->error > 0 ? found->error : 0;
    return status;
}

enum { SCAN_ERRORS = 2 }; /* numbers of a row after energies and what is lost unstored */

static int save_scan(work *self, didi_error *error)
{
    size_t tasks = self->options.task_count;
    size_t row = 2 * tasks + SCAN_ERRORS;
    double *table = memory_zeroed(self->dense_count, row * sizeof(double));
    if (table == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "table of %zu tensors", self->dense_count);
    for (size_t i = 0; i < self->dense_count; i++) {
        memcpy(table + i * row, self->dense_summaries[i].energy, tasks * sizeof(double));
        memcpy(table + i * row + tasks, self->dense_summaries[i].unstored, tasks * sizeof(double));
        table[i * row + 2 * tasks] = self->dense_summaries[i].error;
        table[i * row + 2 * tasks + 1] = self->dense_summaries[i].own_error;
    }
    int status =
        work_save_table(self, "dense.state", "dense", self->dense_count, row, table, error);
    free(table);
    return status;
}

int work_scan_dense(work *self, didi_error *error)
{
    enum { BYTES = WORK_PIECE_ELEMENTS * sizeof(float) };
    piece_buffers buffers;
    int status = piece_buffers_create(&buffers, WORK_PIECE_ELEMENTS, BYTES, error);
    if (status != DIDI_OK)
        return status;
    status = family_verify_unchanged(self->family, error);
    for (size_t i = 0; i < self->dense_count && status == DIDI_OK; i++)
        status = scan_tensor(self, i, &buffers, error);
    if (status == DIDI_OK)
        status = family_verify_unchanged(self->family, error);
    if (status == DIDI_OK)
        status = save_scan(self, error);
    piece_buffers_clear(&buffers);
    return status;
}

int work_recall_dense(work *self, didi_error *error)
{
    size_t tasks = self->options.task_count;
    size_t row = 2 * tasks + SCAN_ERRORS;
    double *table = memory_zeroed(self->dense_count, row * sizeof(double));
    if (table == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "table of %zu tensors", self->dense_count);
    int status =
        work_read_table(self, "dense.state", "dense", self->dense_count, row, table, error);
    for (size_t i = 0; i < self->dense_count && status == DIDI_OK; i++) {
        dense_summary *found = &self->dense_summaries[i];
        memcpy(found->energy, table + i * row, tasks * sizeof(double));
        memcpy(found->unstored, table + i * row + tasks, tasks * sizeof(double));
        start_summary(self, self->dense[i], found);
        found->error = table[i * row + 2 * tasks];
        found->own_error = table[i * row + 2 * tasks + 1];
    }
    free(table);
    return status;
}
