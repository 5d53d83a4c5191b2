/* SPDX-License-Identifier: Apache-2.0 */
/* What one file of a package adds to a tensor, and its manifest read back. */
#include "src/package/reader.h"

#include "src/base/base.h"
#include "src/files/files.h"
#include "src/math/math.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    TASK_NAME_BYTES_MAX = 128,
    MANIFEST_BYTES_MAX = 256 << 20,
    BLOCK_ROWS = 16, /* added up at once; fixes results */
    FORMAT_SAME = 4, /* has own tensors of which two are one */
    FORMAT_PICKS = 5,
    FORMAT_GATHERED = 6, /* small tensors in one; trellis-coded rows */
    FORMAT_NEWEST = FORMAT_GATHERED,
};

/* An own tensor that is not there, because another one is the same. */
typedef struct same_own {
    const char *name;
    const safetensors_tensor *other;
} same_own;

struct package_file {
    int fd;
    safetensors_header *header;
    gathered *gathered;
    json_t *same_names; /* owns the names of: */
    same_own *same;     /* by name */
    size_t same_count;
    bool shared;
    int format;
    char name[TASK_NAME_BYTES_MAX + 32];
};

/* Without a word of it the format is the first. */
static int read_format(package_file *self, didi_error *error)
{
    const char *format = safetensors_header_metadata(self->header, "didi_format");
    self->format = format == NULL ? 1 : format[0] - '0';
    if (format == NULL || (self->format >= 1 && self->format <= FORMAT_NEWEST && format[1] == '\0'))
        return DIDI_OK;
    return didi_fail(error, DIDI_FORMAT, self->name, "its format %.64s is not 1, 2, 3, 4, 5 or 6",
                     format);
}

static int read_gathered(package_file *self, didi_error *error)
{
    const safetensors_tensor *parts = safetensors_header_find(self->header, PACKAGE_GATHERED);
    if (parts == NULL)
        return DIDI_OK;
    if (self->format < FORMAT_GATHERED)
        return didi_fail(error, DIDI_FORMAT, self->name, "gathered tensors are not of format %d",
                         self->format);
    return gathered_open(self->fd, self->name, parts, &self->gathered, error);
}

/* ---- own tensors of which two are one ---- */

/* NULL unless it is the name of an own tensor in a file. */
static const char *own_suffix(const char *name)
{
    const char *dot = strrchr(name, '.');
    bool own =
        dot != NULL && dot != name && (strcmp(dot, ".own") == 0 || strcmp(dot, ".own_rows") == 0);
    size_t bytes = strlen(name);
    bool possible = bytes <= SAFETENSORS_NAME_BYTES_MAX && !text_has_control(name, bytes);
    return own && possible ? dot : NULL;
}

static int read_same(const package_file *self, const char *name, const char *other, same_own *out,
                     didi_error *error)
{
    const char *suffix = own_suffix(name);
    const char *other_suffix = other != NULL ? own_suffix(other) : NULL;
    if (suffix == NULL || other_suffix == NULL || strcmp(suffix, other_suffix) != 0)
        return didi_fail(error, DIDI_FORMAT, self->name,
                         "own_same names '%.128s', which is not an own tensor like its other",
                         suffix == NULL || other == NULL ? name : other);
    if (safetensors_header_find(self->header, name) != NULL)
        return didi_fail(error, DIDI_FORMAT, self->name,
                         "own_same names '%.128s' as the same as another, and it is there", name);
    *out = (same_own){name, safetensors_header_find(self->header, other)};
    return out->other != NULL
               ? DIDI_OK
               : didi_fail(error, DIDI_FORMAT, self->name,
                           "own_same says '%.128s' is '%.128s', which is not there", name, other);
}

static int compare_same(const void *a, const void *b)
{
    return strcmp(((const same_own *)a)->name, ((const same_own *)b)->name);
}

