/* SPDX-License-Identifier: Apache-2.0 */
/* Experts that are factors or deltas: which part a tensor gets, and what all of it will take. */
#include "src/methods/experts_plan.h"

#include "src/base/base.h"
#include "src/methods/truncate.h"

#include <stdlib.h>
#include <string.h>

/* ---- parts */

expert_part expert_nothing(void)
{
    return (expert_part){.form = EXPERT_NONE};
}

expert_part expert_delta(void)
{
    return (expert_part){.form = EXPERT_DELTA};
}

expert_part expert_sum(double scale)
{
    return (expert_part){.share = SHARE_SUM, .scale = scale};
}

expert_part expert_factors(const family_tensor *tensor, size_t rank)
{
    if (rank >= expert_full_rank(tensor))
        return expert_delta();
    return rank > 0 ? (expert_part){.form = EXPERT_FACTORS, .rank = rank} : expert_nothing();
}

size_t expert_full_rank(const family_tensor *tensor)
{
    return smaller(tensor->rows, tensor->columns);
}

bool expert_has_two_axes(const family_tensor *tensor)
{
    return tensor->base->tensor->dimensions == 2;
}

bool expert_is_matrix(const family_tensor *tensor)
{
    return tensor->base->tensor->dimensions >= 2;
}

size_t expert_rank_of(const family_tensor *tensor, double share)
{
    return (size_t)(share * (double)expert_full_rank(tensor));
}

bool expert_is_attention(const char *tensor)
{
    static const char *const names[] = {"*attn*", "*attention*", "*Attention*"};
    return family_name_matches(tensor, names, sizeof names / sizeof *names);
}

bool expert_is_mlp(const char *tensor)
{
    static const char *const names[] = {"*mlp*",
                                        "*MLP*",
                                        "*ffn*",
                                        "*feed_forward*",
                                        "*feedforward*",
                                        "*.fc1.*",
                                        "*.fc2.*",
                                        "*.intermediate.*",
                                        "*DenseReluDense*",
                                        "*.output.dense.*",
                                        "*.experts.*"};
    return !expert_is_attention(tensor) &&
           family_name_matches(tensor, names, sizeof names / sizeof *names);
}

/* ---- what the parts of a tensor take */

uint64_t expert_panel_rows(const family_tensor *tensor)
{
    enum { PANEL_ELEMENTS = 1 << 16 };
    return tensor->columns < PANEL_ELEMENTS ? PANEL_ELEMENTS / tensor->columns : 1;
}

unsigned expert_bits(const work *self)
{
    didi_precision precision = self->options.precision;
    return precision_is_plain(precision, NULL) ? 0
                                               : precision_bits(precision_of_matrices(precision));
}

void expert_set_rank(const work *self, layer_summary *summary, size_t task, size_t rank)
{
    unsigned bits = expert_bits(self);
    memset(summary->components[task + 1], 0, sizeof summary->components[task + 1]);
    summary->rank[task + 1] = rank;
    if (bits > 0)
        summary->components[task + 1][precision_width_index(bits)] = rank;
}

/* X, what is shared of it as numbers and as bytes, panels, and what is kept of all tasks. */
static uint64_t factors_memory(const work *self, size_t tensor, const expert_part *part)
{
    enum { PANELS = 4, OVERHEAD_BYTES = 1 << 20 };
    const family_tensor *of = self->layers[tensor];
    uint64_t matrix = memory_multiply(of->elements, sizeof(float));
    uint64_t panel = memory_multiply(expert_panel_rows(of), of->columns * sizeof(float));
    uint64_t matrices = part->share == SHARE_NOTHING ? 1 : expert_bits(self) > 0 ? 3 : 2;
    uint64_t kept = memory_multiply(truncated_memory(of->rows, of->columns, part->rank),
                                    self->options.task_count);
    uint64_t bytes = memory_add(memory_multiply(matrix, matrices), kept);
    bytes = memory_add(bytes, truncate_memory(of->rows, of->columns, part->rank));
    return memory_add(bytes, memory_multiply(panel, PANELS) + OVERHEAD_BYTES);
}

uint64_t experts_memory(const void *method, size_t tensor)
{
    const experts *self = method;
    const expert_part *part = &self->parts[tensor];
    if (part->form == EXPERT_FACTORS)
        return factors_memory(self->head.work, tensor, part);
    return part->share == SHARE_NOTHING ? stored_experts_memory(self->head.work, tensor)
                                        : stored_panels_memory(self->head.work, tensor);
}

/* Of a task's factors. */
static uint64_t factors_bytes(const work *self, size_t tensor, size_t rank)
{
    stored_array arrays[STORED_ARRAYS_MAX];
    stored_tensor of = stored_tensor_of(self->layers[tensor]);
    size_t components[PRECISION_WIDTHS] = {0};
    if (expert_bits(self) > 0)
        components[precision_width_index(expert_bits(self))] = rank;
    stored_part part = {.rank = rank, .components = components};
    size_t count = stored_arrays(&of, &part, 1, self->options.precision, arrays);
    uint64_t bytes = 0;
    for (size_t i = 0; i < count; i++)
        bytes =
            memory_add(bytes, memory_multiply(memory_multiply(arrays[i].rows, arrays[i].columns),
                                              didi_dtype_bits(arrays[i].dtype) / 8));
    return bytes;
}

