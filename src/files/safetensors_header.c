/* SPDX-License-Identifier: Apache-2.0 */
/* Reading the header of a safetensors file that may be hostile. */
#include "src/base/base.h"
#include "src/files/safetensors.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { LENGTH_BYTES = 8 };

typedef struct metadata_pair {
    const char *key, *value;
} metadata_pair;

struct safetensors_header {
    json_scan *scan; /* owns names and metadata */
    safetensors_tensor *tensors;
    size_t count, capacity;
    const safetensors_tensor **by_name;
    uint64_t *dimensions; /* all shapes, one after the other */
    size_t dimension_count, dimension_capacity;
    metadata_pair *metadata; /* by key */
    size_t metadata_count, metadata_capacity;
};

/* One tensor's fields as they come. */
typedef struct tensor_fields {
    bool has_dtype, has_shape, has_offsets;
    uint64_t begin, end;
} tensor_fields;

static int tensor_fail(didi_error *error, int line, const char *path, const char *tensor,
                       const char *problem)
{
    int status = didi_error_set(error, DIDI_FORMAT, __FILE__, line, path, "%s", problem);
    didi_error_blame(error, path, tensor);
    return status;
}

#define FAIL_TENSOR(problem) tensor_fail(error, __LINE__, path, tensor->name, (problem))

static int fail_memory(didi_error *error, const char *path)
{
    return didi_fail(error, DIDI_NO_MEMORY, path, "no memory for the header's contents");
}

static int parse_dtype(safetensors_header *header, safetensors_tensor *tensor, const char *path,
                       didi_error *error)
{
    const char *name = NULL;
    int status = json_scan_string(header->scan, &name, NULL, error);
    if (status != DIDI_OK)
        return status;
    if (!didi_dtype_parse(name, &tensor->dtype))
        return didi_fail(error, DIDI_FORMAT, path, "unknown dtype '%.64s'", name);
    return DIDI_OK;
}

static int parse_shape(safetensors_header *header, safetensors_tensor *tensor, const char *path,
                       didi_error *error)
{
    int status = json_scan_open(header->scan, '[', error);
    while (json_scan_each(header->scan, ']', &status, error)) {
        if (tensor->dimensions == SAFETENSORS_DIMENSIONS_MAX)
            return didi_fail(error, DIDI_FORMAT, path, "more than %d dimensions",
                             (int)SAFETENSORS_DIMENSIONS_MAX);
        uint64_t *dimensions = memory_grown(header->dimensions, header->dimension_count,
                                            &header->dimension_capacity, sizeof(*dimensions));
        if (dimensions == NULL)
            return fail_memory(error, path);
        header->dimensions = dimensions;
        status = json_scan_unsigned(header->scan, &dimensions[header->dimension_count], error);
        if (status == DIDI_OK) {
            header->dimension_count++;
            tensor->dimensions++;
        }
    }
    return status;
}

static int parse_offsets(safetensors_header *header, tensor_fields *fields, const char *path,
                         didi_error *error)
{
    uint64_t values[2] = {0, 0};
    size_t count = 0;
    int status = json_scan_open(header->scan, '[', error);
    while (json_scan_each(header->scan, ']', &status, error)) {
        if (count == 2)
            return didi_fail(error, DIDI_FORMAT, path, "data_offsets has more than two numbers");
        status = json_scan_unsigned(header->scan, &values[count++], error);
    }
    if (status == DIDI_OK && count != 2)
        return didi_fail(error, DIDI_FORMAT, path, "data_offsets has fewer than two numbers");
    fields->begin = values[0];
    fields->end = values[1];
    return status;
}

static int parse_field(safetensors_header *header, safetensors_tensor *tensor,
                       tensor_fields *fields, const char *path, didi_error *error)
{
    const char *key = NULL;
    int status = json_scan_key(header->scan, &key, NULL, error);
    if (status != DIDI_OK)
        return status;
    bool *seen = NULL;
    if (strcmp(key, "dtype") == 0)
        seen = &fields->has_dtype;
    else if (strcmp(key, "shape") == 0)
        seen = &fields->has_shape;
    else if (strcmp(key, "data_offsets") == 0)
        seen = &fields->has_offsets;
    else
        return json_scan_skip(header->scan, error);
    if (*seen)
        return didi_fail(error, DIDI_FORMAT, path, "duplicate field %s", key);
    *seen = true;
    if (seen == &fields->has_dtype)
        return parse_dtype(header, tensor, path, error);
    if (seen == &fields->has_shape)
        return parse_shape(header, tensor, path, error);
    return parse_offsets(header, fields, path, error);
}

