/* SPDX-License-Identifier: Apache-2.0 */
/* One model on disk: its files, its tensors, and whether they are still what they were. */
#include "src/files/checkpoint.h"

#include "src/base/base.h"
#include "src/files/checkpoint_index.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SCRATCH_BYTES = 256 * 1024 }; /* of one conversion step: stays in the second-level cache */

static const char single_name[] = "model.safetensors";
static const char index_name[] = "model.safetensors.index.json";
static const char adapter_name[] = "adapter_model.safetensors";
static const char config_name[] = "adapter_config.json";

typedef struct open_file {
    checkpoint_file facts;
    char *name;
    char *subject; /* "label/name" */
    int fd;
    safetensors_header *header;
} open_file;

struct checkpoint {
    char *label;
    int directory_fd;
    open_file *files;
    size_t file_count;
    checkpoint_tensor *tensors; /* by name */
    size_t count;
    bool is_adapter; /* files: the tensors, then their configuration */
};

static int fail_memory(didi_error *error, const char *subject)
{
    return didi_fail(error, DIDI_NO_MEMORY, subject, "no memory to open the model");
}

static int64_t modified_ns(const struct stat *facts)
{
    int64_t nanoseconds = 0;
    if (__builtin_mul_overflow((int64_t)facts->st_mtim.tv_sec, INT64_C(1000000000), &nanoseconds) ||
        __builtin_add_overflow(nanoseconds, (int64_t)facts->st_mtim.tv_nsec, &nanoseconds))
        return facts->st_mtim.tv_sec < 0 ? INT64_MIN : INT64_MAX;
    return nanoseconds;
}

/* On failure close_file frees what *file has. */
static int open_plain(const checkpoint *self, const char *name, open_file *file, didi_error *error)
{
    file->fd = -1;
    file->name = memory_string(name);
    file->subject = memory_format("%s/%s", self->label, name);
    if (file->name == NULL || file->subject == NULL)
        return fail_memory(error, self->label);
    int status = file_open_beneath(self->directory_fd, name, file->subject, &file->fd, error);
    if (status != DIDI_OK)
        return status;
    struct stat facts;
    if (fstat(file->fd, &facts) != 0)
        return didi_fail_errno(error, errno, file->subject, "cannot stat");
    file->facts = (checkpoint_file){
        .name = file->name,
        .bytes = (uint64_t)facts.st_size,
        .device = facts.st_dev,
        .inode = facts.st_ino,
        .modified_ns = modified_ns(&facts),
    };
    return DIDI_OK;
}

/* The same of a file of tensors, whose header is read. */
static int open_one(const checkpoint *self, const char *name, open_file *file, didi_error *error)
{
    int status = open_plain(self, name, file, error);
    return status == DIDI_OK
               ? safetensors_header_read(file->fd, file->subject, &file->header, error)
               : status;
}

static void close_file(open_file *file)
{
    file_close(file->fd);
    safetensors_header_free(file->header);
    free(file->name);
    free(file->subject);
}

static int open_files(checkpoint *self, const checkpoint_index *index, didi_error *error)
{
    size_t count = index == NULL ? 1 : checkpoint_index_file_count(index);
    self->files = memory_zeroed(count, sizeof(*self->files));
    if (self->files == NULL)
        return fail_memory(error, self->label);
    for (size_t i = 0; i < count; i++) {
        const char *name = index == NULL ? single_name : checkpoint_index_file(index, i);
        self->file_count = i + 1;
        int status = open_one(self, name, &self->files[i], error);
        if (status == DIDI_NOT_FOUND && index != NULL)
            (void)didi_error_wrap(error, "%s names this shard", index_name);
        if (status != DIDI_OK)
            return status;
    }
    return DIDI_OK;
}

static bool is_there(const checkpoint *self, const char *name)
{
    struct stat facts;
    return fstatat(self->directory_fd, name, &facts, AT_SYMLINK_NOFOLLOW) == 0;
}

