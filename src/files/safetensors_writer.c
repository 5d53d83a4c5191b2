/* SPDX-License-Identifier: Apache-2.0 */
/* Writing safetensors files: layout first, data in any order. */
#include "src/base/base.h"
#include "src/files/safetensors.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LENGTH_BYTES = 8, ALIGNMENT = 8, CONVERT_ELEMENTS = 16384 };

typedef struct planned_tensor {
    const char *name; /* the caller's while planning, then the writer's */
    didi_dtype dtype;
    size_t dimensions;
    const uint64_t *shape; /* the caller's, used while planning only */
    uint64_t elements;
    uint64_t offset; /* in the file */
    uint64_t bytes;
} planned_tensor;

/* A file's header text and where each tensor goes. */
typedef struct layout {
    planned_tensor *tensors; /* in file order, then sorted by name */
    size_t count;
    char *text; /* length, JSON, padding */
    size_t text_bytes;
    uint64_t file_bytes;
} layout;

struct safetensors_writer {
    layout layout;
    char *names; /* all tensor names, NUL after each */
    char *name;
    int directory_fd;
    int fd;
};

/* A text that measures itself on the first pass (target NULL) and is written on the second. */
typedef struct text_sink {
    char *target;
    size_t used;
} text_sink;

static void sink_bytes(text_sink *sink, const char *bytes, size_t count)
{
    if (sink->target != NULL)
        memcpy(sink->target + sink->used, bytes, count);
    sink->used += count;
}

static void sink_text(text_sink *sink, const char *text)
{
    sink_bytes(sink, text, strlen(text));
}

static void sink_number(text_sink *sink, uint64_t number)
{
    char digits[24];
    snprintf(digits, sizeof(digits), "%llu", (unsigned long long)number);
    sink_text(sink, digits);
}

static void sink_string(text_sink *sink, const char *text)
{
    sink_text(sink, "\"");
    for (const char *at = text; *at != '\0'; at++) {
        if ((unsigned char)*at < 0x20) {
            char escape[8];
            snprintf(escape, sizeof(escape), "\\u%04x", (unsigned)*at);
            sink_text(sink, escape);
        } else {
            if (*at == '"' || *at == '\\')
                sink_text(sink, "\\");
            sink_bytes(sink, at, 1);
        }
    }
    sink_text(sink, "\"");
}

static void sink_tensor(text_sink *sink, const planned_tensor *tensor)
{
    sink_string(sink, tensor->name);
    sink_text(sink, ":{\"dtype\":\"");
    sink_text(sink, didi_dtype_name(tensor->dtype));
    sink_text(sink, "\",\"shape\":[");
    for (size_t i = 0; i < tensor->dimensions; i++) {
        if (i > 0)
            sink_text(sink, ",");
        sink_number(sink, tensor->shape[i]);
    }
    sink_text(sink, "],\"data_offsets\":[");
    sink_number(sink, tensor->offset);
    sink_text(sink, ",");
    sink_number(sink, tensor->offset + tensor->bytes);
    sink_text(sink, "]}");
}

static void sink_header(text_sink *sink, const layout *plan, const safetensors_contents *contents)
{
    const char *const(*metadata)[2] = contents->metadata;
    size_t metadata_count = contents->metadata_count;
    sink_text(sink, "{");
    if (metadata_count > 0) {
        sink_text(sink, "\"__metadata__\":{");
        for (size_t i = 0; i < metadata_count; i++) {
            if (i > 0)
                sink_text(sink, ",");
            sink_string(sink, metadata[i][0]);
            sink_text(sink, ":");
            sink_string(sink, metadata[i][1]);
        }
        sink_text(sink, "}");
    }
    for (size_t i = 0; i < plan->count; i++) {
        if (i > 0 || metadata_count > 0)
            sink_text(sink, ",");
        sink_tensor(sink, &plan->tensors[i]);
    }
    sink_text(sink, "}");
}

