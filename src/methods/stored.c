/* SPDX-License-Identifier: Apache-2.0 */
/* Arrays are kept as snapshots in the work directory: whole ones when the item ends, deltas panel
 * by panel as they come. */
#include "src/methods/stored.h"

#include "src/base/base.h"
#include "src/math/math.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PANEL_ELEMENTS = 1 << 16 };

struct stored {
    work *work;
    size_t tensor;
    char name[64];
    snapshot_entry *list;
    char (*names)[KEPT_NAME_BYTES];
    size_t count, room;
    bool saved;
};

int stored_create(work *of, size_t tensor, const char *name, stored **ret_stored, didi_error *error)
{
    enum { ARRAYS_A_FILE = 4, MORE_ARRAYS = 16 };
    size_t room = ARRAYS_A_FILE * (of->options.task_count + 1) + MORE_ARRAYS;
    stored *self = memory_zeroed(1, sizeof *self);
    if (self == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "layer state");
    *self = (stored){.work = of,
                     .tensor = tensor,
                     .list = memory_zeroed(room, sizeof(snapshot_entry)),
                     .names = memory_zeroed(room, KEPT_NAME_BYTES),
                     .room = room};
    (void)snprintf(self->name, sizeof self->name, "%s", name);
    if (self->list == NULL || self->names == NULL) {
        stored_free(self);
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "layer state");
    }
    *ret_stored = self;
    return DIDI_OK;
}

void stored_free(stored *self)
{
    if (self == NULL)
        return;
    free(self->list);
    free(self->names);
    free(self);
}

static void keep(stored *self, kept_array array, size_t index, didi_dtype dtype, uint64_t rows,
                 uint64_t columns, const void *data)
{
    assert(self->count < self->room && !self->saved);
    char *name = self->names[self->count];
    kept_name(array, index, name);
    self->list[self->count++] = (snapshot_entry){name, dtype, rows, columns, data};
}

void stored_keep(stored *self, kept_array array, size_t index, uint64_t rows, uint64_t columns,
                 const void *data)
{
    keep(self, array, index, kept_dtype(array), rows, columns, data);
}

/* Values as they are stored, in their own place: they are already rounded to the dtype, and no
 * longer needed in float32. */
static const void *narrow_in_place(didi_dtype dtype, float *values, size_t count)
{
    enum { PIECE = 4096 };
    char piece[PIECE * sizeof(float)];
    size_t size = didi_dtype_bits(dtype) / 8;
    char *out = (char *)values;
    for (size_t first = 0; first < count; first += PIECE) {
        size_t part = count - first < PIECE ? count - first : PIECE;
        didi_dtype_from_f32(dtype, values + first, piece, part);
        memcpy(out + first * size, piece, part * size);
        spill_touched(part * sizeof *values);
    }
    return values;
}

/* Of packed numbers: bytes. */
static didi_dtype output_dtype(const work *self)
{
    didi_dtype dtype = DIDI_DTYPE_U8;
    return precision_is_plain(self->options.precision, &dtype) ? dtype : DIDI_DTYPE_U8;
}

void stored_factors(stored *self, size_t file, size_t rank, float *b, float *a)
{
    const family_tensor *tensor = self->work->layers[self->tensor];
    didi_dtype dtype = output_dtype(self->work);
    assert(dtype != DIDI_DTYPE_U8);
    keep(self, KEPT_B, file, dtype, rank > 0 ? tensor->rows : 0, rank,
         narrow_in_place(dtype, b, rank * tensor->rows));
    keep(self, KEPT_A, file, dtype, rank, tensor->columns,
         narrow_in_place(dtype, a, rank * tensor->columns));
}

void stored_delta(stored *self, size_t file, float *values)
{
    const family_tensor *tensor = self->work->layers[self->tensor];
    didi_dtype dtype = output_dtype(self->work);
    assert(dtype != DIDI_DTYPE_U8);
    keep(self, KEPT_DELTA, file, dtype, tensor->rows, tensor->columns,
         narrow_in_place(dtype, values, tensor->rows * tensor->columns));
}

void stored_packed(stored *self, size_t file, const uint8_t *bytes, size_t count)
{
    stored_keep(self, KEPT_PACKED, file, count, 1, bytes);
}

int stored_save(stored *self, didi_error *error)
{
    if (self->count == 0 || self->saved)
        return DIDI_OK;
    self->saved = true;
    return snapshot_save(self->work->options.work_fd, self->name, self->list, self->count,
                         !self->work->options.volatile_work, error);
}

/* ---- panels ---- */

typedef struct panels {
    work *work;
    const family_tensor *tensor;
    layer_summary *summary;
    unsigned bits; /* of packed numbers; 0: a dtype */
    uint64_t rows_at_once;
    float **tau; /* T */
    float *shared, *spare;
    uint8_t *packed;
    char array[KEPT_NAME_BYTES], energy[KEPT_NAME_BYTES], error[KEPT_NAME_BYTES]; /* names */
    snapshot_writer *writer;
} panels;

