/* SPDX-License-Identifier: Apache-2.0 */
/* The full merge that an extension of a job is compared with. It publishes beside the job's
 * artifacts, where nobody else looks, and so survives a restart as any merge does. */
#include "daemon/jobs/compare.h"

#include "src/base/base.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define COMPARE_SHARE 0.8 /* of the time both take, for progress */

static void give_up(attempt *self, const char *reason)
{
    char text[256];
    self->compared = true;
    snprintf(self->reason, sizeof self->reason, "%s", reason);
    snprintf(text, sizeof text, "no comparison with a full merge: %.200s", reason);
    telemetry_note(self->telemetry, text);
}

void compare_open(attempt *self, const char *text, int job_fd)
{
    specification *wanted = NULL;
    didi_error error = {0};
    size_t bytes = strlen(text);
    inputs_places places = INPUTS_NOWHERE;
    assert(self->merge == NULL && !self->comparing && !self->compared);
    int status = specification_parse(text, bytes, bytes, &wanted, &error);
    if (status == DIDI_OK)
        specification_forget_extend(wanted);
    if (status == DIDI_OK)
        status = file_open_directory(job_fd, "compare", 1, &places.output_fd, &error);
    if (status == DIDI_OK)
        status = file_open_directory(places.output_fd, "work", 1, &places.work_fd, &error);
    places.elsewhere = self->scheduler->cluster != NULL;
    if (status == DIDI_OK)
        status = specification_render(wanted, &self->merged, &error);
    if (status == DIDI_OK)
        status = scheduler_open_merge(self->scheduler, wanted, &places, NULL, &self->merge, &error);
    file_close(places.output_fd);
    file_close(places.work_fd);
    specification_free(wanted);
    if (status != DIDI_OK) {
        give_up(self, error.message);
        return;
    }
    self->comparing = true;
    telemetry_note(self->telemetry, "a full merge of all tasks goes first, to be compared with");
}

bool compare_end(attempt *self)
{
    didi_error error = {0};
    assert(self->comparing);
    int status = didi_merge_result(self->merge, &error);
    if (status == DIDI_CANCELLED) {
        self->status = status;
        self->why = error;
        return false;
    }
    self->comparing = false;
    self->compared = true;
    if (status != DIDI_OK)
        give_up(self, error.message);
    return true;
}

double compare_progress(const attempt *self, double progress)
{
    if (self->comparing)
        return COMPARE_SHARE * progress;
    return self->compared && self->reason[0] == '\0'
               ? COMPARE_SHARE + (1 - COMPARE_SHARE) * progress
               : progress;
}

int compare_artifacts(const attempt *self, int job_fd)
{
    didi_error ignored = {0};
    int fd = -1;
    if (self->compared && self->reason[0] == '\0')
        (void)file_open_directory(job_fd, "compare/artifacts", 0, &fd, &ignored);
    return fd;
}
