/* SPDX-License-Identifier: Apache-2.0 */
/* A task's model as the bytes of a file, in order, made as they are asked for. */
#include "src/didi.h"

#include "src/base/base.h"
#include "src/files/files.h"
#include "src/package/task_model.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct didi_stream {
    checkpoint *base;
    task_model *model;
    char *text; /* what the file begins with */
    size_t text_bytes;
    safetensors_header *header; /* of that text: the file's order */
    size_t next;                /* tensor */
    task_pieces *pieces;        /* of the one before it */
    const char *piece;
    size_t piece_bytes;
    uint64_t left; /* of the whole file */
};

static int lay_out(didi_stream *self, didi_error *error)
{
    static const char *const metadata[][2] = {{"format", "pt"}};
    enum { LENGTH_BYTES = 8 };
    size_t count = task_model_count(self->model);
    safetensors_layout_entry *entries = memory_zeroed(count, sizeof *entries);
    if (entries == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "layout of %zu tensors", count);
    for (size_t i = 0; i < count; i++)
        entries[i] = task_tensor_entry(task_model_at(self->model, i));
    safetensors_contents contents = {
        .entries = entries, .count = count, .metadata = metadata, .metadata_count = 1};
    int status =
        safetensors_layout_text(&contents, &self->text, &self->text_bytes, &self->left, error);
    free(entries);
    if (status == DIDI_OK)
        status =
            safetensors_header_parse(self->text + LENGTH_BYTES, self->text_bytes - LENGTH_BYTES,
                                     self->left, "model.safetensors", &self->header, error);
    self->piece = self->text;
    self->piece_bytes = self->text_bytes;
    return status;
}

int didi_stream_open(const didi_export *wanted, didi_stream **ret_stream, uint64_t *ret_bytes,
                     didi_error *error)
{
    didi_stream *self = memory_zeroed(1, sizeof *self);
    if (self == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, wanted->task, "stream of a model");
    int status = checkpoint_open_within(wanted->base_fd, &wanted->links, wanted->base_label,
                                        &self->base, error);
    if (status == DIDI_OK)
        status =
            task_model_open(wanted->artifact_fd, wanted->task, self->base, &self->model, error);
    if (status == DIDI_OK)
        status = lay_out(self, error);
    if (status != DIDI_OK) {
        didi_stream_close(self);
        return status;
    }
    *ret_bytes = self->left;
    *ret_stream = self;
    return DIDI_OK;
}

/* Makes the next piece that has bytes; something is left. */
static int advance(didi_stream *self, didi_error *error)
{
    int status = DIDI_OK;
    while (self->piece_bytes == 0 && status == DIDI_OK) {
        const void *bytes = NULL;
        if (self->pieces != NULL)
            status = task_pieces_next(self->pieces, &bytes, &self->piece_bytes, error);
        self->piece = bytes;
        if (status != DIDI_OK || self->piece_bytes > 0)
            return status;
        task_pieces_close(self->pieces);
        self->pieces = NULL;
        assert(self->next < safetensors_header_count(self->header));
        const char *name = safetensors_header_at(self->header, self->next++)->name;
        status =
            task_pieces_open(self->model, task_model_find(self->model, name), &self->pieces, error);
    }
    return status;
}

int didi_stream_read(didi_stream *self, void *buffer, size_t room, size_t *ret_count,
                     didi_error *error)
{
    int status = self->left > 0 ? advance(self, error) : DIDI_OK;
    if (status != DIDI_OK)
        return status;
    size_t count = smaller(self->piece_bytes, room);
    if (count > 0 && count == self->left) {
        status = checkpoint_verify_unchanged(self->base, error);
        if (status != DIDI_OK)
            return status;
    }
    if (count > 0)
        memcpy(buffer, self->piece, count);
    self->piece += count;
    self->piece_bytes -= count;
    self->left -= count;
    *ret_count = count;
    return DIDI_OK;
}

void didi_stream_close(didi_stream *self)
{
    if (self == NULL)
        return;
    task_pieces_close(self->pieces);
    safetensors_header_free(self->header);
    task_model_close(self->model);
    checkpoint_close(self->base);
    free(self->text);
    free(self);
}
