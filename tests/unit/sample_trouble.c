/* SPDX-License-Identifier: Apache-2.0 */
/* Faults, one after the other, through whole merges. */
#include "tests/unit/sample_trouble.h"

#include "src/base/fault.h"
#include "src/base/file.h"
#include "tests/unit/sample_summary.h"
#include "tests/unit/support.h"

#include <stdio.h>
#include <string.h>

void sample_trouble_prepare(sample_family *self)
{
    didi_error error = {0};
    self->options.output_name = "reference";
    sample_must(sample_merge(&self->options, 1, 0, &error), &error);
    self->options.output_name = "package";
}

void sample_assert_whole_or_absent(const sample_family *self)
{
    bool there = support_exists(self->output, "package");
    assert_int_equal(support_entries(self->output), 1 + there);
    if (there)
        sample_package_compare(self, "reference", "package");
}

void sample_start_over(const sample_family *self)
{
    didi_error error = {0};
    sample_must(file_remove_contents(self->work, &error), &error);
    sample_must(file_remove_tree(self->output, "package", &error), &error);
}

/* Makes the nth pass of a point fail through a whole merge; false when it was never reached. */
static bool check_fault(sample_family *self, const char *point, size_t nth, const char *how)
{
    char fault[64];
    didi_error error = {0};
    sample_start_over(self);
    (void)snprintf(fault, sizeof fault, "%s:%zu%s", point, nth, how);
    assert_int_equal(fault_arm(fault), 0);
    int status = sample_merge(&self->options, 1, 0, &error);
    bool fired = fault_all_fired();
    assert_int_equal(fault_arm(NULL), 0);
    if (status != DIDI_OK && error.message[0] == '\0')
        fail_msg("%s: %s without a word", fault, didi_status_name(status));
    if (status != DIDI_OK && status != DIDI_NO_MEMORY && status != DIDI_IO &&
        status != DIDI_DISK_FULL)
        fail_msg("%s: %s: %s", fault, didi_status_name(status), error.message);
    if (strstr(how, "ENOSPC") != NULL && fired)
        assert_int_equal(status, DIDI_DISK_FULL);
    assert_true(fired || status == DIDI_OK);
    if (status == DIDI_OK)
        assert_true(support_exists(self->output, "package"));
    sample_assert_whole_or_absent(self);
    return fired;
}

void sample_check_faults(sample_family *self, const char *point, const char *how, size_t dense)
{
    size_t fired = 0;
    if (SUPPORT_SANITIZED && dense > 6)
        dense /= 6;
    self->options.volatile_work = false;
    for (size_t nth = 1; check_fault(self, point, nth, how); nth += 1 + nth / dense)
        fired++;
    assert_true(fired > 2);
}
