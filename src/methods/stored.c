/* SPDX-License-Identifier: Apache-2.0 */
/* Arrays are kept as snapshots in the work directory: whole ones when the item ends, deltas panel
 * by panel as they come. */
#include "src/methods/stored.h"

#include "src/base/base.h"
#include "src/math/math.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PANEL_ELEMENTS = 1 << 16 };

struct stored {
    work *work;
    size_t tensor;
    char name[64];
    snapshot_entry *list;
    char (*names)[KEPT_NAME_BYTES];
    size_t count, room;
    bool saved;
};

int stored_create(work *of, size_t tensor, const char *name, stored **ret_stored, didi_error *error)
{
    enum { ARRAYS_A_FILE = 4, MORE_ARRAYS = 16 };
    size_t room = ARRAYS_A_FILE * (of->options.task_count + 1) + MORE_ARRAYS;
    stored *self = memory_zeroed(1, sizeof *self);
    if (self == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "layer state");
    *self = (stored){.work = of,
                     .tensor = tensor,
                     .list = memory_zeroed(room, sizeof(snapshot_entry)),
                     .names = memory_zeroed(room, KEPT_NAME_BYTES),
                     .room = room};
    (void)snprintf(self->name, sizeof self->name, "%s", name);
    if (self->list == NULL || self->names == NULL) {
        stored_free(self);
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "layer state");
    }
    *ret_stored = self;
    return DIDI_OK;
}

void stored_free(stored *self)
{
    if (self == NULL)
        return;
    free(self->list);
    free(self->names);
    free(self);
}

static void keep_array(stored *self, kept_array array, size_t index, didi_dtype dtype,
                       uint64_t rows, uint64_t columns, const void *data)
{
    assert(self->count < self->room && !self->saved);
    char *name = self->names[self->count];
    kept_name(array, index, name);
    self->list[self->count++] = (snapshot_entry){name, dtype, rows, columns, data};
}

void stored_keep(stored *self, kept_array array, size_t index, uint64_t rows, uint64_t columns,
                 const void *data)
{
    keep_array(self, array, index, kept_dtype(array), rows, columns, data);
}

/* Values as they are stored, in their own place: they are already rounded to the dtype, and no
 * longer needed in float32. */
static const void *narrow_in_place(didi_dtype dtype, float *values, size_t count)
{
    enum { PIECE = 4096 };
    char piece[PIECE * sizeof(float)];
    size_t size = didi_dtype_bits(dtype) / 8;
    char *out = (char *)values;
    for (size_t first = 0; first < count; first += PIECE) {
        size_t part = count - first < PIECE ? count - first : PIECE;
        didi_dtype_from_f32(dtype, values + first, piece, part);
        memcpy(out + first * size, piece, part * size);
        spill_touched(part * sizeof *values);
    }
    return values;
}

/* Of packed numbers: bytes. */
static didi_dtype output_dtype(const work *self)
{
    didi_dtype dtype = DIDI_DTYPE_U8;
    return precision_is_plain(self->options.precision, &dtype) ? dtype : DIDI_DTYPE_U8;
}

void stored_factors(stored *self, size_t file, size_t rank, float *b, float *a)
{
    const family_tensor *tensor = self->work->layers[self->tensor];
    didi_dtype dtype = output_dtype(self->work);
    assert(dtype != DIDI_DTYPE_U8);
    keep_array(self, KEPT_B, file, dtype, rank > 0 ? tensor->rows : 0, rank,
               narrow_in_place(dtype, b, rank * tensor->rows));
    keep_array(self, KEPT_A, file, dtype, rank, tensor->columns,
               narrow_in_place(dtype, a, rank * tensor->columns));
}

void stored_delta(stored *self, size_t file, float *values)
{
    const family_tensor *tensor = self->work->layers[self->tensor];
    didi_dtype dtype = output_dtype(self->work);
    assert(dtype != DIDI_DTYPE_U8);
    keep_array(self, KEPT_DELTA, file, dtype, tensor->rows, tensor->columns,
               narrow_in_place(dtype, values, tensor->rows * tensor->columns));
}

