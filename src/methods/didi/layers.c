/* SPDX-License-Identifier: Apache-2.0 */
/* The rows that work on one layer: open, compute, leave what was found. */
#include "src/methods/didi/didi_method.h"

#include "src/base/base.h"
#include "src/files/files.h"

#include <math.h>
#include <string.h>

void didi_set_weights(didi *self, size_t index)
{
    layer_summary *summary = &self->work->summaries[index];
    solve_weights(self->work->options.weighting, solve_role(self->work->layers[index]->name),
                  self->work->task_weight, summary->energy, summary->tasks, summary->weight);
    for (size_t t = 0; t < summary->tasks; t++)
        summary->weight[t] *= self->task_share[t];
}

/* Layers are given out in order: while the workers are at this one and its neighbours, the first
 * one after them is read. */
static int open_layer(didi *self, didi_row row, size_t index, layer **ret_layer, didi_error *error)
{
    work *of = self->work;
    work_mode how = didi_mode_of(self, row, index).how;
    int status = work_open_layer(of, index, &how, row == DIDI_ROW_DECOMPOSE, ret_layer, error);
    if (status != DIDI_OK)
        return status;
    didi_set_weights(self, index);
    layer_set_weights(*ret_layer, of->summaries[index].weight);
    size_t next = work_layer_ahead(of, index);
    if (next != SIZE_MAX && !didi_mode_of(self, row, next).how.streamed)
        family_will_need(of->family, of->layers[next]);
    return DIDI_OK;
}

static void keep_summary(stored *out, const layer_summary *summary)
{
    stored_keep(out, KEPT_ENERGY, 0, 1, summary->tasks, summary->energy);
    stored_keep(out, KEPT_TAIL, 0, 1, summary->tasks + 1, summary->tail);
    for (size_t j = 0; j <= summary->tasks; j++)
        stored_keep(out, KEPT_SIGMA, j, summary->count[j], 1, summary->sigma[j]);
}

/* ---- decompose ---- */

/* Rows to start pursuit from, apart from the summary: other merges may start from that alone. */
static int save_sketch(didi *self, size_t index, const layer *target, didi_error *error)
{
    char name[64];
    stored *rows = NULL;
    work_snapshot_name("sketch", index, name);
    int status = stored_create(self->work, index, name, &rows, error);
    if (status != DIDI_OK)
        return status;
    for (size_t t = 1; t <= target->tasks; t++)
        stored_keep(rows, KEPT_RIGHT, t, target->blocks[t].basis, target->columns,
                    target->blocks[t].right);
    status = stored_save(rows, error);
    stored_free(rows);
    return status;
}

static void keep_spectra(stored *out, const spectra *found)
{
    if (found->cross == NULL)
        return;
    stored_keep(out, KEPT_CROSS, 0, found->tasks * found->q, found->q, found->cross);
    stored_keep(out, KEPT_EXPERT_TAIL, 0, found->tasks, found->q, found->expert_tail);
    stored_keep(out, KEPT_SHARED_TAIL, 0, found->tasks, found->q, found->shared_tail);
    stored_keep(out, KEPT_CORNER, 0, 1, found->tasks, found->corner);
}

static int decompose_exactly(didi *self, size_t index, layer *target, stored *out,
                             didi_error *error)
{
    spectra found = {0};
    bool learned =
        self->work->options.allocator == DIDI_ALLOCATOR_DIFFERENTIABLE && self->work->shared;
    int status = DIDI_OK;
    if (learned) {
        const solve_limits *limits = &self->limits[index];
        size_t q = limits->expert > limits->shared ? limits->expert : limits->shared;
        status = spectra_create(&found, target->tasks, q, error);
    }
    if (status == DIDI_OK)
        status = solve_spectra(target, self->work->shared, &self->work->summaries[index],
                               learned ? &found : NULL, error);
    if (status == DIDI_OK) {
        keep_summary(out, &self->work->summaries[index]);
        keep_spectra(out, &found);
        status = stored_save(out, error);
    }
    spectra_clear(&found);
    return status;
}

