/* SPDX-License-Identifier: Apache-2.0 */
/* One panel at a time: what is shared as a reader gets it, then task after task. */
#include "src/methods/picked.h"

#include "src/base/base.h"
#include "src/math/math.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROOM = 1 << 16 }; /* numbers of a panel whose rows are shorter */

/* An array of the snapshot under way. */
typedef struct leaving {
    stored_array array;
    size_t file;
    char name[KEPT_NAME_BYTES];
} leaving;

typedef struct writing {
    work *work;
    size_t tensor;
    const family_tensor *of;
    layer_summary *summary;
    const picked_form *form;
    const picked_user *user;
    delta_codec codec;
    float *shared, *served, *own;
    uint8_t *encoded; /* a panel of numbers, bits or places as bytes */
    bool *picks;      /* T x count */
    bool **picked;    /* T: these */
    uint8_t *begun;   /* T: the byte of bits that the last panel began */
    snapshot_writer *writer;
    int status; /* of the panels so far */
    didi_error *error;
} writing;

/* ---- what is stored of a tensor ---- */

static stored_part part_of(const work *of, size_t tensor, const picked_form *form, size_t file)
{
    return (stored_part){.form = file == 0 ? form->shared : form->expert,
                         .bits = stored_width(of, tensor),
                         .entries = form->entries};
}

static size_t arrays_of(const work *of, size_t tensor, const picked_form *form, size_t file,
                        stored_array ret_arrays[STORED_ARRAYS_MAX])
{
    stored_tensor whole = stored_tensor_of(of->layers[tensor]);
    stored_part part = part_of(of, tensor, form, file);
    return stored_arrays(&whole, &part, file, of->options.precision, ret_arrays);
}

stored_size picked_size(const work *of, size_t tensor, const picked_form *form)
{
    enum { HEADER_BYTES = 160 }; /* of an array, its name aside */
    stored_tensor whole = stored_tensor_of(of->layers[tensor]);
    uint64_t names = memory_add(memory_multiply(strlen(of->layers[tensor]->name), 2), HEADER_BYTES);
    stored_size sum = {0, 0};
    for (size_t file = 0; file <= of->options.task_count; file++) {
        stored_array arrays[STORED_ARRAYS_MAX];
        stored_part part = part_of(of, tensor, form, file);
        size_t count = arrays_of(of, tensor, form, file, arrays);
        sum.parameters = memory_add(sum.parameters, stored_delta_parameters(&whole, &part));
        for (size_t i = 0; i < count; i++) {
            uint64_t bytes = memory_multiply(memory_multiply(arrays[i].rows, arrays[i].columns),
                                             didi_dtype_bits(arrays[i].dtype) / 8);
            sum.bytes = memory_add(sum.bytes, memory_add(bytes, names));
        }
    }
    return sum;
}

static uint64_t room_of(const family_tensor *tensor)
{
    return larger(tensor->columns, ROOM);
}

uint64_t picked_memory(const work *of, size_t tensor)
{
    enum { FLOATS = 4 }; /* three panels and one encoded */
    uint64_t each = memory_add(FLOATS * sizeof(float), of->options.task_count * sizeof(bool));
    return memory_add(stored_panels_memory(of, tensor),
                      memory_multiply(room_of(of->layers[tensor]), each));
}

/* Nothing is left for a task that the tensor did not change. */
static void set_parts(work *of, size_t tensor, const picked_form *form)
{
    layer_summary *summary = &of->summaries[tensor];
    unsigned width = stored_width(of, tensor);
    bool changed = false;
    for (size_t t = 0; t < summary->tasks; t++) {
        bool own = form->expert == STORED_PLACES ? family_has_vector(of->layers[tensor], t)
                                                 : summary->energy[t] > 0;
        changed = changed || summary->energy[t] > 0;
        summary->form[t + 1] = own ? form->expert : STORED_FACTORS;
        summary->entries[t + 1] = form->entries;
        summary->dense[t + 1] = own && form->expert == STORED_DELTA;
        summary->dense_bits[t + 1] = summary->dense[t + 1] ? width : 0;
    }
    summary->form[0] = changed ? form->shared : STORED_FACTORS;
    summary->dense[0] = changed && form->shared == STORED_DELTA;
    summary->dense_bits[0] = changed && form->shared != STORED_FACTORS ? width : 0;
}

