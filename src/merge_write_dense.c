/* SPDX-License-Identifier: Apache-2.0 */
/* Tensors kept whole, from the inputs into the files of the package. */
#include "src/merge_layout.h"

#include "src/base/memory.h"
#include "src/linalg.h"
#include "src/packed.h"

#include <stdlib.h>
#include <string.h>

enum { PIECE_ELEMENTS = 1 << 16 };

typedef struct piece_buffers {
    float *delta, *spare;
    double *sum;
    uint8_t *packed;
} piece_buffers;

static void buffers_clear(piece_buffers *self)
{
    free(self->delta);
    free(self->spare);
    free(self->sum);
    free(self->packed);
}

static int buffers_create(piece_buffers *self, uint64_t elements, size_t bytes, didi_error *error)
{
    *self = (piece_buffers){.delta = memory_aligned(elements, sizeof(float)),
                            .spare = memory_aligned(elements, sizeof(float)),
                            .sum = memory_aligned(elements, sizeof(double)),
                            .packed = memory_aligned(bytes, 1)};
    if (self->delta != NULL && self->spare != NULL && self->sum != NULL && self->packed != NULL)
        return DIDI_OK;
    buffers_clear(self);
    return didi_fail(error, DIDI_NO_MEMORY, NULL, "buffers of an artifact");
}

/* One piece of what is stored of a tensor: a task's delta, or the mean of all (file 0). */
static int read_piece(didi_merge *self, const family_tensor *tensor, size_t file, uint64_t first,
                      uint64_t count, piece_buffers *buffers, didi_error *error)
{
    size_t tasks = self->options.task_count;
    if (file > 0)
        return family_read_delta(self->family, tensor, file - 1, first, count, buffers->delta,
                                 buffers->spare, &self->bytes_read, error);
    memset(buffers->sum, 0, count * sizeof *buffers->sum);
    for (size_t t = 0; t < tasks; t++) {
        int status = family_read_delta(self->family, tensor, t, first, count, buffers->delta,
                                       buffers->spare, &self->bytes_read, error);
        if (status != DIDI_OK)
            return status;
        for (uint64_t i = 0; i < count; i++)
            buffers->sum[i] += (double)buffers->delta[i];
    }
    merge_mean_of(buffers->sum, tasks, count, buffers->delta);
    return DIDI_OK;
}

static int write_plain(didi_merge *self, const family_tensor *tensor, size_t file, const char *name,
                       safetensors_writer *writer, didi_error *error)
{
    piece_buffers buffers;
    int status = buffers_create(&buffers, PIECE_ELEMENTS, 1, error);
    if (status != DIDI_OK)
        return status;
    for (uint64_t first = 0; first < tensor->elements && status == DIDI_OK;
         first += PIECE_ELEMENTS) {
        uint64_t left = tensor->elements - first;
        uint64_t count = left < PIECE_ELEMENTS ? left : PIECE_ELEMENTS;
        status = read_piece(self, tensor, file, first, count, &buffers, error);
        if (status == DIDI_OK)
            status = safetensors_writer_put_f32(writer, name, first, buffers.delta, count, error);
    }
    buffers_clear(&buffers);
    return status;
}

/* Energy of what packing `rows` rows loses; their values become what is stored. */
static double rounding_error(const piece_buffers *buffers, size_t rows, size_t columns,
                             unsigned bits)
{
    size_t row_bytes = quantise_row_bytes(columns, bits);
    double sum = 0;
    for (size_t i = 0; i < rows; i++) {
        const float *row = buffers->delta + i * columns;
        dequantise_row(buffers->packed + i * row_bytes, columns, bits, buffers->spare);
        for (size_t j = 0; j < columns; j++) {
            double miss = (double)buffers->spare[j] - (double)row[j];
            sum += miss * miss;
        }
    }
    return sum;
}

/* Of the mean of T deltas, T times its rounding and what the tasks differ from it are lost. */
static double error_beside_rounding(const didi_merge *self, size_t index, double stored)
{
    const double *energy = self->dense_summaries[index].energy;
    double sum = 0;
    for (size_t t = 0; t < self->options.task_count; t++)
        sum += energy[t];
    return sum - (double)self->options.task_count * stored;
}

static int write_packed(didi_merge *self, size_t index, size_t file, const char *name,
                        safetensors_writer *writer, didi_error *error)
{
    const family_tensor *tensor = self->dense[index];
    dense_summary *found = &self->dense_summaries[index];
    unsigned bits = found->bits[file];
    size_t columns = tensor->columns;
    size_t row_bytes = quantise_row_bytes(columns, bits);
    size_t at_once = columns < PIECE_ELEMENTS ? PIECE_ELEMENTS / columns : 1;
    uint8_t header[PACKED_DENSE_HEADER_BYTES];
    piece_buffers buffers;
    double lost = 0;
    double stored = 0;
    int status = buffers_create(&buffers, at_once * columns, at_once * row_bytes, error);
    if (status != DIDI_OK)
        return status;
    packed_dense_begin(bits, header);
    status = safetensors_writer_put_bytes(writer, name, 0, header, sizeof header, error);
    for (size_t row = 0; row < tensor->rows && status == DIDI_OK; row += at_once) {
        size_t rows = tensor->rows - row < at_once ? tensor->rows - row : at_once;
        status = read_piece(self, tensor, file, row * columns, rows * columns, &buffers, error);
        if (status != DIDI_OK)
            break;
        stored += linalg_energy(buffers.delta, rows * columns);
        packed_dense_rows(columns, bits, buffers.delta, rows, buffers.packed);
        lost += rounding_error(&buffers, rows, columns, bits);
        status = safetensors_writer_put_bytes(writer, name, sizeof header + row * row_bytes,
                                              buffers.packed, rows * row_bytes, error);
    }
    found->packed_error[file] = file > 0 ? lost
                                         : (double)self->options.task_count * lost +
                                               error_beside_rounding(self, index, stored);
    buffers_clear(&buffers);
    return status;
}

int merge_write_dense(didi_merge *self, size_t index, size_t file, safetensors_writer *writer,
                      didi_error *error)
{
    const family_tensor *tensor = self->dense[index];
    bool plain = precision_is_plain(self->options.precision, NULL);
    char *name = memory_format("%s.%s", tensor->name, plain ? "delta" : "delta_packed");
    if (name == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, tensor->name, "name of a delta");
    int status = plain ? write_plain(self, tensor, file, name, writer, error)
                       : write_packed(self, index, file, name, writer, error);
    free(name);
    return status;
}

double merge_dense_error(const didi_merge *self, size_t index)
{
    const dense_summary *found = &self->dense_summaries[index];
    didi_dense began = merge_dense_form(self, self->dense[index]);
    if (found->form == DIDI_DENSE_BASE)
        return found->error;
    if (precision_is_plain(self->options.precision, NULL))
        return found->form != began ? found->own_error : found->error;
    double sum = 0;
    for (size_t file = 0; file <= self->options.task_count; file++) {
        bool stored = merge_holds_delta(self, index, file);
        bool lost = !stored && file > 0 && found->form == DIDI_DENSE_PER_TASK;
        sum += stored ? found->packed_error[file] : lost ? found->energy[file - 1] : 0;
    }
    return sum;
}
