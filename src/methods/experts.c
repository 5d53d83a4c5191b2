/* SPDX-License-Identifier: Apache-2.0 */
/* Experts that are factors or deltas: computed, kept, taken up again. experts_plan.c has what is
 * known before. */
#include "src/methods/experts.h"

#include "src/base/base.h"
#include "src/files/files.h"
#include "src/math/math.h"
#include "src/methods/experts_plan.h"
#include "src/methods/truncate.h"

#include <stdlib.h>
#include <string.h>

/* ---- what is shared, panel by panel */

/* What sum_t w_t tau_t is multiplied by. */
static double factor_of(const work *of, size_t tensor, const expert_part *part)
{
    double sum = 0;
    for (size_t t = 0; t < of->options.task_count; t++)
        sum += family_has_vector(of->layers[tensor], t) ? of->task_weight[t] : 0;
    return part->share == SHARE_MEAN && sum > 0 ? part->scale / sum : part->scale;
}

typedef struct sharing {
    const work *work;
    double factor;
} sharing;

static void fill(void *context, const method_panel *panel)
{
    const sharing *self = context;
    for (uint64_t i = 0; i < panel->count; i++) {
        double sum = 0;
        for (size_t t = 0; t < panel->tasks; t++)
            sum += self->work->task_weight[t] * (double)panel->tau[t][i];
        panel->shared[i] = (float)(self->factor * sum);
    }
}

/* ---- factors: a whole matrix, one task's after the other */

typedef struct factoring {
    work *work;
    const family_tensor *tensor;
    const expert_part *part;
    layer_summary *summary;
    delta_codec codec; /* of the shared delta */
    uint64_t rows_at_once;
    float *x, *spare; /* m x n; a panel */
    float *shared;    /* m x n, as a reader gets it; NULL: nothing is shared */
    double *sum;      /* a panel */
    uint8_t *bytes;   /* the shared delta where it is packed, else room for a panel of it */
    truncated *cut;   /* T */
} factoring;

static bool is_plain(const factoring *self)
{
    return self->codec.header_bytes == 0;
}

static void factoring_clear(factoring *self)
{
    for (size_t t = 0; self->cut != NULL && t < self->summary->tasks; t++)
        truncated_clear(&self->cut[t]);
    free(self->cut);
    free(self->x);
    free(self->spare);
    free(self->shared);
    free(self->sum);
    free(self->bytes);
}

static int create_shared(factoring *self, didi_error *error)
{
    size_t elements = self->tensor->elements;
    size_t panel = self->rows_at_once * self->tensor->columns;
    size_t coded = is_plain(self) ? panel : elements;
    if (self->part->share == SHARE_NOTHING)
        return DIDI_OK;
    self->shared = memory_aligned(elements, sizeof *self->shared);
    self->sum = memory_aligned(panel, sizeof *self->sum);
    self->bytes =
        memory_zeroed(self->codec.header_bytes + delta_codec_bytes(&self->codec, coded), 1);
    if (self->shared == NULL || self->sum == NULL || self->bytes == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, self->tensor->name, "shared part of a matrix");
    memcpy(self->bytes, self->codec.header, self->codec.header_bytes);
    return DIDI_OK;
}

static int factoring_create(experts *of, size_t tensor, factoring *self, didi_error *error)
{
    work *all = of->head.work;
    const family_tensor *matrix = all->layers[tensor];
    didi_precision precision = all->options.precision;
    *self = (factoring){.work = all,
                        .tensor = matrix,
                        .part = &of->parts[tensor],
                        .summary = &all->summaries[tensor],
                        .codec = delta_codec_of(precision, matrix->columns, expert_bits(all)),
                        .rows_at_once = expert_panel_rows(matrix)};
    self->x = memory_aligned(matrix->elements, sizeof *self->x);
    self->spare = memory_aligned(self->rows_at_once * matrix->columns, sizeof *self->spare);
    self->cut = memory_zeroed(self->summary->tasks, sizeof *self->cut);
    if (self->x == NULL || self->spare == NULL || self->cut == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, matrix->name, "a matrix of %llu x %llu",
                         (unsigned long long)matrix->rows, (unsigned long long)matrix->columns);
    return create_shared(self, error);
}

static family_piece piece_at(const factoring *self, uint64_t row)
{
    uint64_t rows = smaller(self->tensor->rows - row, self->rows_at_once);
    return (family_piece){self->tensor, row * self->tensor->columns, rows * self->tensor->columns};
}