static int open_adapter(checkpoint *self, didi_error *error)
{
    enum { FILES = 2 };
    self->is_adapter = true;
    self->files = memory_zeroed(FILES, sizeof(*self->files));
    if (self->files == NULL)
        return fail_memory(error, self->label);
    self->file_count = 1;
    int status = open_one(self, adapter_name, &self->files[0], error);
    if (status == DIDI_NOT_FOUND)
        return didi_fail(error, DIDI_NOT_FOUND, self->label,
                         "%s is there without %s; save the adapter with safe_serialization",
                         config_name, adapter_name);
    if (status != DIDI_OK)
        return status;
    self->file_count = FILES;
    status = open_plain(self, config_name, &self->files[1], error);
    if (status == DIDI_NOT_FOUND)
        return didi_fail(error, DIDI_NOT_FOUND, self->label,
                         "%s is there without %s, which says how it is scaled", adapter_name,
                         config_name);
    return status;
}

static int compare_tensors(const void *a, const void *b)
{
    return strcmp(((const checkpoint_tensor *)a)->tensor->name,
                  ((const checkpoint_tensor *)b)->tensor->name);
}

/* Names the tensor of a failed call. */
static int blame(const checkpoint *self, const checkpoint_tensor *tensor, int status,
                 didi_error *error)
{
    if (status != DIDI_OK)
        didi_error_blame(error, self->files[tensor->file].subject, tensor->tensor->name);
    return status;
}

static int collect_tensors(checkpoint *self, didi_error *error)
{
    size_t count = 0;
    size_t files = self->is_adapter ? 1 : self->file_count;
    for (size_t i = 0; i < files; i++)
        count += safetensors_header_count(self->files[i].header);
    self->tensors = memory_zeroed(count, sizeof(*self->tensors));
    if (self->tensors == NULL)
        return fail_memory(error, self->label);
    for (size_t i = 0; i < files; i++) {
        const safetensors_header *header = self->files[i].header;
        for (size_t j = 0; j < safetensors_header_count(header); j++)
            self->tensors[self->count++] =
                (checkpoint_tensor){.tensor = safetensors_header_at(header, j), .file = i};
    }
    if (count > 0)
        qsort(self->tensors, count, sizeof(*self->tensors), compare_tensors);
    for (size_t i = 1; i < count; i++) {
        const checkpoint_tensor *former = &self->tensors[i - 1];
        const checkpoint_tensor *tensor = &self->tensors[i];
        if (compare_tensors(former, tensor) != 0)
            continue;
        (void)didi_fail(error, DIDI_FORMAT, NULL, "the tensor is in two shards, also in %s",
                        self->files[former->file].name);
        return blame(self, tensor, DIDI_FORMAT, error);
    }
    return DIDI_OK;
}

/* The index and the shards must tell the same, both ways. */
static int check_index(const checkpoint *self, const checkpoint_index *index, didi_error *error)
{
    for (size_t i = 0; i < self->count; i++) {
        const checkpoint_tensor *tensor = &self->tensors[i];
        size_t file = checkpoint_index_find(index, tensor->tensor->name);
        if (file == tensor->file)
            continue;
        (void)(file == SIZE_MAX
                   ? didi_fail(error, DIDI_FORMAT, NULL, "the tensor is not in %s", index_name)
                   : didi_fail(error, DIDI_FORMAT, NULL, "%s puts the tensor in %s", index_name,
                               self->files[file].name));
        return blame(self, tensor, DIDI_FORMAT, error);
    }
    for (size_t i = 0; i < checkpoint_index_tensor_count(index); i++) {
        const char *name = checkpoint_index_tensor(index, i);
        size_t file = checkpoint_index_find(index, name);
        if (safetensors_header_find(self->files[file].header, name) != NULL)
            continue;
        int status = didi_fail(error, DIDI_FORMAT, NULL, "%s lists the tensor, the shard lacks it",
                               index_name);
        didi_error_blame(error, self->files[file].subject, name);
        return status;
    }
    return DIDI_OK;
}

static int read_index(const checkpoint *self, checkpoint_index **ret_index, didi_error *error)
{
    char *text = NULL;
    size_t bytes = 0;
    int fd = -1;
    char *subject = memory_format("%s/%s", self->label, index_name);
    if (subject == NULL)
        return fail_memory(error, self->label);
    int status = file_open_beneath(self->directory_fd, index_name, subject, &fd, error);
    if (status == DIDI_NOT_FOUND)
        status = didi_fail(error, DIDI_NOT_FOUND, self->label, "neither %s nor %s is there",
                           single_name, index_name);
    if (status == DIDI_OK)
        status = file_read_text_fd(fd, subject, CHECKPOINT_INDEX_BYTES_MAX, &text, &bytes, error);
    if (status == DIDI_OK)
        status = checkpoint_index_parse(text, bytes, subject, ret_index, error);
    file_close(fd);
    free(text);
    free(subject);
    return status;
}