static int read_all_same(package_file *self, didi_error *error)
{
    const char *text = safetensors_header_metadata(self->header, "own_same");
    const char *name = NULL;
    json_t *other = NULL;
    bool refused = false;
    if (text == NULL)
        return DIDI_OK;
    if (self->shared || self->format < FORMAT_SAME)
        return didi_fail(error, DIDI_FORMAT, self->name, "own_same belongs to experts of format 4");
    self->same_names = json_load(text, strlen(text), JSON_REJECT_DUPLICATES, NULL, &refused);
    if (refused)
        return didi_fail(error, DIDI_NO_MEMORY, self->name, "own_same");
    if (!json_is_object(self->same_names))
        return didi_fail(error, DIDI_FORMAT, self->name,
                         "own_same does not say which tensor is which");
    self->same = memory_zeroed(json_object_size(self->same_names), sizeof *self->same);
    if (self->same == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, self->name, "own_same");
    json_object_foreach(self->same_names, name, other)
    {
        int status =
            read_same(self, name, json_string_value(other), &self->same[self->same_count++], error);
        if (status != DIDI_OK)
            return status;
    }
    if (self->same_count > 0)
        qsort(self->same, self->same_count, sizeof *self->same, compare_same);
    return DIDI_OK;
}

const safetensors_tensor *package_file_own(const package_file *file, const char *name)
{
    const same_own key = {.name = name};
    const same_own *same =
        file->same_count > 0 ? bsearch(&key, file->same, file->same_count, sizeof key, compare_same)
                             : NULL;
    return same != NULL ? same->other : safetensors_header_find(file->header, name);
}

size_t package_file_same_count(const package_file *file)
{
    return file->same_count;
}

const char *package_file_same_at(const package_file *file, size_t index)
{
    assert(index < file->same_count);
    return file->same[index].name;
}

/* ---- a file ---- */

