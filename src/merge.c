/* SPDX-License-Identifier: Apache-2.0 */
/* The pipeline: phases made of items, handed out by the owner, run by anyone. */
#include "src/merge_internal.h"

#include "src/allocate.h"
#include "src/base/file.h"
#include "src/base/memory.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct {
    didi_stage stage;
    double share;
} phases[PHASE_COUNT] = {
#define PHASE_ROW(id, stage, share) [PHASE_##id] = { DIDI_STAGE_##stage, share },
    MERGE_PHASE_TABLE(PHASE_ROW)
#undef PHASE_ROW
};

didi_stage merge_phase_stage(merge_phase phase)
{
    return phases[phase].stage;
}

const char *didi_stage_name(didi_stage stage)
{
    static const char *const names[] = {
#define STAGE_NAME(id, name) [DIDI_STAGE_##id] = name,
        DIDI_STAGE_TABLE(STAGE_NAME)
#undef STAGE_NAME
    };
    return (size_t)stage < DIDI_STAGE_COUNT ? names[stage] : "unknown";
}

static double seconds_between(const struct timespec *from, const struct timespec *to)
{
    return (double)(to->tv_sec - from->tv_sec) + 1e-9 * (double)(to->tv_nsec - from->tv_nsec);
}

double merge_seconds(const didi_merge *self)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return seconds_between(&self->began, &now);
}

/* ---- events ---- */

void merge_emit(didi_merge *self, const didi_event *event)
{
    if (self->hooks.event == NULL)
        return;
    didi_event full = *event;
    full.ratio_target = self->options.budget;
    full.items_done = self->items_done;
    full.items_total = self->item_count;
    full.seconds = merge_seconds(self);
    full.bytes_read = atomic_load(&self->bytes_read);
    self->hooks.event(self->hooks.context, &full);
}

void merge_point(didi_merge *self, didi_stage stage, uint64_t step, double loss,
                 double relative_error, double ratio)
{
    didi_event event = { .kind = DIDI_EVENT_POINT,
                         .stage = stage,
                         .step = step,
                         .loss = loss,
                         .relative_error = relative_error,
                         .ratio = ratio };
    merge_emit(self, &event);
}

void merge_note(didi_merge *self, didi_stage stage, const char *format, ...)
{
    char text[256];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    didi_event event = { .kind = DIDI_EVENT_NOTE,
                         .stage = stage,
                         .loss = NAN,
                         .relative_error = NAN,
                         .ratio = NAN,
                         .text = text };
    merge_emit(self, &event);
}

/* ---- phases ---- */

static size_t phase_items(const didi_merge *self, merge_phase phase)
{
    switch (phase) {
    case PHASE_DIGEST:
        return self->digest_count;
    case PHASE_DECOMPOSE:
        return self->layer_count + 1; /* the last one scans the dense tensors */
    case PHASE_PURSUE:
        return merge_pursues(self) ? self->layer_count : 0;
    case PHASE_RANKS:
        return merge_pursues(self) ? 1 : 0;
    case PHASE_REFINE:
        return self->layer_count;
    case PHASE_WRITE:
        return self->options.task_count + 1;
    default:
        return 1;
    }
}

static const checkpoint *digest_model(const didi_merge *self, size_t index, size_t *ret_file)
{
    const checkpoint *model = self->family->base;
    for (size_t t = 0; index >= checkpoint_file_count(model); t++) {
        index -= checkpoint_file_count(model);
        model = self->family->tasks[t];
    }
    *ret_file = index;
    return model;
}

static void digest_name(size_t index, char name[64])
{
    (void)snprintf(name, 64, "digest-%05zu.hex", index);
}

/* True when an earlier attempt finished this item; its result is then in memory. */
static bool recall_item(didi_merge *self, merge_phase phase, size_t index)
{
    didi_error ignored = { 0 };
    if (phase == PHASE_DIGEST) {
        char name[64];
        char *text = NULL;
        size_t bytes = 0;
        digest_name(index, name);
        if (file_read_text(self->options.work_fd, name, 64, &text, &bytes, &ignored) != DIDI_OK)
            return false;
        bool whole = bytes == 64;
        if (whole)
            memcpy(self->digests[index], text, 65);
        free(text);
        return whole;
    }
    if (phase == PHASE_DECOMPOSE && index == self->layer_count)
        return merge_recall_dense(self, &ignored) == DIDI_OK;
    if (phase == PHASE_DECOMPOSE || phase == PHASE_PURSUE || phase == PHASE_REFINE)
        return merge_recall_layer(self, phase, index, &ignored) == DIDI_OK;
    return false;
}