static int parse_fields(safetensors_header *header, safetensors_tensor *tensor, const char *path,
                        didi_error *error)
{
    tensor_fields fields = {0};
    int status = json_scan_open(header->scan, '{', error);
    while (json_scan_each(header->scan, '}', &status, error))
        status = parse_field(header, tensor, &fields, path, error);
    if (status != DIDI_OK)
        return status;
    if (!fields.has_dtype || !fields.has_shape || !fields.has_offsets)
        return didi_fail(error, DIDI_FORMAT, path, "field %s is missing",
                         !fields.has_dtype   ? "dtype"
                         : !fields.has_shape ? "shape"
                                             : "data_offsets");
    if (fields.end < fields.begin)
        return didi_fail(error, DIDI_FORMAT, path, "data_offsets end before they begin");
    tensor->offset = fields.begin;
    tensor->bytes = fields.end - fields.begin;
    return DIDI_OK;
}

static int parse_tensor(safetensors_header *header, const char *name, size_t name_bytes,
                        const char *path, didi_error *error)
{
    if (name_bytes > SAFETENSORS_NAME_BYTES_MAX || text_has_control(name, name_bytes))
        return didi_fail(error, DIDI_FORMAT, path,
                         name_bytes > SAFETENSORS_NAME_BYTES_MAX
                             ? "tensor name over 4096 bytes: %.64s..."
                             : "control character in the tensor name '%.128s'",
                         name);
    if (header->count == SAFETENSORS_TENSORS_MAX)
        return didi_fail(error, DIDI_FORMAT, path, "more than %d tensors",
                         (int)SAFETENSORS_TENSORS_MAX);
    safetensors_tensor *tensors =
        memory_grown(header->tensors, header->count, &header->capacity, sizeof(*tensors));
    if (tensors == NULL)
        return fail_memory(error, path);
    header->tensors = tensors;
    safetensors_tensor *tensor = &tensors[header->count];
    *tensor = (safetensors_tensor){.name = name};
    int status = parse_fields(header, tensor, path, error);
    if (status != DIDI_OK) {
        didi_error_blame(error, path, name);
        return status;
    }
    header->count++;
    return DIDI_OK;
}

static int compare_keys(const void *a, const void *b)
{
    return strcmp(((const metadata_pair *)a)->key, ((const metadata_pair *)b)->key);
}

static int parse_pair(safetensors_header *header, const char *path, didi_error *error)
{
    metadata_pair *grown = memory_grown(header->metadata, header->metadata_count,
                                        &header->metadata_capacity, sizeof(*header->metadata));
    if (grown == NULL)
        return fail_memory(error, path);
    header->metadata = grown;
    if (header->metadata_count == SAFETENSORS_METADATA_PAIRS_MAX)
        return didi_fail(error, DIDI_FORMAT, path, "more than %d keys in __metadata__",
                         (int)SAFETENSORS_METADATA_PAIRS_MAX);
    metadata_pair *pair = &grown[header->metadata_count];
    int status = json_scan_key(header->scan, &pair->key, NULL, error);
    if (status == DIDI_OK)
        status = json_scan_string(header->scan, &pair->value, NULL, error);
    header->metadata_count += status == DIDI_OK;
    return status;
}

static int parse_metadata(safetensors_header *header, const char *path, didi_error *error)
{
    if (json_scan_null(header->scan))
        return DIDI_OK;
    int status = json_scan_open(header->scan, '{', error);
    while (json_scan_each(header->scan, '}', &status, error))
        status = parse_pair(header, path, error);
    const metadata_pair *pairs = header->metadata;
    if (header->metadata_count > 0)
        qsort(header->metadata, header->metadata_count, sizeof(*pairs), compare_keys);
    for (size_t i = 1; i < header->metadata_count && status == DIDI_OK; i++)
        if (strcmp(pairs[i - 1].key, pairs[i].key) == 0)
            status = didi_fail(error, DIDI_FORMAT, path, "duplicate key '%.128s' in __metadata__",
                               pairs[i].key);
    return status;
}

