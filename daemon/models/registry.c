/* SPDX-License-Identifier: Apache-2.0 */
/* The registry: scans the roots, keeps the rows. */
#include "daemon/models/registry.h"

#include "src/base/base.h"
#include "src/files/files.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { REVISION_BYTES = LIMIT_MODEL_NAME_BYTES + 1 };

struct registry {
    const model_roots *roots;
    store *records;
    pthread_mutex_t scanning;
};

typedef struct registry_scan {
    registry *registry;
    store_model *rows;
    size_t count, capacity;
    size_t broken;
} registry_scan;

int registry_create(const model_roots *roots, store *records, registry **ret_registry,
                    didi_error *error)
{
    registry *self = memory_zeroed(1, sizeof *self);
    if (self == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    self->roots = roots;
    self->records = records;
    pthread_mutex_init(&self->scanning, NULL);
    *ret_registry = self;
    return DIDI_OK;
}

void registry_free(registry *self)
{
    if (self == NULL)
        return;
    pthread_mutex_destroy(&self->scanning);
    free(self);
}

const model_roots *registry_roots(const registry *self)
{
    return self->roots;
}

/* FNV-1a: revisions need to differ, not to resist anyone. */
static uint64_t fold(uint64_t hash, const void *data, size_t bytes)
{
    const unsigned char *from = data;
    for (size_t i = 0; i < bytes; i++)
        hash = (hash ^ from[i]) * UINT64_C(0x100000001b3);
    return hash;
}

static void row_measure(const checkpoint *opened, store_model *row)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    row->file_count = checkpoint_file_count(opened);
    for (size_t i = 0; i < row->file_count; i++) {
        const checkpoint_file *file = checkpoint_file_at(opened, i);
        hash = fold(hash, file->name, strlen(file->name) + 1);
        hash = fold(hash, &file->bytes, sizeof file->bytes);
        hash = fold(hash, &file->inode, sizeof file->inode);
        hash = fold(hash, &file->modified_ns, sizeof file->modified_ns);
        row->bytes = memory_add(row->bytes, file->bytes);
    }
    row->tensor_count = checkpoint_count(opened);
    for (size_t i = 0; i < row->tensor_count; i++)
        row->parameters = memory_add(row->parameters, checkpoint_at(opened, i)->tensor->elements);
    if (row->revision[0] == '\0')
        snprintf(row->revision, REVISION_BYTES, "%016" PRIx64, hash);
}

static int open_model(const model_roots *roots, const char *name, checkpoint **ret_model,
                      didi_error *error)
{
    const file_bounds links = model_roots_bounds(roots);
    int fd = -1;
    int status = model_roots_open_model(roots, name, &fd, error);
    if (status == DIDI_OK)
        status = checkpoint_open_within(fd, &links, name, ret_model, error);
    file_close(fd);
    return status;
}

/* An adapter's files may be sound while what they say cannot be merged. */
static int check_adapter(const checkpoint *opened, didi_error *error)
{
    adapter *found = NULL;
    int status = checkpoint_is_adapter(opened) ? adapter_read(opened, &found, error) : DIDI_OK;
    adapter_free(found);
    return status;
}

typedef struct weights_check {
    int fd;
    const char *name;
} weights_check;

/* Also what no index names must be sound. */
static int check_weights(void *context, const char *entry, didi_error *error)
{
    const weights_check *self = context;
    static const char ending[] = ".safetensors";
    safetensors_header *header = NULL;
    char subject[2 * LIMIT_MODEL_NAME_BYTES];
    size_t bytes = strlen(entry);
    int fd = -1;
    if (bytes < sizeof ending || strcmp(entry + bytes - (sizeof ending - 1), ending) != 0)
        return DIDI_OK;
    (void)snprintf(subject, sizeof subject, "%s/%s", self->name, entry);
    int status = file_open_beneath(self->fd, entry, subject, &fd, error);
    if (status == DIDI_OK)
        status = safetensors_header_read(fd, subject, &header, error);
    safetensors_header_free(header);
    file_close(fd);
    return status;
}