int package_file_open(int package_fd, const char *task, package_file **ret_file, didi_error *error)
{
    size_t length = task != NULL ? strlen(task) : 1;
    if (task != NULL && (length == 0 || length > TASK_NAME_BYTES_MAX || task[0] == '.' ||
                         strchr(task, '/') != NULL))
        return didi_fail(error, DIDI_NOT_FOUND, task, "no such task");
    package_file *self = memory_zeroed(1, sizeof *self);
    if (self == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, task, "artifact file");
    self->shared = task == NULL;
    (void)snprintf(self->name, sizeof self->name, "%s%s.safetensors", task ? "experts/" : "",
                   task ? task : "shared");
    self->fd = openat(package_fd, self->name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    int status = DIDI_OK;
    if (self->fd < 0)
        status = didi_fail_errno(error, errno, self->name, "artifact file");
    else
        status = safetensors_header_read(self->fd, self->name, &self->header, error);
    if (status == DIDI_OK)
        status = read_format(self, error);
    if (status == DIDI_OK)
        status = read_all_same(self, error);
    if (status == DIDI_OK)
        status = read_gathered(self, error);
    if (status != DIDI_OK)
        package_file_close(self);
    else
        *ret_file = self;
    return status;
}

void package_file_close(package_file *file)
{
    if (file == NULL)
        return;
    free(file->same);
    json_decref(file->same_names);
    gathered_free(file->gathered);
    safetensors_header_free(file->header);
    file_close(file->fd);
    free(file);
}

const char *package_file_name(const package_file *file)
{
    return file->name;
}

const safetensors_header *package_file_header(const package_file *file)
{
    return file->header;
}

const char *package_file_says(const package_file *file, package_saying what)
{
    return safetensors_header_metadata(file->header, package_saying_key(what));
}

int package_file_read_bytes(const package_file *file, const safetensors_tensor *from,
                            uint64_t first, void *buffer, uint64_t count, didi_error *error)
{
    assert(first <= from->bytes && count <= from->bytes - first);
    return file_pread_all(file->fd, buffer, count, from->offset + first, file->name, error);
}

/* Where "tensor.prefix_suffix", or "tensor.suffix" without a prefix, is; NULL if absent. */
static int find(const package_file *file, const char *tensor, const char *prefix,
                const char *suffix, const safetensors_tensor **ret_found, didi_error *error)
{
    char *name = memory_format("%s.%s%s", tensor, prefix, suffix);
    if (name == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, tensor, "name of a factor");
    *ret_found = safetensors_header_find(file->header, name);
    if (*ret_found == NULL)
        *ret_found = gathered_find(file->gathered, name);
    free(name);
    return DIDI_OK;
}

static int read_bytes(const package_file *file, const safetensors_tensor *from, uint8_t **ret_bytes,
                      didi_error *error)
{
    uint8_t *bytes = memory_aligned(from->bytes, 1);
    if (bytes == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, from->name, "%llu bytes",
                         (unsigned long long)from->bytes);
    int status = file_pread_all(file->fd, bytes, from->bytes, from->offset, file->name, error);
    if (status != DIDI_OK)
        free(bytes);
    else
        *ret_bytes = bytes;
    return status;
}

static int read_plain(const package_file *file, const safetensors_tensor *from, float **ret_values,
                      didi_error *error)
{
    if (!didi_dtype_is_float(from->dtype))
        return didi_fail(error, DIDI_FORMAT, from->name, "factor has dtype %s",
                         didi_dtype_name(from->dtype));
    uint8_t *raw = NULL;
    int status = read_bytes(file, from, &raw, error);
    if (status != DIDI_OK)
        return status;
    float *values = memory_aligned(from->elements, sizeof *values);
    if (values == NULL)
        status = didi_fail(error, DIDI_NO_MEMORY, from->name, "%llu numbers",
                           (unsigned long long)from->elements);
    else
        didi_dtype_to_f32(from->dtype, raw, values, from->elements);
    free(raw);
    *ret_values = values;
    return status;
}

/* The factors and the delta that are stored plainly, or NULL; shapes are checked. */
static int find_factors(const package_file *file, const char *tensor, const char *prefix,
                        const addition *shape, const safetensors_tensor *ret_sides[2],
                        didi_error *error)
{
    const safetensors_tensor *left = NULL;
    const safetensors_tensor *right = NULL;
    int status = find(file, tensor, prefix, "B", &left, error);
    if (status == DIDI_OK)
        status = find(file, tensor, prefix, "A", &right, error);
    if (status != DIDI_OK)
        return status;
    ret_sides[0] = left;
    ret_sides[1] = right;
    if (left == NULL && right == NULL)
        return DIDI_OK;
    if (left == NULL || right == NULL || left->dimensions != 2 || right->dimensions != 2 ||
        left->shape[0] != shape->rows || right->shape[1] != shape->columns ||
        left->shape[1] != right->shape[0])
        return didi_fail(error, DIDI_MISMATCH, tensor, "factors in %s do not fit the base's tensor",
                         file->name);
    return DIDI_OK;
}

/* All numbers of the tensor, `suffix` "delta" or "masked". */
static int find_whole(const package_file *file, const char *tensor, const char *suffix,
                      const addition *shape, const safetensors_tensor **ret_found,
                      didi_error *error)
{
    const safetensors_tensor *found = NULL;
    int status = find(file, tensor, "", suffix, &found, error);
    if (status != DIDI_OK)
        return status;
    *ret_found = found;
    if (found != NULL &&
        (found->elements / shape->columns != shape->rows || found->elements % shape->columns != 0))
        return didi_fail(error, DIDI_MISMATCH, tensor, "%s %s in %s does not fit the base's",
                         suffix[0] == 'd' ? "the" : "what is", suffix, file->name);
    return DIDI_OK;
}

static int read_factors(const package_file *file, const char *tensor, const char *prefix,
                        addition *out, didi_error *error)
{
    const safetensors_tensor *sides[2] = {NULL, NULL};
    int status = find_factors(file, tensor, prefix, out, sides, error);
    if (status != DIDI_OK || sides[0] == NULL)
        return status;
    out->rank = sides[0]->shape[1];
    if (out->rank > 0)
        status = read_plain(file, sides[0], &out->left, error);
    if (status == DIDI_OK && out->rank > 0)
        status = read_plain(file, sides[1], &out->right, error);
    return status;
}

static int read_delta(const package_file *file, const char *tensor, addition *out,
                      didi_error *error)
{
    const safetensors_tensor *found = NULL;
    int status = find_whole(file, tensor, "delta", out, &found, error);
    return status == DIDI_OK && found != NULL ? read_plain(file, found, &out->delta, error)
                                              : status;
}

static int read_packed(const package_file *file, const char *tensor, const char *prefix,
                       const addition *shape, uint8_t **ret_bytes, packed *ret_packed,
                       didi_error *error)
{
    const safetensors_tensor *found = NULL;
    int status = find(file, tensor, prefix, "packed", &found, error);
    if (status != DIDI_OK || found == NULL)
        return status;
    if (found->dtype != DIDI_DTYPE_U8)
        return didi_fail(error, DIDI_FORMAT, found->name, "packed bytes have dtype %s",
                         didi_dtype_name(found->dtype));
    status = read_bytes(file, found, ret_bytes, error);
    if (status == DIDI_OK)
        status = packed_parse(*ret_bytes, found->bytes, shape->rows, shape->columns, tensor,
                              ret_packed, error);
    return status;
}

static int read_all_packed(const package_file *file, const char *tensor, addition *out,
                           didi_error *error)
{
    const char *prefix = file->shared ? "shared_" : "expert_";
    int status = read_packed(file, tensor, prefix, out, &out->factor_bytes, &out->factors, error);
    if (status == DIDI_OK)
        status = read_packed(file, tensor, "delta_", out, &out->delta_bytes, &out->dense, error);
    return status;
}

/* ---- what an expert picks ---- */

/* A part of format 5; NULL if absent. Others of its name are refused in files of other formats. */
static int find_picked(const package_file *file, const char *tensor, const char *suffix,
                       const safetensors_tensor **ret_found, didi_error *error)
{
    int status = find(file, tensor, "", suffix, ret_found, error);
    if (status == DIDI_OK && *ret_found != NULL && file->format < FORMAT_PICKS)
        status =
            didi_fail(error, DIDI_FORMAT, (*ret_found)->name, "%s is not of format 5", file->name);
    return status;
}

static int read_bits(const package_file *file, const char *tensor, const char *suffix,
                     const addition *shape, uint8_t **ret_bits, didi_error *error)
{
    const safetensors_tensor *found = NULL;
    uint8_t *bits = NULL;
    int status = find_picked(file, tensor, suffix, &found, error);
    if (status != DIDI_OK || found == NULL)
        return status;
    if (found->dtype != DIDI_DTYPE_U8)
        return didi_fail(error, DIDI_FORMAT, found->name, "bits have dtype %s",
                         didi_dtype_name(found->dtype));
    uint64_t count = shape->rows * shape->columns;
    if (found->bytes == bits_bytes(count))
        status = read_bytes(file, found, &bits, error);
    if (status == DIDI_OK)
        status = bits_check(bits, found->bytes, count, found->name, error);
    if (status != DIDI_OK)
        free(bits);
    else
        *ret_bits = bits;
    return status;
}

static int read_scale(const package_file *file, const char *tensor, picks *out, didi_error *error)
{
    const safetensors_tensor *found = NULL;
    int status = find_picked(file, tensor, "expert_scale", &found, error);
    out->scale = 1;
    if (status != DIDI_OK)
        return status;
    if (found == NULL)
        return out->signs == NULL ? DIDI_OK
                                  : didi_fail(error, DIDI_FORMAT, tensor,
                                              "%s has signs without their scale", file->name);
    if (found->dtype != DIDI_DTYPE_F32 || found->elements != 1 ||
        (out->mask == NULL && out->signs == NULL))
        return didi_fail(error, DIDI_FORMAT, found->name, "the scale in %s is not one of bits",
                         file->name);
    status = package_file_read_bytes(file, found, 0, &out->scale, sizeof out->scale, error);
    if (status == DIDI_OK && !isfinite(out->scale))
        status =
            didi_fail(error, DIDI_FORMAT, found->name, "the scale in %s is not finite", file->name);
    return status;
}

static int read_columns(const package_file *file, const safetensors_tensor *from, picks *out,
                        didi_error *error)
{
    uint8_t *raw = NULL;
    int status = read_bytes(file, from, &raw, error);
    if (status != DIDI_OK)
        return status;
    out->places = memory_aligned(from->elements, sizeof *out->places);
    if (out->places == NULL) {
        free(raw);
        return didi_fail(error, DIDI_NO_MEMORY, from->name, "%llu columns",
                         (unsigned long long)from->elements);
    }
    for (uint64_t i = 0; i < from->elements; i++)
        if (from->dtype == DIDI_DTYPE_U16) {
            uint16_t narrow = 0;
            memcpy(&narrow, raw + i * sizeof narrow, sizeof narrow);
            out->places[i] = narrow;
        } else {
            memcpy(&out->places[i], raw + i * sizeof *out->places, sizeof *out->places);
        }
    free(raw);
    return places_check(out->places, out->rows, out->entries, out->columns, from->name, error);
}

static int find_places(const package_file *file, const char *tensor, const addition *shape,
                       const safetensors_tensor *ret_sides[2], didi_error *error)
{
    const safetensors_tensor *places = NULL;
    const safetensors_tensor *values = NULL;
    int status = find_picked(file, tensor, "expert_columns", &places, error);
    if (status == DIDI_OK)
        status = find_picked(file, tensor, "expert_values", &values, error);
    if (status != DIDI_OK)
        return status;
    ret_sides[0] = places;
    ret_sides[1] = values;
    if (places == NULL && values == NULL)
        return DIDI_OK;
    if (places == NULL || values == NULL || places->dimensions != 2 || values->dimensions != 2 ||
        (places->dtype != DIDI_DTYPE_U16 && places->dtype != DIDI_DTYPE_U32) ||
        places->shape[0] != shape->rows || values->shape[0] != shape->rows ||
        places->shape[1] != values->shape[1] || places->shape[1] > shape->columns)
        return didi_fail(error, DIDI_MISMATCH, tensor, "places in %s do not fit the base's tensor",
                         file->name);
    return DIDI_OK;
}

static int read_places(const package_file *file, const char *tensor, addition *out,
                       didi_error *error)
{
    const safetensors_tensor *sides[2] = {NULL, NULL};
    int status = find_places(file, tensor, out, sides, error);
    if (status != DIDI_OK || sides[0] == NULL || sides[0]->elements == 0)
        return status;
    out->picks.entries = sides[0]->shape[1];
    status = read_columns(file, sides[0], &out->picks, error);
    return status == DIDI_OK ? read_plain(file, sides[1], &out->picks.values, error) : status;
}

static int read_picks(const package_file *file, const char *tensor, addition *out,
                      didi_error *error)
{
    picks *found = &out->picks;
    found->rows = out->rows;
    found->columns = out->columns;
    if (file->shared)
        return DIDI_OK;
    int status = read_bits(file, tensor, "expert_mask", out, &found->mask, error);
    if (status == DIDI_OK)
        status = read_bits(file, tensor, "expert_sign", out, &found->signs, error);
    if (status == DIDI_OK && found->mask != NULL && found->signs != NULL)
        status = didi_fail(error, DIDI_FORMAT, tensor, "%s has a mask and signs", file->name);
    if (status == DIDI_OK)
        status = read_scale(file, tensor, found, error);
    return status == DIDI_OK ? read_places(file, tensor, out, error) : status;
}

/* What the masks of all experts are over: plain, or packed, or both NULL. */
static int find_masked(const package_file *file, const char *tensor, const addition *shape,
                       const safetensors_tensor *ret_found[2], didi_error *error)
{
    int status = find_picked(file, tensor, "masked", &ret_found[0], error);
    if (status == DIDI_OK)
        status = find_picked(file, tensor, "masked_packed", &ret_found[1], error);
    if (status == DIDI_OK && ret_found[0] != NULL && ret_found[1] != NULL)
        status =
            didi_fail(error, DIDI_FORMAT, tensor, "%s has two tensors under masks", file->name);
    return status == DIDI_OK ? find_whole(file, tensor, "masked", shape, &ret_found[0], error)
                             : status;
}

static int read_masked(const package_file *file, const char *tensor, addition *out,
                       didi_error *error)
{
    const safetensors_tensor *found[2] = {NULL, NULL};
    int status = find_masked(file, tensor, out, found, error);
    if (status != DIDI_OK)
        return status;
    if (found[0] != NULL)
        return read_plain(file, found[0], &out->picks.masked, error);
    if (found[1] == NULL)
        return didi_fail(error, DIDI_FORMAT, tensor,
                         "a mask over nothing: %s has not what is "
                         "masked",
                         file->name);
    return read_packed(file, tensor, "masked_", out, &out->picks.masked_bytes,
                       &out->picks.masked_packed, error);
}

/* ---- all of it ---- */

int package_file_read(const package_file *file, const char *tensor, uint64_t rows, uint64_t columns,
                      addition *ret_addition, didi_error *error)
{
    assert(rows > 0 && columns > 0);
    addition self = {.rows = rows, .columns = columns};
    int status = read_factors(file, tensor, file->shared ? "shared_" : "expert_", &self, error);
    if (status == DIDI_OK)
        status = read_delta(file, tensor, &self, error);
    if (status == DIDI_OK)
        status = read_all_packed(file, tensor, &self, error);
    if (status == DIDI_OK)
        status = read_picks(file, tensor, &self, error);
    if (status != DIDI_OK)
        addition_clear(&self);
    else
        *ret_addition = self;
    return status;
}

int package_files_read(const package_file *const files[2], const char *tensor, uint64_t rows,
                       uint64_t columns, addition ret_additions[2], didi_error *error)
{
    addition found[2] = {{0}, {0}};
    int status = package_file_read(files[0], tensor, rows, columns, &found[0], error);
    if (status == DIDI_OK)
        status = package_file_read(files[1], tensor, rows, columns, &found[1], error);
    if (status == DIDI_OK && found[1].picks.mask != NULL)
        status = read_masked(files[0], tensor, &found[1], error);
    for (size_t i = 0; i < 2; i++)
        if (status != DIDI_OK)
            addition_clear(&found[i]);
        else
            ret_additions[i] = found[i];
    return status;
}

/* Adds to the form what an expert picks, or what experts may. */
static int picks_form(const package_file *file, const char *tensor, addition *self,
                      addition_form *form, didi_error *error)
{
    const safetensors_tensor *sides[2] = {NULL, NULL};
    int status = read_picks(file, tensor, self, error);
    if (status == DIDI_OK)
        status = file->shared ? find_masked(file, tensor, self, sides, error)
                              : find_places(file, tensor, self, sides, error);
    if (status != DIDI_OK)
        return status;
    const safetensors_tensor *plain = file->shared ? sides[0] : sides[1];
    form->delta = form->delta || !picks_are_empty(&self->picks);
    form->packed = form->packed || self->picks.signs != NULL || (file->shared && sides[1] != NULL);
    if (plain != NULL && form->dtype == DIDI_DTYPE_BOOL)
        form->dtype = plain->dtype;
    return DIDI_OK;
}

int package_file_form(const package_file *file, const char *tensor, uint64_t rows, uint64_t columns,
                      addition_form *ret_form, didi_error *error)
{
    assert(rows > 0 && columns > 0);
    const char *prefix = file->shared ? "shared_" : "expert_";
    addition self = {.rows = rows, .columns = columns};
    addition_form form = {.dtype = DIDI_DTYPE_BOOL};
    const safetensors_tensor *sides[2] = {NULL, NULL};
    const safetensors_tensor *delta = NULL;
    int status = find_factors(file, tensor, prefix, &self, sides, error);
    if (status == DIDI_OK)
        status = find_whole(file, tensor, "delta", &self, &delta, error);
    if (status == DIDI_OK)
        status = read_all_packed(file, tensor, &self, error);
    if (status == DIDI_OK) {
        const safetensors_tensor *plain = sides[0] != NULL ? sides[0] : delta;
        form.rank = sides[0] != NULL ? sides[0]->shape[1] : 0;
        form.rank += self.factor_bytes != NULL ? self.factors.rank : 0;
        form.delta = delta != NULL || self.delta_bytes != NULL;
        form.packed = self.factor_bytes != NULL || self.delta_bytes != NULL;
        form.dtype = plain != NULL ? plain->dtype : DIDI_DTYPE_BOOL;
        status = picks_form(file, tensor, &self, &form, error);
    }
    if (status == DIDI_OK)
        *ret_form = form;
    addition_clear(&self);
    return status;
}

bool addition_is_empty(const addition *self)
{
    return self->left == NULL && self->delta == NULL && self->factor_bytes == NULL &&
           self->delta_bytes == NULL && picks_are_empty(&self->picks);
}

int addition_apply(const addition *self, uint64_t first, uint64_t rows, float *out,
                   didi_error *error)
{
    assert(first <= self->rows && rows <= self->rows - first);
    if (self->left != NULL)
        linalg_gemm(false, false, rows, self->columns, self->rank, 1.0F,
                    self->left + first * self->rank, self->rank, self->right, self->columns, 1.0F,
                    out, self->columns);
    for (uint64_t i = 0; self->delta != NULL && i < rows * self->columns; i++)
        out[i] += self->delta[first * self->columns + i];
    int status = DIDI_OK;
    if (self->factor_bytes != NULL)
        status = packed_add(&self->factors, first, rows, out, error);
    if (status == DIDI_OK && self->delta_bytes != NULL)
        status = packed_add(&self->dense, first, rows, out, error);
    if (status == DIDI_OK && !picks_are_empty(&self->picks))
        status = picks_add(&self->picks, first, rows, out, error);
    return status;
}

/* Whole blocks of rows are added up, whatever is asked for: so no bit depends on the piece. */
int addition_subtract(const addition *self, uint64_t first, uint64_t count, float *values,
                      didi_error *error)
{
    assert(first <= self->rows * self->columns && count <= self->rows * self->columns - first);
    uint64_t end = first + count;
    float *block = memory_aligned(BLOCK_ROWS, self->columns * sizeof *block);
    if (block == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "rows of %llu columns",
                         (unsigned long long)self->columns);
    int status = DIDI_OK;
    for (uint64_t row = first / self->columns / BLOCK_ROWS * BLOCK_ROWS;
         row * self->columns < end && status == DIDI_OK; row += BLOCK_ROWS) {
        uint64_t height = self->rows - row < BLOCK_ROWS ? self->rows - row : BLOCK_ROWS;
        uint64_t start = row * self->columns;
        uint64_t stop = start + height * self->columns;
        memset(block, 0, height * self->columns * sizeof *block);
        status = addition_apply(self, row, height, block, error);
        for (uint64_t i = start > first ? start : first; i < (stop < end ? stop : end); i++)
            values[i - first] -= block[i - start];
    }
    free(block);
    return status;
}

int addition_unpack(addition *self, didi_error *error)
{
    assert(self->rank == 0 || (self->left != NULL && self->right != NULL));
    if (self->factor_bytes == NULL)
        return DIDI_OK;
    uint64_t rank = self->rank + self->factors.rank;
    float *left = memory_aligned(rank, self->rows * sizeof *left);
    float *right = memory_aligned(rank, self->columns * sizeof *right);
    float *column = memory_aligned(self->rows, sizeof *column);
    if (left == NULL || right == NULL || column == NULL) {
        free(left);
        free(right);
        free(column);
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "factors of rank %llu",
                         (unsigned long long)rank);
    }
    for (uint64_t i = 0; i < self->rows; i++)
        for (uint64_t k = 0; k < self->rank; k++)
            left[i * rank + k] = self->left[i * self->rank + k];
    if (self->rank > 0)
        memcpy(right, self->right, self->rank * self->columns * sizeof *right);
    for (uint64_t k = self->rank; k < rank; k++) {
        packed_left(&self->factors, k - self->rank, column);
        packed_right(&self->factors, k - self->rank, right + k * self->columns);
        for (uint64_t i = 0; i < self->rows; i++)
            left[i * rank + k] = column[i];
    }
    free(column);
    free(self->left);
    free(self->right);
    free(self->factor_bytes);
    self->left = left;
    self->right = right;
    self->rank = rank;
    self->factor_bytes = NULL;
    return DIDI_OK;
}

