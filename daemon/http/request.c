/* SPDX-License-Identifier: Apache-2.0 */
/* What handlers ask of a request. */
#include "daemon/base/base.h"
#include "daemon/http/http_internal.h"

#include <stdio.h>
#include <string.h>

const char *http_path_part(const http_request *request, size_t index)
{
    return index < HTTP_PARTS_MAX && request->parts[index] != NULL ? request->parts[index] : "";
}

const char *http_query(const http_request *request, const char *name)
{
    for (size_t i = 0; i < request->target.parameter_count; i++)
        if (strcmp(request->target.parameters[i].name, name) == 0)
            return request->target.parameters[i].value;
    return NULL;
}

bool http_query_only(http_request *request, const char *const *names)
{
    for (size_t i = 0; i < request->target.parameter_count; i++) {
        const char *name = request->target.parameters[i].name;
        size_t known = 0;
        while (names[known] != NULL && strcmp(names[known], name) != 0)
            known++;
        if (names[known] == NULL) {
            http_reply_problem(request, &(http_problem){.type = PROBLEM_INVALID_PARAMETER,
                                                        .detail = "unknown query parameter",
                                                        .parameter = name});
            return false;
        }
    }
    return true;
}

bool http_query_number(http_request *request, const char *name, long long lowest, long long highest,
                       long long *number)
{
    const char *text = http_query(request, name);
    char detail[128];
    if (text == NULL || http_number_parse(text, lowest, highest, number))
        return true;
    snprintf(detail, sizeof detail, "%s must be a whole number from %lld to %lld", name, lowest,
             highest);
    http_reply_problem(
        request,
        &(http_problem){.type = PROBLEM_INVALID_PARAMETER, .detail = detail, .parameter = name});
    return false;
}

const char *http_header(const http_request *request, const char *name)
{
    return MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, name);
}

const char *http_body(const http_request *request, size_t *ret_bytes)
{
    *ret_bytes = request->body_bytes;
    return request->body == NULL ? "" : request->body;
}

size_t http_body_bytes_max(const http_request *request)
{
    return request->http->settings.body_bytes_max;
}

void http_wait(http_request *request, int64_t milliseconds)
{
    if (request->wait_until_ms == 0)
        request->wait_until_ms = clock_monotonic_ms() + milliseconds;
    request->wait_asked = true;
}

bool http_wait_is_over(const http_request *request)
{
    pthread_mutex_lock(&request->http->lock);
    bool quiescing = request->http->quiescing;
    pthread_mutex_unlock(&request->http->lock);
    return quiescing ||
           (request->wait_until_ms != 0 && clock_monotonic_ms() >= request->wait_until_ms);
}