int registry_check_directory(int directory_fd, const char *name, didi_error *error)
{
    weights_check check = {directory_fd, name};
    checkpoint *opened = NULL;
    int status = file_each_entry(directory_fd, check_weights, &check, error);
    if (status == DIDI_OK)
        status = checkpoint_open(directory_fd, name, &opened, error);
    if (status == DIDI_OK)
        status = check_adapter(opened, error);
    checkpoint_close(opened);
    return status;
}

/* A model that cannot be opened is a row too: broken, with the reason. */
static void row_inspect(const model_roots *roots, store_model *row)
{
    checkpoint *opened = NULL;
    model_place place = {0};
    didi_error why = {0};
    int status = model_roots_find(roots, row->name, &place, &why);
    snprintf(row->revision, REVISION_BYTES, "%s", place.revision);
    if (status == DIDI_OK)
        status = open_model(roots, row->name, &opened, &why);
    row->is_adapter = opened != NULL && checkpoint_is_adapter(opened);
    if (status == DIDI_OK)
        status = check_adapter(opened, &why);
    if (status == DIDI_OK) {
        row->state = MODEL_READY;
        row_measure(opened, row);
    } else {
        row->state = MODEL_BROKEN;
        row->reason = why.subject[0] != '\0' ? memory_format("%s: %s", why.subject, why.message)
                                             : memory_string(why.message);
    }
    checkpoint_close(opened);
}

static int scan_visit(void *context, size_t root, const char *name, didi_error *error)
{
    registry_scan *scan = context;
    store_model *rows = memory_grown(scan->rows, scan->count, &scan->capacity, sizeof *rows);
    if (rows == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    scan->rows = rows;
    store_model *row = &scan->rows[scan->count++];
    memset(row, 0, sizeof *row);
    row->name = memory_string(name);
    row->root = memory_string(model_roots_path(scan->registry->roots, root));
    row->revision = memory_zeroed(1, REVISION_BYTES);
    if (row->name == NULL || row->root == NULL || row->revision == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    row_inspect(scan->registry->roots, row);
    if (row->state == MODEL_BROKEN) {
        scan->broken++;
        if (row->reason == NULL)
            return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    }
    return DIDI_OK;
}

int registry_rescan(registry *self, size_t *ret_ready, size_t *ret_broken, didi_error *error)
{
    registry_scan scan = {.registry = self};
    pthread_mutex_lock(&self->scanning);
    int status = model_roots_walk(self->roots, scan_visit, &scan, error);
    if (status == DIDI_OK)
        status = store_model_replace(self->records, scan.rows, scan.count, error);
    pthread_mutex_unlock(&self->scanning);
    if (status == DIDI_OK) {
        *ret_ready = scan.count - scan.broken;
        *ret_broken = scan.broken;
    }
    store_models_free(scan.rows, scan.count);
    return status;
}

int registry_find(registry *self, const char *name, store_model *ret_model, didi_error *error)
{
    char listed[MODEL_PLACE_BYTES];
    didi_error unlisted = {0};
    int status = store_model_get(self->records, name, ret_model, &unlisted);
    if (status == DIDI_NOT_FOUND && strchr(name, '@') != NULL &&
        model_roots_list_name(self->roots, name, listed, &unlisted) == DIDI_OK)
        return store_model_get(self->records, listed, ret_model, error);
    if (status != DIDI_OK)
        didi_fail(error, status, unlisted.subject, "%s", unlisted.message);
    return status;
}

int registry_tensors(registry *self, const char *name,
                     int (*visit)(void *context, const registry_tensor *tensor), void *context,
                     didi_error *error)
{
    checkpoint *opened = NULL;
    int status = open_model(self->roots, name, &opened, error);
    if (status != DIDI_OK)
        return status;
    for (size_t i = 0; i < checkpoint_count(opened) && status == DIDI_OK; i++) {
        const checkpoint_tensor *entry = checkpoint_at(opened, i);
        const registry_tensor tensor = {
            .name = entry->tensor->name,
            .dtype = didi_dtype_name(entry->tensor->dtype),
            .shape = entry->tensor->shape,
            .dimensions = entry->tensor->dimensions,
            .bytes = entry->tensor->bytes,
            .file = checkpoint_file_at(opened, entry->file)->name,
        };
        status = visit(context, &tensor);
    }
    checkpoint_close(opened);
    return status;
}
