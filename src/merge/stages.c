/* SPDX-License-Identifier: Apache-2.0 */
/* From one row to the next: what an earlier attempt finished is picked up, the rest is left to do.
 */
#include "src/merge/merge.h"

#include "src/base/base.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int merge_rows_create(didi_merge *self, didi_error *error)
{
    static const engine_row first = {.kind = ROW_DIGEST, .told_as = DIDI_STAGE_DIGEST, .share = 5};
    static const engine_row last[] = {
        {.kind = ROW_WRITE, .told_as = DIDI_STAGE_PUBLISH, .share = 3},
        {.kind = ROW_SEAL, .told_as = DIDI_STAGE_PUBLISH, .share = 1},
    };
    bool scanned = false;
    size_t stores = 0;
    self->row_count = self->method->stage_count + 3;
    self->rows = memory_zeroed(self->row_count, sizeof *self->rows);
    if (self->rows == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "rows of a merge");
    self->rows[0] = first;
    for (size_t i = 0; i < self->method->stage_count; i++) {
        const method_stage *stage = &self->method->stages[i];
        self->rows[i + 1] = (engine_row){.kind = stage->each != NULL ? ROW_EACH : ROW_ONCE,
                                         .told_as = stage->told_as,
                                         .share = stage->share,
                                         .stage = stage,
                                         .number = i,
                                         .scans = stage->each != NULL && !scanned};
        scanned = scanned || stage->each != NULL;
        if (stage->each != NULL)
            stores = i + 1;
    }
    assert(stores > 0); /* a method has at least one row for each tensor */
    self->rows[stores].stores = true;
    (void)snprintf(self->work.stored, sizeof self->work.stored, "%s",
                   self->rows[stores].stage->name);
    memcpy(self->rows + self->row_count - 2, last, sizeof last);
    return DIDI_OK;
}

size_t merge_row_items(const didi_merge *self, size_t row)
{
    const engine_row *at = &self->rows[row];
    switch (at->kind) {
    case ROW_DIGEST:
        return self->work.digest_count + extension_file_count(self->work.extension);
    case ROW_EACH:
    case ROW_ONCE:
        if (at->stage->skipped != NULL && at->stage->skipped(self->self))
            return 0;
        return at->kind == ROW_ONCE ? 1 : self->work.layer_count + at->scans;
    case ROW_WRITE:
        return self->work.options.survey ? 0 : self->work.options.task_count + 1;
    default:
        return 1;
    }
}

static void digest_name(size_t index, char name[64])
{
    (void)snprintf(name, 64, "digest-%05zu.hex", index);
}

static int is_cancelled(void *context)
{
    didi_merge *self = context;
    return atomic_load(&self->work.cancelled);
}

/* The digest, and behind it what was found to be the base's. */
static int save_digest(const didi_merge *self, size_t index, const char *name, didi_error *error)
{
    char *text = memory_format("%s%s", self->work.digests[index], self->work.same[index]);
    if (text == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, name, "digest of an input");
    int status = file_write_durable(self->work.options.work_fd, name, text, strlen(text), error);
    free(text);
    return status;
}

static int digest_file(didi_merge *self, size_t index, didi_error *error)
{
    size_t file = 0;
    char name[64];
    if (index >= self->work.digest_count)
        return extension_verify_file(self->work.extension, index - self->work.digest_count,
                                     is_cancelled, self, error);
    const checkpoint *model = work_input_at(&self->work, index, &file);
    int status =
        checkpoint_digest(model, file, is_cancelled, self, self->work.digests[index], error);
    if (status == DIDI_OK && model == self->work.family->base)
        status = extension_verify_base(self->work.extension, model, file, self->work.digests[index],
                                       error);
    digest_name(index, name);
    if (status == DIDI_OK)
        status = work_reuse_check_digest(&self->work, index, error);
    if (status == DIDI_OK)
        status = work_compare_input(&self->work, index, error);
    work_note_other_base(&self->work, index);
    if (status == DIDI_OK && !self->work.options.volatile_work)
        status = save_digest(self, index, name, error);
    atomic_fetch_add(&self->work.bytes_read, checkpoint_file_at(model, file)->bytes);
    return status;
}

