/* SPDX-License-Identifier: Apache-2.0 */
/* Reading task vectors: convert, subtract and check in pieces that stay in cache. */
#include "src/layer/family.h"

#include "src/base/base.h"
#include "src/layer/factors.h"
#include "src/layer/family_adapter.h"
#include "src/layer/family_ranks.h"
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

int family_read_finite(const checkpoint *model, const checkpoint_tensor *source, uint64_t first,
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

static int stream_base(void *context, uint64_t first, size_t count, float *out, didi_error *error)
{
    const family_reader *self = context;
    return family_read_finite(self->family->base, self->tensor->base, first, out, count,
                              self->bytes_read, error);
}

static const adapter_change *change_of(const family_tensor *tensor, size_t task)
{
    return tensor->change != NULL ? tensor->change[task].from : NULL;
}

static int stream_delta(void *context, size_t task, uint64_t first, size_t count, const float *base,
                        float *out, didi_error *error)
{
    const family_reader *self = context;
    const adapter_change *change = change_of(self->tensor, task);
    const checkpoint_tensor *values = self->tensor->task[task];
    int status = DIDI_OK;
    if (change != NULL && change->magnitude != NULL)
        return family_read_directed(self, task, first, count, base, out, error);
    if (values == NULL)
        memset(out, 0, count * sizeof *out);
    else
        status = family_read_finite(self->family->tasks[task].model, values, first, out, count,
                                    self->bytes_read, error);
    for (size_t i = 0; i < count && values != NULL && status == DIDI_OK; i++)
        out[i] -= base[i];
    return status == DIDI_OK && change != NULL
               ? family_add_factors(self, task, first, count, out, error)
               : status;
}

typedef struct load {
    family_reader from;
    layer *layer;
} load;

static int measure_factors(const load *work, size_t task, didi_error *error)
{
    const family *of = work->from.family;
    int status = factors_energy(work->layer, task, &work->layer->energy[task], error);
    return status == DIDI_NUMERIC
               ? didi_fail(error, DIDI_NUMERIC, checkpoint_label(of->tasks[task].model),
                           "the change of tensor '%s' by adapter %s is too large for a number",
                           work->from.tensor->name, checkpoint_label(of->tasks[task].model))
               : status;
}

/* layer->mean holds the base meanwhile. */
static int load_task(void *argument, size_t task, didi_error *error)
{
    load *work = argument;
    uint64_t elements = work->from.tensor->elements;
    if (layer_holds_factors(work->layer, task))
        return measure_factors(work, task, error);
    float *tau = layer_tau(work->layer, task);
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
    int status = DIDI_OK;
    if (layer_is_cancelled(target))
        return didi_fail(error, DIDI_CANCELLED, NULL, "cancelled");
    if (target->dense_tasks > 0)
        status = stream_base(&work.from, 0, tensor->elements, target->mean, error);
    if (status == DIDI_OK)
        status = parallel_try(target->parallel, self->task_count, load_task, &work, error);
    return status;
}

/* ---- of low rank ---- */

bool family_low_rank(const family_tensor *tensor, size_t task, size_t *ret_rank)
{
    const adapter_change *from = change_of(tensor, task);
    *ret_rank = from != NULL ? from->rank : 0;
    return tensor->task[task] == NULL && (from == NULL || from->magnitude == NULL);
}

family_ranks family_sum_ranks(const family *self, const family_tensor *tensor)
{
    family_ranks found = {0};
    bool adapts = false;
    for (size_t t = 0; t < self->task_count; t++) {
        size_t rank = 0;
        adapts = adapts || self->tasks[t].adapter != NULL;
        if (!family_low_rank(tensor, t, &rank))
            continue;
        found.tasks++;
        found.sum += rank;
        found.most = larger(found.most, rank);
    }
    return adapts ? found : (family_ranks){0};
}

static int read_all_factors(const family_reader *self, const layer *target, didi_error *error)
{
    const layer_factors *to = target->factors;
    int status = DIDI_OK;
    for (size_t t = 0; t < target->tasks && status == DIDI_OK; t++)
        if (layer_holds_factors(target, t) && layer_factor_rank(target, t) > 0)
            status = family_read_factors(self, t, to->left + to->first[t] * target->rows,
                                         to->right + to->first[t] * target->columns, error);
    return status;
}

void family_will_need(const family *self, const family_tensor *tensor)
{
    if (family_sum_ranks(self, tensor).tasks == self->task_count)
        return; /* factors are read at once */
    checkpoint_will_need(self->base, tensor->base, 0, tensor->elements);
    for (size_t t = 0; t < self->task_count; t++)
        if (tensor->task[t] != NULL)
            checkpoint_will_need(self->tasks[t].model, tensor->task[t], 0, tensor->elements);
}

/* ---- panel by panel ---- */

static void stream_will_need(void *context, size_t model, uint64_t first, uint64_t count)
{
    const family_reader *self = context;
    const checkpoint_tensor *tensor =
        model == 0 ? self->tensor->base : self->tensor->task[model - 1];
    if (tensor != NULL)
        checkpoint_will_need(model == 0 ? self->family->base : self->family->tasks[model - 1].model,
                             tensor, first, count);
}

/* The layer owns the context. */
static int make_source(const family_reader *from, layer_source *ret_source, didi_error *error)
{
    family_reader *context = memory_zeroed(1, sizeof *context);
    if (context == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, from->tensor->name, "layer read panel by panel");
    *context = *from;
    *ret_source = (layer_source){context, stream_base, stream_delta, free, stream_will_need};
    return DIDI_OK;
}

int family_stream_layer(const family *self, const family_tensor *tensor, atomic_ullong *bytes_read,
                        layer **ret_layer, didi_error *error)
{
    assert(tensor->rows > 0 && tensor->columns > 0);
    family_reader from = {self, tensor, bytes_read};
    layer_source source;
    int status = make_source(&from, &source, error);
    if (status != DIDI_OK)
        return status;
    status = layer_create_streamed(tensor->rows, tensor->columns, self->task_count, &source,
                                   ret_layer, error);
    if (status != DIDI_OK)
        free(source.context);
    return status;
}

int family_create_factored(const family *self, const family_tensor *tensor, bool streamed,
                           atomic_ullong *bytes_read, layer **ret_layer, didi_error *error)
{
    family_reader from = {self, tensor, bytes_read};
    layer_source source = {0};
    layer *fresh = NULL;
    size_t *rank = memory_zeroed(self->task_count, sizeof *rank);
    int status = rank != NULL ? DIDI_OK
                              : didi_fail(error, DIDI_NO_MEMORY, tensor->name, "ranks of adapters");
    for (size_t t = 0; t < self->task_count && status == DIDI_OK; t++)
        if (!family_low_rank(tensor, t, &rank[t]))
            rank[t] = LAYER_DENSE;
    if (status == DIDI_OK && streamed)
        status = make_source(&from, &source, error);
    if (status == DIDI_OK)
        status = layer_create_factored(tensor->rows, tensor->columns, self->task_count, rank,
                                       streamed ? &source : NULL, &fresh, error);
    free(rank);
    if (status != DIDI_OK) {
        free(source.context);
        return status;
    }
    status = read_all_factors(&from, fresh, error);
    if (status != DIDI_OK)
        layer_free(fresh);
    else
        *ret_layer = fresh;
    return status;
}

int family_read_delta(const family *self, size_t task, family_piece piece, float *ret_delta,
                      float *spare, atomic_ullong *bytes_read, didi_error *error)
{
    family_reader from = {self, piece.tensor, bytes_read};
    uint64_t elements = piece.tensor->elements;
    assert(task < self->task_count);
    assert(piece.first <= elements && piece.count <= elements - piece.first);
    int status = stream_base(&from, piece.first, piece.count, spare, error);
    return status == DIDI_OK
               ? stream_delta(&from, task, piece.first, piece.count, spare, ret_delta, error)
               : status;
}

int family_read_deltas(const family *self, family_piece piece, float *const *ret_deltas,
                       float *spare, atomic_ullong *bytes_read, didi_error *error)
{
    family_reader from = {self, piece.tensor, bytes_read};
    uint64_t elements = piece.tensor->elements;
    assert(piece.first <= elements && piece.count <= elements - piece.first);
    int status = stream_base(&from, piece.first, piece.count, spare, error);
    for (size_t t = 0; t < self->task_count && status == DIDI_OK; t++)
        status = stream_delta(&from, t, piece.first, piece.count, spare, ret_deltas[t], error);
    return status;
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
