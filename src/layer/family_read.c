/* SPDX-License-Identifier: Apache-2.0 */
/* Reading task vectors: convert, subtract and check in pieces that stay in cache. */
#include "src/layer/family.h"

#include "src/base/base.h"
#include "src/math/math.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { PIECE_ELEMENTS = 1 << 17 };

static int fail_nonfinite(const checkpoint *model, const char *tensor, uint64_t element,
                          didi_error *error)
{
    return didi_fail(error, DIDI_NUMERIC, checkpoint_label(model),
                     "tensor '%s' of model %s holds NaN or Inf at element %llu", tensor,
                     checkpoint_label(model), (unsigned long long)element);
}

static int read_finite(const checkpoint *model, const checkpoint_tensor *source, uint64_t first,
                       float *values, uint64_t count, atomic_ullong *bytes_read, didi_error *error)
{
    assert(didi_dtype_is_float(source->tensor->dtype));
    int status = checkpoint_read_f32(model, source, first, values, count, error);
    if (status != DIDI_OK)
        return status;
    size_t bad = didi_dtype_first_nonfinite(values, count);
    if (bad < count)
        return fail_nonfinite(model, source->tensor->name, first + bad, error);
    atomic_fetch_add_explicit(bytes_read, count * didi_dtype_bits(source->tensor->dtype) / 8,
                              memory_order_relaxed);
    return DIDI_OK;
}

/* One tensor of all models, read in pieces. */
typedef struct stream {
    const family *family;
    const family_tensor *tensor;
    atomic_ullong *bytes_read;
} stream;

static int stream_base(void *context, uint64_t first, size_t count, float *out, didi_error *error)
{
    const stream *self = context;
    return read_finite(self->family->base, self->tensor->base, first, out, count, self->bytes_read,
                       error);
}

static int stream_delta(void *context, size_t task, uint64_t first, size_t count, const float *base,
                        float *out, didi_error *error)
{
    const stream *self = context;
    if (self->tensor->task[task] == NULL) {
        memset(out, 0, count * sizeof *out);
        return DIDI_OK;
    }
    int status = read_finite(self->family->tasks[task].model, self->tensor->task[task], first, out,
                             count, self->bytes_read, error);
    for (size_t i = 0; i < count && status == DIDI_OK; i++)
        out[i] -= base[i];
    return status;
}

typedef struct load {
    stream from;
    layer *layer;
} load;

/* layer->mean holds the base meanwhile. */
static int load_task(void *argument, size_t task, didi_error *error)
{
    load *work = argument;
    uint64_t elements = work->from.tensor->elements;
    float *tau = work->layer->tau + task * elements;
    double energy = 0;
    for (uint64_t first = 0; first < elements; first += PIECE_ELEMENTS) {
        uint64_t count = smaller(elements - first, PIECE_ELEMENTS);
        int status = stream_delta(&work->from, task, first, count, work->layer->mean + first,
                                  tau + first, error);
        if (status != DIDI_OK)
            return status;
        energy += linalg_energy(tau + first, count);
    }
    work->layer->energy[task] = energy;
    return DIDI_OK;
}

int family_load_layer(const family *self, const family_tensor *tensor, layer *target,
                      atomic_ullong *bytes_read, didi_error *error)
{
    assert(!layer_is_streamed(target) && target->tasks == self->task_count);
    assert(target->rows == tensor->rows && target->columns == tensor->columns);
    load work = {{self, tensor, bytes_read}, target};
    if (layer_is_cancelled(target))
        return didi_fail(error, DIDI_CANCELLED, NULL, "cancelled");
    int status = stream_base(&work.from, 0, tensor->elements, target->mean, error);
    if (status == DIDI_OK)
        status = parallel_try(target->parallel, self->task_count, load_task, &work, error);
    return status;
}

void family_will_need(const family *self, const family_tensor *tensor)
{
    checkpoint_will_need(self->base, tensor->base, 0, tensor->elements);
    for (size_t t = 0; t < self->task_count; t++)
        if (tensor->task[t] != NULL)
            checkpoint_will_need(self->tasks[t].model, tensor->task[t], 0, tensor->elements);
}