static int read_panel(factoring *self, size_t task, const family_piece *piece, didi_error *error)
{
    if (atomic_load(&self->work->cancelled))
        return didi_fail(error, DIDI_CANCELLED, NULL, "cancelled");
    return family_read_delta(self->work->family, task, *piece, self->x + piece->first, self->spare,
                             &self->work->bytes_read, error);
}

/* The shared panel becomes what a reader gets. */
static int store_shared(factoring *self, const family_piece *piece, didi_error *error)
{
    float *values = self->shared + piece->first;
    uint64_t place = is_plain(self) ? 0 : delta_codec_place(&self->codec, piece->first);
    int status = work_check_range(piece, values, "float32", error);
    if (status != DIDI_OK)
        return status;
    delta_codec_encode(&self->codec, values, piece->count, self->bytes + place);
    delta_codec_decode(&self->codec, self->bytes + place, piece->count, values);
    return work_check_range(piece, values, self->codec.stored_as, error);
}

static int share_panel(factoring *self, double factor, uint64_t row, didi_error *error)
{
    family_piece piece = piece_at(self, row);
    memset(self->sum, 0, piece.count * sizeof *self->sum);
    for (size_t t = 0; t < self->summary->tasks; t++) {
        int status = read_panel(self, t, &piece, error);
        if (status != DIDI_OK)
            return status;
        for (uint64_t i = 0; i < piece.count; i++)
            self->sum[i] += self->work->task_weight[t] * (double)self->x[piece.first + i];
    }
    for (uint64_t i = 0; i < piece.count; i++)
        self->shared[piece.first + i] = (float)(factor * self->sum[i]);
    return store_shared(self, &piece, error);
}

/* x = tau_t, then less what is shared. */
static int read_task(factoring *self, size_t task, didi_error *error)
{
    layer_summary *summary = self->summary;
    uint64_t elements = self->tensor->elements;
    for (uint64_t row = 0; row < self->tensor->rows; row += self->rows_at_once) {
        family_piece piece = piece_at(self, row);
        int status = read_panel(self, task, &piece, error);
        if (status != DIDI_OK)
            return status;
    }
    summary->energy[task] = linalg_energy(self->x, elements);
    for (uint64_t i = 0; i < elements && self->shared != NULL; i++)
        self->x[i] -= self->shared[i];
    summary->unshared[task] = linalg_energy(self->x, elements);
    return DIDI_OK;
}

static int factor_task(factoring *self, size_t task, didi_error *error)
{
    const family_tensor *tensor = self->tensor;
    layer_summary *summary = self->summary;
    size_t known = 0;
    size_t rank = self->part->rank;
    summary->energy[task] = summary->unshared[task] = summary->error[task] = 0;
    if (!family_has_vector(tensor, task))
        return DIDI_OK; /* served as the base has it, whatever is shared */
    int status = read_task(self, task, error);
    if (status != DIDI_OK)
        return status;
    if (self->shared == NULL && family_low_rank(tensor, task, &known))
        rank = smaller(rank, known);
    if (rank > 0 && summary->unshared[task] > 0)
        status = truncate_matrix(tensor->rows, tensor->columns, self->x, rank,
                                 self->work->options.precision, &self->cut[task], error);
    summary->error[task] = linalg_energy(self->x, tensor->elements);
    return status;
}

/* ---- what is kept of them */

static void set_ranks(factoring *self)
{
    layer_summary *summary = self->summary;
    unsigned bits = expert_bits(self->work);
    double energy = 0;
    for (size_t t = 0; t < summary->tasks; t++) {
        energy += summary->energy[t];
        expert_set_rank(self->work, summary, t, self->cut[t].rank);
    }
    summary->dense[0] = self->shared != NULL && energy > 0;
    summary->dense_bits[0] = summary->dense[0] ? bits : 0;
}

static void keep_task(factoring *self, size_t task, stored *out)
{
    truncated *cut = &self->cut[task];
    stored_keep(out, KEPT_SIGMA, task + 1, cut->rank, 1, cut->sigma);
    if (cut->packed != NULL)
        stored_packed(out, task + 1, cut->packed, cut->packed_bytes);
    else if (cut->rank > 0)
        stored_factors(out, task + 1, cut->rank, cut->b, cut->a);
}

static int keep_all(factoring *self, stored *out, didi_error *error)
{
    layer_summary *summary = self->summary;
    stored_keep(out, KEPT_ENERGY, 0, 1, summary->tasks, summary->energy);
    stored_keep(out, KEPT_ERROR, 0, 1, summary->tasks, summary->error);
    stored_keep(out, KEPT_UNSHARED, 0, 1, summary->tasks, summary->unshared);
    for (size_t t = 0; t < summary->tasks; t++)
        keep_task(self, t, out);
    if (summary->dense[0] && is_plain(self))
        stored_delta(out, 0, self->shared);
    else if (summary->dense[0])
        stored_packed(
            out, 0, self->bytes,
            packed_dense_bytes(self->tensor->rows, self->tensor->columns, summary->dense_bits[0]));
    return stored_save(out, error);
}

