/* SPDX-License-Identifier: Apache-2.0 */
/* The interface: its state, and the table of routes. */
#include "daemon/api/api.h"

#include "daemon/api/api_internal.h"
#include "daemon/api/uploads.h"
#include "src/base/base.h"

#include <stdlib.h>

int api_create(const api_parts *parts, api **ret_api, didi_error *error)
{
    api *self = memory_zeroed(1, sizeof *self);
    if (self == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "no memory for the interface");
    self->settings = parts->settings;
    self->records = parts->records;
    self->models = parts->models;
    self->jobs = parts->jobs;
    self->fetcher = parts->fetcher;
    self->webhooks = parts->webhooks;
    self->uploads = parts->uploads;
    self->hooks = parts->hooks;
    self->access = parts->access;
    self->pages = parts->pages;
    self->began_ms = clock_now_ms();
    self->digests = api_digests_create();
    self->figures = api_figures_create();
    self->job_cache = api_job_cache_create();
    int status = self->digests != NULL && self->figures != NULL && self->job_cache != NULL
                     ? model_fits_create(registry_roots(self->models), &self->fits, error)
                     : didi_fail(error, DIDI_NO_MEMORY, NULL, "no memory for the interface");
    if (status != DIDI_OK)
        api_free(self);
    else
        *ret_api = self;
    return status;
}

void api_quiesce(api *self)
{
    atomic_store(&self->ending, true);
}

void api_free(api *self)
{
    if (self == NULL)
        return;
    api_digests_free(self->digests);
    api_figures_free(self->figures);
    api_job_cache_free(self->job_cache);
    model_fits_free(self->fits);
    free(self);
}

void api_job_changed(api *self, const char *job_id)
{
    api_job_cache_drop(self->job_cache, job_id);
}