static void fail_merge(didi_merge *self, int status, const didi_error *error)
{
    if (self->status != DIDI_OK)
        return;
    self->status = status;
    self->error = *error;
    atomic_store(&self->cancelled, true); /* what is in flight need not finish */
}

/* Enters the next phase that has items; none left means done. */
static void enter_phase(didi_merge *self, merge_phase phase)
{
    while (phase < PHASE_COUNT && phase_items(self, phase) == 0)
        phase++;
    free(self->items);
    self->items = NULL;
    self->item_count = self->items_done = 0;
    self->phase = phase;
    if (phase == PHASE_COUNT) {
        self->finished = true;
        return;
    }
    size_t count = phase_items(self, phase);
    self->items = memory_zeroed(count, sizeof *self->items);
    didi_error error = { 0 };
    if (self->items == NULL) {
        fail_merge(self, didi_fail(&error, DIDI_NO_MEMORY, NULL, "items of a stage"), &error);
        return;
    }
    self->item_count = count;
    if (phase == PHASE_WRITE && merge_open_package(self, &error) != DIDI_OK) {
        fail_merge(self, error.status, &error);
        return;
    }
    for (size_t i = 0; i < count; i++)
        if (recall_item(self, phase, i)) {
            self->items[i] = ITEM_DONE;
            self->items_done++;
        }
    didi_event event = { .kind = DIDI_EVENT_STAGE,
                         .stage = phases[phase].stage,
                         .loss = NAN,
                         .relative_error = NAN,
                         .ratio = NAN };
    merge_emit(self, &event);
    if (self->items_done == count)
        enter_phase(self, phase + 1);
}

/* ---- open and close ---- */

static int compare_fingerprint(didi_merge *self, const char *old, const char *fresh,
                               didi_error *error)
{
    const char *old_inputs = strstr(old, "\ninputs\n");
    const char *inputs = strstr(fresh, "\ninputs\n");
    if (old_inputs == NULL || inputs == NULL || old_inputs - old != inputs - fresh
        || memcmp(old, fresh, (size_t)(inputs - fresh)) != 0)
        return DIDI_OK; /* another merge's leftovers */
    if (strcmp(old_inputs, inputs) == 0)
        return DIDI_OK;
    (void)unlinkat(self->options.work_fd, "fingerprint", 0);
    return didi_fail(error, DIDI_CHANGED, self->options.base_label,
                     "an input file was replaced or modified since this job began; what it had "
                     "computed is discarded");
}

/* Old state is kept only when it was made by the same options from the same files. */
static int adopt_work(didi_merge *self, didi_error *error)
{
    enum { FINGERPRINT_BYTES_MAX = 64 << 20 };
    char *fresh = merge_options_fingerprint(self);
    char *old = NULL;
    size_t bytes = 0;
    didi_error ignored = { 0 };
    int status = DIDI_OK;
    if (fresh == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "fingerprint");
    if (file_read_text(self->options.work_fd, "fingerprint", FINGERPRINT_BYTES_MAX, &old, &bytes,
                       &ignored)
        == DIDI_OK)
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
        for (; at > 0
               && self->layers[self->layer_order[at - 1]]->elements < self->layers[i]->elements;
             at--)
            self->layer_order[at] = self->layer_order[at - 1];
        self->layer_order[at] = i;
    }
    return DIDI_OK;
}

