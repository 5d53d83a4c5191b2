/* SPDX-License-Identifier: Apache-2.0 */
/* Each fine-tune as a LoRA: its task vector cut to its leading singular triplets, matrix by matrix,
 * as extraction tools do (mergekit's extract_lora, whose largest rank is 128). Nothing is shared;
 * vectors are kept whole. */
#include "src/methods/experts.h"

typedef struct svd_lora {
    experts experts;
    size_t rank;
} svd_lora;

static const method_option options[] = {
    {.name = "rank",
     .kind = METHOD_COUNT,
     .offset = offsetof(svd_lora, rank),
     .standard = 128,
     .lowest = 1,
     .highest = 65536,
     .help = "components of each task's matrices; what has no more is kept whole"},
    {.name = NULL},
};

static expert_part part_of(const void *method, const family_tensor *of)
{
    const svd_lora *self = method;
    return expert_is_matrix(of) ? expert_factors(of, self->rank) : expert_delta();
}

static int open_parts(void *self, didi_error *error)
{
    return experts_open(self, part_of, error);
}

const didi_method svd_lora_method = {
    .name = "svd_lora",
    .summary = "each task vector cut to a low rank: a LoRA for every task",
    .options = options,
    .self_bytes = sizeof(svd_lora),
    .stages = experts_stages,
    .stage_count = EXPERTS_STAGES,
    .open = open_parts,
    .plan = experts_plan,
    .close = experts_close,
};
