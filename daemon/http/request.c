/* SPDX-License-Identifier: Apache-2.0 */
/* Requests: their route, and what handlers ask of them. */
#include "daemon/base/base.h"
#include "daemon/http/connection.h"
#include "daemon/http/gate.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

http_access http_request_access(const http_request *request)
{
    return request->route->access;
}

const char *http_peer_address(const http_request *request)
{
    return request->forwarded[0] != '\0' ? request->forwarded : request->connection->address;
}

bool http_peer_user(const http_request *request, uid_t *ret_user)
{
    if (request->connection->has_user)
        *ret_user = request->connection->user;
    return request->connection->has_user;
}

void http_identify(http_request *request, const char *client)
{
    snprintf(request->client, sizeof request->client, "%s", client);
}

const char *http_client(const http_request *request)
{
    return request->client;
}

const char *http_request_id(const http_request *request)
{
    return request->id;
}

const char *http_traceparent(http_request *request)
{
    const char *text = http_head_field(&request->head, "traceparent");
    if (request->trace[0] == '\0' && text != NULL && !trace_read(text, request->trace))
        request->trace[0] = '\0';
    return request->trace[0] != '\0' ? request->trace : NULL;
}

bool http_body_length(const http_request *request, uint64_t *ret_bytes)
{
    if (request->head.has_length)
        *ret_bytes = request->head.length;
    return request->head.has_length;
}

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
    return http_head_field(&request->head, name);
}

const char *http_body(const http_request *request, size_t *ret_bytes)
{
    *ret_bytes = request->body_bytes;
    return request->body == NULL ? "" : request->body;
}

bool http_wait_is_over(const http_request *request)
{
    return atomic_load(&request->http->quiescing) ||
           (request->wait_until_ms != 0 && clock_monotonic_ms() >= request->wait_until_ms);
}

/* ---- the route ---- */

/* Segments lie one behind the other, each with its NUL: these become slashes. */
static void join_rest(http_request *request)
{
    http_target *target = &request->target;
    for (size_t i = request->rest_from + 1; i < target->segment_count; i++)
        target->storage[target->segments[i] - target->storage - 1] = '/';
}

/* A literal segment of the pattern; *pattern is then behind it. No segment holds a slash. */
static bool literal_matches(const char **pattern, const char *segment)
{
    while (*segment != '\0' && *segment == **pattern) {
        segment++;
        (*pattern)++;
    }
    return *segment == '\0' && (**pattern == '/' || **pattern == '\0');
}

static bool route_matches(http_request *request, const char *pattern)
{
    const http_target *target = &request->target;
    size_t index = 0;
    size_t parts = 0;
    request->rest_from = HTTP_TARGET_SEGMENTS_MAX;
    for (; pattern[0] == '/' && pattern[1] != '\0'; index++) {
        pattern++;
        if (index >= target->segment_count)
            return false;
        if (pattern[0] != '{') {
            if (!literal_matches(&pattern, target->segments[index]))
                return false;
            continue;
        }
        assert(parts < HTTP_PARTS_MAX);
        request->parts[parts++] = target->segments[index];
        if (pattern[1] == '.') { /* {...}, the last one */
            request->rest_from = index;
            return !target->is_folder;
        }
        pattern += 2; /* {} */
    }
    return index == target->segment_count && target->is_folder == (index > 0 && *pattern == '/');
}

static void add_method(char *methods, size_t bytes, const char *method)
{
    size_t length = strlen(methods);
    const char *text = strcmp(method, "GET") == 0 ? "GET, HEAD" : method;
    snprintf(methods + length, bytes - length, "%s%s", length == 0 ? "" : ", ", text);
}

static bool refuse_method(http_request *request, const char *methods)
{
    const char *method = request->head.method;
    char detail[160];
    http_reply_header(request, "Allow", methods);
    snprintf(detail, sizeof detail, "this path takes %s, not %.32s", methods, method);
    http_reply_problem(request,
                       &(http_problem){.type = PROBLEM_METHOD_NOT_ALLOWED, .detail = detail});
    return false;
}

bool http_route_find(http_request *request)
{
    const http_settings *settings = &request->http->settings;
    const char *method = request->head.method;
    char methods[64] = "";
    bool settled = false; /* the path is that of a resource of its own */
    method = strcmp(method, "HEAD") == 0 ? "GET" : method;
    for (size_t i = 0; i < settings->route_count; i++) {
        const http_route *route = &settings->routes[i];
        bool takes_all = strstr(route->pattern, "{...}") != NULL;
        if ((takes_all && settled) || !route_matches(request, route->pattern))
            continue;
        settled = settled || (!takes_all && !route->yields);
        if (strcmp(route->method, method) == 0) {
            request->route = route;
            join_rest(request);
            return true;
        }
        add_method(methods, sizeof methods, route->method);
    }
    if (methods[0] != '\0')
        return refuse_method(request, methods);
    if (request->target.is_folder) {
        request->reply.close = true;
        http_reply_problem(request,
                           &(http_problem){.type = PROBLEM_MALFORMED_REQUEST,
                                           .detail = "the path holds an empty or a dot segment"});
    } else {
        http_reply_problem(request, &(http_problem){.type = PROBLEM_NOT_FOUND,
                                                    .detail = "no resource has this path"});
    }
    return false;
}

bool http_route_check_query(http_request *request)
{
    for (size_t i = 0; i < request->target.parameter_count; i++) {
        const char *name = request->target.parameters[i].name;
        const char *const *known = request->route->parameters;
        while (*known != NULL && strcmp(*known, name) != 0)
            known++;
        if (*known == NULL)
            return http_refuse_parameter(request, name, "unknown query parameter");
    }
    return true;
}
