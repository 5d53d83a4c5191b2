/* SPDX-License-Identifier: Apache-2.0 */
/* Ranks and widths under a budget of bytes, or for an error asked for. */
#include "src/methods/didi/sizes.h"

#include "src/base/base.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static unsigned width_index(unsigned bits)
{
    unsigned at = 0;
    while (at + 1 < PRECISION_WIDTHS && precision_width_bits[at] != bits)
        at++;
    return at;
}

void merge_set_fixed_widths(didi_merge *self)
{
    size_t tasks = self->options.task_count;
    unsigned bits = precision_bits(precision_of_matrices(self->options.precision));
    unsigned dense = precision_bits(precision_of_dense(self->options.precision));
    for (size_t l = 0; l < self->layer_count; l++)
        for (size_t j = 0; j <= tasks; j++) {
            layer_summary *to = &self->summaries[l];
            memset(to->components[j], 0, sizeof to->components[j]);
            to->components[j][width_index(bits)] = to->rank[j];
            to->dense_bits[j] = to->dense[j] ? bits : 0;
        }
    for (size_t i = 0; i < self->dense_count; i++)
        for (size_t j = 0; j <= tasks; j++)
            self->dense_summaries[i].bits[j] = dense;
}

/* ---- from blocks to summaries ---- */

static void adopt_layer(didi_merge *self, size_t l, const precision_block *blocks)
{
    layer_summary *to = &self->summaries[l];
    const family_tensor *tensor = self->layers[l];
    for (size_t j = 0; j <= to->tasks; j++) {
        const precision_block *from = &blocks[j];
        memcpy(to->components[j], from->components, sizeof from->components);
        to->rank[j] = precision_block_rank(from);
        to->dense[j] = from->dense_bits > 0;
        to->dense_bits[j] = from->dense_bits;
        self->factor_parameters +=
            to->dense[j] ? tensor->elements : to->rank[j] * (tensor->rows + tensor->columns);
    }
}

static void adopt_dense(didi_merge *self, size_t index, const precision_block *blocks)
{
    dense_summary *to = &self->dense_summaries[index];
    for (size_t file = 0; file <= self->options.task_count; file++)
        to->bits[file] = blocks[file].dense_bits;
    if (self->options.dense == DIDI_DENSE_AUTO && blocks[0].rivals > 0)
        to->form = blocks[0].dense_bits > 0 ? DIDI_DENSE_MEAN : DIDI_DENSE_PER_TASK;
}

static void adopt_choice(didi_merge *self, const precision_block *blocks)
{
    size_t tasks = self->options.task_count;
    size_t matrices = self->layer_count * (tasks + 1);
    size_t all = matrices + self->dense_count * (tasks + 1);
    self->factor_parameters = 0;
    self->chosen_dense = merge_file_headers(self);
    for (size_t i = matrices; i < all; i++)
        self->chosen_dense = memory_add(self->chosen_dense, blocks[i].bytes);
    self->chosen_bytes = self->chosen_dense;
    for (size_t i = 0; i < matrices; i++)
        self->chosen_bytes = memory_add(self->chosen_bytes, blocks[i].bytes);
    for (size_t l = 0; l < self->layer_count; l++)
        adopt_layer(self, l, blocks + l * (tasks + 1));
    const precision_block *dense = blocks + matrices;
    for (size_t i = 0; i < self->dense_count; i++)
        adopt_dense(self, i, dense + i * (tasks + 1));
    merge_count_dense(self);
}

/* ---- the error asked for ---- */

static double error_wanted(const didi_merge *self)
{
    double scale = self->pass > 0 ? self->passes[self->pass].scale : 1;
    return self->options.budget * scale * merge_plain_energy(self);
}

static uint64_t bytes_for_tensors(const didi_merge *self)
{
    uint64_t budget = merge_byte_budget(self);
    uint64_t headers = merge_file_headers(self);
    return budget > headers ? budget - headers : 0;
}