static int compare_file_order(const void *a, const void *b)
{
    const planned_tensor *left = a;
    const planned_tensor *right = b;
    if (left->dtype != right->dtype)
        return left->dtype > right->dtype ? -1 : 1;
    return strcmp(left->name, right->name);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const planned_tensor *)a)->name, ((const planned_tensor *)b)->name);
}

/* Only names that the reader accepts are written. */
static int check_name(const char *name, didi_error *error)
{
    size_t bytes = strlen(name);
    if (bytes > SAFETENSORS_NAME_BYTES_MAX)
        return didi_fail(error, DIDI_INVALID, name,
                         "tensor name of %zu bytes, over the limit of %d", bytes,
                         (int)SAFETENSORS_NAME_BYTES_MAX);
    if (!text_is_utf8(name, bytes) || text_has_control(name, bytes) ||
        strcmp(name, "__metadata__") == 0)
        return didi_fail(error, DIDI_INVALID, name, "not a name for a tensor");
    return DIDI_OK;
}

static int plan_tensor(const safetensors_layout_entry *entry, planned_tensor *tensor,
                       didi_error *error)
{
    int status = check_name(entry->name, error);
    if (status != DIDI_OK)
        return status;
    if (entry->dimensions > SAFETENSORS_DIMENSIONS_MAX)
        return didi_fail(error, DIDI_INVALID, entry->name, "%zu dimensions, over the limit of %d",
                         entry->dimensions, (int)SAFETENSORS_DIMENSIONS_MAX);
    uint64_t elements = 1;
    uint64_t bits = 0;
    bool overflow = false;
    for (size_t i = 0; i < entry->dimensions; i++)
        overflow |= __builtin_mul_overflow(elements, entry->shape[i], &elements);
    overflow |= __builtin_mul_overflow(elements, (uint64_t)didi_dtype_bits(entry->dtype), &bits);
    if (overflow)
        return didi_fail(error, DIDI_INVALID, entry->name, "its size overflows 64 bits");
    if (bits % 8 != 0)
        return didi_fail(error, DIDI_INVALID, entry->name, "its data do not fill whole bytes");
    *tensor = (planned_tensor){
        .name = entry->name,
        .dtype = entry->dtype,
        .dimensions = entry->dimensions,
        .shape = entry->shape,
        .elements = elements,
        .bytes = bits / 8,
    };
    return DIDI_OK;
}

static int check_metadata(const char *const (*metadata)[2], size_t count, didi_error *error)
{
    for (size_t i = 0; i < count; i++) {
        for (size_t part = 0; part < 2; part++)
            if (!text_is_utf8(metadata[i][part], strlen(metadata[i][part])))
                return didi_fail(error, DIDI_INVALID, metadata[i][0], "metadata is not UTF-8");
        for (size_t j = 0; j < i; j++)
            if (strcmp(metadata[i][0], metadata[j][0]) == 0)
                return didi_fail(error, DIDI_INVALID, metadata[i][0], "duplicate metadata key");
    }
    return DIDI_OK;
}

/* Sorts into file order and gives offsets, counted from the start of the data. */
static int place_tensors(layout *plan, uint64_t *ret_data_bytes, didi_error *error)
{
    qsort(plan->tensors, plan->count, sizeof(*plan->tensors), compare_names);
    for (size_t i = 1; i < plan->count; i++)
        if (compare_names(&plan->tensors[i - 1], &plan->tensors[i]) == 0)
            return didi_fail(error, DIDI_INVALID, plan->tensors[i].name, "duplicate tensor name");
    qsort(plan->tensors, plan->count, sizeof(*plan->tensors), compare_file_order);
    uint64_t offset = 0;
    for (size_t i = 0; i < plan->count; i++) {
        plan->tensors[i].offset = offset;
        if (__builtin_add_overflow(offset, plan->tensors[i].bytes, &offset) || offset > INT64_MAX)
            return didi_fail(error, DIDI_INVALID, plan->tensors[i].name,
                             "the file's size overflows 63 bits");
    }
    *ret_data_bytes = offset;
    return DIDI_OK;
}

