/* SPDX-License-Identifier: Apache-2.0 */
/* A merge from options to its first phase, and its end. */
#include "src/merge/merge_internal.h"

#include "src/base/base.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The first file of the list that differs: "label/name" of its line "file label/name numbers". */
static void name_changed_file(const char *old, const char *fresh, char *name, size_t size)
{
    while (*old != '\0' && *fresh != '\0') {
        size_t line = strcspn(fresh, "\n");
        if (strcspn(old, "\n") != line || strncmp(old, fresh, line) != 0)
            break;
        old += line + (old[line] == '\n');
        fresh += line + (fresh[line] == '\n');
    }
    const char *start = strncmp(fresh, "file ", 5) == 0 ? fresh + 5 : fresh;
    size_t length = strcspn(start, "\n");
    for (int numbers = 0; numbers < 4 && length > 0; length--)
        numbers += start[length - 1] == ' ';
    (void)snprintf(name, size, "%.*s", (int)(length < size ? length : size - 1), start);
}

static int compare_fingerprint(didi_merge *self, const char *old, const char *fresh,
                               didi_error *error)
{
    const char *old_inputs = strstr(old, "\ninputs\n");
    const char *inputs = strstr(fresh, "\ninputs\n");
    if (old_inputs == NULL || inputs == NULL || old_inputs - old != inputs - fresh ||
        memcmp(old, fresh, (size_t)(inputs - fresh)) != 0)
        return DIDI_OK; /* another merge's leftovers */
    if (strcmp(old_inputs, inputs) == 0)
        return DIDI_OK;
    char name[DIDI_ERROR_SUBJECT_BYTES_MAX];
    name_changed_file(old_inputs, inputs, name, sizeof name);
    (void)unlinkat(self->options.work_fd, "fingerprint", 0);
    return didi_fail(error, DIDI_CHANGED, name,
                     "%s was replaced or modified since this job began; what it had computed is "
                     "discarded",
                     name);
}

/* Old state is kept only when it was made by the same options from the same files. */
static int adopt_work(didi_merge *self, didi_error *error)
{
    enum { FINGERPRINT_BYTES_MAX = 64 << 20 };
    char *fresh = merge_options_fingerprint(self);
    char *old = NULL;
    size_t bytes = 0;
    didi_error ignored = {0};
    int status = DIDI_OK;
    if (fresh == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "fingerprint");
    if (file_read_text(self->options.work_fd, "fingerprint", FINGERPRINT_BYTES_MAX, &old, &bytes,
                       &ignored) == DIDI_OK)
        status = compare_fingerprint(self, old, fresh, error);
    if (status == DIDI_OK && (old == NULL || strcmp(old, fresh) != 0)) {
        status = file_remove_contents(self->options.work_fd, error);
        if (status == DIDI_OK)
            status = file_write_durable(self->options.work_fd, "fingerprint", fresh, strlen(fresh),
                                        error);
    }
    free(old);
    free(fresh);
    return status;
}

/* Heaviest layers first, so that the last ones in flight are short; ties by name. */
static int order_layers(didi_merge *self, didi_error *error)
{
    self->layer_order = memory_zeroed(self->layer_count, sizeof *self->layer_order);
    if (self->layer_order == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "order of layers");
    for (size_t i = 0; i < self->layer_count; i++) {
        size_t at = i;
        for (; at > 0 &&
               self->layers[self->layer_order[at - 1]]->elements < self->layers[i]->elements;
             at--)
            self->layer_order[at] = self->layer_order[at - 1];
        self->layer_order[at] = i;
    }
    return DIDI_OK;
}

static int create_summaries(didi_merge *self, didi_error *error)
{
    size_t tasks = self->options.task_count;
    self->digests = memory_zeroed(self->digest_count, 65);
    self->summaries = memory_zeroed(self->layer_count, sizeof *self->summaries);
    self->pursued = memory_zeroed(self->layer_count, sizeof *self->pursued);
    self->dense_summaries = memory_zeroed(self->dense_count, sizeof *self->dense_summaries);
    if (self->digests == NULL || self->summaries == NULL || self->pursued == NULL ||
        self->dense_summaries == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "summaries of %zu layers", self->layer_count);
    int status = DIDI_OK;
    for (size_t l = 0; l < self->layer_count && status == DIDI_OK; l++)
        status = summary_create(&self->summaries[l], tasks, error);
    for (size_t i = 0; i < self->dense_count && status == DIDI_OK; i++) {
        dense_summary *dense = &self->dense_summaries[i];
        dense->energy = memory_zeroed(tasks, sizeof(double));
        dense->bits = memory_zeroed(tasks + 1, sizeof(unsigned));
        dense->unstored = memory_zeroed(tasks, sizeof(double));
        dense->stored_error = memory_zeroed(tasks, sizeof(double));
        if (dense->energy == NULL || dense->bits == NULL || dense->unstored == NULL ||
            dense->stored_error == NULL)
            status = didi_fail(error, DIDI_NO_MEMORY, NULL, "summaries");
    }
    return status;
}