int didi_decompose_layer(void *method, size_t index, stored *out, didi_error *error)
{
    didi *self = method;
    layer *target = NULL;
    int status = open_layer(self, DIDI_ROW_DECOMPOSE, index, &target, error);
    if (status != DIDI_OK)
        return status;
    if (didi_needs_spectra(self)) {
        status = decompose_exactly(self, index, target, out, error);
    } else {
        status = solve_sketch(target, didi_sketch_rows(self, index), &self->work->summaries[index],
                              error);
        if (status == DIDI_OK)
            status = work_verify_streamed(self->work, target, error);
        if (status == DIDI_OK)
            status = save_sketch(self, index, target, error);
        keep_summary(out, &self->work->summaries[index]);
        if (status == DIDI_OK)
            status = stored_save(out, error);
    }
    work_sample_memory(self->work);
    layer_free(target);
    return status;
}

/* ---- pursue ---- */

/* In pieces, so that neither side stays in memory longer than it must. */
static void copy_array(const snapshot *from, void *to, const void *data, size_t bytes)
{
    for (size_t first = 0; first < bytes; first += SPILL_PIECE_BYTES) {
        size_t part = bytes - first < SPILL_PIECE_BYTES ? bytes - first : SPILL_PIECE_BYTES;
        memcpy((char *)to + first, (const char *)data + first, part);
        snapshot_forget(from);
        spill_touched(part);
    }
}

/* Right rows alone are enough to go on from: left is solved for next. */
static int recall_block(const snapshot *from, layer *target, size_t index, bool with_left,
                        didi_error *error)
{
    uint64_t rows = 0;
    const void *right = NULL;
    const void *left = NULL;
    int status = kept_find(from, KEPT_RIGHT, index, target->columns, &rows, &right, error);
    if (status != DIDI_OK || rows == 0)
        return status;
    if (with_left)
        status = kept_find(from, KEPT_LEFT, index, target->rows, &rows, &left, error);
    if (status == DIDI_OK)
        status = layer_resize_block(target, index, rows, error);
    if (status != DIDI_OK)
        return status;
    block *out = &target->blocks[index];
    copy_array(from, out->right, right, rows * target->columns * sizeof(float));
    if (left != NULL)
        copy_array(from, out->left, left, rows * target->rows * sizeof(float));
    return DIDI_OK;
}

static void adopt_sigma(layer *target, const layer_summary *summary)
{
    for (size_t j = 0; j <= target->tasks; j++) {
        block *out = &target->blocks[j];
        for (size_t i = 0; i < out->basis; i++)
            out->sigma[i] = i < summary->count[j] ? summary->sigma[j][i] : 0;
    }
}

static bool is_warm(const didi *self, size_t index)
{
    return self->warm.layers != NULL && self->warm.layers[index];
}

typedef enum blocks_from { FROM_SKETCH, FROM_PURSUED, FROM_EARLIER } blocks_from;

/* The blocks that a sketch, pursuit, or the pursuit of an earlier merge left of a layer. */
static int recall_blocks(const didi *self, blocks_from left, size_t index, layer *target,
                         didi_error *error)
{
    char name[64];
    size_t number = index;
    snapshot *from = NULL;
    bool sketch = left == FROM_SKETCH;
    int fd = left == FROM_EARLIER ? self->work->options.reuse_fd : self->work->options.work_fd;
    if (left == FROM_EARLIER)
        (void)work_reuse_find(self->work, index, &number);
    work_snapshot_name(sketch ? "sketch" : "pursue", number, name);
    int status = snapshot_open(fd, name, &from, error);
    for (size_t j = sketch ? 1 : 0; j <= target->tasks && status == DIDI_OK; j++)
        status = recall_block(from, target, j, !sketch, error);
    if (status == DIDI_OK)
        adopt_sigma(target, &self->work->summaries[index]);
    snapshot_close(from);
    return status;
}

/* What pursuit left, at the ranks it ended with. */
static pursued measure_pursued(const layer *target, const layer_summary *summary)
{
    pursued found = {.loss = summary->loss, .floor = summary->loss};
    for (size_t t = 0; t < target->tasks; t++)
        found.error += summary->error[t];
    for (size_t j = 0; j <= target->tasks; j++) {
        const block *from = &target->blocks[j];
        found.parameters += (double)from->rank * (double)(target->rows + target->columns);
        for (size_t i = from->rank; i < from->basis; i++)
            found.floor -= layer_block_weight(target, j) * from->sigma[i] * from->sigma[i];
    }
    found.floor = found.floor > 0 ? found.floor : 0;
    return found;
}

