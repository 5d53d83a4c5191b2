/* SPDX-License-Identifier: Apache-2.0 */
/* FREE-Merging (Zheng and Wang 2025), as its authors' code does it. What all tasks share is the sum
 * of their task vectors behind a filter in the frequencies of a matrix; an expert has the largest
 * numbers of each row of its own vector, in the place of what is shared there. Of the code are: the
 * centre of the filter, which is the highest frequency; two sets of frequencies kept, of which the
 * ring between counts twice; and the scale, which meets what is shared twice. The paper's filter is
 * `high_pass`, for which it fixes no cut-off. */
#include "src/methods/methods.h"
#include "src/methods/picked.h"

#include "src/base/base.h"
#include "src/math/math.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef enum free_shared { FREE_TWICE, FREE_ONCE } free_shared;

/* Of a tensor and a task: sum of the magnitudes that the expert has, and of those behind the
 * filter. */
typedef struct magnitudes {
    double expert, filtered;
} magnitudes;

typedef struct free_merging {
    method_head head;
    double scale, density, filter, high_pass;
    free_shared shared;
    magnitudes *sums; /* tensors x T */
    double *factor;   /* T: of the experts' matrices */
} free_merging;

static const char *const shared_words[] = {"twice", "once", NULL};

static const method_option options[] = {
    {.name = "scale",
     .kind = METHOD_NUMBER,
     .offset = offsetof(free_merging, scale),
     .standard = 0.5, /* the authors' for eight tasks */
     .lowest = 0,
     .highest = 10,
     .above_lowest = true,
     .help = "factor of what is added to the base"},
    {.name = "density",
     .kind = METHOD_NUMBER,
     .offset = offsetof(free_merging, density),
     .standard = 0.01,
     .lowest = 0,
     .highest = 0.5,
     .above_lowest = true,
     .help = "share of each row's numbers that an expert has, the largest"},
    {.name = "filter",
     .kind = METHOD_NUMBER,
     .offset = offsetof(free_merging, filter),
     .standard = 0.7,
     .lowest = 0,
     .highest = 2,
     .help = "radius of the frequencies that are kept, in smaller sides of the matrix"},
    {.name = "high_pass",
     .kind = METHOD_NUMBER,
     .offset = offsetof(free_merging, high_pass),
     .standard = 0,
     .lowest = 0,
     .highest = 1,
     .help =
         "in place of filter: keep frequencies of at least this share of the highest of rows and "
         "columns, once, as the paper has it (0: the filter of the authors' code)"},
    {.name = "shared",
     .kind = METHOD_WORD,
     .offset = offsetof(free_merging, shared),
     .standard = FREE_TWICE,
     .words = shared_words,
     .help = "how often scale meets what is shared of matrices (twice, as in the authors' code, or "
             "once)"},
    {.name = NULL},
};

/* ---- which tensors ---- */

static bool is_of_blocks(const char *name)
{
    return strstr(name, "attn") != NULL || strstr(name, "mlp") != NULL;
}

static bool is_filtered(const family_tensor *tensor)
{
    return tensor->base->tensor->dimensions >= 2 && is_of_blocks(tensor->name) &&
           strstr(tensor->name, "weight") != NULL;
}

/* A row of the last axis. */
static uint64_t row_length(const family_tensor *tensor)
{
    const safetensors_tensor *base = tensor->base->tensor;
    return base->dimensions > 0 ? base->shape[base->dimensions - 1] : 1;
}

static uint64_t row_entries(const free_merging *self, const family_tensor *tensor)
{
    return (uint64_t)floor(self->density * (double)row_length(tensor));
}

static picked_form form_of(const free_merging *self, size_t tensor)
{
    const family_tensor *of = self->head.work->layers[tensor];
    uint64_t entries = row_entries(self, of) * (of->columns / row_length(of));
    if (!is_of_blocks(of->name))
        return (picked_form){.shared = STORED_FACTORS}; /* it stays the base's */
    return (picked_form){.shared = STORED_DELTA,
                         .expert = entries > 0 ? STORED_PLACES : STORED_FACTORS,
                         .entries = entries};
}

static int open_free(void *context, didi_error *error)
{
    free_merging *self = context;
    const work *of = self->head.work;
    size_t filtered = 0;
    for (size_t l = 0; l < of->layer_count; l++)
        filtered += is_filtered(of->layers[l]);
    if (filtered == 0)
        return didi_fail(error, DIDI_INVALID, "/method",
                         "method 'free' is of weights with attn or mlp in their names; there are "
                         "none");
    self->sums = memory_zeroed(of->layer_count * of->options.task_count, sizeof *self->sums);
    self->factor = memory_zeroed(of->options.task_count, sizeof *self->factor);
    return self->sums != NULL && self->factor != NULL
               ? DIDI_OK
               : didi_fail(error, DIDI_NO_MEMORY, NULL, "sums of %zu tensors", of->layer_count);
}

