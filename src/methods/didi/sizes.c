/* SPDX-License-Identifier: Apache-2.0 */
/* What a package takes in bytes, and the list of everything that competes for them. */
#include "src/methods/didi/didi_method.h"

#include "src/base/base.h"
#include "src/package/package.h"

#include <math.h>
#include <stdlib.h>

/* Tensors kept whole are few and act on everything: their relative error weighs this many times
 * that of a matrix (docs/method.md, "Bytes"). */
#define DENSE_TENSOR_WEIGHT 4.0

static uint64_t whole(double value)
{
    return value < 9e18 ? (uint64_t)value : UINT64_MAX;
}

uint64_t didi_byte_budget(const didi *self)
{
    const didi_merge_options *o = &self->work->options;
    switch (o->budget_unit) {
    case DIDI_BUDGET_BYTES:
        return whole(o->budget);
    case DIDI_BUDGET_BYTES_RATIO:
        return whole(o->budget * (double)work_base_bytes(self->work));
    case DIDI_BUDGET_PARAMETERS:
        return o->precision == DIDI_PRECISION_AUTO
                   ? whole(2 * o->budget * (double)self->work->plan.parameters)
                   : UINT64_MAX;
    default:
        return UINT64_MAX;
    }
}

/* ---- headers ---- */

static size_t digits(uint64_t value)
{
    size_t count = 1;
    for (; value >= 10; value /= 10)
        count++;
    return count;
}

static size_t name_bytes(const char *name)
{
    size_t bytes = 0;
    for (; *name != '\0'; name++)
        bytes += (unsigned char)*name < ' ' || *name == '"' || *name == '\\' ? 6 : 1;
    return bytes;
}

uint64_t didi_fixed_bytes(const didi *self)
{
    enum {
        FILE_BYTES = 8 + 2 + 64 + 8, /* length, braces, metadata, padding */
        GATHERED_BYTES = 128,        /* what names the gathered tensors, and counts them */
    };
    bool gathers = self->work->options.precision == DIDI_PRECISION_AUTO;
    uint64_t each = gathers ? FILE_BYTES + GATHERED_BYTES : FILE_BYTES;
    return memory_add(each * (self->work->options.task_count + 1), work_own_bytes(self->work));
}

uint64_t didi_entry_bytes(const didi *self, const family_tensor *tensor, bool factors)
{
    enum { ENTRY_BYTES = 14 + 50 }; /* suffix; quotes, keys, brackets */
    enum {
        SEGMENTS = 3,
        PACKED_BYTES = PACKED_FACTORS_HEADER_BYTES + SEGMENTS * PACKED_SEGMENT_BYTES
    };
    if (stored_is_gathered(tensor->rows, tensor->columns, self->work->options.precision))
        return GATHERED_ENTRY_BYTES + (factors ? PACKED_BYTES : 0);
    uint64_t largest =
        memory_multiply(memory_add(self->work->family->parameters, tensor->elements), 8);
    uint64_t entry = ENTRY_BYTES + name_bytes(tensor->name) + 2 * digits(largest);
    bool plain = precision_is_plain(self->work->options.precision, NULL);
    if (!plain)
        return entry + digits(largest);
    size_t dimensions = tensor->base->tensor->dimensions;
    return factors ? 2 * (entry + 2 * digits(tensor->elements) + 1)
                   : entry + dimensions * (digits(tensor->elements) + 1);
}

/* ---- what headers alone tell ---- */

static uint64_t dense_minimum(const didi *self)
{
    bool automatic = self->work->options.precision == DIDI_PRECISION_AUTO;
    unsigned bits =
        automatic ? 2 : precision_bits(precision_of_dense(self->work->options.precision));
    uint64_t bytes = 0;
    for (size_t i = 0; i < self->work->dense_count; i++) {
        const family_tensor *tensor = self->work->dense[i];
        uint64_t each = memory_add(precision_dense_bytes(tensor->rows, tensor->columns, bits),
                                   didi_entry_bytes(self, tensor, false));
        bytes = memory_add(bytes, memory_multiply(each, work_dense_copies(self->work, tensor)));
    }
    return memory_add(bytes, didi_fixed_bytes(self));
}

