/* SPDX-License-Identifier: Apache-2.0 */
/* Events of a job as pages and streams have them. Included by the files of the interface alone. */
#pragma once

#include "daemon/api/api_internal.h"

/* An event as the wire has it, in a page and in a stream. */
json_t *api_event_json(const store_event *event);
/* Whether `stream` or Accept ask for a stream of events. False: a reply was made. */
bool api_event_stream_asked(http_request *request, bool *ret_stream);
/* Reads where to begin: `after`, or Last-Event-ID, which is newer when a client comes again. False:
 * a reply was made. */
bool api_event_start(http_request *request, long long *ret_after, bool *ret_again);
/* Replies with the events of the job of the path as they come (text/event-stream). */
void api_event_stream(api *self, http_request *request);
