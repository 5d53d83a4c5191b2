/* SPDX-License-Identifier: Apache-2.0 */
/* Task vectors beside what is served of them, panel by panel. */
#include "src/package/proxies.h"

#include "src/package/task_model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct sums {
    double dot, served, moved, missed; /* <tau_hat, tau>, |tau_hat|^2, |tau|^2, |tau_hat - tau|^2 */
} sums;

typedef struct comparison {
    const checkpoint *base, *fine_tune;
    const task_model *model;
    int (*cancelled)(void *context);
    void *context;
    float *numbers; /* three rows of `room` numbers */
    size_t room;
    sums all;
    double worst_error;
    const char *worst;
} comparison;

static int make_room(comparison *self, size_t count, didi_error *error)
{
    if (count <= self->room)
        return DIDI_OK;
    float *numbers = memory_aligned(memory_multiply(3, count), sizeof *numbers);
    if (numbers == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "no memory to compare %zu numbers", count);
    free(self->numbers);
    self->numbers = numbers;
    self->room = count;
    return DIDI_OK;
}

static void sums_add(sums *self, const float *served, const float *wanted, const float *base,
                     size_t count)
{
    for (size_t i = 0; i < count; i++) {
        double got = (double)served[i] - (double)base[i];
        double moved = (double)wanted[i] - (double)base[i];
        double missed = (double)served[i] - (double)wanted[i];
        self->dot += got * moved;
        self->served += got * got;
        self->moved += moved * moved;
        self->missed += missed * missed;
    }
}

/* Bytes of what is served, from number `first` on. */
static int compare_piece(comparison *self, const task_tensor *tensor, uint64_t first,
                         const void *bytes, size_t count, sums *ret_sums, didi_error *error)
{
    const checkpoint_tensor *own = checkpoint_find(self->fine_tune, tensor->name);
    int status = make_room(self, count, error);
    if (status != DIDI_OK)
        return status;
    float *served = self->numbers;
    float *wanted = served + self->room;
    float *base = wanted + self->room;
    didi_dtype_to_f32(tensor->dtype, bytes, served, count);
    status = checkpoint_read_f32(self->fine_tune, own, first, wanted, count, error);
    if (status == DIDI_OK)
        status = checkpoint_read_f32(self->base, tensor->base, first, base, count, error);
    if (status == DIDI_OK)
        sums_add(ret_sums, served, wanted, base, count);
    return status;
}

static int compare_pieces(comparison *self, const task_tensor *tensor, task_pieces *pieces,
                          sums *ret_sums, didi_error *error)
{
    size_t width = didi_dtype_bits(tensor->dtype) / 8;
    uint64_t left = tensor->base->tensor->elements;
    uint64_t first = 0;
    while (left > 0) {
        const void *bytes = NULL;
        size_t piece = 0;
        if (self->cancelled != NULL && self->cancelled(self->context))
            return didi_fail(error, DIDI_CANCELLED, NULL, "cancelled");
        int status = task_pieces_next(pieces, &bytes, &piece, error);
        size_t count = (size_t)smaller(piece / width, left);
        if (status == DIDI_OK && count > 0)
            status = compare_piece(self, tensor, first, bytes, count, ret_sums, error);
        if (status != DIDI_OK || count == 0)
            return status;
        first += count;
        left -= count;
    }
    return DIDI_OK;
}

/* What has a task vector: numbers that base and fine-tune both have. */
static bool is_compared(const comparison *self, const task_tensor *tensor)
{
    const checkpoint_tensor *own = checkpoint_find(self->fine_tune, tensor->name);
    return tensor->base != NULL && didi_dtype_is_float(tensor->dtype) && own != NULL &&
           didi_dtype_is_float(own->tensor->dtype) &&
           didi_dtype_is_float(tensor->base->tensor->dtype);
}

static int compare_tensor(comparison *self, const task_tensor *tensor, didi_error *error)
{
    task_pieces *pieces = NULL;
    sums found = {0};
    if (!is_compared(self, tensor))
        return DIDI_OK;
    if (checkpoint_find(self->fine_tune, tensor->name)->tensor->elements != tensor->elements)
        return didi_fail(error, DIDI_MISMATCH, tensor->name,
                         "the fine-tune has another shape of %s than what is served", tensor->name);
    int status = task_pieces_open(self->model, tensor, &pieces, error);
    if (status == DIDI_OK)
        status = compare_pieces(self, tensor, pieces, &found, error);
    task_pieces_close(pieces);
    if (status != DIDI_OK)
        return status;
    self->all.dot += found.dot;
    self->all.served += found.served;
    self->all.moved += found.moved;
    self->all.missed += found.missed;
    double of_tensor = found.missed / found.moved;
    if (found.moved > 0 && !(of_tensor <= self->worst_error)) {
        self->worst_error = of_tensor;
        self->worst = tensor->name;
    }
    return DIDI_OK;
}

static proxies conclude(const comparison *self)
{
    const sums *all = &self->all;
    bool moved = all->moved > 0;
    proxies made = {.length = moved ? sqrt(all->served / all->moved) : NAN,
                    .error = moved ? all->missed / all->moved : NAN,
                    .cosine = moved && all->served > 0
                                  ? all->dot / (sqrt(all->served) * sqrt(all->moved))
                                  : NAN,
                    .worst_error = self->worst_error};
    snprintf(made.worst, sizeof made.worst, "%s", self->worst != NULL ? self->worst : "");
    return made;
}

int proxies_measure(const proxies_request *request, int (*cancelled)(void *context), void *context,
                    proxies *ret_proxies, didi_error *error)
{
    task_model *model = NULL;
    comparison self = {.base = request->base,
                       .fine_tune = request->fine_tune,
                       .cancelled = cancelled,
                       .context = context,
                       .worst_error = NAN};
    if (checkpoint_is_adapter(request->fine_tune))
        return didi_fail(error, DIDI_MISMATCH, request->task,
                         "%s is an adapter, and no model of its own",
                         checkpoint_label(request->fine_tune));
    int status = task_model_open(request->package_fd, request->task, request->base, &model, error);
    self.model = model;
    for (size_t i = 0; status == DIDI_OK && i < task_model_count(model); i++)
        status = compare_tensor(&self, task_model_at(model, i), error);
    if (status == DIDI_OK)
        *ret_proxies = conclude(&self);
    task_model_close(model);
    free(self.numbers);
    return status;
}