/* ---- items ---- */

static void snapshot_name(const didi_merge *self, const engine_row *row, size_t index,
                          char name[64])
{
    work_snapshot_name(row->stores ? self->work.stored : row->stage->name, index, name);
}

static int run_layer(didi_merge *self, const engine_row *row, size_t index, didi_error *error)
{
    char name[64];
    stored *out = NULL;
    if (index == self->work.layer_count)
        return work_scan_dense(&self->work, error);
    snapshot_name(self, row, index, name);
    int status = stored_create(&self->work, index, name, &out, error);
    if (status == DIDI_OK)
        status = row->stage->each(self->self, index, out, error);
    if (status == DIDI_OK)
        status = stored_save(out, error);
    stored_free(out);
    return status;
}

/* Whether the method knows what to expect of other budgets when the rows before `stage` are done.
 */
static bool foresees(const didi_merge *self, size_t stage)
{
    return self->method->foresees != NULL && self->method->foresees(self->self, stage);
}

/* That is written here, where files may take their time, and told by the owner. */
static int save_outlook(didi_merge *self, didi_error *error)
{
    int status = self->foreseen || self->work.options.volatile_work || self->work.options.worker
                     ? DIDI_OK
                     : merge_save_outlook(self, error);
    self->foreseen = self->foreseen || status == DIDI_OK;
    return status;
}

static int run_once(didi_merge *self, const engine_row *row, didi_error *error)
{
    int status = row->stage->once(self->self, error);
    return status == DIDI_OK && foresees(self, row->number + 1) ? save_outlook(self, error)
                                                                : status;
}

int merge_run_item(didi_merge *self, size_t row, size_t index, didi_error *error)
{
    const engine_row *at = &self->rows[row];
    switch (at->kind) {
    case ROW_DIGEST:
        return digest_file(self, index, error);
    case ROW_EACH:
        return run_layer(self, at, index, error);
    case ROW_ONCE:
        return run_once(self, at, error);
    case ROW_WRITE:
        return merge_write_file(self, index, error);
    default:
        return merge_seal(self, error);
    }
}

static bool recall_digest(didi_merge *self, size_t index)
{
    const reuse_source *reuse = self->work.reuse;
    char name[64];
    char *text = NULL;
    size_t bytes = 0;
    if (index >= self->work.digest_count)
        return false;
    /* Which twins an earlier merge had depends on what it excluded: their digests are not taken. */
    if (reuse != NULL && reuse->same_place[index] && work_twins_in(&self->work, index) == 0 &&
        work_recall_comparison(&self->work, index, reuse->same[index])) {
        memcpy(self->work.digests[index], reuse->digests[index], 65);
        return true;
    }
    digest_name(index, name);
    if (file_read_text(self->work.options.work_fd, name,
                       64 + work_comparison_bytes(&self->work, index), &text, &bytes,
                       NULL) != DIDI_OK)
        return false;
    bool whole = bytes > 64 && work_recall_comparison(&self->work, index, text + 64);
    if (whole) {
        memcpy(self->work.digests[index], text, 64);
        self->work.digests[index][64] = '\0'; /* more follows in the text */
    }
    free(text);
    return whole;
}

bool merge_recall_item(didi_merge *self, size_t row, size_t index)
{
    const engine_row *at = &self->rows[row];
    char name[64];
    if (at->kind == ROW_DIGEST)
        return recall_digest(self, index);
    if (at->kind != ROW_EACH)
        return false;
    if (index == self->work.layer_count)
        return work_recall_dense(&self->work, NULL) == DIDI_OK;
    if (at->stage->recall != NULL)
        return at->stage->recall(self->self, index);
    snapshot_name(self, at, index, name);
    return stored_recall(&self->work, index, name, NULL) == DIDI_OK;
}

/* A tensor that no task changed has an empty summary, and no method needs to see it. */
static bool is_unchanged(const didi_merge *self, size_t row, size_t index)
{
    return self->rows[row].kind == ROW_EACH && index < self->work.layer_count &&
           !family_changed(self->work.family, self->work.layers[index]) &&
           !extension_shares(self->work.extension, self->work.layers[index]);
}

