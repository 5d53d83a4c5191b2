/* SPDX-License-Identifier: Apache-2.0 */
/* Parameter competition balancing ("PCB-Merging", Du et al. 2024). Of each number of a task vector
 * a score: exp(T s^2) tanh(tau_t sum_t tau_t), with s its clipped magnitude between 0 and 1. The
 * scores above a threshold become shares between 0 and 1, by which the clipped numbers are
 * averaged. Magnitudes, scores and their thresholds are of whole models: four passes find them, a
 * fifth merges. One model for all tasks. */
#include "src/math/math.h"
#include "src/methods/methods.h"
#include "src/methods/ranking.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Per task: the ends that magnitudes are clipped to, and those of the scores that count. */
typedef struct ends {
    float low, high, floor, top;
} ends;
enum { ENDS = sizeof(ends) / sizeof(float), LISTS = 2, BLOCK = 512 };

typedef struct pcb {
    method_head head;
    double ratio, clip, scale;
    ranking ranking; /* LISTS for each task: of magnitudes, then of scores */
    size_t passes;   /* ended */
    ends *ends;      /* T */
    bool known;      /* all of them, by an earlier attempt */
} pcb;

static const char *const file = "pcb.state";

static const method_option options[] = {
    {.name = "ratio",
     .kind = METHOD_NUMBER,
     .offset = offsetof(pcb, ratio),
     .standard = 0.1, /* the authors'; 0.05 for vision models */
     .lowest = 0,
     .highest = 1,
     .above_lowest = true,
     .help = "share of each task vector's numbers that counts, those of the highest scores"},
    {.name = "clip",
     .kind = METHOD_NUMBER,
     .offset = offsetof(pcb, clip),
     .standard = 1e-4,
     .lowest = 0,
     .highest = 0.4,
     .help = "share of the magnitudes that is clipped at either end"},
    {.name = "scale",
     .kind = METHOD_NUMBER,
     .offset = offsetof(pcb, scale),
     .standard = 1.2, /* the authors' before they search */
     .lowest = 0,
     .highest = 10,
     .above_lowest = true,
     .help = "factor of what is merged"},
    {.name = NULL},
};

/* Ranks from the smallest, as the authors count, and from the largest. */
static void ask(pcb *self, double low, double high, bool magnitudes)
{
    double numbers = (double)self->ranking.numbers;
    uint64_t last = self->ranking.numbers > 0 ? self->ranking.numbers - 1 : 0;
    uint64_t first = (uint64_t)floor(numbers * low);
    double end = floor(numbers * (1 - high) - 1);
    uint64_t second = end > 0 ? (uint64_t)end : 0;
    for (size_t t = 0; t < self->head.work->options.task_count; t++) {
        ranking_ask(&self->ranking, LISTS * t, last - smaller(first, last), magnitudes);
        ranking_ask(&self->ranking, LISTS * t + 1, last - smaller(second, last), magnitudes);
    }
}

static int open_pcb(void *context, didi_error *error)
{
    pcb *self = context;
    size_t tasks = self->head.work->options.task_count;
    self->ends = memory_zeroed(tasks, sizeof *self->ends);
    if (self->ends == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "thresholds of %zu tasks", tasks);
    int status =
        ranking_open(&self->ranking, LISTS * tasks, ranking_elements(self->head.work), error);
    if (status == DIDI_OK)
        ask(self, self->clip, self->clip, true);
    return status;
}

static void close_pcb(void *context)
{
    pcb *self = context;
    ranking_close(&self->ranking);
    free(self->ends);
}

/* ---- scores ---- */

static double clipped(const ends *at, float tau)
{
    return (double)fminf(fmaxf(fabsf(tau), at->low), at->high);
}

