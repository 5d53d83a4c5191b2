/* SPDX-License-Identifier: Apache-2.0 */
/* The items that work on one layer: load, compute, save; and what a later attempt picks up again.
 */
#include "src/merge/merge_internal.h"

#include "src/base/base.h"
#include "src/files/files.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void merge_state_name(const didi_merge *self, merge_phase phase, size_t index, char name[64])
{
    const char *what = phase == PHASE_DECOMPOSE ? "decompose"
                       : phase == PHASE_PURSUE  ? "pursue"
                                                : "refine";
    if (phase == PHASE_REFINE && self->pass > 0)
        (void)snprintf(name, 64, "%s%zu-%05zu.state", what, self->pass, index);
    else
        (void)snprintf(name, 64, "%s-%05zu.state", what, index);
}

/* Rows to start pursuit from; of no use to other merges. */
static void sketch_name(size_t index, char name[64])
{
    (void)snprintf(name, 64, "sketch-%05zu.state", index);
}

enum { PURSUED_NUMBERS = 4 }; /* loss, error, floor, parameters */

/* ---- state entries under construction ---- */

typedef struct entries {
    snapshot_entry *list;
    char (*names)[32];
    size_t count, room;
} entries;

static int entries_create(entries *self, size_t room, didi_error *error)
{
    *self = (entries){.list = memory_zeroed(room, sizeof(snapshot_entry)),
                      .names = memory_zeroed(room, 32),
                      .room = room};
    if (self->list == NULL || self->names == NULL) {
        free(self->list);
        free(self->names);
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "layer state");
    }
    return DIDI_OK;
}

static void entries_free(entries *self)
{
    free(self->list);
    free(self->names);
}

static void entries_add(entries *self, const char *name, size_t index, didi_dtype dtype,
                        uint64_t rows, uint64_t columns, const void *data)
{
    (void)snprintf(self->names[self->count], 32, "%s.%zu", name, index);
    self->list[self->count] =
        (snapshot_entry){self->names[self->count], dtype, rows, columns, data};
    self->count++;
}

static void add_summary(entries *list, const layer_summary *summary)
{
    entries_add(list, "energy", 0, DIDI_DTYPE_F64, 1, summary->tasks, summary->energy);
    entries_add(list, "tail", 0, DIDI_DTYPE_F64, 1, summary->tasks + 1, summary->tail);
    for (size_t j = 0; j <= summary->tasks; j++)
        entries_add(list, "sigma", j, DIDI_DTYPE_F64, summary->count[j], 1, summary->sigma[j]);
}

static int save_entries(didi_merge *self, merge_phase phase, size_t index, const entries *list,
                        didi_error *error)
{
    char name[64];
    merge_state_name(self, phase, index, name);
    return snapshot_save(self->options.work_fd, name, list->list, list->count,
                         !self->options.volatile_work, error);
}

/* ---- decompose ---- */

static int save_sketch(didi_merge *self, size_t index, const layer *target, didi_error *error)
{
    char name[64];
    entries list;
    int status = entries_create(&list, 2 * target->tasks + 8, error);
    if (status != DIDI_OK)
        return status;
    for (size_t t = 1; t <= target->tasks; t++)
        entries_add(&list, "right", t, DIDI_DTYPE_F32, target->blocks[t].basis, target->columns,
                    target->blocks[t].right);
    sketch_name(index, name);
    status = snapshot_save(self->options.work_fd, name, list.list, list.count,
                           !self->options.volatile_work, error);
    list.count = 0;
    add_summary(&list, &self->summaries[index]);
    if (status == DIDI_OK)
        status = save_entries(self, PHASE_DECOMPOSE, index, &list, error);
    entries_free(&list);
    return status;
}

static int save_spectra(didi_merge *self, size_t index, const spectra *found, didi_error *error)
{
    const layer_summary *summary = &self->summaries[index];
    entries list;
    int status = entries_create(&list, summary->tasks + 12, error);
    if (status != DIDI_OK)
        return status;
    add_summary(&list, summary);
    if (found->cross != NULL) {
        entries_add(&list, "cross", 0, DIDI_DTYPE_F32, found->tasks * found->q, found->q,
                    found->cross);
        entries_add(&list, "expert_tail", 0, DIDI_DTYPE_F64, found->tasks, found->q,
                    found->expert_tail);
        entries_add(&list, "shared_tail", 0, DIDI_DTYPE_F64, found->tasks, found->q,
                    found->shared_tail);
        entries_add(&list, "corner", 0, DIDI_DTYPE_F64, 1, found->tasks, found->corner);
    }
    status = save_entries(self, PHASE_DECOMPOSE, index, &list, error);
    entries_free(&list);
    return status;
}

