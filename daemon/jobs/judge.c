/* SPDX-License-Identifier: Apache-2.0 */
/* A model made, scored, removed. Short because others make models and run scorers. */
#include "daemon/jobs/judge.h"

#include "daemon/jobs/export.h"
#include "src/base/base.h"

#include <stdlib.h>

/* Scores the model below the holder; it is removed, also after a failure. */
static int score_place(const judge *self, const char *place, const char *task, double *ret_score,
                       didi_error *error)
{
    didi_error ignored = {0};
    char *path = memory_format("%s/%s", self->holder, place);
    int status = path != NULL ? DIDI_OK : didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    const score_request request = {.directory = path, .task = task, .split = self->split};
    if (status == DIDI_OK)
        status =
            scorer_run(self->scorer, &request, self->cancelled, self->context, ret_score, error);
    int removed = file_remove_tree(self->holder_fd, place, status == DIDI_OK ? error : &ignored);
    free(path);
    return status == DIDI_OK ? removed : status;
}

int judge_model(const judge *self, const char *model, const char *task, double *ret_score,
                didi_error *error)
{
    int status = score_copy_model(self->roots, model, self->holder_fd, "scored", self->cancelled,
                                  self->context, error);
    didi_error ignored = {0};
    if (status == DIDI_OK)
        return score_place(self, "scored", task, ret_score, error);
    file_remove_tree(self->holder_fd, "scored", &ignored);
    return status;
}

int judge_task(const judge *self, const char *task, bool verify, double *ret_score,
               didi_error *error)
{
    const export_kind kind = {.format = EXPORT_FORMAT_FULL};
    const didi_export order = {.artifact_fd = self->artifact_fd,
                               .output_fd = self->holder_fd,
                               .task_fd = -1,
                               .base_label = self->base,
                               .task = task,
                               .max_shard_bytes = self->max_shard_bytes,
                               .verify_base = verify,
                               .cancelled = self->cancelled,
                               .context = self->context};
    int status = export_task(self->roots, kind, order, NULL, error);
    char *place = memory_format("%s/%s", export_format_folder(EXPORT_FORMAT_FULL), task);
    if (status == DIDI_OK && place == NULL)
        status = didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    if (status == DIDI_OK)
        status = score_place(self, place, task, ret_score, error);
    free(place);
    return status;
}
