/* SPDX-License-Identifier: Apache-2.0 */
/* The arrays of a package's files, by ranks and widths. */
#include "src/package/layout.h"

#include "src/base/base.h"
#include "src/package/delta_codec.h"
#include "src/package/packed.h"
#include "src/package/picks.h"

#include <assert.h>
#include <stdlib.h>

/* ---- parts ---- */

static uint64_t factors_bytes(const stored_tensor *tensor, const size_t *components)
{
    uint64_t bytes = PACKED_FACTORS_HEADER_BYTES;
    for (size_t i = 0; i < PRECISION_WIDTHS; i++)
        if (components[i] > 0)
            bytes += PACKED_SEGMENT_BYTES +
                     components[i] * packed_component_bytes(tensor->rows, tensor->columns,
                                                            precision_width_bits[i]);
    return bytes;
}

static stored_array packed_array(const char *suffix, uint64_t bytes)
{
    return (stored_array){suffix, KEPT_PACKED, DIDI_DTYPE_U8, 1, bytes, 1, false};
}

static stored_array whole_array(const stored_tensor *tensor, const stored_part *part,
                                didi_precision precision)
{
    didi_dtype dtype = DIDI_DTYPE_U8;
    delta_codec codec = delta_codec_of(precision, tensor->columns, part->bits);
    const char *suffix = part->form == STORED_MASKED ? codec.masked_suffix : codec.suffix;
    if (!precision_is_plain(precision, &dtype))
        return packed_array(suffix, packed_dense_bytes(tensor->rows, tensor->columns, part->bits));
    return (stored_array){suffix,       KEPT_DELTA,      dtype, tensor->base->dimensions,
                          tensor->rows, tensor->columns, true};
}

static size_t factor_arrays(const stored_tensor *tensor, const stored_part *part, bool shared,
                            didi_precision precision, stored_array ret_arrays[STORED_ARRAYS_MAX])
{
    didi_dtype dtype = DIDI_DTYPE_U8;
    if (part->rank == 0)
        return 0;
    if (!precision_is_plain(precision, &dtype)) {
        ret_arrays[0] = packed_array(shared ? "shared_packed" : "expert_packed",
                                     factors_bytes(tensor, part->components));
        return 1;
    }
    ret_arrays[0] = (stored_array){
        shared ? "shared_B" : "expert_B", KEPT_B, dtype, 2, tensor->rows, part->rank, false};
    ret_arrays[1] = (stored_array){
        shared ? "shared_A" : "expert_A", KEPT_A, dtype, 2, part->rank, tensor->columns, false};
    return 2;
}

static size_t bit_arrays(const stored_tensor *tensor, stored_form form,
                         stored_array ret_arrays[STORED_ARRAYS_MAX])
{
    uint64_t bytes = bits_bytes(tensor->rows * tensor->columns);
    const char *suffix = form == STORED_SIGNS ? "expert_sign" : "expert_mask";
    ret_arrays[0] = (stored_array){suffix, KEPT_BITS, DIDI_DTYPE_U8, 1, bytes, 1, false};
    ret_arrays[1] = (stored_array){"expert_scale", KEPT_SCALE, DIDI_DTYPE_F32, 1, 1, 1, false};
    return form == STORED_MASK ? 1 : 2;
}

static didi_dtype places_dtype(const stored_tensor *tensor)
{
    return tensor->columns <= UINT16_MAX + 1 ? DIDI_DTYPE_U16 : DIDI_DTYPE_U32;
}

static size_t place_arrays(const stored_tensor *tensor, size_t entries, didi_precision precision,
                           stored_array ret_arrays[STORED_ARRAYS_MAX])
{
    ret_arrays[0] = (stored_array){
        "expert_columns", KEPT_COLUMNS, places_dtype(tensor), 2, tensor->rows, entries, false};
    ret_arrays[1] = (stored_array){
        "expert_values", KEPT_VALUES, precision_values_dtype(precision), 2, tensor->rows,
        entries,         false};
    return entries > 0 ? 2 : 0;
}

size_t stored_arrays(const stored_tensor *tensor, const stored_part *part, size_t file,
                     didi_precision precision, stored_array ret_arrays[STORED_ARRAYS_MAX])
{
    assert(file == 0 ? part->form <= STORED_MASKED : part->form != STORED_MASKED);
    switch (part->form) {
    case STORED_DELTA:
    case STORED_MASKED:
        ret_arrays[0] = whole_array(tensor, part, precision);
        return 1;
    case STORED_MASK:
    case STORED_SCALED_MASK:
    case STORED_SIGNS:
        return bit_arrays(tensor, part->form, ret_arrays);
    case STORED_PLACES:
        return place_arrays(tensor, part->entries, precision, ret_arrays);
    default:
        return factor_arrays(tensor, part, file == 0, precision, ret_arrays);
    }
}

