/* SPDX-License-Identifier: Apache-2.0 */
/* Items that other processes run: given out and taken up by the owner, run by workers. */
#include "src/merge/merge.h"

#include "src/base/base.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool merge_leaves_state(const didi_merge *self, size_t row, size_t index)
{
    const engine_row *at = &self->rows[row];
    return (at->kind == ROW_EACH && !at->stage->in_memory) ||
           (at->kind == ROW_DIGEST && index < self->work.digest_count);
}

/* ---- the owner's side ---- */

didi_next didi_merge_next_elsewhere(didi_merge *self, didi_item **ret_item)
{
    assert(self->work.options.elsewhere);
    if (didi_merge_is_over(self))
        return self->items_running > 0 ? DIDI_NEXT_WAIT : DIDI_NEXT_FINISHED;
    for (size_t i = 0; i < self->item_count; i++) {
        size_t index = merge_service_order(self, i);
        if (self->work.items[index] == ITEM_PENDING && merge_leaves_state(self, self->row, index))
            return merge_give_item(self, index, ITEM_AWAY, ret_item);
    }
    return DIDI_NEXT_WAIT;
}

didi_place didi_item_place(const didi_item *self)
{
    return (didi_place){self->merge->round, self->row, self->index};
}

/* Gram matrices and projections of a layer take its elements times its shorter side; what is only
 * read or copied, its bytes. */
double didi_item_cost(const didi_item *self)
{
    const work *of = &self->merge->work;
    size_t file = 0;
    if (self->merge->rows[self->row].kind == ROW_DIGEST) {
        const checkpoint *model = work_input_at(of, self->index, &file);
        return (double)checkpoint_file_at(model, file)->bytes;
    }
    if (self->index < of->layer_count) {
        const family_tensor *tensor = of->layers[self->index];
        return (double)tensor->elements * (double)smaller(tensor->rows, tensor->columns);
    }
    double elements = 1;
    for (size_t i = 0; i < of->dense_count; i++)
        elements += (double)of->dense[i]->elements;
    return elements;
}

int didi_item_take(didi_item *self, didi_error *error)
{
    didi_merge *merge = self->merge;
    assert(self->away);
    if (!merge_recall_item(merge, self->row, self->index))
        return didi_fail(error, DIDI_NOT_FOUND, NULL, "no state of item %zu of row %zu is there",
                         self->index, self->row);
    if (merge->rows[self->row].kind == ROW_DIGEST)
        work_note_other_base(&merge->work, self->index);
    clock_gettime(CLOCK_MONOTONIC, &self->ended);
    self->status = DIDI_OK;
    return DIDI_OK;
}

void didi_item_fail(didi_item *self, int status, const didi_error *error)
{
    assert(self->away && status != DIDI_OK);
    clock_gettime(CLOCK_MONOTONIC, &self->ended);
    self->status = status;
    self->error = *error;
}

void didi_merge_usage(const didi_merge *self, const didi_place *place, didi_usage *ret_usage)
{
    assert(place->row < self->row_count);
    const stage_usage *of = &self->work.usage[self->rows[place->row].told_as];
    *ret_usage = (didi_usage){atomic_load(&of->cpu_ns), atomic_load(&of->flops),
                              atomic_load(&self->work.bytes_read), atomic_load(&of->peak_memory)};
}

void didi_merge_add_usage(didi_merge *self, const didi_place *place, const didi_usage *usage)
{
    assert(place->row < self->row_count);
    stage_usage *to = &self->work.usage[self->rows[place->row].told_as];
    atomic_fetch_add(&to->cpu_ns, usage->cpu_ns);
    atomic_fetch_add(&to->flops, usage->flops);
    atomic_fetch_add(&self->work.bytes_read, usage->bytes_read);
    if (atomic_load(&to->peak_memory) < usage->peak_memory)
        atomic_store(&to->peak_memory, usage->peak_memory);
    if (atomic_load(&self->work.peak_memory) < usage->peak_memory)
        atomic_store(&self->work.peak_memory, usage->peak_memory);
}

/* ---- a worker's side ---- */

/* "file label/name bytes time device inode": the last two differ from machine to machine where a
 * file system is shared. Cuts them off, and the line before the files, in place. */
static void forget_places(char *text)
{
    static const char heading[] = "inputs\n";
    char *to = text;
    for (char *line = text; *line != '\0';) {
        size_t length = strcspn(line, "\n") + 1;
        size_t kept = length - 1;
        bool last = line[length - 1] == '\0';
        for (int fields = 0; strncmp(line, "file ", 5) == 0 && fields < 2; kept--)
            fields += kept > 0 && line[kept - 1] == ' ';
        if (strncmp(line, heading, sizeof heading - 1) != 0) {
            memmove(to, line, kept);
            to += kept;
            *to++ = '\n';
        }
        line += last ? length - 1 : length;
    }
    *to = '\0';
}

int merge_join(didi_merge *self, didi_error *error)
{
    enum { FINGERPRINT_BYTES_MAX = 64 << 20 };
    char name[DIDI_ERROR_SUBJECT_BYTES_MAX];
    char *ours = merge_options_text(self, false);
    char *theirs = NULL;
    size_t bytes = 0;
    int status = ours != NULL ? DIDI_OK : didi_fail(error, DIDI_NO_MEMORY, NULL, "fingerprint");
    if (status == DIDI_OK)
        status = file_read_text(self->work.options.work_fd, "fingerprint", FINGERPRINT_BYTES_MAX,
                                &theirs, &bytes, error);
    if (status != DIDI_OK)
        goto out;
    forget_places(theirs);
    if (strcmp(theirs, ours) != 0) {
        status =
            merge_name_changed_file(theirs, ours, 2, name, sizeof name)
                ? didi_fail(error, DIDI_CHANGED, name,
                            "%s is not the file here that it is to the owner of the merge", name)
                : didi_fail(error, DIDI_MISMATCH, NULL,
                            "the options here are not those of the owner of the merge");
        goto out;
    }
    merge_enter_row(self, 0);
    status = self->status;
    if (status != DIDI_OK)
        *error = self->error;
out:
    free(theirs);
    free(ours);
    return status;
}

static bool is_past(const didi_merge *self, const didi_place *place)
{
    return self->finished || self->round > place->round ||
           (self->round == place->round && self->row > place->row);
}

didi_next didi_merge_next_at(didi_merge *self, const didi_place *place, uint64_t memory_available,
                             didi_item **ret_item)
{
    assert(self->work.options.worker);
    if (didi_merge_is_over(self) && !self->finished)
        return self->items_running > 0 ? DIDI_NEXT_WAIT : DIDI_NEXT_FINISHED;
    if (is_past(self, place))
        return DIDI_NEXT_FINISHED;
    if (self->round != place->round || self->row != place->row ||
        place->index >= self->item_count ||
        !merge_leaves_state(self, self->row, (size_t)place->index))
        return DIDI_NEXT_WAIT;
    size_t index = (size_t)place->index;
    if (self->work.items[index] == ITEM_DONE)
        return DIDI_NEXT_FINISHED;
    if (self->work.items[index] == ITEM_RUNNING ||
        merge_item_memory(self, self->row, index) > merge_memory_left(self, memory_available))
        return DIDI_NEXT_WAIT;
    return merge_give_item(self, index, ITEM_HERE, ret_item);
}
