/* SPDX-License-Identifier: Apache-2.0 */
/* The family of the reference, by its formulas. */
#include "tests/unit/sample_reference.h"

#include "src/files/checkpoint.h"
#include "tests/unit/sample_summary.h"
#include "tests/unit/support.h"

#include <math.h>
#include <unistd.h>

enum { TENSORS = 3, ROWS = 6, COLUMNS = 4, ELEMENTS = ROWS * COLUMNS };

static const char *const names[TENSORS] = {"layer.attn.q.weight", "layer.mlp.fc.weight",
                                           "layer.mlp.fc.bias"};

/* Row, column and tensor of a number. */
typedef struct place {
    size_t i, j, k;
} place;

static place place_of(size_t number)
{
    size_t k = number / ELEMENTS;
    size_t within = number % ELEMENTS;
    return k < 2 ? (place){within / COLUMNS, within % COLUMNS, k} : (place){within, 0, k};
}

double sample_reference_base(size_t number)
{
    place at = place_of(number);
    return 0.5 * sin(1 + 0.7 * (double)at.i + 1.3 * (double)at.j + 2 * (double)at.k);
}

double sample_reference_tau(size_t task, size_t number)
{
    place at = place_of(number);
    double i = (double)at.i;
    double j = (double)at.j;
    double k = (double)at.k;
    double t = (double)task;
    double spike = (at.i + 2 * at.j + task) % 5 == 0 ? 0.03 : 0;
    return 0.1 * sin((t + 1) * (1.1 * i + 0.6 * j + 1) + k) +
           0.05 * cos(0.9 * i * j + 0.5 * t + k) + spike;
}

/* `context` is the task's number; NULL: the base. */
static void fill(void *context, size_t tensor, float *values, size_t count)
{
    const size_t *task = context;
    for (size_t e = 0; e < count; e++) {
        size_t number = tensor * ELEMENTS + e;
        double tau = task != NULL ? sample_reference_tau(*task, number) : 0;
        values[e] = (float)(sample_reference_base(number) + tau);
    }
}

void sample_reference_create(sample_family *self, int root)
{
    static const uint64_t shape[2] = {ROWS, COLUMNS};
    safetensors_layout_entry entries[TENSORS];
    sample_family_create(self, root, REFERENCE_TASKS);
    self->options.budget = 0;
    for (size_t k = 0; k < TENSORS; k++)
        entries[k] = (safetensors_layout_entry){names[k], DIDI_DTYPE_F32, k < 2 ? 2 : 1, shape};
    sample_tensors_write(self->base, entries, TENSORS, fill, NULL);
    for (size_t t = 0; t < REFERENCE_TASKS; t++)
        sample_tensors_write(self->models[t], entries, TENSORS, fill, &t);
}

void sample_reference_served(const sample_family *self, const char *package, size_t task,
                             float ret_numbers[REFERENCE_NUMBERS])
{
    checkpoint *model = NULL;
    didi_error error = {0};
    int exported = sample_export(self, package, task);
    sample_must(checkpoint_open(exported, "exported", &model, &error), &error);
    assert_int_equal(checkpoint_count(model), TENSORS);
    for (size_t k = 0; k < TENSORS; k++) {
        const checkpoint_tensor *tensor = checkpoint_find(model, names[k]);
        assert_non_null(tensor);
        assert_int_equal(tensor->tensor->elements, k < 2 ? ELEMENTS : ROWS);
        sample_must(checkpoint_read_f32(model, tensor, 0, ret_numbers + k * ELEMENTS,
                                        tensor->tensor->elements, &error),
                    &error);
    }
    checkpoint_close(model);
    close(exported);
}
