/* SPDX-License-Identifier: Apache-2.0 */
/* A merge from options to its first phase, and its end. */
#include "src/merge/merge.h"

#include "src/base/base.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool merge_name_changed_file(const char *old, const char *fresh, int numbers, char *name,
                             size_t size)
{
    while (*old != '\0' && *fresh != '\0') {
        size_t line = strcspn(fresh, "\n");
        if (strcspn(old, "\n") != line || strncmp(old, fresh, line) != 0)
            break;
        old += line + (old[line] == '\n');
        fresh += line + (fresh[line] == '\n');
    }
    bool is_file = strncmp(fresh, "file ", 5) == 0;
    const char *start = is_file ? fresh + 5 : fresh;
    size_t length = strcspn(start, "\n");
    for (int found = 0; found < numbers && length > 0; length--)
        found += start[length - 1] == ' ';
    (void)snprintf(name, size, "%.*s", (int)(length < size ? length : size - 1), start);
    return is_file && strncmp(old, "file ", 5) == 0;
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
    (void)merge_name_changed_file(old_inputs, inputs, 4, name, sizeof name);
    (void)unlinkat(self->work.options.work_fd, "fingerprint", 0);
    return didi_fail(error, DIDI_CHANGED, name,
                     "%s was replaced or modified since this job began; what it had computed is "
                     "discarded",
                     name);
}

static int remove_if_unfinished(void *context, const char *name, didi_error *error)
{
    const int *work_fd = context;
    size_t length = strlen(name);
    (void)error;
    if (strncmp(name, ".tmp-", 5) == 0 || (length > 4 && strcmp(name + length - 4, ".tmp") == 0))
        (void)unlinkat(*work_fd, name, 0);
    return DIDI_OK;
}

/* What a process that died was writing. With others at work it stays to the end: it may be theirs.
 */
static void remove_unfinished(int work_fd)
{
    didi_error ignored = {0};
    (void)file_each_entry(work_fd, remove_if_unfinished, &work_fd, &ignored);
}

/* Old state is kept only when it was made by the same options from the same files. */
static int adopt_work(didi_merge *self, didi_error *error)
{
    enum { FINGERPRINT_BYTES_MAX = 64 << 20 };
    char *fresh = merge_options_text(self, true);
    char *old = NULL;
    size_t bytes = 0;
    int status = DIDI_OK;
    if (fresh == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "fingerprint");
    if (file_read_text(self->work.options.work_fd, "fingerprint", FINGERPRINT_BYTES_MAX, &old,
                       &bytes, NULL) == DIDI_OK)
        status = compare_fingerprint(self, old, fresh, error);
    if (status == DIDI_OK && (old == NULL || strcmp(old, fresh) != 0)) {
        status = file_remove_contents(self->work.options.work_fd, error);
        if (status == DIDI_OK)
            status = file_write_durable(self->work.options.work_fd, "fingerprint", fresh,
                                        strlen(fresh), error);
    } else if (status == DIDI_OK && !self->work.options.elsewhere)
        remove_unfinished(self->work.options.work_fd);
    free(old);
    free(fresh);
    return status;
}

/* Heaviest layers first, so that the last ones in flight are short; ties by name. */
static int order_layers(work *self, didi_error *error)
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
    work *of = &self->work;
    size_t tasks = of->options.task_count;
    of->digests = memory_zeroed(of->digest_count, 65);
    of->same = memory_zeroed(of->digest_count, sizeof *of->same);
    of->summaries = memory_zeroed(of->layer_count, sizeof *of->summaries);
    of->dense_summaries = memory_zeroed(of->dense_count, sizeof *of->dense_summaries);
    if (of->digests == NULL || of->same == NULL || of->summaries == NULL ||
        of->dense_summaries == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "summaries of %zu layers", of->layer_count);
    int status = work_twins_list(of, error);
    for (size_t l = 0; l < of->layer_count && status == DIDI_OK; l++)
        status = summary_create(&of->summaries[l], tasks, error);
    for (size_t i = 0; i < of->dense_count && status == DIDI_OK; i++)
        status = dense_summary_create(&of->dense_summaries[i], tasks, error);
    return status;
}

/* Options and inputs: what can be refused before anything is planned. */
static int open_inputs(didi_merge *self, const didi_merge_options *options, didi_error *error)
{
    work *of = &self->work;
    int status = method_find(options->method, &self->method, error);
    if (status == DIDI_OK)
        status = merge_options_check(options, self->method, error);
    if (status == DIDI_OK)
        status = merge_options_copy(options, self, error);
    if (status == DIDI_OK && options->extend.package_fd >= 0)
        status = extension_open(options, &of->extension, error);
    if (status == DIDI_OK)
        status = family_open(options, &of->family, error);
    if (status == DIDI_OK) {
        work_keep_sensitive(options, of->family);
        status = extension_adopt(of->extension, options, of->family, error);
    }
    if (status != DIDI_OK)
        return status;
    of->digest_count = work_input_count(of);
    return merge_plan_lists(self, error);
}