void stored_packed(stored *self, size_t file, const uint8_t *bytes, size_t count)
{
    stored_keep(self, KEPT_PACKED, file, count, 1, bytes);
}

int stored_save(stored *self, didi_error *error)
{
    if (self->count == 0 || self->saved)
        return DIDI_OK;
    self->saved = true;
    return snapshot_save(self->work->options.work_fd, self->name, self->list, self->count,
                         !self->work->options.volatile_work, error);
}

/* ---- panels ---- */

typedef struct panels {
    work *work;
    size_t index; /* of the tensor */
    const family_tensor *tensor;
    layer_summary *summary;
    delta_codec codec;
    uint64_t rows_at_once;
    size_t held; /* task vectors at once */
    float **tau; /* of each */
    float *shared, *spare;
    uint8_t *packed;
    char array[KEPT_NAME_BYTES], energy[KEPT_NAME_BYTES], error[KEPT_NAME_BYTES]; /* names */
    snapshot_writer *writer;
} panels;

static unsigned packed_bits(const work *self, const family_tensor *tensor)
{
    didi_precision precision = self->options.precision;
    if (precision_is_plain(precision, NULL))
        return 0;
    return precision_bits(tensor->kind == FAMILY_MATRIX ? precision_of_matrices(precision)
                                                        : precision_of_dense(precision));
}

/* A delta of a tensor, in whatever file. */
static stored_array delta_array(const work *self, size_t tensor)
{
    stored_array arrays[STORED_ARRAYS_MAX];
    stored_tensor of = stored_tensor_of(self->layers[tensor]);
    stored_part part = {.form = STORED_DELTA, .bits = packed_bits(self, self->layers[tensor])};
    (void)stored_arrays(&of, &part, 0, self->options.precision, arrays);
    return arrays[0];
}

static uint64_t rows_at_once(const family_tensor *tensor)
{
    return tensor->columns < PANEL_ELEMENTS ? PANEL_ELEMENTS / tensor->columns : 1;
}

static uint64_t panels_memory(const work *self, size_t tensor, uint64_t held)
{
    enum { OTHER_PANELS = 4, OVERHEAD_BYTES = 1 << 20 };
    const family_tensor *of = self->layers[tensor];
    uint64_t panel = memory_multiply(memory_multiply(rows_at_once(of), of->columns), sizeof(float));
    return memory_add(memory_multiply(held + OTHER_PANELS, panel), OVERHEAD_BYTES);
}

uint64_t stored_panels_memory(const work *self, size_t tensor)
{
    return panels_memory(self, tensor, self->options.task_count);
}

uint64_t stored_experts_memory(const work *self, size_t tensor)
{
    return panels_memory(self, tensor, 1);
}

uint64_t stored_panels_bytes(const work *self, size_t tensor)
{
    stored_array array = delta_array(self, tensor);
    return memory_multiply(memory_multiply(array.rows, array.columns),
                           didi_dtype_bits(array.dtype) / 8);
}

int stored_plan_memory(work *self, uint64_t widest, didi_error *error)
{
    didi_plan *plan = &self->plan;
    uint64_t limit = self->options.memory_limit;
    plan->memory_minimum_bytes = widest;
    plan->memory_peak_bytes = memory_multiply(widest, self->options.workers);
    if (limit > 0 && limit < widest)
        return didi_fail(error, DIDI_MEMORY_LIMIT, "memory_limit",
                         "memory_limit is %llu bytes; the widest tensor needs %llu",
                         (unsigned long long)limit, (unsigned long long)widest);
    if (limit > 0 && plan->memory_peak_bytes > limit)
        plan->memory_peak_bytes = limit;
    return DIDI_OK;
}

static void panels_clear(panels *self)
{
    for (size_t t = 0; self->tau != NULL && t < self->held; t++)
        free(self->tau[t]);
    free(self->tau);
    free(self->shared);
    free(self->spare);
    free(self->packed);
    snapshot_writer_abort(self->writer);
}