static int parse_text(safetensors_header *header, const char *path, didi_error *error)
{
    int status = json_scan_open(header->scan, '{', error);
    bool has_metadata = false;
    while (json_scan_each(header->scan, '}', &status, error)) {
        const char *name = NULL;
        size_t bytes = 0;
        status = json_scan_key(header->scan, &name, &bytes, error);
        if (status != DIDI_OK)
            break;
        if (strcmp(name, "__metadata__") != 0) {
            status = parse_tensor(header, name, bytes, path, error);
        } else if (has_metadata) {
            return didi_fail(error, DIDI_FORMAT, path, "duplicate __metadata__");
        } else {
            has_metadata = true;
            status = parse_metadata(header, path, error);
        }
    }
    if (status == DIDI_OK)
        status = json_scan_end(header->scan, error);
    return status;
}

static int compare_offsets(const void *a, const void *b)
{
    const safetensors_tensor *left = a;
    const safetensors_tensor *right = b;
    if (left->offset != right->offset)
        return left->offset < right->offset ? -1 : 1;
    if (left->bytes != right->bytes)
        return left->bytes < right->bytes ? -1 : 1;
    return strcmp(left->name, right->name);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp((*(const safetensors_tensor *const *)a)->name,
                  (*(const safetensors_tensor *const *)b)->name);
}

/* Elements and bytes from shape and dtype, against the range the header claims. */
static int check_size(safetensors_tensor *tensor, const char *path, didi_error *error)
{
    uint64_t elements = 1;
    for (size_t i = 0; i < tensor->dimensions; i++)
        if (__builtin_mul_overflow(elements, tensor->shape[i], &elements))
            return FAIL_TENSOR("the size of its shape overflows 64 bits");
    uint64_t bits = 0;
    if (__builtin_mul_overflow(elements, (uint64_t)didi_dtype_bits(tensor->dtype), &bits))
        return FAIL_TENSOR("the size of its data overflows 64 bits");
    if (bits % 8 != 0)
        return FAIL_TENSOR("its data do not fill whole bytes");
    if (bits / 8 != tensor->bytes) {
        char problem[160];
        snprintf(problem, sizeof(problem),
                 "shape and dtype make %llu bytes, data_offsets give %llu",
                 (unsigned long long)(bits / 8), (unsigned long long)tensor->bytes);
        return FAIL_TENSOR(problem);
    }
    tensor->elements = elements;
    return DIDI_OK;
}

/* Gives each tensor its shape, now that those do not move any more, and sorts by offset. */
static void sort_tensors(safetensors_header *header)
{
    const uint64_t *shape = header->dimensions;
    for (size_t i = 0; i < header->count; i++) {
        header->tensors[i].shape = shape;
        if (shape != NULL)
            shape += header->tensors[i].dimensions;
    }
    if (header->count > 0)
        qsort(header->tensors, header->count, sizeof(*header->tensors), compare_offsets);
}

/* Ranges follow each other without hole or overlap from 0 to `data_bytes`; sizes agree. Turns
 * offsets into those of the file. */
static int check_layout(safetensors_header *header, uint64_t data_start, uint64_t data_bytes,
                        const char *path, didi_error *error)
{
    uint64_t expected = 0;
    for (size_t i = 0; i < header->count; i++) {
        safetensors_tensor *tensor = &header->tensors[i];
        if (tensor->offset != expected)
            return FAIL_TENSOR(tensor->offset > expected ? "a hole lies before its data"
                                                         : "its data overlap another tensor's");
        int status = check_size(tensor, path, error);
        if (status != DIDI_OK)
            return status;
        expected += tensor->bytes;
        if (expected > data_bytes)
            return FAIL_TENSOR("its data reach beyond the end of the file (is it truncated?)");
        tensor->offset += data_start;
    }
    if (expected != data_bytes)
        return didi_fail(error, DIDI_FORMAT, path, "%llu bytes after the last tensor",
                         (unsigned long long)(data_bytes - expected));
    return DIDI_OK;
}

static int index_names(safetensors_header *header, const char *path, didi_error *error)
{
    header->by_name = memory_zeroed(header->count, sizeof(*header->by_name));
    if (header->by_name == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, path, "no memory for %zu names", header->count);
    for (size_t i = 0; i < header->count; i++)
        header->by_name[i] = &header->tensors[i];
    qsort(header->by_name, header->count, sizeof(*header->by_name), compare_names);
    for (size_t i = 1; i < header->count; i++) {
        const safetensors_tensor *tensor = header->by_name[i];
        if (strcmp(header->by_name[i - 1]->name, tensor->name) == 0)
            return FAIL_TENSOR("duplicate tensor name");
    }
    return DIDI_OK;
}

