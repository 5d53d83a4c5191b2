/* SPDX-License-Identifier: Apache-2.0 */
/* The interface: its state, and the table of routes. */
#include "daemon/api/api.h"

#include "daemon/api/api_internal.h"
#include "src/base/base.h"

#include <stdlib.h>

int api_create(const config *settings, store *records, registry *models, scheduler *jobs,
               fetcher *fetches, api **ret_api, didi_error *error)
{
    api *self = memory_zeroed(1, sizeof *self);
    if (self == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "no memory for the interface");
    self->settings = settings;
    self->records = records;
    self->models = models;
    self->jobs = jobs;
    self->fetcher = fetches;
    self->digests = api_digests_create();
    self->figures = api_figures_create();
    if (self->digests == NULL || self->figures == NULL) {
        api_free(self);
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "no memory for the interface");
    }
    *ret_api = self;
    return DIDI_OK;
}

void api_free(api *self)
{
    if (self == NULL)
        return;
    api_digests_free(self->digests);
    api_figures_free(self->figures);
    free(self);
}

/* What writes, walks or hashes is slow; what only reads a few rows is not. */
static const http_route routes[] = {
    {.method = "GET", .pattern = "/livez", .handle = api_system_live},
    {.method = "GET", .pattern = "/readyz", .handle = api_system_ready},
    {.method = "GET", .pattern = "/v1/version", .handle = api_system_version},
    {.method = "GET", .pattern = "/v1/methods", .handle = api_system_methods},
    {.method = "GET", .pattern = "/v1/openapi.yaml", .handle = api_system_contract},
    {.method = "GET",
     .pattern = "/v1/models",
     .handle = api_models_list,
     .parameters = {"limit", "after"}},
    {.method = "POST",
     .pattern = "/v1/models",
     .handle = api_models_add,
     .slow = true,
     .takes_body = true},
    {.method = "GET",
     .pattern = "/v1/fetches",
     .handle = api_fetches_list,
     .parameters = {"limit", "after"}},
    {.method = "GET", .pattern = "/v1/fetches/{}", .handle = api_fetches_get},
    {.method = "POST", .pattern = "/v1/models/rescan", .handle = api_models_rescan, .slow = true},
    {.method = "GET", .pattern = "/v1/models/{...}", .handle = api_models_get, .slow = true},
    {.method = "GET",
     .pattern = "/v1/jobs",
     .handle = api_jobs_list,
     .parameters = {"state", "label", "limit", "after"}},
    {.method = "POST",
     .pattern = "/v1/jobs",
     .handle = api_submit,
     .slow = true,
     .takes_body = true,
     .parameters = {"dry_run"}},
    {.method = "GET", .pattern = "/v1/jobs/{}", .handle = api_jobs_get},
    {.method = "DELETE", .pattern = "/v1/jobs/{}", .handle = api_jobs_delete, .slow = true},
    {.method = "POST", .pattern = "/v1/jobs/{}/cancel", .handle = api_jobs_cancel, .slow = true},
    {.method = "POST", .pattern = "/v1/jobs/{}/retry", .handle = api_jobs_retry, .slow = true},
    {.method = "GET",
     .pattern = "/v1/jobs/{}/events",
     .handle = api_events_list,
     .parameters = {"after", "limit", "wait"}},
    {.method = "GET", .pattern = "/v1/jobs/{}/ranks", .handle = api_ranks_get, .slow = true},
    {.method = "GET", .pattern = "/v1/jobs/{}/frontier", .handle = api_frontier_get, .slow = true},
    {.method = "GET",
     .pattern = "/v1/jobs/{}/similarity",
     .handle = api_similarity_get,
     .slow = true},
    {.method = "GET",
     .pattern = "/v1/jobs/{}/artifacts",
     .handle = api_artifacts_list,
     .slow = true},
    {.method = "GET",
     .pattern = "/v1/jobs/{}/artifacts/{...}",
     .handle = api_artifacts_get,
     .slow = true},
    {.method = "GET", .pattern = "/v1/jobs/{}/exports", .handle = api_exports_list},
    {.method = "POST",
     .pattern = "/v1/jobs/{}/exports",
     .handle = api_exports_create,
     .slow = true,
     .takes_body = true},
};

const http_route *api_routes(size_t *ret_count)
{
    *ret_count = sizeof routes / sizeof routes[0];
    return routes;
}
