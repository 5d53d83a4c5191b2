/* SPDX-License-Identifier: Apache-2.0 */
/* Following a job with progress on a stream. */
#include "client/commands/watching.h"

#include "client/base/base.h"
#include "client/commands/job.h"
#include "client/view/view.h"

#include <math.h>
#include <string.h>

enum { FOLLOW_LIVE_SECONDS = 1, FOLLOW_CALM_SECONDS = 20 };

typedef struct show {
    const command_context *context;
    client_progress *progress;
    follow_style style;
    json_t *last; /* of FOLLOW_JSON */
    bool lost;    /* and said so */
} show;

static json_t *number_or_null(double number)
{
    return isfinite(number) ? json_real(number) : json_null();
}

static int show_json(show *self, const json_t *job, const progress_moment *moment,
                     didi_error *error)
{
    json_t *line = json_pack(
        "{s:O?, s:O?, s:O?, s:o, s:o, s:o, s:o, s:o}", "id", json_object_get(job, "id"), "state",
        json_object_get(job, "state"), "stage", json_object_get(job, "stage"), "progress",
        number_or_null(moment->fraction), "loss", number_or_null(moment->loss), "relative_error",
        number_or_null(moment->relative_error), "ratio", number_or_null(moment->ratio),
        "ratio_target", number_or_null(moment->ratio_target));
    if (line == NULL)
        return didi_fail(error, CLIENT_FAILURE, NULL, "out of memory");
    int status = CLIENT_OK;
    if (!json_equal(line, self->last))
        status = output_line(self->context->output, line, error);
    json_decref(self->last);
    self->last = line;
    return status;
}

static int observe(void *context, const json_t *job, const progress_moment *moment,
                   didi_error *error)
{
    show *self = context;
    self->lost = false;
    if (self->style == FOLLOW_JSON)
        return show_json(self, job, moment, error);
    progress_show(self->progress, moment);
    return CLIENT_OK;
}

static void lost(void *context, const didi_error *reason)
{
    show *self = context;
    if (!self->lost) {
        progress_clear(self->progress);
        output_note(self->context->output, "connection lost (%s: %s), trying again",
                    reason->subject, reason->message);
    }
    self->lost = true;
}

int follow_job(const command_context *context, const char *id, FILE *stream, follow_style style,
               json_t **ret_job, didi_error *error)
{
    show self = {.context = context, .style = style};
    if (style == FOLLOW_BAR || style == FOLLOW_LINES)
        self.progress = progress_create(stream, style == FOLLOW_BAR, context->settings->color);
    job_observer observer = {.context = &self,
                             .observe = observe,
                             .lost = lost,
                             .wait_seconds =
                                 style == FOLLOW_BAR ? FOLLOW_LIVE_SECONDS : FOLLOW_CALM_SECONDS};
    int status = job_follow(context->service, id, &observer, ret_job, error);
    progress_free(self.progress);
    json_decref(self.last);
    return status;
}
