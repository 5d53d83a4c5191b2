/* SPDX-License-Identifier: Apache-2.0 */
/* Which tasks share: inner products of task vectors, layer by layer, and what the shared part
 * explains of each. */
#include "src/work/similarity.h"

#include "src/base/base.h"
#include "src/math/math.h"

#include <math.h>
#include <stdlib.h>

enum {
    PANEL_NUMBERS = 1 << 18, /* of all tasks: summed in float32, panels in double */
};

/* Adds <tau_s, tau_t> over the rows [first, first + rows). */
static int add_panel(const layer *target, size_t first, size_t rows, float *panel, float *products,
                     double *gram, didi_error *error)
{
    size_t tasks = target->tasks;
    size_t width = rows * target->columns;
    for (size_t t = 0; t < tasks; t++) {
        int status = layer_read_rows(target, t, first, rows, panel + t * width, error);
        if (status != DIDI_OK)
            return status;
    }
    layer_count_product(target, tasks, width, tasks);
    linalg_gemm(false, true, tasks, tasks, width, 1.0F, panel, width, panel, width, 0.0F, products,
                tasks);
    for (size_t i = 0; i < tasks * tasks; i++)
        gram[i] += (double)products[i];
    return DIDI_OK;
}

static int sum_panels(const layer *target, double *gram, didi_error *error)
{
    size_t tasks = target->tasks;
    size_t rows = PANEL_NUMBERS / (tasks * target->columns) + 1;
    float *panel = memory_aligned(tasks * rows, target->columns * sizeof(float));
    float *products = memory_aligned(tasks * tasks, sizeof(float));
    int status = DIDI_OK;
    if (panel == NULL || products == NULL)
        status = didi_fail(error, DIDI_NO_MEMORY, NULL, "inner products of %zu tasks", tasks);
    for (size_t first = 0; first < target->rows && status == DIDI_OK; first += rows) {
        if (layer_is_cancelled(target))
            status = didi_fail(error, DIDI_CANCELLED, NULL, "cancelled");
        else
            status = add_panel(target, first, smaller(target->rows - first, rows), panel, products,
                               gram, error);
    }
    free(panel);
    free(products);
    return status;
}

int work_save_gram(work *self, size_t index, const layer *target, didi_error *error)
{
    char name[64];
    double *gram = memory_zeroed(target->tasks * target->tasks, sizeof *gram);
    if (gram == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "inner products of %zu tasks", target->tasks);
    bool small = target->factors != NULL && target->dense_tasks == 0;
    int status = small ? layer_factor_gram(target, gram, error) : sum_panels(target, gram, error);
    work_snapshot_name("gram", index, name);
    if (status == DIDI_OK)
        status = work_save_table(self, name, "gram", target->tasks, target->tasks, gram, error);
    free(gram);
    return status;
}

/* ---- the manifest's section ---- */

/* null where a task vector is zero. */
static json_t *cosines_json(const double *gram, size_t tasks)
{
    json_t *rows = json_array();
    for (size_t s = 0; s < tasks; s++) {
        json_t *row = json_array();
        for (size_t t = 0; t < tasks; t++) {
            double length = sqrt(gram[s * tasks + s] * gram[t * tasks + t]);
            double cosine = s == t ? 1 : fmax(-1, fmin(1, gram[s * tasks + t] / length));
            json_array_append_new(row, length > 0 ? json_real(cosine) : json_null());
        }
        json_array_append_new(rows, row);
    }
    return rows;
}

/* Share of |tau_t|^2 that S alone takes away; negative where S is no help by itself. */
static json_t *explained_json(const work *self, bool measured)
{
    json_t *list = json_array();
    for (size_t t = 0; t < self->options.task_count; t++) {
        double energy = work_task_energy(self, t);
        double left = 0;
        for (size_t l = 0; l < self->layer_count; l++)
            left += self->summaries[l].unshared[t];
        json_array_append_new(list, measured ? json_real(energy > 0 ? 1 - left / energy : 0)
                                             : json_null());
    }
    return list;
}

/* Sums the layers' products, and lists each layer's cosines unless there are too many tasks. `gram`
 * has room for one layer's. */
static int sum_layers(const work *self, double *sum, double *gram, json_t *layers)
{
    size_t tasks = self->options.task_count;
    int status = DIDI_OK;
    for (size_t l = 0; l < self->layer_count && status == DIDI_OK; l++) {
        char name[64];
        work_snapshot_name("gram", l, name);
        status = work_read_table(self, name, "gram", tasks, tasks, gram, NULL);
        for (size_t i = 0; status == DIDI_OK && i < tasks * tasks; i++)
            sum[i] += gram[i];
        if (status == DIDI_OK && tasks <= SIMILARITY_LAYER_TASKS)
            json_array_append_new(layers, json_pack("{s:s,s:o}", "tensor", self->layers[l]->name,
                                                    "cosine", cosines_json(gram, tasks)));
    }
    return status;
}

json_t *work_similarity_json(const work *self, bool measured)
{
    size_t tasks = self->options.task_count;
    double *sum = memory_zeroed(2 * tasks * tasks, sizeof *sum);
    json_t *layers = json_array();
    json_t *names = json_array();
    json_t *section = NULL;
    for (size_t t = 0; t < tasks; t++)
        json_array_append_new(names, json_string(self->options.tasks[t].name));
    if (sum != NULL && sum_layers(self, sum, sum + tasks * tasks, layers) == DIDI_OK)
        section =
            json_pack("{s:O,s:o,s:o,s:O}", "tasks", names, "cosine", cosines_json(sum, tasks),
                      "explained_by_shared", explained_json(self, measured), "layers", layers);
    json_decref(layers);
    json_decref(names);
    free(sum);
    return section != NULL ? section : json_null();
}