int picked_recall(work *of, size_t tensor, const picked_form *form, didi_error *error)
{
    layer_summary *summary = &of->summaries[tensor];
    snapshot *from = NULL;
    char name[64];
    work_snapshot_name(of->stored, tensor, name);
    int status = stored_recall_errors(of, tensor, name, &from, error);
    if (status == DIDI_OK)
        status = kept_copy(from, KEPT_UNSHARED, summary->unshared, summary->tasks, error);
    for (size_t file = 0; file <= summary->tasks && status == DIDI_OK; file++) {
        stored_array arrays[STORED_ARRAYS_MAX];
        size_t count = arrays_of(of, tensor, form, file, arrays);
        for (size_t i = 0; i < count && status == DIDI_OK; i++) {
            const void *data = NULL;
            status =
                stored_array_find(from, of->layers[tensor]->name, file, &arrays[i], &data, error);
        }
    }
    if (status == DIDI_OK)
        set_parts(of, tensor, form);
    snapshot_close(from);
    return status;
}

/* ---- a snapshot under way ---- */

static int begin(writing *self, didi_error *error)
{
    size_t tasks = self->summary->tasks;
    size_t room = STORED_ARRAYS_MAX * (tasks + 1) + 3;
    snapshot_entry *entries = memory_zeroed(room, sizeof *entries);
    char(*names)[KEPT_NAME_BYTES] = memory_zeroed(room, KEPT_NAME_BYTES);
    size_t count = 0;
    char name[64];
    int status = entries != NULL && names != NULL
                     ? DIDI_OK
                     : didi_fail(error, DIDI_NO_MEMORY, self->of->name, "layer state");
    for (size_t file = 0; file <= tasks && status == DIDI_OK; file++) {
        stored_array arrays[STORED_ARRAYS_MAX];
        size_t found = arrays_of(self->work, self->tensor, self->form, file, arrays);
        for (size_t i = 0; i < found; i++, count++) {
            kept_name(arrays[i].kept, file, names[count]);
            entries[count] = (snapshot_entry){names[count], arrays[i].dtype, arrays[i].rows,
                                              arrays[i].columns, NULL};
        }
    }
    static const kept_array measured[] = {KEPT_ENERGY, KEPT_ERROR, KEPT_UNSHARED};
    for (size_t i = 0; i < 3 && status == DIDI_OK; i++, count++) {
        kept_name(measured[i], 0, names[count]);
        entries[count] = (snapshot_entry){names[count], kept_dtype(measured[i]), 1, tasks, NULL};
    }
    work_snapshot_name(self->work->stored, self->tensor, name);
    if (status == DIDI_OK)
        status = snapshot_writer_create(self->work->options.work_fd, name, entries, count,
                                        &self->writer, error);
    free(names);
    free(entries);
    return status;
}

static int put(writing *self, kept_array array, size_t file, uint64_t first, const void *bytes,
               uint64_t count)
{
    char name[KEPT_NAME_BYTES];
    kept_name(array, file, name);
    return snapshot_writer_put(self->writer, name, first, bytes, count, self->error);
}

static int end(writing *self, didi_error *error)
{
    const layer_summary *summary = self->summary;
    uint64_t bytes = summary->tasks * sizeof(double);
    int status = put(self, KEPT_ENERGY, 0, 0, summary->energy, bytes);
    if (status == DIDI_OK)
        status = put(self, KEPT_ERROR, 0, 0, summary->error, bytes);
    if (status == DIDI_OK)
        status = put(self, KEPT_UNSHARED, 0, 0, summary->unshared, bytes);
    if (status == DIDI_OK) {
        status = snapshot_writer_close(self->writer, !self->work->options.volatile_work, error);
        self->writer = NULL;
    }
    return status;
}

/* ---- parts of a panel ---- */

/* Numbers as they are stored, and then as a reader gets them. */
static int put_numbers(writing *self, const family_piece *piece, size_t file, float *values)
{
    const delta_codec *codec = &self->codec;
    kept_array array = codec->bits > 0 ? KEPT_PACKED : KEPT_DELTA;
    int status = work_check_range(piece, values, "float32", self->error);
    if (status != DIDI_OK)
        return status;
    delta_codec_encode(codec, values, piece->count, self->encoded);
    delta_codec_decode(codec, self->encoded, piece->count, values);
    status = work_check_range(piece, values, codec->stored_as, self->error);
    if (status == DIDI_OK && piece->first == 0 && codec->header_bytes > 0)
        status = put(self, array, file, 0, codec->header, codec->header_bytes);
    return status == DIDI_OK ? put(self, array, file, delta_codec_place(codec, piece->first),
                                   self->encoded, delta_codec_bytes(codec, piece->count))
                             : status;
}

