/* SPDX-License-Identifier: Apache-2.0 */
/* Twin-Merging (Lu et al. 2024) with the task known: W_0 plus `scale` times the sum of the task
 * vectors is shared, and of what a task misses there the leading singular triplets are its expert.
 * Vectors, biases and classifiers are not merged: each task keeps its own, as the authors' code
 * serves them. Their router, which needs data, is not made. */
#include "src/methods/experts.h"

typedef struct twin {
    experts experts;
    double scale, share;
} twin;

static const method_option options[] = {
    {.name = "scale",
     .kind = METHOD_NUMBER,
     .offset = offsetof(twin, scale),
     .standard = 0.29, /* the authors' for vision */
     .lowest = 0,
     .highest = 10,
     .above_lowest = true,
     .help = "factor of the sum of the task vectors, which all tasks share"},
    {.name = "rank_share",
     .kind = METHOD_NUMBER,
     .offset = offsetof(twin, share),
     .standard = 0.1, /* the authors' mask rate of 0.9 */
     .lowest = 0,
     .highest = 1,
     .above_lowest = true,
     .help = "share of full rank that each expert keeps, rounded down"},
    {.name = NULL},
};

static bool is_apart(const family_tensor *of)
{
    static const char *const names[] = {"*classifier*", "*bias*"};
    return !expert_is_matrix(of) ||
           family_name_matches(of->name, names, sizeof names / sizeof *names);
}

static expert_part part_of(const void *method, const family_tensor *of)
{
    const twin *self = method;
    if (is_apart(of))
        return expert_delta();
    expert_part part = expert_factors(of, expert_rank_of(of, self->share));
    if (part.form == EXPERT_DELTA)
        return part; /* all of it, whatever is shared */
    part.share = SHARE_SUM;
    part.scale = self->scale;
    return part;
}

static int open_parts(void *self, didi_error *error)
{
    return experts_open(self, part_of, error);
}

const didi_method twin_method = {
    .name = "twin",
    .summary = "a scaled sum of the task vectors, and experts of low rank for the rest",
    .options = options,
    .self_bytes = sizeof(twin),
    .stages = experts_stages,
    .stage_count = EXPERTS_STAGES,
    .open = open_parts,
    .plan = experts_plan,
    .close = experts_close,
};
