/* SPDX-License-Identifier: Apache-2.0 */
/* Requests: their route, and what handlers ask of them. */
#include "daemon/base/base.h"
#include "daemon/http/http_internal.h"

#include <assert.h>
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

bool http_refuse_parameter(http_request *request, const char *name, const char *detail)
{
    http_reply_problem(
        request,
        &(http_problem){.type = PROBLEM_INVALID_PARAMETER, .detail = detail, .parameter = name});
    return false;
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
    return http_refuse_parameter(request, name, detail);
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

void http_wait(http_request *request, int64_t milliseconds)
{
    assert(request->in_watch_list && !request->reply.made && milliseconds > 0);
    if (request->wait_until_ms == 0)
        request->wait_until_ms = clock_monotonic_ms() + milliseconds;
    request->wait_asked = true;
}

bool http_wait_is_over(const http_request *request)
{
    return http_is_quiescing(request->http) ||
           (request->wait_until_ms != 0 && clock_monotonic_ms() >= request->wait_until_ms);
}

/* ---- the route ---- */

/* One segment of a pattern: its start and length; false at the end. */
static bool pattern_next(const char **pattern, const char **ret_start, size_t *ret_length)
{
    if (**pattern != '/' || (*pattern)[1] == '\0')
        return false;
    *ret_start = *pattern + 1;
    *ret_length = strcspn(*ret_start, "/");
    *pattern = *ret_start + *ret_length;
    return true;
}

static void join_rest(http_request *request, size_t from)
{
    size_t length = 0;
    for (size_t i = from; i < request->target.segment_count; i++) {
        int written = snprintf(request->rest + length, sizeof request->rest - length, "%s%s",
                               i == from ? "" : "/", request->target.segments[i]);
        length += (size_t)written; /* fits: the target was shorter */
    }
}

static bool route_matches(http_request *request, const char *pattern)
{
    const http_target *target = &request->target;
    const char *segment;
    size_t length;
    size_t index = 0;
    size_t parts = 0;
    while (pattern_next(&pattern, &segment, &length)) {
        if (index >= target->segment_count)
            return false;
        assert(parts < HTTP_PARTS_MAX);
        if (strncmp(segment, "{...}", length) == 0 && length == 5) {
            join_rest(request, index);
            request->parts[parts] = request->rest;
            return true;
        }
        if (strncmp(segment, "{}", length) == 0 && length == 2)
            request->parts[parts++] = target->segments[index];
        else if (strlen(target->segments[index]) != length ||
                 strncmp(segment, target->segments[index], length) != 0)
            return false;
        index++;
    }
    return index == target->segment_count;
}

static void add_method(char *methods, size_t bytes, const char *method)
{
    size_t length = strlen(methods);
    const char *text = strcmp(method, "GET") == 0 ? "GET, HEAD" : method;
    snprintf(methods + length, bytes - length, "%s%s", length == 0 ? "" : ", ", text);
}

bool http_route_find(http_request *request)
{
    const http_settings *settings = &request->http->settings;
    const char *method = strcmp(request->method, "HEAD") == 0 ? "GET" : request->method;
    char methods[64] = "";
    char detail[160];
    for (size_t i = 0; i < settings->route_count; i++) {
        const http_route *route = &settings->routes[i];
        if (!route_matches(request, route->pattern))
            continue;
        if (strcmp(route->method, method) == 0) {
            request->route = route;
            return true;
        }
        add_method(methods, sizeof methods, route->method);
    }
    if (methods[0] == '\0') {
        http_reply_problem(request, &(http_problem){.type = PROBLEM_NOT_FOUND,
                                                    .detail = "no resource has this path"});
        return false;
    }
    http_reply_header(request, "Allow", methods);
    snprintf(detail, sizeof detail, "this path takes %s, not %.32s", methods, request->method);
    http_reply_problem(request,
                       &(http_problem){.type = PROBLEM_METHOD_NOT_ALLOWED, .detail = detail});
    return false;
}

void http_route_check_query(http_request *request)
{
    for (size_t i = 0; i < request->target.parameter_count; i++) {
        const char *name = request->target.parameters[i].name;
        const char *const *known = request->route->parameters;
        while (*known != NULL && strcmp(*known, name) != 0)
            known++;
        if (*known == NULL) {
            http_refuse_parameter(request, name, "unknown query parameter");
            return;
        }
    }
}
