/* SPDX-License-Identifier: Apache-2.0 */
/* Artifacts on their way to a client. Included by the files of the interface alone. */
#pragma once

#include "daemon/api/api_internal.h"

/* ---- artifacts.c ---- */

const char *api_artifact_media_type(const char *name);

/* What of a file is to be sent, and with which status. */
typedef struct api_range {
    int status;
    uint64_t first, bytes;
} api_range;
/* Judges the conditions, then the range (RFC 9110 13.2.2) of a request for a file of this size and
 * digest, and adds the headers of the reply. False: a reply was made. */
bool api_artifact_asked(http_request *request, uint64_t bytes, const char *hex,
                        api_range *ret_range);

/* ---- deposit.c ---- */

/* Replies with an artifact that lies at S3: redirects to it or passes it on. False: it is not
 * there, or better taken from the state directory. */
bool api_deposit_get(api *self, http_request *request, const store_job *job, const char *name);
