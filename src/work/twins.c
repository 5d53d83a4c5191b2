/* SPDX-License-Identifier: Apache-2.0 */
/* Own tensors that are the same: candidates by dtype and shape, then SHA-256 of their bytes. */
#include "src/work/work.h"

#include "src/base/base.h"

#include <stdlib.h>
#include <string.h>

enum { PIECE_BYTES = 1 << 18 };

struct own_twin {
    size_t task;
    const checkpoint_tensor *source;
    uint64_t rows_before; /* those of the base, which are not the task's own */
    char digest[TWIN_TEXT_BYTES + 1];
};

/* ---- candidates ---- */

static int order_of(uint64_t a, uint64_t b)
{
    return a < b ? -1 : a > b;
}

static uint64_t extent(const own_twin *self, size_t dimension)
{
    return self->source->tensor->shape[dimension] - (dimension == 0 ? self->rows_before : 0);
}

/* By what two must have in common to be stored as one. */
static int compare_kinds(const own_twin *a, const own_twin *b)
{
    const safetensors_tensor *one = a->source->tensor;
    const safetensors_tensor *other = b->source->tensor;
    int order = order_of(a->task, b->task);
    if (order == 0)
        order = order_of(a->rows_before > 0, b->rows_before > 0);
    if (order == 0)
        order = order_of(one->dtype, other->dtype);
    if (order == 0)
        order = order_of(one->dimensions, other->dimensions);
    for (size_t d = 0; order == 0 && d < one->dimensions; d++)
        order = order_of(extent(a, d), extent(b, d));
    return order;
}

static int compare_candidates(const void *a, const void *b)
{
    const own_twin *one = a;
    const own_twin *other = b;
    int order = compare_kinds(one, other);
    return order != 0 ? order : strcmp(one->source->tensor->name, other->source->tensor->name);
}

static void add(own_twin *list, size_t *count, size_t task, const checkpoint_tensor *source,
                uint64_t rows_before)
{
    if (source->tensor->elements > 0)
        list[(*count)++] = (own_twin){.task = task, .source = source, .rows_before = rows_before};
}

static size_t gather(const family *from, size_t task, own_twin *list)
{
    const family_task *of = &from->tasks[task];
    size_t count = 0;
    for (size_t i = 0; i < of->own_count; i++)
        add(list, &count, task, of->own[i].source,
            of->own[i].grown != NULL ? of->own[i].grown->rows : 0);
    for (size_t i = 0; i < from->tensor_count; i++)
        if (from->tensors[i].kind == FAMILY_PASSTHROUGH && from->tensors[i].task[task] != NULL)
            add(list, &count, task, from->tensors[i].task[task], 0);
    return count;
}

/* Leaves those beside which another one of their kind stands; they are sorted. */
static size_t keep_pairs(own_twin *list, size_t count)
{
    size_t kept = 0;
    bool before = false; /* the last one is of the kind of this one */
    for (size_t i = 0; i < count; i++) {
        bool after = i + 1 < count && compare_kinds(&list[i], &list[i + 1]) == 0;
        if (before || after)
            list[kept++] = list[i];
        before = after;
    }
    return kept;
}

int work_twins_list(work *self, didi_error *error)
{
    const family *from = self->family;
    size_t room = 0;
    for (size_t t = 0; t < from->task_count; t++)
        room += checkpoint_count(from->tasks[t].model);
    own_twin *list = memory_zeroed(room, sizeof *list);
    if (list == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "list of %zu tensors", room);
    size_t count = 0;
    for (size_t t = 0; t < from->task_count; t++)
        count += gather(from, t, list + count);
    if (count > 0)
        qsort(list, count, sizeof *list, compare_candidates);
    self->twins = list;
    self->twin_count = keep_pairs(list, count);
    return DIDI_OK;
}

void work_twins_clear(work *self)
{
    free(self->twins);
    self->twins = NULL;
    self->twin_count = 0;
}

/* ---- digests ---- */

/* The next one of input file `index` from `at` on; NULL: there is none. */
static own_twin *next_in(const work *self, size_t index, size_t *at)
{
    size_t file = 0;
    const checkpoint *model = work_input_at(self, index, &file);
    while (*at < self->twin_count) {
        own_twin *twin = &self->twins[(*at)++];
        if (self->family->tasks[twin->task].model == model && twin->source->file == file)
            return twin;
    }
    return NULL;
}

size_t work_twins_in(const work *self, size_t index)
{
    size_t count = 0;
    for (size_t at = 0; next_in(self, index, &at) != NULL;)
        count++;
    return count;
}

