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

static int write_plain(work *self, size_t index, size_t file, const char *name,
                       safetensors_writer *writer, didi_error *error)
{
    const family_tensor *tensor = self->dense[index];
    didi_dtype dtype = DIDI_DTYPE_F32;
    piece_buffers buffers;
    enum { BYTES = WORK_PIECE_ELEMENTS * sizeof(float) };
    int status = piece_buffers_create(&buffers, WORK_PIECE_ELEMENTS, BYTES, error);
    if (status != DIDI_OK)
        return status;
    (void)precision_is_plain(self->options.precision, &dtype);
    for (uint64_t first = 0; first < tensor->elements && status == DIDI_OK;
         first += WORK_PIECE_ELEMENTS) {
        uint64_t count = smaller(tensor->elements - first, WORK_PIECE_ELEMENTS);
        family_piece piece = {tensor, first, count};
        status = read_piece(self, &piece, file, &buffers, error);
        if (status == DIDI_OK)
            status = safetensors_writer_put_f32(writer, name, first, buffers.delta, count, error);
        didi_dtype_from_f32(dtype, buffers.delta, buffers.packed, count);
        didi_dtype_to_f32(dtype, buffers.packed, buffers.stored, count);
        if (status == DIDI_OK)
            status = add_missed(self, index, &piece, file, &buffers, error);
    }
    piece_buffers_clear(&buffers);
    return status;
}

/* What was packed, as a reader gets it. */
static void unpack_rows(piece_buffers *buffers, size_t rows, size_t columns, unsigned bits)
{
    size_t row_bytes = quantise_row_bytes(columns, bits);
    for (size_t i = 0; i < rows; i++)
        dequantise_row(buffers->packed + i * row_bytes, columns, bits,
                       buffers->stored + i * columns);
}

static int write_packed(work *self, size_t index, size_t file, const char *name,
                        safetensors_writer *writer, didi_error *error)
{
    const family_tensor *tensor = self->dense[index];
    unsigned bits = self->dense_summaries[index].bits[file];
    size_t columns = tensor->columns;
    size_t row_bytes = quantise_row_bytes(columns, bits);
    size_t at_once = columns < WORK_PIECE_ELEMENTS ? WORK_PIECE_ELEMENTS / columns : 1;
    uint8_t header[PACKED_DENSE_HEADER_BYTES];
    piece_buffers buffers;
    int status = piece_buffers_create(&buffers, at_once * columns, at_once * row_bytes, error);
    if (status != DIDI_OK)
        return status;
    packed_dense_begin(bits, header);
    status = safetensors_writer_put_bytes(writer, name, 0, header, sizeof header, error);
    for (size_t row = 0; row < tensor->rows && status == DIDI_OK; row += at_once) {
        size_t rows = smaller(tensor->rows - row, at_once);
        family_piece piece = {tensor, (uint64_t)row * columns, rows * columns};
        status = read_piece(self, &piece, file, &buffers, error);
        if (status != DIDI_OK)
            break;
        packed_dense_rows(columns, bits, buffers.delta, rows, buffers.packed);
        unpack_rows(&buffers, rows, columns, bits);
        status = safetensors_writer_put_bytes(writer, name, sizeof header + row * row_bytes,
                                              buffers.packed, rows * row_bytes, error);
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
    bool plain = precision_is_plain(self->options.precision, NULL);
    for (size_t t = file > 0 ? file - 1 : 0; t < (file > 0 ? file : tasks); t++)
        self->dense_summaries[index].stored_error[t] = 0;
    char *name = memory_format("%s.%s", tensor->name, plain ? "delta" : "delta_packed");
    if (name == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, tensor->name, "name of a delta");
    int status = plain ? write_plain(self, index, file, name, writer, error)
                       : write_packed(self, index, file, name, writer, error);
    free(name);
    return status;
}

double work_dense_error(const work *self, size_t index, size_t task)
{
    const dense_summary *found = &self->dense_summaries[index];
    size_t file = found->form == DIDI_DENSE_MEAN ? 0 : task + 1;
    return work_holds_delta(self, index, file) ? found->stored_error[task] : found->unstored[task];
}
