/* SPDX-License-Identifier: Apache-2.0 */
/* Tensors kept whole, from the inputs into the files of the package. */
#include "src/work/work.h"

#include "src/base/base.h"
#include "src/math/math.h"

#include <stdlib.h>
#include <string.h>

/* One piece of what is stored of a tensor: a task's delta, or the mean of all (file 0). */
static int read_piece(work *self, const family_piece *piece, size_t file, piece_buffers *buffers,
                      didi_error *error)
{
    size_t tasks = self->options.task_count;
    if (file > 0)
        return family_read_delta(self->family, file - 1, *piece, buffers->delta, buffers->spare,
                                 &self->bytes_read, error);
    memset(buffers->sum, 0, piece->count * sizeof *buffers->sum);
    for (size_t t = 0; t < tasks; t++) {
        int status = family_read_delta(self->family, t, *piece, buffers->delta, buffers->spare,
                                       &self->bytes_read, error);
        if (status != DIDI_OK)
            return status;
        for (uint64_t i = 0; i < piece->count; i++)
            buffers->sum[i] += (double)buffers->delta[i];
    }
    work_mean_of(buffers->sum, work_tasks_with(self, piece->tensor), piece->count, buffers->delta);
    return DIDI_OK;
}

/* What the stored numbers of a piece miss: of one task, or of all where they are the mean. */
static int add_missed(work *self, size_t index, const family_piece *piece, size_t file,
                      piece_buffers *buffers, didi_error *error)
{
    double *missed = self->dense_summaries[index].stored_error;
    if (file > 0) {
        missed[file - 1] += linalg_squared_distance(buffers->stored, buffers->delta, piece->count);
        return DIDI_OK;
    }
    for (size_t t = 0; t < self->options.task_count; t++) {
        if (!family_has_vector(self->dense[index], t))
            continue; /* served as the base has it */
        int status = family_read_delta(self->family, t, *piece, buffers->task, buffers->spare,
                                       &self->bytes_read, error);
        if (status != DIDI_OK)
            return status;
        missed[t] += linalg_squared_distance(buffers->stored, buffers->task, piece->count);
    }
    return DIDI_OK;
}

static int write_pieces(work *self, size_t index, size_t file, const char *name,
                        safetensors_writer *writer, didi_error *error)
{
    const family_tensor *tensor = self->dense[index];
    delta_codec codec = delta_codec_of(self->options.precision, tensor->columns,
                                       self->dense_summaries[index].bits[file]);
    size_t room = delta_codec_room(&codec, WORK_PIECE_ELEMENTS);
    piece_buffers buffers;
    int status = piece_buffers_create(&buffers, room, delta_codec_bytes(&codec, room), error);
    if (status != DIDI_OK)
        return status;
    if (codec.header_bytes > 0)
        status =
            safetensors_writer_put_bytes(writer, name, 0, codec.header, codec.header_bytes, error);
    for (uint64_t first = 0; first < tensor->elements && status == DIDI_OK; first += room) {
        family_piece piece = {tensor, first, smaller(tensor->elements - first, room)};
        size_t bytes = delta_codec_bytes(&codec, piece.count);
        status = read_piece(self, &piece, file, &buffers, error);
        if (status != DIDI_OK)
            break;
        delta_codec_encode(&codec, buffers.delta, piece.count, buffers.packed);
        delta_codec_decode(&codec, buffers.packed, piece.count, buffers.stored);
        status = work_check_range(&piece, buffers.stored, codec.stored_as, error);
        if (status == DIDI_OK)
            status = safetensors_writer_put_bytes(writer, name, delta_codec_place(&codec, first),
                                                  buffers.packed, bytes, error);
        if (status == DIDI_OK)
            status = add_missed(self, index, &piece, file, &buffers, error);
    }
    piece_buffers_clear(&buffers);
    return status;
}

int work_write_dense(work *self, size_t index, size_t file, safetensors_writer *writer,
                     didi_error *error)
{
    const family_tensor *tensor = self->dense[index];
    size_t tasks = self->options.task_count;
    for (size_t t = file > 0 ? file - 1 : 0; t < (file > 0 ? file : tasks); t++)
        self->dense_summaries[index].stored_error[t] = 0;
    const char *suffix = delta_codec_of(self->options.precision, tensor->columns, 0).suffix;
    char *name = memory_format("%s.%s", tensor->name, suffix);
    if (name == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, tensor->name, "name of a delta");
    int status = write_pieces(self, index, file, name, writer, error);
    free(name);
    return status;
}

double work_dense_error(const work *self, size_t index, size_t task)
{
    const dense_summary *found = &self->dense_summaries[index];
    size_t file = found->form == DIDI_DENSE_MEAN ? 0 : task + 1;
    return work_holds_delta(self, index, file) ? found->stored_error[task] : found->unstored[task];
}