/* ---- the plan */

enum { ENTRY_BYTES = 128 };

static void plan_tensor(const experts *self, size_t tensor)
{
    work *of = self->head.work;
    didi_plan *plan = &of->plan;
    const expert_part *part = &self->parts[tensor];
    const family_tensor *matrix = of->layers[tensor];
    uint64_t entry = ENTRY_BYTES + JSON_CHARACTER_BYTES * strlen(matrix->name) +
                     PACKAGE_NUMBER_BYTES * matrix->base->tensor->dimensions;
    uint64_t delta = memory_add(stored_panels_bytes(of, tensor), entry);
    double elements = (double)matrix->elements;
    plan->flops += 2 * elements * (double)plan->tasks;
    if (part->share != SHARE_NOTHING) {
        plan->dense_parameters = memory_add(plan->dense_parameters, matrix->elements);
        plan->artifact_bytes = memory_add(plan->artifact_bytes, delta);
    }
    if (part->form == EXPERT_DELTA) {
        plan->dense_parameters =
            memory_add(plan->dense_parameters, memory_multiply(matrix->elements, plan->tasks));
        plan->artifact_bytes =
            memory_add(plan->artifact_bytes, memory_multiply(delta, plan->tasks));
    } else if (part->form == EXPERT_FACTORS) {
        uint64_t numbers = memory_multiply(part->rank, matrix->rows + matrix->columns);
        double shorter = (double)expert_full_rank(matrix);
        uint64_t bytes = memory_add(factors_bytes(of, tensor, part->rank), 2 * entry);
        plan->factor_parameters =
            memory_add(plan->factor_parameters, memory_multiply(numbers, plan->tasks));
        plan->artifact_bytes =
            memory_add(plan->artifact_bytes, memory_multiply(bytes, plan->tasks));
        plan->flops += (double)plan->tasks * (2 * elements * (shorter + 2 * (double)part->rank) +
                                              12 * shorter * shorter * shorter);
    }
}

/* Tensors that get factors, first in the plan's list. */
static void list_matrices(const experts *self)
{
    work *of = self->head.work;
    didi_plan_layer *layers = (didi_plan_layer *)of->plan.layers;
    size_t count = 0;
    for (size_t i = 0; i < of->layer_count; i++)
        if (self->parts[i].form == EXPERT_FACTORS)
            layers[count++] = (didi_plan_layer){of->layers[i]->name, of->layers[i]->rows,
                                                of->layers[i]->columns, of->layers[i]->rank_limit};
    of->plan.layer_count = count;
    of->plan.dense_count = of->layer_count - count;
}

int experts_plan(void *method, didi_error *error)
{
    enum { SMALL_BYTES = 4 << 20 }; /* of digests and files */
    experts *self = method;
    work *of = self->head.work;
    didi_plan *plan = &of->plan;
    uint64_t widest = SMALL_BYTES;
    bool twice = false;
    for (size_t i = 0; i < of->layer_count; i++) {
        const expert_part *part = &self->parts[i];
        plan_tensor(self, i);
        widest = larger(widest, experts_memory(self, i));
        twice = twice || (part->form == EXPERT_FACTORS && part->share != SHARE_NOTHING);
    }
    list_matrices(self);
    plan->artifact_bytes =
        memory_add(plan->artifact_bytes, 2 * (uint64_t)ENTRY_BYTES * (plan->tasks + 1));
    plan->artifact_bytes = memory_add(plan->artifact_bytes, plan->own_bytes);
    plan->disk_bytes = memory_multiply(plan->artifact_bytes, 2);
    /* Digests; task vectors, once for what is shared and once for what is not. */
    plan->bytes_to_read = memory_multiply(work_input_bytes(of), twice ? 3 : 2);
    return stored_plan_memory(of, widest, error);
}

/* ---- open and close */

int experts_open(experts *self, expert_part (*part_of)(const void *self, const family_tensor *of),
                 didi_error *error)
{
    const work *of = self->head.work;
    self->parts = memory_zeroed(of->layer_count, sizeof *self->parts);
    if (self->parts == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "parts of %zu tensors", of->layer_count);
    for (size_t i = 0; i < of->layer_count; i++)
        self->parts[i] = part_of(self, of->layers[i]);
    return DIDI_OK;
}

int experts_open_named(experts *self, bool (*is_named)(const family_tensor *of),
                       expert_part (*part_of)(const void *self, const family_tensor *of),
                       const char *what, didi_error *error)
{
    const work *of = self->head.work;
    bool found = false;
    for (size_t i = 0; i < of->layer_count && !found; i++)
        found = is_named(of->layers[i]);
    if (!found)
        return didi_fail(error, DIDI_INVALID, "/method",
                         "no tensor has a name of %s, and method '%s' treats these apart", what,
                         of->options.method);
    return experts_open(self, part_of, error);
}

void experts_close(void *method)
{
    experts *self = method;
    free(self->parts);
}
