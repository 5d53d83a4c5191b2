/* SPDX-License-Identifier: Apache-2.0 */
/* Writing safetensors files: layout first, data in any order. */
#include "src/base/base.h"
#include "src/files/gathered.h"
#include "src/files/safetensors.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LENGTH_BYTES = 8, ALIGNMENT = 8, CONVERT_ELEMENTS = 16384 };

/* A file's header text and where each tensor goes. */
typedef struct layout {
    safetensors_tensor *tensors; /* in file order, then by name; strings and shapes the caller's,
                                  * then the writer's and none */
    size_t count;                /* those in the header */
    size_t parts; /* those behind them, which are gathered, in the order of their keys */
    safetensors_tensor whole; /* of all parts */
    uint64_t whole_shape;
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

static void print_string(FILE *out, const char *text)
{
    (void)fputc('"', out);
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\')
            (void)fputc('\\', out);
        if ((unsigned char)*text < 0x20)
            fprintf(out, "\\u%04x", (unsigned)*text);
        else
            (void)fputc(*text, out);
    }
    (void)fputc('"', out);
}

static void print_tensor(FILE *out, const safetensors_tensor *tensor)
{
    print_string(out, tensor->name);
    fprintf(out, ":{\"dtype\":\"%s\",\"shape\":[", didi_dtype_name(tensor->dtype));
    for (size_t i = 0; i < tensor->dimensions; i++)
        fprintf(out, "%s%" PRIu64, i > 0 ? "," : "", tensor->shape[i]);
    fprintf(out, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", tensor->offset,
            tensor->offset + tensor->bytes);
}

static void print_header(FILE *out, const layout *plan, const safetensors_contents *contents)
{
    (void)fputc('{', out);
    for (size_t i = 0; i < contents->metadata_count; i++) {
        fputs(i > 0 ? "," : "\"__metadata__\":{", out);
        print_string(out, contents->metadata[i][0]);
        (void)fputc(':', out);
        print_string(out, contents->metadata[i][1]);
    }
    bool any = plan->count > 0 || plan->parts > 0;
    if (contents->metadata_count > 0)
        fputs(any ? "}," : "}", out);
    for (size_t i = 0; i < plan->count; i++) {
        if (i > 0)
            (void)fputc(',', out);
        print_tensor(out, &plan->tensors[i]);
    }
    if (plan->parts > 0) {
        if (plan->count > 0)
            (void)fputc(',', out);
        print_tensor(out, &plan->whole);
    }
    (void)fputc('}', out);
}

static int compare_file_order(const void *a, const void *b)
{
    const safetensors_tensor *left = a;
    const safetensors_tensor *right = b;
    if (left->dtype != right->dtype)
        return left->dtype > right->dtype ? -1 : 1;
    return strcmp(left->name, right->name);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const safetensors_tensor *)a)->name, ((const safetensors_tensor *)b)->name);
}