/* ---- panel by panel ---- */

static void stream_will_need(void *context, size_t model, uint64_t first, uint64_t count)
{
    const stream *self = context;
    const checkpoint_tensor *tensor =
        model == 0 ? self->tensor->base : self->tensor->task[model - 1];
    if (tensor != NULL)
        checkpoint_will_need(model == 0 ? self->family->base : self->family->tasks[model - 1].model,
                             tensor, first, count);
}

int family_stream_layer(const family *self, const family_tensor *tensor, atomic_ullong *bytes_read,
                        layer **ret_layer, didi_error *error)
{
    assert(tensor->rows > 0 && tensor->columns > 0);
    stream *context = memory_zeroed(1, sizeof *context);
    if (context == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, tensor->name, "layer read panel by panel");
    *context = (stream){self, tensor, bytes_read};
    layer_source source = {context, stream_base, stream_delta, free, stream_will_need};
    int status = layer_create_streamed(tensor->rows, tensor->columns, self->task_count, &source,
                                       ret_layer, error);
    if (status != DIDI_OK)
        free(context);
    return status;
}

int family_read_delta(const family *self, size_t task, family_piece piece, float *ret_delta,
                      float *spare, atomic_ullong *bytes_read, didi_error *error)
{
    stream from = {self, piece.tensor, bytes_read};
    uint64_t elements = piece.tensor->elements;
    assert(task < self->task_count);
    assert(piece.first <= elements && piece.count <= elements - piece.first);
    int status = stream_base(&from, piece.first, piece.count, spare, error);
    return status == DIDI_OK
               ? stream_delta(&from, task, piece.first, piece.count, spare, ret_delta, error)
               : status;
}

/* Two models' values of a tensor side by side: bytes of one dtype, numbers where dtypes differ. */
typedef struct comparison {
    const checkpoint *model[2];
    const checkpoint_tensor *tensor[2];
    bool same_dtype;
    uint64_t bits; /* of an element as it is compared */
    char *values[2];
} comparison;

static int compare_piece(const comparison *self, uint64_t first, uint64_t count, bool *ret_same,
                         didi_error *error)
{
    uint64_t bytes = count * self->bits / 8;
    for (size_t i = 0; i < 2; i++) {
        int status = self->same_dtype
                         ? checkpoint_read(self->model[i], self->tensor[i], first * self->bits / 8,
                                           self->values[i], bytes, error)
                         : checkpoint_read_f32(self->model[i], self->tensor[i], first,
                                               (float *)(void *)self->values[i], count, error);
        if (status != DIDI_OK)
            return status;
    }
    *ret_same = memcmp(self->values[0], self->values[1], bytes) == 0;
    return DIDI_OK;
}

int family_compare(const family *self, const family_tensor *tensor, size_t task, bool *ret_same,
                   didi_error *error)
{
    enum { FIRST_ELEMENTS = 1 << 10, MOST_ELEMENTS = 1 << 17, WIDEST_BYTES = 8 };
    assert(tensor->task[task] != NULL);
    didi_dtype dtype = tensor->base->tensor->dtype;
    bool same_dtype = dtype == tensor->task[task]->tensor->dtype;
    char *values = memory_aligned(2 * (size_t)MOST_ELEMENTS, WIDEST_BYTES);
    comparison both = {.model = {self->base, self->tasks[task].model},
                       .tensor = {tensor->base, tensor->task[task]},
                       .same_dtype = same_dtype,
                       .bits = same_dtype ? didi_dtype_bits(dtype) : 32,
                       .values = {values, values + (size_t)MOST_ELEMENTS * WIDEST_BYTES}};
    if (values == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, tensor->name, "comparison buffers");
    int status = DIDI_OK;
    *ret_same = true;
    /* Most tensors differ at once: the first piece is small. */
    uint64_t step = FIRST_ELEMENTS;
    for (uint64_t first = 0; first < tensor->elements && status == DIDI_OK && *ret_same;) {
        uint64_t count = smaller(tensor->elements - first, step);
        status = compare_piece(&both, first, count, ret_same, error);
        first += count;
        step = MOST_ELEMENTS;
    }
    free(values);
    return status;
}
