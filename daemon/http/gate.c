/* SPDX-License-Identifier: Apache-2.0 */
/* The gate between a well-formed head and a handler. */
#include "daemon/http/gate.h"

#include "daemon/base/base.h"
#include "daemon/http/connection.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

static const char cors_headers[] =
    "Authorization, Content-Range, Content-Type, Idempotency-Key, If-Match, If-None-Match, "
    "If-Range, Last-Event-ID, Range, traceparent";

static bool gate_refuse(http_request *request, problem type, const char *detail,
                        const char *parameter)
{
    request->reply.close = true;
    http_reply_problem(request,
                       &(http_problem){.type = type, .detail = detail, .parameter = parameter});
    return false;
}

bool http_list_has(const char *list, const char *name, size_t name_bytes)
{
    for (; list != NULL && *list != '\0'; list += strspn(list, ", ")) {
        size_t bytes = strcspn(list, ", ");
        if (bytes == name_bytes && strncasecmp(list, name, bytes) == 0)
            return true;
        list += bytes;
    }
    return false;
}

/* The length of a Host value without its port; 0 when the port is none. */
static size_t host_name_bytes(const char *host)
{
    long long port;
    const char *colon = strrchr(host, ':');
    if (colon == NULL || strchr(colon, ']') != NULL)
        return strlen(host);
    return http_number_parse(colon + 1, 0, 65535, &port) ? (size_t)(colon - host) : 0;
}

/* Pages that resolve their own name to this machine (DNS rebinding) give themselves away here. */
static bool host_is_ours(const http_request *request, const char *host)
{
    const http_listener *listener = request->connection->listener;
    const char *names[] = {"localhost", "127.0.0.1", "[::1]", listener->host};
    size_t bytes = host_name_bytes(host);
    for (size_t i = 0; i < sizeof names / sizeof names[0] && bytes > 0; i++)
        if (strlen(names[i]) == bytes && strncasecmp(host, names[i], bytes) == 0)
            return true;
    return bytes > 0 && http_list_has(request->http->hosts, host, bytes);
}

static bool origin_is_ours(const http_request *request, const char *origin)
{
    char own[300];
    snprintf(own, sizeof own, "%s://%.280s", request->connection->tls != NULL ? "https" : "http",
             request->head.host);
    return strcasecmp(origin, own) == 0;
}

static bool gate_admit_host(http_request *request)
{
    const http_head *head = &request->head;
    if (!request->connection->listener->is_unix && !host_is_ours(request, head->host))
        return gate_refuse(request, PROBLEM_WRONG_HOST,
                           "Host must be localhost, the address listened on, or one of http_hosts",
                           "Host");
    if (head->origin == NULL || origin_is_ours(request, head->origin))
        return true;
    if (!http_list_has(request->http->origins, head->origin, strlen(head->origin)))
        return gate_refuse(request, PROBLEM_CROSS_ORIGIN,
                           "the request comes from a page of another origin", "Origin");
    request->allowed_origin = head->origin;
    return true;
}

/* Answers what a browser asks before it sends a request of another origin. */
static bool gate_answer_preflight(http_request *request)
{
    if (request->allowed_origin == NULL || strcmp(request->head.method, "OPTIONS") != 0 ||
        http_header(request, "Access-Control-Request-Method") == NULL)
        return false;
    http_reply_header(request, "Access-Control-Allow-Methods",
                      "GET, HEAD, POST, PUT, PATCH, DELETE");
    http_reply_header(request, "Access-Control-Allow-Headers", cors_headers);
    http_reply_header(request, "Access-Control-Max-Age", "600");
    http_reply_empty(request, 204);
    return true;
}

static bool is_vital(const http_request *request)
{
    return request->route->vital || request->route->access == HTTP_ACCESS_ADMIN;
}

/* The reserve is for a few routes alone. */
static bool gate_admit_reserved(http_request *request)
{
    const http_settings *settings = &request->http->settings;
    bool own = request->connection->address_is_full;
    char detail[96];
    if (!request->connection->is_reserved || is_vital(request))
        return true;
    http_refused(HTTP_REFUSAL_CONNECTIONS);
    http_reply_retry(request, HTTP_RETRY_SECONDS);
    if (own)
        snprintf(detail, sizeof detail, "one address has at most %zu connections at once",
                 settings->address_connections_max);
    else
        snprintf(detail, sizeof detail, "all of %zu connections are in use",
                 settings->connections_max);
    return gate_refuse(request, own ? PROBLEM_TOO_MANY_REQUESTS : PROBLEM_TOO_MANY_CONNECTIONS,
                       detail, NULL);
}