/* Opens files and collects tensors of a checkpoint that has its directory. */
static int load(checkpoint *self, didi_error *error)
{
    checkpoint_index *index = NULL;
    struct stat facts;
    int status = DIDI_OK;
    if (fstatat(self->directory_fd, single_name, &facts, AT_SYMLINK_NOFOLLOW) != 0) {
        if (errno != ENOENT)
            return didi_fail_errno(error, errno, self->label, "cannot look for %s", single_name);
        self->is_adapter = !is_there(self, index_name) &&
                           (is_there(self, adapter_name) || is_there(self, config_name));
        if (!self->is_adapter)
            status = read_index(self, &index, error);
    }
    if (status == DIDI_OK)
        status = self->is_adapter ? open_adapter(self, error) : open_files(self, index, error);
    if (status == DIDI_OK)
        status = collect_tensors(self, error);
    if (status == DIDI_OK && index != NULL)
        status = check_index(self, index, error);
    checkpoint_index_free(index);
    return status;
}

int checkpoint_open(int directory_fd, const char *label, checkpoint **ret_checkpoint,
                    didi_error *error)
{
    assert(label != NULL);
    checkpoint *self = memory_zeroed(1, sizeof(*self));
    if (self == NULL)
        return fail_memory(error, label);
    int status = DIDI_OK;
    self->directory_fd = fcntl(directory_fd, F_DUPFD_CLOEXEC, 0);
    self->label = memory_string(label);
    if (self->directory_fd < 0)
        status = didi_fail_errno(error, errno, label, "cannot use the model's directory");
    else if (self->label == NULL)
        status = fail_memory(error, label);
    if (status == DIDI_OK)
        status = load(self, error);
    if (status != DIDI_OK)
        checkpoint_close(self);
    else
        *ret_checkpoint = self;
    return status;
}

void checkpoint_close(checkpoint *self)
{
    if (self == NULL)
        return;
    for (size_t i = 0; i < self->file_count; i++)
        close_file(&self->files[i]);
    file_close(self->directory_fd);
    free(self->files);
    free(self->tensors);
    free(self->label);
    free(self);
}

const char *checkpoint_label(const checkpoint *self)
{
    return self->label;
}

bool checkpoint_is_adapter(const checkpoint *self)
{
    return self->is_adapter;
}

int checkpoint_read_config(const checkpoint *self, char **ret_text, size_t *ret_bytes,
                           didi_error *error)
{
    assert(self->is_adapter);
    const open_file *file = &self->files[1];
    return file_read_text_fd(file->fd, file->subject, ADAPTER_CONFIG_BYTES_MAX, ret_text, ret_bytes,
                             error);
}

size_t checkpoint_count(const checkpoint *self)
{
    return self->count;
}

const checkpoint_tensor *checkpoint_at(const checkpoint *self, size_t index)
{
    assert(index < self->count);
    return &self->tensors[index];
}

const checkpoint_tensor *checkpoint_find(const checkpoint *self, const char *name)
{
    safetensors_tensor tensor = {.name = name};
    checkpoint_tensor key = {.tensor = &tensor};
    if (self->count == 0)
        return NULL;
    return bsearch(&key, self->tensors, self->count, sizeof(key), compare_tensors);
}

size_t checkpoint_file_count(const checkpoint *self)
{
    return self->file_count;
}

const checkpoint_file *checkpoint_file_at(const checkpoint *self, size_t index)
{
    assert(index < self->file_count);
    return &self->files[index].facts;
}

int checkpoint_read(const checkpoint *self, const checkpoint_tensor *tensor, uint64_t first,
                    void *buffer, uint64_t count, didi_error *error)
{
    assert(tensor->file < self->file_count);
    const open_file *file = &self->files[tensor->file];
    int status = DIDI_OK;
    if (first > tensor->tensor->bytes || count > tensor->tensor->bytes - first)
        status = didi_fail(error, DIDI_INVALID, NULL, "%llu bytes at %llu are outside the tensor",
                           (unsigned long long)count, (unsigned long long)first);
    else
        status = file_pread_all(file->fd, buffer, (size_t)count, tensor->tensor->offset + first,
                                file->subject, error);
    return blame(self, tensor, status, error);
}