static int merge_factors(experts *of, size_t tensor, stored *out, didi_error *error)
{
    factoring self;
    int status = factoring_create(of, tensor, &self, error);
    if (status == DIDI_OK)
        status = family_verify_unchanged(self.work->family, error);
    double factor = factor_of(self.work, tensor, self.part);
    bool shares = self.part->share != SHARE_NOTHING;
    for (uint64_t row = 0; row < self.tensor->rows && shares && status == DIDI_OK;
         row += self.rows_at_once)
        status = share_panel(&self, factor, row, error);
    for (size_t t = 0; t < self.summary->tasks && status == DIDI_OK; t++)
        status = factor_task(&self, t, error);
    if (status == DIDI_OK)
        status = family_verify_unchanged(self.work->family, error);
    work_sample_memory(self.work);
    if (status == DIDI_OK) {
        set_ranks(&self);
        status = keep_all(&self, out, error);
    }
    factoring_clear(&self);
    return status;
}

/* ---- the row */

static int merge_tensor(void *method, size_t tensor, stored *out, didi_error *error)
{
    experts *self = method;
    const expert_part *part = &self->parts[tensor];
    if (part->form == EXPERT_FACTORS)
        return merge_factors(self, tensor, out, error);
    if (part->share == SHARE_NOTHING)
        return stored_expert_panels(out, part->form == EXPERT_DELTA, error);
    sharing context = {self->head.work, factor_of(self->head.work, tensor, part)};
    return stored_shared_panels(out, fill, &context, error);
}

/* Whether what the summary says is stored is there. */
static int find_parts(const work *of, size_t tensor, const snapshot *from, didi_error *error)
{
    stored_tensor shape = stored_tensor_of(of->layers[tensor]);
    int status = DIDI_OK;
    for (size_t file = 0; file <= of->options.task_count && status == DIDI_OK; file++) {
        stored_array arrays[STORED_ARRAYS_MAX];
        stored_part part = stored_part_of(&of->summaries[tensor], file);
        const void *data = NULL;
        size_t count = stored_arrays(&shape, &part, file, of->options.precision, arrays);
        for (size_t i = 0; i < count && status == DIDI_OK; i++)
            status = stored_array_find(from, shape.base->name, file, &arrays[i], &data, error);
    }
    return status;
}

static int recall_factors(experts *self, size_t tensor, const char *name, didi_error *error)
{
    const work *of = self->head.work;
    layer_summary *summary = &of->summaries[tensor];
    snapshot *from = NULL;
    double energy = 0;
    int status = stored_recall_errors(of, tensor, name, &from, error);
    if (status == DIDI_OK)
        status = kept_copy(from, KEPT_UNSHARED, summary->unshared, summary->tasks, error);
    for (size_t t = 0; t < summary->tasks && status == DIDI_OK; t++) {
        uint64_t rank = 0;
        const void *sigma = NULL;
        status = kept_find(from, KEPT_SIGMA, t + 1, 1, &rank, &sigma, error);
        energy += summary->energy[t];
        if (status == DIDI_OK)
            expert_set_rank(of, summary, t, rank);
    }
    if (status == DIDI_OK) {
        summary->dense[0] = self->parts[tensor].share != SHARE_NOTHING && energy > 0;
        summary->dense_bits[0] = summary->dense[0] ? expert_bits(of) : 0;
        status = find_parts(of, tensor, from, error);
    }
    snapshot_close(from);
    return status;
}

static bool recall_tensor(void *method, size_t tensor)
{
    experts *self = method;
    work *of = self->head.work;
    const expert_part *part = &self->parts[tensor];
    char name[64];
    work_snapshot_name(of->stored, tensor, name);
    if (part->form == EXPERT_FACTORS)
        return recall_factors(self, tensor, name, NULL) == DIDI_OK;
    if (part->share == SHARE_NOTHING)
        return stored_recall_experts(of, tensor, name, part->form == EXPERT_DELTA, NULL) == DIDI_OK;
    return stored_recall(of, tensor, name, NULL) == DIDI_OK;
}

const method_stage experts_stages[EXPERTS_STAGES] = {
    {.name = "experts",
     .told_as = DIDI_STAGE_REFINE,
     .share = 90,
     .each = merge_tensor,
     .recall = recall_tensor,
     .memory = experts_memory},
};
