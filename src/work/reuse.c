/* SPDX-License-Identifier: Apache-2.0 */
/* Starting from what a finished merge of the same inputs left: reuse.json tells what that is. */
#include "src/work/work.h"

#include "src/base/base.h"

#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define REUSE_FILE "reuse.json"
#define REUSE_SUBJECT "/from_job"

enum { REUSE_FORMAT = 1, REUSE_BYTES_MAX = 256 << 20, STATE_BYTES_MAX = 1 << 30 };

/* The base, then the tasks' models, then the tasks' Gram matrices; NULL: none were given. */
static const checkpoint *model_at(const work *self, size_t number)
{
    size_t tasks = self->family->task_count;
    return number == 0       ? self->family->base
           : number <= tasks ? self->family->tasks[number - 1].model
                             : self->family->tasks[number - 1 - tasks].gram;
}

static size_t files_of(const checkpoint *model)
{
    return model != NULL ? checkpoint_file_count(model) : 0;
}

const checkpoint *work_input_at(const work *self, size_t index, size_t *ret_file)
{
    size_t number = 0;
    for (; index >= files_of(model_at(self, number)); number++)
        index -= files_of(model_at(self, number));
    *ret_file = index;
    return model_at(self, number);
}

size_t work_input_count(const work *self)
{
    size_t count = 0;
    for (size_t number = 0; number <= 2 * self->family->task_count; number++)
        count += files_of(model_at(self, number));
    return count;
}

/* ---- writing ---- */

static json_t *inputs_json(const work *self)
{
    json_t *inputs = json_array();
    for (size_t i = 0; i < self->digest_count; i++) {
        size_t at = 0;
        const checkpoint *model = work_input_at(self, i, &at);
        const checkpoint_file *file = checkpoint_file_at(model, at);
        json_array_append_new(
            inputs, json_pack("{s:s,s:s,s:I,s:I,s:I,s:I,s:s,s:s}", "model", checkpoint_label(model),
                              "file", file->name, "bytes", (json_int_t)file->bytes, "modified_ns",
                              (json_int_t)file->modified_ns, "device", (json_int_t)file->device,
                              "inode", (json_int_t)file->inode, "sha256", self->digests[i], "same",
                              self->same[i] != NULL ? self->same[i] : ""));
    }
    return inputs;
}

int work_reuse_write(const work *self, const char *fingerprint, json_t *method, didi_error *error)
{
    json_t *layers = json_array();
    json_t *weights = json_array();
    for (size_t l = 0; l < self->layer_count; l++)
        json_array_append_new(layers, json_string(self->layers[l]->name));
    for (size_t t = 0; t < self->options.task_count; t++)
        json_array_append_new(weights, json_real(self->task_weight[t]));
    json_t *document =
        json_pack("{s:i,s:s,s:o,s:o,s:o}", "format", REUSE_FORMAT, "fingerprint", fingerprint,
                  "weights", weights, "layers", layers, "inputs", inputs_json(self));
    char *text = NULL;
    if (document != NULL && json_object_update(document, method) == 0)
        text = json_dumps(document, JSON_COMPACT);
    json_decref(document);
    json_decref(method);
    if (text == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, REUSE_FILE, "what another merge may start from");
    int status = file_write_durable(self->options.work_fd, REUSE_FILE, text, strlen(text), error);
    free(text);
    return status;
}

static bool entry_is_kept(const char *name)
{
    static const char *const kept[] = {REUSE_FILE, "decompose-*.state", "gram-*.state",
                                       "pursue-*.state"};
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
        if (fnmatch(kept[i], name, FNM_NOESCAPE) == 0)
            return true;
    return false;
}

typedef struct sealing {
    int work_fd;
    uint64_t bytes;
} sealing;

static int seal_entry(void *context, const char *name, didi_error *error)
{
    sealing *self = context;
    struct stat info;
    if (!entry_is_kept(name))
        return file_remove_tree(self->work_fd, name, error);
    if (fstatat(self->work_fd, name, &info, AT_SYMLINK_NOFOLLOW) != 0)
        return didi_fail_errno(error, errno, name, "size of a layer's state");
    self->bytes = memory_add(self->bytes, (uint64_t)info.st_size);
    return DIDI_OK;
}