static int panels_create(stored *of, size_t held, panels *self, didi_error *error)
{
    const family_tensor *tensor = of->work->layers[of->tensor];
    size_t room = rows_at_once(tensor) * tensor->columns;
    *self = (panels){.work = of->work,
                     .index = of->tensor,
                     .tensor = tensor,
                     .summary = &of->work->summaries[of->tensor],
                     .codec = delta_codec_of(of->work->options.precision, tensor->columns,
                                             packed_bits(of->work, tensor)),
                     .rows_at_once = rows_at_once(tensor),
                     .held = held,
                     .shared = memory_aligned(room, sizeof(float)),
                     .spare = memory_aligned(room, sizeof(float)),
                     .packed = memory_aligned(room, sizeof(float))};
    self->tau = memory_zeroed(held, sizeof *self->tau);
    bool whole =
        self->shared != NULL && self->spare != NULL && self->packed != NULL && self->tau != NULL;
    for (size_t t = 0; t < held && whole; t++) {
        self->tau[t] = memory_aligned(room, sizeof(float));
        whole = self->tau[t] != NULL;
    }
    return whole
               ? DIDI_OK
               : didi_fail(error, DIDI_NO_MEMORY, tensor->name, "panels of %zu task vectors", held);
}

/* Of the array whose turn it is. */
static int put_header(const panels *self, didi_error *error)
{
    return self->codec.header_bytes > 0
               ? snapshot_writer_put(self->writer, self->array, 0, self->codec.header,
                                     self->codec.header_bytes, error)
               : DIDI_OK;
}

static int panels_begin(stored *of, panels *self, didi_error *error)
{
    size_t tasks = self->summary->tasks;
    stored_array array = delta_array(of->work, of->tensor);
    snapshot_entry entries[] = {
        {self->array, array.dtype, array.rows, array.columns, NULL},
        {self->energy, kept_dtype(KEPT_ENERGY), 1, tasks, NULL},
        {self->error, kept_dtype(KEPT_ERROR), 1, tasks, NULL},
    };
    kept_name(array.kept, 0, self->array);
    kept_name(KEPT_ENERGY, 0, self->energy);
    kept_name(KEPT_ERROR, 0, self->error);
    int status = snapshot_writer_create(of->work->options.work_fd, of->name, entries,
                                        sizeof entries / sizeof *entries, &self->writer, error);
    return status == DIDI_OK ? put_header(self, error) : status;
}

/* Stores the panel `shared`, which ends as a reader gets it. */
static int put_panel(panels *self, const family_piece *piece, didi_error *error)
{
    const delta_codec *codec = &self->codec;
    int status = work_check_range(piece, self->shared, "float32", error);
    if (status != DIDI_OK)
        return status;
    delta_codec_encode(codec, self->shared, piece->count, self->packed);
    delta_codec_decode(codec, self->packed, piece->count, self->shared);
    status = work_check_range(piece, self->shared, codec->stored_as, error);
    if (status != DIDI_OK)
        return status;
    return snapshot_writer_put(self->writer, self->array, delta_codec_place(codec, piece->first),
                               self->packed, delta_codec_bytes(codec, piece->count), error);
}

static int read_panel(panels *self, const family_piece *piece, didi_error *error)
{
    if (atomic_load(&self->work->cancelled))
        return didi_fail(error, DIDI_CANCELLED, NULL, "cancelled");
    return family_read_deltas(self->work->family, *piece, self->tau, self->spare,
                              &self->work->bytes_read, error);
}

/* Who makes something of a panel, or looks at it. */
typedef struct panel_user {
    void (*use)(void *context, const method_panel *panel);
    void *context;
} panel_user;

/* What is read of the tasks, made of it, and left of it. */
static int take_panel(panels *self, const family_piece *piece, const panel_user *user,
                      didi_error *error)
{
    uint64_t count = piece->count;
    int status = read_panel(self, piece, error);
    if (status != DIDI_OK)
        return status;
    for (size_t t = 0; t < self->summary->tasks; t++)
        self->summary->energy[t] += linalg_energy(self->tau[t], count);
    memset(self->shared, 0, count * sizeof *self->shared);
    user->use(user->context, &(method_panel){piece->first, count, self->summary->tasks,
                                             (const float *const *)self->tau, self->shared});
    status = put_panel(self, piece, error);
    for (size_t t = 0; t < self->summary->tasks && status == DIDI_OK; t++)
        self->summary->error[t] += linalg_squared_distance(self->tau[t], self->shared, count);
    return status;
}