uint64_t didi_bytes_minimum(const didi *self)
{
    unsigned bits = precision_bits(precision_of_factors(self->work->options.precision));
    uint64_t smallest = self->work->layer_count > 0 ? UINT64_MAX : 0;
    for (size_t i = 0; i < self->work->layer_count; i++) {
        const family_tensor *tensor = self->work->layers[i];
        uint64_t bytes = precision_component_bytes(tensor->rows, tensor->columns, bits);
        bytes = memory_add(bytes, didi_entry_bytes(self, tensor, true));
        smallest = bytes < smallest ? bytes : smallest;
    }
    return memory_add(dense_minimum(self), smallest);
}

uint64_t didi_parameters_within(const didi *self, uint64_t bytes)
{
    uint64_t fixed = dense_minimum(self);
    unsigned bits = precision_bits(precision_of_matrices(self->work->options.precision));
    double each = bits > QUANTISE_BITS_MAX ? bits / 8.0 : (bits + 8.0 / QUANTISE_GROUP) / 8;
    if (self->work->options.precision == DIDI_PRECISION_AUTO)
        each = 1.6 / 8; /* components of 1 and 2 bits, and their levels */
    return bytes > fixed ? whole((double)(bytes - fixed) / each) : 0;
}

/* ---- blocks ---- */

static void fill_layer(const didi *self, size_t l, didi_precision precision,
                       const allocate_block *known, precision_block *out)
{
    const family_tensor *tensor = self->work->layers[l];
    size_t per_layer = self->work->options.task_count + 1;
    uint64_t overhead = didi_entry_bytes(self, tensor, true);
    for (size_t j = 0; j < per_layer; j++) {
        const allocate_block *from = &known[l * per_layer + j];
        out[j] = (precision_block){.sigma = from->sigma,
                                   .count = from->count,
                                   .limit = from->limit,
                                   .tail = from->tail,
                                   .weight = from->weight,
                                   .tasks = j == 0 ? (double)self->work->options.task_count : 1,
                                   .rows = tensor->rows,
                                   .columns = tensor->columns,
                                   .overhead = overhead,
                                   .factors = precision_of_factors(precision)};
        if (j == 0)
            continue;
        out[j].dense = precision_of_matrices(precision);
        if (precision_is_plain(precision, NULL) && from->dense_cost == 0)
            out[j].dense = 0;
        out[j].dense_energy = from->tail;
        for (size_t i = 0; i < from->count; i++)
            out[j].dense_energy += from->sigma[i] * from->sigma[i];
    }
}

double didi_weight_unit(const didi *self)
{
    double weighted = 0;
    double balanced = 0;
    for (size_t l = 0; l < self->work->layer_count; l++) {
        const layer_summary *from = &self->work->summaries[l];
        double energy = 0;
        for (size_t t = 0; t < from->tasks; t++) {
            weighted += from->weight[t] * from->energy[t];
            energy += from->energy[t];
        }
        balanced += sqrt(energy * (double)from->tasks);
    }
    return balanced > 0 && weighted > 0 ? weighted / balanced : 1;
}

/* The mean of a tensor kept whole, then a delta for each task; where either may be, they are
 * rivals. */
