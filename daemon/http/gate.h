/* SPDX-License-Identifier: Apache-2.0 */
/* Who may pass: host, origin, route, rate, client, media type, length. Internal to the edge. */
#pragma once

#include "daemon/http/http_internal.h"

/* Judges a request whose head is read, and finds its route. False: a reply was made. */
bool http_gate_admit(http_request *request);

/* Sets route and parts. False: a reply was made (404, 405, 501). */
bool http_route_find(http_request *request);
/* Refuses a query parameter that the route does not take. False: a reply was made. */
bool http_route_check_query(http_request *request);

/* True when `name` is one of the words of the comma-separated list (may be NULL). */
bool http_list_has(const char *list, const char *name, size_t name_bytes);