static int write_header_text(layout *plan, const safetensors_contents *contents,
                             uint64_t data_bytes, didi_error *error)
{
    text_sink sink = {0};
    sink_header(&sink, plan, contents);
    uint64_t json_bytes = (sink.used + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if (json_bytes > SAFETENSORS_HEADER_BYTES_MAX)
        return didi_fail(error, DIDI_INVALID, NULL,
                         "a header of %llu bytes is over the limit of %d",
                         (unsigned long long)json_bytes, (int)SAFETENSORS_HEADER_BYTES_MAX);
    plan->text_bytes = LENGTH_BYTES + (size_t)json_bytes;
    plan->file_bytes = memory_add(plan->text_bytes, data_bytes);
    if (plan->file_bytes > INT64_MAX)
        return didi_fail(error, DIDI_INVALID, NULL, "the file's size overflows 63 bits");
    plan->text = memory_resized(NULL, plan->text_bytes, 1);
    if (plan->text == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "no memory for a header of %zu bytes",
                         plan->text_bytes);
    memcpy(plan->text, &json_bytes, LENGTH_BYTES);
    memset(plan->text + LENGTH_BYTES, ' ', (size_t)json_bytes);
    sink = (text_sink){.target = plan->text + LENGTH_BYTES};
    sink_header(&sink, plan, contents);
    return DIDI_OK;
}

static void layout_clear(layout *plan)
{
    free(plan->tensors);
    free(plan->text);
    *plan = (layout){0};
}

/* Fills an empty layout; cleared on failure. */
static int layout_make(layout *plan, const safetensors_contents *contents, didi_error *error)
{
    size_t count = contents->count;
    assert(contents->entries != NULL || count == 0);
    assert(contents->metadata != NULL || contents->metadata_count == 0);
    uint64_t data_bytes = 0;
    int status = DIDI_OK;
    if (count > SAFETENSORS_TENSORS_MAX) {
        status = didi_fail(error, DIDI_INVALID, NULL, "%zu tensors, over the limit of %d", count,
                           (int)SAFETENSORS_TENSORS_MAX);
        goto out;
    }
    plan->tensors = memory_zeroed(count, sizeof(*plan->tensors));
    plan->count = count;
    if (plan->tensors == NULL) {
        status = didi_fail(error, DIDI_NO_MEMORY, NULL, "no memory for %zu tensors", count);
        goto out;
    }
    for (size_t i = 0; i < count && status == DIDI_OK; i++)
        status = plan_tensor(&contents->entries[i], &plan->tensors[i], error);
    if (status == DIDI_OK)
        status = check_metadata(contents->metadata, contents->metadata_count, error);
    if (status == DIDI_OK)
        status = place_tensors(plan, &data_bytes, error);
    if (status == DIDI_OK)
        status = write_header_text(plan, contents, data_bytes, error);
out:
    if (status != DIDI_OK)
        layout_clear(plan);
    return status;
}

int safetensors_layout_bytes(const safetensors_contents *contents, uint64_t *ret_bytes,
                             didi_error *error)
{
    layout plan = {0};
    int status = layout_make(&plan, contents, error);
    if (status == DIDI_OK)
        *ret_bytes = plan.file_bytes;
    layout_clear(&plan);
    return status;
}

/* Takes the names over from the caller, sorts by name, and turns offsets into those of the file. */
static int adopt_tensors(safetensors_writer *writer, didi_error *error)
{
    layout *plan = &writer->layout;
    size_t bytes = 0;
    for (size_t i = 0; i < plan->count; i++)
        bytes += strlen(plan->tensors[i].name) + 1;
    writer->names = memory_resized(NULL, bytes, 1);
    if (writer->names == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, writer->name, "no memory for tensor names");
    char *at = writer->names;
    for (size_t i = 0; i < plan->count; i++) {
        size_t length = strlen(plan->tensors[i].name) + 1;
        memcpy(at, plan->tensors[i].name, length);
        plan->tensors[i].name = at;
        plan->tensors[i].shape = NULL;
        plan->tensors[i].offset += plan->text_bytes;
        at += length;
    }
    qsort(plan->tensors, plan->count, sizeof(*plan->tensors), compare_names);
    return DIDI_OK;
}

/* Asks for the blocks now, so that a full disk is found before the work and not after. */
static int reserve(const safetensors_writer *writer, didi_error *error)
{
    off_t bytes = (off_t)writer->layout.file_bytes;
    int fault = fault_at(FAULT_PWRITE);
    if (fault != 0)
        return didi_fail_errno(error, fault, writer->name, "cannot reserve %lld bytes",
                               (long long)bytes);
    int outcome = 0;
    do
        outcome = fallocate(writer->fd, 0, 0, bytes);
    while (outcome != 0 && errno == EINTR);
    if (outcome != 0 && (errno == EOPNOTSUPP || errno == ENOSYS))
        outcome = ftruncate(writer->fd, bytes);
    if (outcome != 0)
        return didi_fail_errno(error, errno, writer->name, "cannot reserve %lld bytes",
                               (long long)bytes);
    return DIDI_OK;
}

static int open_new(safetensors_writer *writer, int directory_fd, didi_error *error)
{
    writer->directory_fd = fcntl(directory_fd, F_DUPFD_CLOEXEC, 0);
    if (writer->directory_fd < 0)
        return didi_fail_errno(error, errno, writer->name, "cannot use the directory");
    writer->fd =
        openat(writer->directory_fd, writer->name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
    if (writer->fd < 0 && errno == EEXIST)
        return didi_fail(error, DIDI_CONFLICT, writer->name, "the file exists already");
    if (writer->fd < 0)
        return didi_fail_errno(error, errno, writer->name, "cannot create");
    return DIDI_OK;
}

int safetensors_writer_create(int directory_fd, const char *name,
                              const safetensors_contents *contents, safetensors_writer **ret_writer,
                              didi_error *error)
{
    assert(directory_fd != AT_FDCWD); /* it is duplicated */
    int status = DIDI_OK;
    safetensors_writer *writer = memory_zeroed(1, sizeof(*writer));
    if (writer == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, name, "no memory for a writer");
    writer->directory_fd = -1;
    writer->fd = -1;
    writer->name = memory_string(name);
    if (writer->name == NULL)
        status = didi_fail(error, DIDI_NO_MEMORY, name, "no memory for a writer");
    if (status == DIDI_OK)
        status = layout_make(&writer->layout, contents, error);
    if (status == DIDI_OK)
        status = adopt_tensors(writer, error);
    if (status == DIDI_OK)
        status = open_new(writer, directory_fd, error);
    if (status == DIDI_OK)
        status = reserve(writer, error);
    if (status == DIDI_OK)
        status = file_pwrite_all(writer->fd, writer->layout.text, writer->layout.text_bytes, 0,
                                 writer->name, error);
    if (status != DIDI_OK) {
        safetensors_writer_abort(writer);
        return status;
    }
    free(writer->layout.text);
    writer->layout.text = NULL;
    *ret_writer = writer;
    return DIDI_OK;
}

static const planned_tensor *writer_find(const safetensors_writer *writer, const char *name)
{
    planned_tensor key = {.name = name};
    return bsearch(&key, writer->layout.tensors, writer->layout.count,
                   sizeof(*writer->layout.tensors), compare_names);
}

/* Finds `name` and checks that [first, first + count) bytes or elements lie within it. */
static int writer_range(const safetensors_writer *writer, const char *name, bool in_bytes,
                        uint64_t first, uint64_t count, const planned_tensor **ret_tensor,
                        didi_error *error)
{
    assert(writer->fd >= 0);
    const planned_tensor *tensor = writer_find(writer, name);
    if (tensor == NULL)
        return didi_fail(error, DIDI_INVALID, name, "no such tensor in %s", writer->name);
    uint64_t size = in_bytes ? tensor->bytes : tensor->elements;
    if (first > size || count > size - first)
        return didi_fail(error, DIDI_INVALID, name,
                         "range of %llu %s at %llu is outside the tensor's %llu in %s",
                         (unsigned long long)count, in_bytes ? "bytes" : "elements",
                         (unsigned long long)first, (unsigned long long)size, writer->name);
    *ret_tensor = tensor;
    return DIDI_OK;
}

int safetensors_writer_put_f32(safetensors_writer *writer, const char *name, uint64_t first,
                               const float *values, uint64_t count, didi_error *error)
{
    const planned_tensor *tensor = NULL;
    int status = writer_range(writer, name, false, first, count, &tensor, error);
    if (status != DIDI_OK)
        return status;
    if (!didi_dtype_is_float(tensor->dtype))
        return didi_fail(error, DIDI_INVALID, name, "%s does not take float values",
                         didi_dtype_name(tensor->dtype));
    size_t size = didi_dtype_bits(tensor->dtype) / 8;
    char *scratch =
        memory_aligned(count < CONVERT_ELEMENTS ? (size_t)count : CONVERT_ELEMENTS, size);
    if (scratch == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, name, "no memory to convert values");
    while (count > 0 && status == DIDI_OK) {
        size_t part = count < CONVERT_ELEMENTS ? (size_t)count : CONVERT_ELEMENTS;
        didi_dtype_from_f32(tensor->dtype, values, scratch, part);
        size_t bad = didi_dtype_first_nonfinite_in(tensor->dtype, scratch, part);
        if (bad < part)
            status = didi_fail(error, DIDI_NUMERIC, name, "element %llu, %g, is not finite in %s",
                               (unsigned long long)(first + bad), (double)values[bad],
                               didi_dtype_name(tensor->dtype));
        else
            status = file_pwrite_all(writer->fd, scratch, part * size,
                                     tensor->offset + first * size, writer->name, error);
        first += part;
        values += part;
        count -= part;
    }
    free(scratch);
    return status;
}

int safetensors_writer_put_bytes(safetensors_writer *writer, const char *name, uint64_t first,
                                 const void *bytes, uint64_t count, didi_error *error)
{
    const planned_tensor *tensor = NULL;
    int status = writer_range(writer, name, true, first, count, &tensor, error);
    if (status != DIDI_OK)
        return status;
    return file_pwrite_all(writer->fd, bytes, (size_t)count, tensor->offset + first, writer->name,
                           error);
}

static void writer_free(safetensors_writer *writer)
{
    file_close(writer->fd);
    file_close(writer->directory_fd);
    layout_clear(&writer->layout);
    free(writer->names);
    free(writer->name);
    free(writer);
}

static int writer_finish(safetensors_writer *writer, int status, didi_error *error)
{
    assert(writer->fd >= 0);
    int fd = writer->fd;
    writer->fd = -1;
    if (close(fd) != 0 && status == DIDI_OK)
        status = didi_fail_errno(error, errno, writer->name, "cannot close");
    if (status != DIDI_OK)
        unlinkat(writer->directory_fd, writer->name, 0);
    writer_free(writer);
    return status;
}

int safetensors_writer_close(safetensors_writer *writer, didi_error *error)
{
    return writer_finish(writer, file_sync(writer->fd, writer->name, error), error);
}

int safetensors_writer_close_volatile(safetensors_writer *writer, didi_error *error)
{
    return writer_finish(writer, DIDI_OK, error);
}

void safetensors_writer_abort(safetensors_writer *writer)
{
    if (writer == NULL)
        return;
    if (writer->fd >= 0)
        unlinkat(writer->directory_fd, writer->name, 0);
    writer_free(writer);
}