/* Done by the owner of a merge before a worker is given any item of the row. */
static bool is_owners(const didi_merge *self, size_t row, size_t index)
{
    return self->work.options.worker && self->rows[row].kind == ROW_DIGEST &&
           !merge_leaves_state(self, row, index);
}

void merge_fail(didi_merge *self, int status, const didi_error *error)
{
    if (self->status != DIDI_OK)
        return;
    self->status = status;
    self->error = *error;
    atomic_store(&self->work.cancelled, true); /* what is in flight need not finish */
}

static void forget_items(didi_merge *self)
{
    free(self->work.items);
    self->work.items = NULL;
    self->item_count = self->work.items_done = 0;
}

/* A survey has no files to write before the manifest. */
static size_t first_of_publish(const didi_merge *self)
{
    return self->row_count - (self->work.options.survey ? 1 : 2);
}

static int begin_row(didi_merge *self, size_t row, didi_error *error)
{
    size_t count = merge_row_items(self, row);
    forget_items(self);
    self->row = row;
    self->work.stage = self->rows[row].told_as;
    atomic_store(&self->work.steps_wanted, 0);
    self->work.items = memory_zeroed(count, sizeof *self->work.items);
    if (self->work.items == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "items of a stage");
    self->item_count = count;
    if (row == first_of_publish(self)) {
        int status = work_check_tasks_differ(&self->work, error); /* all was measured by now */
        if (status == DIDI_OK)
            status = merge_open_package(self, error);
        if (status != DIDI_OK)
            return status;
    }
    for (size_t i = 0; i < count; i++)
        if (is_unchanged(self, row, i) || merge_recall_item(self, row, i) ||
            is_owners(self, row, i)) {
            self->work.items[i] = ITEM_DONE;
            self->work.items_done++;
        }
    return DIDI_OK;
}

/* Before the files are written: true when what was computed is not what was asked for and another
 * pass may be. */
static bool go_back(didi_merge *self, size_t *ret_row, didi_error *error)
{
    bool again = false;
    size_t stage = 0;
    int status = DIDI_OK;
    if (self->method->again != NULL)
        status = self->method->again(self->self, &again, &stage, error);
    if (status != DIDI_OK)
        merge_fail(self, status, error);
    *ret_row = stage + 1;
    return again && self->status == DIDI_OK;
}

/* As soon as the method knows what to expect of other budgets. */
static int tell_outlook(didi_merge *self, size_t row, didi_error *error)
{
    const engine_row *at = &self->rows[row];
    size_t stage = at->stage != NULL ? at->number : row == 0 ? 0 : self->method->stage_count;
    if (self->foretold || self->status != DIDI_OK || !foresees(self, stage))
        return DIDI_OK;
    int status = save_outlook(self, error);
    if (status != DIDI_OK)
        return status;
    self->foretold = true;
    merge_emit(self, &(didi_event){.kind = DIDI_EVENT_FRONTIER,
                                   .stage = self->work.stage,
                                   .loss = NAN,
                                   .relative_error = NAN,
                                   .ratio = NAN});
    return DIDI_OK;
}

void merge_enter_row(didi_merge *self, size_t row)
{
    didi_error error = {0};
    for (size_t next = row; next < self->row_count; next++) {
        size_t back = 0;
        bool judged = self->rows[next].kind == ROW_WRITE && !self->work.options.survey;
        int settled = next == 1 ? work_settle_inputs(&self->work, &error) : DIDI_OK;
        if (settled == DIDI_OK)
            settled = tell_outlook(self, next, &error);
        if (settled != DIDI_OK)
            merge_fail(self, settled, &error);
        if (judged && go_back(self, &back, &error)) {
            next = back;
            self->round++;
        }
        if (self->status != DIDI_OK)
            return;
        if (self->work.options.worker && self->rows[next].kind >= ROW_WRITE)
            break;
        if (merge_row_items(self, next) == 0)
            continue;
        int status = begin_row(self, next, &error);
        if (status != DIDI_OK) {
            merge_fail(self, status, &error);
            return;
        }
        merge_announce(self, self->rows[next].told_as);
        if (self->work.items_done < self->item_count)
            return;
    }
    forget_items(self);
    self->row = self->row_count;
    self->finished = true;
}
