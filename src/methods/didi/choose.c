/* SPDX-License-Identifier: Apache-2.0 */
/* Ranks and widths under a budget of bytes, or for an error asked for. */
#include "src/methods/didi/didi_method.h"

#include "src/base/base.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void didi_set_fixed_widths(didi *self)
{
    size_t tasks = self->work->options.task_count;
    unsigned bits = precision_bits(precision_of_matrices(self->work->options.precision));
    unsigned dense = precision_bits(precision_of_dense(self->work->options.precision));
    for (size_t l = 0; l < self->work->layer_count; l++)
        for (size_t j = 0; j <= tasks; j++) {
            layer_summary *to = &self->work->summaries[l];
            memset(to->components[j], 0, sizeof to->components[j]);
            to->components[j][precision_width_index(bits)] = to->rank[j];
            to->dense_bits[j] = to->dense[j] ? bits : 0;
        }
    for (size_t i = 0; i < self->work->dense_count; i++)
        for (size_t j = 0; j <= tasks; j++)
            self->work->dense_summaries[i].bits[j] = dense;
}

/* ---- from blocks to summaries ---- */

static void adopt_layer(didi *self, size_t l, const precision_block *blocks)
{
    layer_summary *to = &self->work->summaries[l];
    const family_tensor *tensor = self->work->layers[l];
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

static void adopt_dense(didi *self, size_t index, const precision_block *blocks)
{
    dense_summary *to = &self->work->dense_summaries[index];
    for (size_t file = 0; file <= self->work->options.task_count; file++)
        to->bits[file] = blocks[file].dense_bits;
    if (self->work->options.dense == DIDI_DENSE_AUTO && blocks[0].rivals > 0)
        to->form = blocks[0].dense_bits > 0 ? DIDI_DENSE_MEAN : DIDI_DENSE_PER_TASK;
}

static void adopt_choice(didi *self, const precision_block *blocks)
{
    size_t tasks = self->work->options.task_count;
    size_t matrices = self->work->layer_count * (tasks + 1);
    size_t all = matrices + self->work->dense_count * (tasks + 1);
    self->factor_parameters = 0;
    self->chosen_dense = didi_fixed_bytes(self);
    for (size_t i = matrices; i < all; i++)
        self->chosen_dense = memory_add(self->chosen_dense, blocks[i].bytes);
    self->chosen_bytes = self->chosen_dense;
    for (size_t i = 0; i < matrices; i++)
        self->chosen_bytes = memory_add(self->chosen_bytes, blocks[i].bytes);
    for (size_t l = 0; l < self->work->layer_count; l++)
        adopt_layer(self, l, blocks + l * (tasks + 1));
    const precision_block *dense = blocks + matrices;
    for (size_t i = 0; i < self->work->dense_count; i++)
        adopt_dense(self, i, dense + i * (tasks + 1));
    self->dense_stored = work_dense_parameters(self->work);
}

/* ---- the error asked for ---- */

static double error_wanted(const didi *self)
{
    double scale = self->pass > 0 ? self->passes[self->pass].scale : 1;
    return self->work->options.budget * scale * work_energy(self->work);
}

static uint64_t bytes_for_tensors(const didi *self)
{
    uint64_t budget = didi_byte_budget(self);
    uint64_t headers = didi_fixed_bytes(self);
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

static int list_everything(const didi *self, didi_precision precision, listed *out,
                           didi_error *error)
{
    *out = (listed){0};
    int status = didi_list_precision_blocks(self, precision, &out->blocks, &out->count, error);
    if (status == DIDI_OK)
        status = precision_table_create(out->blocks, out->count, &out->table, error);
    if (status != DIDI_OK)
        listed_free(out);
    return status;
}

/* Lists everything and makes the choice that the budget asks for. */
static int list_and_choose(const didi *self, listed *out, precision_choice *ret_choice,
                           didi_error *error)
{
    int status = list_everything(self, self->work->options.precision, out, error);
    if (status != DIDI_OK)
        return status;
    if (self->work->options.budget_unit == DIDI_BUDGET_MAX_ERROR)
        precision_within_error(out->table, error_wanted(self), ret_choice);
    else
        precision_within_bytes(out->table, bytes_for_tensors(self), ret_choice);
    return DIDI_OK;
}

/* A price of loss per byte as a threshold of loss per parameter. */
static double threshold_at(const didi *self, double price)
{
    return price * precision_entry_bytes(precision_of_factors(self->work->options.precision));
}

/* ---- schedules ---- */

static void schedule_pursuit(didi *self, listed *from, const precision_choice *last)
{
    uint64_t dense = self->chosen_dense - didi_fixed_bytes(self);
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

int didi_schedule_bytes(didi *self, didi_error *error)
{
    listed from;
    precision_choice choice = {0};
    int status = list_and_choose(self, &from, &choice, error);
    if (status != DIDI_OK)
        return status;
    adopt_choice(self, from.blocks);
    if (self->work->options.allocator == DIDI_ALLOCATOR_PURSUIT) {
        schedule_pursuit(self, &from, &choice);
    } else {
        self->rounds = self->work->options.allocator == DIDI_ALLOCATOR_JOINT ? JOINT_ROUNDS : 0;
        for (size_t i = 0; i < self->rounds; i++)
            self->thresholds[i] = threshold_at(self, choice.price);
    }
    listed_free(&from);
    return DIDI_OK;
}

int didi_bytes_threshold(didi *self, double *ret_threshold, uint64_t *ret_parameters,
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

int didi_bytes_errors(didi *self, double *errors, didi_error *error)
{
    size_t tasks = self->work->options.task_count;
    listed from;
    precision_choice choice = {0};
    int status = list_and_choose(self, &from, &choice, error);
    if (status != DIDI_OK)
        return status;
    for (size_t t = 0; t < tasks; t++) {
        double energy = work_task_energy(self->work, t);
        double lost = 0;
        for (size_t l = 0; l < self->work->layer_count; l++)
            lost += precision_lost(from.table, l * (tasks + 1) + t + 1);
        errors[t] = energy > 0 ? lost / energy : 0;
    }
    listed_free(&from);
    return DIDI_OK;
}

/* ---- final ranks and widths ---- */

static int fail_budget(const didi *self, uint64_t needed, didi_error *error)
{
    return didi_fail(error, DIDI_BUDGET, "/budget",
                     "the budget is %llu bytes; the tensors kept whole and one component need %llu",
                     (unsigned long long)didi_byte_budget(self), (unsigned long long)needed);
}

enum { FILL_TRIES = 6, FILL_STEP = 32 };

/* Exact bytes of the package when its tensors may take `bytes`; the choice is adopted. */
static int try_bytes(didi *self, listed *from, uint64_t bytes, uint64_t *ret_exact,
                     didi_error *error)
{
    precision_choice choice = {0};
    precision_within_bytes(from->table, bytes, &choice);
    adopt_choice(self, from->blocks);
    return work_package_bytes(self->work, ret_exact, error);
}

/* Headers are estimated; what the real ones leave of the choice in force is spent in further tries,
 * after some that take back what they exceed. */
static int fill_bytes(didi *self, listed *from, didi_error *error)
{
    uint64_t budget = didi_byte_budget(self);
    uint64_t bytes = bytes_for_tensors(self);
    uint64_t exact = 0;
    int status = work_package_bytes(self->work, &exact, error);
    for (int i = 0; i < FILL_TRIES && status == DIDI_OK && exact > budget; i++) {
        bytes -= smaller(exact - budget + ((uint64_t)FILL_STEP << i), bytes);
        status = try_bytes(self, from, bytes, &exact, error);
    }
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

int didi_final_bytes(didi *self, didi_error *error)
{
    listed from;
    precision_choice choice = {0};
    int status = list_and_choose(self, &from, &choice, error);
    if (status != DIDI_OK)
        return status;
    adopt_choice(self, from.blocks);
    if (self->work->options.budget_unit == DIDI_BUDGET_MAX_ERROR)
        status = work_package_bytes(self->work, &self->chosen_bytes, error);
    else
        status = fill_bytes(self, &from, error);
    listed_free(&from);
    return status;
}

/* ---- passes ---- */

enum { ACCURATE_PERCENT = 97 };

/* The smallest package so far that is within the error; pass_count when there is none. */
static size_t best_pass(const didi *self)
{
    size_t best = self->pass_count;
    for (size_t i = 0; i < self->pass_count; i++)
        if (self->passes[i].error <= self->work->options.budget &&
            (best == self->pass_count || self->passes[i].bytes < self->passes[best].bytes))
            best = i;
    return best;
}

static int fail_error(const didi *self, didi_error *error)
{
    double lowest = INFINITY;
    for (size_t i = 0; i < self->pass_count; i++)
        lowest = self->passes[i].error < lowest ? self->passes[i].error : lowest;
    return didi_fail(error, DIDI_BUDGET, "/budget/max_error",
                     "max_error %.4g is out of reach with output dtype %s: %.4g was reached",
                     self->work->options.budget, didi_precision_name(self->work->options.precision),
                     precision_round_up(lowest));
}

/* By the ratio of the last pass. Between scales known to be too small and too large it moves by a
 * quarter of what is left at least: where the error goes in leaps, ratios stand still or go to and
 * fro. */
static double next_scale(const didi *self, const didi_pass *last)
{
    double wanted = self->work->options.budget;
    double low = 0;
    double high = INFINITY;
    for (size_t i = 0; i < self->pass_count; i++) {
        const didi_pass *pass = &self->passes[i];
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

static int judge_pass(didi *self, bool *ret_again, didi_error *error)
{
    *ret_again = false;
    if (self->work->options.budget_unit != DIDI_BUDGET_MAX_ERROR || self->pass < self->pass_count)
        return DIDI_OK; /* nothing to judge, or the best pass is in force again */
    double wanted = self->work->options.budget;
    double sum = 0;
    didi_pass *last = &self->passes[self->pass];
    for (size_t l = 0; l < self->work->layer_count; l++)
        for (size_t t = 0; t < self->work->options.task_count; t++)
            sum += self->work->summaries[l].error[t];
    double energy = work_energy(self->work);
    last->error = energy > 0 ? sum / energy : 0;
    last->scale = self->pass > 0 ? last->scale : 1;
    int status = work_package_bytes(self->work, &last->bytes, error);
    self->pass_count++;
    bool near = last->error <= wanted && last->error * 100 >= wanted * ACCURATE_PERCENT;
    if (status != DIDI_OK || near || energy == 0)
        return status;
    if (self->pass_count < DIDI_PASSES_MAX) {
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

/* The snapshots of a pass keep its number, so that an earlier one can be in force again. */
int didi_again(void *method, bool *ret_again, size_t *ret_stage, didi_error *error)
{
    didi *self = method;
    int status = judge_pass(self, ret_again, error);
    *ret_stage = DIDI_ROW_RANKS;
    if (status == DIDI_OK && *ret_again && self->pass == 0)
        (void)snprintf(self->work->stored, sizeof self->work->stored, "refine");
    else if (status == DIDI_OK && *ret_again)
        (void)snprintf(self->work->stored, sizeof self->work->stored, "refine%zu", self->pass);
    return status;
}

/* ---- curves ---- */

static int make_curve(didi *self, didi_precision precision, didi_error *error)
{
    listed from;
    precision_curve *out = &self->curves[precision];
    double energy = work_weighted_energy(self->work);
    double twice = didi_counted_twice(self);
    int status = list_everything(self, precision, &from, error);
    if (status != DIDI_OK)
        return status;
    uint64_t model = memory_multiply(self->work->plan.parameters, 2);
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
        uint64_t bytes = memory_add(at.bytes, didi_fixed_bytes(self));
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

int didi_curves(didi *self, didi_error *error)
{
    static const didi_precision all[] = {DIDI_PRECISION_BF16, DIDI_PRECISION_INT8,
                                         DIDI_PRECISION_INT4, DIDI_PRECISION_INT3,
                                         DIDI_PRECISION_AUTO};
    int status = DIDI_OK;
    for (size_t i = 0; i < sizeof all / sizeof *all && status == DIDI_OK; i++)
        status = make_curve(self, all[i], error);
    didi_precision own = self->work->options.precision;
    if (status == DIDI_OK && self->curves[own].count == 0)
        status = make_curve(self, own, error);
    return status;
}
