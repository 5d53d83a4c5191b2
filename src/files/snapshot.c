/* SPDX-License-Identifier: Apache-2.0 */
/* State files over the safetensors reader and writer. */
#include "src/files/snapshot.h"

#include "src/base/base.h"
#include "src/files/safetensors.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SNAPSHOT_NAME_BYTES = 128 };

struct snapshot {
    safetensors_header *header;
    char *map;
    size_t bytes;
    char name[SNAPSHOT_NAME_BYTES];
};

static int create_writer(int work_fd, const char *name, const snapshot_entry *entries, size_t count,
                         safetensors_writer **ret_writer, didi_error *error)
{
    uint64_t(*shapes)[2] = memory_zeroed(count, sizeof *shapes);
    safetensors_layout_entry *layout = memory_zeroed(count, sizeof *layout);
    int status = DIDI_OK;
    if (shapes == NULL || layout == NULL) {
        status = didi_fail(error, DIDI_NO_MEMORY, name, "layout of %zu arrays", count);
        goto out;
    }
    for (size_t i = 0; i < count; i++) {
        shapes[i][0] = entries[i].rows;
        shapes[i][1] = entries[i].columns;
        layout[i] = (safetensors_layout_entry){entries[i].name, entries[i].dtype, 2, shapes[i]};
    }
    safetensors_contents contents = {.entries = layout, .count = count};
    status = safetensors_writer_create(work_fd, name, &contents, ret_writer, error);
out:
    free(shapes);
    free(layout);
    return status;
}

struct snapshot_writer {
    safetensors_writer *file;
    int work_fd;
    char name[SNAPSHOT_NAME_BYTES], temporary[SNAPSHOT_NAME_BYTES + 24];
};

int snapshot_writer_create(int work_fd, const char *name, const snapshot_entry *entries,
                           size_t count, snapshot_writer **ret_writer, didi_error *error)
{
    assert(work_fd >= 0 && strlen(name) < SNAPSHOT_NAME_BYTES);
    assert(count == 0 || entries != NULL);
    snapshot_writer *self = memory_zeroed(1, sizeof *self);
    if (self == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, name, "layer state");
    self->work_fd = work_fd;
    (void)snprintf(self->name, sizeof self->name, "%s", name);
    uint64_t random = 0; /* other processes may write the same */
    if (getrandom(&random, sizeof random, 0) != (ssize_t)sizeof random) {
        free(self);
        return didi_fail_errno(error, errno, name, "no random bytes for a temporary name");
    }
    (void)snprintf(self->temporary, sizeof self->temporary, "%s.%016" PRIx64 ".tmp", name, random);
    int status = create_writer(work_fd, self->temporary, entries, count, &self->file, error);
    if (status != DIDI_OK)
        free(self);
    else
        *ret_writer = self;
    return status;
}

int snapshot_writer_put(snapshot_writer *self, const char *array, uint64_t first, const void *bytes,
                        uint64_t count, didi_error *error)
{
    return safetensors_writer_put_bytes(self->file, array, first, bytes, count, error);
}

void snapshot_writer_abort(snapshot_writer *self)
{
    if (self == NULL)
        return;
    safetensors_writer_abort(self->file);
    free(self);
}

int snapshot_writer_close(snapshot_writer *self, bool durable, didi_error *error)
{
    int status = safetensors_writer_close(self->file, durable, error);
    if (status == DIDI_OK)
        status = fault_check(FAULT_LAYER, self->name, error);
    if (status == DIDI_OK)
        status = file_rename(self->work_fd, self->temporary, self->work_fd, self->name, error);
    if (status == DIDI_OK && durable)
        status = file_sync(self->work_fd, self->name, error);
    if (status != DIDI_OK)
        (void)unlinkat(self->work_fd, self->temporary, 0);
    free(self);
    return status;
}

/* In pieces, so that what is spilled need not be in memory all at once. */
static int put_entry(snapshot_writer *self, const snapshot_entry *entry, didi_error *error)
{
    uint64_t bytes = entry->rows * entry->columns * didi_dtype_bits(entry->dtype) / 8;
    for (uint64_t first = 0; first < bytes; first += SPILL_PIECE_BYTES) {
        uint64_t part = bytes - first < SPILL_PIECE_BYTES ? bytes - first : SPILL_PIECE_BYTES;
        int status = snapshot_writer_put(self, entry->name, first,
                                         (const char *)entry->data + first, part, error);
        if (status != DIDI_OK)
            return status;
        spill_touched(part);
    }
    return DIDI_OK;
}

int snapshot_save(int work_fd, const char *name, const snapshot_entry *entries, size_t count,
                  bool durable, didi_error *error)
{
    snapshot_writer *writer = NULL;
    int status = snapshot_writer_create(work_fd, name, entries, count, &writer, error);
    for (size_t i = 0; i < count && status == DIDI_OK; i++)
        status = put_entry(writer, &entries[i], error);
    if (status == DIDI_OK)
        return snapshot_writer_close(writer, durable, error);
    snapshot_writer_abort(writer);
    return status;
}

int snapshot_open(int work_fd, const char *name, snapshot **ret_snapshot, didi_error *error)
{
    assert(work_fd >= 0 && strlen(name) < SNAPSHOT_NAME_BYTES);
    snapshot *self = memory_zeroed(1, sizeof *self);
    if (self == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, name, "layer state");
    (void)snprintf(self->name, sizeof self->name, "%s", name);
    int status = DIDI_OK;
    struct stat info;
    int fd = openat(work_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 || fstat(fd, &info) != 0) {
        status = didi_fail_errno(error, errno, name, "layer state");
        goto out;
    }
    status = safetensors_header_read(fd, name, &self->header, error);
    if (status != DIDI_OK)
        goto out;
    self->bytes = (size_t)info.st_size;
    void *map = mmap(NULL, self->bytes, PROT_READ, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        status = didi_fail_errno(error, errno, name, "mapping layer state");
    else
        self->map = map;
out:
    file_close(fd);
    if (status != DIDI_OK)
        snapshot_close(self);
    else
        *ret_snapshot = self;
    return status;
}

void snapshot_close(snapshot *self)
{
    if (self == NULL)
        return;
    if (self->map != NULL)
        (void)munmap(self->map, self->bytes);
    safetensors_header_free(self->header);
    free(self);
}

void snapshot_forget(const snapshot *self)
{
    (void)madvise(self->map, self->bytes, MADV_DONTNEED);
}

int snapshot_find(const snapshot *self, const char *name, didi_dtype dtype, uint64_t columns,
                  uint64_t *ret_rows, const void **ret_data, didi_error *error)
{
    assert(name != NULL && ret_data != NULL);
    const safetensors_tensor *tensor = safetensors_header_find(self->header, name);
    if (tensor == NULL || tensor->dtype != dtype || tensor->dimensions != 2 ||
        tensor->shape[1] != columns || tensor->offset % (didi_dtype_bits(dtype) / 8) != 0)
        return didi_fail(error, DIDI_FORMAT, self->name,
                         "layer state has no '%s' of the expected type and width", name);
    if (ret_rows != NULL)
        *ret_rows = tensor->shape[0];
    *ret_data = self->map + tensor->offset;
    return DIDI_OK;
}