static int decompose_exactly(didi_merge *self, size_t index, layer *target, didi_error *error)
{
    spectra found = {0};
    bool learned = self->options.allocator == DIDI_ALLOCATOR_DIFFERENTIABLE && self->shared;
    int status = DIDI_OK;
    if (learned) {
        const solve_limits *limits = &self->limits[index];
        size_t q = limits->expert > limits->shared ? limits->expert : limits->shared;
        status = spectra_create(&found, target->tasks, q, error);
    }
    if (status == DIDI_OK)
        status = solve_spectra(target, self->shared, &self->summaries[index],
                               learned ? &found : NULL, error);
    if (status == DIDI_OK)
        status = save_spectra(self, index, &found, error);
    spectra_clear(&found);
    return status;
}

int merge_decompose_layer(didi_merge *self, size_t index, didi_error *error)
{
    const family_tensor *tensor = self->layers[index];
    layer *target = NULL;
    int status = merge_load_layer(self, PHASE_DECOMPOSE, index, &target, error);
    if (status != DIDI_OK)
        return status;
    if (merge_needs_spectra(self)) {
        status = decompose_exactly(self, index, target, error);
    } else {
        double ratio = merge_sketch_ratio(self);
        size_t rows = solve_sketch_rows(tensor->rows, tensor->columns, target->tasks, ratio);
        status = solve_sketch(target, rows, &self->summaries[index], error);
        if (status == DIDI_OK)
            status = merge_verify_streamed(self, target, error);
        if (status == DIDI_OK)
            status = save_sketch(self, index, target, error);
    }
    merge_sample_memory(self);
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
    char name[32];
    uint64_t rows = 0;
    const void *right = NULL;
    const void *left = NULL;
    (void)snprintf(name, sizeof name, "right.%zu", index);
    int status = snapshot_find(from, name, DIDI_DTYPE_F32, target->columns, &rows, &right, error);
    if (status != DIDI_OK || rows == 0)
        return status;
    (void)snprintf(name, sizeof name, "left.%zu", index);
    if (with_left)
        status = snapshot_find(from, name, DIDI_DTYPE_F32, target->rows, &rows, &left, error);
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

static bool is_warm(const didi_merge *self, size_t index)
{
    return self->reuse.warm != NULL && self->reuse.warm[index];
}

static int recall_sketch(const didi_merge *self, size_t index, layer *target, didi_error *error)
{
    char name[64];
    snapshot *from = NULL;
    sketch_name(index, name);
    int status = snapshot_open(self->options.work_fd, name, &from, error);
    for (size_t t = 1; t <= target->tasks && status == DIDI_OK; t++)
        status = recall_block(from, target, t, false, error);
    if (status == DIDI_OK)
        adopt_sigma(target, &self->summaries[index]);
    snapshot_close(from);
    return status;
}

static double block_weight(const layer *target, size_t index)
{
    return index == 0 ? target->weight_sum : target->weight[index - 1];
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
            found.floor -= block_weight(target, j) * from->sigma[i] * from->sigma[i];
    }
    found.floor = found.floor > 0 ? found.floor : 0;
    return found;
}

static int save_blocks(didi_merge *self, size_t index, const layer *target, didi_error *error)
{
    entries list;
    int status = entries_create(&list, 3 * target->tasks + 12, error);
    if (status != DIDI_OK)
        return status;
    const pursued *found = &self->pursued[index];
    double numbers[PURSUED_NUMBERS] = {found->loss, found->error, found->floor, found->parameters};
    add_summary(&list, &self->summaries[index]);
    entries_add(&list, "pursued", 0, DIDI_DTYPE_F64, 1, PURSUED_NUMBERS, numbers);
    for (size_t j = 0; j <= target->tasks; j++) {
        const block *from = &target->blocks[j];
        entries_add(&list, "left", j, DIDI_DTYPE_F32, from->basis, target->rows, from->left);
        entries_add(&list, "right", j, DIDI_DTYPE_F32, from->basis, target->columns, from->right);
    }
    status = save_entries(self, PHASE_PURSUE, index, &list, error);
    entries_free(&list);
    return status;
}

