/* SPDX-License-Identifier: Apache-2.0 */
/* TALL-masks (Wang et al. 2024, "Localizing Task Information for Improved Model Merging and
 * Compression") over TIES or over the sum of the task vectors: each task is served the numbers of
 * that vector that its mask takes. The paper finds lambda for each task by validation; here it is
 * one for all. */
#include "src/methods/tall.h"

static const method_option options[] = {
    TALL_OPTION_LAMBDA(0.4),
    TALL_OPTION_VECTOR(TALL_TIES),
    TALL_OPTION_DENSITY,
    {.name = NULL},
};

/* Values that agree are summed, as the authors do for masks, not averaged. */
static int open_tall(void *self, didi_error *error)
{
    return tall_open(self, ELECTION_SUM, 1, error);
}

static const method_stage stages[] = {TALL_ROWS, TALL_ROW_MASKS};

const didi_method tall_ties_method = {
    .name = "tall_ties",
    .summary = "one vector for all tasks by TIES, and for each a mask of it",
    .options = options,
    .self_bytes = sizeof(tall),
    .stages = stages,
    .stage_count = sizeof stages / sizeof *stages,
    .open = open_tall,
    .plan = tall_plan_masks,
    .begin = tall_begin,
    .close = tall_close,
};
