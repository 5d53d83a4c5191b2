/* SPDX-License-Identifier: Apache-2.0 */
/* The table of routes. What writes, walks or hashes is slow; what only reads a few rows is not. */
#include "daemon/api/api_internal.h"

static const http_route routes[] = {
    {.method = "GET", .pattern = "/livez", .handle = api_system_live},
    {.method = "GET", .pattern = "/readyz", .handle = api_system_ready},
    {.method = "GET", .pattern = "/v1/version", .handle = api_system_version},
    {.method = "GET", .pattern = "/v1/openapi.yaml", .handle = api_system_contract},
    {.method = "GET", .pattern = "/v1/models", .handle = api_models_list},
    {.method = "POST", .pattern = "/v1/models/rescan", .handle = api_models_rescan, .slow = true},
    {.method = "GET", .pattern = "/v1/models/{...}", .handle = api_models_get, .slow = true},
    {.method = "GET", .pattern = "/v1/jobs", .handle = api_jobs_list},
    {.method = "POST",
     .pattern = "/v1/jobs",
     .handle = api_submit,
     .slow = true,
     .takes_body = true},
    {.method = "GET", .pattern = "/v1/jobs/{}", .handle = api_jobs_get},
    {.method = "DELETE", .pattern = "/v1/jobs/{}", .handle = api_jobs_delete, .slow = true},
    {.method = "POST", .pattern = "/v1/jobs/{}/cancel", .handle = api_jobs_cancel, .slow = true},
    {.method = "POST", .pattern = "/v1/jobs/{}/retry", .handle = api_jobs_retry, .slow = true},
    {.method = "GET", .pattern = "/v1/jobs/{}/events", .handle = api_events_list},
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