typedef struct listed {
    precision_block *blocks;
    size_t count;
    precision_table *table;
} listed;

static void listed_free(listed *self)
{
    precision_table_free(self->table);
    free(self->blocks);
}

static int list_everything(const didi_merge *self, didi_precision precision, listed *out,
                           didi_error *error)
{
    *out = (listed){0};
    int status = merge_list_precision_blocks(self, precision, &out->blocks, &out->count, error);
    if (status == DIDI_OK)
        status = precision_table_create(out->blocks, out->count, &out->table, error);
    if (status != DIDI_OK)
        listed_free(out);
    return status;
}

/* Lists everything and makes the choice that the budget asks for. */
static int list_and_choose(const didi_merge *self, listed *out, precision_choice *ret_choice,
                           didi_error *error)
{
    int status = list_everything(self, self->options.precision, out, error);
    if (status != DIDI_OK)
        return status;
    if (self->options.budget_unit == DIDI_BUDGET_MAX_ERROR)
        precision_within_error(out->table, error_wanted(self), ret_choice);
    else
        precision_within_bytes(out->table, bytes_for_tensors(self), ret_choice);
    return DIDI_OK;
}

/* A price of loss per byte as a threshold of loss per parameter. */
static double threshold_at(const didi_merge *self, double price)
{
    return price * precision_entry_bytes(precision_of_matrices(self->options.precision));
}

/* ---- schedules ---- */

static void schedule_pursuit(didi_merge *self, listed *from, const precision_choice *last)
{
    uint64_t dense = self->chosen_dense - merge_file_headers(self);
    uint64_t rest = last->bytes > dense ? last->bytes - dense : 0;
    for (size_t round = 1; round <= PURSUIT_ROUNDS; round++) {
        precision_choice step = *last;
        uint64_t share = (uint64_t)((double)rest * (double)round / PURSUIT_ROUNDS);
        if (round < PURSUIT_ROUNDS)
            precision_within_bytes(from->table, dense + share, &step);
        self->thresholds[round - 1] = threshold_at(self, step.price);
    }
    self->rounds = PURSUIT_ROUNDS + PURSUIT_POLISH;
    for (size_t i = PURSUIT_ROUNDS; i < self->rounds; i++)
        self->thresholds[i] = self->thresholds[PURSUIT_ROUNDS - 1];
}

int merge_schedule_bytes(didi_merge *self, didi_error *error)
{
    listed from;
    precision_choice choice = {0};
    int status = list_and_choose(self, &from, &choice, error);
    if (status != DIDI_OK)
        return status;
    adopt_choice(self, from.blocks);
    if (self->options.allocator == DIDI_ALLOCATOR_PURSUIT) {
        schedule_pursuit(self, &from, &choice);
    } else {
        self->rounds = self->options.allocator == DIDI_ALLOCATOR_JOINT ? JOINT_ROUNDS : 0;
        for (size_t i = 0; i < self->rounds; i++)
            self->thresholds[i] = threshold_at(self, choice.price);
    }
    listed_free(&from);
    return DIDI_OK;
}

int merge_bytes_threshold(didi_merge *self, double *ret_threshold, uint64_t *ret_parameters,
                          didi_error *error)
{
    listed from;
    precision_choice choice = {0};
    int status = list_and_choose(self, &from, &choice, error);
    if (status != DIDI_OK)
        return status;
    adopt_choice(self, from.blocks);
    listed_free(&from);
    *ret_threshold = threshold_at(self, choice.price);
    *ret_parameters = self->factor_parameters;
    return DIDI_OK;
}

int merge_bytes_errors(didi_merge *self, double *errors, didi_error *error)
{
    size_t tasks = self->options.task_count;
    listed from;
    precision_choice choice = {0};
    int status = list_and_choose(self, &from, &choice, error);
    if (status != DIDI_OK)
        return status;
    for (size_t t = 0; t < tasks; t++) {
        double energy = merge_task_energy(self, t);
        double lost = 0;
        for (size_t l = 0; l < self->layer_count; l++)
            lost += precision_lost(from.table, l * (tasks + 1) + t + 1);
        errors[t] = energy > 0 ? lost / energy : 0;
    }
    listed_free(&from);
    return DIDI_OK;
}