/* A panel may end within a byte, which the next one goes on with. */
static int put_bits(writing *self, const family_piece *piece, size_t task)
{
    uint64_t first = piece->first / 8;
    uint64_t end = piece->first + piece->count;
    bool last = end == self->of->elements;
    memset(self->encoded, 0, bits_bytes(piece->count) + 2);
    self->encoded[0] = piece->first % 8 > 0 ? self->begun[task] : 0;
    for (uint64_t i = 0; i < piece->count; i++) {
        uint64_t at = piece->first % 8 + i;
        self->encoded[at / 8] |= (uint8_t)(self->picked[task][i] << at % 8);
    }
    uint64_t bytes = (last ? bits_bytes(end) : end / 8) - first;
    self->begun[task] = self->encoded[bytes];
    return put(self, KEPT_BITS, task + 1, first, self->encoded, bytes);
}

/* The numbers of the places, which `own` has already, in their order. */
static int put_places(writing *self, const family_piece *piece, size_t task)
{
    uint64_t columns = self->of->columns;
    uint64_t entries = self->form->entries;
    bool narrow = columns <= UINT16_MAX + 1;
    size_t size = narrow ? sizeof(uint16_t) : sizeof(uint32_t);
    uint64_t before = piece->first / columns * entries;
    uint64_t count = 0;
    for (uint64_t i = 0; i < piece->count; i++) {
        uint32_t wide = (uint32_t)(i % columns);
        uint16_t half = (uint16_t)wide;
        if (!self->picked[task][i])
            continue;
        memcpy(self->encoded + count * size, narrow ? (void *)&half : (void *)&wide, size);
        self->own[count++] = self->own[i];
    }
    assert(count == piece->count / columns * entries);
    int status = put(self, KEPT_COLUMNS, task + 1, before * size, self->encoded, count * size);
    didi_dtype dtype = precision_values_dtype(self->work->options.precision);
    size = didi_dtype_bits(dtype) / 8;
    didi_dtype_from_f32(dtype, self->own, self->encoded, count);
    return status == DIDI_OK
               ? put(self, KEPT_VALUES, task + 1, before * size, self->encoded, count * size)
               : status;
}

static float scale_of(const writing *self, size_t task)
{
    return self->user->scale != NULL ? self->user->scale[task] : 1;
}

/* Of a delta of the task's own, or of places: what they add, rounded, in `own`; served with it. */
static int serve_own(writing *self, const family_piece *piece, const float *tau, size_t task)
{
    bool places = self->form->expert == STORED_PLACES;
    float scale = places ? scale_of(self, task) : 1;
    for (uint64_t i = 0; i < piece->count; i++) {
        bool there = !places || self->picked[task][i];
        self->own[i] = there ? scale * tau[i] - self->served[i] : 0;
    }
    int status = DIDI_OK;
    if (places) {
        didi_dtype dtype = precision_values_dtype(self->work->options.precision);
        didi_dtype_from_f32(dtype, self->own, self->encoded, piece->count);
        didi_dtype_to_f32(dtype, self->encoded, self->own, piece->count);
        status = work_check_range(piece, self->own, didi_dtype_name(dtype), self->error);
    } else {
        status = put_numbers(self, piece, task + 1, self->own);
    }
    for (uint64_t i = 0; i < piece->count; i++)
        self->served[i] += self->own[i];
    return places && status == DIDI_OK ? put_places(self, piece, task) : status;
}

/* Stores what the expert has and leaves in `served` what a reader makes of it. */
static int serve(writing *self, const family_piece *piece, const float *tau, size_t task)
{
    float scale = scale_of(self, task);
    const bool *picked = self->picked[task];
    if (self->form->shared == STORED_DELTA)
        memcpy(self->served, self->shared, piece->count * sizeof *self->served);
    else
        memset(self->served, 0, piece->count * sizeof *self->served);
    switch (self->form->expert) {
    case STORED_MASK:
    case STORED_SCALED_MASK:
        for (uint64_t i = 0; i < piece->count; i++)
            self->served[i] = picked[i] ? scale * self->shared[i] : 0;
        return put_bits(self, piece, task);
    case STORED_SIGNS:
        for (uint64_t i = 0; i < piece->count; i++)
            self->served[i] += picked[i] ? scale : -scale;
        return put_bits(self, piece, task);
    case STORED_DELTA:
    case STORED_PLACES:
        return serve_own(self, piece, tau, task);
    default:
        return DIDI_OK;
    }
}