static int recall_blocks(const didi_merge *self, int fd, const char *name, size_t index,
                         layer *target, didi_error *error)
{
    snapshot *from = NULL;
    int status = snapshot_open(fd, name, &from, error);
    for (size_t j = 0; j <= target->tasks && status == DIDI_OK; j++)
        status = recall_block(from, target, j, true, error);
    if (status == DIDI_OK)
        adopt_sigma(target, &self->summaries[index]);
    snapshot_close(from);
    return status;
}

/* From the blocks an earlier merge pursued. */
static int pursue_warm(didi_merge *self, size_t index, layer *target, didi_error *error)
{
    char name[64];
    size_t old = 0;
    const double *thresholds = self->reuse.thresholds;
    (void)merge_reuse_find(self, PHASE_PURSUE, index, &old);
    merge_state_name(self, PHASE_PURSUE, old, name);
    int status = recall_blocks(self, self->options.reuse_fd, name, index, target, error);
    if (status != DIDI_OK)
        return status;
    solve_resume(target, self->shared, thresholds[0], &self->limits[index]);
    return solve_pursue(target, self->shared, thresholds, self->reuse.rounds, &self->limits[index],
                        &self->summaries[index], error);
}

static int pursue_afresh(didi_merge *self, size_t index, layer *target, didi_error *error)
{
    layer_summary *summary = &self->summaries[index];
    int status = self->options.allocator == DIDI_ALLOCATOR_JOINT
                     ? solve_start_from_mean(target, self->shared, summary, error)
                     : recall_sketch(self, index, target, error);
    if (status == DIDI_OK)
        status = solve_pursue(target, self->shared, self->thresholds, self->rounds,
                              &self->limits[index], summary, error);
    return status;
}

int merge_pursue_layer(didi_merge *self, size_t index, didi_error *error)
{
    layer *target = NULL;
    int status = merge_load_layer(self, PHASE_PURSUE, index, &target, error);
    if (status != DIDI_OK)
        return status;
    status = is_warm(self, index) ? pursue_warm(self, index, target, error)
                                  : pursue_afresh(self, index, target, error);
    if (status == DIDI_OK)
        self->pursued[index] = measure_pursued(target, &self->summaries[index]);
    if (status == DIDI_OK)
        status = merge_verify_streamed(self, target, error);
    if (status == DIDI_OK)
        status = save_blocks(self, index, target, error);
    merge_sample_memory(self);
    layer_free(target);
    return status;
}

/* ---- refine ---- */

static int recall_pursued(const didi_merge *self, size_t index, layer *target, didi_error *error)
{
    char name[64];
    merge_state_name(self, PHASE_PURSUE, index, name);
    return recall_blocks(self, self->options.work_fd, name, index, target, error);
}

/* Values as they are stored, in their own place: they are already rounded to the dtype, and no
 * longer needed in float32. */
static const void *narrow_in_place(int dtype, float *values, size_t count)
{
    enum { PIECE = 4096 };
    char piece[PIECE * sizeof(float)];
    size_t size = didi_dtype_bits((didi_dtype)dtype) / 8;
    char *out = (char *)values;
    for (size_t first = 0; first < count; first += PIECE) {
        size_t part = count - first < PIECE ? count - first : PIECE;
        didi_dtype_from_f32((didi_dtype)dtype, values + first, piece, part);
        memcpy(out + first * size, piece, part * size);
        spill_touched(part * sizeof *values);
    }
    return values;
}

/* The values of `package` end as what is stored. */
static void add_package(entries *list, const layer *target, solve_package *package,
                        didi_precision precision)
{
    didi_dtype dtype = DIDI_DTYPE_U8;
    bool plain = precision_is_plain(precision, &dtype);
    for (size_t j = 0; j <= target->tasks && !plain; j++)
        entries_add(list, "packed", j, DIDI_DTYPE_U8, package->packed_bytes[j], 1,
                    package->packed[j]);
    for (size_t j = 0; j <= target->tasks && plain; j++) {
        const solve_factors *f = &package->factors[j];
        const void *b = narrow_in_place((int)dtype, f->b, f->rank * target->rows);
        const void *a = narrow_in_place((int)dtype, f->a, f->rank * target->columns);
        entries_add(list, "B", j, dtype, f->rank > 0 ? target->rows : 0, f->rank, b);
        entries_add(list, "A", j, dtype, f->rank, target->columns, a);
    }
    for (size_t t = 0; t < target->tasks; t++) {
        if (package->delta[t] == NULL)
            continue;
        const void *delta =
            narrow_in_place((int)dtype, package->delta[t], target->rows * target->columns);
        entries_add(list, "delta", t + 1, dtype, target->rows, target->columns, delta);
    }
}