int didi_reuse_seal(int work_fd, uint64_t *ret_bytes, didi_error *error)
{
    sealing self = {.work_fd = work_fd};
    if (faccessat(work_fd, REUSE_FILE, R_OK, AT_SYMLINK_NOFOLLOW) != 0)
        return didi_fail_errno(error, errno, REUSE_FILE, "there is nothing to start from");
    int status = file_each_entry(work_fd, seal_entry, &self, error);
    if (status == DIDI_OK)
        *ret_bytes = self.bytes;
    return status;
}

/* ---- reading ---- */

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "";
}

static bool same_number(const json_t *object, const char *key, uint64_t value)
{
    return (uint64_t)json_integer_value(json_object_get(object, key)) == value;
}

static int fail_changed(const work *self, size_t index, const char *what, didi_error *error)
{
    size_t at = 0;
    char name[DIDI_ERROR_SUBJECT_BYTES_MAX];
    const checkpoint *model = work_input_at(self, index, &at);
    (void)snprintf(name, sizeof name, "%s/%s", checkpoint_label(model),
                   checkpoint_file_at(model, at)->name);
    return didi_fail(error, DIDI_CHANGED, name,
                     "%s %s; leave from_job out to merge it as it is now", name, what);
}

static int compare_input(work *self, size_t index, const json_t *old, didi_error *error)
{
    size_t at = 0;
    const checkpoint *model = work_input_at(self, index, &at);
    const checkpoint_file *file = checkpoint_file_at(model, at);
    const char *digest = text_of(old, "sha256");
    if (strcmp(text_of(old, "model"), checkpoint_label(model)) != 0 ||
        strcmp(text_of(old, "file"), file->name) != 0)
        return didi_fail(error, DIDI_MISMATCH, REUSE_SUBJECT,
                         "the earlier merge was of %s/%s where this one has %s/%s; leave from_job "
                         "out to merge other models",
                         text_of(old, "model"), text_of(old, "file"), checkpoint_label(model),
                         file->name);
    if (!same_number(old, "bytes", file->bytes) || strlen(digest) != 64 ||
        !same_number(old, "modified_ns", (uint64_t)file->modified_ns))
        return fail_changed(self, index, "was replaced or modified since the earlier merge", error);
    memcpy(self->reuse->digests[index], digest, 65);
    self->reuse->same[index] = text_of(old, "same");
    self->reuse->same_place[index] =
        same_number(old, "device", file->device) && same_number(old, "inode", file->inode);
    return DIDI_OK;
}

static int compare_inputs(work *self, const json_t *document, didi_error *error)
{
    const json_t *inputs = json_object_get(document, "inputs");
    size_t tasks = json_array_size(json_object_get(document, "weights"));
    if (tasks != self->options.task_count)
        return didi_fail(error, DIDI_MISMATCH, REUSE_SUBJECT,
                         "the earlier merge had %zu tasks and this one has %zu; leave from_job out "
                         "to merge other tasks",
                         tasks, self->options.task_count);
    self->reuse->digests = memory_zeroed(self->digest_count, 65);
    self->reuse->same_place = memory_zeroed(self->digest_count, sizeof(bool));
    self->reuse->same = memory_zeroed(self->digest_count, sizeof *self->reuse->same);
    if (self->reuse->digests == NULL || self->reuse->same == NULL ||
        self->reuse->same_place == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "digests of %zu files", self->digest_count);
    int status = DIDI_OK;
    for (size_t i = 0; i < self->digest_count && status == DIDI_OK; i++)
        status = compare_input(self, i, json_array_get(inputs, i), error);
    if (status == DIDI_OK && json_array_size(inputs) != self->digest_count)
        status = didi_fail(error, DIDI_MISMATCH, REUSE_SUBJECT,
                           "the earlier merge had %zu files and this one has %zu; leave from_job "
                           "out to merge other models",
                           json_array_size(inputs), self->digest_count);
    return status;
}