static int compare_keys(const void *a, const void *b)
{
    uint64_t left = gathered_key(((const safetensors_tensor *)a)->name);
    uint64_t right = gathered_key(((const safetensors_tensor *)b)->name);
    return left != right ? (left > right) - (left < right) : compare_names(a, b);
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

static int plan_tensor(const safetensors_layout_entry *entry, safetensors_tensor *tensor,
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
    *tensor = (safetensors_tensor){
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

/* The parts behind all other tensors, from `offset` on, which moves to their end. */
static int place_parts(layout *plan, const char *name, uint64_t *offset, didi_error *error)
{
    safetensors_tensor *parts = plan->tensors + plan->count;
    uint64_t start = *offset;
    if (plan->parts == 0)
        return DIDI_OK;
    *offset += GATHERED_COUNT_BYTES + plan->parts * GATHERED_ENTRY_BYTES;
    for (size_t i = 0; i < plan->parts; i++) {
        if (parts[i].dtype != DIDI_DTYPE_U8 || parts[i].bytes == 0 ||
            parts[i].bytes >> GATHERED_LENGTH_BITS != 0)
            return didi_fail(error, DIDI_INVALID, parts[i].name, "not a part to be gathered");
        parts[i].offset = *offset;
        *offset += parts[i].bytes;
    }
    plan->whole_shape = *offset - start;
    plan->whole = (safetensors_tensor){.name = name,
                                       .dtype = DIDI_DTYPE_U8,
                                       .dimensions = 1,
                                       .shape = &plan->whole_shape,
                                       .elements = plan->whole_shape,
                                       .offset = start,
                                       .bytes = plan->whole_shape};
    return *offset <= INT64_MAX
               ? DIDI_OK
               : didi_fail(error, DIDI_INVALID, name, "the file's size overflows 63 bits");
}

/* Of parts that would have the same key all but one go to the header, where readers look first. */
static void set_apart(layout *plan)
{
    safetensors_tensor *parts = plan->tensors + plan->count;
    if (plan->parts > 1)
        qsort(parts, plan->parts, sizeof *parts, compare_keys);
    size_t kept = plan->parts;
    for (size_t i = plan->parts; i-- > 1;)
        if (gathered_key(parts[i].name) == gathered_key(parts[i - 1].name)) {
            safetensors_tensor twin = parts[i];
            memmove(parts + 1, parts, i * sizeof *parts);
            *parts++ = twin;
            kept--;
        }
    plan->count += plan->parts - kept;
    plan->parts = kept;
}

/* Those in the header first, then those that are gathered. */
static int plan_tensors(layout *plan, const safetensors_contents *contents, didi_error *error)
{
    int status = DIDI_OK;
    for (size_t i = 0; i < contents->count && status == DIDI_OK; i++) {
        bool part = contents->gathered != NULL && contents->gathered[i];
        size_t at = part ? contents->count - ++plan->parts : plan->count++;
        status = plan_tensor(&contents->entries[i], &plan->tensors[at], error);
    }
    if (status == DIDI_OK)
        set_apart(plan);
    return status;
}

static int write_header_text(layout *plan, const safetensors_contents *contents,
                             uint64_t data_bytes, didi_error *error)
{
    uint64_t json_bytes = 0;
    text_stream *stream = text_stream_open();
    if (stream != NULL) {
        FILE *out = text_stream_file(stream);
        (void)fwrite(&json_bytes, LENGTH_BYTES, 1, out);
        print_header(out, plan, contents);
        size_t beyond = text_stream_bytes(stream) % ALIGNMENT;
        for (size_t i = beyond; i > 0 && i < ALIGNMENT; i++)
            (void)fputc(' ', out);
        plan->text = text_stream_close(stream, &plan->text_bytes);
    }
    if (plan->text == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "no memory for a header of %zu tensors",
                         plan->count);
    json_bytes = plan->text_bytes - LENGTH_BYTES;
    memcpy(plan->text, &json_bytes, LENGTH_BYTES);
    plan->file_bytes = memory_add(plan->text_bytes, data_bytes);
    if (json_bytes > SAFETENSORS_HEADER_BYTES_MAX)
        return didi_fail(error, DIDI_INVALID, NULL,
                         "a header of %llu bytes is over the limit of %d",
                         (unsigned long long)json_bytes, (int)SAFETENSORS_HEADER_BYTES_MAX);
    if (plan->file_bytes > INT64_MAX)
        return didi_fail(error, DIDI_INVALID, NULL, "the file's size overflows 63 bits");
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
    if (plan->tensors == NULL) {
        status = didi_fail(error, DIDI_NO_MEMORY, NULL, "no memory for %zu tensors", count);
        goto out;
    }
    status = plan_tensors(plan, contents, error);
    if (status == DIDI_OK)
        status = check_metadata(contents->metadata, contents->metadata_count, error);
    if (status == DIDI_OK)
        status = place_tensors(plan, &data_bytes, error);
    if (status == DIDI_OK)
        status = place_parts(plan, contents->gathered_name, &data_bytes, error);
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

int safetensors_layout_text(const safetensors_contents *contents, char **ret_text,
                            size_t *ret_text_bytes, uint64_t *ret_file_bytes, didi_error *error)
{
    layout plan = {0};
    int status = layout_make(&plan, contents, error);
    if (status == DIDI_OK) {
        *ret_text = plan.text;
        *ret_text_bytes = plan.text_bytes;
        *ret_file_bytes = plan.file_bytes;
        plan.text = NULL;
    }
    layout_clear(&plan);
    return status;
}

/* Takes the names over from the caller, sorts by name, and turns offsets into those of the file. */
static int adopt_tensors(safetensors_writer *writer, didi_error *error)
{
    layout *plan = &writer->layout;
    size_t bytes = 0;
    size_t all = plan->count + plan->parts;
    for (size_t i = 0; i < all; i++)
        bytes += strlen(plan->tensors[i].name) + 1;
    writer->names = memory_resized(NULL, bytes, 1);
    if (writer->names == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, writer->name, "no memory for tensor names");
    char *at = writer->names;
    for (size_t i = 0; i < all; i++) {
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

static int write_index(const safetensors_writer *writer, didi_error *error)
{
    const layout *plan = &writer->layout;
    size_t bytes = GATHERED_COUNT_BYTES + plan->parts * GATHERED_ENTRY_BYTES;
    if (plan->parts == 0)
        return DIDI_OK;
    uint8_t *index = memory_zeroed(bytes, 1);
    if (index == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, writer->name, "index of %zu parts", plan->parts);
    gathered_write_index(plan->tensors + plan->count, plan->parts, index);
    int status = file_pwrite_all(writer->fd, index, bytes, plan->text_bytes + plan->whole.offset,
                                 writer->name, error);
    free(index);
    return status;
}

/* Asks for the blocks now, so that a full disk is found before the work and not after. */
static int reserve(const safetensors_writer *writer, didi_error *error)
{
    off_t bytes = (off_t)writer->layout.file_bytes;
    int problem = fault_at(FAULT_PWRITE);
    if (problem == 0) {
        int outcome = 0;
        do
            outcome = fallocate(writer->fd, 0, 0, bytes);
        while (outcome != 0 && errno == EINTR);
        if (outcome != 0 && (errno == EOPNOTSUPP || errno == ENOSYS))
            outcome = ftruncate(writer->fd, bytes);
        problem = outcome != 0 ? errno : 0;
    }
    return problem == 0 ? DIDI_OK
                        : didi_fail_errno(error, problem, writer->name, "cannot reserve %lld bytes",
                                          (long long)bytes);
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
    if (status == DIDI_OK)
        status = write_index(writer, error);
    if (status != DIDI_OK) {
        safetensors_writer_abort(writer);
        return status;
    }
    free(writer->layout.text);
    writer->layout.text = NULL;
    *ret_writer = writer;
    return DIDI_OK;
}

static const safetensors_tensor *writer_find(const safetensors_writer *writer, const char *name)
{
    safetensors_tensor key = {.name = name};
    const layout *plan = &writer->layout;
    const safetensors_tensor *found =
        plan->count > 0
            ? bsearch(&key, plan->tensors, plan->count, sizeof(*plan->tensors), compare_names)
            : NULL;
    return found != NULL || plan->parts == 0
               ? found
               : bsearch(&key, plan->tensors + plan->count, plan->parts, sizeof(*plan->tensors),
                         compare_keys);
}

/* Finds `name` and checks that [first, first + count) bytes or elements lie within it. */
static int writer_range(const safetensors_writer *writer, const char *name, bool in_bytes,
                        uint64_t first, uint64_t count, const safetensors_tensor **ret_tensor,
                        didi_error *error)
{
    assert(writer->fd >= 0);
    const safetensors_tensor *tensor = writer_find(writer, name);
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
    const safetensors_tensor *tensor = NULL;
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
    const safetensors_tensor *tensor = NULL;
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

int safetensors_writer_close(safetensors_writer *writer, bool durable, didi_error *error)
{
    assert(writer->fd >= 0);
    int fd = writer->fd;
    int status = durable ? file_sync(fd, writer->name, error) : DIDI_OK;
    writer->fd = -1;
    if (close(fd) != 0 && status == DIDI_OK)
        status = didi_fail_errno(error, errno, writer->name, "cannot close");
    if (status != DIDI_OK)
        unlinkat(writer->directory_fd, writer->name, 0);
    writer_free(writer);
    return status;
}

void safetensors_writer_abort(safetensors_writer *writer)
{
    if (writer == NULL)
        return;
    if (writer->fd >= 0)
        unlinkat(writer->directory_fd, writer->name, 0);
    writer_free(writer);
}
