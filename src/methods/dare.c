/* SPDX-License-Identifier: Apache-2.0 */
/* DARE (Yu et al. 2024): numbers of each task vector are dropped at random, the others made larger
 * by as much as is missing, and what is left of all tasks is added up. One model for all tasks.
 * Which numbers these are depends on the seed, the task's place, the tensor's name and the number's
 * own place in it, and on nothing else. */
#include "src/math/math.h"
#include "src/methods/methods.h"

#include <math.h>

typedef struct dare {
    method_head head;
    double drop, scale;
    bool rescale;
} dare;

static const method_option options[] = {
    {.name = "drop",
     .kind = METHOD_NUMBER,
     .offset = offsetof(dare, drop),
     .standard = 0.2, /* the authors', where models are merged */
     .lowest = 0,
     .highest = 0.999,
     .help = "share of each task vector's numbers that is dropped, by the specification's seed"},
    {.name = "rescale",
     .kind = METHOD_FLAG,
     .offset = offsetof(dare, rescale),
     .standard = true,
     .help = "divide what is left by 1 - drop"},
    {.name = "scale",
     .kind = METHOD_NUMBER,
     .offset = offsetof(dare, scale),
     .standard = 0.3, /* as of task_arithmetic */
     .lowest = 0,
     .highest = 10,
     .above_lowest = true,
     .help = "factor of the sum of what is left of the task vectors"},
    {.name = NULL},
};

typedef struct dropping {
    const dare *self;
    uint64_t seed; /* of the tensor */
} dropping;

/* FNV-1a: the same on every machine. */
static uint64_t hash_name(const char *name)
{
    uint64_t hash = 0xcbf29ce484222325U;
    for (; *name != '\0'; name++)
        hash = (hash ^ (unsigned char)*name) * 0x100000001b3U;
    return hash;
}

static void fill(void *context, const method_panel *panel)
{
    const dropping *of = context;
    const dare *self = of->self;
    double factor = self->scale / (self->rescale ? 1 - self->drop : 1);
    uint64_t below = (uint64_t)ldexp(self->drop, 53);
    for (uint64_t i = 0; i < panel->count; i++) {
        double sum = 0;
        for (size_t t = 0; t < panel->tasks; t++) {
            uint64_t any = random_mix(random_mix(of->seed, t), panel->first + i) >> 11;
            if (any >= below)
                sum += self->head.work->task_weight[t] * (double)panel->tau[t][i];
        }
        panel->shared[i] = (float)(factor * sum);
    }
}

static int merge_tensor(void *context, size_t tensor, stored *out, didi_error *error)
{
    const dare *self = context;
    const work *of = self->head.work;
    dropping how = {self, random_mix(of->options.seed, hash_name(of->layers[tensor]->name))};
    return stored_shared_panels(out, fill, &how, error);
}

static const method_stage stages[] = {
    {.name = "dare", .told_as = DIDI_STAGE_REFINE, .share = 90, .each = merge_tensor},
};

const didi_method dare_method = {
    .name = "dare",
    .summary = "a scaled sum of what is left of the task vectors when numbers are dropped at "
               "random: one model for all tasks",
    .options = options,
    .flags = METHOD_ONE_MODEL,
    .self_bytes = sizeof(dare),
    .stages = stages,
    .stage_count = sizeof stages / sizeof *stages,
};
