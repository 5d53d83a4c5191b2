/* SPDX-License-Identifier: Apache-2.0 */
/* How much is stored, against the budget, in the budget's unit. */
#include "src/methods/didi/didi_method.h"

#include <math.h>

/* Bytes that count as one; 0 where parameters are counted. */
static double unit_bytes(const didi *self)
{
    switch (self->work->options.budget_unit) {
    case DIDI_BUDGET_BYTES:
    case DIDI_BUDGET_BYTES_RATIO:
        return (double)work_base_bytes(self->work);
    case DIDI_BUDGET_PARAMETERS:
    case DIDI_BUDGET_MAX_ERROR:
        return self->work->options.precision == DIDI_PRECISION_AUTO
                   ? 2 * (double)self->work->plan.parameters
                   : 0;
    }
    return 0;
}

/* Exact for the parameters chosen, in proportion for fewer. */
static double bytes_at(const didi *self, double factors)
{
    double dense = (double)self->chosen_dense;
    double taken = (double)self->factor_parameters;
    if (self->chosen_bytes > 0 && taken > 0)
        return dense + ((double)self->chosen_bytes - dense) * factors / taken;
    double width = precision_entry_bytes(precision_of_matrices(self->work->options.precision));
    double whole = precision_entry_bytes(precision_of_dense(self->work->options.precision));
    return factors * width + (double)self->dense_stored * whole;
}

static double kept(const didi *self, double unit)
{
    if (self->work->extension == NULL)
        return 0;
    return unit > 0 ? (double)extension_bytes(self->work->extension) / unit
                    : (double)extension_parameters(self->work->extension) /
                          (double)self->work->plan.parameters;
}

double didi_ratio(const didi *self, double factors)
{
    double unit = unit_bytes(self);
    double parameters = factors + (double)self->dense_stored;
    return kept(self, unit) + (unit > 0 ? bytes_at(self, factors) / unit
                                        : parameters / (double)self->work->plan.parameters);
}

double didi_ratio_target(const didi *self)
{
    double unit = unit_bytes(self);
    if (self->work->options.budget_unit == DIDI_BUDGET_MAX_ERROR)
        return NAN;
    double asked = self->work->options.budget_unit == DIDI_BUDGET_BYTES
                       ? self->work->options.budget / unit
                       : self->work->options.budget;
    return kept(self, unit) + asked;
}