static int take_panel(writing *self, const method_panel *read)
{
    family_piece piece = {self->of, read->first, read->count};
    method_panel panel = *read;
    int status = DIDI_OK;
    panel.shared = self->shared;
    memset(self->shared, 0, read->count * sizeof *self->shared);
    memset(self->picks, 0, read->tasks * read->count * sizeof *self->picks);
    for (size_t t = 0; t < read->tasks; t++)
        self->picked[t] = self->picks + t * read->count;
    if (self->user->fill != NULL)
        self->user->fill(self->user->context, &panel, self->picked);
    if (self->form->shared != STORED_FACTORS)
        status = put_numbers(self, &piece, 0, self->shared);
    for (size_t t = 0; t < read->tasks && status == DIDI_OK; t++) {
        double energy = linalg_energy(read->tau[t], read->count);
        status = serve(self, &piece, read->tau[t], t);
        self->summary->energy[t] += energy;
        self->summary->error[t] += linalg_squared_distance(read->tau[t], self->served, read->count);
        self->summary->unshared[t] +=
            self->form->shared == STORED_DELTA
                ? linalg_squared_distance(read->tau[t], self->shared, read->count)
                : energy;
    }
    return status;
}

static void look(void *context, const method_panel *read)
{
    writing *self = context;
    if (self->status == DIDI_OK)
        self->status = take_panel(self, read);
}

/* ---- the whole ---- */

static int create(work *of, size_t tensor, writing *self, didi_error *error)
{
    const family_tensor *from = of->layers[tensor];
    size_t tasks = of->options.task_count;
    uint64_t room = room_of(from);
    self->work = of;
    self->tensor = tensor;
    self->of = from;
    self->summary = &of->summaries[tensor];
    self->error = error;
    self->codec = delta_codec_of(of->options.precision, from->columns, stored_width(of, tensor));
    self->shared = memory_aligned(room, sizeof(float));
    self->served = memory_aligned(room, sizeof(float));
    self->own = memory_aligned(room, sizeof(float));
    self->encoded = memory_aligned(room, sizeof(float));
    self->picks = memory_aligned(room, tasks * sizeof *self->picks);
    self->picked = memory_zeroed(tasks, sizeof *self->picked);
    self->begun = memory_zeroed(tasks, 1);
    bool whole = self->shared != NULL && self->served != NULL && self->own != NULL &&
                 self->encoded != NULL && self->picks != NULL && self->picked != NULL &&
                 self->begun != NULL;
    return whole ? DIDI_OK
                 : didi_fail(error, DIDI_NO_MEMORY, from->name, "panels of %zu experts", tasks);
}

static void clear(writing *self)
{
    free(self->shared);
    free(self->served);
    free(self->own);
    free(self->encoded);
    free(self->picks);
    free(self->picked);
    free(self->begun);
    snapshot_writer_abort(self->writer);
}

static int put_scales(writing *self)
{
    bool scaled = self->form->expert == STORED_SCALED_MASK || self->form->expert == STORED_SIGNS;
    int status = DIDI_OK;
    for (size_t t = 0; t < self->summary->tasks && scaled && status == DIDI_OK; t++) {
        float scale = scale_of(self, t);
        status = isfinite(scale) ? put(self, KEPT_SCALE, t + 1, 0, &scale, sizeof scale)
                                 : didi_fail(self->error, DIDI_NUMERIC, self->of->name,
                                             "the scale of task %zu is not finite", t);
    }
    return status;
}

int picked_store(stored *out, work *of, size_t tensor, const picked_form *form,
                 const picked_user *user, didi_error *error)
{
    writing self = {.form = form, .user = user};
    int status = create(of, tensor, &self, error);
    size_t bytes = of->options.task_count * sizeof(double);
    memset(self.summary->energy, 0, bytes);
    memset(self.summary->error, 0, bytes);
    memset(self.summary->unshared, 0, bytes);
    if (status == DIDI_OK)
        status = begin(&self, error);
    if (status == DIDI_OK)
        status = put_scales(&self);
    if (status == DIDI_OK)
        status = stored_look_at_panels(out, look, &self, error);
    if (status == DIDI_OK)
        status = self.status;
    if (status == DIDI_OK)
        status = end(&self, error);
    if (status == DIDI_OK)
        set_parts(of, tensor, form);
    clear(&self);
    return status;
}
