/* SPDX-License-Identifier: Apache-2.0 */
/* A task's model as a directory that libraries open: weights rebuilt from artifacts and base,
 * shards and their index, files beside them, a card. */
#include "src/didi.h"

#include "src/base/base.h"
#include "src/files/files.h"
#include "src/package/adapter.h"
#include "src/package/model_card.h"
#include "src/package/reader.h"
#include "src/package/side_files.h"
#include "src/package/task_model.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SHARD_NAME_BYTES = 64 };

typedef struct export_job {
    const didi_export *wanted;
    checkpoint *base;
    task_model *model;
    json_t *manifest;
    size_t *shards; /* of each tensor */
    size_t shard_count;
    int fd; /* the directory in the making */
} export_job;

static int check_cancelled(const export_job *self, didi_error *error)
{
    const didi_export *wanted = self->wanted;
    return wanted->cancelled != NULL && wanted->cancelled(wanted->context) != 0
               ? didi_fail(error, DIDI_CANCELLED, NULL, "cancelled")
               : DIDI_OK;
}

/* ---- shards ---- */

enum { UNPLACED = CHECKPOINT_SHARDS_MAX };

/* Gives the tensors from `first` on that have no shard yet the next one. */
static void close_shard(export_job *self, size_t first, size_t end)
{
    for (size_t i = first; i < end; i++)
        if (self->shards[i] == UNPLACED)
            self->shards[i] = self->shard_count;
    self->shard_count++;
}

/* As huggingface_hub cuts them: by name, and a tensor that is too large alone. */
static int plan_shards(export_job *self, didi_error *error)
{
    const didi_export *wanted = self->wanted;
    size_t count = task_model_count(self->model);
    uint64_t limit = wanted->max_shard_bytes != 0 ? wanted->max_shard_bytes : UINT64_MAX;
    uint64_t used = 0;
    size_t first = 0;
    bool open = false;
    self->shards = memory_zeroed(count, sizeof *self->shards);
    if (self->shards == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, wanted->task, "plan of %zu tensors", count);
    for (size_t i = 0; i < count && self->shard_count < CHECKPOINT_SHARDS_MAX; i++) {
        uint64_t bytes = task_model_at(self->model, i)->bytes;
        self->shards[i] = UNPLACED;
        if (bytes > limit) {
            self->shards[i] = self->shard_count++;
            continue;
        }
        if (open && bytes > limit - used) {
            close_shard(self, first, i);
            open = false;
        }
        if (!open) {
            first = i;
            used = 0;
        }
        open = true;
        used = memory_add(used, bytes);
    }
    if (open || count == 0)
        close_shard(self, first, count);
    return self->shard_count < CHECKPOINT_SHARDS_MAX
               ? DIDI_OK
               : didi_fail(error, DIDI_INVALID, wanted->task,
                           "shards of %" PRIu64 " bytes: more than %d would be needed", limit,
                           (int)CHECKPOINT_SHARDS_MAX - 1);
}

static void shard_name(const export_job *self, size_t shard, char name[SHARD_NAME_BYTES])
{
    if (self->shard_count == 1)
        (void)snprintf(name, SHARD_NAME_BYTES, "model.safetensors");
    else
        (void)snprintf(name, SHARD_NAME_BYTES, "model-%05zu-of-%05zu.safetensors", shard + 1,
                       self->shard_count);
}

static int create_shard(const export_job *self, size_t shard, safetensors_writer **ret_writer,
                        didi_error *error)
{
    static const char *const metadata[][2] = {{"format", "pt"}};
    char name[SHARD_NAME_BYTES];
    size_t all = task_model_count(self->model);
    size_t count = 0;
    shard_name(self, shard, name);
    safetensors_layout_entry *entries = memory_zeroed(all, sizeof *entries);
    if (entries == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, name, "layout of %zu tensors", all);
    for (size_t i = 0; i < all; i++)
        if (self->shards[i] == shard)
            entries[count++] = task_tensor_entry(task_model_at(self->model, i));
    safetensors_contents contents = {
        .entries = entries, .count = count, .metadata = metadata, .metadata_count = 1};
    int status = safetensors_writer_create(self->fd, name, &contents, ret_writer, error);
    free(entries);
    return status;
}

static int write_tensor(const export_job *self, const task_tensor *tensor,
                        safetensors_writer *writer, didi_error *error)
{
    task_pieces *pieces = NULL;
    const void *bytes = NULL;
    size_t count = 1;
    uint64_t first = 0;
    int status = task_pieces_open(self->model, tensor, &pieces, error);
    while (status == DIDI_OK && count > 0) {
        status = check_cancelled(self, error);
        if (status == DIDI_OK)
            status = task_pieces_next(pieces, &bytes, &count, error);
        if (status == DIDI_OK)
            status = safetensors_writer_put_bytes(writer, tensor->name, first, bytes, count, error);
        first += count;
    }
    task_pieces_close(pieces);
    return status;
}