/* What writes, walks or hashes is slow; what only reads a few rows is not. */
static const http_route routes[] = {
    /* the first row stands only where metrics_public says so */
    {.method = "GET",
     .pattern = "/metrics",
     .handle = api_metrics,
     .slow = true,
     .access = HTTP_ACCESS_PUBLIC},
    {.method = "GET", .pattern = "/v1/whoami", .handle = api_whoami},
    {.method = "GET",
     .pattern = "/v1/tokens",
     .handle = api_tokens_list,
     .parameters = {"limit", "after"},
     .access = HTTP_ACCESS_ADMIN},
    {.method = "POST",
     .pattern = "/v1/tokens",
     .handle = api_tokens_create,
     .slow = true,
     .takes_body = true,
     .access = HTTP_ACCESS_ADMIN},
    {.method = "GET",
     .pattern = "/v1/tokens/{}",
     .handle = api_tokens_get,
     .access = HTTP_ACCESS_ADMIN},
    {.method = "DELETE",
     .pattern = "/v1/tokens/{}",
     .handle = api_tokens_delete,
     .slow = true,
     .access = HTTP_ACCESS_ADMIN},
    {.method = "GET",
     .pattern = "/livez",
     .handle = api_system_live,
     .access = HTTP_ACCESS_PUBLIC,
     .vital = true},
    {.method = "GET", .pattern = "/", .handle = api_pages_redirect, .access = HTTP_ACCESS_PUBLIC},
    {.method = "GET", .pattern = "/ui", .handle = api_pages_redirect, .access = HTTP_ACCESS_PUBLIC},
    {.method = "GET", .pattern = "/ui/", .handle = api_pages_index, .access = HTTP_ACCESS_PUBLIC},
    {.method = "GET",
     .pattern = "/ui/{...}",
     .handle = api_pages_file,
     .access = HTTP_ACCESS_PUBLIC},
    {.method = "GET", .pattern = "/readyz", .handle = api_system_ready, .vital = true},
    {.method = "GET", .pattern = "/v1/version", .handle = api_system_version},
    {.method = "GET", .pattern = "/metrics", .handle = api_metrics, .slow = true},
    {.method = "GET", .pattern = "/v1/status", .handle = api_status, .slow = true},
    {.method = "GET", .pattern = "/v1/methods", .handle = api_system_methods},
    {.method = "GET", .pattern = "/v1/openapi.yaml", .handle = api_system_contract},
    {.method = "GET",
     .pattern = "/v1/models",
     .handle = api_models_list,
     .slow = true,
     .parameters = {"limit", "after", "base"}},
    {.method = "POST",
     .pattern = "/v1/models",
     .handle = api_models_add,
     .slow = true,
     .takes_body = true,
     .access = HTTP_ACCESS_SUBMIT},
    {.method = "GET",
     .pattern = "/v1/bakeoffs",
     .handle = api_bakeoffs_list,
     .parameters = {"limit", "after"}},
    {.method = "POST",
     .pattern = "/v1/bakeoffs",
     .handle = api_bakeoffs_create,
     .slow = true,
     .takes_body = true,
     .access = HTTP_ACCESS_SUBMIT},
    {.method = "GET", .pattern = "/v1/bakeoffs/{}", .handle = api_bakeoffs_get, .slow = true},
    {.method = "POST",
     .pattern = "/v1/bakeoffs/{}/cancel",
     .handle = api_bakeoffs_cancel,
     .slow = true,
     .access = HTTP_ACCESS_SUBMIT},
    {.method = "DELETE",
     .pattern = "/v1/bakeoffs/{}",
     .handle = api_bakeoffs_delete,
     .slow = true,
     .access = HTTP_ACCESS_SUBMIT},
    {.method = "GET",
     .pattern = "/v1/fetches",
     .handle = api_fetches_list,
     .parameters = {"limit", "after"}},
    {.method = "GET", .pattern = "/v1/fetches/{}", .handle = api_fetches_get},
    {.method = "POST",
     .pattern = "/v1/fetches/{}/cancel",
     .handle = api_fetches_cancel,
     .slow = true,
     .access = HTTP_ACCESS_SUBMIT},
    {.method = "DELETE",
     .pattern = "/v1/fetches/{}",
     .handle = api_fetches_delete,
     .slow = true,
     .access = HTTP_ACCESS_SUBMIT},
    {.method = "POST",
     .pattern = "/v1/models/rescan",
     .handle = api_models_rescan,
     .yields = true, /* a model may be called so */
     .slow = true,
     .access = HTTP_ACCESS_ADMIN},
    {.method = "GET",
     .pattern = "/v1/models/uploads",
     .handle = api_uploads_list,
     .slow = true,
     .parameters = {"limit", "after"}},
    {.method = "POST",
     .pattern = "/v1/models/uploads",
     .handle = api_uploads_create,
     .slow = true,
     .takes_body = true,
     .access = HTTP_ACCESS_SUBMIT},
    {.method = "GET", .pattern = "/v1/models/uploads/{}", .handle = api_uploads_get, .slow = true},
    {.method = "DELETE",
     .pattern = "/v1/models/uploads/{}",
     .handle = api_uploads_delete,
     .slow = true,
     .access = HTTP_ACCESS_SUBMIT},
    {.method = "POST",
     .pattern = "/v1/models/uploads/{}/commit",
     .handle = api_uploads_commit,
     .slow = true,
     .access = HTTP_ACCESS_SUBMIT},
    {.method = "GET",
     .pattern = "/v1/models/uploads/{}/files/{}",
     .handle = api_uploads_file_get,
     .slow = true},
    {.method = "PUT",
     .pattern = "/v1/models/uploads/{}/files/{}",
     .handle = api_uploads_file_put,
     .slow = true,
     .streams_body = true,
     .access = HTTP_ACCESS_SUBMIT},
    {.method = "DELETE",
     .pattern = "/v1/models/{...}",
     .handle = api_models_delete,
     .slow = true,
     .access = HTTP_ACCESS_ADMIN},
    {.method = "GET", .pattern = "/v1/models/{...}", .handle = api_models_get, .slow = true},
    {.method = "GET",
     .pattern = "/v1/webhooks",
     .handle = api_webhooks_list,
     .parameters = {"limit", "after"},
     .access = HTTP_ACCESS_ADMIN},
    {.method = "POST",
     .pattern = "/v1/webhooks",
     .handle = api_webhooks_create,
     .slow = true,
     .takes_body = true,
     .access = HTTP_ACCESS_ADMIN},
    {.method = "GET",
     .pattern = "/v1/webhooks/{}",
     .handle = api_webhooks_get,
     .access = HTTP_ACCESS_ADMIN},
    {.method = "POST",
     .pattern = "/v1/webhooks/{}",
     .handle = api_webhooks_update,
     .slow = true,
     .takes_body = true,
     .access = HTTP_ACCESS_ADMIN},
    {.method = "DELETE",
     .pattern = "/v1/webhooks/{}",
     .handle = api_webhooks_delete,
     .slow = true,
     .access = HTTP_ACCESS_ADMIN},
    {.method = "POST",
     .pattern = "/v1/webhooks/{}/rotate",
     .handle = api_webhooks_rotate,
     .slow = true,
     .takes_body = true,
     .access = HTTP_ACCESS_ADMIN},
    {.method = "POST",
     .pattern = "/v1/webhooks/{}/test",
     .handle = api_webhooks_test,
     .slow = true,
     .access = HTTP_ACCESS_ADMIN},
    {.method = "GET",
     .pattern = "/v1/webhooks/{}/deliveries",
     .handle = api_deliveries_list,
     .parameters = {"state", "limit", "after"},
     .access = HTTP_ACCESS_ADMIN},
    {.method = "GET",
     .pattern = "/v1/webhooks/{}/deliveries/{}",
     .handle = api_deliveries_get,
     .parameters = {"wait"},
     .access = HTTP_ACCESS_ADMIN},
    {.method = "POST",
     .pattern = "/v1/webhooks/{}/deliveries/{}/redeliver",
     .handle = api_deliveries_again,
     .slow = true,
     .access = HTTP_ACCESS_ADMIN},
    {.method = "GET",
     .pattern = "/v1/jobs",
     .handle = api_jobs_list,
     .parameters = {"state", "label", "method", "limit", "after"}},
    {.method = "POST",
     .pattern = "/v1/jobs",
     .handle = api_submit,
     .slow = true,
     .takes_body = true,
     .parameters = {"dry_run"},
     .access = HTTP_ACCESS_SUBMIT},
    {.method = "GET", .pattern = "/v1/jobs/{}", .handle = api_jobs_get},
    {.method = "DELETE",
     .pattern = "/v1/jobs/{}",
     .handle = api_jobs_delete,
     .slow = true,
     .access = HTTP_ACCESS_SUBMIT},
    {.method = "POST",
     .pattern = "/v1/jobs/{}/cancel",
     .handle = api_jobs_cancel,
     .slow = true,
     .access = HTTP_ACCESS_SUBMIT},
    {.method = "POST",
     .pattern = "/v1/jobs/{}/retry",
     .handle = api_jobs_retry,
     .slow = true,
     .access = HTTP_ACCESS_SUBMIT},
    {.method = "GET",
     .pattern = "/v1/jobs/{}/events",
     .handle = api_events_list,
     .parameters = {"after", "limit", "wait", "last", "stream"}},
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
     .parameters = {"redirect"},
     .slow = true},
    {.method = "GET", .pattern = "/v1/jobs/{}/report.html", .handle = api_report_get, .slow = true},
    {.method = "GET", .pattern = "/v1/jobs/{}/exports", .handle = api_exports_list},
    {.method = "POST",
     .pattern = "/v1/jobs/{}/exports",
     .handle = api_exports_create,
     .slow = true,
     .takes_body = true,
     .access = HTTP_ACCESS_SUBMIT},
    {.method = "GET",
     .pattern = "/v1/hooks",
     .handle = api_hooks_list,
     .parameters = {"limit", "after"},
     .access = HTTP_ACCESS_ADMIN},
    {.method = "GET",
     .pattern = "/v1/hooks/{}",
     .handle = api_hooks_get,
     .access = HTTP_ACCESS_ADMIN},
    {.method = "PUT",
     .pattern = "/v1/hooks/{}",
     .handle = api_hooks_put,
     .slow = true,
     .takes_body = true,
     .access = HTTP_ACCESS_ADMIN},
    {.method = "DELETE",
     .pattern = "/v1/hooks/{}",
     .handle = api_hooks_delete,
     .slow = true,
     .access = HTTP_ACCESS_ADMIN},
    {.method = "POST", /* by registries: it checks their signatures */
     .pattern = "/v1/hooks/{}",
     .handle = api_hooks_receive,
     .slow = true,
     .takes_body = true,
     .any_media = true,
     .access = HTTP_ACCESS_PUBLIC},
    {.method = "POST",
     .pattern = "/v1/hooks/{}/dry-run",
     .handle = api_hooks_try,
     .slow = true,
     .takes_body = true,
     .access = HTTP_ACCESS_SUBMIT},
    {.method = "POST",
     .pattern = "/v1/hooks/{}/poll",
     .handle = api_hooks_poll,
     .slow = true,
     .access = HTTP_ACCESS_ADMIN},
    {.method = "GET",
     .pattern = "/v1/hooks/{}/deliveries",
     .handle = api_hooks_deliveries,
     .parameters = {"limit", "after"},
     .access = HTTP_ACCESS_ADMIN},
    {.method = "GET",
     .pattern = "/v1/backup",
     .handle = api_backup_get,
     .slow = true,
     .access = HTTP_ACCESS_ADMIN},
    {.method = "GET",
     .pattern = "/v1/doctor",
     .handle = api_doctor_get,
     .slow = true,
     .access = HTTP_ACCESS_ADMIN},
    {.method = "GET",
     .pattern = "/v1/doctor/jobs",
     .handle = api_doctor_jobs,
     .slow = true,
     .access = HTTP_ACCESS_ADMIN,
     .parameters = {"after"}},
};

const http_route *api_routes(const config *settings, size_t *ret_count)
{
    size_t first = settings->metrics_public != 0 ? 0 : 1;
    *ret_count = sizeof routes / sizeof routes[0] - first;
    return routes + first;
}

bool api_admit(void *context, http_request *request)
{
    const api *self = context;
    return access_admit(self->access, request);
}