static int show_panel(panels *self, const family_piece *piece, const panel_user *user,
                      didi_error *error)
{
    int status = read_panel(self, piece, error);
    if (status == DIDI_OK)
        user->use(user->context, &(method_panel){piece->first, piece->count, self->summary->tasks,
                                                 (const float *const *)self->tau, NULL});
    return status;
}

/* Whole rows, from the first to the last, of files that stay as they are. */
static int all_panels(panels *self,
                      int (*one)(panels *self, const family_piece *piece, const panel_user *user,
                                 didi_error *error),
                      const panel_user *user, didi_error *error)
{
    const family_tensor *tensor = self->tensor;
    int status = family_verify_unchanged(self->work->family, error);
    for (uint64_t row = 0; row < tensor->rows && status == DIDI_OK; row += self->rows_at_once) {
        uint64_t rows = smaller(tensor->rows - row, self->rows_at_once);
        family_piece piece = {tensor, row * tensor->columns, rows * tensor->columns};
        status = one(self, &piece, user, error);
    }
    return status == DIDI_OK ? family_verify_unchanged(self->work->family, error) : status;
}

/* Numbers of all tasks, after the last panel; the snapshot appears. */
static int panels_end(panels *self, didi_error *error)
{
    layer_summary *summary = self->summary;
    size_t bytes = summary->tasks * sizeof(double);
    int status = family_verify_unchanged(self->work->family, error);
    if (status == DIDI_OK)
        status = snapshot_writer_put(self->writer, self->energy, 0, summary->energy, bytes, error);
    if (status == DIDI_OK)
        status = snapshot_writer_put(self->writer, self->error, 0, summary->error, bytes, error);
    if (status == DIDI_OK) {
        status = snapshot_writer_close(self->writer, !self->work->options.volatile_work, error);
        self->writer = NULL;
    }
    return status;
}

/* What is stored of a tensor that no task changed: nothing. */
static void set_parts(work *of, size_t tensor)
{
    layer_summary *summary = &of->summaries[tensor];
    bool changed = false;
    for (size_t t = 0; t < summary->tasks; t++)
        changed = changed || summary->energy[t] > 0;
    summary->dense[0] = changed;
    summary->dense_bits[0] = changed ? packed_bits(of, of->layers[tensor]) : 0;
    memcpy(summary->unshared, summary->error, summary->tasks * sizeof(double));
}

int stored_shared_panels(stored *self, void (*fill)(void *context, const method_panel *panel),
                         void *context, didi_error *error)
{
    assert(self->count == 0 && !self->saved); /* it saves itself */
    work *of = self->work;
    layer_summary *summary = &of->summaries[self->tensor];
    size_t bytes = summary->tasks * sizeof(double);
    panels made;
    memset(summary->energy, 0, bytes);
    memset(summary->error, 0, bytes);
    int status = panels_create(self, summary->tasks, &made, error);
    if (status == DIDI_OK)
        status = panels_begin(self, &made, error);
    if (status == DIDI_OK)
        status = all_panels(&made, take_panel, &(panel_user){fill, context}, error);
    if (status == DIDI_OK)
        status = panels_end(&made, error);
    if (status == DIDI_OK)
        set_parts(of, self->tensor);
    self->saved = true;
    panels_clear(&made);
    return status;
}

int stored_look_at_panels(stored *self, void (*look)(void *context, const method_panel *panel),
                          void *context, didi_error *error)
{
    panels made;
    int status = panels_create(self, self->work->summaries[self->tensor].tasks, &made, error);
    if (status == DIDI_OK)
        status = all_panels(&made, show_panel, &(panel_user){look, context}, error);
    panels_clear(&made);
    return status;
}

