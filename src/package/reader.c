/* SPDX-License-Identifier: Apache-2.0 */
/* What one file of a package adds to a tensor, and its manifest read back. */
#include "src/package/reader.h"

#include "src/base/base.h"
#include "src/files/files.h"
#include "src/math/math.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    TASK_NAME_BYTES_MAX = 128,
    MANIFEST_BYTES_MAX = 256 << 20,
    BLOCK_ROWS = 16, /* added up at once; fixes results */
};

struct package_file {
    int fd;
    safetensors_header *header;
    bool shared;
    char name[TASK_NAME_BYTES_MAX + 32];
};

/* Without a word of it the format is the first. */
static int check_format(const package_file *self, didi_error *error)
{
    const char *format = safetensors_header_metadata(self->header, "didi_format");
    if (format == NULL || strcmp(format, "1") == 0 || strcmp(format, "2") == 0 ||
        strcmp(format, "3") == 0)
        return DIDI_OK;
    return didi_fail(error, DIDI_FORMAT, self->name, "its format %.64s is not 1, 2 or 3", format);
}

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
        status = check_format(self, error);
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

static int find_delta(const package_file *file, const char *tensor, const addition *shape,
                      const safetensors_tensor **ret_found, didi_error *error)
{
    const safetensors_tensor *found = NULL;
    int status = find(file, tensor, "", "delta", &found, error);
    if (status != DIDI_OK)
        return status;
    *ret_found = found;
    if (found != NULL &&
        (found->elements / shape->columns != shape->rows || found->elements % shape->columns != 0))
        return didi_fail(error, DIDI_MISMATCH, tensor, "the delta in %s does not fit the base's",
                         file->name);
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
    int status = find_delta(file, tensor, out, &found, error);
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
        status = packed_parse(*ret_bytes, found->bytes, shape->rows, shape->columns, found->name,
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
    if (status != DIDI_OK)
        addition_clear(&self);
    else
        *ret_addition = self;
    return status;
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
        status = find_delta(file, tensor, &self, &delta, error);
    if (status == DIDI_OK)
        status = read_all_packed(file, tensor, &self, error);
    if (status == DIDI_OK) {
        const safetensors_tensor *plain = sides[0] != NULL ? sides[0] : delta;
        form.rank = sides[0] != NULL ? sides[0]->shape[1] : 0;
        form.rank += self.factor_bytes != NULL ? self.factors.rank : 0;
        form.delta = delta != NULL || self.delta_bytes != NULL;
        form.packed = self.factor_bytes != NULL || self.delta_bytes != NULL;
        form.dtype = plain != NULL ? plain->dtype : DIDI_DTYPE_BOOL;
        *ret_form = form;
    }
    addition_clear(&self);
    return status;
}

bool addition_is_empty(const addition *self)
{
    return self->left == NULL && self->delta == NULL && self->factor_bytes == NULL &&
           self->delta_bytes == NULL;
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
    json_t *manifest = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, NULL);
    free(text);
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