bool stored_is_gathered(uint64_t rows, uint64_t columns, didi_precision precision)
{
    bool small = rows <= PACKED_DIMENSION_MAX && columns <= PACKED_DIMENSION_MAX &&
                 packed_dense_bytes(rows, columns, QUANTISE_BITS_MAX) >> GATHERED_LENGTH_BITS == 0;
    return small && precision == DIDI_PRECISION_AUTO;
}

int stored_array_find(const snapshot *from, const char *tensor, size_t file,
                      const stored_array *array, const void **ret_data, didi_error *error)
{
    char name[KEPT_NAME_BYTES];
    uint64_t rows = 0;
    kept_name(array->kept, file, name);
    int status = snapshot_find(from, name, array->dtype, array->columns, &rows, ret_data, error);
    if (status == DIDI_OK && rows != array->rows)
        status = didi_fail(error, DIDI_FORMAT, tensor, "layer state holds %llu rows of %llu",
                           (unsigned long long)rows, (unsigned long long)array->rows);
    return status;
}

uint64_t stored_factor_parameters(const stored_tensor *tensor, const stored_part *part)
{
    return part->form == STORED_FACTORS ? part->rank * (tensor->rows + tensor->columns) : 0;
}

uint64_t stored_delta_parameters(const stored_tensor *tensor, const stored_part *part)
{
    enum { WORD_BITS = 32 };
    uint64_t numbers = tensor->rows * tensor->columns;
    uint64_t entries = tensor->rows * part->entries;
    switch (part->form) {
    case STORED_DELTA:
    case STORED_MASKED:
        return numbers;
    case STORED_MASK:
        return (numbers + WORD_BITS - 1) / WORD_BITS;
    case STORED_SCALED_MASK:
    case STORED_SIGNS:
        return (numbers + WORD_BITS - 1) / WORD_BITS + 1;
    case STORED_PLACES:
        return entries +
               (entries * didi_dtype_bits(places_dtype(tensor)) + WORD_BITS - 1) / WORD_BITS;
    default:
        return 0;
    }
}

/* ---- tensors of one task alone ---- */

uint64_t stored_own_elements(const stored_own *own)
{
    uint64_t rows = own->source->dimensions > 0 ? own->source->shape[0] : 1;
    assert(own->rows_before < rows || own->rows_before == 0);
    return own->rows_before == 0 ? own->source->elements
                                 : own->source->elements / rows * (rows - own->rows_before);
}

didi_dtype stored_own_dtype(const stored_own *own, didi_precision precision)
{
    didi_dtype dtype = own->source->dtype;
    didi_dtype wanted = precision_values_dtype(precision);
    bool narrow = didi_dtype_bits(dtype) <= didi_dtype_bits(wanted);
    return narrow || !didi_dtype_is_float(dtype) ? dtype : wanted;
}

uint64_t stored_own_bytes(const stored_own *own, didi_precision precision)
{
    return (stored_own_elements(own) * didi_dtype_bits(stored_own_dtype(own, precision)) + 7) / 8;
}

const char *stored_own_suffix(const stored_own *own)
{
    return own->rows_before > 0 ? "own_rows" : "own";
}

const char *package_saying_key(package_saying what)
{
    static const char *const keys[] = {"prefix_added", "prefix_dropped", "lacks", "as_base",
                                       "own_same"};
    return keys[what];
}

/* ---- files ---- */

void package_layout_clear(package_layout *self)
{
    for (size_t i = 0; self->names != NULL && i < self->count; i++)
        free(self->names[i]);
    for (size_t i = 0; i < PACKAGE_SAYINGS; i++)
        free(self->sayings[i]);
    free(self->names);
    free(self->shapes);
    free(self->entries);
    free(self->gathered);
    *self = (package_layout){0};
}

int package_layout_create(size_t tensors, package_layout *ret_layout, didi_error *error)
{
    size_t room = STORED_ARRAYS_MAX * tensors;
    *ret_layout = (package_layout){.entries = memory_zeroed(room, sizeof(safetensors_layout_entry)),
                                   .shapes = memory_zeroed(room, sizeof(uint64_t[2])),
                                   .names = memory_zeroed(room, sizeof(char *)),
                                   .gathered = memory_zeroed(room, sizeof(bool)),
                                   .room = room};
    if (ret_layout->entries != NULL && ret_layout->shapes != NULL && ret_layout->names != NULL &&
        ret_layout->gathered != NULL)
        return DIDI_OK;
    package_layout_clear(ret_layout);
    return didi_fail(error, DIDI_NO_MEMORY, NULL, "layout of %zu tensors", room);
}