static void close_free(void *context)
{
    free_merging *self = context;
    free(self->sums);
    free(self->factor);
}

static magnitudes *sums_of(const free_merging *self, size_t tensor)
{
    return self->sums + tensor * self->head.work->options.task_count;
}

/* ---- the largest numbers of a row ---- */

/* The number of this rank, from the largest, which has rank 0. Moves the numbers about. */
static float select_rank(float *values, uint64_t count, uint64_t rank)
{
    uint64_t first = 0;
    uint64_t end = count;
    while (end - first > 1) {
        float middle = values[first + (end - first) / 2];
        uint64_t above =
            first; /* [first, above) above it, [above, at) the same, [below, end) less */
        uint64_t at = first;
        uint64_t below = end;
        while (at < below) {
            float value = values[at];
            if (value > middle) {
                values[at++] = values[above];
                values[above++] = value;
            } else if (value < middle) {
                values[at] = values[--below];
                values[below] = value;
            } else {
                at++;
            }
        }
        if (rank < above)
            end = above;
        else if (rank >= below)
            first = below;
        else
            return middle;
    }
    return values[first];
}

/* Marks them, of equal ones the first; `picked` may be NULL. `spare` has room for a row. Returns
 * the sum of their magnitudes. */
static double pick_row(const float *row, uint64_t length, uint64_t entries, float *spare,
                       bool *picked)
{
    double sum = 0;
    uint64_t above = 0;
    if (entries == 0)
        return 0;
    for (uint64_t j = 0; j < length; j++)
        spare[j] = fabsf(row[j]);
    float least = select_rank(spare, length, entries - 1);
    for (uint64_t j = 0; j < length; j++) {
        bool large = fabsf(row[j]) > least;
        sum += large ? (double)fabsf(row[j]) : 0;
        above += large;
    }
    uint64_t equal = entries - above;
    sum += (double)equal * (double)least;
    for (uint64_t j = 0; j < length && picked != NULL; j++) {
        bool ties = fabsf(row[j]) == least && equal > 0;
        picked[j] = fabsf(row[j]) > least || ties;
        equal -= ties;
    }
    return sum;
}

/* What is worked on, of one tensor. */
typedef struct picking {
    const free_merging *self;
    const family_tensor *of;
    magnitudes *sums;
    const float *filtered; /* of the tensor, or NULL */
    float *spare;
} picking;

static double pick(const picking *of, const float *values, uint64_t count, bool *picked)
{
    uint64_t length = row_length(of->of);
    uint64_t entries = row_entries(of->self, of->of);
    double sum = 0;
    for (uint64_t first = 0; first < count; first += length)
        sum += pick_row(values + first, length, entries, of->spare,
                        picked != NULL ? picked + first : NULL);
    return sum;
}

/* ---- the filter ---- */

/* Frequency `i` of `side` to the highest: 0 to 1. */
static double share_of_highest(uint64_t i, uint64_t side)
{
    return (double)smaller(i, side - i) / (0.5 * (double)side);
}

/* How often the frequency is kept. */
static int kept(const free_merging *self, const family_tensor *of, uint64_t i, uint64_t j)
{
    if (self->high_pass > 0)
        return hypot(share_of_highest(i, of->rows), share_of_highest(j, of->columns)) >=
               self->high_pass;
    uint64_t side = smaller(of->rows, of->columns);
    uint64_t inner = side / 10;
    uint64_t middle_row = of->rows / 2;
    uint64_t middle_column = of->columns / 2;
    double from_row = (double)i - (double)middle_row;
    double from_column = (double)j - (double)middle_column;
    double distance = sqrt(from_row * from_row + from_column * from_column);
    return (distance <= (double)inner) +
           (distance >= (double)inner && distance <= self->filter * (double)side);
}

/* Of what is kept the real part counts: that is the mean with the opposite frequency. So what was
 * real stays so, and two tasks go through it at once. */
static void filter(const free_merging *self, const family_tensor *of, fourier_number *x)
{
    for (uint64_t i = 0; i < of->rows; i++)
        for (uint64_t j = 0; j < of->columns; j++) {
            int both = kept(self, of, i, j) +
                       kept(self, of, (of->rows - i) % of->rows, (of->columns - j) % of->columns);
            x[i * of->columns + j].real *= 0.5 * both;
            x[i * of->columns + j].imaginary *= 0.5 * both;
        }
}

