/* SPDX-License-Identifier: Apache-2.0 */
/* The resources of the HTTP interface (proto/openapi.yaml): parse, ask, render. */
#pragma once

#include "daemon/access/access.h"
#include "daemon/base/base.h"
#include "daemon/dashboard/dashboard.h"
#include "daemon/fetch/fetch.h"
#include "daemon/hooks/hooks.h"
#include "daemon/http/http.h"
#include "daemon/jobs/jobs.h"
#include "daemon/models/models.h"
#include "daemon/store/store.h"
#include "daemon/uploads/uploads.h"
#include "daemon/webhooks/webhooks.h"

typedef struct api api;

/* What it speaks to. */
typedef struct api_parts {
    const config *settings;
    store *records;
    registry *models;
    scheduler *jobs;
    fetcher *fetcher;
    webhooks *webhooks;
    uploads *uploads;
    hooks *hooks;
    access_control *access;
    dashboard *pages;
} api_parts;

/* Keeps the pointers; they must outlive it. Errors: DIDI_NO_MEMORY. */
int api_create(const api_parts *parts, api **ret_api, didi_error *error);

/* Starts the hooks, which submit jobs through this interface. Before http_start. */
int api_start_hooks(api *self, didi_error *error);

/* Something about this job changed (NULL: any may have): before anybody learns of it. [any thread]
 */
void api_job_changed(api *self, const char *job_id);

/* Cuts downloads that come from S3, which may be waiting for it: the daemon stops. */
void api_quiesce(api *self);

/* After http_stop. NULL is fine. */
void api_free(api *self);

/* The routes for http_settings; their context is the api. Static. */
const http_route *api_routes(const config *settings, size_t *ret_count);

/* For http_settings: counts a request, and logs it where log_requests says so. */
void api_observe(void *context, const http_observation *seen);

/* For http_settings.admit. */
bool api_admit(void *context, http_request *request);