static bool has_trellis(const stored_part *part)
{
    bool found = false;
    for (size_t i = 0; i < PRECISION_WIDTHS && part->components != NULL; i++)
        found = found || (precision_width_bits[i] > PACKED_TRELLIS && part->components[i] > 0);
    return found && part->form == STORED_FACTORS;
}

int package_layout_add(package_layout *self, const stored_tensor *tensor, const stored_part *part,
                       size_t file, didi_precision precision, didi_error *error)
{
    stored_array arrays[STORED_ARRAYS_MAX];
    size_t count = stored_arrays(tensor, part, file, precision, arrays);
    assert(self->count + count <= self->room);
    self->picks = self->picks || (count > 0 && part->form >= STORED_MASKED);
    self->trellis = self->trellis || (count > 0 && has_trellis(part));
    for (size_t i = 0; i < count; i++) {
        const stored_array *from = &arrays[i];
        char *name = memory_format("%s.%s", tensor->base->name, from->suffix);
        if (name == NULL)
            return didi_fail(error, DIDI_NO_MEMORY, tensor->base->name, "name of a factor");
        uint64_t *shape = self->shapes[self->count];
        shape[0] = from->rows;
        shape[1] = from->columns;
        self->names[self->count] = name;
        self->gathered[self->count] = from->kept == KEPT_PACKED &&
                                      stored_is_gathered(tensor->rows, tensor->columns, precision);
        self->entries[self->count++] =
            (safetensors_layout_entry){name, from->dtype, from->dimensions,
                                       from->shaped_as_base ? tensor->base->shape : shape};
    }
    return DIDI_OK;
}

int package_layout_add_own(package_layout *self, const stored_own *own, didi_precision precision,
                           didi_error *error)
{
    assert(self->count < self->room);
    char *name = memory_format("%s.%s", own->name, stored_own_suffix(own));
    uint64_t *shape = self->shapes[self->count];
    if (name == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, own->name, "name of a tensor");
    if (own->rows_before > 0) {
        assert(own->source->dimensions == 2);
        shape[0] = own->source->shape[0] - own->rows_before;
        shape[1] = own->source->shape[1];
    }
    self->names[self->count] = name;
    self->entries[self->count++] =
        (safetensors_layout_entry){name, stored_own_dtype(own, precision), own->source->dimensions,
                                   own->rows_before > 0 ? shape : own->source->shape};
    self->owns = true;
    return DIDI_OK;
}

int package_layout_say(package_layout *self, package_saying what, const char *text,
                       didi_error *error)
{
    assert(self->sayings[what] == NULL);
    self->sayings[what] = memory_string(text);
    return self->sayings[what] != NULL
               ? DIDI_OK
               : didi_fail(error, DIDI_NO_MEMORY, NULL, "what a file says of names");
}

/* Format 2 has packed tensors, 3 what only one task has or says of names, 4 own tensors of which
 * two are one, 5 masks, signs and places, 6 trellis-coded rows or gathered tensors. */
safetensors_contents package_layout_contents(package_layout *self, didi_precision precision)
{
    size_t count = 2;
    bool third = self->owns;
    bool sixth = self->trellis;
    for (size_t i = 0; i < self->count; i++)
        sixth = sixth || self->gathered[i];
    for (size_t i = 0; i < PACKAGE_SAYINGS; i++) {
        if (self->sayings[i] == NULL)
            continue;
        self->metadata[count][0] = package_saying_key((package_saying)i);
        self->metadata[count++][1] = self->sayings[i];
        third = true;
    }
    self->metadata[0][0] = "format";
    self->metadata[0][1] = "didi";
    self->metadata[1][0] = "didi_format";
    self->metadata[1][1] = sixth                                     ? "6"
                           : self->picks                             ? "5"
                           : self->sayings[PACKAGE_OWN_SAME] != NULL ? "4"
                           : third                                   ? "3"
                           : precision_is_plain(precision, NULL)     ? "1"
                                                                     : "2";
    return (safetensors_contents){.entries = self->entries,
                                  .count = self->count,
                                  .metadata = self->metadata,
                                  .metadata_count = count,
                                  .gathered = self->gathered,
                                  .gathered_name = PACKAGE_GATHERED};
}

bool packing_add(didi_precision precision, json_t *dense_bits, json_t *manifest)
{
    if (precision_is_plain(precision, NULL)) {
        json_decref(dense_bits);
        return true;
    }
    json_t *packing = json_pack("{s:i,s:i}", "format", 1, "group", (int)QUANTISE_GROUP);
    int failed = json_object_set_new(manifest, "packing", packing);
    failed |= json_object_set_new(manifest, "dense_bits", dense_bits);
    return failed == 0;
}
