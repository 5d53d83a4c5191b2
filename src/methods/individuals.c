/* SPDX-License-Identifier: Apache-2.0 */
/* All fine-tunes as they are: every task vector whole, in its expert. What others are compared
 * with. */
#include "src/methods/experts.h"

typedef struct individuals {
    experts experts;
} individuals;

static expert_part part_of(const void *self, const family_tensor *of)
{
    (void)self;
    (void)of;
    return expert_delta();
}

static int open_parts(void *self, didi_error *error)
{
    return experts_open(self, part_of, error);
}

const didi_method individuals_method = {
    .name = "individuals",
    .summary = "every fine-tune as it is: its whole task vector",
    .self_bytes = sizeof(individuals),
    .stages = experts_stages,
    .stage_count = EXPERTS_STAGES,
    .open = open_parts,
    .plan = experts_plan,
    .close = experts_close,
};
