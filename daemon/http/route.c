/* SPDX-License-Identifier: Apache-2.0 */
/* Finding the route of a request. */
#include "daemon/http/http_internal.h"

#include <stdio.h>
#include <string.h>

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