static void fill_mean(void *context, const method_panel *panel)
{
    const double *weight = context;
    double sum = 0;
    for (size_t t = 0; t < panel->tasks; t++)
        sum += weight[t];
    for (uint64_t i = 0; i < panel->count; i++) {
        double value = 0;
        for (size_t t = 0; t < panel->tasks; t++)
            value += weight[t] * (double)panel->tau[t][i];
        panel->shared[i] = (float)(value / sum);
    }
}

int stored_mean_panels(stored *self, didi_error *error)
{
    return stored_shared_panels(self, fill_mean, self->work->task_weight, error);
}

int stored_recall_errors(const work *of, size_t tensor, const char *name, snapshot **ret_from,
                         didi_error *error)
{
    layer_summary *summary = &of->summaries[tensor];
    int status = snapshot_open(of->options.work_fd, name, ret_from, error);
    if (status == DIDI_OK)
        status = kept_copy(*ret_from, KEPT_ENERGY, summary->energy, summary->tasks, error);
    if (status == DIDI_OK)
        status = kept_copy(*ret_from, KEPT_ERROR, summary->error, summary->tasks, error);
    return status;
}

int stored_recall(work *of, size_t tensor, const char *name, didi_error *error)
{
    stored_array array = delta_array(of, tensor);
    const void *data = NULL;
    snapshot *from = NULL;
    int status = stored_recall_errors(of, tensor, name, &from, error);
    if (status == DIDI_OK)
        status = stored_array_find(from, of->layers[tensor]->name, 0, &array, &data, error);
    if (status == DIDI_OK)
        set_parts(of, tensor);
    snapshot_close(from);
    return status;
}

unsigned stored_width(const work *self, size_t tensor)
{
    return packed_bits(self, self->layers[tensor]);
}

/* ---- what that takes ---- */

int stored_plan(work *of, const stored_cost *cost, const void *context, didi_error *error)
{
    didi_plan *plan = &of->plan;
    uint64_t widest = STORED_LEAST_BYTES;
    for (size_t i = 0; i < of->layer_count; i++) {
        uint64_t bytes =
            cost->memory != NULL ? cost->memory(context, i) : stored_panels_memory(of, i);
        widest = bytes > widest ? bytes : widest;
        stored_size size = {of->layers[i]->elements, stored_panels_bytes(of, i)};
        if (cost->size != NULL)
            size = cost->size(context, i);
        plan->dense_parameters = memory_add(plan->dense_parameters, size.parameters);
        plan->artifact_bytes = memory_add(plan->artifact_bytes, size.bytes);
        plan->flops += cost->flops != NULL
                           ? cost->flops(context, i)
                           : 2.0 * (double)of->layers[i]->elements * (double)plan->tasks;
    }
    plan->artifact_bytes = memory_add(plan->artifact_bytes, (of->layer_count + 16) * 512);
    plan->artifact_bytes = memory_add(plan->artifact_bytes, plan->own_bytes);
    plan->disk_bytes = memory_multiply(plan->artifact_bytes, 2);
    plan->bytes_to_read = memory_multiply(work_input_bytes(of), cost->passes + 1); /* digests */
    return stored_plan_memory(of, widest, error);
}

/* ---- the task vectors themselves, one after the other ---- */

/* One that is known to be zero has no array. */
static bool has_expert(const work *self, size_t tensor, size_t task, bool keep)
{
    return keep && family_has_vector(self->layers[tensor], task);
}

static int experts_begin(stored *of, panels *self, bool keep, didi_error *error)
{
    size_t tasks = self->summary->tasks;
    stored_array array = delta_array(of->work, of->tensor);
    for (size_t t = 0; t < tasks; t++)
        if (has_expert(of->work, of->tensor, t, keep))
            keep_array(of, array.kept, t + 1, array.dtype, array.rows, array.columns, NULL);
    stored_keep(of, KEPT_ENERGY, 0, 1, tasks, NULL);
    stored_keep(of, KEPT_ERROR, 0, 1, tasks, NULL);
    kept_name(KEPT_ENERGY, 0, self->energy);
    kept_name(KEPT_ERROR, 0, self->error);
    return snapshot_writer_create(of->work->options.work_fd, of->name, of->list, of->count,
                                  &self->writer, error);
}