static void keep_blocks(const didi *self, size_t index, const layer *target, stored *out)
{
    const pursued *found = &self->pursued[index];
    keep_summary(out, &self->work->summaries[index]);
    stored_keep(out, KEPT_PURSUED, 0, 1, PURSUED_NUMBERS, (const double *)found);
    for (size_t j = 0; j <= target->tasks; j++) {
        const block *from = &target->blocks[j];
        stored_keep(out, KEPT_LEFT, j, from->basis, target->rows, from->left);
        stored_keep(out, KEPT_RIGHT, j, from->basis, target->columns, from->right);
    }
}

/* From the blocks an earlier merge pursued. */
static int pursue_warm(didi *self, size_t index, layer *target, didi_error *error)
{
    const double *thresholds = self->warm.thresholds;
    int status = recall_blocks(self, FROM_EARLIER, index, target, error);
    if (status != DIDI_OK)
        return status;
    solve_resume(target, self->work->shared, thresholds[0], &self->limits[index]);
    return solve_pursue(target, self->work->shared, thresholds, self->warm.rounds,
                        &self->limits[index], &self->work->summaries[index], error);
}

static int pursue_afresh(didi *self, size_t index, layer *target, didi_error *error)
{
    layer_summary *summary = &self->work->summaries[index];
    int status = self->work->options.allocator == DIDI_ALLOCATOR_JOINT
                     ? solve_start_from_mean(target, self->work->shared, summary, error)
                     : recall_blocks(self, FROM_SKETCH, index, target, error);
    if (status == DIDI_OK)
        status = solve_pursue(target, self->work->shared, self->thresholds, self->rounds,
                              &self->limits[index], summary, error);
    return status;
}

int didi_pursue_layer(void *method, size_t index, stored *out, didi_error *error)
{
    didi *self = method;
    layer *target = NULL;
    int status = open_layer(self, DIDI_ROW_PURSUE, index, &target, error);
    if (status != DIDI_OK)
        return status;
    status = is_warm(self, index) ? pursue_warm(self, index, target, error)
                                  : pursue_afresh(self, index, target, error);
    if (status == DIDI_OK)
        self->pursued[index] = measure_pursued(target, &self->work->summaries[index]);
    if (status == DIDI_OK)
        status = work_verify_streamed(self->work, target, error);
    if (status == DIDI_OK) {
        keep_blocks(self, index, target, out);
        status = stored_save(out, error);
    }
    work_sample_memory(self->work);
    layer_free(target);
    return status;
}

/* ---- refine ---- */

/* The values of `package` end as what is stored. */
static void keep_package(const didi *self, size_t index, const layer *target,
                         solve_package *package, stored *out)
{
    const layer_summary *summary = &self->work->summaries[index];
    bool plain = precision_is_plain(self->work->options.precision, NULL);
    stored_keep(out, KEPT_ENERGY, 0, 1, summary->tasks, summary->energy);
    stored_keep(out, KEPT_ERROR, 0, 1, summary->tasks, summary->error);
    stored_keep(out, KEPT_UNSHARED, 0, 1, summary->tasks, summary->unshared);
    stored_keep(out, KEPT_LOSS, 0, 1, 1, &summary->loss);
    for (size_t j = 0; j <= target->tasks; j++) {
        const solve_factors *from = &package->factors[j];
        if (plain)
            stored_factors(out, j, from->rank, from->b, from->a);
        else
            stored_packed(out, j, package->packed[j], package->packed_bytes[j]);
    }
    for (size_t t = 0; t < target->tasks; t++)
        if (package->delta[t] != NULL)
            stored_delta(out, t + 1, package->delta[t]);
}

/* What pursuit left at the ranks allocated since, as far as its rows go. */
static double expected_loss(const didi *self, size_t index)
{
    const layer_summary *summary = &self->work->summaries[index];
    double sum = self->pursued[index].floor;
    double shared = 0;
    for (size_t t = 0; t < summary->tasks; t++)
        shared += summary->weight[t];
    for (size_t j = 0; j <= summary->tasks; j++)
        for (size_t i = summary->rank[j]; i < summary->count[j]; i++)
            sum += (j == 0 ? shared : summary->weight[j - 1]) * summary->sigma[j][i] *
                   summary->sigma[j][i];
    return sum;
}