static int create_summaries(didi_merge *self, didi_error *error)
{
    size_t tasks = self->options.task_count;
    self->digest_count = checkpoint_file_count(self->family->base);
    for (size_t t = 0; t < tasks; t++)
        self->digest_count += checkpoint_file_count(self->family->tasks[t]);
    self->digests = memory_zeroed(self->digest_count, 65);
    self->summaries = memory_zeroed(self->layer_count, sizeof *self->summaries);
    self->dense_summaries = memory_zeroed(self->dense_count, sizeof *self->dense_summaries);
    if (self->digests == NULL || self->summaries == NULL || self->dense_summaries == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "summaries of %zu layers",
                         self->layer_count);
    int status = DIDI_OK;
    for (size_t l = 0; l < self->layer_count && status == DIDI_OK; l++)
        status = summary_create(&self->summaries[l], tasks, error);
    for (size_t i = 0; i < self->dense_count && status == DIDI_OK; i++) {
        self->dense_summaries[i].energy = memory_zeroed(tasks, sizeof(double));
        if (self->dense_summaries[i].energy == NULL)
            status = didi_fail(error, DIDI_NO_MEMORY, NULL, "summaries");
    }
    return status;
}

static int prepare(didi_merge *self, const didi_merge_options *options, didi_error *error)
{
    int status = merge_options_check(options, error);
    if (status == DIDI_OK)
        status = merge_options_copy(options, self, error);
    if (status == DIDI_OK)
        status = family_open(options, &self->family, error);
    if (status == DIDI_OK)
        status = merge_plan_make(self, error);
    if (status != DIDI_OK || options->output_fd < 0)
        return status;
    self->shared = options->shared_merge != DIDI_SHARED_NONE && options->task_count > 1;
    status = create_summaries(self, error);
    if (status == DIDI_OK)
        status = order_layers(self, error);
    if (status == DIDI_OK)
        status = team_create(&self->team, error);
    if (status == DIDI_OK)
        status = adopt_work(self, error);
    return status;
}

int didi_merge_open(const didi_merge_options *options, const didi_merge_hooks *hooks,
                    didi_merge **ret_merge, didi_error *error)
{
    didi_merge *self = memory_zeroed(1, sizeof *self);
    if (self == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "merge");
    self->output_fd = self->package_fd = self->options.work_fd = -1;
    atomic_init(&self->cancelled, false);
    atomic_init(&self->bytes_read, 0);
    clock_gettime(CLOCK_MONOTONIC, &self->began);
    if (hooks != NULL)
        self->hooks = *hooks;
    int status = prepare(self, options, error);
    if (status != DIDI_OK) {
        didi_merge_close(self);
        return status;
    }
    if (self->output_fd >= 0)
        enter_phase(self, PHASE_DIGEST);
    *ret_merge = self;
    return DIDI_OK;
}

void didi_merge_close(didi_merge *self)
{
    if (self == NULL)
        return;
    didi_error ignored = { 0 };
    if (self->package_fd >= 0) {
        (void)close(self->package_fd);
        if (!(self->finished && self->status == DIDI_OK))
            (void)file_remove_tree(self->output_fd, self->package_name, &ignored);
    }
    if (self->finished && self->status == DIDI_OK && self->options.work_fd >= 0)
        (void)file_remove_contents(self->options.work_fd, &ignored);
    for (size_t l = 0; self->summaries != NULL && l < self->layer_count; l++)
        summary_clear(&self->summaries[l]);
    for (size_t i = 0; self->dense_summaries != NULL && i < self->dense_count; i++)
        free(self->dense_summaries[i].energy);
    free(self->summaries);
    free(self->dense_summaries);
    free(self->digests);
    free(self->layers);
    free(self->dense);
    free(self->layer_order);
    free(self->limits);
    free((void *)self->plan.layers);
    free(self->frontier);
    free(self->items);
    team_free(self->team);
    family_close(self->family);
    merge_options_clear(self);
    free(self);
}

const didi_plan *didi_merge_plan(const didi_merge *self)
{
    return &self->plan;
}

/* ---- items ---- */

static uint64_t item_memory(const didi_merge *self, merge_phase phase, size_t index)
{
    enum { SMALL_BYTES = 4 << 20 };
    bool of_layer = phase == PHASE_DECOMPOSE || phase == PHASE_PURSUE || phase == PHASE_REFINE;
    return of_layer && index < self->layer_count ? merge_layer_memory(self, index) : SMALL_BYTES;
}

/* Position in the order of service -> index of the item. */
static size_t service_order(const didi_merge *self, size_t position)
{
    bool of_layer = self->phase == PHASE_DECOMPOSE || self->phase == PHASE_PURSUE
                    || self->phase == PHASE_REFINE;
    return of_layer && position < self->layer_count ? self->layer_order[position] : position;
}