/* scores of `count` numbers of a task; `sum` over all tasks. */
static void score(const ends *at, size_t tasks, const float *tau, const double *sum, size_t count,
                  float *scores)
{
    double width = (double)at->high - (double)at->low;
    for (size_t i = 0; i < count; i++) {
        double s = width > 0 ? (clipped(at, tau[i]) - (double)at->low) / width : 0;
        scores[i] = (float)(exp((double)tasks * s * s) * tanh((double)tau[i] * sum[i]));
    }
}

static void add_up(const method_panel *panel, uint64_t first, size_t count, double *sum)
{
    memset(sum, 0, count * sizeof *sum);
    for (size_t t = 0; t < panel->tasks; t++)
        for (size_t i = 0; i < count; i++)
            sum[i] += (double)panel->tau[t][first + i];
}

typedef struct looking {
    const pcb *self;
    uint64_t *tables;
} looking;

static void count_both(const looking *of, size_t task, const float *values, size_t count)
{
    for (size_t i = 0; i < LISTS; i++)
        ranking_count(&of->self->ranking, LISTS * task + i, values, count, of->tables);
}

static void count_panel(void *context, const method_panel *panel)
{
    const looking *of = context;
    if (of->self->passes < 2) {
        for (size_t t = 0; t < panel->tasks; t++)
            count_both(of, t, panel->tau[t], panel->count);
        return;
    }
    for (uint64_t first = 0; first < panel->count; first += BLOCK) {
        double sum[BLOCK];
        float scores[BLOCK];
        size_t part = smaller(panel->count - first, BLOCK);
        add_up(panel, first, part, sum);
        for (size_t t = 0; t < panel->tasks; t++) {
            score(&of->self->ends[t], panel->tasks, panel->tau[t] + first, sum, part, scores);
            count_both(of, t, scores, part);
        }
    }
}

static int count_tensor(void *context, size_t tensor, stored *out, didi_error *error)
{
    pcb *self = context;
    looking of = {.self = self};
    int status = ranking_tables(&self->ranking, &of.tables, error);
    if (status == DIDI_OK)
        status = stored_look_at_panels(out, count_panel, &of, error);
    if (status == DIDI_OK)
        ranking_add(&self->ranking, self->head.work->layers[tensor]->elements, of.tables);
    free(of.tables);
    return status;
}

static int save(const pcb *self, didi_error *error)
{
    size_t tasks = self->head.work->options.task_count;
    double *table = memory_zeroed(tasks * ENDS, sizeof *table);
    if (table == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "thresholds of %zu tasks", tasks);
    for (size_t i = 0; i < tasks * ENDS; i++)
        table[i] = (double)((const float *)self->ends)[i];
    int status = work_save_table(self->head.work, file, "ends", tasks, ENDS, table, error);
    free(table);
    return status;
}

/* After passes 2 and 4 ends are known. */
static int settle(void *context, didi_error *error)
{
    pcb *self = context;
    if (self->known)
        return DIDI_OK;
    ranking_end_pass(&self->ranking);
    self->passes++;
    for (size_t t = 0; t < self->head.work->options.task_count && self->passes % 2 == 0; t++) {
        float low = ranking_value(&self->ranking, LISTS * t);
        float high = ranking_value(&self->ranking, LISTS * t + 1);
        if (self->passes == 2)
            self->ends[t] = (ends){.low = low, .high = fmaxf(high, low)};
        else
            self->ends[t].floor = low, self->ends[t].top = high;
    }
    if (self->passes == 2)
        ask(self, 1 - self->ratio, 0, false);
    return self->passes == 4 ? save(self, error) : DIDI_OK;
}

static int begin(void *context, didi_error *error)
{
    (void)error;
    pcb *self = context;
    size_t tasks = self->head.work->options.task_count;
    double *table = memory_zeroed(tasks * ENDS, sizeof *table);
    if (table != NULL &&
        work_read_table(self->head.work, file, "ends", tasks, ENDS, table, NULL) == DIDI_OK) {
        for (size_t i = 0; i < tasks * ENDS; i++)
            ((float *)self->ends)[i] = (float)table[i];
        self->known = true;
    }
    free(table);
    return DIDI_OK;
}