/* ---- final ranks and widths ---- */

static int fail_budget(const didi_merge *self, uint64_t needed, didi_error *error)
{
    return didi_fail(error, DIDI_BUDGET, "/budget",
                     "the budget is %llu bytes; the tensors kept whole and one component need %llu",
                     (unsigned long long)merge_byte_budget(self), (unsigned long long)needed);
}

enum { FILL_TRIES = 6 };

/* Exact bytes of the package when its tensors may take `bytes`; the choice is adopted. */
static int try_bytes(didi_merge *self, listed *from, uint64_t bytes, uint64_t *ret_exact,
                     didi_error *error)
{
    precision_choice choice = {0};
    precision_within_bytes(from->table, bytes, &choice);
    adopt_choice(self, from->blocks);
    return merge_package_bytes(self, ret_exact, error);
}

/* Headers are estimated from above; what the real ones leave of the choice in force is spent in
 * further tries. */
static int fill_bytes(didi_merge *self, listed *from, didi_error *error)
{
    uint64_t budget = merge_byte_budget(self);
    uint64_t bytes = bytes_for_tensors(self);
    uint64_t exact = 0;
    int status = merge_package_bytes(self, &exact, error);
    if (status == DIDI_OK && exact > budget)
        status = fail_budget(self, exact, error);
    uint64_t more = budget - exact;
    for (int i = 0; i < FILL_TRIES && status == DIDI_OK && more > 0; i++) {
        status = try_bytes(self, from, memory_add(bytes, more), &exact, error);
        bool fits = exact <= budget;
        bytes = fits ? memory_add(bytes, more) : bytes;
        more = fits ? budget - exact : more / 2;
    }
    if (status == DIDI_OK)
        status = try_bytes(self, from, bytes, &self->chosen_bytes, error);
    return status;
}

int merge_final_bytes(didi_merge *self, didi_error *error)
{
    listed from;
    precision_choice choice = {0};
    int status = list_and_choose(self, &from, &choice, error);
    if (status != DIDI_OK)
        return status;
    adopt_choice(self, from.blocks);
    if (self->options.budget_unit == DIDI_BUDGET_MAX_ERROR)
        status = merge_package_bytes(self, &self->chosen_bytes, error);
    else
        status = fill_bytes(self, &from, error);
    listed_free(&from);
    return status;
}

/* ---- passes ---- */

enum { ACCURATE_PERCENT = 97 };

/* The smallest package so far that is within the error; pass_count when there is none. */
static size_t best_pass(const didi_merge *self)
{
    size_t best = self->pass_count;
    for (size_t i = 0; i < self->pass_count; i++)
        if (self->passes[i].error <= self->options.budget &&
            (best == self->pass_count || self->passes[i].bytes < self->passes[best].bytes))
            best = i;
    return best;
}

static int fail_error(const didi_merge *self, didi_error *error)
{
    double lowest = INFINITY;
    for (size_t i = 0; i < self->pass_count; i++)
        lowest = self->passes[i].error < lowest ? self->passes[i].error : lowest;
    return didi_fail(error, DIDI_BUDGET, "/budget/max_error",
                     "max_error %.4g is out of reach with output dtype %s: %.4g was reached",
                     self->options.budget, didi_precision_name(self->options.precision),
                     precision_round_up(lowest));
}

/* By the ratio of the last pass. Between scales known to be too small and too large it moves by a
 * quarter of what is left at least: where the error goes in leaps, ratios stand still or go to and
 * fro. */
