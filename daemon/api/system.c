/* SPDX-License-Identifier: Apache-2.0 */
/* Health, version, the contract itself, and the pages of the dashboard. Short because it is a
 * resource of its own. */
#include "daemon/api/api_internal.h"
#include "openapi_yaml.h"
#include "proto/proto.h"
#include "src/didi.h"

#include <stdlib.h>

void api_system_live(void *context, http_request *request)
{
    static const char body[] = "{\"status\":\"ok\"}";
    (void)context;
    http_reply_static(request, 200, "application/json", body, sizeof body - 1);
}

/* What an operator should look at though jobs are accepted. */
json_t *api_warnings(const api *self)
{
    json_t *found = json_array();
    const size_t lost = scheduler_set_aside(self->jobs);
    const size_t workers = scheduler_workers_lost(self->jobs);
    if (lost > 0)
        json_array_append_new(
            found, json_sprintf("%zu directories that the database does not know are set aside in "
                                "lost; didid recover can bring finished jobs back",
                                lost));
    if (scheduler_waits_for_disk(self->jobs))
        json_array_append_new(
            found, json_sprintf("jobs wait: less than disk_free_min (%llu bytes) is free on the "
                                "state directory's disk",
                                (unsigned long long)self->settings->disk_free_min));
    if (workers > 0)
        json_array_append_new(
            found,
            json_sprintf("%zu of %zu workers hang in jobs or exports that were failed for it; "
                         "a restart brings them back",
                         workers, self->settings->workers));
    return found;
}

void api_system_ready(void *context, http_request *request)
{
    api *self = context;
    didi_error error = {0};
    if (store_check(self->records, &error) != DIDI_OK) {
        http_reply_error(request, PROBLEM_UNAVAILABLE, &error);
        return;
    }
    http_reply_json(request, 200,
                    json_pack("{s:s, s:o}", "status", "ok", "warnings", api_warnings(self)));
}

void api_system_version(void *context, http_request *request)
{
    const api *self = context;
    const config *settings = self->settings;
    didi_blas_info blas;
    didi_blas_describe(&blas);
    json_t *limits = json_pack("{s:I, s:i, s:i, s:i, s:i, s:I, s:I, s:I, s:I}", "body_bytes",
                               (json_int_t)settings->http_body_bytes_max, "tasks", LIMIT_TASKS,
                               "page", LIMIT_PAGE, "event_page", LIMIT_EVENT_PAGE, "wait_seconds",
                               LIMIT_WAIT_SECONDS, "workers", (json_int_t)settings->workers,
                               "memory_bytes", (json_int_t)settings->memory_limit, "running_jobs",
                               (json_int_t)settings->running_jobs_max, "queued_jobs",
                               (json_int_t)settings->queued_jobs_max);
    http_reply_json(request, 200,
                    json_pack("{s:s, s:s, s:{s:s, s:s, s:s, s:s}, s:s, s:o}", "version",
                              didi_version(), "api", "v1", "blas", "library", blas.library,
                              "flavour", blas.flavour, "kernel", blas.kernel, "version",
                              blas.version, "sqlite", store_library_version(), "limits", limits));
}

void api_system_methods(void *context, http_request *request)
{
    (void)context;
    char *text = didi_methods_json();
    http_reply_json(request, 200, json_load_own(text));
    free(text);
}

void api_system_contract(void *context, http_request *request)
{
    (void)context;
    http_reply_static(request, 200, "application/yaml", openapi_yaml, sizeof openapi_yaml - 1);
}

/* From / and from /ui: without the slash the page's own links would miss it. */
void api_pages_redirect(void *context, http_request *request)
{
    (void)context;
    dashboard_redirect(request, "ui/");
}

void api_pages_index(void *context, http_request *request)
{
    const api *self = context;
    dashboard_reply(self->pages, request, "");
}

void api_pages_file(void *context, http_request *request)
{
    const api *self = context;
    dashboard_reply(self->pages, request, http_path_part(request, 0));
}
