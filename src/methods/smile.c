/* SPDX-License-Identifier: Apache-2.0 */
/* SMILE (Tang et al. 2024) with the task known: experts of low rank beside each linear layer, whose
 * bias is kept whole; everything else stays the base's. FusionBench's SmileMoELinear without its
 * router, which chooses an expert for each token. */
#include "src/methods/experts.h"

#include "src/base/base.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct smile {
    experts experts;
    double share;
    size_t rank;
} smile;

static const method_option options[] = {
    {.name = "rank_share",
     .kind = METHOD_NUMBER,
     .offset = offsetof(smile, share),
     .standard = 1.0 / 6, /* the authors' 128 of 768 */
     .lowest = 0,
     .highest = 1,
     .above_lowest = true,
     .help = "share of full rank that each expert keeps, rounded, and at least one component"},
    {.name = "rank",
     .kind = METHOD_COUNT,
     .offset = offsetof(smile, rank),
     .standard = 0,
     .lowest = 0,
     .highest = 65536,
     .help = "components of each expert; 0: what rank_share says"},
    {.name = NULL},
};

static bool is_linear(const family_tensor *of)
{
    static const char *const weights[] = {"weight", "*.weight"};
    return expert_has_two_axes(of) && !work_is_embedding(of->name) &&
           family_name_matches(of->name, weights, sizeof weights / sizeof *weights);
}

static int compare_names(const void *name, const void *tensor)
{
    return strcmp(name, ((const family_tensor *)tensor)->name);
}

/* Whether this is the bias of a linear layer. */
static bool is_its_bias(const family *all, const family_tensor *of)
{
    static const char end[] = "bias";
    size_t length = strlen(of->name);
    size_t before = length >= strlen(end) ? length - strlen(end) : 0;
    if (length < strlen(end) || strcmp(of->name + before, end) != 0 || expert_is_matrix(of))
        return false;
    char *name = memory_format("%.*sweight", (int)before, of->name);
    const family_tensor *weight = name != NULL ? bsearch(name, all->tensors, all->tensor_count,
                                                         sizeof *all->tensors, compare_names)
                                               : NULL;
    free(name);
    return weight != NULL && is_linear(weight);
}

static expert_part part_of(const void *method, const family_tensor *of)
{
    const smile *self = method;
    size_t full = expert_full_rank(of);
    if (!is_linear(of))
        return is_its_bias(self->experts.head.work->family, of) ? expert_delta() : expert_nothing();
    if (self->rank > 0)
        return expert_factors(of, self->rank);
    return expert_factors(of, larger((size_t)lround(self->share * (double)full), 1));
}

static int open_parts(void *self, didi_error *error)
{
    return experts_open_named(self, is_linear, part_of, "a linear layer", error);
}

const didi_method smile_method = {
    .name = "smile",
    .summary = "experts of low rank beside each linear layer, the rest as in the base",
    .options = options,
    .self_bytes = sizeof(smile),
    .stages = experts_stages,
    .stage_count = EXPERTS_STAGES,
    .open = open_parts,
    .plan = experts_plan,
    .close = experts_close,
};