typedef struct reading {
    work *work;
    const own_twin *twin;
    uint64_t at;
    char *buffer;
} reading;

static int next_piece(void *context, const void **ret_bytes, size_t *ret_count, didi_error *error)
{
    reading *self = context;
    const checkpoint_tensor *source = self->twin->source;
    uint64_t count = smaller(source->tensor->bytes - self->at, PIECE_BYTES);
    if (atomic_load(&self->work->cancelled))
        return didi_fail(error, DIDI_CANCELLED, NULL, "cancelled");
    const checkpoint *model = self->work->family->tasks[self->twin->task].model;
    int status = checkpoint_read(model, source, self->at, self->buffer, count, error);
    self->at += count;
    atomic_fetch_add(&self->work->bytes_read, count);
    *ret_bytes = self->buffer;
    *ret_count = count;
    return status;
}

/* Where the task's own begin: a byte, since what has rows behind the base's has whole ones. */
static uint64_t first_byte(const own_twin *self)
{
    const safetensors_tensor *source = self->source->tensor;
    return self->rows_before == 0 ? 0 : source->bytes / source->shape[0] * self->rows_before;
}

int work_twins_read(work *self, size_t index, char *ret_text, didi_error *error)
{
    char *buffer = memory_aligned(PIECE_BYTES, 1);
    if (buffer == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "digests of tensors");
    int status = DIDI_OK;
    size_t at = 0;
    for (own_twin *twin = next_in(self, index, &at); twin != NULL && status == DIDI_OK;
         twin = next_in(self, index, &at)) {
        reading from = {self, twin, first_byte(twin), buffer};
        char digest[TWIN_TEXT_BYTES + 1];
        status = file_sha256_pieces(next_piece, &from, digest, error);
        if (status == DIDI_OK)
            memcpy(ret_text, digest, TWIN_TEXT_BYTES);
        ret_text += TWIN_TEXT_BYTES;
    }
    free(buffer);
    return status;
}

void work_twins_recall(work *self, size_t index, const char *text)
{
    size_t at = 0;
    for (own_twin *twin = next_in(self, index, &at); twin != NULL;
         twin = next_in(self, index, &at)) {
        memcpy(twin->digest, text, TWIN_TEXT_BYTES);
        text += TWIN_TEXT_BYTES;
    }
}

/* ---- joining ---- */

typedef struct known_own {
    family_own *own;
    const own_twin *twin;
} known_own;

static int compare_sources(const void *a, const void *b)
{
    const own_twin *one = a;
    const own_twin *other = b;
    int order = order_of(one->task, other->task);
    return order != 0 ? order : order_of((uintptr_t)one->source, (uintptr_t)other->source);
}

/* Equal ones stand together, by name. */
static int compare_known(const void *a, const void *b)
{
    const known_own *one = a;
    const known_own *other = b;
    int order = compare_kinds(one->twin, other->twin);
    if (order == 0)
        order = strcmp(one->twin->digest, other->twin->digest);
    return order != 0 ? order : strcmp(one->own->name, other->own->name);
}

static bool are_same(const known_own *a, const known_own *b)
{
    return compare_kinds(a->twin, b->twin) == 0 && strcmp(a->twin->digest, b->twin->digest) == 0;
}

static void join_task(work *self, size_t task, known_own *list)
{
    family_task *of = &self->family->tasks[task];
    size_t count = 0;
    for (size_t i = 0; i < of->own_count; i++) {
        own_twin key = {.task = task, .source = of->own[i].source};
        const own_twin *twin =
            bsearch(&key, self->twins, self->twin_count, sizeof key, compare_sources);
        if (twin != NULL)
            list[count++] = (known_own){&of->own[i], twin};
    }
    if (count > 0)
        qsort(list, count, sizeof *list, compare_known);
    for (size_t i = 1, first = 0; i < count; i++)
        if (are_same(&list[first], &list[i]))
            list[i].own->same = list[first].own;
        else
            first = i;
}

int work_twins_join(work *self, didi_error *error)
{
    if (self->twin_count == 0)
        return DIDI_OK;
    known_own *list = memory_zeroed(self->twin_count, sizeof *list);
    if (list == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "list of %zu tensors", self->twin_count);
    qsort(self->twins, self->twin_count, sizeof *self->twins, compare_sources);
    for (size_t t = 0; t < self->family->task_count; t++)
        join_task(self, t, list);
    free(list);
    return DIDI_OK;
}