static int save_package(didi_merge *self, size_t index, const layer *target, solve_package *package,
                        didi_error *error)
{
    const layer_summary *summary = &self->summaries[index];
    entries list;
    int status = entries_create(&list, 4 * target->tasks + 12, error);
    if (status != DIDI_OK)
        return status;
    entries_add(&list, "energy", 0, DIDI_DTYPE_F64, 1, summary->tasks, summary->energy);
    entries_add(&list, "error", 0, DIDI_DTYPE_F64, 1, summary->tasks, summary->error);
    entries_add(&list, "unshared", 0, DIDI_DTYPE_F64, 1, summary->tasks, summary->unshared);
    entries_add(&list, "loss", 0, DIDI_DTYPE_F64, 1, 1, &summary->loss);
    add_package(&list, target, package, self->options.precision);
    status = save_entries(self, PHASE_REFINE, index, &list, error);
    entries_free(&list);
    return status;
}

/* What pursuit left at the ranks allocated since, as far as its rows go. */
static double expected_loss(const didi_merge *self, size_t index)
{
    const layer_summary *summary = &self->summaries[index];
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

static double stop_tolerance(const didi_merge *self)
{
    double whole = merge_matrix_parameters(self) * (double)self->options.task_count;
    bool roomy = (double)self->factor_parameters <= ROOMY_SHARE * whole;
    return self->options.tolerance * (roomy ? ROOMY_TOLERANCES : 1);
}

/* Sweeps let the shared part and the experts grow against each other. Rounding to few bits is a
 * share of what is stored, so it takes back more than later sweeps gain (docs/method.md, 13). */
enum { AUTO_SWEEPS = 1, INT3_SWEEPS = 2 };

static size_t most_sweeps(const didi_merge *self)
{
    size_t steps = self->options.refine_steps;
    size_t most = steps;
    if (self->options.optimizer != DIDI_OPTIMIZER_ALS)
        return steps;
    if (self->options.precision == DIDI_PRECISION_AUTO)
        most = AUTO_SWEEPS;
    else if (self->options.precision == DIDI_PRECISION_INT3)
        most = INT3_SWEEPS;
    return steps < most ? steps : most;
}

/* Scores are products of a query and a key: lengthening both would count twice. */
static bool restores_length(const didi_merge *self, size_t index)
{
    return self->options.weighting == DIDI_WEIGHTING_ACCURACY &&
           solve_role(self->layers[index]->name) == 1;
}

/* A budget that grew no further finds most directions in an earlier merge's blocks: refinement ends
 * early. */
#define NEAR_GROWTH 1.3
#define NEAR_TOLERANCE 5e-3
enum { NEAR_STEPS = 3 };

/* When refinement of a layer ends that starts from an earlier merge's blocks. */
static void end_warm(const didi_merge *self, refine_options *options)
{
    double growth = self->reuse.growth;
    if (options->optimizer != DIDI_OPTIMIZER_ALS)
        return;
    double wanted = growth > 1 ? self->options.tolerance : options->tolerance;
    options->tolerance = growth > NEAR_GROWTH ? wanted : fmax(wanted, NEAR_TOLERANCE);
    if (growth <= NEAR_GROWTH && options->steps > NEAR_STEPS)
        options->steps = NEAR_STEPS;
}

int merge_refine_layer(didi_merge *self, size_t index, didi_error *error)
{
    layer_summary *summary = &self->summaries[index];
    solve_package package = {0};
    layer *target = NULL;
    int status = merge_load_layer(self, PHASE_REFINE, index, &target, error);
    if (status != DIDI_OK)
        return status;
    refine_options options = {.optimizer = self->options.optimizer,
                              .steps = most_sweeps(self),
                              .learning_rate = self->options.refine_learning_rate,
                              .tolerance = stop_tolerance(self)};
    if (is_warm(self, index)) {
        options.before = expected_loss(self, index);
        end_warm(self, &options);
    }
    status = merge_pursues(self) ? recall_pursued(self, index, target, error)
                                 : solve_start_from_mean(target, self->shared, summary, error);
    if (status == DIDI_OK)
        status = solve_refine(target, &options, summary, error);
    if (status == DIDI_OK && restores_length(self, index))
        solve_restore(target, summary);
    if (status == DIDI_OK)
        status = solve_finish(target, self->options.precision, summary, &package, error);
    if (status == DIDI_OK)
        status = merge_verify_streamed(self, target, error);
    if (status == DIDI_OK)
        status = save_package(self, index, target, &package, error);
    merge_sample_memory(self);
    solve_package_clear(&package);
    layer_free(target);
    return status;
}

/* ---- picking up again ---- */

static int recall_doubles(const snapshot *from, const char *name, double *values, size_t count,
                          didi_error *error)
{
    const void *data = NULL;
    uint64_t rows = 0;
    int status = snapshot_find(from, name, DIDI_DTYPE_F64, count, &rows, &data, error);
    if (status == DIDI_OK && rows != 1)
        status = didi_fail(error, DIDI_FORMAT, name, "layer state has %llu rows",
                           (unsigned long long)rows);
    if (status == DIDI_OK)
        memcpy(values, data, count * sizeof *values);
    return status;
}

static int recall_summary(const snapshot *from, layer_summary *summary, didi_error *error)
{
    int status = recall_doubles(from, "tail.0", summary->tail, summary->tasks + 1, error);
    for (size_t j = 0; j <= summary->tasks && status == DIDI_OK; j++) {
        char name[32];
        uint64_t rows = 0;
        const void *data = NULL;
        (void)snprintf(name, sizeof name, "sigma.%zu", j);
        status = snapshot_find(from, name, DIDI_DTYPE_F64, 1, &rows, &data, error);
        if (status == DIDI_OK)
            status = summary_set_sigma(summary, j, data, rows, summary->tail[j], error);
    }
    return status;
}

static int recall_pursuit(const snapshot *from, pursued *out, didi_error *error)
{
    double numbers[PURSUED_NUMBERS];
    int status = recall_doubles(from, "pursued.0", numbers, PURSUED_NUMBERS, error);
    if (status == DIDI_OK)
        *out = (pursued){numbers[0], numbers[1], numbers[2], numbers[3]};
    return status;
}

static int recall_from(didi_merge *self, int fd, const char *name, merge_phase phase, size_t index,
                       didi_error *error)
{
    layer_summary *summary = &self->summaries[index];
    snapshot *from = NULL;
    int status = snapshot_open(fd, name, &from, error);
    if (status != DIDI_OK)
        return status;
    status = recall_doubles(from, "energy.0", summary->energy, summary->tasks, error);
    if (status == DIDI_OK && phase != PHASE_REFINE)
        status = recall_summary(from, summary, error);
    if (status == DIDI_OK && phase == PHASE_PURSUE)
        status = recall_pursuit(from, &self->pursued[index], error);
    if (status == DIDI_OK && phase == PHASE_REFINE)
        status = recall_doubles(from, "error.0", summary->error, summary->tasks, error);
    if (status == DIDI_OK && phase == PHASE_REFINE)
        status = recall_doubles(from, "unshared.0", summary->unshared, summary->tasks, error);
    if (status == DIDI_OK && phase == PHASE_REFINE)
        status = recall_doubles(from, "loss.0", &summary->loss, 1, error);
    if (status == DIDI_OK)
        merge_set_weights(self, index);
    snapshot_close(from);
    return status;
}

int merge_recall_layer(didi_merge *self, merge_phase phase, size_t index, didi_error *error)
{
    char name[64];
    merge_state_name(self, phase, index, name);
    return recall_from(self, self->options.work_fd, name, phase, index, error);
}

int merge_recall_pursued(didi_merge *self, size_t index, didi_error *error)
{
    char name[64];
    size_t old = 0;
    if (!merge_reuse_find(self, PHASE_PURSUE, index, &old))
        return didi_fail(error, DIDI_NOT_FOUND, NULL, "nothing was pursued earlier");
    merge_state_name(self, PHASE_PURSUE, old, name);
    return recall_from(self, self->options.reuse_fd, name, PHASE_PURSUE, index, error);
}