/* A whole matrix of all tasks, one after another. */
typedef struct spectrum_room {
    float *tau, *spare, *result;
    double *sum;
    fourier_number *x;
} spectrum_room;

static uint64_t room_bytes(const family_tensor *of)
{
    uint64_t each = 3 * sizeof(float) + sizeof(double) + sizeof(fourier_number);
    return memory_add(memory_multiply(of->elements, each), fourier_memory(of->rows, of->columns));
}

static int room_create(const family_tensor *of, spectrum_room *self, didi_error *error)
{
    *self = (spectrum_room){.tau = memory_aligned(of->elements, sizeof(float)),
                            .spare = memory_aligned(of->elements, sizeof(float)),
                            .result = memory_aligned(of->elements, sizeof(float)),
                            .sum = memory_zeroed(of->elements, sizeof(double)),
                            .x = memory_aligned(of->elements, sizeof(fourier_number))};
    bool whole = self->tau != NULL && self->spare != NULL && self->result != NULL &&
                 self->sum != NULL && self->x != NULL;
    return whole ? DIDI_OK
                 : didi_fail(error, DIDI_NO_MEMORY, of->name, "spectrum of %llu numbers",
                             (unsigned long long)of->elements);
}

static void room_clear(spectrum_room *self)
{
    free(self->tau);
    free(self->spare);
    free(self->result);
    free(self->sum);
    free(self->x);
}

/* Adds what the filter leaves of one task's vector, or of two: `x` has one as its real part. */
static int add_filtered(const picking *of, const spectrum_room *room, size_t task, bool two,
                        didi_error *error)
{
    const double *weight = of->self->head.work->task_weight + task;
    uint64_t rows = of->of->rows;
    uint64_t columns = of->of->columns;
    int status = fourier_transform(rows, columns, false, room->x, error);
    if (status == DIDI_OK) {
        filter(of->self, of->of, room->x);
        status = fourier_transform(rows, columns, true, room->x, error);
    }
    for (uint64_t i = 0; i < of->of->elements && status == DIDI_OK; i++) {
        of->sums[task].filtered += fabs(room->x[i].real);
        room->sum[i] += weight[0] * room->x[i].real;
    }
    for (uint64_t i = 0; i < of->of->elements && two && status == DIDI_OK; i++) {
        of->sums[task + 1].filtered += fabs(room->x[i].imaginary);
        room->sum[i] += weight[1] * room->x[i].imaginary;
    }
    return status;
}

/* Reads a task's vector, measures it, and makes it one part of `x`. */
static int read_part(const picking *of, const spectrum_room *room, size_t task, bool second,
                     didi_error *error)
{
    work *from = of->self->head.work;
    family_piece all = {of->of, 0, of->of->elements};
    if (atomic_load(&from->cancelled))
        return didi_fail(error, DIDI_CANCELLED, NULL, "cancelled");
    int status = family_read_delta(from->family, task, all, room->tau, room->spare,
                                   &from->bytes_read, error);
    if (status != DIDI_OK)
        return status;
    of->sums[task].expert = pick(of, room->tau, of->of->elements, NULL);
    for (uint64_t i = 0; i < of->of->elements; i++)
        if (second)
            room->x[i].imaginary = (double)room->tau[i];
        else
            room->x[i] = (fourier_number){(double)room->tau[i], 0};
    return DIDI_OK;
}

static int filter_matrix(const picking *of, stored *out, didi_error *error)
{
    work *from = of->self->head.work;
    size_t tasks = from->options.task_count;
    spectrum_room room = {0};
    int status = room_create(of->of, &room, error);
    if (status == DIDI_OK)
        status = family_verify_unchanged(from->family, error);
    for (size_t t = 0; t < tasks && status == DIDI_OK; t += 2) {
        bool two = t + 1 < tasks;
        status = read_part(of, &room, t, false, error);
        if (status == DIDI_OK && two)
            status = read_part(of, &room, t + 1, true, error);
        if (status == DIDI_OK)
            status = add_filtered(of, &room, t, two, error);
    }
    if (status == DIDI_OK)
        status = family_verify_unchanged(from->family, error);
    if (status == DIDI_OK) {
        for (uint64_t i = 0; i < of->of->elements; i++)
            room.result[i] = (float)room.sum[i];
        stored_keep(out, KEPT_SUMS, 0, tasks, 2, of->sums);
        stored_keep(out, KEPT_FILTERED, 0, of->of->rows, of->of->columns, room.result);
        status = stored_save(out, error);
    }
    room_clear(&room);
    return status;
}

