/* SPDX-License-Identifier: Apache-2.0 */
/* Reports of succeeded jobs, as files to keep. */
#include "daemon/api/api_internal.h"
#include "daemon/api/event_stream.h"
#include "daemon/report/report.h"
#include "proto/proto.h"
#include "src/base/base.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Adds the points of a page of events, and moves *after behind it. */
static int add_points(api *self, const char *job_id, json_t *points, int64_t *after,
                      didi_error *error)
{
    store_event *events = NULL;
    size_t count = 0;
    int status =
        store_event_list(self->records, job_id, *after, LIMIT_EVENT_PAGE, &events, &count, error);
    for (size_t i = 0; status == DIDI_OK && i < count; i++) {
        *after = events[i].number;
        if (strcmp(events[i].kind, "point") == 0 &&
            json_array_append_new(points, api_event_json(&events[i])) != 0)
            status = didi_fail(error, DIDI_NO_MEMORY, NULL, "no memory for the job's points");
    }
    store_events_free(events, count);
    return status;
}

/* All points of a job that has ended. The caller owns *ret_points. */
static int read_points(api *self, const store_job *job, json_t **ret_points, didi_error *error)
{
    json_t *points = json_array();
    int status = points != NULL
                     ? DIDI_OK
                     : didi_fail(error, DIDI_NO_MEMORY, NULL, "no memory for the job's points");
    int64_t after = 0;
    for (int64_t before = -1; status == DIDI_OK && after > before && after < job->event_count;) {
        before = after;
        status = add_points(self, job->id, points, &after, error);
    }
    if (status != DIDI_OK)
        json_decref(points);
    else
        *ret_points = points;
    return status;
}

/* Headers of the file. True: who asks has it already, and a reply was made. */
static bool reply_head(http_request *request, const char *job_id, const char *hex)
{
    char place[ID_BYTES + 64];
    char etag[API_ETAG_BYTES];
    char digest[FILE_REPR_DIGEST_BYTES];
    const char *known = http_header(request, "If-None-Match");
    api_digest_etag(hex, etag);
    http_reply_header(request, "ETag", etag);
    http_reply_header(request, "Cache-Control", "no-cache");
    if (known != NULL && http_etag_in_list(known, etag, true)) {
        http_reply_empty(request, 304);
        return true;
    }
    file_repr_digest(hex, digest);
    (void)snprintf(place, sizeof place, "attachment; filename=\"report-%s.html\"", job_id);
    http_reply_header(request, "Repr-Digest", digest);
    http_reply_header(request, "Content-Disposition", place);
    http_reply_header(request, "Content-Security-Policy", report_policy());
    http_reply_header(request, "Referrer-Policy", "no-referrer");
    return false;
}

static void reply_report(api *self, http_request *request, const store_job *job, json_t *manifest,
                         json_t *points)
{
    char hex[API_DIGEST_BYTES];
    didi_error error = {0};
    json_t *result = job->survey ? NULL : api_figures_get(self->figures, self->jobs, job->id);
    json_t *shown = api_job_shown(self, job, result);
    char *text = shown != NULL ? report_html(&(report_parts){shown, manifest, points}) : NULL;
    json_decref(shown);
    if (text != NULL && file_sha256_bytes(text, strlen(text), hex, &error) != DIDI_OK) {
        free(text);
        text = NULL;
    }
    if (text != NULL && reply_head(request, job->id, hex))
        free(text);
    else
        http_reply_text(request, 200, "text/html; charset=utf-8", text);
}

void api_report_get(void *context, http_request *request)
{
    api *self = context;
    didi_error error = {0};
    json_t *manifest = NULL;
    json_t *points = NULL;
    store_job job;
    if (!api_find_succeeded(self, request, &job))
        return;
    int status = api_manifest_read(self->jobs, job.id, &manifest, &error);
    if (status == DIDI_OK)
        status = read_points(self, &job, &points, &error);
    if (status == DIDI_OK)
        reply_report(self, request, &job, manifest, points);
    else
        http_reply_error(request,
                         status == DIDI_NOT_FOUND ? PROBLEM_UNKNOWN_ARTIFACT
                                                  : problem_from_status(status),
                         &error);
    json_decref(manifest);
    json_decref(points);
    store_job_clear(&job);
}
