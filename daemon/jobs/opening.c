/* SPDX-License-Identifier: Apache-2.0 */
/* Opening of a job's merge: its models, the job it extends, the one it starts from. Short because
 * submission, attempt and comparison need just that. */
#include "daemon/jobs/scheduler_internal.h"

#include <assert.h>
#include <unistd.h>

/* The artifacts of the job that this one extends. */
static int open_package(scheduler *self, const specification *wanted, int *ret_fd,
                        didi_error *error)
{
    didi_error missing = {0};
    int status = scheduler_open_files(self, wanted->extend.job, "artifacts", ret_fd, &missing);
    if (status != DIDI_OK)
        return didi_fail(error, status, "/extend/job",
                         "the artifacts of job %s, which this one extends, cannot be opened: %s",
                         wanted->extend.job, missing.message);
    return DIDI_OK;
}

int scheduler_open_merge(scheduler *self, const specification *wanted, const inputs_places *places,
                         const didi_merge_hooks *hooks, didi_merge **ret_merge, didi_error *error)
{
    inputs_places all = *places;
    inputs *opened = NULL;
    assert(places->package_fd < 0 && places->reuse_fd < 0);
    int status = inputs_create(registry_roots(self->models), wanted, &opened, error);
    if (status == DIDI_OK && specification_extends(wanted))
        status = open_package(self, wanted, &all.package_fd, error);
    if (status == DIDI_OK && wanted->from_job != NULL)
        status = kept_open(self, wanted->from_job, &all.reuse_fd, error);
    if (status == DIDI_OK)
        status = inputs_open_merge(opened, self->config, &all, hooks, ret_merge, error);
    if (all.package_fd >= 0)
        close(all.package_fd);
    if (all.reuse_fd >= 0)
        close(all.reuse_fd);
    inputs_free(opened);
    return status;
}