static bool is_known(void *context, size_t tensor)
{
    (void)tensor;
    const pcb *self = context;
    return self->known;
}

/* ---- merging ---- */

static double share_of(const ends *at, float score_found)
{
    double width = (double)at->top - (double)at->floor;
    double above = fmin(fmax((double)score_found, (double)at->floor), (double)at->top);
    return width > 0 ? (above - (double)at->floor) / width : 0;
}

static void merge_block(const pcb *self, const method_panel *panel, uint64_t first, size_t count)
{
    double sum[BLOCK];
    double value[BLOCK] = {0};
    double shares[BLOCK] = {0};
    float scores[BLOCK];
    add_up(panel, first, count, sum);
    for (size_t t = 0; t < panel->tasks; t++) {
        const ends *at = &self->ends[t];
        const float *tau = panel->tau[t] + first;
        score(at, panel->tasks, tau, sum, count, scores);
        for (size_t i = 0; i < count; i++) {
            double share = self->head.work->task_weight[t] * share_of(at, scores[i]);
            value[i] += share * ((tau[i] > 0) - (tau[i] < 0)) * clipped(at, tau[i]);
            shares[i] += share;
        }
    }
    for (size_t i = 0; i < count; i++)
        panel->shared[first + i] = (float)(self->scale * value[i] / fmax(shares[i], 1e-12));
}

static void fill(void *context, const method_panel *panel)
{
    for (uint64_t first = 0; first < panel->count; first += BLOCK)
        merge_block(context, panel, first, smaller(panel->count - first, BLOCK));
}

static int merge_tensor(void *self, size_t tensor, stored *out, didi_error *error)
{
    (void)tensor;
    return stored_shared_panels(out, fill, self, error);
}

static uint64_t count_memory(const void *context, size_t tensor)
{
    const pcb *self = context;
    return memory_add(stored_panels_memory(self->head.work, tensor),
                      ranking_memory(LISTS * self->head.work->options.task_count));
}

/* Most of it exp and tanh. */
static double flops(const void *context, size_t tensor)
{
    const pcb *self = context;
    const work *of = self->head.work;
    return 150.0 * (double)of->layers[tensor]->elements * (double)of->options.task_count;
}

static int plan(void *context, didi_error *error)
{
    static const stored_cost cost = {.memory = count_memory, .flops = flops, .passes = 5};
    const pcb *self = context;
    return stored_plan(self->head.work, &cost, self, error);
}

#define COUNTING(row)                                                                              \
    {                                                                                              \
        .name = (row), .told_as = DIDI_STAGE_DECOMPOSE, .share = 18, .each = count_tensor,         \
        .in_memory = true, .recall = is_known, .memory = count_memory                              \
    }
#define SETTLING(row)                                                                              \
    {                                                                                              \
        .name = (row), .told_as = DIDI_STAGE_DECOMPOSE, .share = 1, .once = settle                 \
    }

static const method_stage stages[] = {
    COUNTING("magnitudes"),
    SETTLING("settle"),
    COUNTING("magnitudes_exactly"),
    SETTLING("settle_exactly"),
    COUNTING("scores"),
    SETTLING("settle_scores"),
    COUNTING("scores_exactly"),
    SETTLING("settle_scores_exactly"),
    {.name = "pcb", .told_as = DIDI_STAGE_REFINE, .share = 20, .each = merge_tensor},
};

const didi_method pcb_method = {
    .name = "pcb",
    .summary = "numbers of the task vectors by how much they matter to a task and agree with the "
               "others: one model for all tasks",
    .options = options,
    .flags = METHOD_ONE_MODEL,
    .self_bytes = sizeof(pcb),
    .stages = stages,
    .stage_count = sizeof stages / sizeof *stages,
    .open = open_pcb,
    .plan = plan,
    .begin = begin,
    .close = close_pcb,
};
