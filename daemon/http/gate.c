/* SPDX-License-Identifier: Apache-2.0 */
/* The gate: what libmicrohttpd 0.9.75 lets through and we do not. A refusal closes the connection,
 * so that what follows on it is never taken for a request. */
#include "daemon/http/http_internal.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

typedef struct framing {
    unsigned lengths, codings, hosts, origins;
    const char *length, *coding, *host, *origin;
    const char *fault;
} framing;

static bool is_token(const char *text, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        char c = text[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!plain && (c == '\0' || strchr("!#$%&'*+-.^_`|~", c) == NULL))
            return false;
    }
    return bytes > 0;
}

static bool is_field_value(const char *text, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        unsigned char c = (unsigned char)text[i];
        if ((c < ' ' && c != '\t') || c == 0x7f)
            return false;
    }
    return true;
}

static enum MHD_Result framing_visit(void *cls, enum MHD_ValueKind kind, const char *key,
                                     size_t key_size, const char *value, size_t value_size)
{
    framing *found = cls;
    (void)kind;
    if (!is_token(key, key_size) || !is_field_value(value, value_size)) {
        found->fault = "a header has a name or value that is not allowed";
    } else if (strcasecmp(key, "Content-Length") == 0) {
        found->lengths++;
        found->length = value;
    } else if (strcasecmp(key, "Transfer-Encoding") == 0) {
        found->codings++;
        found->coding = value;
    } else if (strcasecmp(key, "Host") == 0) {
        found->hosts++;
        found->host = value;
    } else if (strcasecmp(key, "Origin") == 0) {
        found->origins++;
        found->origin = value;
    }
    return MHD_YES;
}

static const char *framing_fault(const framing *found)
{
    long long length;
    if (found->fault != NULL)
        return found->fault;
    if (found->lengths > 1 || found->codings > 1)
        return "Content-Length or Transfer-Encoding is there more than once";
    if (found->lengths == 1 && found->codings == 1)
        return "Content-Length and Transfer-Encoding are there together";
    if (found->codings == 1 && strcasecmp(found->coding, "chunked") != 0)
        return "Transfer-Encoding is not chunked";
    if (found->lengths == 1 && !http_number_parse(found->length, 0, INT64_MAX, &length))
        return "Content-Length is not a number";
    if (found->hosts != 1)
        return "there is not exactly one Host header";
    return NULL;
}

static bool gate_refuse(http_request *request, problem type, const char *detail,
                        const char *parameter)
{
    request->reply.close = true;
    http_reply_problem(request,
                       &(http_problem){.type = type, .detail = detail, .parameter = parameter});
    return false;
}

/* Pages that resolve their own name to this machine (DNS rebinding) give themselves away here. */
static bool host_is_ours(const http_request *request, const char *host)
{
    const char *names[] = {"localhost", "127.0.0.1", "[::1]", request->http->listener.host};
    long long port;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        size_t length = strlen(names[i]);
        if (length == 0 || strncasecmp(host, names[i], length) != 0)
            continue;
        if (host[length] == '\0' ||
            (host[length] == ':' && http_number_parse(host + length + 1, 0, 65535, &port)))
            return true;
    }
    return false;
}

static bool gate_admit_host(http_request *request, const framing *found)
{
    char own[300];
    if (!request->http->listener.is_unix && !host_is_ours(request, found->host))
        return gate_refuse(request, PROBLEM_WRONG_HOST,
                           "Host must be localhost or the address listened on", "Host");
    snprintf(own, sizeof own, "http://%.280s", found->host);
    if (found->origins > 1 || (found->origin != NULL && strcasecmp(found->origin, own) != 0))
        return gate_refuse(request, PROBLEM_CROSS_ORIGIN,
                           "the request comes from a page of another origin", "Origin");
    return true;
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

static bool gate_admit_body(http_request *request, const framing *found)
{
    size_t bytes_max = request->http->settings.body_bytes_max;
    long long length = 0;
    char detail[96];
    if (found->lengths == 1)
        http_number_parse(found->length, 0, INT64_MAX, &length);
    if ((unsigned long long)length > bytes_max) {
        snprintf(detail, sizeof detail, "%lld bytes; at most %zu are taken", length, bytes_max);
        return gate_refuse(request, PROBLEM_BODY_TOO_LARGE, detail, NULL);
    }
    if (!request->route->takes_body)
        return (length == 0 && found->codings == 0) ||
               gate_refuse(request, PROBLEM_MALFORMED_REQUEST, "this request takes no body",
                           "Content-Length");
    return is_json(http_header(request, "Content-Type")) ||
           gate_refuse(request, PROBLEM_UNSUPPORTED_MEDIA_TYPE,
                       "the body must be application/json in UTF-8", "Content-Type");
}

bool http_gate_admit(http_request *request)
{
    framing found = {0};
    assert(request->phase == HTTP_PHASE_HEADERS);
    MHD_get_connection_values_n(request->connection, MHD_HEADER_KIND, framing_visit, &found);
    const char *fault = framing_fault(&found);
    if (fault == NULL)
        fault = request->target_fault;
    if (fault != NULL)
        return gate_refuse(request, PROBLEM_MALFORMED_REQUEST, fault, NULL);
    if (http_is_quiescing(request->http))
        return gate_refuse(request, PROBLEM_UNAVAILABLE, "the service is stopping", NULL);
    return gate_admit_host(request, &found) && http_route_find(request) &&
           gate_admit_body(request, &found);
}
