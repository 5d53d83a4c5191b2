/* SPDX-License-Identifier: Apache-2.0 */
/* The resources of the HTTP interface (proto/openapi.yaml): parse, ask, render. */
#pragma once

#include "daemon/base/base.h"
#include "daemon/fetch/fetch.h"
#include "daemon/http/http.h"
#include "daemon/jobs/jobs.h"
#include "daemon/models/models.h"
#include "daemon/store/store.h"

typedef struct api api;

/* Keeps the pointers; they must outlive it. Errors: DIDI_NO_MEMORY. */
int api_create(const config *settings, store *records, registry *models, scheduler *jobs,
               fetcher *fetches, api **ret_api, didi_error *error);

/* After http_stop. NULL is fine. */
void api_free(api *self);

/* The routes for http_settings; their context is the api. Static. */
const http_route *api_routes(size_t *ret_count);