/* The checks on lengths that come before any text is read. */
static int check_lengths(uint64_t json_bytes, uint64_t file_bytes, const char *path,
                         didi_error *error)
{
    if (file_bytes < LENGTH_BYTES)
        return didi_fail(error, DIDI_FORMAT, path, "a file of %llu bytes is too short for a header",
                         (unsigned long long)file_bytes);
    if (json_bytes > SAFETENSORS_HEADER_BYTES_MAX)
        return didi_fail(error, DIDI_FORMAT, path, "a header of %llu bytes is over the limit of %d",
                         (unsigned long long)json_bytes, (int)SAFETENSORS_HEADER_BYTES_MAX);
    if (json_bytes > file_bytes - LENGTH_BYTES)
        return didi_fail(error, DIDI_FORMAT, path,
                         "a header of %llu bytes does not fit a file of %llu (is it truncated?)",
                         (unsigned long long)json_bytes, (unsigned long long)file_bytes);
    return DIDI_OK;
}

int safetensors_header_parse(const char *json, uint64_t json_bytes, uint64_t file_bytes,
                             const char *path, safetensors_header **ret_header, didi_error *error)
{
    assert(json != NULL && path != NULL);
    int status = check_lengths(json_bytes, file_bytes, path, error);
    if (status != DIDI_OK)
        return status;
    safetensors_header *header = memory_zeroed(1, sizeof(*header));
    if (header == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, path, "no memory for a header");
    status = json_scan_new(json, (size_t)json_bytes, path, "header", &header->scan, error);
    if (status == DIDI_OK)
        status = parse_text(header, path, error);
    if (status == DIDI_OK) {
        sort_tensors(header);
        status = index_names(header, path, error);
    }
    if (status == DIDI_OK)
        status = check_layout(header, LENGTH_BYTES + json_bytes,
                              file_bytes - LENGTH_BYTES - json_bytes, path, error);
    if (status != DIDI_OK) {
        safetensors_header_free(header);
        return status;
    }
    json_scan_detach(header->scan);
    *ret_header = header;
    return DIDI_OK;
}

int safetensors_header_read(int fd, const char *path, safetensors_header **ret_header,
                            didi_error *error)
{
    struct stat facts;
    if (fstat(fd, &facts) != 0)
        return didi_fail_errno(error, errno, path, "cannot stat");
    if (!S_ISREG(facts.st_mode))
        return didi_fail(error, DIDI_FORMAT, path, "not a regular file");
    uint64_t file_bytes = (uint64_t)facts.st_size;
    uint64_t json_bytes = 0;
    int status = check_lengths(0, file_bytes, path, error);
    if (status == DIDI_OK)
        status = file_pread_all(fd, &json_bytes, LENGTH_BYTES, 0, path, error);
    if (status == DIDI_OK)
        status = check_lengths(json_bytes, file_bytes, path, error);
    if (status != DIDI_OK)
        return status;
    char *json = memory_resized(NULL, (size_t)json_bytes, 1);
    if (json == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, path, "no memory for a header of %llu bytes",
                         (unsigned long long)json_bytes);
    status = file_pread_all(fd, json, (size_t)json_bytes, LENGTH_BYTES, path, error);
    if (status == DIDI_OK)
        status = safetensors_header_parse(json, json_bytes, file_bytes, path, ret_header, error);
    free(json);
    return status;
}

void safetensors_header_free(safetensors_header *header)
{
    if (header == NULL)
        return;
    json_scan_free(header->scan);
    free(header->tensors);
    free(header->by_name);
    free(header->dimensions);
    free(header->metadata);
    free(header);
}

size_t safetensors_header_count(const safetensors_header *header)
{
    return header->count;
}

const safetensors_tensor *safetensors_header_at(const safetensors_header *header, size_t index)
{
    assert(index < header->count);
    return &header->tensors[index];
}

const safetensors_tensor *safetensors_header_find(const safetensors_header *header,
                                                  const char *name)
{
    safetensors_tensor key = {.name = name};
    const safetensors_tensor *pointer = &key;
    if (header->count == 0)
        return NULL;
    const safetensors_tensor *const *found =
        bsearch(&pointer, header->by_name, header->count, sizeof(*header->by_name), compare_names);
    return found == NULL ? NULL : *found;
}

const char *safetensors_header_metadata(const safetensors_header *header, const char *key)
{
    metadata_pair wanted = {.key = key};
    if (header->metadata_count == 0)
        return NULL;
    const metadata_pair *found = bsearch(&wanted, header->metadata, header->metadata_count,
                                         sizeof(*header->metadata), compare_keys);
    return found == NULL ? NULL : found->value;
}
