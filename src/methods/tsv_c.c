/* SPDX-License-Identifier: Apache-2.0 */
/* TSV-Compress (Gargiulo et al. 2025, "Task Singular Vectors"): of each task vector's matrices the
 * leading 1/T of all singular triplets; whatever has not two axes is kept whole. Nothing is shared.
 * As the authors' TSVC_utils.py does it. */
#include "src/methods/experts.h"

typedef struct tsv_c {
    experts experts;
    double share;
} tsv_c;

static const method_option options[] = {
    {.name = "rank_share",
     .kind = METHOD_NUMBER,
     .offset = offsetof(tsv_c, share),
     .standard = 0, /* the paper's: one part for each task */
     .lowest = 0,
     .highest = 1,
     .help = "share of full rank that each task keeps; 0: one over the number of tasks"},
    {.name = NULL},
};

static expert_part part_of(const void *method, const family_tensor *of)
{
    const tsv_c *self = method;
    size_t tasks = self->experts.head.work->options.task_count;
    if (!expert_has_two_axes(of))
        return expert_delta();
    return expert_factors(of, self->share > 0 ? expert_rank_of(of, self->share)
                                              : expert_full_rank(of) / tasks);
}

static int open_parts(void *self, didi_error *error)
{
    return experts_open(self, part_of, error);
}

const didi_method tsv_c_method = {
    .name = "tsv_c",
    .summary = "1/T of the singular triplets of each task vector, the rest of the model whole",
    .options = options,
    .self_bytes = sizeof(tsv_c),
    .stages = experts_stages,
    .stage_count = EXPERTS_STAGES,
    .open = open_parts,
    .plan = experts_plan,
    .close = experts_close,
};
