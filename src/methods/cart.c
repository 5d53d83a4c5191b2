/* SPDX-License-Identifier: Apache-2.0 */
/* CART-Indexing (Choi et al. 2024, "Revisiting Weight Averaging"): the mean of the fine-tunes is
 * shared, and of a task's distance to it the leading singular triplets are its expert. So in the
 * matrices of attention and MLPs; everything else a task keeps whole. */
#include "src/methods/experts.h"

typedef struct cart {
    experts experts;
    double share;
} cart;

static const method_option options[] = {
    {.name = "rank_share",
     .kind = METHOD_NUMBER,
     .offset = offsetof(cart, share),
     .standard = 0.12, /* the authors' for eight tasks; 0.32 for twenty */
     .lowest = 0,
     .highest = 1,
     .above_lowest = true,
     .help = "share of full rank that each expert keeps, rounded down, and at least one component"},
    {.name = NULL},
};

static bool is_averaged(const family_tensor *of)
{
    return expert_has_two_axes(of) && (expert_is_attention(of->name) || expert_is_mlp(of->name));
}

static expert_part part_of(const void *method, const family_tensor *of)
{
    const cart *self = method;
    expert_part part = expert_factors(of, larger(expert_rank_of(of, self->share), 1));
    if (!is_averaged(of) || part.form == EXPERT_DELTA)
        return expert_delta();
    part.share = SHARE_MEAN;
    part.scale = 1;
    return part;
}

static int open_parts(void *self, didi_error *error)
{
    return experts_open_named(self, is_averaged, part_of, "attention or an MLP", error);
}

const didi_method cart_method = {
    .name = "cart",
    .summary = "the mean of the fine-tunes, and experts of low rank around it",
    .options = options,
    .self_bytes = sizeof(cart),
    .stages = experts_stages,
    .stage_count = EXPERTS_STAGES,
    .open = open_parts,
    .plan = experts_plan,
    .close = experts_close,
};
