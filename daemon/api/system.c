/* SPDX-License-Identifier: Apache-2.0 */
/* Health, version and the contract itself. Short because it is a resource of its own. */
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

void api_system_ready(void *context, http_request *request)
{
    api *self = context;
    didi_error error = {0};
    if (store_check(self->records, &error) != DIDI_OK) {
        http_reply_error(request, PROBLEM_UNAVAILABLE, &error);
        return;
    }
    api_system_live(context, request);
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
    http_reply_json(request, 200, text != NULL ? json_loads(text, 0, NULL) : NULL);
    free(text);
}

void api_system_contract(void *context, http_request *request)
{
    (void)context;
    http_reply_static(request, 200, "application/yaml", openapi_yaml, sizeof openapi_yaml - 1);
}