static didi_next give_item(didi_merge *self, size_t index, bool helper, didi_item **ret_item)
{
    didi_item *item = memory_zeroed(1, sizeof *item);
    if (item == NULL) {
        didi_error error = { 0 };
        fail_merge(self, didi_fail(&error, DIDI_NO_MEMORY, NULL, "item"), &error);
        return self->items_running > 0 ? DIDI_NEXT_WAIT : DIDI_NEXT_FINISHED;
    }
    item->merge = self;
    item->phase = self->phase;
    item->index = index;
    item->helper = helper;
    item->memory = helper ? 0 : item_memory(self, self->phase, index);
    if (!helper) {
        self->items[index] = ITEM_RUNNING;
        self->memory_running += item->memory;
        team_enter(self->team);
    }
    self->helpers_running += helper;
    self->items_running++;
    *ret_item = item;
    return DIDI_NEXT_ITEM;
}

didi_next didi_merge_next(didi_merge *self, uint64_t memory_available, bool helper,
                          didi_item **ret_item)
{
    bool stop = self->status != DIDI_OK || atomic_load(&self->cancelled);
    if (stop || self->finished)
        return self->items_running > 0 ? DIDI_NEXT_WAIT : DIDI_NEXT_FINISHED;
    uint64_t limit = self->options.memory_limit > 0 ? self->options.memory_limit : UINT64_MAX;
    uint64_t left = limit > self->memory_running ? limit - self->memory_running : 0;
    left = left < memory_available ? left : memory_available;
    for (size_t i = 0; i < self->item_count; i++) {
        size_t index = service_order(self, i);
        if (self->items[index] != ITEM_PENDING || item_memory(self, self->phase, index) > left)
            continue;
        return give_item(self, index, false, ret_item);
    }
    if (helper && self->items_running > self->helpers_running) {
        team_welcome(self->team);
        return give_item(self, 0, true, ret_item);
    }
    return DIDI_NEXT_WAIT;
}

uint64_t didi_item_memory(const didi_item *item)
{
    return item->memory;
}

didi_stage didi_item_stage(const didi_item *item)
{
    return phases[item->phase].stage;
}

static int is_cancelled(void *context)
{
    didi_merge *self = context;
    return atomic_load(&self->cancelled);
}

static int digest_item(didi_merge *self, size_t index, didi_error *error)
{
    size_t file = 0;
    char name[64];
    const checkpoint *model = digest_model(self, index, &file);
    int status = checkpoint_digest(model, file, is_cancelled, self, self->digests[index], error);
    digest_name(index, name);
    if (status == DIDI_OK && !self->options.volatile_work)
        status = file_write_durable(self->options.work_fd, name, self->digests[index], 64, error);
    atomic_fetch_add(&self->bytes_read, checkpoint_file_at(model, file)->bytes);
    return status;
}

static int run_item(didi_merge *self, merge_phase phase, size_t index, didi_error *error)
{
    switch (phase) {
    case PHASE_DIGEST:
        return digest_item(self, index, error);
    case PHASE_DECOMPOSE:
        return index < self->layer_count ? merge_decompose_layer(self, index, error)
                                         : merge_scan_dense(self, error);
    case PHASE_SCHEDULE:
        return merge_schedule(self, error);
    case PHASE_PURSUE:
        return merge_pursue_layer(self, index, error);
    case PHASE_RANKS:
        return merge_final_ranks(self, error);
    case PHASE_REFINE:
        return merge_refine_layer(self, index, error);
    case PHASE_WRITE:
        return merge_write_file(self, index, error);
    default:
        return merge_seal(self, error);
    }
}

/* Names the layer an item failed at, unless the error already names an input. */
static void add_context(const didi_merge *self, didi_item *item)
{
    bool of_layer = item->phase == PHASE_DECOMPOSE || item->phase == PHASE_PURSUE
                    || item->phase == PHASE_REFINE;
    if (item->status == DIDI_CANCELLED || item->error.subject[0] != '\0' || !of_layer
        || item->index >= self->layer_count)
        return;
    (void)didi_error_wrap(&item->error, "tensor '%s'", self->layers[item->index]->name);
}