static int write_shard(const export_job *self, size_t shard, didi_error *error)
{
    safetensors_writer *writer = NULL;
    int status = create_shard(self, shard, &writer, error);
    for (size_t i = 0; i < task_model_count(self->model) && status == DIDI_OK; i++)
        if (self->shards[i] == shard)
            status = write_tensor(self, task_model_at(self->model, i), writer, error);
    if (status == DIDI_OK)
        return safetensors_writer_close(writer, true, error);
    safetensors_writer_abort(writer);
    return status;
}

static int write_json(const export_job *self, const char *name, const json_t *value,
                      didi_error *error)
{
    char *text = value != NULL ? json_dumps(value, JSON_INDENT(2)) : NULL;
    int status = text != NULL ? file_write_durable(self->fd, name, text, strlen(text), error)
                              : didi_fail(error, DIDI_NO_MEMORY, name, "text of the file");
    free(text);
    return status;
}

static int write_index(const export_job *self, didi_error *error)
{
    uint64_t total = 0;
    json_t *map = json_object();
    for (size_t i = 0; i < task_model_count(self->model); i++) {
        const task_tensor *tensor = task_model_at(self->model, i);
        char name[SHARD_NAME_BYTES];
        shard_name(self, self->shards[i], name);
        json_object_set_new(map, tensor->name, json_string(name));
        total = memory_add(total, tensor->bytes);
    }
    json_t *index =
        json_pack("{s:{s:I},s:o}", "metadata", "total_size", (json_int_t)total, "weight_map", map);
    int status = write_json(self, "model.safetensors.index.json", index, error);
    json_decref(index);
    return status;
}

static int write_weights(const export_job *self, didi_error *error)
{
    int status = DIDI_OK;
    for (size_t shard = 0; shard < self->shard_count && status == DIDI_OK; shard++)
        status = write_shard(self, shard, error);
    return status == DIDI_OK && self->shard_count > 1 ? write_index(self, error) : status;
}

/* ---- beside the weights ---- */

static int write_card(const export_job *self, const side_files *files, didi_error *error)
{
    char license[MODEL_CARD_LICENSE_BYTES];
    char *config_text = NULL;
    size_t bytes = 0;
    bool refused = false;
    json_t *config = NULL;
    int status =
        file_read_text(self->fd, "config.json", SIDE_FILE_BYTES_MAX, &config_text, &bytes, error);
    if (status != DIDI_OK && status != DIDI_NOT_FOUND)
        return status;
    if (status == DIDI_OK)
        config = json_load(config_text, bytes, 0, NULL, &refused);
    model_card_base_license(self->wanted->base_fd, &self->wanted->links, license);
    char *text = refused
                     ? NULL
                     : model_card_text(self->manifest, self->wanted->task, config, files, license);
    status = text != NULL ? file_write_durable(self->fd, "README.md", text, strlen(text), error)
                          : didi_fail(error, DIDI_NO_MEMORY, "README.md", "text of the card");
    json_decref(config);
    free(config_text);
    free(text);
    return status;
}

static int write_rest(const export_job *self, didi_error *error)
{
    const didi_export *wanted = self->wanted;
    side_files files = {0};
    int status =
        side_files_copy(wanted->task_fd, wanted->base_fd, &wanted->links, self->fd, &files, error);
    if (status == DIDI_OK)
        status = write_card(self, &files, error);
    side_files_clear(&files);
    return status;
}

/* ---- the base must be the one that was merged ---- */

static int verify_base_files(const didi_export *wanted, const checkpoint *base, const json_t *files,
                             didi_error *error)
{
    for (size_t f = 0; f < checkpoint_file_count(base); f++) {
        const checkpoint_file *file = checkpoint_file_at(base, f);
        const json_t *row = manifest_file_row(files, "name", file->name);
        const char *merged = json_string_value(json_object_get(row, "sha256"));
        char found[65];
        int status = checkpoint_digest(base, f, wanted->cancelled, wanted->context, found, error);
        if (status != DIDI_OK)
            return status;
        if (merged == NULL || strcmp(merged, found) != 0)
            return didi_fail(error, DIDI_CHANGED, checkpoint_label(base),
                             "%s/%s is not the base file that was merged", checkpoint_label(base),
                             file->name);
    }
    return DIDI_OK;
}

