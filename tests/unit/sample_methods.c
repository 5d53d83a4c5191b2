/* SPDX-License-Identifier: Apache-2.0 */
/* Tables gone through. */
#include "tests/unit/sample_methods.h"

#include "src/base/file.h"
#include "tests/unit/sample_layer.h"
#include "tests/unit/sample_summary.h"
#include "tests/unit/support.h"

void sample_methods_refuse(sample_family *self, const sample_refusal *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        didi_merge *merge = NULL;
        didi_error error = {0};
        self->options.method = rows[i].method;
        self->options.method_options = rows[i].options;
        int status = didi_merge_open(&self->options, NULL, &merge, &error);
        didi_merge_close(merge);
        if (status == DIDI_OK) /* what is known of the tasks decides */
            status = sample_merge(&self->options, 1, 0, &error);
        assert_int_equal(status, DIDI_INVALID);
        assert_string_equal(error.subject, rows[i].subject);
    }
}

double sample_methods_check_dtypes(sample_family *self, double (*measure)(sample_family *sample),
                                   const sample_noise *noise)
{
    const struct {
        didi_precision precision;
        double noise;
    } cases[] = {{DIDI_PRECISION_BF16, noise->bf16},
                 {DIDI_PRECISION_F16, noise->f16},
                 {DIDI_PRECISION_INT8, noise->int8},
                 {DIDI_PRECISION_INT4, noise->int4},
                 {DIDI_PRECISION_INT3, noise->int3}};
    self->options.precision = DIDI_PRECISION_F32;
    double best = measure(self);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i += SUPPORT_SANITIZED ? 3 : 1) {
        self->options.precision = cases[i].precision;
        sample_assert_near(measure(self), best, cases[i].noise);
    }
    return best;
}

void sample_methods_check_faults(sample_family *self, const sample_faults *dense)
{
    const struct {
        const char *point, *how;
        size_t dense;
    } faults[] = {{"alloc", "", dense->memory},
                  {"pwrite", "", dense->writes},
                  {"pwrite", "+:ENOSPC", dense->full_disks},
                  {"fsync", "", dense->syncs},
                  {"rename", "", dense->renames}};
    sample_trouble_prepare(self);
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
        if (faults[i].dense > 0)
            sample_check_faults(self, faults[i].point, faults[i].how, faults[i].dense);
    didi_error error = {0};
    sample_must(file_remove_tree(self->output, "reference", &error), &error);
}