/* Both lists are sorted by name. */
static int map_layers(work *self, const json_t *document, didi_error *error)
{
    const json_t *layers = json_object_get(document, "layers");
    size_t count = json_array_size(layers);
    size_t old = 0;
    self->reuse->index = memory_zeroed(self->layer_count, sizeof *self->reuse->index);
    if (self->reuse->index == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "map of %zu layers", self->layer_count);
    for (size_t l = 0; l < self->layer_count; l++) {
        int order = -1;
        for (; old < count && order < 0; old += order < 0) {
            const char *name = json_string_value(json_array_get(layers, old));
            order = name != NULL ? strcmp(name, self->layers[l]->name) : -1;
        }
        self->reuse->index[l] = old < count && order == 0 ? old : SIZE_MAX;
    }
    return DIDI_OK;
}

int work_reuse_open(work *self, didi_error *error)
{
    char *text = NULL;
    size_t bytes = 0;
    didi_error reading = {0};
    if (self->options.reuse_fd < 0)
        return DIDI_OK;
    if (file_read_text(self->options.reuse_fd, REUSE_FILE, REUSE_BYTES_MAX, &text, &bytes,
                       &reading) != DIDI_OK)
        return didi_fail(error, reading.status, REUSE_SUBJECT,
                         "what the earlier merge kept cannot be read: %s", reading.message);
    bool refused = false;
    json_t *document = json_load(text, bytes, 0, NULL, &refused);
    free(text);
    int status = DIDI_OK;
    self->reuse = memory_zeroed(1, sizeof *self->reuse);
    if (self->reuse == NULL || refused) {
        json_decref(document);
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "what an earlier merge left");
    }
    self->reuse->document = document;
    if (json_integer_value(json_object_get(document, "format")) != REUSE_FORMAT ||
        strlen(text_of(document, "fingerprint")) != 64)
        status = didi_fail(error, DIDI_FORMAT, REUSE_SUBJECT,
                           "what the earlier merge kept is damaged or of another version; leave "
                           "from_job out");
    if (status == DIDI_OK)
        status = compare_inputs(self, document, error);
    if (status == DIDI_OK)
        status = map_layers(self, document, error);
    if (status == DIDI_OK)
        memcpy(self->reuse->fingerprint, text_of(document, "fingerprint"), 65);
    return status;
}

void work_reuse_close(work *self)
{
    if (self->reuse == NULL)
        return;
    json_decref(self->reuse->document);
    free(self->reuse->index);
    free(self->reuse->digests);
    free((void *)self->reuse->same);
    free(self->reuse->same_place);
    free(self->reuse);
    self->reuse = NULL;
}

bool work_reuse_find(const work *self, size_t index, size_t *ret_old)
{
    const reuse_source *from = self->reuse;
    if (from == NULL || from->index == NULL || from->index[index] == SIZE_MAX)
        return false;
    *ret_old = from->index[index];
    return true;
}

bool work_reuse_take(const work *self, const char *old_name, const char *name)
{
    int from = self->options.reuse_fd;
    int to = self->options.work_fd;
    char *text = NULL;
    size_t bytes = 0;
    if (linkat(from, old_name, to, name, 0) == 0 || errno == EEXIST)
        return true;
    if (errno == ENOENT ||
        file_read_text(from, old_name, STATE_BYTES_MAX, &text, &bytes, NULL) != DIDI_OK)
        return false;
    bool copied = file_write_durable(to, name, text, bytes, NULL) == DIDI_OK;
    free(text);
    return copied;
}

int work_reuse_check_digest(const work *self, size_t index, didi_error *error)
{
    if (self->reuse == NULL || strcmp(self->reuse->digests[index], self->digests[index]) == 0)
        return DIDI_OK;
    return fail_changed(self, index, "is another file than the one the earlier merge read", error);
}