static int open_method(didi_merge *self, didi_error *error)
{
    const didi_method *method = self->method;
    self->self = memory_zeroed(1, method->self_bytes);
    if (self->self == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "method %s", method->name);
    ((method_head *)self->self)->work = &self->work;
    self->work.one_model = (method->flags & METHOD_ONE_MODEL) != 0;
    int status = method_options_read(method->options, method->name,
                                     self->work.options.method_options, self->self, error);
    if (status == DIDI_OK && method->open != NULL)
        status = method->open(self->self, error);
    if (status == DIDI_OK)
        status = merge_rows_create(self, error);
    if (status == DIDI_OK)
        status = merge_plan_make(self, error);
    if (status == DIDI_OK)
        status = work_reuse_open(&self->work, error);
    assert((method->flags & METHOD_REUSES) == 0 ||
           (method->choose != NULL && method->leave != NULL));
    assert((method->flags & METHOD_SURVEYS) == 0 ||
           (method->foresees != NULL && method->foresee != NULL));
    if (status == DIDI_OK && self->work.reuse != NULL)
        method->choose(self->self, self->work.reuse->document);
    return status;
}

static int prepare(didi_merge *self, const didi_merge_options *options, didi_error *error)
{
    bool published = false;
    didi_merge_options given = *options;
    if (given.survey && given.budget == 0) {
        given.budget = DIDI_SURVEY_BUDGET;
        given.budget_unit = DIDI_BUDGET_PARAMETERS;
    }
    int status = open_inputs(self, &given, error);
    if (status == DIDI_OK)
        status = open_method(self, error);
    if (status != DIDI_OK || (options->output_fd < 0 && !options->worker))
        return status;
    status = create_summaries(self, error);
    if (status == DIDI_OK)
        status = order_layers(&self->work, error);
    if (status == DIDI_OK)
        status = parallel_create(&self->work.parallel, error);
    if (status == DIDI_OK && self->method->begin != NULL)
        status = self->method->begin(self->self, error);
    if (status == DIDI_OK && options->worker)
        return merge_join(self, error);
    if (status == DIDI_OK)
        status = merge_options_digest(self, self->fingerprint, error);
    if (status == DIDI_OK)
        status = manifest_find(self->output_fd, self->work.options.output_name, self->fingerprint,
                               &published, error);
    if (status != DIDI_OK)
        return status;
    if (published) { /* an attempt died between publishing and telling so */
        merge_enter_row(self, self->row_count);
        return DIDI_OK;
    }
    status = adopt_work(self, error);
    if (status == DIDI_OK)
        merge_enter_row(self, 0);
    return status;
}

int didi_merge_open(const didi_merge_options *options, const didi_merge_hooks *hooks,
                    didi_merge **ret_merge, didi_error *error)
{
    didi_merge *self = memory_zeroed(1, sizeof *self);
    if (self == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "merge");
    self->output_fd = self->package_fd = -1;
    self->work.options.work_fd = self->work.options.reuse_fd = -1;
    self->work.engine = self;
    self->work.emit = merge_emit;
    self->work.ratio_target = NAN;
    self->stage_announced = -1;
    clock_gettime(CLOCK_MONOTONIC, &self->began);
    if (hooks != NULL)
        self->hooks = *hooks;
    int status = prepare(self, options, error);
    if (status != DIDI_OK)
        didi_merge_close(self);
    else
        *ret_merge = self;
    return status;
}

void didi_merge_close(didi_merge *self)
{
    if (self == NULL)
        return;
    if (self->package_fd >= 0) {
        (void)close(self->package_fd);
        if (!(self->finished && self->status == DIDI_OK))
            (void)file_remove_tree(self->output_fd, self->package_name, NULL);
    }
    if (self->finished && self->status == DIDI_OK && self->work.options.work_fd >= 0 &&
        !self->work.options.keep_work && !self->work.options.worker)
        (void)file_remove_contents(self->work.options.work_fd, NULL);
    if (self->status == DIDI_CHANGED && self->work.options.work_fd >= 0 &&
        !self->work.options
             .worker) /* what was computed is of other files: the next begins afresh */
        (void)unlinkat(self->work.options.work_fd, "fingerprint", 0);
    if (self->self != NULL && self->method->close != NULL)
        self->method->close(self->self);
    free(self->self);
    work *of = &self->work;
    for (size_t l = 0; of->summaries != NULL && l < of->layer_count; l++)
        summary_clear(&of->summaries[l]);
    for (size_t i = 0; of->dense_summaries != NULL && i < of->dense_count; i++)
        dense_summary_clear(&of->dense_summaries[i]);
    free(of->summaries);
    free(of->dense_summaries);
    free(of->digests);
    for (size_t i = 0; of->same != NULL && i < of->digest_count; i++)
        free(of->same[i]);
    free(of->same);
    work_twins_clear(of);
    free(of->layers);
    free(of->dense);
    free(of->layer_order);
    free((void *)of->plan.layers);
    free(of->items);
    free(self->rows);
    work_reuse_close(of);
    parallel_free(of->parallel);
    family_close(of->family);
    extension_close(of->extension);
    merge_options_clear(self);
    free(self);
}

const didi_plan *didi_merge_plan(const didi_merge *self)
{
    return &self->work.plan;
}