int checkpoint_read_f32(const checkpoint *self, const checkpoint_tensor *tensor, uint64_t first,
                        float *buffer, uint64_t count, didi_error *error)
{
    assert(tensor->file < self->file_count);
    didi_dtype dtype = tensor->tensor->dtype;
    uint64_t size = didi_dtype_bits(dtype) / 8;
    if (!didi_dtype_is_float(dtype) || first > tensor->tensor->elements ||
        count > tensor->tensor->elements - first)
        return blame(self, tensor,
                     didi_fail(error, DIDI_INVALID, NULL,
                               "%llu elements at %llu of %s cannot be read as float",
                               (unsigned long long)count, (unsigned long long)first,
                               didi_dtype_name(dtype)),
                     error);
    if (dtype == DIDI_DTYPE_F32)
        return checkpoint_read(self, tensor, first * size, buffer, count * size, error);
    uint64_t step = SCRATCH_BYTES / size;
    void *scratch = memory_aligned((size_t)(count < step ? count : step), (size_t)size);
    if (scratch == NULL)
        return blame(self, tensor, fail_memory(error, NULL), error);
    int status = DIDI_OK;
    while (count > 0 && status == DIDI_OK) {
        uint64_t part = count < step ? count : step;
        status = checkpoint_read(self, tensor, first * size, scratch, part * size, error);
        if (status == DIDI_OK)
            didi_dtype_to_f32(dtype, scratch, buffer, (size_t)part);
        first += part;
        buffer += part;
        count -= part;
    }
    free(scratch);
    return status;
}

void checkpoint_will_need(const checkpoint *self, const checkpoint_tensor *tensor, uint64_t first,
                          uint64_t count)
{
    assert(first <= tensor->tensor->elements && count <= tensor->tensor->elements - first);
    uint64_t size = didi_dtype_bits(tensor->tensor->dtype) / 8;
    const open_file *file = &self->files[tensor->file];
    (void)posix_fadvise(file->fd, (off_t)(tensor->tensor->offset + first * size),
                        (off_t)(count * size), POSIX_FADV_WILLNEED);
}

static bool same_file(const checkpoint_file *file, const struct stat *facts)
{
    return file->bytes == (uint64_t)facts->st_size && file->device == facts->st_dev &&
           file->inode == facts->st_ino && file->modified_ns == modified_ns(facts);
}

static int verify_file(const checkpoint *self, const open_file *file, didi_error *error)
{
    struct stat facts;
    if (fstat(file->fd, &facts) != 0)
        return didi_fail_errno(error, errno, file->subject, "cannot stat");
    if (!same_file(&file->facts, &facts))
        return didi_fail(error, DIDI_CHANGED, file->subject, "the file was modified while in use");
    bool there = fstatat(self->directory_fd, file->name, &facts, 0) == 0;
    if (!there && errno == ENOENT)
        return didi_fail(error, DIDI_CHANGED, file->subject, "the file was removed while in use");
    if (!there)
        return didi_fail_errno(error, errno, file->subject, "cannot stat");
    if (!same_file(&file->facts, &facts))
        return didi_fail(error, DIDI_CHANGED, file->subject, "the file was replaced while in use");
    return DIDI_OK;
}

int checkpoint_verify_unchanged(const checkpoint *self, didi_error *error)
{
    for (size_t i = 0; i < self->file_count; i++) {
        int status = verify_file(self, &self->files[i], error);
        if (status != DIDI_OK)
            return status;
    }
    return DIDI_OK;
}

int checkpoint_digest(const checkpoint *self, size_t file, int (*cancelled)(void *context),
                      void *context, char ret_hex[65], didi_error *error)
{
    assert(file < self->file_count);
    const open_file *opened = &self->files[file];
    char hex[65];
    uint64_t bytes = 0;
    int status = file_sha256(opened->fd, cancelled, context, hex, &bytes, opened->subject, error);
    if (status != DIDI_OK)
        return status;
    if (bytes != opened->facts.bytes)
        return didi_fail(error, DIDI_CHANGED, opened->subject,
                         "the file has %llu bytes, it had %llu", (unsigned long long)bytes,
                         (unsigned long long)opened->facts.bytes);
    memcpy(ret_hex, hex, sizeof(hex));
    return DIDI_OK;
}