static unsigned packed_bits(const work *self, const family_tensor *tensor)
{
    didi_precision precision = self->options.precision;
    if (precision_is_plain(precision, NULL))
        return 0;
    return precision_bits(tensor->kind == FAMILY_MATRIX ? precision_of_matrices(precision)
                                                        : precision_of_dense(precision));
}

/* What is stored of a tensor: one delta, in the file that all tasks share. */
static stored_array shared_array(const work *self, size_t tensor)
{
    stored_array arrays[STORED_ARRAYS_MAX];
    stored_tensor of = stored_tensor_of(self->layers[tensor]);
    stored_part part = {.delta = true, .bits = packed_bits(self, self->layers[tensor])};
    (void)stored_arrays(&of, &part, 0, self->options.precision, arrays);
    return arrays[0];
}

static uint64_t rows_at_once(const family_tensor *tensor)
{
    return tensor->columns < PANEL_ELEMENTS ? PANEL_ELEMENTS / tensor->columns : 1;
}

uint64_t stored_panels_memory(const work *self, size_t tensor)
{
    enum { OTHER_PANELS = 4, OVERHEAD_BYTES = 1 << 20 };
    const family_tensor *of = self->layers[tensor];
    uint64_t panel = memory_multiply(memory_multiply(rows_at_once(of), of->columns), sizeof(float));
    uint64_t buffers = self->options.task_count + OTHER_PANELS;
    return memory_add(memory_multiply(buffers, panel), OVERHEAD_BYTES);
}

uint64_t stored_panels_bytes(const work *self, size_t tensor)
{
    stored_array array = shared_array(self, tensor);
    return memory_multiply(memory_multiply(array.rows, array.columns),
                           didi_dtype_bits(array.dtype) / 8);
}

static void panels_clear(panels *self)
{
    for (size_t t = 0; self->tau != NULL && t < self->summary->tasks; t++)
        free(self->tau[t]);
    free(self->tau);
    free(self->shared);
    free(self->spare);
    free(self->packed);
    snapshot_writer_abort(self->writer);
}

static int panels_create(stored *of, panels *self, didi_error *error)
{
    const family_tensor *tensor = of->work->layers[of->tensor];
    size_t room = rows_at_once(tensor) * tensor->columns;
    *self = (panels){.work = of->work,
                     .tensor = tensor,
                     .summary = &of->work->summaries[of->tensor],
                     .bits = packed_bits(of->work, tensor),
                     .rows_at_once = rows_at_once(tensor),
                     .shared = memory_aligned(room, sizeof(float)),
                     .spare = memory_aligned(room, sizeof(float)),
                     .packed = memory_aligned(room, sizeof(float))};
    self->tau = memory_zeroed(self->summary->tasks, sizeof *self->tau);
    bool whole =
        self->shared != NULL && self->spare != NULL && self->packed != NULL && self->tau != NULL;
    for (size_t t = 0; t < self->summary->tasks && whole; t++) {
        self->tau[t] = memory_aligned(room, sizeof(float));
        whole = self->tau[t] != NULL;
    }
    return whole ? DIDI_OK
                 : didi_fail(error, DIDI_NO_MEMORY, tensor->name, "panels of %zu task vectors",
                             self->summary->tasks);
}

static int panels_begin(stored *of, panels *self, didi_error *error)
{
    size_t tasks = self->summary->tasks;
    stored_array array = shared_array(of->work, of->tensor);
    snapshot_entry entries[] = {
        {self->array, array.dtype, array.rows, array.columns, NULL},
        {self->energy, kept_dtype(KEPT_ENERGY), 1, tasks, NULL},
        {self->error, kept_dtype(KEPT_ERROR), 1, tasks, NULL},
    };
    kept_name(array.kept, 0, self->array);
    kept_name(KEPT_ENERGY, 0, self->energy);
    kept_name(KEPT_ERROR, 0, self->error);
    int status = snapshot_writer_create(of->work->options.work_fd, of->name, entries,
                                        sizeof entries / sizeof *entries, &self->writer, error);
    if (status == DIDI_OK && self->bits > 0) {
        uint8_t header[PACKED_DENSE_HEADER_BYTES];
        packed_dense_begin(self->bits, header);
        status = snapshot_writer_put(self->writer, self->array, 0, header, sizeof header, error);
    }
    return status;
}

static int put_packed(panels *self, const family_piece *piece, didi_error *error)
{
    size_t columns = self->tensor->columns;
    size_t row_bytes = quantise_row_bytes(columns, self->bits);
    uint64_t row = piece->first / columns;
    uint64_t rows = piece->count / columns;
    int status = work_check_range(piece, self->shared, "float32", error);
    if (status != DIDI_OK)
        return status;
    packed_dense_rows(columns, self->bits, self->shared, rows, self->packed);
    for (size_t i = 0; i < rows; i++)
        dequantise_row(self->packed + i * row_bytes, columns, self->bits,
                       self->shared + i * columns);
    status = work_check_range(piece, self->shared, "packed numbers", error);
    if (status != DIDI_OK)
        return status;
    return snapshot_writer_put(self->writer, self->array,
                               PACKED_DENSE_HEADER_BYTES + row * row_bytes, self->packed,
                               rows * row_bytes, error);
}

