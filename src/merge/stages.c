/* SPDX-License-Identifier: Apache-2.0 */
/* From one phase to the next: what an earlier attempt finished is picked up, the rest is left to
 * do. */
#include "src/merge/merge_internal.h"

#include "src/base/base.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void digest_name(size_t index, char name[64])
{
    (void)snprintf(name, 64, "digest-%05zu.hex", index);
}

static int is_cancelled(void *context)
{
    didi_merge *self = context;
    return atomic_load(&self->cancelled);
}

int merge_digest_file(didi_merge *self, size_t index, didi_error *error)
{
    size_t file = 0;
    char name[64];
    if (index >= self->digest_count)
        return extension_verify_file(self->extension, index - self->digest_count, is_cancelled,
                                     self, error);
    const checkpoint *model = merge_input_at(self, index, &file);
    int status = checkpoint_digest(model, file, is_cancelled, self, self->digests[index], error);
    if (status == DIDI_OK && self->extension != NULL && model == self->family->base)
        status = extension_verify_base(self->extension, model, file, self->digests[index], error);
    digest_name(index, name);
    if (status == DIDI_OK)
        status = merge_reuse_check_digest(self, index, error);
    if (status == DIDI_OK && !self->options.volatile_work)
        status = file_write_durable(self->options.work_fd, name, self->digests[index], 64, error);
    atomic_fetch_add(&self->bytes_read, checkpoint_file_at(model, file)->bytes);
    return status;
}

/* An earlier merge's decomposition becomes this one's. */
static bool take_layer(didi_merge *self, size_t index)
{
    char old_name[64];
    char name[64];
    size_t old = 0;
    didi_error ignored = {0};
    if (!merge_reuse_find(self, PHASE_DECOMPOSE, index, &old))
        return false;
    if (merge_pursues(self) && merge_recall_pursued(self, index, &ignored) != DIDI_OK)
        return false;
    merge_gram_name(old, old_name);
    merge_gram_name(index, name);
    if (!merge_reuse_take(self, old_name, name))
        return false;
    merge_state_name(self, PHASE_DECOMPOSE, old, old_name);
    merge_state_name(self, PHASE_DECOMPOSE, index, name);
    return merge_reuse_take(self, old_name, name) &&
           merge_recall_layer(self, PHASE_DECOMPOSE, index, &ignored) == DIDI_OK;
}

/* The blocks it pursued do as they are where the budget does not grow. */
static bool take_blocks(didi_merge *self, size_t index)
{
    char old_name[64];
    char name[64];
    size_t old = 0;
    didi_error ignored = {0};
    if (self->reuse.warm == NULL || !self->reuse.warm[index] || self->reuse.rounds > 0 ||
        !merge_reuse_find(self, PHASE_PURSUE, index, &old))
        return false;
    merge_state_name(self, PHASE_PURSUE, old, old_name);
    merge_state_name(self, PHASE_PURSUE, index, name);
    return merge_reuse_take(self, old_name, name) &&
           merge_recall_layer(self, PHASE_PURSUE, index, &ignored) == DIDI_OK;
}

/* True when an earlier attempt, or the merge this one starts from, finished this item; its result
 * is then in memory. */
static bool recall_item(didi_merge *self, merge_phase phase, size_t index)
{
    didi_error ignored = {0};
    if (phase == PHASE_DIGEST && self->reuse.digests != NULL && self->reuse.same_place[index]) {
        memcpy(self->digests[index], self->reuse.digests[index], 65);
        return true;
    }
    if (phase == PHASE_DIGEST) {
        char name[64];
        char *text = NULL;
        size_t bytes = 0;
        digest_name(index, name);
        if (index >= self->digest_count)
            return false;
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
        return merge_recall_layer(self, phase, index, &ignored) == DIDI_OK ||
               (phase == PHASE_DECOMPOSE && take_layer(self, index)) ||
               (phase == PHASE_PURSUE && take_blocks(self, index));
    return false;
}

void merge_fail(didi_merge *self, int status, const didi_error *error)
{
    if (self->status != DIDI_OK)
        return;
    self->status = status;
    self->error = *error;
    atomic_store(&self->cancelled, true); /* what is in flight need not finish */
}

static int begin_phase(didi_merge *self, merge_phase phase, didi_error *error)
{
    size_t count = merge_phase_items(self, phase);
    free(self->items);
    self->item_count = self->items_done = 0;
    self->phase = phase;
    self->items = memory_zeroed(count, sizeof *self->items);
    if (self->items == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "items of a stage");
    self->item_count = count;
    if (phase == PHASE_WRITE) {
        int status = merge_open_package(self, error);
        if (status != DIDI_OK)
            return status;
    }
    for (size_t i = 0; i < count; i++)
        if (recall_item(self, phase, i)) {
            self->items[i] = ITEM_DONE;
            self->items_done++;
        }
    return DIDI_OK;
}

/* True when the refined layers are not what was asked for and another pass may be. */
static bool go_back(didi_merge *self, didi_error *error)
{
    bool again = false;
    if (merge_judge_pass(self, &again, error) != DIDI_OK)
        merge_fail(self, error->status, error);
    return again && self->status == DIDI_OK;
}

void merge_enter_phase(didi_merge *self, merge_phase phase)
{
    didi_error error = {0};
    for (; phase < PHASE_COUNT; phase++) {
        if (phase == PHASE_WRITE && go_back(self, &error)) {
            phase = PHASE_RANKS - 1;
            continue;
        }
        if (self->status != DIDI_OK)
            return;
        if (merge_phase_items(self, phase) == 0)
            continue;
        if (begin_phase(self, phase, &error) != DIDI_OK) {
            merge_fail(self, error.status, &error);
            return;
        }
        merge_announce(self, merge_phase_stage(phase));
        if (self->items_done < self->item_count)
            return;
    }
    free(self->items);
    self->items = NULL;
    self->item_count = self->items_done = 0;
    self->phase = PHASE_COUNT;
    self->finished = true;
}
