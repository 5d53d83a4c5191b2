/* SPDX-License-Identifier: Apache-2.0 */
/* Which matrices are kept whole although they could have factors (docs/method.md, "What is kept
 * dense"). The budget is estimated, as nothing is known of ranks and widths yet. */
#include "src/work/dense.h"

#include "src/base/base.h"
#include "src/package/package.h"

#include <string.h>

/* A sensitive matrix is kept dense when it holds at most this share of a model's parameters. */
#define SENSITIVE_SHARE_MAX 0.025

/* Names the field gives to embeddings: small against their effect, so cheap to keep whole. */
static const char *const sensitive_patterns[] = {
    "*embed*", "*.wpe.*", "*.wte.*", "wpe.*", "wte.*", "*position*", "*pos_emb*", "*cls_token*"};

bool work_is_embedding(const char *name)
{
    return family_name_matches(name, sensitive_patterns,
                               sizeof sensitive_patterns / sizeof *sensitive_patterns);
}

/* At least so many deltas are stored of a tensor kept whole. */
static double dense_copies(const didi_merge_options *options, const family *self,
                           const family_tensor *tensor)
{
    if (options->dense == DIDI_DENSE_AUTO)
        return tensor->rank_limit > 0 || options->shared_merge == DIDI_SHARED_NONE
                   ? (double)self->task_count
                   : 1.0;
    return options->dense == DIDI_DENSE_PER_TASK ? (double)self->task_count
           : options->dense == DIDI_DENSE_MEAN   ? 1.0
                                                 : 0.0;
}

/* Bits that numbers of dense tensors usually have. */
static double usual_bits(const didi_merge_options *options)
{
    enum { AUTO_BITS = 5 };
    bool automatic = options->precision == DIDI_PRECISION_AUTO;
    return automatic ? AUTO_BITS : (double)precision_bits(precision_of_dense(options->precision));
}

/* A budget as so many parameters of dense tensors. */
static double parameters_of_budget(const didi_merge_options *options, const family *self)
{
    double bytes = 0;
    switch (options->budget_unit) {
    case DIDI_BUDGET_PARAMETERS:
        return options->budget * (double)self->parameters;
    case DIDI_BUDGET_MAX_ERROR:
        return (double)self->parameters;
    case DIDI_BUDGET_BYTES_RATIO:
        for (size_t f = 0; f < checkpoint_file_count(self->base); f++)
            bytes += options->budget * (double)checkpoint_file_at(self->base, f)->bytes;
        break;
    default:
        bytes = options->budget;
    }
    return bytes * 8 / usual_bits(options);
}

/* What files take without dense tensors, one component being stored: at most about that many
 * parameters. 0 under a budget of parameters. */
static double parameters_of_files(const didi_merge_options *options, const family *self)
{
    enum { FILE_BYTES = 96, ENTRIES_BYTES = 512 };
    double sides = 0;
    if (options->budget_unit == DIDI_BUDGET_PARAMETERS)
        return 0;
    for (size_t i = 0; i < self->tensor_count; i++) {
        double own = (double)(self->tensors[i].rows + self->tensors[i].columns);
        if (self->tensors[i].kind == FAMILY_MATRIX && (sides == 0 || own < sides))
            sides = own;
    }
    double bytes = FILE_BYTES * ((double)self->task_count + 1) + ENTRIES_BYTES + 4 * sides;
    return bytes * 8 / usual_bits(options);
}

/* What an entry of a header takes, likewise. */
static double parameters_of_entry(const didi_merge_options *options, const family_tensor *tensor)
{
    enum { ENTRY_BYTES = 160 };
    if (options->budget_unit == DIDI_BUDGET_PARAMETERS)
        return 0;
    return (ENTRY_BYTES + (double)strlen(tensor->name)) * 8 / usual_bits(options);
}

void work_keep_sensitive(const didi_merge_options *options, family *self)
{
    bool apart = options->dense == DIDI_DENSE_PER_TASK || options->dense == DIDI_DENSE_AUTO;
    double budget = parameters_of_budget(options, self);
    double headers = parameters_of_files(options, self);
    double stored = 0;
    for (size_t i = 0; i < self->tensor_count; i++) {
        const family_tensor *tensor = &self->tensors[i];
        if (tensor->kind != FAMILY_DENSE)
            continue;
        double copies = dense_copies(options, self, tensor);
        stored += copies * (double)tensor->elements;
        headers += copies * parameters_of_entry(options, tensor);
    }
    for (size_t i = 0; i < self->tensor_count && apart; i++) {
        family_tensor *tensor = &self->tensors[i];
        double cost = (double)self->task_count * (double)tensor->elements;
        double entries = (double)self->task_count * parameters_of_entry(options, tensor);
        if (tensor->kind != FAMILY_MATRIX || !work_is_embedding(tensor->name) ||
            family_name_matches(tensor->name, options->low_rank_tensors,
                                options->low_rank_tensor_count) ||
            (double)tensor->elements > SENSITIVE_SHARE_MAX * (double)self->parameters ||
            stored + cost > 0.5 * budget || stored + cost + headers + entries > budget)
            continue;
        tensor->kind = FAMILY_DENSE;
        stored += cost;
        headers += entries;
    }
}