/* Stores the shared panel, which ends as a reader gets it. */
static int put_panel(panels *self, const family_piece *piece, didi_error *error)
{
    didi_dtype dtype = output_dtype(self->work);
    size_t bytes = didi_dtype_bits(dtype) / 8;
    if (self->bits > 0)
        return put_packed(self, piece, error);
    didi_dtype_from_f32(dtype, self->shared, self->packed, piece->count);
    didi_dtype_to_f32(dtype, self->packed, self->shared, piece->count);
    int status = work_check_range(piece, self->shared, didi_dtype_name(dtype), error);
    if (status != DIDI_OK)
        return status;
    return snapshot_writer_put(self->writer, self->array, piece->first * bytes, self->packed,
                               piece->count * bytes, error);
}

/* What is read of the tasks, made of it, and left of it. */
static int take_panel(panels *self, uint64_t row, uint64_t rows,
                      void (*fill)(void *context, const method_panel *panel), void *context,
                      didi_error *error)
{
    uint64_t first = row * self->tensor->columns;
    uint64_t count = rows * self->tensor->columns;
    family_piece piece = {self->tensor, first, count};
    for (size_t t = 0; t < self->summary->tasks; t++) {
        int status = family_read_delta(self->work->family, t, piece, self->tau[t], self->spare,
                                       &self->work->bytes_read, error);
        if (status != DIDI_OK)
            return status;
        self->summary->energy[t] += linalg_energy(self->tau[t], count);
    }
    memset(self->shared, 0, count * sizeof *self->shared);
    fill(context, &(method_panel){first, count, self->summary->tasks,
                                  (const float *const *)self->tau, self->shared});
    int status = put_panel(self, &piece, error);
    for (size_t t = 0; t < self->summary->tasks && status == DIDI_OK; t++)
        self->summary->error[t] += linalg_squared_distance(self->tau[t], self->shared, count);
    return status;
}

/* What is stored of a tensor that no task changed: nothing. */
static void set_parts(work *of, size_t tensor)
{
    layer_summary *summary = &of->summaries[tensor];
    bool changed = false;
    for (size_t t = 0; t < summary->tasks; t++)
        changed = changed || summary->energy[t] > 0;
    summary->dense[0] = changed;
    summary->dense_bits[0] = changed ? packed_bits(of, of->layers[tensor]) : 0;
    memcpy(summary->unshared, summary->error, summary->tasks * sizeof(double));
}

int stored_shared_panels(stored *self, void (*fill)(void *context, const method_panel *panel),
                         void *context, didi_error *error)
{
    assert(self->count == 0 && !self->saved); /* it saves itself */
    work *of = self->work;
    layer_summary *summary = &of->summaries[self->tensor];
    size_t bytes = summary->tasks * sizeof(double);
    panels made;
    memset(summary->energy, 0, bytes);
    memset(summary->error, 0, bytes);
    int status = panels_create(self, &made, error);
    if (status == DIDI_OK)
        status = family_verify_unchanged(of->family, error);
    if (status == DIDI_OK)
        status = panels_begin(self, &made, error);
    for (uint64_t row = 0; row < made.tensor->rows && status == DIDI_OK; row += made.rows_at_once) {
        uint64_t rows = smaller(made.tensor->rows - row, made.rows_at_once);
        if (atomic_load(&of->cancelled))
            status = didi_fail(error, DIDI_CANCELLED, NULL, "cancelled");
        else
            status = take_panel(&made, row, rows, fill, context, error);
    }
    if (status == DIDI_OK)
        status = family_verify_unchanged(of->family, error);
    if (status == DIDI_OK)
        status = snapshot_writer_put(made.writer, made.energy, 0, summary->energy, bytes, error);
    if (status == DIDI_OK)
        status = snapshot_writer_put(made.writer, made.error, 0, summary->error, bytes, error);
    if (status == DIDI_OK) {
        status = snapshot_writer_close(made.writer, !of->options.volatile_work, error);
        made.writer = NULL;
    }
    if (status == DIDI_OK)
        set_parts(of, self->tensor);
    self->saved = true;
    panels_clear(&made);
    return status;
}

int stored_recall(work *of, size_t tensor, const char *name, didi_error *error)
{
    layer_summary *summary = &of->summaries[tensor];
    stored_array array = shared_array(of, tensor);
    const void *data = NULL;
    snapshot *from = NULL;
    int status = snapshot_open(of->options.work_fd, name, &from, error);
    if (status == DIDI_OK)
        status = kept_copy(from, KEPT_ENERGY, summary->energy, summary->tasks, error);
    if (status == DIDI_OK)
        status = kept_copy(from, KEPT_ERROR, summary->error, summary->tasks, error);
    if (status == DIDI_OK)
        status = stored_array_find(from, of->layers[tensor]->name, 0, &array, &data, error);
    if (status == DIDI_OK)
        set_parts(of, tensor);
    snapshot_close(from);
    return status;
}