void didi_item_execute(didi_item *item)
{
    didi_merge *self = item->merge;
    if (item->helper) {
        team_help(self->team);
        return;
    }
    clock_gettime(CLOCK_MONOTONIC, &item->began);
    if (atomic_load(&self->cancelled))
        item->status = didi_fail(&item->error, DIDI_CANCELLED, NULL, "cancelled");
    else
        item->status = run_item(self, item->phase, item->index, &item->error);
    if (item->status != DIDI_OK)
        add_context(self, item);
    clock_gettime(CLOCK_MONOTONIC, &item->ended);
    team_leave(self->team);
}

/* ---- completion ---- */

static uint64_t anonymous_memory(void)
{
    unsigned long long kilobytes = 0;
    char line[128];
    FILE *file = fopen("/proc/self/status", "re");
    if (file == NULL)
        return 0;
    while (fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "RssAnon: %llu", &kilobytes) == 1)
            break;
    (void)fclose(file);
    return kilobytes * 1024;
}

/* Loss and error over the layers refined so far. */
static void report_refined(didi_merge *self)
{
    double loss = 0;
    double error = 0;
    double energy = 0;
    double weighted = 0;
    for (size_t l = 0; l < self->layer_count; l++) {
        const layer_summary *summary = &self->summaries[l];
        if (self->items[l] != ITEM_DONE)
            continue;
        loss += summary->loss;
        for (size_t t = 0; t < summary->tasks; t++) {
            error += summary->error[t];
            energy += summary->energy[t];
            weighted += summary->weight[t] * summary->energy[t];
        }
    }
    uint64_t stored = self->factor_parameters + self->dense_stored;
    merge_point(self, DIDI_STAGE_REFINE, self->items_done, weighted > 0 ? loss / weighted : 0,
                energy > 0 ? error / energy : 0, (double)stored / (double)self->plan.parameters);
}

static void complete_success(didi_merge *self, const didi_item *item)
{
    self->items[item->index] = ITEM_DONE;
    self->items_done++;
    if (item->phase == PHASE_REFINE)
        report_refined(self);
    else if (item->phase != PHASE_SCHEDULE && item->phase != PHASE_RANKS)
        merge_point(self, phases[item->phase].stage, self->items_done, NAN, NAN, NAN);
    if (self->items_done == self->item_count)
        enter_phase(self, item->phase + 1);
}

void didi_merge_complete(didi_merge *self, didi_item *item)
{
    self->items_running--;
    self->helpers_running -= item->helper;
    if (!item->helper) {
        uint64_t memory = anonymous_memory();
        self->peak_memory = memory > self->peak_memory ? memory : self->peak_memory;
        self->memory_running -= item->memory;
        self->phase_seconds[item->phase] += seconds_between(&item->began, &item->ended);
        if (item->status != DIDI_OK)
            fail_merge(self, item->status, &item->error);
        else
            complete_success(self, item);
    }
    free(item);
}

void didi_merge_recall_helpers(didi_merge *self)
{
    team_recall(self->team);
}

void didi_merge_cancel(didi_merge *self)
{
    atomic_store(&self->cancelled, true);
    team_recall(self->team);
}

int didi_merge_result(const didi_merge *self, didi_error *error)
{
    if (self->status != DIDI_OK) {
        if (error != NULL)
            *error = self->error;
        return self->status;
    }
    if (!self->finished)
        return didi_fail(error, DIDI_CANCELLED, NULL, "cancelled");
    return DIDI_OK;
}

double didi_merge_progress(const didi_merge *self, didi_stage *ret_stage)
{
    double done = 0;
    double total = 0;
    for (int phase = 0; phase < PHASE_COUNT; phase++) {
        if (phase_items(self, (merge_phase)phase) == 0)
            continue;
        total += phases[phase].share;
        if (phase < (int)self->phase)
            done += phases[phase].share;
        else if (phase == (int)self->phase && self->item_count > 0)
            done += phases[phase].share * (double)self->items_done / (double)self->item_count;
    }
    if (ret_stage != NULL)
        *ret_stage = self->phase < PHASE_COUNT ? phases[self->phase].stage : DIDI_STAGE_PUBLISH;
    return total > 0 ? done / total : 0;
}