static void fill_dense(const didi *self, size_t index, didi_precision precision, double unit,
                       precision_block *out)
{
    const family_tensor *tensor = self->work->dense[index];
    const dense_summary *found = &self->work->dense_summaries[index];
    size_t tasks = self->work->options.task_count;
    bool automatic = precision == DIDI_PRECISION_AUTO;
    didi_dense form = work_dense_form(self->work, tensor);
    bool either = form == DIDI_DENSE_MEAN && self->work->options.dense == DIDI_DENSE_AUTO;
    double energy = 0;
    for (size_t t = 0; t < tasks; t++)
        energy += found->energy[t];
    precision_block like = {.rows = tensor->rows,
                            .columns = tensor->columns,
                            .overhead = didi_entry_bytes(self, tensor, false),
                            .dense = precision_of_dense(precision),
                            .required = !automatic};
    if (energy > 0)
        like.weight = DENSE_TENSOR_WEIGHT * unit / sqrt(energy / (double)tasks);
    for (size_t t = 0; t < tasks; t++) {
        out[t + 1] = like;
        out[t + 1].weight *= self->work->task_weight[t];
        out[t + 1].dense_energy = either || form == DIDI_DENSE_PER_TASK ? found->energy[t] : 0;
    }
    out[0] = like;
    out[0].dense_energy = form == DIDI_DENSE_MEAN ? energy - found->error : 0;
    out[0].rivals = either ? tasks : 0;
    out[0].required = !automatic || !either;
    if (automatic && !either)
        out[0].dense = precision_of_dense(DIDI_PRECISION_INT8);
}

int didi_list_precision_blocks(const didi *self, didi_precision precision,
                               precision_block **ret_blocks, size_t *ret_count, didi_error *error)
{
    size_t tasks = self->work->options.task_count;
    size_t count = (self->work->layer_count + self->work->dense_count) * (tasks + 1);
    allocate_block *known = NULL;
    size_t known_count = 0;
    int status = didi_list_blocks(self, &known, &known_count, error);
    if (status != DIDI_OK)
        return status;
    precision_block *blocks = memory_zeroed(count, sizeof *blocks);
    if (blocks == NULL) {
        free(known);
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "list of %zu blocks", count);
    }
    double unit = didi_weight_unit(self);
    for (size_t l = 0; l < self->work->layer_count; l++)
        fill_layer(self, l, precision, known, blocks + l * (tasks + 1));
    for (size_t i = 0; i < self->work->dense_count; i++)
        fill_dense(self, i, precision, unit, blocks + known_count + i * (tasks + 1));
    free(known);
    *ret_blocks = blocks;
    *ret_count = count;
    return DIDI_OK;
}

/* ---- how much is stored, against the budget, in its unit ---- */

/* Bytes that count as one; 0 where parameters are counted. */
static double unit_bytes(const didi *self)
{
    switch (self->work->options.budget_unit) {
    case DIDI_BUDGET_BYTES:
    case DIDI_BUDGET_BYTES_RATIO:
        return (double)work_base_bytes(self->work);
    case DIDI_BUDGET_PARAMETERS:
    case DIDI_BUDGET_MAX_ERROR:
        return self->work->options.precision == DIDI_PRECISION_AUTO
                   ? 2 * (double)self->work->plan.parameters
                   : 0;
    }
    return 0;
}

/* Exact for the parameters chosen, in proportion for fewer. */
static double bytes_at(const didi *self, double factors)
{
    double dense = (double)self->chosen_dense;
    double taken = (double)self->factor_parameters;
    if (self->chosen_bytes > 0 && taken > 0)
        return dense + ((double)self->chosen_bytes - dense) * factors / taken;
    double width = precision_entry_bytes(precision_of_factors(self->work->options.precision));
    double whole = precision_entry_bytes(precision_of_dense(self->work->options.precision));
    return factors * width + (double)self->dense_stored * whole;
}

static double kept(const didi *self, double unit)
{
    return unit > 0 ? (double)extension_bytes(self->work->extension) / unit
                    : (double)extension_parameters(self->work->extension) /
                          (double)self->work->plan.parameters;
}

double didi_ratio(const didi *self, double factors)
{
    double unit = unit_bytes(self);
    double parameters = factors + (double)self->dense_stored;
    return kept(self, unit) + (unit > 0 ? bytes_at(self, factors) / unit
                                        : parameters / (double)self->work->plan.parameters);
}

double didi_ratio_target(const didi *self)
{
    double unit = unit_bytes(self);
    if (self->work->options.budget_unit == DIDI_BUDGET_MAX_ERROR)
        return NAN;
    double asked = self->work->options.budget_unit == DIDI_BUDGET_BYTES
                       ? self->work->options.budget / unit
                       : self->work->options.budget;
    return kept(self, unit) + asked;
}