int export_verify_base(const didi_export *wanted, const checkpoint *base, didi_error *error)
{
    json_t *manifest = NULL;
    int status = manifest_file_read(wanted->artifact_fd, &manifest, error);
    if (status != DIDI_OK)
        return status;
    const json_t *files = manifest_file_base(manifest);
    if (files == NULL)
        status = didi_fail(error, DIDI_FORMAT, "manifest.json", "the manifest lists no base files");
    else
        status = verify_base_files(wanted, base, files, error);
    json_decref(manifest);
    return status;
}

static int read_inputs(export_job *self, didi_error *error)
{
    const didi_export *wanted = self->wanted;
    int status = checkpoint_open_within(wanted->base_fd, &wanted->links, wanted->base_label,
                                        &self->base, error);
    if (status == DIDI_OK)
        status =
            task_model_open(wanted->artifact_fd, wanted->task, self->base, &self->model, error);
    if (status == DIDI_OK)
        status = manifest_file_read(wanted->artifact_fd, &self->manifest, error);
    if (status == DIDI_OK && wanted->verify_base)
        status = export_verify_base(wanted, self->base, error);
    return status == DIDI_OK ? plan_shards(self, error) : status;
}

/* ---- whole or not at all ---- */

/* Beside the directory of the task while it is made, and while one that was there goes; no task's
 * name begins with a dot. */
typedef struct places {
    char *partial, *former;
} places;

/* A crash between the two renames leaves no model of the task; its export is not done either. */
static int publish(const export_job *self, const places *names, didi_error *error)
{
    const char *task = self->wanted->task;
    int output_fd = self->wanted->output_fd;
    int status = file_sync(self->fd, task, error);
    if (status == DIDI_OK)
        status = fault_check(FAULT_EXPORT, task, error);
    if (status == DIDI_OK) {
        status = file_rename(output_fd, task, output_fd, names->former, error);
        status = status == DIDI_NOT_FOUND ? DIDI_OK : status;
    }
    if (status != DIDI_OK)
        return status;
    status = file_rename(output_fd, names->partial, output_fd, task, error);
    if (status != DIDI_OK)
        (void)file_rename(output_fd, names->former, output_fd, task, NULL);
    return status == DIDI_OK ? file_sync(output_fd, task, error) : status;
}

static int write_directory(export_job *self, const places *names, didi_error *error)
{
    int output_fd = self->wanted->output_fd;
    int status = file_remove_tree(output_fd, names->partial, error);
    if (status == DIDI_OK)
        status = file_remove_tree(output_fd, names->former, error);
    if (status == DIDI_OK)
        status = file_open_directory(output_fd, names->partial, 1, &self->fd, error);
    if (status == DIDI_OK)
        status = write_weights(self, error);
    if (status == DIDI_OK)
        status = write_rest(self, error);
    if (status == DIDI_OK)
        status = checkpoint_verify_unchanged(self->base, error);
    if (status == DIDI_OK)
        status = publish(self, names, error);
    file_close(self->fd);
    (void)file_remove_tree(output_fd, names->partial, NULL);
    (void)file_remove_tree(output_fd, names->former, NULL);
    return status;
}

int didi_export_full(const didi_export *wanted, didi_error *error)
{
    export_job self = {.wanted = wanted, .fd = -1};
    places names = {.partial = memory_format(".%s.partial", wanted->task),
                    .former = memory_format(".%s.former", wanted->task)};
    int status = names.partial != NULL && names.former != NULL
                     ? read_inputs(&self, error) /* a name with a slash ends here */
                     : didi_fail(error, DIDI_NO_MEMORY, wanted->task, "names of directories");
    if (status == DIDI_OK)
        status = write_directory(&self, &names, error);
    free(names.partial);
    free(names.former);
    free(self.shards);
    json_decref(self.manifest);
    task_model_close(self.model);
    checkpoint_close(self.base);
    return status;
}

int didi_export_source(int artifact_fd, const char *task, char **ret_model, didi_error *error)
{
    json_t *manifest = NULL;
    int status = manifest_file_read(artifact_fd, &manifest, error);
    if (status != DIDI_OK)
        return status;
    const json_t *tasks = json_object_get(json_object_get(manifest, "inputs"), "tasks");
    const char *name = json_string_value(json_object_get(json_object_get(tasks, task), "model"));
    char *copy = name != NULL ? memory_string(name) : NULL;
    if (name == NULL)
        status = didi_fail(error, DIDI_NOT_FOUND, task, "the manifest names no model of the task");
    else if (copy == NULL)
        status = didi_fail(error, DIDI_NO_MEMORY, task, "name of a model");
    else
        *ret_model = copy;
    json_decref(manifest);
    return status;
}