/* Where all blocks take little of what the matrices hold, they hardly meet: sweeps converge at once
 * and what a later one gains is not worth its time. */
#define ROOMY_SHARE 0.16
#define ROOMY_TOLERANCES 10

static double stop_tolerance(const didi *self)
{
    double whole = work_matrix_parameters(self->work) * (double)self->work->options.task_count;
    bool roomy = (double)self->factor_parameters <= ROOMY_SHARE * whole;
    return self->work->options.tolerance * (roomy ? ROOMY_TOLERANCES : 1);
}

/* Sweeps let the shared part and the experts grow against each other. Rounding to few bits is a
 * share of what is stored, so it takes back more than later sweeps gain (docs/method.md, 13). */
enum { AUTO_SWEEPS = 1, INT3_SWEEPS = 2 };

static size_t most_sweeps(const didi *self)
{
    size_t steps = self->work->options.refine_steps;
    size_t most = steps;
    if (self->work->options.optimizer != DIDI_OPTIMIZER_ALS)
        return steps;
    if (self->work->options.precision == DIDI_PRECISION_AUTO)
        most = AUTO_SWEEPS;
    else if (self->work->options.precision == DIDI_PRECISION_INT3)
        most = INT3_SWEEPS;
    return steps < most ? steps : most;
}

/* Scores are products of a query and a key: lengthening both would count twice. */
static bool restores_length(const didi *self, size_t index)
{
    return self->work->options.weighting == DIDI_WEIGHTING_ACCURACY &&
           solve_role(self->work->layers[index]->name) == 1;
}

/* Rounding to few bits shortens once more: what is stored may be lengthened further. */
#define RESTORE_MAX 1.08
#define RESTORE_MAX_AUTO 1.2

static double restore_at_most(const didi *self)
{
    return self->work->options.precision == DIDI_PRECISION_AUTO ? RESTORE_MAX_AUTO : RESTORE_MAX;
}

/* A budget that grew no further finds most directions in an earlier merge's blocks: refinement ends
 * early. */
#define NEAR_GROWTH 1.3
#define NEAR_TOLERANCE 5e-3
enum { NEAR_STEPS = 3 };

/* When refinement of a layer ends that starts from an earlier merge's blocks. */
static void end_warm(const didi *self, refine_options *options)
{
    double growth = self->warm.growth;
    if (options->optimizer != DIDI_OPTIMIZER_ALS)
        return;
    double wanted = growth > 1 ? self->work->options.tolerance : options->tolerance;
    options->tolerance = growth > NEAR_GROWTH ? wanted : fmax(wanted, NEAR_TOLERANCE);
    if (growth <= NEAR_GROWTH && options->steps > NEAR_STEPS)
        options->steps = NEAR_STEPS;
}

int didi_refine_layer(void *method, size_t index, stored *out, didi_error *error)
{
    didi *self = method;
    layer_summary *summary = &self->work->summaries[index];
    solve_package package = {0};
    layer *target = NULL;
    int status = open_layer(self, DIDI_ROW_REFINE, index, &target, error);
    if (status != DIDI_OK)
        return status;
    refine_options options = {.optimizer = self->work->options.optimizer,
                              .steps = most_sweeps(self),
                              .learning_rate = self->work->options.refine_learning_rate,
                              .tolerance = stop_tolerance(self)};
    if (is_warm(self, index)) {
        options.before = expected_loss(self, index);
        end_warm(self, &options);
    }
    status = didi_pursues(self) ? recall_blocks(self, FROM_PURSUED, index, target, error)
                                : solve_start_from_mean(target, self->work->shared, summary, error);
    if (status == DIDI_OK)
        status = solve_refine(target, &options, summary, error);
    if (status == DIDI_OK && restores_length(self, index))
        solve_restore(target, restore_at_most(self), summary);
    if (status == DIDI_OK)
        status = solve_finish(target, self->work->options.precision, summary, &package, error);
    if (status == DIDI_OK)
        status = work_verify_streamed(self->work, target, error);
    if (status == DIDI_OK) {
        keep_package(self, index, target, &package, out);
        status = stored_save(out, error);
    }
    work_sample_memory(self->work);
    solve_package_clear(&package);
    layer_free(target);
    return status;
}