static int prepare(didi_merge *self, const didi_merge_options *options, didi_error *error)
{
    bool published = false;
    int status = merge_options_check(options, error);
    if (status == DIDI_OK)
        status = merge_options_copy(options, self, error);
    if (status == DIDI_OK && options->extend.package_fd >= 0)
        status = extension_open(options, &self->extension, error);
    if (status == DIDI_OK)
        status = family_open(options, &self->family, error);
    if (status == DIDI_OK && self->extension != NULL)
        status = extension_adopt(self->extension, self->family, error);
    self->shared = options->shared_merge != DIDI_SHARED_NONE && options->task_count > 1 &&
                   self->extension == NULL; /* what is shared is there already */
    if (status == DIDI_OK)
        status = merge_plan_make(self, error);
    if (status != DIDI_OK)
        return status;
    self->digest_count = checkpoint_file_count(self->family->base);
    for (size_t t = 0; t < options->task_count; t++)
        self->digest_count += checkpoint_file_count(self->family->tasks[t]);
    status = merge_reuse_open(self, error);
    if (status != DIDI_OK || options->output_fd < 0)
        return status;
    status = create_summaries(self, error);
    if (status == DIDI_OK)
        status = order_layers(self, error);
    if (status == DIDI_OK)
        status = parallel_create(&self->parallel, error);
    if (status == DIDI_OK)
        status = merge_options_digest(self, self->fingerprint, error);
    if (status == DIDI_OK)
        status = manifest_find(self->output_fd, self->options.output_name, self->fingerprint,
                               &published, error);
    if (status != DIDI_OK)
        return status;
    if (published) { /* an attempt died between publishing and telling so */
        merge_enter_phase(self, PHASE_COUNT);
        return DIDI_OK;
    }
    status = adopt_work(self, error);
    if (status == DIDI_OK)
        merge_enter_phase(self, PHASE_DIGEST);
    return status;
}

int didi_merge_open(const didi_merge_options *options, const didi_merge_hooks *hooks,
                    didi_merge **ret_merge, didi_error *error)
{
    didi_merge *self = memory_zeroed(1, sizeof *self);
    if (self == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "merge");
    self->output_fd = self->package_fd = self->options.work_fd = self->options.reuse_fd = -1;
    self->stage_announced = -1;
    atomic_init(&self->cancelled, false);
    atomic_init(&self->bytes_read, 0);
    atomic_init(&self->steps_done, 0);
    atomic_init(&self->steps_wanted, 0);
    atomic_init(&self->peak_memory, 0);
    clock_gettime(CLOCK_MONOTONIC, &self->began);
    if (hooks != NULL)
        self->hooks = *hooks;
    int status = prepare(self, options, error);
    if (status != DIDI_OK) {
        didi_merge_close(self);
        return status;
    }
    *ret_merge = self;
    return DIDI_OK;
}

void didi_merge_close(didi_merge *self)
{
    if (self == NULL)
        return;
    didi_error ignored = {0};
    if (self->package_fd >= 0) {
        (void)close(self->package_fd);
        if (!(self->finished && self->status == DIDI_OK))
            (void)file_remove_tree(self->output_fd, self->package_name, &ignored);
    }
    if (self->finished && self->status == DIDI_OK && self->options.work_fd >= 0 &&
        !self->options.keep_work)
        (void)file_remove_contents(self->options.work_fd, &ignored);
    for (size_t l = 0; self->summaries != NULL && l < self->layer_count; l++)
        summary_clear(&self->summaries[l]);
    for (size_t i = 0; self->dense_summaries != NULL && i < self->dense_count; i++) {
        free(self->dense_summaries[i].energy);
        free(self->dense_summaries[i].bits);
        free(self->dense_summaries[i].unstored);
        free(self->dense_summaries[i].stored_error);
    }
    free(self->summaries);
    free(self->dense_summaries);
    free(self->digests);
    free(self->layers);
    free(self->dense);
    free(self->layer_order);
    free(self->limits);
    free((void *)self->plan.layers);
    free(self->frontier);
    free(self->pursued);
    free(self->items);
    merge_reuse_close(self);
    parallel_free(self->parallel);
    family_close(self->family);
    extension_close(self->extension);
    merge_options_clear(self);
    free(self);
}

const didi_plan *didi_merge_plan(const didi_merge *self)
{
    return &self->plan;
}
