/* SPDX-License-Identifier: Apache-2.0 */
/* Made-up layers on their way through the stages. */
#include "tests/unit/sample_summary.h"

#include "src/budget/ranks.h"
#include "tests/unit/support.h"

#include <stdlib.h>
#include <string.h>

void sample_must(int status, const didi_error *error)
{
    if (status != DIDI_OK)
        fail_msg("%s: %s: %s", didi_status_name(status), error->subject, error->message);
}

layer_summary sample_summary(layer *target, didi_weighting weighting)
{
    layer_summary made;
    didi_error error = {0};
    sample_must(summary_create(&made, target->tasks, &error), &error);
    for (size_t t = 0; t < target->tasks; t++) {
        made.energy[t] = target->energy[t];
        made.error[t] = 1; /* so that it serves as the tasks' weights below */
    }
    solve_weights(weighting, 1, made.error, made.energy, target->tasks, made.weight);
    layer_set_weights(target, made.weight);
    return made;
}

void sample_allocate(const layer *target, layer_summary *summary, uint64_t budget)
{
    size_t count = target->tasks + 1;
    allocate_block *blocks = support_allocate(count * sizeof *blocks);
    allocate_result result = {0};
    didi_error error = {0};
    for (size_t j = 0; j < count; j++)
        blocks[j] = (allocate_block){
            .sigma = summary->sigma[j],
            .count = summary->count[j],
            .weight = j == 0 ? target->weight_sum : target->weight[j - 1],
            .cost = target->rows + target->columns,
        };
    sample_must(allocate_exact(blocks, count, budget, &result, &error), &error);
    for (size_t j = 0; j < count; j++)
        summary->rank[j] = blocks[j].rank;
    free(blocks);
}