static void measure_panel(void *context, const method_panel *panel)
{
    const picking *of = context;
    for (size_t t = 0; t < panel->tasks; t++) {
        of->sums[t].expert += pick(of, panel->tau[t], panel->count, NULL);
        for (uint64_t i = 0; i < panel->count; i++)
            of->sums[t].filtered += fabs((double)panel->tau[t][i]);
    }
}

static int begin_picking(const free_merging *self, size_t tensor, picking *of, didi_error *error)
{
    const family_tensor *from = self->head.work->layers[tensor];
    *of = (picking){.self = self, .of = from, .sums = sums_of(self, tensor)};
    of->spare = memory_aligned(row_length(from), sizeof *of->spare);
    return of->spare != NULL ? DIDI_OK
                             : didi_fail(error, DIDI_NO_MEMORY, from->name, "a row's magnitudes");
}

static int filter_tensor(void *context, size_t tensor, stored *out, didi_error *error)
{
    const free_merging *self = context;
    size_t tasks = self->head.work->options.task_count;
    picking of;
    int status = begin_picking(self, tensor, &of, error);
    memset(of.sums, 0, tasks * sizeof *of.sums);
    if (status == DIDI_OK && is_filtered(of.of)) {
        status = filter_matrix(&of, out, error);
    } else if (status == DIDI_OK) {
        status = stored_look_at_panels(out, measure_panel, &of, error);
        stored_keep(out, KEPT_SUMS, 0, tasks, 2, of.sums);
    }
    free(of.spare);
    return status;
}

/* ---- taken up again ---- */

/* The snapshot that the filter left, and what is behind it, or NULL. */
static int open_filtered(const free_merging *self, size_t tensor, snapshot **ret_from,
                         const float **ret_filtered, didi_error *error)
{
    const family_tensor *of = self->head.work->layers[tensor];
    const void *data = NULL;
    uint64_t rows = 0;
    char name[64];
    work_snapshot_name("filter", tensor, name);
    int status = snapshot_open(self->head.work->options.work_fd, name, ret_from, error);
    if (status == DIDI_OK && is_filtered(of))
        status = kept_find(*ret_from, KEPT_FILTERED, 0, of->columns, &rows, &data, error);
    if (status == DIDI_OK && is_filtered(of) && rows != of->rows)
        status = didi_fail(error, DIDI_FORMAT, of->name, "layer state has %llu rows",
                           (unsigned long long)rows);
    *ret_filtered = data;
    return status;
}

static bool recall_filtered(void *context, size_t tensor)
{
    const free_merging *self = context;
    size_t tasks = self->head.work->options.task_count;
    const float *filtered = NULL;
    const void *data = NULL;
    snapshot *from = NULL;
    uint64_t rows = 0;
    int status = open_filtered(self, tensor, &from, &filtered, NULL);
    if (status == DIDI_OK)
        status = kept_find(from, KEPT_SUMS, 0, 2, &rows, &data, NULL);
    bool whole = status == DIDI_OK && rows == tasks;
    if (whole)
        memcpy(sums_of(self, tensor), data, tasks * sizeof *self->sums);
    snapshot_close(from);
    return whole;
}

/* Means of tensors are averaged, as in the authors' code. */
static int rescale(void *context, didi_error *error)
{
    (void)error;
    const free_merging *self = context;
    const work *of = self->head.work;
    for (size_t t = 0; t < of->options.task_count; t++) {
        magnitudes all = {0, 0};
        for (size_t l = 0; l < of->layer_count; l++) {
            const magnitudes *one = &sums_of(self, l)[t];
            all.expert += one->expert / (double)of->layers[l]->elements;
            all.filtered += one->filtered / (double)of->layers[l]->elements;
        }
        double share = all.filtered > 0 ? all.expert / all.filtered : 0;
        self->factor[t] = -log10(self->density) / self->density * share;
    }
    return DIDI_OK;
}

/* ---- what is stored ---- */