static bool gate_admit_rate(http_request *request)
{
    http *self = request->http;
    int64_t wait_ms = 0;
    char detail[96];
    if (is_vital(request) || http_holder_request(self->holders, http_exchange_holder(request),
                                                 clock_monotonic_ms(), &wait_ms))
        return true;
    http_refused(HTTP_REFUSAL_RATE);
    http_reply_retry(request, (wait_ms + 999) / 1000);
    snprintf(detail, sizeof detail, "one address may ask %zu times a second, %zu at once",
             self->settings.requests_per_second, self->settings.requests_burst);
    http_reply_problem(request,
                       &(http_problem){.type = PROBLEM_TOO_MANY_REQUESTS, .detail = detail});
    return false;
}

static bool is_json(const char *media_type)
{
    static const char json[] = "application/json";
    size_t length = sizeof json - 1;
    if (media_type == NULL || strncasecmp(media_type, json, length) != 0)
        return false;
    media_type += length + strspn(media_type + length, " \t");
    if (*media_type == '\0')
        return true;
    if (*media_type != ';')
        return false;
    media_type += 1 + strspn(media_type + 1, " \t");
    return *media_type == '\0' || strcasecmp(media_type, "charset=utf-8") == 0 ||
           strcasecmp(media_type, "charset=\"utf-8\"") == 0;
}

static bool gate_admit_body(http_request *request)
{
    const http_route *route = request->route;
    const http_head *head = &request->head;
    size_t bytes_max = request->http->settings.body_bytes_max;
    char detail[96];
    if (route->streams_body)
        return true;
    if (head->length > bytes_max) {
        snprintf(detail, sizeof detail, "%llu bytes; at most %zu are taken",
                 (unsigned long long)head->length, bytes_max);
        return gate_refuse(request, PROBLEM_BODY_TOO_LARGE, detail, NULL);
    }
    if (!route->takes_body)
        return (head->length == 0 && !head->chunked) ||
               gate_refuse(request, PROBLEM_MALFORMED_REQUEST, "this request takes no body",
                           "Content-Length");
    return route->any_media || is_json(http_header(request, "Content-Type")) ||
           gate_refuse(request, PROBLEM_UNSUPPORTED_MEDIA_TYPE,
                       "the body must be application/json in UTF-8", "Content-Type");
}

static bool gate_admit_client(http_request *request)
{
    const http_settings *settings = &request->http->settings;
    return settings->admit == NULL || settings->admit(settings->context, request);
}

static bool gate_admit_target(http_request *request)
{
    const char *target = request->head.target;
    if (strlen(target) >= HTTP_TARGET_BYTES_MAX - 1)
        return gate_refuse(request, PROBLEM_TARGET_TOO_LONG, "the target is longer than 8190 bytes",
                           NULL);
    const char *fault = http_target_parse(target, &request->target);
    return fault == NULL || gate_refuse(request, PROBLEM_MALFORMED_REQUEST, fault, NULL);
}

/* Whose request is it that a proxy passes on? */
static bool gate_admit_forwarded(http_request *request)
{
    http *self = request->http;
    http_fault fault = {0};
    char key[HTTP_HOLDER_KEY_BYTES];
    if (!http_networks_has(&self->proxies, request->connection->address))
        return true;
    if (!http_forwarded_client(&request->head, &self->proxies, request->forwarded, &fault)) {
        http_refused(HTTP_REFUSAL_MALFORMED);
        return gate_refuse(request, fault.type, fault.detail, fault.parameter);
    }
    if (request->forwarded[0] == '\0')
        return true;
    address_owner(request->forwarded, key);
    request->forwarded_holder = http_holders_get(self->holders, key, clock_monotonic_ms());
    return request->forwarded_holder != NULL ||
           gate_refuse(request, PROBLEM_OUT_OF_MEMORY, "no memory for the request", NULL);
}

bool http_gate_admit(http_request *request)
{
    if (!gate_admit_forwarded(request) || !gate_admit_target(request))
        return false;
    if (atomic_load(&request->http->quiescing))
        return gate_refuse(request, PROBLEM_UNAVAILABLE, "the service is stopping", NULL);
    return gate_admit_host(request) && !gate_answer_preflight(request) &&
           http_route_find(request) && gate_admit_reserved(request) && gate_admit_rate(request) &&
           gate_admit_client(request) && gate_admit_body(request) &&
           http_route_check_query(request);
}
