/* SPDX-License-Identifier: Apache-2.0 */
/* In the manner of MMER (Li et al. 2025): the vector of TIES with its mean, times `scale`, and for
 * each task a mask of it by the rule of TALL-masks. No code of the authors is known; this is our
 * reading of the paper, without its encoders of modalities and without validation. */
#include "src/methods/tall.h"

static const method_option options[] = {
    {.name = "scale",
     .kind = METHOD_NUMBER,
     .offset = offsetof(tall, scale),
     .standard = 2,
     .lowest = 0,
     .highest = 10,
     .above_lowest = true,
     .help = "factor of the vector of all tasks"},
    TALL_OPTION_LAMBDA(0.6),
    TALL_OPTION_DENSITY,
    {.name = NULL},
};

static int open_mmer(void *context, didi_error *error)
{
    tall *self = context;
    return tall_open(self, ELECTION_MEAN, self->scale, error);
}

static const method_stage stages[] = {TALL_ROWS, TALL_ROW_MASKS};

const didi_method mmer_method = {
    .name = "mmer",
    .summary = "one vector for all tasks by the mean of TIES, and for each a mask of it",
    .options = options,
    .self_bytes = sizeof(tall),
    .stages = stages,
    .stage_count = sizeof stages / sizeof *stages,
    .open = open_mmer,
    .plan = tall_plan_masks,
    .begin = tall_begin,
    .close = tall_close,
};