static double next_scale(const didi_merge *self, const merge_pass *last)
{
    double wanted = self->options.budget;
    double low = 0;
    double high = INFINITY;
    for (size_t i = 0; i < self->pass_count; i++) {
        const merge_pass *pass = &self->passes[i];
        if (pass->error <= wanted)
            low = pass->scale > low ? pass->scale : low;
        else
            high = pass->scale < high ? pass->scale : high;
    }
    double next = last->scale * 0.99 * wanted / last->error;
    if (low == 0 || isinf(high) || low >= high)
        return next;
    double quarter = sqrt(sqrt(high / low));
    return fmin(fmax(next, low * quarter), high / quarter);
}

int merge_judge_pass(didi_merge *self, bool *ret_again, didi_error *error)
{
    *ret_again = false;
    if (self->options.budget_unit != DIDI_BUDGET_MAX_ERROR || self->pass < self->pass_count)
        return DIDI_OK; /* nothing to judge, or the best pass is in force again */
    double wanted = self->options.budget;
    double sum = 0;
    merge_pass *last = &self->passes[self->pass];
    for (size_t l = 0; l < self->layer_count; l++)
        for (size_t t = 0; t < self->options.task_count; t++)
            sum += self->summaries[l].error[t];
    double energy = merge_plain_energy(self);
    last->error = energy > 0 ? sum / energy : 0;
    last->scale = self->pass > 0 ? last->scale : 1;
    int status = merge_package_bytes(self, &last->bytes, error);
    self->pass_count++;
    bool near = last->error <= wanted && last->error * 100 >= wanted * ACCURATE_PERCENT;
    if (status != DIDI_OK || near || energy == 0)
        return status;
    if (self->pass_count < MERGE_PASSES_MAX) {
        self->passes[self->pass_count].scale = next_scale(self, last);
        self->pass = self->pass_count;
        *ret_again = true;
        return DIDI_OK;
    }
    size_t best = best_pass(self);
    if (best == self->pass_count)
        return fail_error(self, error);
    *ret_again = best != self->pass;
    self->pass = best;
    return DIDI_OK;
}

/* ---- curves ---- */

static int make_curve(didi_merge *self, didi_precision precision, didi_error *error)
{
    listed from;
    precision_curve *out = &self->curves[precision];
    double energy = merge_total_energy(self);
    double twice = merge_counted_twice(self);
    int status = list_everything(self, precision, &from, error);
    if (status != DIDI_OK)
        return status;
    uint64_t model = memory_multiply(self->plan.parameters, 2);
    double first = precision_price_near(from.table, model / 20);
    precision_choice all = {0};
    precision_at_price(from.table, 0, &all);
    uint64_t most = memory_multiply(model, 3) < all.bytes ? model * 3 : all.bytes - all.bytes / 50;
    double last = precision_price_near(from.table, most);
    double ratio = first > last ? last / first : 1;
    out->count = 0;
    for (size_t i = 0; i < CURVE_POINTS && energy > 0; i++) {
        precision_choice at = {0};
        double price = first * pow(ratio, (double)i / (CURVE_POINTS - 1));
        precision_at_price(from.table, price, &at);
        uint64_t bytes = memory_add(at.bytes, merge_file_headers(self));
        double share = (precision_matrix_loss(from.table) - twice) / energy;
        if (out->count > 0 && bytes <= out->points[out->count - 1].bytes)
            continue;
        out->points[out->count].bytes = bytes;
        out->points[out->count].error = fmax(fmin(share, 1), 0);
        out->count++;
    }
    listed_free(&from);
    return DIDI_OK;
}

int merge_curves(didi_merge *self, didi_error *error)
{
    static const didi_precision all[] = {DIDI_PRECISION_BF16, DIDI_PRECISION_INT8,
                                         DIDI_PRECISION_INT4, DIDI_PRECISION_INT3,
                                         DIDI_PRECISION_AUTO};
    int status = DIDI_OK;
    for (size_t i = 0; i < sizeof all / sizeof *all && status == DIDI_OK; i++)
        status = make_curve(self, all[i], error);
    return status;
}
