/* SPDX-License-Identifier: Apache-2.0 */
/* Handlers of uploads.c. Included by the table of routes alone. */
#pragma once

#include "daemon/api/api_internal.h"

void api_models_delete(void *context, http_request *request);
void api_uploads_create(void *context, http_request *request);
void api_uploads_list(void *context, http_request *request);
void api_uploads_get(void *context, http_request *request);
void api_uploads_delete(void *context, http_request *request);
void api_uploads_commit(void *context, http_request *request);
void api_uploads_file_get(void *context, http_request *request);
void api_uploads_file_put(void *context, http_request *request);