/* What is kept of a panel of a task vector, and missed. */
static int take_expert_panel(panels *self, size_t task, const family_piece *piece, bool keep,
                             didi_error *error)
{
    layer_summary *summary = self->summary;
    float *tau = self->tau[0];
    int status = family_read_delta(self->work->family, task, *piece, tau, self->spare,
                                   &self->work->bytes_read, error);
    if (status != DIDI_OK)
        return status;
    double energy = linalg_energy(tau, piece->count);
    summary->energy[task] += energy;
    if (!keep) {
        summary->error[task] += energy;
        return DIDI_OK;
    }
    memcpy(self->shared, tau, piece->count * sizeof *tau);
    status = put_panel(self, piece, error);
    if (status == DIDI_OK)
        summary->error[task] += linalg_squared_distance(tau, self->shared, piece->count);
    return status;
}

static int take_expert(panels *self, size_t task, bool keep, didi_error *error)
{
    const family_tensor *tensor = self->tensor;
    uint64_t columns = tensor->columns;
    if (!family_has_vector(tensor, task))
        return DIDI_OK;
    kept_name(delta_array(self->work, self->index).kept, task + 1, self->array);
    int status = keep ? put_header(self, error) : DIDI_OK;
    for (uint64_t row = 0; row < tensor->rows && status == DIDI_OK; row += self->rows_at_once) {
        uint64_t rows = smaller(tensor->rows - row, self->rows_at_once);
        family_piece piece = {tensor, row * columns, rows * columns};
        if (atomic_load(&self->work->cancelled))
            status = didi_fail(error, DIDI_CANCELLED, NULL, "cancelled");
        else
            status = take_expert_panel(self, task, &piece, keep, error);
    }
    return status;
}

static void set_experts(work *of, size_t tensor, bool keep)
{
    layer_summary *summary = &of->summaries[tensor];
    for (size_t t = 0; t < summary->tasks; t++) {
        summary->dense[t + 1] = has_expert(of, tensor, t, keep) && summary->energy[t] > 0;
        summary->dense_bits[t + 1] =
            summary->dense[t + 1] ? packed_bits(of, of->layers[tensor]) : 0;
    }
    memcpy(summary->unshared, summary->energy, summary->tasks * sizeof(double));
}

int stored_expert_panels(stored *self, bool keep, didi_error *error)
{
    assert(self->count == 0 && !self->saved); /* it saves itself */
    work *of = self->work;
    layer_summary *summary = &of->summaries[self->tensor];
    panels made;
    memset(summary->energy, 0, summary->tasks * sizeof(double));
    memset(summary->error, 0, summary->tasks * sizeof(double));
    int status = panels_create(self, 1, &made, error);
    if (status == DIDI_OK)
        status = family_verify_unchanged(of->family, error);
    if (status == DIDI_OK)
        status = experts_begin(self, &made, keep, error);
    for (size_t t = 0; t < summary->tasks && status == DIDI_OK; t++)
        status = take_expert(&made, t, keep, error);
    if (status == DIDI_OK)
        status = panels_end(&made, error);
    if (status == DIDI_OK)
        set_experts(of, self->tensor, keep);
    self->saved = true;
    panels_clear(&made);
    return status;
}

int stored_recall_experts(work *of, size_t tensor, const char *name, bool keep, didi_error *error)
{
    layer_summary *summary = &of->summaries[tensor];
    stored_array array = delta_array(of, tensor);
    const void *data = NULL;
    snapshot *from = NULL;
    int status = stored_recall_errors(of, tensor, name, &from, error);
    for (size_t t = 0; t < summary->tasks && status == DIDI_OK; t++)
        if (has_expert(of, tensor, t, keep))
            status = stored_array_find(from, of->layers[tensor]->name, t + 1, &array, &data, error);
    if (status == DIDI_OK)
        set_experts(of, tensor, keep);
    snapshot_close(from);
    return status;
}
