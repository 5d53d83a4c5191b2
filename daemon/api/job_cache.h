/* SPDX-License-Identifier: Apache-2.0 */
/* Documents of jobs as they are sent, kept while nothing about the job changes. Thread-safe. */
#pragma once

#include "daemon/http/http.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct api_job_cache api_job_cache;

/* NULL when out of memory. */
api_job_cache *api_job_cache_create(void);
void api_job_cache_free(api_job_cache *self);

/* Makes the reply from what is kept. False: nothing is; *ret_moment is then for the put of a
 * document that is read from here on. */
bool api_job_cache_reply(api_job_cache *self, const char *id, http_request *request,
                         uint64_t *ret_moment);

/* Keeps a copy, unless something of the job has changed since `moment`. */
void api_job_cache_put(api_job_cache *self, const char *id, uint64_t moment, const char *text);

/* The job changed; NULL: any may have. Before the change is told to anybody. */
void api_job_cache_drop(api_job_cache *self, const char *id);