/* Of vectors of the blocks the first task's is shared, as by the authors' code. */
static void fill(void *context, const method_panel *panel, bool *const *picked)
{
    const picking *of = context;
    const free_merging *self = of->self;
    double scale = self->shared == FREE_TWICE ? self->scale * self->scale : self->scale;
    for (uint64_t i = 0; i < panel->count && of->filtered != NULL; i++)
        panel->shared[i] = (float)(scale * (double)of->filtered[panel->first + i]);
    if (!is_of_blocks(of->of->name))
        return;
    for (uint64_t i = 0; i < panel->count && of->filtered == NULL; i++)
        panel->shared[i] = (float)(self->scale * (double)panel->tau[0][i]);
    for (size_t t = 0; t < panel->tasks; t++)
        (void)pick(of, panel->tau[t], panel->count, picked[t]);
}

static int merge_tensor(void *context, size_t tensor, stored *out, didi_error *error)
{
    const free_merging *self = context;
    work *from = self->head.work;
    size_t tasks = from->options.task_count;
    picked_form form = form_of(self, tensor);
    float *scale = memory_zeroed(tasks, sizeof *scale);
    snapshot *filtered = NULL;
    picking of;
    int status = begin_picking(self, tensor, &of, error);
    if (status == DIDI_OK && scale == NULL)
        status = didi_fail(error, DIDI_NO_MEMORY, NULL, "scales of tasks");
    if (status == DIDI_OK)
        status = open_filtered(self, tensor, &filtered, &of.filtered, error);
    for (size_t t = 0; t < tasks && status == DIDI_OK; t++)
        scale[t] = (float)(self->scale * (of.filtered != NULL ? self->factor[t] : 1));
    const picked_user user = {fill, &of, scale};
    if (status == DIDI_OK)
        status = picked_store(out, from, tensor, &form, &user, error);
    snapshot_close(filtered);
    free(of.spare);
    free(scale);
    return status;
}

static bool recall_merged(void *context, size_t tensor)
{
    const free_merging *self = context;
    picked_form form = form_of(self, tensor);
    return picked_recall(self->head.work, tensor, &form, NULL) == DIDI_OK;
}

/* ---- the plan ---- */

static uint64_t filter_memory(const void *context, size_t tensor)
{
    const free_merging *self = context;
    const family_tensor *of = self->head.work->layers[tensor];
    uint64_t spare = memory_multiply(row_length(of), sizeof(float));
    return memory_add(spare, is_filtered(of) ? room_bytes(of)
                                             : stored_panels_memory(self->head.work, tensor));
}

static uint64_t merge_memory(const void *context, size_t tensor)
{
    const free_merging *self = context;
    uint64_t row = row_length(self->head.work->layers[tensor]);
    return memory_add(picked_memory(self->head.work, tensor), memory_multiply(row, sizeof(float)));
}

static uint64_t most_memory(const void *context, size_t tensor)
{
    return larger(filter_memory(context, tensor), merge_memory(context, tensor));
}

static stored_size size(const void *context, size_t tensor)
{
    const free_merging *self = context;
    picked_form form = form_of(self, tensor);
    return picked_size(self->head.work, tensor, &form);
}

static double flops(const void *context, size_t tensor)
{
    const free_merging *self = context;
    const work *of = self->head.work;
    double numbers = (double)of->layers[tensor]->elements;
    double each = is_filtered(of->layers[tensor]) ? 20 * log2(numbers + 1) : 4;
    return each * numbers * (double)of->options.task_count;
}

static int plan(void *context, didi_error *error)
{
    static const stored_cost cost = {
        .memory = most_memory, .flops = flops, .size = size, .passes = 2};
    const free_merging *self = context;
    work *of = self->head.work;
    int status = stored_plan(of, &cost, self, error);
    for (size_t l = 0; l < of->layer_count; l++)
        if (is_filtered(of->layers[l]))
            of->plan.disk_bytes = memory_add(
                of->plan.disk_bytes, memory_multiply(of->layers[l]->elements, sizeof(float)));
    return status;
}

static const method_stage stages[] = {
    {.name = "filter",
     .told_as = DIDI_STAGE_DECOMPOSE,
     .share = 60,
     .each = filter_tensor,
     .recall = recall_filtered,
     .memory = filter_memory},
    {.name = "rescale", .told_as = DIDI_STAGE_ALLOCATE, .share = 1, .once = rescale},
    {.name = "places",
     .told_as = DIDI_STAGE_REFINE,
     .share = 30,
     .each = merge_tensor,
     .recall = recall_merged,
     .memory = merge_memory},
};

const didi_method free_method = {
    .name = "free",
    .summary = "a sum behind a filter of frequencies, and for each task its largest numbers",
    .options = options,
    .self_bytes = sizeof(free_merging),
    .stages = stages,
    .stage_count = sizeof stages / sizeof *stages,
    .open = open_free,
    .plan = plan,
    .close = close_free,
};