void addition_clear(addition *self)
{
    free(self->left);
    free(self->right);
    free(self->delta);
    free(self->factor_bytes);
    free(self->delta_bytes);
    picks_clear(&self->picks);
    *self = (addition){0};
}

/* ---- manifests ---- */

int manifest_file_read(int package_fd, json_t **ret_manifest, didi_error *error)
{
    char *text = NULL;
    size_t bytes = 0;
    int status =
        file_read_text(package_fd, "manifest.json", MANIFEST_BYTES_MAX, &text, &bytes, error);
    if (status != DIDI_OK)
        return status;
    bool refused = false;
    json_t *manifest = json_load(text, bytes, JSON_REJECT_DUPLICATES, NULL, &refused);
    free(text);
    if (refused)
        return didi_fail(error, DIDI_NO_MEMORY, "manifest.json", "manifest of %zu bytes", bytes);
    if (!json_is_object(manifest)) {
        json_decref(manifest);
        return didi_fail(error, DIDI_FORMAT, "manifest.json", "the manifest is not a JSON object");
    }
    *ret_manifest = manifest;
    return DIDI_OK;
}

json_t *manifest_file_row(const json_t *rows, const char *key, const char *value)
{
    assert(key != NULL);
    for (size_t i = 0; value != NULL && i < json_array_size(rows); i++) {
        json_t *row = json_array_get(rows, i);
        const char *found = json_string_value(json_object_get(row, key));
        if (found != NULL && strcmp(found, value) == 0)
            return row;
    }
    return NULL;
}

const json_t *manifest_file_base(const json_t *manifest)
{
    const json_t *base = json_object_get(json_object_get(manifest, "inputs"), "base");
    const json_t *files = json_object_get(base, "files");
    return json_is_array(files) ? files : NULL;
}

static double figure(const json_t *section, const char *key)
{
    const json_t *value = json_object_get(section, key);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

int didi_package_measure(int artifact_fd, didi_package_figures *ret_figures, didi_error *error)
{
    json_t *manifest = NULL;
    int status = manifest_file_read(artifact_fd, &manifest, error);
    if (status != DIDI_OK)
        return status;
    const json_t *budget = json_object_get(manifest, "budget");
    double bytes = figure(budget, "bytes");
    *ret_figures =
        (didi_package_figures){.survey = json_is_true(json_object_get(manifest, "survey")),
                               .error = figure(json_object_get(manifest, "error"), "relative"),
                               .ratio = figure(budget, "bytes_ratio_16bit"),
                               .bytes = bytes > 0 && bytes < 9e15 ? (uint64_t)bytes : 0};
    json_decref(manifest);
    return DIDI_OK;
}
